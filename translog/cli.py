"""The `translog` command: what an auditor runs, offline, with nothing but this package and the log's key.

    translog keygen NAME                    a new log key: the private key, then the vkey to give to readers
    translog inspect FILE                   what is in a proof, a note or a key; verifies nothing and says so
    translog verify FILE --key VKEY         does this evidence hold, and what does it show

It exits with 0 if all is well, 1 if the file does not verify or cannot be read, and 2 if it was called wrongly.
Whatever comes from a file is printed with its control characters escaped: what is being checked must not get to write
the verdict.
"""

import argparse
import io
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from translog.errors import FormatError, TranslogError

if TYPE_CHECKING:
    from translog.canonical import Value
    from translog.checkpoint import Checkpoint
    from translog.evidence import Evidence, Leaf, Verified
    from translog.note import Note, VerifyingKey
    from translog.proof import TlogProof

__all__ = ["main", "printable"]

MAX_FILE_SIZE = 16 * 2**20
"""Bytes of a file, the most that is read. The largest evidence, of a delivery of 256 KiB, has about 0.7 MB."""

Rows = Iterable[tuple[str, str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Called wrongly, it raises `SystemExit(2)` after saying how it is called."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name the terminal cannot show must not end the report
    command = cast("str", arguments.command)
    try:
        if command == "keygen":
            output = keygen(arguments.name)
        elif command == "inspect":
            output = inspect(_read(arguments.file))
        else:
            output = verify(_read(arguments.file), arguments.key)
    except _UsageError as error:
        parser.error(printable(str(error)))
    except TranslogError as error:
        print(f"translog {command}: {printable(str(error))}", file=sys.stderr)
        if command == "verify":
            print("translog verify: NOT VERIFIED", file=sys.stderr)
        return 1
    try:
        print(output, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more at its end
        if not isinstance(error, BrokenPipeError):  # `translog verify … | head`: what was read of it stands
            print(f"translog {command}: the report cannot be written: {error.strerror}", file=sys.stderr)
            return 1
    return 0


class _UsageError(Exception):
    """The command was called with something that it can never work with."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="translog", description="Keys, proofs and checkpoints of transparency logs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    keygen_ = commands.add_parser("keygen", help="make a log key: prints the private key, then the vkey")
    keygen_.add_argument("name", metavar="NAME", help="the log's origin, such as example.com/log/acme")
    inspect_ = commands.add_parser("inspect", help="say what is in a file, without verifying anything")
    inspect_.add_argument("file", metavar="FILE", help="a .tlog-proof, a checkpoint or another signed note, or a key")
    verify_ = commands.add_parser("verify", help="verify evidence offline, and say what it shows")
    verify_.add_argument("file", metavar="FILE", help="a .tlog-proof file")
    verify_.add_argument(
        "--key",
        metavar="VKEY",
        action="append",
        required=True,
        help="the log's vkey, which you were given by other means than this file; repeat it to accept several logs",
    )
    return parser


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise TranslogError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_FILE_SIZE:
        raise FormatError(f"{path} is larger than {MAX_FILE_SIZE // 2**20} MiB; no proof, note or key is")
    return data


def printable(text: str) -> str:
    r"""`text` on one line, safe on a terminal: what is not printable becomes `\u{…}`, its code point in hex."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def _table(rows: Rows) -> str:
    return "\n".join(f"  {printable(label):<14}{printable(value)}" for label, value in rows)


def _paragraphs(sentences: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(printable(sentence), 100, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
        for sentence in sentences
    )


# --- keygen ---


def keygen(name: str) -> str:
    """Two lines: a new Ed25519 log key for the origin `name`, and its vkey."""
    from translog.note import SigningKey

    try:
        key = SigningKey.generate(name)
    except FormatError as error:
        raise _UsageError(str(error)) from None
    return f"{key}\n{key.verifying_key()}"


# --- inspect ---

_UNVERIFIED = "Nothing was verified: all of this is what the file says of itself."


def inspect(data: bytes) -> str:
    """What a proof, a note or a key says of itself. Raises `FormatError` for what is none of them."""
    from translog.note import Note, SigningKey, VerifyingKey
    from translog.proof import HEADER, TlogProof

    first_line, _, rest = data.partition(b"\n")
    if data.startswith(HEADER.encode()):
        what, rows = "A tlog-proof", _proof_rows(TlogProof.parse(data))
    elif data.startswith(b"PRIVATE+KEY+"):
        secret = SigningKey.parse(first_line.decode(errors="replace"))
        what, rows = "A private key: keep it to yourself", _key_rows(secret.verifying_key())
    elif b"+" in first_line and not rest:
        what, rows = "A vkey", _key_rows(VerifyingKey.parse(first_line.decode(errors="replace")))
    else:
        try:
            what, rows = "A signed note", _note_rows(Note.parse(data))
        except FormatError as error:
            raise FormatError(f"neither a tlog-proof nor a key, and as a signed note it fails: {error}") from None
    return f"{what}. {_UNVERIFIED}\n{_table(rows)}"


_KIND_NAMES = {
    0x01: "01, Ed25519",
    0x02: "02, ECDSA P-256",
    0x04: "04, Ed25519 cosignature, of a witness",
    0x05: "05, RFC 6962 tree head, of a CT log",
    0x06: "06, ML-DSA-44 cosignature, of a log or a witness",
}


def _key_rows(key: "VerifyingKey") -> Iterator[tuple[str, str]]:
    yield "name", key.name
    yield "key ID", f"{key.key_id:08x}"
    yield "type", _KIND_NAMES[key.kind]
    yield "vkey", str(key)


def _note_rows(note: "Note") -> Iterator[tuple[str, str]]:
    from translog.checkpoint import Checkpoint

    try:
        yield from _checkpoint_rows(Checkpoint.parse(note.text))
    except FormatError as error:
        yield "text", f"{len(note.text.encode())} bytes, not a checkpoint: {error}"
        for line in note.text.splitlines()[:20]:
            yield "", line
    for signature in note.signatures:
        yield "signed by", f"{signature.name}+{signature.key_id:08x}, {len(signature.blob)} bytes, not verified"


def _checkpoint_rows(checkpoint: "Checkpoint") -> Iterator[tuple[str, str]]:
    yield "log", checkpoint.origin
    yield "size", str(checkpoint.size)
    yield "root", checkpoint.root.hex()
    for line in checkpoint.extensions:
        yield "extension", line


def _proof_rows(proof: "TlogProof") -> Iterator[tuple[str, str]]:
    from translog.evidence import Evidence, Leaf
    from translog.note import Note

    yield "index", str(proof.index)
    yield "hashes", str(len(proof.hashes))
    yield from _note_rows(Note.parse(proof.checkpoint))
    if proof.extra is None:
        yield "extra", "none: the file does not say which entry it proves"
        return
    try:
        evidence = Evidence.parse(proof.extra)
        leaf = Leaf.parse(evidence.entry)
    except FormatError as error:
        yield "extra", f"{len(proof.extra)} bytes that are no evidence known here: {error}"
        return
    yield from _leaf_rows(leaf)
    yield from _claimed_openings(leaf, evidence)


def _claimed_openings(leaf: "Leaf", evidence: "Evidence") -> Iterator[tuple[str, str]]:
    for label, committed, opening in (
        ("event", leaf.event, evidence.event),
        ("delivery", leaf.delivery, evidence.delivery),
    ):
        if opening is not None:
            yield f"{label} data", f"{len(opening.data)} bytes, not verified"
        else:
            yield f"{label} data", "none" if committed is None else "withheld"
    yield "issuer proof", "none" if evidence.issuer is None else f"{len(evidence.issuer)} bytes, not checked"


# --- verify ---


def verify(data: bytes, vkeys: Sequence[str]) -> str:
    """What the evidence in `data` shows under the log keys `vkeys`, and what not. Raises as `evidence.verify` does."""
    from translog import evidence
    from translog.policy import Policy

    try:
        policy = Policy.of(*vkeys)
    except FormatError as error:
        raise _UsageError(f"--key: {error}") from None
    verified = evidence.verify(data, policy)
    return "\n".join(
        (
            "VERIFIED: this record is in the log, unchanged.",
            "",
            "The log:",
            _table((*_checkpoint_rows(verified.checkpoint), ("index", str(verified.index)))),
            "The record, as it was logged:",
            _table(_leaf_rows(verified.leaf)),
            "What came with it:",
            _table((*_event_rows(verified), *_delivery_rows(verified), *_issuer_rows(verified))),
            "",
            "What this shows:",
            _paragraphs(_shown(verified)),
            "",
            "What this does not show:",
            _paragraphs(_not_shown(verified)),
        )
    )


def _leaf_rows(leaf: "Leaf") -> Iterator[tuple[str, str]]:
    """The leaf's own members; the facts that matter most first, the others after them by name."""
    yield "record", f"{leaf.kind} {leaf.id}"
    first = (
        *("event", "effect", "outcome", "status", "provider", "source", "key", "attempt"),
        *("via", "scheme", "secret", "breaches", "test", "received_at"),
    )
    for name in (*(name for name in first if name in leaf.facts), *sorted(leaf.facts.keys() - set(first))):
        # What a call's outcome is found in need not be an event.
        yield "told by" if (leaf.kind, name) == ("attempt", "first") else _label(name), _value(leaf.facts[name])
    yield "logged at", leaf.logged_at


def _event_rows(verified: "Verified") -> Iterator[tuple[str, str]]:
    if verified.event is None:
        state = "withheld" if "event" in verified.withheld else "none: a record of this kind names no item"
        yield "item", state
        return
    members = dict(verified.event)
    match members.pop("item", None):
        case {"type": str(kind), "id": str(id_), **rest} if not rest:
            yield "item", f"{kind} {id_}"
        case other:
            yield "item", _value(other)
    for name in sorted(members):
        yield _label(name), _value(members[name])


def _delivery_rows(verified: "Verified") -> Iterator[tuple[str, str]]:
    import hashlib

    if verified.delivery is None:
        yield "delivery", "withheld" if "delivery" in verified.withheld else "none"
        return
    body = verified.delivery.body
    yield "delivery", f"opened: a body of {len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}"
    for name, value in verified.delivery.headers:
        yield "", f"{name}: {value}"


def _issuer_rows(verified: "Verified") -> Iterator[tuple[str, str]]:
    yield "issuer proof", "none" if verified.issuer is None else "attached; not checked: that takes the issuer's key"


def _label(name: str) -> str:
    return {"first": "first event", "key": "API key"}.get(name, name.replace("_", " "))


def _value(value: "Value") -> str:
    from translog.canonical import encode

    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(cast("list[str]", value))
    return encode(value).decode()


def _shown(verified: "Verified") -> Iterator[str]:
    log, opened = (
        verified.checkpoint.origin,
        [name for name, shown in (("event", verified.event), ("delivery", verified.delivery)) if shown is not None],
    )
    yield (
        f"The log {log} signed a checkpoint of {verified.checkpoint.size} entries, and this record is its entry "
        f"{verified.index}. It can no longer be changed, or left out of an export, without being found out."
    )
    if opened:
        yield f"What is shown as {' and '.join(opened)} is, byte for byte, what the log committed to."


_HOW_IT_CAME = {
    "relay": "The operator made the call itself and recorded the answer: the provider signed nothing of it.",
    "poll": "The operator asked the provider and recorded the answer: the provider signed nothing of it.",
    "declared": "The notice was made by the operator's own systems, not by the provider.",
}


_UPSTREAM = "upstream"
"""The scheme of what nobody sent: the operator asked the provider, and was answered."""


def _not_shown(verified: "Verified") -> Iterator[str]:
    facts = verified.leaf.facts
    scheme, via = facts.get("scheme"), facts.get("via")
    if facts.get("test") is True:
        yield "That anything was taken back: this comes from a test source."
    yield from _no_event(verified.leaf)
    if isinstance(scheme, str) and scheme.endswith("/v1a"):
        yield (
            f"That the provider signed the notice. The operator recorded that its signature ({scheme}) verified; "
            "that was not checked again here. With the delivery opened and the provider's public key anyone can."
        )
    elif isinstance(scheme, str) and scheme != _UPSTREAM:
        yield (
            f"Who made the notice. It was authenticated by a secret that provider and operator share ({scheme}): "
            "that convinces the operator alone, for whoever knows the secret can make such a notice."
        )
    if isinstance(via, str) and via in _HOW_IT_CAME:
        yield f"Who made the notice. {_HOW_IT_CAME[via]}"
    if "attempt" in facts:
        yield (
            f"What the call asked for. The operator recorded that as the attempt {_value(facts['attempt'])}: the "
            "evidence of that id shows it, and when it was logged."
        )
    if via == "poll":
        yield "That it was this call that did it: the provider's record says what was done, and may not say by whom."
    if "reprocessed" in facts:
        yield (
            f"When the delivery came. The operator recorded that it had been in quarantine, as "
            f"{_value(facts['reprocessed'])}, and was read again for this record. The evidence of that id shows when "
            "it was logged first."
        )
    for name in verified.withheld:
        yield f"The {name}: it is withheld. The log commits to it, and its owner can show it later."
    if verified.issuer is not None:
        yield "What the issuer's log says: its proof is attached, but was not checked."
    yield (
        "That this is the log everyone sees. Without witnesses an operator could show two auditors two logs, or "
        "backdate: compare the size and the root above with what others were given."
    )
    yield (
        "That nothing was left out before it was logged. Only the acknowledgement, the issuer's log and the "
        "provider's own records reveal that."
    )
    yield (
        "Whose log this is. That rests on the key you gave: it must have come from the log's operator by other means "
        "than this file."
    )


def _no_event(leaf: "Leaf") -> Iterator[str]:
    """What is not shown by what was kept, and is no event."""
    if leaf.kind == "attempt":
        yield _of_a_call(leaf.facts)
        yield "Who says so, but for the operator: the provider signed nothing of it."
        return
    if leaf.kind == "mismatch":
        yield (
            f"That anything was taken back. The operator recorded that this delivery has other content than one of the "
            f"same notice before it, the event {_value(leaf.facts.get('first'))}. What was recorded first stands."
        )
    elif leaf.kind == "quarantine":
        yield (
            f"That anything was taken back. The delivery was not taken for an event when it came "
            f"({_value(leaf.facts.get('reason'))}), and was kept as it was."
        )
    else:
        return
    if "attempt" in leaf.facts:
        yield "Who made it. The operator asked the provider and recorded the answer: the provider signed nothing of it."
    elif "scheme" not in leaf.facts:
        yield "Who made the delivery, and how it was authenticated: a record of this kind does not say."


def _of_a_call(facts: "dict[str, Value]") -> str:
    """What is not shown by the intent of a call that was passed on, or by an answer to it that is no event."""
    told = f"the record {_value(facts.get('first'))}"
    match facts.get("outcome"):
        case None:
            return (
                "That anything was taken back, or that the provider was called at all. The operator recorded this "
                "before it made the call; what became of that is in another record."
            )
        case "refused":
            said = f"the provider refused the call, with the status {_value(facts.get('status'))}"
        case "not_sent":
            said = "nothing of the call has reached the provider"
        case "not_done":
            said = "the call had no effect, by the provider's own record when it was asked"
        case "duplicate":
            said = f"the call was answered as an earlier one had been, of which {told} tells"
        case "repeated":
            said = f"the call was made again with the same idempotency key, and that {told} tells of both"
        case other:
            said = f"this became of the call: {_value(other)}"
    return f"That this call took anything back. The operator recorded that {said}."
