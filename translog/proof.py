"""Proofs to carry away: that one entry is in one log, checked offline with nothing but the log's key.

    c2sp.org/tlog-proof@v1
    extra SGVsbG8=                                      optional; not authenticated by anything
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=        the inclusion proof, from the leaf's sibling upwards
    B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
                                                        an empty line, then a whole signed checkpoint
    example.com/fancylog
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — example.com/fancylog hI2DJw…

The proof leads from the hash of an entry at `index` to the root that the checkpoint states, and the checkpoint's
signature leads from that root to the log. What the entry is, the reader must know or find in `extra` (as
`translog.evidence` does).

Follows C2SP tlog-proof and RFC 6962 section 2.1.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from translog import merkle
from translog.canonical import decimal, from_base64, to_base64
from translog.checkpoint import Checkpoint
from translog.errors import FormatError
from translog.note import Note
from translog.policy import Policy

__all__ = ["HEADER", "MAX_HASHES", "TlogProof"]

HEADER = "c2sp.org/tlog-proof@v1"

MAX_HASHES = 63
"""The longest inclusion proof there is: a leaf of a tree of 2^63 - 1 lies at most this many levels below the root."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof of the entry at `index`, with the signed `checkpoint` that it leads to, verbatim.

    `hashes` are 32 bytes each. `extra` is any bytes that the application adds, or None; nothing vouches for it.
    Raises `FormatError` when built from what no proof can hold; whether it proves anything only `verify` tells.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < merkle.MAX_SIZE:
            raise FormatError(f"tlog-proof: the index {self.index} is not between 0 and 2^63 - 2")
        if len(self.hashes) > MAX_HASHES:
            raise FormatError(f"tlog-proof: {len(self.hashes)} hashes; no inclusion proof has more than {MAX_HASHES}")
        for position, hash_ in enumerate(self.hashes):
            if len(hash_) != merkle.HASH_SIZE:
                raise FormatError(f"tlog-proof: hash {position} has {len(hash_)} bytes, not {merkle.HASH_SIZE}")
        self.unverified_checkpoint()

    @classmethod
    def parse(cls, data: bytes) -> "TlogProof":
        """The proof whose encoding is exactly `data`; nothing is verified. Raises `FormatError` for anything else."""
        head, empty_line, checkpoint = data.partition(b"\n\n")
        if not empty_line:
            raise FormatError("tlog-proof: no empty line between the proof and its checkpoint")
        if not head.isascii():
            raise FormatError("tlog-proof: the lines above the checkpoint are not ASCII")
        lines = iter(head.decode().split("\n"))
        if (header := next(lines)) != HEADER:
            raise FormatError(f"tlog-proof: the first line is {header[:80]!r}, not {HEADER}")
        line = next(lines, "")
        extra = None
        if line.startswith("extra "):
            extra = from_base64(line.removeprefix("extra "), "tlog-proof extra")
            line = next(lines, "")
        if not line.startswith("index "):
            raise FormatError(f"tlog-proof: expected a line with the index, not {line[:80]!r}")
        index = decimal(line.removeprefix("index "), "tlog-proof index", merkle.MAX_SIZE - 1)
        hashes = tuple(from_base64(line, "tlog-proof hash") for line in lines)
        return cls(index, hashes, checkpoint, extra)

    def encode(self) -> bytes:
        """The proof as text in UTF-8, as it is kept in a `.tlog-proof` file."""
        return "".join(f"{line}\n" for line in self._head()).encode() + b"\n" + self.checkpoint

    def unverified_checkpoint(self) -> Checkpoint:
        """What the checkpoint says, not to be relied on: no signature is looked at."""
        return Checkpoint.parse(Note.parse(self.checkpoint).text)

    def verify(self, entry: bytes, policy: Policy) -> Checkpoint:
        """Verify that the log has `entry` at `index`, and give the checkpoint under which it does.

        Raises `SignatureError` if the checkpoint is not one of a log that `policy` accepts, and `ProofError` if the
        hashes do not lead from `entry` to its root.
        """
        checkpoint = policy.open(self.checkpoint)
        merkle.verify_inclusion(merkle.leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint

    def _head(self) -> Iterator[str]:
        yield HEADER
        if self.extra is not None:
            yield f"extra {to_base64(self.extra)}"
        yield f"index {self.index}"
        for hash_ in self.hashes:
            yield to_base64(hash_)
