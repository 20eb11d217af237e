"""`translog fsck`: a whole log, read over real HTTP; and for whatever is wrong with it, what it is called."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.translog.command import VKEY, Run, started, until, words
from tests.translog.issuers import ISSUER_VKEY
from tests.translog.misbehaving import (
    Answering,
    Server,
    Simulated,
    breaking_off,
    changed,
    flipped,
    garbage,
    serving,
    shortened,
    silently,
    status,
    swapped,
)
from tests.translog.policies import signer
from tests.translog.samples import KEY, ORIGIN
from translog.note import Kind
from translog.tiles import TILE_WIDTH, Bundle, Resource, Tile, encode_bundle, width_at

SIZE = 600


def resources(size: int) -> Iterator[Resource]:
    """Every tile and every bundle of a log of that size."""
    level = 0
    while size >> (8 * level):
        for index in range(-(-(size >> (8 * level)) // TILE_WIDTH)):
            width = width_at(level, index, size)
            yield Tile(level, index, width)
            if level == 0:
                yield Bundle(index, width)
        level += 1


ALL = list(resources(SIZE))


DAMAGE: dict[str, Answering] = {
    "a bit": changed(flipped),
    "a byte": changed(shortened),
    "all": changed(lambda _: b""),
    "gone": status(404),
}
UNWELL: dict[str, Answering] = {
    "garbage": garbage,
    "breaks off": breaking_off,
    "forbidden": status(403),
    "moved": status(302, b"location: /"),
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command and gives exit code, output and errors."""
    return Run(capsys)


@pytest.fixture
def server() -> Generator[Server]:
    """A log of `SIZE` entries that is well."""
    with serving(Simulated.of(SIZE)) as server:
        yield server


class TestAWholeLog:
    """A log that is as it should be."""

    @pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, SIZE, 65_536 + 256 + 1])
    def test_everything_is_read_once(self, run: Run, size: int) -> None:
        """Every tile of every level and every bundle; size, root and bytes are told."""
        log = Simulated.of(size)
        with serving(log) as server:
            code, output, errors = run("fsck", server.url, "--key", VKEY)
            assert (code, errors) == (0, "")
            assert sorted(server.asked) == sorted(["checkpoint", *(one.path() for one in resources(size))])
        told = words(output)
        assert told.startswith("VERIFIED: all entries and tiles of this log lead to the root that it signed.")
        assert f"log {ORIGIN} size {size} root {log.root().hex()} " in told
        served = log.resources(resources(size))
        tiles = sum(isinstance(one, Tile) for one in served)
        assert f"tiles {tiles} bytes {sum(map(len, served.values()))} seconds " in told
        assert "That others are shown the same log it does not show" in told

    def test_a_policy(self, run: Run, server: Server, tmp_path: Path) -> None:
        """A policy that asks for a witness is satisfied only by a checkpoint that it cosigned."""
        witness, policy = signer("w.example"), tmp_path / "policy"
        policy.write_text(f"log {VKEY}\nwitness w {witness.verifying_key()}\nquorum w\n")
        code, output, errors = run("fsck", server.url, "--policy", str(policy))
        assert (code, output) == (1, "")
        assert "the quorum lacks 'w'" in errors
        assert server.asked == ["checkpoint"]
        policy.write_text(f"log {VKEY}\nquorum none\n")
        assert run("fsck", server.url, "--policy", str(policy), "--origin", ORIGIN)[0] == 0
        assert run("fsck", server.url, "--policy", str(policy), "--origin", "example.com/other")[0] == 1

    def test_partial_tiles_that_are_gone(self, run: Run, server: Server) -> None:
        """The log has grown since, and serves full tiles in place of those of its older checkpoint."""
        server.checkpoint = server.log.checkpoint(300)
        for path in ("tile/0/001.p/", "tile/entries/001.p/"):
            server.when(path, status(404))
        code, output, _ = run("fsck", server.url, "--key", VKEY)
        assert (code, "size 300 " in words(output)) == (0, True)

    def test_the_cache(self, run: Run, server: Server, tmp_path: Path) -> None:
        """Full tiles are kept in the folder; one that has gone bad there is fetched again."""
        cache = tmp_path / "cache"
        arguments = ("fsck", server.url, "--key", VKEY, "--cache", str(cache))
        assert run(*arguments)[0] == 0
        full = [one.path() for one in ALL if isinstance(one, Tile) and one.width == TILE_WIDTH]
        assert len(full) == 2
        server.asked.clear()
        assert run(*arguments)[0] == 0
        assert set(server.asked) == {"checkpoint", *(one.path() for one in ALL)} - set(full)
        (bad,) = cache.rglob("001")
        bad.write_bytes(flipped(bad.read_bytes()))
        server.asked.clear()
        assert run(*arguments)[0] == 0
        assert "tile/0/001" in server.asked
        assert bad.read_bytes() == server.log.resource(Tile(0, 1, TILE_WIDTH))


class TestWhatIsWrong:
    """A log that is not."""

    @pytest.mark.parametrize("resource", ALL, ids=lambda one: one.path())
    @pytest.mark.parametrize("fault", DAMAGE)
    def test_each_thing_is_named(self, run: Run, server: Server, resource: Resource, fault: str) -> None:
        """One bit, a missing byte, nothing at all: in whichever tile or bundle it is, that one is named."""
        # Of a partial one that is gone the full one is asked for, and is not there either.
        full, _, _ = resource.path().partition(".p/")
        server.when(full, DAMAGE[fault])
        code, output, errors = run("fsck", server.url, "--key", VKEY)
        assert (code, output) == (1, "")
        assert errors.endswith("translog fsck: NOT VERIFIED\n")
        assert full in errors.splitlines()[0].split(" is ")[0].split(" has ")[0]

    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_an_entry_in_anothers_place(self, run: Run, server: Server, index: int) -> None:
        """Two entries swapped: the first of them is named by its index in the log."""
        server.when(f"tile/entries/00{index}", changed(swapped(5, 7)))
        code, _, errors = run("fsck", server.url, "--key", VKEY)
        assert code == 1
        assert f": entry {index * 256 + 5} is not the one that was signed" in errors

    @pytest.mark.parametrize("number", [87, 89])
    def test_a_bundle_of_another_number(self, run: Run, server: Server, number: int) -> None:
        """A bundle with an entry more or less than its width says is named for it."""
        entries = [*server.log.entries[512:], b"more"][:number]
        server.when("tile/entries/002", changed(lambda _: encode_bundle(entries)))
        code, _, errors = run("fsck", server.url, "--key", VKEY)
        assert code == 1
        assert f"tile/entries/002.p/88 has {number} entries instead of 88" in errors

    @pytest.mark.parametrize(("at", "named"), [(3, "tile/0/000"), (300, "tile/0/001")])
    def test_an_entry_and_its_tile(self, run: Run, server: Server, at: int, named: str) -> None:
        """An entry that was exchanged together with its tile is found by the tile above."""
        forged = server.log.forked(at)
        for one in (Tile(0, at // 256, 256), Bundle(at // 256, 256)):
            server.when(one.path(), changed(lambda _, one=one: forged.resources([one])[one]))
        code, _, errors = run("fsck", server.url, "--key", VKEY)
        assert code == 1
        assert errors.startswith(f"translog fsck: {named} is not the tile that was signed: it gives ")
        assert "tile/1/000.p/2 has" in errors

    def test_another_history(self, run: Run, server: Server) -> None:
        """Where all that is served goes together, and gives another root than the one signed, that is said."""
        server.checkpoint = server.log.forked(3).checkpoint()
        code, _, errors = run("fsck", server.url, "--key", VKEY)
        assert code == 1
        assert "the right edge (tile/0/002.p/88, tile/1/000.p/2) gives the root " in errors
        assert f"{server.log.root().hex()}, and {server.log.forked(3).root().hex()} is signed" in errors

    def test_both_at_the_edge(self, run: Run, server: Server) -> None:
        """At the right edge, where a tile and its bundle differ and neither is right, that is said."""
        server.when("tile/0/002.p/88", changed(flipped))
        server.when("tile/entries/002.p/88", changed(swapped(5, 7)))
        code, _, errors = run("fsck", server.url, "--key", VKEY)
        assert code == 1
        assert "tile/0/002.p/88 is not the tile that was signed: it has " in errors
        assert "; or that is wrong, for it does not lead to the signed root either" in errors

    def test_another_log(self, run: Run, server: Server) -> None:
        """A checkpoint that the log did not sign is the end of it."""
        code, output, errors = run("fsck", server.url, "--key", ISSUER_VKEY)
        assert (code, output) == (1, "")
        assert "no signature by a key that was given" in errors
        server.checkpoint = replace(server.log, key=signer(KEY.name, Kind.ED25519)).checkpoint()
        assert run("fsck", server.url, "--key", VKEY)[0] == 1
        assert server.asked == ["checkpoint"] * 2

    def test_a_root_of_nothing(self, run: Run) -> None:
        """Also of a log of no entries the root is looked at."""
        with serving(Simulated.of(0)) as server:
            server.checkpoint = server.log.checkpoint().replace(b"\n0\n", b"\n1\n")
            assert run("fsck", server.url, "--key", VKEY)[0] == 1

    @pytest.mark.parametrize("fault", UNWELL)
    @pytest.mark.parametrize("path", ["checkpoint", "tile/0/001", "tile/entries/001"])
    def test_a_server_that_is_not_well(
        self, run: Run, server: Server, path: str, fault: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was not given is named, in a sentence."""
        monkeypatch.setattr("translog.fetching.FIRST_WAIT", 0.001)
        server.when(path, UNWELL[fault])
        code, output, errors = run("fsck", server.url, "--key", VKEY)
        assert (code, output) == (1, "")
        assert errors.startswith(f"translog fsck: {server.url}/{path} ")
        assert errors.count("\n") == 2


def _shown(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal, until nobody writes any more."""
    with suppress(OSError):
        while True:
            yield os.read(terminal, 4096)


class TestTheCommand:
    """How it is called, and how it ends."""

    def test_called_wrongly(self, run: Run, tmp_path: Path) -> None:
        """Without a key, or with what is no URL of a log: exit code 2."""
        for arguments in (
            ("http://127.0.0.1/log",),
            ("--key", VKEY),
            ("file:///log", "--key", VKEY),
            ("http://user:secret@127.0.0.1/log", "--key", VKEY),
            ("http://127.0.0.1/log?x=1", "--key", VKEY),
            ("", "--key", VKEY),
        ):
            code, output, errors = run("fsck", *arguments)
            assert (code, output) == (2, "")
            assert "usage: translog" in errors
            assert "secret" not in errors

    def test_the_bar_is_for_terminals(self, server: Server) -> None:
        """How far it has come is shown on standard error if that is a terminal, and the report is not mixed with it."""
        terminal, screen = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "translog", "fsck", server.url, "--key", VKEY],
            stdout=subprocess.PIPE,
            stderr=screen,
            env={**os.environ, "TERM": "xterm"},
            cwd=Path(__file__).parents[2],
        ) as process:
            os.close(screen)
            shown = b"".join(_shown(terminal))
            output, _ = process.communicate()
        os.close(terminal)
        assert process.returncode == 0
        assert b"entries" in shown
        assert b"600/600" in shown
        assert output.startswith(b"VERIFIED: ")
        assert b"\x1b" not in output

    def test_interrupted(self, server: Server) -> None:
        """Ctrl-C ends it without a traceback, as a shell says it."""
        server.when("tile/0/", silently)
        with started("fsck", server.url, "--key", VKEY) as process:
            until(lambda: any(path.startswith("tile/0/") for path in server.asked))
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate()
        assert (process.returncode, output, errors) == (130, b"", b"")

    @pytest.mark.parametrize("missing", ["httpx2", "stamina", "rich"])
    def test_without_the_extra(self, server: Server, missing: str) -> None:
        """Where what reads over HTTP is not installed, it says what to install; in one sentence."""
        program = "import sys; sys.modules[sys.argv.pop(1)] = None; from translog.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", program, missing, "fsck", server.url, "--key", VKEY],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"translog fsck: reading a log over HTTP needs the extra `reader` ({missing} is missing): "
            "pip install 'rescind[reader]'\n"
        )
