"""One small log and the evidence of one of its entries, made with the real keys and the real functions."""

from dataclasses import dataclass, replace

from translog import canonical, merkle, note
from translog.checkpoint import Checkpoint
from translog.evidence import Delivery, Evidence, Leaf, Opening
from translog.note import SigningKey
from translog.policy import Policy
from translog.proof import TlogProof

ORIGIN = "example.com/log/acme"
LEAF_ID = "01913e0a-7c4b-7def-8abc-0123456789ab"

FACTS: dict[str, canonical.Value] = {
    "breaches": ["revoked_before"],
    "effect": "revoked",
    "event": "receipt.revoked",
    "provider": "acme",
    "received_at": "2026-11-20T09:00:00.120001Z",
    "scheme": "standard-webhooks",
    "secret": "secret-1",
    "source": "source-1",
    "test": False,
    "via": "webhook",
}

EVENT: dict[str, canonical.Value] = {
    "account": "7b1c",
    "amount": None,
    "details": {"receipt_type": "payment_receipt"},
    "extent": "full",
    "item": {"id": "3f0c", "type": "receipt"},
    "occurred_at": "2026-11-20T08:59:58.000000Z",
    "occurred_from": "revoked_at",
    "operation": "3f0c",
    "quantity": None,
    "reason": None,
}

DELIVERY = Delivery((("webhook-id", "msg_1"), ("webhook-signature", "v1,c2ln")), b'{"type":"receipt.revoked"}')

KEY = SigningKey(ORIGIN, note.Kind.ED25519, bytes(range(32)))
POLICY = Policy.of(KEY.verifying_key())
STRANGER = SigningKey("example.com/witness", note.Kind.ED25519, bytes(32))

EVENT_OPENING = Opening(canonical.encode(EVENT), b"e" * 32)
DELIVERY_OPENING = Opening(DELIVERY.encode(), b"d" * 32)

LEAF = Leaf(
    kind="revocation",
    id=LEAF_ID,
    logged_at="2026-11-20T09:00:00.123456Z",
    facts=FACTS,
    event=EVENT_OPENING.commitment("event"),
    delivery=DELIVERY_OPENING.commitment("delivery"),
)


@dataclass(frozen=True)
class Log:
    """A log of five entries, of which `entry` is the third: enough for a proof of three hashes."""

    entry: bytes

    INDEX = 2

    def _hashes(self) -> list[bytes]:
        return [merkle.leaf_hash(entry) for entry in (b"zero", b"one", self.entry, b"three", b"four")]

    def checkpoint(self, *keys: SigningKey) -> bytes:
        """The signed checkpoint, by the log's key unless others are given."""
        return note.sign(Checkpoint(ORIGIN, 5, merkle.root_from_leaves(self._hashes())).text, *(keys or (KEY,)))

    def proof(self) -> TlogProof:
        """The inclusion proof of `entry`, without `extra`."""
        zero, one, _, three, four = self._hashes()
        return TlogProof(self.INDEX, (three, merkle.node_hash(zero, one), four), self.checkpoint())


def evidence_file(evidence: Evidence) -> bytes:
    """The evidence file of `evidence`, whose entry the log has."""
    return replace(Log(evidence.entry).proof(), extra=evidence.encode()).encode()


EVIDENCE = Evidence(LEAF.encode(), EVENT_OPENING, DELIVERY_OPENING)
