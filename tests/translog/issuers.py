"""An issuer's log with one entry about the event of the samples, and the proof that comes along as evidence."""

from tests.translog.samples import EVIDENCE, KEY, evidence_file
from translog import merkle, note
from translog.canonical import Value, encode
from translog.checkpoint import Checkpoint
from translog.evidence import Evidence
from translog.note import SigningKey
from translog.policy import Policy
from translog.proof import TlogProof

ISSUER = SigningKey("issuer.example/log", note.Kind.ED25519, b"i" * 32)
ISSUER_VKEY = str(ISSUER.verifying_key())
ISSUER_POLICY = Policy.of(ISSUER_VKEY)

PLAIN: dict[str, Value] = {
    "account": "7b1c",
    "amount": None,
    "at": "2026-11-20T08:59:58.000000Z",
    "effect": "revoked",
    "event": "RECEIPT_REVOKE",
    "item": {"id": "3f0c", "type": "receipt"},
    "operation": "3f0c",
    "provider": "acme",
    "quantity": None,
}
"""What the issuer's log says of the event of the samples."""


def issuer_proof(entry: bytes, key: SigningKey = ISSUER, *, extra: bool = True) -> bytes:
    """The issuer's own proof: its log has `entry` at index 1 of 3."""
    before, leaf, behind = (merkle.leaf_hash(one) for one in (b"before", entry, b"behind"))
    root = merkle.root_from_leaves((before, leaf, behind))
    checkpoint = note.sign(Checkpoint(key.name, 3, root).text, key)
    return TlogProof(1, (before, behind), checkpoint, entry if extra else None).encode()


def plain(**changed: Value) -> bytes:
    """The plain entry with some members changed."""
    return encode({**PLAIN, **changed})


def vouched_for(entry: bytes, evidence: Evidence = EVIDENCE) -> bytes:
    """An evidence file with the issuer's proof of that entry."""
    return evidence_file(Evidence(evidence.entry, evidence.event, evidence.delivery, issuer_proof(entry)))


FORGER = SigningKey(ISSUER.name, note.Kind.ED25519, KEY.seed)
"""Has the name of the issuer's key."""
