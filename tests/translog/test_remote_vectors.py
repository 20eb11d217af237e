"""`translog.remote` reads a log that another implementation wrote: Tessera's, as its files, over HTTP.

It has 15 entries, and the checkpoint, tile and bundle of every size up to that. All its tiles are partial.
"""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.translog.following import Reader, asking
from tests.translog.misbehaving import Simulated, serving, status
from tests.vectors import VECTORS, needs_vectors
from translog.errors import FetchError, SignatureError
from translog.follower import Behind, Current
from translog.policy import Policy
from translog.proof import TlogProof
from translog.tiles import Bundle, Resource, decode_bundle

pytestmark = needs_vectors

FILES = VECTORS / "transparency-dev-tessera" / "testdata" / "log"
POLICY = Policy.of("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")
SIZE = 15


def content(path: str) -> bytes | None:
    """A file of the log, if there is such a one."""
    file = FILES / Path(path)
    return file.read_bytes() if file.is_file() else None


class Theirs(Simulated):
    """The log as it was at a size, out of its files."""

    def checkpoint(self, size: int | None = None, *_: object) -> bytes:
        """What they signed, byte for byte."""
        signed = content(f"checkpoint.{self.size if size is None else size}")
        assert signed is not None
        return signed

    def resource(self, wanted: Resource) -> bytes | None:
        """What they wrote; nothing is computed."""
        return content(wanted.path())


def theirs(size: int = SIZE) -> Theirs:
    """The log at a size."""
    bundle = content(Bundle(0, size).path()) if size else b""
    assert bundle is not None
    return Theirs(tuple(decode_bundle(bundle)))


@pytest.mark.parametrize("size", range(SIZE + 1))
def test_it_is_read_from_nothing(size: int) -> None:
    """At every size, all entries are read and proven under the checkpoint that was signed for it."""
    reader = Reader(POLICY)
    with serving(theirs(size)) as server:
        assert reader.over_http(server) == Current()
    assert tuple(reader.entries) == theirs(size).entries
    assert reader.state.note == content(f"checkpoint.{size}")


def test_it_is_read_as_it_grows() -> None:
    """From each size to the next: every growth is proven by its tiles."""
    reader = Reader(POLICY)
    with serving(theirs(0)) as server:
        for size in range(SIZE + 1):
            server.log = theirs(size)
            assert reader.over_http(server) == Current()
            assert tuple(reader.entries) == theirs(size).entries


@pytest.mark.parametrize(("old_size", "new_size"), [*pairwise(range(0, SIZE + 1, 3)), (1, SIZE), (8, 9)])
def test_an_older_checkpoint_of_it_is_told(old_size: int, new_size: int) -> None:
    """It is proven to be where the newer one began."""
    reader = Reader(POLICY)
    with serving(theirs(new_size)) as server:
        reader.over_http(server)
        server.checkpoint = content(f"checkpoint.{old_size}")
        assert reader.over_http(server) == Behind(old_size)


def test_what_it_proves() -> None:
    """Each entry's inclusion, made of its tile and verified as a proof that can be carried away."""
    log = theirs()
    with serving(log) as server:
        proofs = asking(server, lambda remote: remote.inclusion_proofs(range(SIZE), log.checkpoint()), POLICY)
    for index, hashes in enumerate(proofs):
        assert TlogProof(index, hashes, log.checkpoint()).verify(log.entries[index], POLICY).size == SIZE


def test_what_it_does_not_give() -> None:
    """A checkpoint of another size than its signature is for, or a tile that is missing, stops it."""
    reader = Reader(POLICY)
    with serving(theirs(7)) as server:
        assert reader.over_http(server) == Current()
        server.log = theirs()
        server.checkpoint = theirs().checkpoint().replace(b"\n15\n", b"\n16\n")
        with pytest.raises(SignatureError):
            reader.over_http(server)
        server.checkpoint = None
        server.when("tile/0", status(404))
        with pytest.raises(FetchError):
            reader.over_http(server)
        server.well()
        assert reader.over_http(server) == Current()
    assert tuple(reader.entries) == theirs().entries
