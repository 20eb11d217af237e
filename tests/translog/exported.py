"""A log to export: its keys, its entries with what they open to, and every proof of it, straight from the definitions.

`story()` has an entry of everything that matters to an export; each was logged a minute after the one before it. Its
keys are at hand, so whatever a test changes can be signed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.translog import reference
from translog import canonical, merkle, note
from translog.canonical import Value
from translog.checkpoint import Checkpoint
from translog.evidence import Delivery, Evidence, Leaf, Opening
from translog.note import SigningKey
from translog.proof import TlogProof

ORIGIN = "example.com/log/acme"
KEY = SigningKey(ORIGIN, note.Kind.ED25519, bytes(range(32)))
EXPORTS_KEY = SigningKey(f"{ORIGIN}/exports", note.Kind.ED25519, bytes(range(1, 33)))
OTHER_KEY = SigningKey("example.com/log/other", note.Kind.ED25519, bytes(range(2, 34)))
VKEY = str(KEY.verifying_key())

BASE = datetime(2026, 7, 1, 12, tzinfo=UTC)
SINCE, UNTIL = 4, 17
"""The indexes whose times are the edges of the period of `story()`."""
ENTRY = 20
"""The index of its export entry, unless it is made for another question."""
SIZE = 23
"""Of the checkpoint that covers it."""


def at(minutes: float) -> str:
    """The time of the entry at that index, or so long after it."""
    moment = BASE + timedelta(minutes=minutes)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def uuid(number: int) -> str:
    """The id of the entry at that index."""
    return f"01913e0a-7c4b-7def-8abc-{number:012x}"


@dataclass
class Entry:
    """A leaf's bytes, and what they open to, erased or not."""

    data: bytes
    event: Opening | None = None
    delivery: Opening | None = None

    @property
    def leaf(self) -> Leaf:
        """What it says."""
        return Leaf.parse(self.data)


@dataclass
class Log:
    """All entries that there are by now, and the key that signs their root."""

    entries: list[Entry] = field(default_factory=list[Entry])
    key: SigningKey = KEY

    def add(
        self,
        kind: str,
        facts: dict[str, Value],
        *,
        event: dict[str, Value] | None = None,
        body: bytes | None = None,
        minutes: float | None = None,
    ) -> int:
        """Append an entry, with the openings of `event` and of a delivery of that body; its index."""
        index = len(self.entries)
        opened = None if event is None else Opening(canonical.encode(event), bytes((index % 256,)) * 32)
        headers = (("webhook-id", f"msg_{index}"), ("webhook-signature", "v1,c2ln"))
        delivery = None if body is None else Opening(Delivery(headers, body).encode(), bytes((index % 256, 1)) * 16)
        leaf = Leaf(
            kind=kind,
            id=uuid(index),
            logged_at=at(index if minutes is None else minutes),
            facts=facts,
            event=None if opened is None else opened.commitment("event"),
            delivery=None if delivery is None else delivery.commitment("delivery"),
        )
        self.entries.append(Entry(leaf.encode(), opened, delivery))
        return index

    def leaves(self, start: int, end: int) -> list[Leaf]:
        """What the entries [start, end) say."""
        return [entry.leaf for entry in self.entries[start:end]]

    def root(self, size: int) -> bytes:
        """Of the first entries."""
        return reference.mth(tuple(entry.data for entry in self.entries[:size]))

    def checkpoint(self, size: int) -> bytes:
        """Signed, of that size."""
        return note.sign(Checkpoint(self.key.name, size, self.root(size)).text, self.key)

    def read(self, nodes: Sequence[merkle.Node]) -> list[bytes]:
        """The hashes that proofs are made of."""
        return [
            reference.mth(tuple(e.data for e in self.entries[node.index << node.level : node.index + 1 << node.level]))
            for node in nodes
        ]

    def evidence(self, index: int, size: int) -> bytes:
        """The tlog-proof of an entry, with nothing opened."""
        entry = self.entries[index].data
        hashes = tuple(merkle.inclusion_proof(index, size, self.read))
        return TlogProof(index, hashes, self.checkpoint(size), Evidence(entry).encode()).encode()


def facts(provider: str = "acme", effect: str | None = "revoked", **others: Value) -> dict[str, Value]:
    """What a leaf says of a delivery."""
    return {
        "breaches": [],
        "effect": effect,
        "event": "receipt.revoked",
        "provider": provider,
        "received_at": at(0),
        "scheme": "standard-webhooks",
        "secret": "secret-1",
        "source": f"source-{provider}",
        "test": False,
        "via": "webhook",
        **others,
    }


def data(item: str, /, **others: Value) -> dict[str, Value]:
    """What an event's leaf commits to as `event`."""
    return {
        "account": "7b1c",
        "amount": None,
        "details": {},
        "extent": "full",
        "item": {"id": item, "type": "receipt"},
        "occurred_at": at(3.5),
        "occurred_from": "revoked_at",
        "operation": item,
        "quantity": None,
        "reason": None,
        **others,
    }


def _tally(log: Log, source: str, start: str, **counts: int) -> None:
    numbers: dict[str, Value] = dict.fromkeys(("duplicate", "ignored", "mismatch", "quarantined", "recorded"), 0)
    numbers |= counts
    refused: dict[str, Value] = {"wrong_signature": 2}
    total = sum(number for number in numbers.values() if isinstance(number, int)) + 2
    log.add(
        "tally",
        {
            "counts": {**numbers, "deliveries": total, "refused": refused},
            "from": start,
            "incomplete": False,
            "process": "process-1",
            "source": source,
            "until": at(len(log.entries)),
        },
    )


def question(
    since: str = at(SINCE),
    until: str = at(UNTIL),
    basis: str = "logged",
    providers: list[Value] | None = None,
    *,
    tests: bool = False,
    parquet: bool = False,
) -> dict[str, Value]:
    """The facts of an export entry."""
    return {
        "basis": basis,
        "by": "command",
        "parquet": parquet,
        "providers": providers,
        "since": since,
        "tests": tests,
        "until": until,
    }


def story(asked: dict[str, Value] | None = None) -> Log:
    """The log; `asked` are the facts of its export entry, and `question()` unless given."""
    log = Log()
    log.add("tenant", {"action": "created", "by": "command", "id": "acme"})
    log.add("source", {"action": "added", "by": "command", "id": "source-acme"})
    announced = {"action": "announced", "by": "command", "id": "exports", "purpose": "exports"}
    log.add("key", {**announced, "vkey": str(EXPORTS_KEY.verifying_key())})
    log.add("revocation", facts(), event=data("before"), body=b"{}")
    log.add("revocation", facts(breaches=["revoked_before"], received_at=at(3.9)), event=data("r4"), body=b'{"r":4}')
    _tally(log, "source-acme", at(1), recorded=3, duplicate=1)
    odd: dict[str, Value] = {
        "amount": "-5,00",
        "reason": 'say "hi",\r\n=1',
        "details": {"b": 1, "a": ["\t", None], "name": "J\u00fcrgen"},
        "occurred_at": at(99),
    }
    log.add(
        "revocation",
        facts("globex", "reversed", received_at=at(5)),
        event=data("=6", **odd),
        body=b'{"r":6,"x":"\xff"}',
    )
    undated = data("r7", occurred_at=None, occurred_from=None, item=None)
    log.add("context", facts("globex", None, received_at=at(6)), event=undated, body=b"")
    log.add("revocation", facts(test=True, received_at=at(7)), event=data("test"), body=b"{}")
    received: dict[str, Value] = {"provider": "acme", "received_at": at(8), "source": "source-acme"}
    log.add("mismatch", {**received, "first": uuid(4)}, body=b'{"r":5}')
    log.add("quarantine", {**received, "reason": "not_json", "test": False}, body=b"{")
    _cross_check(log, 4, "confirmed", "pending")
    log.add("revocation", facts(received_at=at(11)), event=data("gone", occurred_at=at(11)), body=b"personal")
    log.add("revocation", facts("initech", received_at=at(12)), event=data("r13", occurred_at=at(12)), body=b"personal")
    call: dict[str, Value] = {"attempt": uuid(1), "first": None, "outcome": "refused", "status": 409}
    refused: dict[str, Value] = {"effect": "refused", "event": "POST /revoke", "test": False}
    log.add("attempt", {**received, **call, **refused, "received_at": at(13)}, event=data("r14"), body=b"no")
    _erasure(log, "all", 12)
    _erasure(log, "delivery", 13)
    log.add("revocation", facts(received_at=at(16)), event=data("late", occurred_at=at(15)), body=b'{"late":1}')
    _cross_check(log, 6, "contradicted", "pending")
    _tally(log, "source-acme", at(5), recorded=1)
    log.add("export", question() if asked is None else asked)
    _erasure(log, "delivery", 7)
    _cross_check(log, 17, "absent", "pending")
    _cross_check(log, 4, "contradicted", "confirmed")
    _erasure(log, "all", 14)
    return log


def _cross_check(log: Log, first: int, state: str, was: str) -> None:
    by: dict[str, Value] = {"by": "issuer_log", "late": False, "provider": "acme", "source": "source-acme"}
    log.add("cross_check", {**by, "first": uuid(first), "state": state, "was": was}, event={})


def _erasure(log: Log, state: str, *indexes: int) -> None:
    ids: list[Value] = [uuid(index) for index in indexes]
    log.add(
        "erasure", {"by": "command", "erasure": "erasure-1", "ids": ids, "state": state, "target": "event"}, event={}
    )
