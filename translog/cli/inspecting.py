"""`translog inspect`, what a file says of itself, and `translog keygen`, which makes the keys of logs."""

from collections.abc import Iterator

from translog import fork, proof
from translog.checkpoint import Checkpoint
from translog.cli.telling import UsageError, checkpoint_rows, leaf_rows, shortened, table
from translog.errors import FormatError
from translog.evidence import Evidence, Leaf
from translog.fork import Fork
from translog.note import Note, SigningKey, VerifyingKey
from translog.policy import Policy
from translog.proof import TlogProof

__all__ = ["inspect", "keygen"]

_UNVERIFIED = "Nothing was verified: all of this is what the file says of itself."

_POLICY_LINES = frozenset({b"log", b"witness", b"group", b"quorum"})


def keygen(name: str) -> str:
    """Two lines: a new Ed25519 log key for the origin `name`, and its vkey."""
    try:
        key = SigningKey.generate(name)
    except FormatError as error:
        raise UsageError(str(error)) from None
    return f"{key}\n{key.verifying_key()}"


def inspect(data: bytes) -> str:
    """What a proof, a fork's evidence, a note, a key or a policy says of itself. Raises `FormatError` for all else."""
    first_line, _, rest = data.partition(b"\n")
    if data.startswith(proof.HEADER.encode()):
        what, rows = "A tlog-proof", _proof_rows(TlogProof.parse(data))
    elif data.startswith(fork.HEADER.encode()):
        what, rows = "Evidence that a log forked", _fork_rows(Fork.parse(data))
    elif data.startswith(b"PRIVATE+KEY+"):
        secret = SigningKey.parse(first_line.decode(errors="replace"))
        what, rows = "A private key: keep it to yourself", _key_rows(secret.verifying_key())
    elif b"+" in first_line and not rest and not _has_policy_lines(data):
        what, rows = "A vkey", _key_rows(VerifyingKey.parse(first_line.decode(errors="replace")))
    else:
        what, rows = _note_or_policy(data)
    return f"{what}. {_UNVERIFIED}\n{table(rows)}"


def _note_or_policy(data: bytes) -> tuple[str, Iterator[tuple[str, str]]]:
    try:
        return "A signed note", _note_rows(Note.parse(data))
    except FormatError as error:
        if _has_policy_lines(data):
            return "A policy", _policy_rows(Policy.parse(data))
        raise FormatError(f"neither a tlog-proof nor a key, and as a signed note it fails: {error}") from None


def _has_policy_lines(data: bytes) -> bool:
    return any((words := line.split()) and words[0] in _POLICY_LINES for line in data.split(b"\n"))


_KIND_NAMES = {
    0x01: "01, Ed25519",
    0x02: "02, ECDSA P-256",
    0x04: "04, Ed25519 cosignature, of a witness",
    0x05: "05, RFC 6962 tree head, of a CT log",
    0x06: "06, ML-DSA-44 cosignature, of a log or a witness",
}


def _key_rows(key: VerifyingKey) -> Iterator[tuple[str, str]]:
    yield "name", key.name
    yield "key ID", f"{key.key_id:08x}"
    yield "type", _KIND_NAMES[key.kind]
    yield "vkey", str(key)


def _note_rows(note: Note) -> Iterator[tuple[str, str]]:
    try:
        yield from checkpoint_rows(Checkpoint.parse(note.text))
    except FormatError as error:
        yield "text", f"{len(note.text.encode())} bytes, not a checkpoint: {error}"
        for line in note.text.splitlines()[:20]:
            yield "", line
    for signature in note.signatures:
        yield "signed by", f"{signature.name}+{signature.key_id:08x}, {len(signature.blob)} bytes, not verified"


def _policy_rows(policy: Policy) -> Iterator[tuple[str, str]]:
    """Its lines in their canonical spelling, and of each key also its type."""
    keys = iter((*policy.log_lines, *policy.witnesses))
    for line in policy.text.splitlines():
        word, _, rest = line.partition(" ")
        yield word, rest
        if word in {"log", "witness"}:
            yield "", f"type {_KIND_NAMES[next(keys).key.kind]}"


def _fork_rows(evidence: Fork) -> Iterator[tuple[str, str]]:
    yield from _note_rows(Note.parse(evidence.smaller))
    yield from _note_rows(Note.parse(evidence.larger))
    yield "other root", f"{evidence.root.hex()}, of as many of the larger one's first entries as the smaller one has"
    yield "hashes", str(len(evidence.proof))


def _proof_rows(proof: TlogProof) -> Iterator[tuple[str, str]]:
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
    yield from leaf_rows(leaf)
    yield from _claimed_openings(leaf, evidence)


def _claimed_openings(leaf: Leaf, evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name, committed, opening in (
        ("event", leaf.event, evidence.event),
        ("delivery", leaf.delivery, evidence.delivery),
    ):
        if opening is not None:
            yield f"{name} data", f"{len(opening.data)} bytes, not verified"
        else:
            yield f"{name} data", "none" if committed is None else "withheld"
    yield from _claimed_issuer(evidence.issuer)


def _claimed_issuer(issuer: bytes | None) -> Iterator[tuple[str, str]]:
    yield "issuer proof", "none" if issuer is None else f"{len(issuer)} bytes, not checked"
    if issuer is None:
        return
    try:
        proof = TlogProof.parse(issuer)
    except FormatError:
        return
    checkpoint = proof.unverified_checkpoint()
    yield "issuer log", f"{checkpoint.origin}, index {proof.index} of {checkpoint.size}"
    if proof.extra is not None:
        yield "issuer entry", shortened(proof.extra)
