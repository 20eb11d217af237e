"""Checkpoints: what a log signs, and the exact bytes that each kind of signature covers.

A checkpoint is the text of a signed note (`translog.note`). It says of one log, at one size, what its Merkle root is:

    example.com/behind-the-sofa                     origin: which log
    20852163                                        size: how many entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    root: its RFC 6962 hash, base64

Two checkpoints of one origin agree if a consistency proof leads from one to the other; whoever holds two that do not
has proof that the log misbehaved. Most kinds of signature do not cover these lines as they stand but a message built
from them, so that a signature for one purpose is never valid for another. The builders of those messages are here,
next to the text they are made of; the keys are in `translog.note`.

Follows C2SP tlog-checkpoint, C2SP tlog-cosignature, and for the tree heads of CT logs RFC 6962 section 3.5.
"""

import re
import struct
from dataclasses import dataclass

from translog.canonical import decimal, from_base64, to_base64
from translog.errors import FormatError
from translog.merkle import HASH_SIZE, MAX_SIZE

__all__ = ["MAX_TIMESTAMP", "Checkpoint", "check_lines", "cosignature_message", "subtree_message", "tree_head_message"]

MAX_TIMESTAMP = 2**63 - 1
"""The latest time a cosignature can state, in POSIX seconds (C2SP tlog-cosignature, "Format")."""

_FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_SUBTREE_LABEL = b"subtree/v1\n\0"
_VERSION_1, _TREE_HASH = 0, 1  # RFC 6962 section 3.2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's head: `size` leaves whose RFC 6962 `root` is 32 bytes, in the log called `origin`.

    `extensions` are further lines that a log may add and nobody can audit. Some signatures cover them (types 01, 02
    and 04), others do not (06): rest nothing on them. A size is at most 2^63 - 1. Raises `FormatError` when built
    from anything that has no checkpoint text.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or "\n" in line:
                raise FormatError(
                    f"checkpoint: the origin and each extension is one line that is not empty, not {line!r}"
                )
            check_lines(line, "checkpoint")
        if not 0 <= self.size <= MAX_SIZE:
            raise FormatError(f"checkpoint: the size {self.size} is not between 0 and 2^63 - 1")
        if len(self.root) != HASH_SIZE:
            raise FormatError(f"checkpoint: a root is exactly {HASH_SIZE} bytes, this one has {len(self.root)}")

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """The checkpoint whose text, final newline included, is exactly `text`; `FormatError` if there is none."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise FormatError("checkpoint: expected origin, size and root, each on a line that ends in a newline")
        origin, size, root, *extensions, _ = lines
        return cls(
            origin, decimal(size, "checkpoint size", MAX_SIZE), from_base64(root, "checkpoint root"), tuple(extensions)
        )

    @property
    def text(self) -> str:
        """The note text: three lines and the extension lines, each ended by a newline."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, to_base64(self.root), *self.extensions))


def check_lines(text: str, what: str) -> None:
    """Refuse what no signed note may hold: ASCII control characters other than newline, and what UTF-8 cannot carry.

    Raises `FormatError` with a message that begins with `what`.
    """
    if found := _FORBIDDEN.search(text):
        kind = "control character" if found[0] < " " else "lone surrogate"
        raise FormatError(f"{what}: the {kind} U+{ord(found[0]):04X} is not allowed in a signed note")


def cosignature_message(text: str, timestamp: int) -> bytes:
    """What an Ed25519 cosignature (type 04) signs: two header lines and the whole checkpoint text, extensions included.

    `timestamp` is in POSIX seconds. Raises `FormatError` unless `text` is a checkpoint. C2SP tlog-cosignature,
    "Ed25519 signed message".
    """
    Checkpoint.parse(text)
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def subtree_message(text: str, cosigner: str, timestamp: int) -> bytes:
    """What an ML-DSA-44 cosignature (type 06) signs: a `cosigned_message` for the whole tree of the checkpoint `text`.

    It names the cosigner and leaves the extension lines out. `timestamp` is in POSIX seconds, 0 for no statement
    about time. Raises `FormatError` unless `text` is a checkpoint and both names have 1 to 255 bytes. C2SP
    tlog-cosignature, "ML-DSA-44 signed message".
    """
    checkpoint = Checkpoint.parse(text)
    start, end = 0, checkpoint.size
    return b"".join(
        (
            _SUBTREE_LABEL,
            _short_string(cosigner, "cosigner name"),
            struct.pack(">Q", timestamp),
            _short_string(checkpoint.origin, "checkpoint origin"),
            struct.pack(">QQ", start, end),
            checkpoint.root,
        )
    )


def tree_head_message(text: str, log: str, timestamp: int) -> bytes:
    """What a CT log's tree head signature (type 05) signs: a `TreeHeadSignature` of RFC 6962 section 3.5.

    `timestamp` is in POSIX milliseconds. The message says nothing of the origin or of extension lines, so
    `FormatError` is raised unless the checkpoint's origin is `log`, the name of the key, and it has no extension
    lines (C2SP static-ct-api).
    """
    checkpoint = Checkpoint.parse(text)
    if checkpoint.origin != log:
        raise FormatError(
            f"checkpoint: the tree head key of {log!r} signs for no other origin, such as {checkpoint.origin!r}"
        )
    if checkpoint.extensions:
        raise FormatError("checkpoint: a tree head signature does not cover extension lines, so there may be none")
    return struct.pack(">BBQQ", _VERSION_1, _TREE_HASH, timestamp, checkpoint.size) + checkpoint.root


def _short_string(text: str, what: str) -> bytes:
    """An `opaque<1..2^8-1>` of RFC 8446 section 3.4: one byte of length, then the text in UTF-8."""
    data = text.encode()
    if not 1 <= len(data) <= 255:
        raise FormatError(f"{what}: an ML-DSA-44 cosignature names it in 1 to 255 bytes, this one has {len(data)}")
    return bytes((len(data),)) + data
