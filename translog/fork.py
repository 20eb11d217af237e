"""Evidence that a log forked: two checkpoints that it signed, and that cannot both be of one log.

A log only grows. So of two checkpoints the smaller one's root must be the root of the larger one's first leaves, and
whoever holds two where it is not has caught the log, however sound each is by itself. This is the file in which to
hand that on; anyone who has the log's key can check it, offline and without a single entry:

    translog-fork@v1
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=        the root that the larger tree's first leaves really have
    B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=        the consistency proof from there to the larger checkpoint
                                                        an empty line, then the smaller checkpoint, signed
    example.com/fancylog
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — example.com/fancylog hI2DJw…
                                                        an empty line, then the larger one
    example.com/fancylog
    109499
    …

The hashes are in the larger root, which the log signed, and lead to a root of the smaller size that is not the one it
signed there. Nobody can make such hashes for a log that is honest. Two checkpoints of one size need none: their roots
differ, the file says the larger one's root once more, and the proof is empty.

What is no fork: extension lines that differ, for they are not part of the tree. And a checkpoint of size 0 whose root
is not that of an empty tree: it is wrong by itself, says nothing about any entry, and contradicts no other.

The proof is as in RFC 6962 section 2.1.2, the checkpoints as in C2SP tlog-checkpoint.
"""

from dataclasses import dataclass
from typing import NamedTuple

from translog import merkle, note
from translog.canonical import from_base64, to_base64
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, ProofError, SignatureError
from translog.note import Note
from translog.policy import Policy

__all__ = ["HEADER", "MAX_HASHES", "MAX_SIZE", "Fork", "Heads"]

HEADER = "translog-fork@v1"

MAX_HASHES = 64
"""The longest consistency proof there is, between trees of up to 2^63 - 1 leaves."""

MAX_SIZE = 2 * note.MAX_SIZE + 4_096
"""Bytes of a whole file, the most that is read: two notes, and the lines above them."""


class Heads(NamedTuple):
    """The two checkpoints of a fork."""

    smaller: Checkpoint
    larger: Checkpoint


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed checkpoints, verbatim, and the hashes that show that they are not of one log.

    `root` is the root of as many of the larger tree's first leaves as the smaller tree has, and `proof` the
    consistency proof from there to the larger checkpoint; 32 bytes each. Raises `FormatError` when built from what no
    such file can hold; whether it proves anything only `verify` tells.
    """

    smaller: bytes
    larger: bytes
    root: bytes
    proof: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.proof) > MAX_HASHES:
            raise FormatError(f"fork: {len(self.proof)} hashes; no consistency proof has more than {MAX_HASHES}")
        for place, hash_ in enumerate((self.root, *self.proof)):
            if len(hash_) != merkle.HASH_SIZE:
                raise FormatError(f"fork: hash {place} has {len(hash_)} bytes, not {merkle.HASH_SIZE}")
        self.unverified_heads()

    @classmethod
    def parse(cls, data: bytes) -> "Fork":
        """The evidence whose encoding is exactly `data`, not verified. Raises `FormatError` for anything else."""
        if len(data) > MAX_SIZE:
            raise FormatError(f"fork: {len(data)} bytes, at most {MAX_SIZE} are read")
        # No line of a checkpoint is empty, nor is a signature line: each note is two paragraphs.
        paragraphs = data.split(b"\n\n")
        if len(paragraphs) != 5:
            raise FormatError(
                f"fork: {len(paragraphs)} paragraphs; the hashes and two signed checkpoints are 5, an empty line "
                "between each"
            )
        head, *notes = paragraphs
        if not head.isascii():
            raise FormatError("fork: the lines above the checkpoints are not ASCII")
        header, *lines = head.decode().split("\n")
        if header != HEADER:
            raise FormatError(f"fork: the first line is {header[:80]!r}, not {HEADER}")
        if not lines:
            raise FormatError("fork: no root below the first line")
        root, *proof = (from_base64(line, "fork hash") for line in lines)
        return cls(b"\n\n".join(notes[:2]) + b"\n", b"\n\n".join(notes[2:]), root, tuple(proof))

    def encode(self) -> bytes:
        """The evidence as text in UTF-8, as it is kept in a file."""
        head = "\n".join((HEADER, *map(to_base64, (self.root, *self.proof))))
        return b"\n".join((head.encode(), b"", self.smaller, self.larger))

    def unverified_heads(self) -> Heads:
        """What the two checkpoints say, not to be relied on: no signature is looked at."""
        return Heads(*(Checkpoint.parse(Note.parse(signed).text) for signed in (self.smaller, self.larger)))

    def verify(self, policy: Policy) -> Heads:
        """Verify that a log of `policy` forked, and give its two checkpoints. What witnesses signed is not asked.

        Raises `SignatureError` if the two are not both signed by one log, known by its origin, and `ProofError` if
        they are of one tree after all, or the hashes do not show that they are not.
        """
        smaller, larger = heads = Heads(policy.open_log(self.smaller), policy.open_log(self.larger))
        if smaller.origin != larger.origin:
            raise SignatureError(
                f"fork: a checkpoint of {smaller.origin!r} and one of {larger.origin!r}, which is another log"
            )
        if smaller.size == 0:
            raise ProofError("fork: a checkpoint of size 0 contradicts no other: every log was empty at first")
        merkle.verify_consistency(smaller.size, self.root, larger.size, larger.root, self.proof)
        if self.root == smaller.root:
            raise ProofError(
                f"fork: these two checkpoints of {smaller.origin!r} are consistent: the one of size {smaller.size} is "
                f"the beginning of the one of size {larger.size}; there is no fork"
            )
        return heads
