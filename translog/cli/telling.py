"""What the commands share: how a file is read, and how what is in it is told, in tables and sentences.

Whatever comes from a file or a server is told with its control characters escaped: what is being checked must not get
to write the verdict.
"""

import os
import stat
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from translog.canonical import Value, encode
from translog.errors import FormatError, TranslogError

if TYPE_CHECKING:
    from translog.checkpoint import Checkpoint
    from translog.evidence import Leaf

__all__ = [
    "MAX_FILE_SIZE",
    "ZIP",
    "UsageError",
    "checkpoint_rows",
    "drop_output",
    "is_bundle",
    "label",
    "leaf_rows",
    "paragraphs",
    "printable",
    "quoted",
    "read",
    "shortened",
    "table",
    "words",
]

MAX_FILE_SIZE = 16 * 2**20
"""Bytes of a file, the most that is read. The largest evidence, of a delivery of 256 KiB, has about 0.7 MB."""

ZIP = b"PK\3\4"
"""What an export bundle begins with."""

_LONGEST = 4000
"""Characters of a sentence, the most that are wrapped: the time that takes grows with the square of a long word."""

Rows = Iterable[tuple[str, str]]


class UsageError(Exception):
    """The command was called with something that it can never work with."""


def read(path: str) -> bytes:
    """The bytes of the file at `path`.

    Raises `TranslogError` if it cannot be read, and `FormatError` if it is larger than `MAX_FILE_SIZE`, or a ZIP: an
    export bundle is not read whole.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise TranslogError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if data.startswith(ZIP):
        raise FormatError(
            f"{path} is a ZIP. If it is an export bundle, `translog verify` reads it, from a file and not from a pipe: "
            "save it first"
        )
    if len(data) > MAX_FILE_SIZE:
        raise FormatError(f"{path} is larger than {MAX_FILE_SIZE // 2**20} MiB; no proof, note or key is")
    return data


def is_bundle(path: str) -> bool:
    """Whether there is a file at `path` that begins as an export bundle does. A pipe is none, and nothing is read."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return False
        with Path(path).open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return False


def printable(text: str) -> str:
    r"""`text` on one line, safe on a terminal: what is not printable becomes `\u{…}`, its code point in hex."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def shortened(data: bytes, limit: int = 1000) -> str:
    """`data` as text, of which at most `limit` characters; or what it is instead of text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes that are no text, in hex: {data[: limit // 2].hex()}{'…' * (len(data) > limit // 2)}"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(data)} bytes in all)"


def quoted(text: str, limit: int = 100) -> str:
    """What somebody else wrote, for a sentence: in quotes that it cannot end, and at most `limit` characters of it."""
    inner = text[:limit].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"' if len(text) <= limit else f'"{inner}…" ({len(text)} characters in all)'


def drop_output() -> None:
    """Let go of standard output, which cannot be written; or Python tries to write what is left of it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(rows: Rows) -> str:
    """A line for each label and its value."""
    return "\n".join(f"  {printable(name):<14}{printable(value)}" for name, value in rows)


def paragraphs(sentences: Iterable[str]) -> str:
    """A list of sentences, each wrapped at 100 columns; of one that is too long only the beginning."""
    return "\n".join(
        textwrap.fill(
            text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…",
            100,
            initial_indent="  - ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
        for text in map(printable, sentences)
    )


def label(name: str) -> str:
    """What a member of a record is called."""
    return {"first": "first event", "key": "API key"}.get(name, name.replace("_", " "))


def words(value: Value) -> str:
    """A value of canonical JSON, as plainly as it can be said."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(cast("list[str]", value))
    return encode(value).decode()


def checkpoint_rows(checkpoint: "Checkpoint") -> Iterator[tuple[str, str]]:
    """What a checkpoint says."""
    yield "log", checkpoint.origin
    yield "size", str(checkpoint.size)
    yield "root", checkpoint.root.hex()
    for line in checkpoint.extensions:
        yield "extension", line


def leaf_rows(leaf: "Leaf") -> Iterator[tuple[str, str]]:
    """The leaf's own members; the facts that matter most first, the others after them by name."""
    yield "record", f"{leaf.kind} {leaf.id}"
    first = (
        *("event", "effect", "outcome", "status", "provider", "source", "key", "attempt"),
        *("via", "scheme", "secret", "breaches", "test", "received_at"),
    )
    for name in (*(name for name in first if name in leaf.facts), *sorted(leaf.facts.keys() - set(first))):
        # What a call's outcome is found in need not be an event.
        yield "told by" if (leaf.kind, name) == ("attempt", "first") else label(name), words(leaf.facts[name])
    yield "logged at", leaf.logged_at
