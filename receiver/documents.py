"""Parsed documents, read member by member: what a provider's module is made of.

Whatever is not as it has to be raises `WrongShape` with a sentence that names the member by its path (`data.id is
missing`). Numbers that are no small integer stay the `Number` they were parsed as; nothing is rounded or guessed.

The operator's own systems may tell of an operation that its provider sends no webhook for. They put the documented
answer into the plain envelope, and what comes in one is called *declared*:

    {"type": "badge.revoked", "created_at": "<RFC 3339>", "data": {…the documented answer…}, "request": {…}}

`created_at` and `request` may be absent. They are no part of the content: with others, it is the same notice again.

An issuer's transparency log tells of an act in the plain entry (canonical JSON with exactly these members; each but
`item`, `effect` and `provider` may be null), which `translog verify` reads alike:

    {"account": "…", "amount": "40.00", "at": "<RFC 3339>", "effect": "reversed", "event": "REDEMPTION_REVERSE",
     "item": {"id": "…", "type": "redemption"}, "operation": "…", "provider": "…", "quantity": null}

Documents name people: by members that the provider documents, wherever these stand in whatever was delivered, in the
documented place or not. `persons_in` finds them, each in the one spelling that it is compared in.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self
from unicodedata import decimal, normalize

from receiver.events import Claim, Effect, Item, parse_time
from receiver.strictjson import Json, NotJson, Number, digest, parse, plain
from translog.errors import FormatError
from translog.issuer import Act

MAX_ID = 256
"""Characters of an id or an account."""

MAX_TYPE = 128
"""Characters of an event's type, which stands in the log's entry itself."""

_SAID = 200
"""Characters of what is wrong with an entry, which may quote it."""

_EFFECTS = frozenset(Effect)
_HEX_AS_0 = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
_UUID_SHAPE = b"00000000-0000-0000-0000-000000000000"
_LIKE_A_PHONE_NUMBER = re.compile(r"[+(]{0,2}[0-9][0-9 ()./-]{4,}")


class WrongShape(ValueError):  # noqa: N818 (it is the name of what a document has)
    """A member is not as documented; the message names it. For use within a provider's module."""


@dataclass(frozen=True, slots=True)
class Members:
    """An object of a document, and where in it that stands (`data.`, empty at the top)."""

    document: dict[str, Json]
    path: str = ""

    def has(self, name: str) -> bool:
        """Whether the member is there and is not null: null is how many senders say that there is nothing."""
        return self.document.get(name) is not None

    def text(self, name: str, limit: int = MAX_ID) -> str:
        """A string of 1 to `limit` characters."""
        value = self._value(name)
        if type(value) is not str:
            raise WrongShape(f"{self.path}{name} is not a string")
        if not 0 < len(value) <= limit:
            raise WrongShape(f"{self.path}{name} has {len(value)} characters; it must have 1 to {limit}")
        return value

    def optional_text(self, name: str, limit: int = MAX_ID) -> str | None:
        """As `text`, but None where the member is absent or null."""
        return self.text(name, limit) if self.has(name) else None

    def identifier(self, name: str) -> str:
        """An id that some write as a string and some as an integer, as text."""
        value = self._value(name)
        return str(value) if type(value) is int else self.text(name)

    def optional_identifier(self, name: str) -> str | None:
        """As `identifier`, but None where the member is absent or null."""
        return self.identifier(name) if self.has(name) else None

    def integer(self, name: str) -> int:
        """An integer whose magnitude is below 2^53."""
        value = self._value(name)
        if type(value) is not int:
            raise WrongShape(f"{self.path}{name} is not an integer below 2^53")
        return value

    def optional_integer(self, name: str) -> int | None:
        """As `integer`, but None where the member is absent or null."""
        return self.integer(name) if self.has(name) else None

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        if type(value) is not bool:
            raise WrongShape(f"{self.path}{name} is not true or false")
        return value

    def moment(self, name: str) -> datetime:
        """An RFC 3339 time, in UTC."""
        try:
            return parse_time(self.text(name))
        except WrongShape:
            raise
        except ValueError as error:
            raise WrongShape(f"{self.path}{name}: {error}") from None

    def optional_moment(self, name: str) -> datetime | None:
        """As `moment`, but None where the member is absent or null."""
        return self.moment(name) if self.has(name) else None

    def inside(self, name: str) -> Self:
        """An object."""
        value = self._value(name)
        if not isinstance(value, dict):
            raise WrongShape(f"{self.path}{name} is not an object")
        return type(self)(value, f"{self.path}{name}.")

    def optional_inside(self, name: str) -> Self | None:
        """As `inside`, but None where the member is absent or null."""
        return self.inside(name) if self.has(name) else None

    def items(self, name: str) -> list[Json]:
        """An array; empty where the member is absent or null."""
        value = self.document.get(name, None)
        if value is None:
            return []
        if not isinstance(value, list):
            raise WrongShape(f"{self.path}{name} is not an array")
        return value

    def kept(self, *names: str) -> dict[str, Json]:
        """Those of the members that are there, for an event's details.

        What canonical JSON cannot hold as it is, an object with a name outside of ASCII, is kept as the text of its
        JSON.
        """
        return {name: _keepable(self.document[name]) for name in names if self.has(name)}

    def _value(self, name: str) -> Json:
        value = self.document.get(name)
        if value is None:
            raise WrongShape(f"{self.path}{name} is missing")
        return value


@dataclass(frozen=True, slots=True)
class Envelope:
    """The plain envelope, opened. `digest` (32 bytes) is of its content: all but `created_at` and `request`."""

    type: str
    data: Members
    request: Members | None
    declared_at: datetime | None
    digest: bytes

    @classmethod
    def open(cls, document: dict[str, Json]) -> Self:
        """Open what is a plain envelope by its `type`. Raises WrongShape."""
        members = Members(document)
        return cls(
            type=members.text("type", MAX_TYPE),
            data=members.inside("data"),
            request=members.optional_inside("request"),
            declared_at=members.optional_moment("created_at"),
            digest=digest(document, drop=("created_at", "request")),
        )


class PersonKind(StrEnum):
    """In which way a person is named."""

    EMAIL = "email"
    MOBILE = "mobile"
    """A phone number of any sort."""
    EXTERNAL_ID = "external_id"
    """What the operator's own systems call the person, as the provider was told it."""
    CARD_NUMBER = "card_number"
    CUSTOMER_ID = "customer_id"
    """What the provider calls the person."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person, as one identifier names them. The repr does not show it, for it may get into a log."""

    kind: PersonKind
    value: str = field(repr=False)
    """In the one spelling that it is compared in."""

    @classmethod
    def of(cls, kind: PersonKind, text: str) -> Self | None:
        """The person whom a text names; None where nothing of it is left in the spelling of its kind.

        However its characters are composed, it is the same: all are in Unicode's normalization form C (UAX #15). An
        address is trimmed, and without case (the Unicode Standard, section 3.13, D145). Of a phone number there are
        the digits, in ASCII, and a leading `+`; one with it and one without are two. All others are as they are
        written, trimmed, a UUID in lower case.
        """
        value = normalize("NFC", text).strip()
        if kind is PersonKind.EMAIL:
            value = normalize("NFC", normalize("NFD", value).casefold())
        elif kind is PersonKind.MOBILE:
            signs = [sign for sign in value if sign == "+" or sign.isdecimal()]
            digits = "".join(str(decimal(sign)) for sign in signs if sign != "+")
            value = f"+{digits}" if digits and signs[0] == "+" else digits
        else:
            value = one_case(value)
        return cls(kind, value) if value else None


def persons_in(document: Json, members: Mapping[str, Sequence[PersonKind]]) -> Iterator[Person]:
    """Whom a document names, at any depth and in no order; one may come twice.

    `members` are the names that identifiers stand under, with the kinds that each may be of: `email`, or
    `customer.email` where it is one in an object under that name only, which goes before the shorter name. An array
    stands for each of its items. Where a member may be of several kinds, a number is of the first, and a text of each
    that it has the form of.
    """
    names = {name.rpartition(".")[2] for name in members}
    inside = [("", "", document)]
    while inside:
        parent, name, value = inside.pop()
        if isinstance(value, dict):
            for inner, member in value.items():
                if inner in names or isinstance(member, dict | list):
                    inside.append((name, inner, member))
        elif isinstance(value, list):
            inside += [(parent, name, item) for item in value]
        elif name in names and value is not None and not isinstance(value, bool):
            yield from _named_by(value, members.get(f"{parent}.{name}") or members.get(name) or ())


def plain_entry(provider: str, data: bytes) -> Claim | None:
    """What an entry of an issuer's log says, if it is a plain entry of that provider; None if it is anything else.

    Raises WrongShape for a JSON object that names the provider and is not exactly as it has to be.
    """
    try:
        act = Act.parse(data)
    except FormatError as error:
        if _provider_in(data) != provider:
            return None
        raise WrongShape(str(error)[:_SAID]) from None
    if act.provider != provider:
        return None
    if act.effect not in _EFFECTS:
        raise WrongShape(f"effect is {act.effect[:80]!a}; it must be one of {', '.join(sorted(_EFFECTS))}")
    item = Members({"id": act.item_id, "type": act.item_type}, "item.")
    members = Members({name: getattr(act, name) for name in ("account", "amount", "at", "operation", "quantity")})
    claim = Claim(
        account=members.optional_text("account"),
        item=Item(item.text("type"), item.text("id")),
        operation=members.optional_text("operation"),
        effect=Effect(act.effect),
        amount=members.optional_text("amount"),
        quantity=members.optional_text("quantity"),
        at=members.optional_moment("at"),
    )
    if any("\0" in str(text) for text in (*item.document.values(), *members.document.values())):
        raise WrongShape("it has a NUL, which is in no id and no amount")
    return claim


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as RFC 9562 section 4 writes it, in either case."""
    return text.encode().translate(_HEX_AS_0) == _UUID_SHAPE


def one_case(text: str) -> str:
    """An id in the case that it is compared in: a UUID is the same in either (RFC 9562 section 4), others are not."""
    return text.lower() if is_uuid(text) else text


def _named_by(value: str | int | Number, kinds: Sequence[PersonKind]) -> Iterator[Person]:
    """Whom an identifier names that may be of these kinds."""
    text = value.literal if isinstance(value, Number) else str(value)
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if _has_form(kind, text)] if isinstance(value, str) else kinds[:1]
    return (person for kind in kinds if (person := Person.of(kind, text)) is not None)


def _has_form(kind: PersonKind, text: str) -> bool:
    """Whether a text can be of that kind, where it may be of others: an address is no number of any sort."""
    if kind is PersonKind.MOBILE:
        return _LIKE_A_PHONE_NUMBER.fullmatch(text.strip()) is not None
    return kind is PersonKind.EXTERNAL_ID or ("@" in text) == (kind is PersonKind.EMAIL)


def _provider_in(data: bytes) -> Json:
    """The provider that an entry of any form names; None if it names none."""
    try:
        return parse(data).get("provider")
    except NotJson:
        return None


def _keepable(value: Json) -> Json:
    return value if _has_ascii_names(value) else json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def _has_ascii_names(value: Json) -> bool:
    if isinstance(value, dict):
        return all(name.isascii() and _has_ascii_names(member) for name, member in value.items())
    return not isinstance(value, list) or all(map(_has_ascii_names, value))
