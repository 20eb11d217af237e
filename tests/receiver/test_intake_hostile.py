"""Bad input, from each of the five providers: authentic by its own scheme or not, it gets its row of the table.

Whatever it is, none of it is a 500, nothing is kept but what that row says, and the next good delivery is recorded.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias, cast

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from receiver import providers
from receiver.events import Kind, Past
from receiver.providers import Call, Notice
from receiver.strictjson import MAX_DEPTH, NotJson, parse
from tests.receiver.five import FIVE, PARTIES, Party, PartySender
from tests.receiver.service import Reply, Service, encoded, problem, running, settings_in

Bend: TypeAlias = Callable[[bytes], bytes]
Headers: TypeAlias = list[tuple[bytes, bytes]]

RECEIVED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that lets one address be refused as often as all these tests are."""
    with running(settings_in(tmp_path_factory.mktemp("patient"), refusals_per_minute=1_000_000)) as service:
        yield service


@pytest.fixture(scope="module")
def senders(service: Service) -> dict[str, PartySender]:
    """A source of each of the five, by its name; and a tenant that none of them is of."""
    service.add_source(tenant="neighbour")
    return {party.provider: party.add_to(service) for party in PARTIES}


@pytest.fixture(params=FIVE)
def sender(request: pytest.FixtureRequest, senders: dict[str, PartySender]) -> PartySender:
    """Each of them, counted anew."""
    sender = senders[request.param]
    sender.endpoint.counts.clear()
    return sender


def rows_from(sender: PartySender, index: int) -> list[sa.Row[Any]]:
    """What is kept of its deliveries, from that entry of the log on."""
    return [row for row in sender.rows() if row.log_index >= index]


def kept_headers(row: sa.Row[Any]) -> list[str]:
    """The names of the headers kept with a delivery."""
    return [name for name, _ in json.loads(row.headers)]


def to_be_kept(sender: PartySender) -> list[str]:
    """The names of those that are, the signature's: never a static token."""
    return [] if sender.party.scheme == "token" else list(sender.headers(b""))


def goes_on(sender: PartySender) -> bool:
    """Whether the next good delivery is recorded as if nothing had been."""
    answer = sender.post(sender.party.body())
    return (answer.status_code, answer.json()["status"]) == (200, "recorded")


# ---- bodies that are not strict JSON --------------------------------------------------------------------------------


def instead(body: bytes) -> Bend:
    """That body, and nothing of the good one."""
    return lambda _: body


def with_member(member: bytes) -> Bend:
    """The good one with one more member."""
    return lambda good: b"{%b,%b" % (member, good[1:])


BENT: dict[str, Bend] = {
    "nothing": instead(b""),
    "blank": instead(b" \r\n"),
    "the last byte cut off": lambda good: good[:-1],
    "the half cut off": lambda good: good[: len(good) // 2],
    "cut off in a string": lambda good: good[: good.index(b'":"') + 3],
    "followed by a byte": lambda good: good + b"}",
    "followed by another": lambda good: good + good,
    "null": instead(b"null"),
    "a boolean": instead(b"true"),
    "a number": instead(b"17"),
    "a string": lambda good: json.dumps(good.decode()).encode(),
    "an array": lambda good: b"[" + good + b"]",
    "no JSON": instead(b"<event/>"),
    "a form": instead(b"type=x&data=%7B%7D"),
    "single quotes": lambda good: good.replace(b'"', b"'"),
    "as deep as is too deep": with_member(b'"x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH),
    "arrays without end": with_member(b'"x":' + b"[" * 100_000),
    "objects without end": instead(b'{"x":' * 50_000),
    "a number beyond a double": with_member(b'"x":1e400'),
    "an exponent beyond everything": with_member(b'"x":-1E99999999999999999999'),
    "NaN": with_member(b'"x":NaN'),
    "Infinity": with_member(b'"x":Infinity'),
    "-Infinity": with_member(b'"x":[-Infinity]'),
    "a member twice": with_member(b'"x":1,"x":1'),
    "a member twice, spelled otherwise": with_member(rb'"x":1,"\u0078":2'),
    "a member twice, inside": with_member(b'"x":[{"y":1,"y":2}]'),
    "all members twice": lambda good: good[:-1] + b"," + good[1:],
    "a byte that is no UTF-8": with_member(b'"x":"\xff"'),
    "an overlong form": with_member(b'"x":"\xc0\xaf"'),
    "an encoded surrogate": with_member(b'"x":"\xed\xa0\x80"'),
    "UTF-16": lambda good: good.decode().encode("utf-16"),
    "UTF-32": lambda good: good.decode().encode("utf-32-le"),
    "a byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "a NUL": with_member(b'"x":"\0"'),
    "a NUL at the end": lambda good: good + b"\0",
    "a NUL, escaped": with_member(rb'"x":"\u0000"'),
    "a NUL in a name": with_member(rb'"\u0000":1'),
    "a line end in a string": with_member(b'"x":"\n"'),
    "half a pair": with_member(rb'"x":"\ud83d"'),
    "the other half": with_member(rb'"x":["\ude00"]'),
    "a pair turned round": with_member(rb'"x":"\ude00\ud83d"'),
    "half a pair in a name": with_member(rb'"\ud83d":1'),
    "gzip": lambda good: gzip.compress(good, mtime=0),
    "deflate": zlib.compress,
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_what_is_no_strict_json_is_quarantined(service: Service, sender: PartySender, bend: Bend) -> None:
    """200 `not_json` with its entry in the log, and every byte kept; the same again is counted, and kept no twice."""
    size, body = service.size(), bend(sender.party.body())

    first, again = sender.post(body), sender.post(body)

    answer = first.json()
    assert (first.status_code, answer["status"], answer["reason"]) == (200, "quarantined", "not_json")
    assert (again.status_code, again.json()) == (200, answer)
    assert (answer["log_index"], service.size()) == (size, size + 1)
    leaf = service.leaf(size)
    assert (leaf.kind, leaf.id, leaf.facts["reason"]) == (Kind.QUARANTINE, answer["quarantine_id"], "not_json")
    (row,) = rows_from(sender, size)
    assert (row.kind, row.body, row.event_data) == (Kind.QUARANTINE, body, None)
    assert kept_headers(row) == to_be_kept(sender)
    assert sender.counts() == {"quarantined": 1, "duplicate": 1}
    assert goes_on(sender)


@pytest.mark.parametrize("bend", [with_member(b'"fine":1'), *BENT.values()], ids=["fine", *BENT])
def test_what_is_not_authentic_is_not_looked_at(service: Service, sender: PartySender, bend: Bend) -> None:
    """401, without a signature or under another secret, whatever the body is; nothing of it is kept but a count."""
    size, body = service.size(), bend(sender.party.body())

    unsigned = service.client.post(sender.path, content=body)
    forged = sender.post(body, sender.party.sign(sender.party.new_secret(), body))

    assert (unsigned.status_code, forged.status_code) == (401, 401)
    assert (problem(unsigned)["code"], problem(forged)["code"]) == ("AUTH_REQUIRED", "AUTH_INVALID")
    assert problem(unsigned)["details"] == {"reason": "missing_signature"}
    assert problem(forged)["details"] == {"reason": "wrong_signature"}
    assert (rows_from(sender, size), service.size()) == ([], size)
    assert sender.counts() == {"refused:missing_signature": 1, "refused:wrong_signature": 1}
    assert goes_on(sender)


def test_a_body_that_is_too_large(service: Service, sender: PartySender) -> None:
    """413, authentic or not."""
    size, body = service.size(), with_member(b'"x":"' + b"x" * 262_144 + b'"')(sender.party.body())

    answers = [sender.post(body), service.client.post(sender.path, content=body)]

    assert [(answer.status_code, problem(answer)["code"]) for answer in answers] == [(413, "PAYLOAD_TOO_LARGE")] * 2
    assert (rows_from(sender, size), service.size(), sender.counts()) == ([], size, {"refused:too_large": 2})
    assert goes_on(sender)


# ---- strict JSON that is not as documented --------------------------------------------------------------------------


def put(document: dict[str, Any], path: str, value: object) -> bytes:
    """The document as bytes, with that member (`data.id`) replaced; a value of bytes is JSON already."""
    inner = document = deepcopy(document)
    *outer, name = path.split(".")
    for each in outer:
        inner = inner[each]
    inner[name] = "\0here"
    text = value.decode() if isinstance(value, bytes) else json.dumps(value)
    return json.dumps(document, separators=(",", ":")).replace(r'"\u0000here"', text).encode()


class Documented(NamedTuple):
    """What a provider's deliveries are known by."""

    members: str
    """Those of the documented delivery that are read, and so have to be as documented: its type, and others."""
    account: str
    content: str
    """One that belongs to the content, and may be added to it."""
    ignored: bytes
    """A delivery that is documented, and bears on nothing that is kept."""


DOCUMENTED = {
    "truthlocks": Documented(
        members="event_type receipt_id receipt_type tenant_id revoked_at",
        account="tenant_id",
        content="added",
        ignored=b'{"event_type":"receipt.created"}',
    ),
    "thanx": Documented(
        members="type data data.issuance_job data.issuance_job.id data.issuance_job.state "
        "data.issuance_job.total_count data.issuance_job.success_count request.merchant_id",
        account="request.merchant_id",
        content="data.added",
        ignored=b'{"event":"reward.issued"}',
    ),
    "capillary": Documented(
        members="type data data.data data.data.earnedBadgeId data.data.badgeMetaId data.data.customerId "
        "data.data.isActive data.errors data.warnings request.orgId",
        account="request.orgId",
        content="data.added",
        ignored=b'{"eventName":"badgeEarned"}',
    ),
    "voucherify": Documented(
        members="type project_id data data.pending_points data.pending_points.id data.pending_points.points "
        "event.id event.created_at",
        account="project_id",
        content="data.added",
        ignored=b'{"type":"voucher.created"}',
    ),
    "scrip": Documented(
        members="type organization_id data data.id data.redemption_id data.amount data.quantity data.reason "
        "data.created_at",
        account="organization_id",
        content="data.added",
        ignored=b'{"type":"balance.credited"}',
    ),
}

WRONG: list[object] = [1.5, -0.0, 2**53, -(2**63), b"1" + b"0" * 5000, b"1e-300", {"not": "that"}]
"""What none of the members can be: numbers that are no small integer, of any size, and an object of other members."""


@pytest.mark.parametrize(
    ("sender", "member"),
    [(name, member) for name, one in DOCUMENTED.items() for member in one.members.split()],
    indirect=["sender"],
)
def test_a_member_of_another_type_is_of_the_wrong_shape(service: Service, sender: PartySender, member: str) -> None:
    """200 `wrong_shape` for each, and the delivery is kept as it came."""
    party, size = sender.party, service.size()
    bodies = [put(party.document(party.new_item()), member, value) for value in WRONG]

    answers = [sender.post(body).json() for body in bodies]

    assert [(one["status"], one.get("reason")) for one in answers] == [("quarantined", "wrong_shape")] * len(WRONG)
    assert [row.body for row in rows_from(sender, size)] == bodies
    assert sender.counts() == {"quarantined": len(WRONG)}
    assert goes_on(sender)


def test_the_rows_of_what_is_strict_json(service: Service, sender: PartySender) -> None:
    """Recorded, duplicate, mismatch, ignored, quarantined: each is counted as what it was answered."""
    party, known, size = sender.party, DOCUMENTED[sender.party.provider], service.size()
    item = party.new_item()
    deliveries = [
        (party.body(item), "recorded", None),
        (party.body(item), "duplicate", None),
        (put(party.document(item), known.content, value=True), "mismatch", "content_differs"),
        (known.ignored, "ignored", None),
        (put(party.document(item), known.members.split()[0], "re.born"), "quarantined", "unknown_type"),
        (put(party.document(item), known.account, "another's"), "quarantined", "other_account"),
        (b"{}", "quarantined", "unknown_type" if party.provider == "thanx" else "wrong_shape"),
    ]

    answers = [sender.post(body).json() for body, _, _ in deliveries]

    expected = [(status, reason) for _, status, reason in deliveries]
    assert expected == [(answer["status"], answer.get("reason")) for answer in answers]
    assert [row.kind for row in rows_from(sender, size)] == ["revocation", "mismatch", *["quarantine"] * 3]
    assert sender.counts() == {"recorded": 1, "duplicate": 1, "mismatch": 1, "ignored": 1, "quarantined": 3}


# ---- headers, over a socket -----------------------------------------------------------------------------------------


def deliver(sender: PartySender, body: bytes, headers: Headers, query: str = "") -> Reply:
    """Send that body with these headers, as they are and as often as they are there, and nothing that they say."""
    own = [(b"host", b"rescind"), (b"connection", b"close"), (b"content-length", b"%d" % len(body))]
    lines = b"".join(b"%b: %b\r\n" % header for header in own + headers)
    (reply,) = sender.service.exchange(b"POST %b HTTP/1.1\r\n%b\r\n%b" % ((sender.path + query).encode(), lines, body))
    return reply


def without(headers: Headers, name: bytes) -> Headers:
    """A signature's header is missing."""
    return [header for header in headers if header[0] != name]


def changed(value: bytes) -> Callable[[Headers, bytes], Headers]:
    """It has that value."""
    return lambda headers, name: [*without(headers, name), (name, value)]


def doubled(headers: Headers, name: bytes) -> Headers:
    """It is there twice, spelled in two ways."""
    return [*headers, (name.upper(), dict(headers)[name])]


SPOILED: dict[str, tuple[Callable[[Headers, bytes], Headers], str]] = {
    "missing": (without, "missing_signature"),
    "doubled": (doubled, "malformed_signature"),
    "another first": (lambda headers, name: [(name, b"x"), *headers], "malformed_signature"),
    "another last": (lambda headers, name: [*headers, (name, b"x")], "malformed_signature"),
    "doubled, empty": (lambda headers, name: [*headers, (name, b"")], "malformed_signature"),
    "Latin-1": (changed(b"v1=\xe9"), "malformed_signature"),
    "UTF-8": (changed("v1=é٣".encode()), "malformed_signature"),
    "no UTF-8": (changed(b"\xff\xfe"), "malformed_signature"),
    "a tab": (changed(b"a\tb"), "malformed_signature"),
    "very long": (changed(b"x" * 5000), "malformed_signature"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.values(), ids=SPOILED)
def test_a_signature_that_cannot_be_read(
    service: Service, sender: PartySender, spoil: Callable[[Headers, bytes], Headers], reason: str
) -> None:
    """401, for each of the headers that make it up; nothing is kept but a count."""
    size, body, names = service.size(), sender.party.body(), list(sender.headers(b""))

    replies = [deliver(sender, body, spoil(encoded(sender.headers(body)), name.encode())) for name in names]

    code = "AUTH_REQUIRED" if reason == "missing_signature" else "AUTH_INVALID"
    told = [(reply.status, problem(reply)["code"], problem(reply)["details"]["reason"]) for reply in replies]
    assert told == [(401, code, reason)] * len(names)
    assert (rows_from(sender, size), service.size()) == ([], size)
    assert sender.counts() == {f"refused:{reason}": len(names)}
    assert goes_on(sender)


@pytest.mark.parametrize("value", [b"a\0b", b"a\rb", b"a\r\n b"])
def test_a_header_that_no_header_can_be(service: Service, sender: PartySender, value: bytes) -> None:
    """400, before anything else is looked at: a NUL, half a line end, a second line."""
    size, body = service.size(), sender.party.body()

    reply = deliver(sender, body, [*encoded(sender.headers(body)), (b"x-note", value)])

    assert (reply.status, problem(reply)["detail"]) == (400, "This is not an HTTP request that can be read")
    assert (rows_from(sender, size), service.size(), sender.counts()) == ([], size, {})
    assert goes_on(sender)


OTHER_HEADERS: dict[str, Headers] = {
    "no content type": [],
    "an empty content type": [(b"content-type", b"")],
    "two content types": [(b"content-type", b"application/json"), (b"content-type", b"text/plain")],
    "text": [(b"content-type", b"text/plain")],
    "a form": [(b"content-type", b"application/x-www-form-urlencoded")],
    "parts": [(b"content-type", b"multipart/form-data")],
    "another charset": [(b"content-type", b"application/json; charset=utf-16")],
    "a content type that is none": [(b"content-type", b"\xff;;=")],
    "a coding that the body is not in": [(b"content-encoding", b"gzip")],
    "a tenant": [(b"x-tenant-id", b"neighbour")],
    "two tenants": [(b"x-tenant-id", b"neighbour"), (b"X-Tenant-ID", b"default")],
    "a tenant that is none": [(b"x-tenant-id", b"\xff\xe9")],
    "outside of ASCII": [(b"user-agent", b"\xff"), (b"accept", "é".encode()), (b"cookie", b"a=\xe9; \xff")],
    "another's authorization": [(b"authorization", b"Bearer \xff"), (b"authorization", b"Basic \xe9")],
    "a forwarded address": [(b"x-forwarded-for", b"\xff, ::1"), (b"x-forwarded-for", b"")],
}


@pytest.mark.parametrize("more", OTHER_HEADERS.values(), ids=OTHER_HEADERS)
def test_other_headers_change_nothing(service: Service, sender: PartySender, more: Headers) -> None:
    """Recorded, of the account that the body names and in the log of the source's tenant; none of them is kept."""
    size, theirs, body = service.size(), service.size("neighbour"), sender.party.body()

    reply = deliver(sender, body, [*more, *encoded(sender.headers(body))])

    assert (reply.status, reply.json["status"]) == (200, "recorded")
    assert (service.size(), service.size("neighbour")) == (size + 1, theirs)
    (row,) = rows_from(sender, size)
    assert json.loads(row.event_data)["account"] == sender.party.account
    assert kept_headers(row) == to_be_kept(sender)


@pytest.mark.parametrize(
    "query", ["?merchant=1&key=a%20b", "?", "?a=b&a=b&a", "?token=%00%ff", "?" + "x" * 8000, "?=&&;%", "?{a}=[b]"]
)
def test_static_query_parameters_change_nothing(sender: PartySender, query: str) -> None:
    """Some register a URL that has some."""
    body = sender.party.body()

    reply = deliver(sender, body, encoded(sender.headers(body)), query)

    assert (reply.status, reply.json["status"]) == (200, "recorded")
    assert sender.counts() == {"recorded": 1}


def test_a_key_sees_its_own_tenant_whatever_a_header_says(service: Service, sender: PartySender) -> None:
    """`X-Tenant-ID` is read nowhere."""
    path = f"/v1/events/{sender.post(sender.party.body()).json()['event_id']}"

    for mine, other, status in (("default", "neighbour", 200), ("neighbour", "default", 404)):
        answer = service.client.get(path, headers={**service.key(tenant=mine), "x-tenant-id": other})
        assert answer.status_code == status


# ---- whatever there is ----------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["2026-11-20T08:59:58Z", "revoked", "PENDING", "500.00", "x" * 300, "1e400", "-0", "NaN", "\u0085"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def members_of(value: object, path: str = "") -> Iterator[str]:
    """The paths of all members in it, at any depth."""
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield f"{path}{name}"
            yield from members_of(inner, f"{path}{name}.")


@st.composite
def bodies(draw: st.DrawFn, party: Party) -> bytes:
    """The documented delivery with up to three members changed, and then perhaps a few of its bytes."""
    document: dict[str, Any] = party.document(draw(st.sampled_from(["a", "b", "c"])))
    for _ in range(draw(st.integers(0, 3))):
        member = draw(st.sampled_from(list(members_of(document))))
        document = json.loads(put(document, member, draw(values)))
    body = bytearray(json.dumps(document).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


deliveries = st.sampled_from(PARTIES).flatmap(lambda party: st.tuples(st.just(party), bodies(party)))


@trying(deadline=None)
@given(deliveries)
def test_no_document_makes_a_provider_raise(delivery: tuple[Party, bytes]) -> None:
    """As a delivery or as a call's answer; and whatever is a notice can be judged and recorded."""
    party, body = delivery
    provider = providers.get(party.provider)
    try:
        document = parse(body)
    except NotJson:
        return
    for reading in (provider.read(document), provider.operation.read(Call({"id": "a"}, document, document))):
        if isinstance(reading, Notice):
            past = Past.from_event(reading.event, RECEIVED, 0)
            event = reading.event if provider.complete is None else provider.complete(reading.event, [past])
            assert all(breach.code and breach.message for breach in provider.check(event, RECEIVED, 300, [past]))
            kept = Past.of(event.kind, event.type, event.effect, RECEIVED, 0, event.data())
            assert kept == Past.from_event(event, RECEIVED, 0)
            assert (len(reading.digest), "\0" in reading.key) == (32, False)


@pytest.fixture(scope="module")
def either_five(either_service: Service) -> dict[str, PartySender]:
    """A source of each, by its name, on either database."""
    return {party.provider: party.add_to(either_service) for party in PARTIES}


@trying(derandomize=True, deadline=None, max_examples=150)
@given(deliveries)
def test_no_delivery_is_an_error(either_five: dict[str, PartySender], delivery: tuple[Party, bytes]) -> None:
    """200 with a status, for all that is authentic; it is counted, and there is a row if it was kept."""
    party, body = delivery
    sender = either_five[party.provider]
    before, rows = Counter(sender.counts()), len(sender.rows())

    answer = sender.post(body)

    assert answer.status_code == 200
    (counted,) = Counter(sender.counts()) - before
    assert counted in {answer.json()["status"], "duplicate"}
    assert len(sender.rows()) - rows == (counted in {"recorded", "mismatch", "quarantined"})
