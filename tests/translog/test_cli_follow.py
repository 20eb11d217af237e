"""`translog follow`: the lines, the rounds, and what it says of a log that is not well, or has forked."""

import fcntl
import hashlib
import json
import os
import signal
import sys
import termios
from base64 import b64encode
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.translog.command import VKEY, Run, started, until
from tests.translog.issuers import ISSUER_VKEY
from tests.translog.misbehaving import Answering, Server, Simulated, changed, flipped, serving, silently, status
from tests.translog.policies import signer
from tests.translog.samples import KEY, ORIGIN
from translog.merkle import leaf_hash
from translog.note import Kind


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def server() -> Generator[Server]:
    """A log of five entries that is well."""
    with serving(Simulated.of(5)) as server:
        yield server


@pytest.fixture
def once(server: Server, tmp_path: Path) -> tuple[str, ...]:
    """The arguments of one round on that log."""
    return ("follow", server.url, "--key", VKEY, "--state", str(tmp_path / "state"), "--once")


def lines(output: str | bytes) -> list[dict[str, Any]]:
    """What was written, read."""
    return [json.loads(line) for line in (output if isinstance(output, bytes) else output.encode()).splitlines()]


def expected(entries: Sequence[bytes], start: int = 0) -> list[dict[str, Any]]:
    """The lines of entries that are text."""
    return [
        {
            "index": index,
            "leaf_hash": leaf_hash(entry).hex(),
            "entry": b64encode(entry).decode(),
            "text": entry.decode(),
        }
        for index, entry in enumerate(entries[start:], start)
    ]


class TestLines:
    """What is written."""

    def test_each_entry_once(self, run: Run, server: Server, once: tuple[str, ...]) -> None:
        """The first round gives all entries, the next one those that are new, in order."""
        code, output, errors = run(*once)
        assert (code, errors) == (0, "")
        assert lines(output) == expected(server.log.entries)
        assert run(*once) == (0, "", "")
        server.log = Simulated.of(700)
        code, output, _ = run(*once)
        assert (code, lines(output)) == (0, expected(server.log.entries, 5))

    def test_the_form(self, run: Run, server: Server, once: tuple[str, ...]) -> None:
        """A line is JSON without spaces, its members in this order."""
        server.log = Simulated((b"A",))
        hashed = hashlib.sha256(b"\x00A").hexdigest()
        assert run(*once)[1] == f'{{"index":0,"leaf_hash":"{hashed}","entry":"QQ==","text":"A"}}\n'

    @pytest.mark.parametrize(
        ("entry", "text"),
        [
            (b"", ""),
            ("Grüße\n\tan alle".encode(), "Grüße\n\tan alle"),
            (b"\xff", None),
            (b"\x1b[2J", None),
            (b"a\r\n", None),
            (b"a\x00", None),
            ("\u202ea".encode(), None),
            ("\u2028".encode(), None),
        ],
    )
    def test_text(self, run: Run, server: Server, once: tuple[str, ...], entry: bytes, text: str | None) -> None:
        """Entries that can be shown as text are; of others there are only the bytes."""
        server.log = Simulated((entry,))
        code, output, _ = run(*once)
        (line,) = lines(output)
        assert (code, line["entry"], line.get("text")) == (0, b64encode(entry).decode(), text)
        assert output.count("\n") == 1
        assert all(character.isprintable() for character in output[:-1])

    def test_from_an_index(self, run: Run, server: Server, once: tuple[str, ...]) -> None:
        """What is before `--from` is not fetched; once something was followed, it says nothing any more."""
        server.log = Simulated.of(1000)
        code, output, _ = run(*once, "--from", "600")
        assert (code, lines(output)) == (0, expected(server.log.entries, 600))
        assert [path for path in server.asked if path.startswith("tile/entries/")] == [
            "tile/entries/002",
            "tile/entries/003.p/232",
        ]
        server.log = Simulated.of(1001)
        code, output, _ = run(*once, "--from", "3")
        assert (code, lines(output)) == (0, expected(server.log.entries, 1000))

    def test_from_the_end(self, run: Run, server: Server, once: tuple[str, ...]) -> None:
        """`--from` may be the log's size, for what comes from now on, and not beyond it."""
        code, output, errors = run(*once, "--from", "6")
        assert (code, output) == (1, "")
        assert "the log has 5 entries as yet, and the first to be read is 6" in errors
        assert run(*once, "--from", "5") == (0, "", "")
        server.log = Simulated.of(6)
        assert lines(run(*once)[1]) == expected(server.log.entries, 5)

    @pytest.mark.parametrize("size", [5, 6, 9])
    def test_a_fork_while_it_is_waited(self, run: Run, server: Server, once: tuple[str, ...], size: int) -> None:
        """What the log showed before it had the first entry that was asked for, it cannot take back."""
        assert run(*once, "--from", "6")[0] == 1
        server.log = Simulated.of(size).forked(2)
        code, output, errors = run(*once, "--from", "6")
        assert (code, output, "FORKED" in errors) == (2, "", True)

    def test_a_log_without_entries(self, run: Run, server: Server, once: tuple[str, ...]) -> None:
        """A log that is new has nothing to be read yet."""
        server.log = Simulated.of(0)
        assert run(*once) == (0, "", "")
        server.log = Simulated.of(2)
        assert lines(run(*once)[1]) == expected(server.log.entries)


class TestFork:
    """A log that has forked."""

    @pytest.mark.parametrize("size", [5, 8])
    def test_it_is_the_end(self, run: Run, server: Server, once: tuple[str, ...], tmp_path: Path, size: int) -> None:
        """Exit code 2, the evidence beside the state, and from then on the same at once, without asking anybody."""
        run(*once)
        honest = server.log
        server.log = honest.forked(2, size=size)
        code, output, errors = run(*once)
        evidence = tmp_path / "state.fork"
        assert (code, output) == (2, "")
        assert f"FORKED: the log {ORIGIN} signed two checkpoints that cannot both be of one log" in errors
        assert f"of 5 and of {size} entries; the evidence is in {evidence}" in errors
        assert run("verify", str(evidence), "--key", VKEY)[0] == 0
        server.log = Simulated.of(9)
        server.asked.clear()
        written = evidence.read_bytes()
        evidence.unlink()
        assert run(*once) == (2, "", errors)
        assert evidence.read_bytes() == written
        assert server.asked == []

    def test_also_in_rounds(self, server: Server, tmp_path: Path) -> None:
        """Whoever follows for good stops at a fork as well."""
        with started("follow", server.url, "--key", VKEY, "--state", str(tmp_path / "state"), "--every", "0.01") as it:
            until(lambda: server.asked.count("checkpoint") > 1)
            server.log = server.log.forked(2, size=300)
            output, errors = it.communicate()
        assert it.returncode == 2
        assert lines(output) == expected(Simulated.of(5).entries)
        assert b"FORKED" in errors

    def test_the_evidence_cannot_be_written(
        self, run: Run, server: Server, once: tuple[str, ...], tmp_path: Path
    ) -> None:
        """The fork is told all the same, each time: the state holds it as well."""
        run(*once)
        (tmp_path / "state.fork").mkdir()
        server.log = server.log.forked(2)
        for _ in range(2):
            code, _, errors = run(*once)
            assert code == 2
            assert f"the evidence is not beside the state: cannot write {tmp_path / 'state.fork'}: " in errors


FALSE: dict[str, tuple[str, Answering]] = {
    "another bundle": ("tile/entries/", changed(flipped)),
    "no bundle": ("tile/entries/", status(404)),
    "another tile": ("tile/0/", changed(flipped)),
    "no tile": ("tile/0/", status(403)),
    "a checkpoint with a wrong signature": ("checkpoint", changed(flipped)),
    "no checkpoint": ("checkpoint", status(404)),
}


class TestErrors:
    """A log that is not well, and has not forked."""

    @pytest.mark.parametrize("fault", FALSE)
    def test_nothing_false_is_written(self, run: Run, server: Server, once: tuple[str, ...], fault: str) -> None:
        """What does not verify, or cannot be had, is said: exit code 1, no line, and a later round goes on."""
        run(*once)
        server.log = Simulated.of(8)
        server.when(*FALSE[fault])
        code, output, errors = run(*once)
        assert (code, output) == (1, "")
        assert errors.startswith("translog follow: ")
        assert (errors.count("\n"), "FORKED" in errors) == (1, False)
        server.well()
        code, output, _ = run(*once)
        assert (code, lines(output)) == (0, expected(server.log.entries, 5))

    def test_an_older_checkpoint(self, run: Run, server: Server, once: tuple[str, ...]) -> None:
        """An older checkpoint of the same log is said, and nothing else: there is nothing new in it."""
        run(*once)
        server.checkpoint = server.log.checkpoint(3)
        code, output, errors = run(*once)
        assert (code, output) == (0, "")
        assert "the server shows an older checkpoint, of 3 entries" in errors

    def test_another_log(self, run: Run, server: Server, once: tuple[str, ...], tmp_path: Path) -> None:
        """A checkpoint under another key says nothing, nor does a state of another log under this one's."""
        server.log = replace(server.log, key=signer(KEY.name, Kind.ED25519))
        assert run(*once)[:2] == (1, "")
        server.log = Simulated.of(5)
        run(*once)
        server.asked.clear()
        code, output, errors = run(
            "follow", server.url, "--key", ISSUER_VKEY, "--state", str(tmp_path / "state"), "--every", "1"
        )
        assert (code, output, server.asked) == (1, "", [])
        assert "no signature by a key that was given" in errors

    def test_it_is_tried_again(self, server: Server, tmp_path: Path) -> None:
        """With `--every`, what fails is said once as long as it is the same, and tried again until it works."""
        server.when("checkpoint", status(404))
        with started("follow", server.url, "--key", VKEY, "--state", str(tmp_path / "state"), "--every", "0.01") as it:
            until(lambda: server.asked.count("checkpoint") > 3)
            server.well()
            assert it.stdout is not None
            output = b"".join(it.stdout.readline() for _ in range(5))
            it.send_signal(signal.SIGTERM)
            rest, errors = it.communicate()
        assert (it.returncode, rest) == (0, b"")
        assert lines(output) == expected(server.log.entries)
        assert errors.decode() == f"translog follow: {server.url}/checkpoint is not there (status 404)\n"


class TestTheCommand:
    """How it is called, and how it ends."""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    @pytest.mark.parametrize("waiting", ["between rounds", "for the server"])
    def test_signals(self, server: Server, tmp_path: Path, number: signal.Signals, code: int, waiting: str) -> None:
        """SIGTERM and SIGINT end it, in whatever it is, without a word."""
        state = tmp_path / "state"
        if waiting == "for the server":
            server.when("tile/entries/", silently)
        with started("follow", server.url, "--key", VKEY, "--state", str(state), "--every", "3600") as it:
            until(lambda: "tile/entries/000.p/5" in server.asked)
            if waiting == "between rounds":
                until(lambda: b"size 5" in state.read_bytes())
            it.send_signal(number)
            output, errors = it.communicate()
        assert (it.returncode, errors) == (code, b"")
        assert lines(output) == (expected(server.log.entries) if waiting == "between rounds" else [])

    def test_nobody_reads(self, server: Server, tmp_path: Path) -> None:
        """A reader who has gone ends it: exit code 1, and the lines come again the next time."""
        state = str(tmp_path / "state")
        server.log = Simulated.of(2000)
        reading, writing = os.pipe()
        os.close(reading)
        with started("follow", server.url, "--key", VKEY, "--state", state, "--every", "3600", stdout=writing) as it:
            os.close(writing)
            _, errors = it.communicate()
        assert (it.returncode, errors) == (1, b"translog follow: nobody takes the lines: Broken pipe\n")
        with started("follow", server.url, "--key", VKEY, "--state", state, "--once") as it:
            output, _ = it.communicate()
        assert (it.returncode, lines(output)) == (0, expected(server.log.entries))

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_a_reader_who_does_not_read(
        self, server: Server, tmp_path: Path, number: signal.Signals, code: int
    ) -> None:
        """A signal ends it also where the lines wait for somebody to read them."""
        server.log = Simulated.of(2000)
        with started("follow", server.url, "--key", VKEY, "--state", str(tmp_path / "state"), "--once") as it:
            assert it.stdout is not None
            pipe = it.stdout.fileno()
            until(lambda: _waiting(pipe) > _room(pipe) / 2)
            it.send_signal(number)
            it.wait()
            assert it.stderr is not None
            assert (it.returncode, it.stderr.read()) == (code, b"")

    def test_called_wrongly(self, run: Run, server: Server, tmp_path: Path) -> None:
        """Without key, state or URL, or with what is none of them: exit code 2, and nothing is made."""
        state = ("--state", str(tmp_path / "state"))
        for arguments in (
            (server.url, *state),
            (server.url, "--key", VKEY),
            ("--key", VKEY, *state),
            ("127.0.0.1/log", "--key", VKEY, *state),
            (server.url, "--key", VKEY, *state, "--once", "--every", "3"),
            (server.url, "--key", VKEY, *state, "--every", "0"),
            (server.url, "--key", VKEY, *state, "--every", "nan"),
            (server.url, "--key", VKEY, *state, "--every", "soon"),
            (server.url, "--key", VKEY, *state, "--from", "-1"),
            (server.url, "--key", VKEY, *state, "--from", "1_0"),
            (server.url, "--key", "example.com", *state),
        ):
            code, output, errors = run("follow", *arguments)
            assert (code, output) == (2, "")
            assert "usage: translog" in errors
        assert list(tmp_path.iterdir()) == []

    def test_a_policy(self, run: Run, server: Server, once: tuple[str, ...], tmp_path: Path) -> None:
        """A checkpoint without the quorum's cosignatures moves nothing."""
        policy, witness = tmp_path / "policy", signer("w.example").verifying_key()
        policy.write_text(f"log {VKEY}\nwitness w {witness}\nquorum w\n")
        arguments = ("follow", server.url, "--policy", str(policy), "--state", str(tmp_path / "state"), "--once")
        code, output, errors = run(*arguments)
        assert (code, output) == (1, "")
        assert "the quorum lacks 'w'" in errors
        policy.write_text(f"log {VKEY}\nquorum none\n")
        assert lines(run(*arguments)[1]) == expected(server.log.entries)


def _waiting(pipe: int) -> int:
    """Bytes in a pipe that nobody has read."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _room(pipe: int) -> int:
    """Bytes that it holds at most."""
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
