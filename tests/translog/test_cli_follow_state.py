"""`translog follow`: what it keeps. Neither gap nor double in the file of lines, wherever a run ended."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.translog.command import VKEY, Run, started, until
from tests.translog.misbehaving import Server, Simulated, serving
from translog.canonical import Value, decode, encode
from translog.cli.keeping import Kept, Written
from translog.errors import FormatError
from translog.follower import State


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def server() -> Generator[Server]:
    """A log of five entries."""
    with serving(Simulated.of(5)) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def once(server: Server, folder: Path) -> tuple[str, ...]:
    """The arguments of one round, whose lines go to a file."""
    state, out = str(folder / "state"), str(folder / "out.jsonl")
    return ("follow", server.url, "--key", VKEY, "--state", state, "--out", out, "--once")


def indexes(out: Path) -> list[int]:
    """Of the entries in a file of lines."""
    return [json.loads(line)["index"] for line in out.read_bytes().splitlines()]


def members(state: Path) -> dict[str, Value]:
    """What is in a state file."""
    value = decode(state.read_bytes())
    assert isinstance(value, dict)
    return value


class TestTheFiles:
    """The state, and the file of lines."""

    def test_lines_are_appended(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """Round after round the file grows, and the state says how long it is; nothing goes to standard output."""
        out, state = folder / "out.jsonl", folder / "state"
        assert run(*once) == (0, "", "")
        assert indexes(out) == [0, 1, 2, 3, 4]
        assert members(state)["out"] == {"length": len(out.read_bytes()), "path": str(out)}
        server.log = Simulated.of(7)
        assert run(*once) == (0, "", "")
        assert indexes(out) == list(range(7))
        assert sorted(path.name for path in folder.iterdir()) == ["out.jsonl", "state", "state.lock"]

    def test_what_a_file_has_stays(self, run: Run, folder: Path, once: tuple[str, ...]) -> None:
        """Lines go behind what is in the file."""
        out = folder / "out.jsonl"
        out.write_text('{"index":-1}\n')
        assert run(*once)[0] == 0
        assert indexes(out) == [-1, 0, 1, 2, 3, 4]

    def test_what_the_state_does_not_know_of(
        self, run: Run, server: Server, folder: Path, once: tuple[str, ...]
    ) -> None:
        """Lines that a run wrote without getting to say so are taken away, and come again."""
        out = folder / "out.jsonl"
        run(*once)
        with out.open("ab") as file:
            file.write(b'{"index":5}\n{"index":6,"entr')
        assert run(*once)[0] == 0
        assert indexes(out) == [0, 1, 2, 3, 4]
        server.log = Simulated.of(7)
        assert run(*once)[0] == 0
        assert indexes(out) == list(range(7))

    @pytest.mark.parametrize("gone", [1, None])
    def test_lines_that_are_missing(
        self, run: Run, server: Server, folder: Path, once: tuple[str, ...], gone: int | None
    ) -> None:
        """A file that is shorter than it was, or gone, is not gone on with: exit code 1, and nothing is changed."""
        out = folder / "out.jsonl"
        run(*once)
        state, left = (folder / "state").read_bytes(), b"" if gone is None else out.read_bytes()[:-gone]
        out.unlink() if gone is None else out.write_bytes(left)
        server.log = Simulated.of(7)
        code, output, errors = run(*once)
        assert (code, output) == (1, "")
        assert f"{out} has {len(left)} bytes, and " in errors
        assert "lines are missing" in errors
        assert ((folder / "state").read_bytes(), out.exists()) == (state, gone is not None)
        if gone is not None:
            assert out.read_bytes() == left

    def test_another_file(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """Another `--out` goes on where the first one ended, and nothing is taken away from either."""
        first, second = folder / "out.jsonl", folder / "second"
        run(*once)
        second.write_text('{"index":-1}\n')
        server.log = Simulated.of(7)
        assert run(*once, "--out", str(second))[0] == 0
        assert (indexes(first), indexes(second)) == ([0, 1, 2, 3, 4], [-1, 5, 6])

    def test_another_file_after_a_crash(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """What the state does not know of is taken away before a file is left; so nothing broken or double is in it."""
        first, second = folder / "out.jsonl", folder / "second"
        for others in (("--out", str(second)), ()):
            for path in (first, second, folder / "state"):
                path.unlink(missing_ok=True)
            server.log = Simulated.of(5)
            run(*once)
            with first.open("ab") as file:
                file.write(b'{"index":5}\n{"index":6,"entr')
            server.log = Simulated.of(7)
            elsewhere = once if others else (*once[:6], *once[8:])
            assert run(*elsewhere, *others)[0] == 0
            server.log = Simulated.of(9)
            assert run(*once)[0] == 0
            assert indexes(first) == [0, 1, 2, 3, 4, 7, 8]

    def test_another_file_that_somebody_writes(self, run: Run, folder: Path, once: tuple[str, ...]) -> None:
        """The one that is left is not touched while another run has it."""
        first = folder / "out.jsonl"
        run(*once)
        with first.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            code, _, errors = run(*once, "--out", str(folder / "second"))
        assert (code, f"somebody else writes {first}" in errors) == (1, True)

    @pytest.mark.parametrize("left", [None, b"less"])
    def test_another_file_where_lines_are_missing(
        self, run: Run, server: Server, folder: Path, once: tuple[str, ...], left: bytes | None
    ) -> None:
        """One that is gone, or shorter than it was, is left as it is."""
        first, second = folder / "out.jsonl", folder / "second"
        run(*once)
        first.unlink() if left is None else first.write_bytes(left)
        server.log = Simulated.of(7)
        assert run(*once, "--out", str(second))[0] == 0
        assert indexes(second) == [5, 6]
        assert (first.read_bytes() if first.exists() else None) == left

    def test_a_hard_link_of_the_state(self, run: Run, folder: Path, once: tuple[str, ...]) -> None:
        """It is the state, whatever its name: called wrongly, and nothing is written to it."""
        state, link = folder / "state", folder / "link"
        run(*once)
        link.hardlink_to(state)
        before = state.read_bytes()
        code, _, errors = run(*once, "--out", str(link))
        assert (code, f"{link} belongs to the state" in errors) == (2, True)
        assert (state.read_bytes(), link.read_bytes()) == (before, before)

    def test_through_links(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """A link is the file that it leads to: of the state, and of the lines."""
        (folder / "link").symlink_to(folder / "state")
        (folder / "out-link").symlink_to(folder / "out.jsonl")
        run(*once)
        server.log = Simulated.of(7)
        assert run(*once, "--state", str(folder / "link"), "--out", str(folder / "out-link"))[0] == 0
        assert indexes(folder / "out.jsonl") == list(range(7))
        assert (folder / "link").is_symlink()

    def test_not_on_a_pipe(self, run: Run, folder: Path, once: tuple[str, ...]) -> None:
        """What is no file cannot be cut to its length, and is refused."""
        os.mkfifo(folder / "pipe")
        for path in (folder / "pipe", folder, Path("/dev/null")):
            code, _, errors = run(*once, "--out", str(path))
            assert (code, f"{path} is no file" in errors) == (1, True)

    @pytest.mark.parametrize("name", ["state", "state.lock", "state.fork", "state.new"])
    def test_not_the_states_own(self, run: Run, folder: Path, once: tuple[str, ...], name: str) -> None:
        """Lines in the state would destroy it."""
        code, output, errors = run(*once, "--out", str(folder / name))
        assert (code, output, list(folder.iterdir())) == (2, "", [])
        assert f"--out: {folder / name} belongs to the state" in errors

    def test_folders_that_are_not_there(self, run: Run, folder: Path, once: tuple[str, ...]) -> None:
        """A path that cannot be written is named."""
        for option in ("--state", "--out"):
            code, _, errors = run(*once, option, str(folder / "missing" / "file"))
            assert (code, f"cannot write {folder}/missing/file" in errors) == (1, True)

    def test_full_disks(self, folder: Path, once: tuple[str, ...]) -> None:
        """Lines that cannot be written end the run, also one that would go on, and come again the next time."""
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)); "
        program = limit + "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        program += "from translog.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", program, *once[:-1], "--every", "3600"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"translog follow: cannot write {folder / 'out.jsonl'}: File too large\n"
        assert subprocess.run([sys.executable, "-m", "translog", *once], check=False).returncode == 0
        assert indexes(folder / "out.jsonl") == [0, 1, 2, 3, 4]


class TestAlone:
    """One run at a time."""

    def test_two_on_one_state(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """The second one is told, and nothing is asked or written."""
        with (folder / "state.lock").open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            code, output, errors = run(*once)
            assert (code, output, server.asked) == (1, "", [])
            assert f"somebody else follows with the state {folder / 'state'}" in errors
        assert run(*once)[0] == 0

    def test_two_on_one_file_of_lines(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """Two states for one file of lines would write into one another."""
        out = folder / "out.jsonl"
        with out.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            code, _, errors = run(*once)
            assert (code, f"somebody else writes {out}" in errors, server.asked) == (1, True, [])
        assert run(*once)[0] == 0

    def test_one_that_runs(self, run: Run, server: Server, folder: Path, once: tuple[str, ...]) -> None:
        """The lock is let go by a process that was killed."""
        state = folder / "state"
        with started(*once[:-1], "--every", "3600") as it:
            until(lambda: state.exists() and b"size 5" in state.read_bytes())
            assert run(*once)[0] == 1
            it.kill()
        assert run(*once)[0] == 0


class Died(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_every_step(
    run: Run, server: Server, folder: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is made durable is the last that a run gets to do: the next one leaves neither gap nor double."""
    monkeypatch.setattr("translog.follower.MAX_BUNDLES", 1)  # so that there are several chunks
    server.log = Simulated.of(600)
    steps = 0
    while True:
        state, out = folder / f"state{steps}", folder / f"out{steps}"
        once = ("follow", server.url, "--key", VKEY, "--state", str(state), "--out", str(out), "--once")
        with monkeypatch.context() as patch:
            left = iter(range(steps))
            for owner, name in ((os, "fsync"), (Path, "replace")):
                patch.setattr(owner, name, dying(getattr(owner, name), left, moment))
            try:
                assert run(*once)[0] == 0
                died = False
            except Died:
                died = True
        run.capsys.readouterr()
        assert run(*once) == (0, "", "")
        assert indexes(out) == list(range(600))
        if not died:
            break
        steps += 1
    assert steps > 12


def dying(do: Callable[..., Any], left: Iterator[int], moment: str) -> Callable[..., Any]:
    """What does the same, until nothing is left: then it is the last that is done, or is not done any more."""

    def step(*arguments: Any) -> Any:
        dies = next(left, None) is None
        if dies and moment == "before":
            raise Died
        result = do(*arguments)
        if dies:
            raise Died
        return result

    return step


def test_killed_in_a_loop(server: Server, folder: Path, once: tuple[str, ...]) -> None:
    """Killed again and again, while the log grows: in the end there is every line, once, in order."""
    out = folder / "out.jsonl"
    for kill in range(6):
        server.log = Simulated.of(300 + 20_000 * kill)
        before = out.stat().st_size if out.exists() else -1
        with started(*once[:-1], "--every", "0.01") as it:
            until(lambda before=before: out.exists() and out.stat().st_size > before)
            it.kill()
    with started(*once) as it:
        assert it.communicate() == (b"", b"")
    assert indexes(out) == list(range(server.log.size))


class TestTheState:
    """The state file."""

    def test_both_ways(self) -> None:
        """What is kept is read back from its bytes."""
        for kept in (Kept(State()), Kept(State(), None, Written("/tmp/ü", 7))):
            assert Kept.parse(kept.encode()) == kept

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"v": 2}, "version 2 is not known here"),
            ({"v": True}, "its numbers are none"),
            ({"v": None}, "has not the members"),
            ({"log": None}, "has not the members"),
            ({"log": "translog-state@v1\nsize 1\n\n"}, "state: "),
            ({"fork": "x"}, "fork: "),
            ({"fork": 0}, "has not the members"),
            ({"out": {}}, "out has not the members"),
            ({"out": {"length": -1, "path": "x"}}, "out has not the members"),
            ({"out": {"length": True, "path": "x"}}, "its numbers are none"),
            ({"out": {"length": 1, "path": "x", "more": 1}}, "out has not the members"),
            ({"more": None}, "has not the members"),
        ],
    )
    def test_what_is_no_state(self, change: dict[str, Value], reason: str) -> None:
        """Whatever departs from that form is refused."""
        whole: dict[str, Value] = {"fork": None, "log": State().encode().decode(), "out": None, "v": 1}
        assert Kept.parse(encode(whole)) == Kept(State())
        with pytest.raises(FormatError, match=reason):
            Kept.parse(encode({**whole, **change}))

    @pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"garbage\xff", b'{"fork":null'])
    def test_a_file_that_is_none(
        self, run: Run, server: Server, folder: Path, once: tuple[str, ...], data: bytes
    ) -> None:
        """A state that cannot be read is never taken for none: exit code 1, nothing asked, and it stays as it is."""
        state = folder / "state"
        state.write_bytes(data)
        code, output, errors = run(*once)
        assert (code, output, server.asked) == (1, "", [])
        assert f"{state} is no state of `translog follow`" in errors
        assert (state.read_bytes(), (folder / "out.jsonl").exists()) == (data, False)

    def test_a_folder(self, run: Run, folder: Path, once: tuple[str, ...]) -> None:
        """Nor is what cannot be read at all."""
        (folder / "state").mkdir()
        code, _, errors = run(*once)
        assert (code, f"cannot read {folder / 'state'}: Is a directory" in errors) == (1, True)

    def test_it_is_there_from_the_beginning(self, run: Run, server: Server, folder: Path) -> None:
        """Also a run that read nothing leaves a state, with the checkpoint, and `--from` still holds for the next."""
        state = folder / "state"
        arguments = ("--key", VKEY, "--state", str(state), "--once", "--from", "3")
        server.log = Simulated.of(1)
        assert run("follow", server.url, *arguments)[0] == 1
        assert Kept.parse(state.read_bytes()) == Kept(State(server.log.checkpoint()))
        server.log = Simulated.of(5)
        code, output, _ = run("follow", server.url, *arguments)
        assert (code, [json.loads(line)["index"] for line in output.splitlines()]) == (0, [3, 4])
