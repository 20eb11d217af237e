"""Evidence: one entry of the log, all that is needed to check it offline, and what its owner chose to show of it.

A leaf of the log is public, so it holds only what is never personal, and two commitments:

    {"delivery":"<hex>","event":"<hex>","facts":{…},"id":"<uuid>","kind":"revocation","logged_at":"…","v":1}

    facts      who received what kind of notice when, and how it was authenticated: a closed list for each kind of leaf
    event      commitment to the event's own data: which item, which account, how much, why
    delivery   commitment to the delivery as it came: the raw body, and the headers that authenticate it

An *opening* is committed data with its salt. Evidence is a tlog-proof (`translog.proof`) whose `extra` holds the leaf
and the openings that are shown; one that is not shown is *withheld*. Nothing vouches for `extra` itself: the leaf in
it counts because the proof leads from it to a signed root, and an opening because it gives the commitment in that
leaf. So whoever passes evidence on may take openings out, but can add none and change none. The issuer's own proof may
come along; it stands on the issuer's signature alone, and is looked at only under a policy for the issuer's log
(`translog.issuer`).
"""

import re
from dataclasses import dataclass
from datetime import datetime

from translog.canonical import SALT_SIZE, Value, commitment, decode, encode, from_base64, to_base64
from translog.checkpoint import Checkpoint
from translog.errors import EvidenceError, FormatError, ProofError, SignatureError
from translog.issuer import IssuerEntry, vouched
from translog.policy import Policy
from translog.proof import TlogProof

__all__ = ["LEAF_VERSION", "MAX_LEAF_SIZE", "Delivery", "Evidence", "Leaf", "Opening", "Verified", "verify"]

MAX_LEAF_SIZE = 65_535
"""Bytes of a leaf: what the 16-bit length in an entry bundle can state (C2SP tlog-tiles)."""

LEAF_VERSION = 1
_LEAF = frozenset({"v", "kind", "id", "logged_at", "facts", "event", "delivery"})
_EVIDENCE = frozenset({"entry", "event", "delivery", "issuer"})
_OPENING = frozenset({"data", "salt"})
_DELIVERY = frozenset({"headers", "body"})

_KIND = re.compile("[a-z]+(_[a-z]+)*")
_UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z")
_COMMITMENT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry of the log.

    `kind` is a lowercase word such as `revocation`; `id` a UUID of version 7; `logged_at` a time in UTC with six
    fraction digits and `Z`, which never falls from leaf to leaf; `facts` what canonical JSON can hold; `event` and
    `delivery` commitments of 64 hex digits, None where a kind has none. Raises `FormatError` when built of anything
    else.
    """

    kind: str
    id: str
    logged_at: str
    facts: dict[str, Value]
    event: str | None
    delivery: str | None

    def __post_init__(self) -> None:
        _match(_KIND, self.kind, "kind")
        _match(_UUID7, self.id, "id")
        _match(_TIME, self.logged_at, "logged_at")
        try:
            datetime.fromisoformat(self.logged_at)
        except ValueError as error:
            raise FormatError(f"leaf: logged_at {self.logged_at} is no time: {error}") from None
        for name, value in (("event", self.event), ("delivery", self.delivery)):
            if value is not None:
                _match(_COMMITMENT, value, name)

    @classmethod
    def parse(cls, data: bytes) -> "Leaf":
        """The leaf whose encoding is exactly `data`; `FormatError` if there is none."""
        if len(data) > MAX_LEAF_SIZE:
            raise FormatError(f"leaf: {len(data)} bytes, at most {MAX_LEAF_SIZE} are allowed")
        members = _members(decode(data), "leaf", _LEAF)
        if type(members["v"]) is not int or members["v"] != LEAF_VERSION:  # True equals 1
            raise FormatError(
                f"leaf: version {members['v']!a} is not known here, only {LEAF_VERSION}; a newer translog may know it"
            )
        return cls(
            kind=_text(members, "kind", "leaf"),
            id=_text(members, "id", "leaf"),
            logged_at=_text(members, "logged_at", "leaf"),
            facts=_object(members["facts"], "leaf facts"),
            event=None if members["event"] is None else _text(members, "event", "leaf"),
            delivery=None if members["delivery"] is None else _text(members, "delivery", "leaf"),
        )

    def encode(self) -> bytes:
        """The entry as it is logged. Raises `FormatError` above `MAX_LEAF_SIZE` and as `canonical.encode` does."""
        data = encode(
            {
                "v": LEAF_VERSION,
                "kind": self.kind,
                "id": self.id,
                "logged_at": self.logged_at,
                "facts": self.facts,
                "event": self.event,
                "delivery": self.delivery,
            }
        )
        if len(data) > MAX_LEAF_SIZE:
            raise FormatError(f"leaf: {len(data)} bytes, at most {MAX_LEAF_SIZE} are allowed")
        return data


@dataclass(frozen=True, slots=True)
class Opening:
    """Committed data with the salt of 32 bytes that, together, give the commitment again."""

    data: bytes
    salt: bytes

    def __post_init__(self) -> None:
        if len(self.salt) != SALT_SIZE:
            raise FormatError(f"opening: a salt is exactly {SALT_SIZE} bytes, this one has {len(self.salt)}")

    def commitment(self, label: str) -> str:
        """What a leaf holds for this opening under `label`, `event` or `delivery`: 64 lowercase hex digits."""
        return commitment(self.salt, label, self.data)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What `delivery` commits to: the raw body, and the headers that authenticate it, never a static token.

    `headers` are pairs of a lowercase ASCII name, each given once, and a value; they are kept sorted. Raises
    `FormatError` for other names.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __post_init__(self) -> None:
        names = [name for name, _ in self.headers]
        if len(set(names)) < len(names):
            raise FormatError(f"delivery: a header is given more than once in {names!a}")
        for name in names:
            if not name or name != name.lower():
                raise FormatError(f"delivery: the header name {name!a} is not in lower case")
        object.__setattr__(self, "headers", tuple(sorted(self.headers)))

    @classmethod
    def parse(cls, data: bytes) -> "Delivery":
        """The delivery whose encoding is exactly `data`; `FormatError` if there is none."""
        members = _members(decode(data), "delivery", _DELIVERY)
        body = from_base64(_text(members, "body", "delivery"), "delivery body")
        headers = _object(members["headers"], "delivery headers")
        return cls(tuple((name, _text(headers, name, "delivery headers")) for name in headers), body)

    def encode(self) -> bytes:
        """Canonical JSON, the body in base64: the data that is committed to."""
        return encode({"headers": dict(self.headers), "body": to_base64(self.body)})


@dataclass(frozen=True, slots=True)
class Evidence:
    """The `extra` of a tlog-proof: the logged bytes, the openings shown, and the issuer's own proof, if there is one.

    None says that an opening is withheld, or that there is nothing to open; which of the two, the leaf tells.
    """

    entry: bytes
    event: Opening | None = None
    delivery: Opening | None = None
    issuer: bytes | None = None

    @classmethod
    def parse(cls, extra: bytes) -> "Evidence":
        """The evidence whose encoding is exactly `extra`, not verified; `FormatError` if there is none."""
        members = _members(decode(extra), "evidence", _EVIDENCE)
        return cls(
            entry=_bytes(members, "entry", "evidence"),
            event=_opening(members["event"], "event"),
            delivery=_opening(members["delivery"], "delivery"),
            issuer=None if members["issuer"] is None else _bytes(members, "issuer", "evidence"),
        )

    def encode(self) -> bytes:
        """Canonical JSON, all bytes in base64."""
        return encode(
            {
                "entry": to_base64(self.entry),
                "event": _opened(self.event),
                "delivery": _opened(self.delivery),
                "issuer": None if self.issuer is None else to_base64(self.issuer),
            }
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """What a piece of evidence shows: `leaf` is entry `index` of the log of `checkpoint`.

    `event` and `delivery` are what was opened, and give the commitments in the leaf; None if not shown. `issuer` is
    what came as the issuer's own proof, verbatim, and `issuer_checked` what that was found to show; None if there was
    no policy to verify it under.
    """

    leaf: Leaf
    checkpoint: Checkpoint
    index: int
    event: dict[str, Value] | None
    delivery: Delivery | None
    issuer: bytes | None
    issuer_checked: IssuerEntry | None = None

    @property
    def withheld(self) -> tuple[str, ...]:
        """Those of `event` and `delivery` that the leaf commits to and the evidence does not show."""
        pairs = (("event", self.leaf.event, self.event), ("delivery", self.leaf.delivery, self.delivery))
        return tuple(name for name, committed, shown in pairs if committed is not None and shown is None)


def verify(data: bytes, policy: Policy, issuer_policy: Policy | None = None) -> Verified:
    """Verify an evidence file: a tlog-proof whose `extra` is evidence.

    The checkpoint is signed by a log that `policy` accepts; the entry is in that log; it is a leaf; and each opening
    gives the leaf's commitment and is what its label says. Raises `FormatError` for a file that is no evidence, and
    for what fails in that order `SignatureError`, `ProofError` and `EvidenceError`.

    With a policy for the issuer's log there must be a proof of the issuer's own, which is verified under it, and
    compared with the event if that is opened. Raises `EvidenceError` if there is none, or it does not hold, or is
    about something else.
    """
    proof = TlogProof.parse(data)
    if proof.extra is None:
        raise FormatError("evidence: this tlog-proof has no extra line, so it does not say which entry it proves")
    evidence = Evidence.parse(proof.extra)
    checkpoint = proof.verify(evidence.entry, policy)
    try:
        leaf = Leaf.parse(evidence.entry)
    except FormatError as error:
        raise EvidenceError(
            f"evidence: the entry is in the log, but it is no leaf of the kind known here: {error}"
        ) from error
    _check_opening("event", leaf.event, evidence.event)
    _check_opening("delivery", leaf.delivery, evidence.delivery)
    try:
        event = None if evidence.event is None else _object(decode(evidence.event.data), "event")
        delivery = None if evidence.delivery is None else Delivery.parse(evidence.delivery.data)
    except FormatError as error:
        raise EvidenceError(f"evidence: what was committed to is not what it should be: {error}") from error
    checked = None if issuer_policy is None else _check_issuer(evidence.issuer, issuer_policy, leaf, event)
    return Verified(leaf, checkpoint, proof.index, event, delivery, evidence.issuer, checked)


def _check_opening(label: str, committed: str | None, opening: Opening | None) -> None:
    if opening is None:
        return
    if committed is None:
        raise EvidenceError(f"evidence: it opens the {label}, but the leaf commits to none")
    if (shown := opening.commitment(label)) != committed:
        raise EvidenceError(
            f"evidence: the {label} shown is not the one logged; its commitment is {shown}, the leaf has {committed}"
        )


def _check_issuer(proof: bytes | None, policy: Policy, leaf: Leaf, event: dict[str, Value] | None) -> IssuerEntry:
    if proof is None:
        raise EvidenceError("evidence: no proof of the issuer's own came with it, so none can be verified")
    try:
        return vouched(proof, policy, leaf.facts, event)
    except (FormatError, SignatureError, ProofError) as error:
        raise EvidenceError(f"evidence: the issuer's proof does not hold: {error}") from error


def _opening(value: Value, label: str) -> Opening | None:
    if value is None:
        return None
    what = f"evidence {label}"
    members = _members(value, what, _OPENING)
    return Opening(_bytes(members, "data", what), _bytes(members, "salt", what))


def _opened(opening: Opening | None) -> dict[str, Value] | None:
    return None if opening is None else {"data": to_base64(opening.data), "salt": to_base64(opening.salt)}


def _object(value: Value, what: str) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise FormatError(f"{what}: expected an object")
    return value


def _members(value: Value, what: str, names: frozenset[str]) -> dict[str, Value]:
    """`value` as an object with exactly the members `names`."""
    members = _object(value, what)
    if members.keys() != names:
        raise FormatError(f"{what}: the members are {sorted(members)!a}, not {sorted(names)}")
    return members


def _text(members: dict[str, Value], name: str, what: str) -> str:
    value = members[name]
    if not isinstance(value, str):
        raise FormatError(f"{what}: {name!a} is not a string")
    return value


def _bytes(members: dict[str, Value], name: str, what: str) -> bytes:
    return from_base64(_text(members, name, what), f"{what} {name}")


def _match(pattern: re.Pattern[str], value: str, name: str) -> None:
    if not pattern.fullmatch(value):
        raise FormatError(f"leaf: {name} is {value[:80]!a}, not of the form {pattern.pattern}")
