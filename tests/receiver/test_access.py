"""Who may ask: keys, scopes, and tenants that see nothing of one another by any route."""

import base64
import json
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from receiver import app
from receiver.assurance.subscribing import Subscribe, subscribe
from receiver.events import Effect, Item, format_time
from receiver.records.apikeys import create_key, list_keys, parse_scopes, revoke_key
from receiver.records.keeping import exports
from receiver.records.opening import Records
from receiver.records.tables import api_keys
from tests.receiver.claims import Issuer, check, forked
from tests.receiver.exported import exported
from tests.receiver.holding import acting, hold
from tests.receiver.passed_on import Calls
from tests.receiver.service import Service, problem, receipt_id, revoked, running, settings_in, until
from translog.merkle import leaf_hash

GUARDED = [
    "/v1/events",
    "/v1/events/0198a1b2-0000-7000-8000-000000000000",
    "/v1/events/0198a1b2-0000-7000-8000-000000000000/evidence",
    "/v1/items/truthlocks/receipt/x",
    "/v1/quarantine",
    "/v1/quarantine/0198a1b2-0000-7000-8000-000000000000",
    "/v1/gaps",
    "/v1/gaps/0198a1b2-0000-7000-8000-000000000000",
    "/v1/issuer-logs",
    "/v1/issuer-logs/0198a1b2-0000-7000-8000-000000000000",
    "/v1/issuer-logs/0198a1b2-0000-7000-8000-000000000000/fork",
    "/v1/log/proofs/inclusion?index=0",
    "/v1/log/proofs/consistency?old_size=0",
]


def get(service: Service, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Ask."""
    return service.client.get(path, headers=headers)


@pytest.mark.parametrize("path", GUARDED)
def test_without_a_key(service: Service, path: str) -> None:
    """401 that says how to ask."""
    answer = get(service, path)

    assert (answer.status_code, problem(answer)["code"]) == (401, "AUTH_REQUIRED")
    assert answer.headers["www-authenticate"] == 'Bearer realm="rescind"'


@pytest.mark.parametrize("path", GUARDED)
def test_without_the_scope(service: Service, path: str) -> None:
    """403 that names the scope, to a key that has every other one."""
    answer = get(service, path, service.key("export,operate,admin"))

    assert (answer.status_code, problem(answer)["code"]) == (403, "PERMISSION_DENIED")
    assert answer.json()["details"] == {"scope": "audit"}


@pytest.mark.parametrize("path", GUARDED)
def test_with_the_scope(service: Service, path: str) -> None:
    """Neither 401 nor 403, whatever there is to be found."""
    assert get(service, path, service.key("admin,audit")).status_code in {200, 404}


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer rk_unknown",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {key} {key}",
        "Bearer {upper}",
        "Bearer \xff",
        "Bearer " + "x" * 9000,
    ],
)
def test_what_is_no_valid_key(service: Service, value: str) -> None:
    """401 that does not say how it is wrong."""
    key = service.key()["authorization"].removeprefix("Bearer ")
    sent = value.format(key=key, upper=key.upper()).encode("latin-1")

    answer = service.client.get("/v1/events", headers=[(b"authorization", sent)])

    assert (answer.status_code, problem(answer)["code"]) == (401, "AUTH_INVALID")


def test_a_key_is_presented_once(service: Service) -> None:
    """Two are one too many, even where both are good."""
    key = service.key()["authorization"].encode()

    answer = service.client.get("/v1/events", headers=[(b"authorization", key), (b"authorization", key)])

    assert (answer.status_code, problem(answer)["code"]) == (401, "AUTH_INVALID")


def test_the_word_bearer_may_be_written_in_any_case(service: Service) -> None:
    """RFC 9110, section 11.1."""
    key = service.key()["authorization"].removeprefix("Bearer ")

    assert get(service, "/v1/events", {"authorization": f"bEARER {key}"}).status_code == 200


def test_an_expired_key(service: Service) -> None:
    """It is good until its time, and not from then on."""
    records = service.records
    soon = datetime.now(UTC) + timedelta(hours=1)
    _, key = create_key(records, service.tenant, "brief", parse_scopes("audit"), expires_at=soon)
    headers = {"authorization": f"Bearer {key}"}
    assert get(service, "/v1/events", headers).status_code == 200

    with records.database.write() as tx:
        over = format_time(datetime.now(UTC))
        tx.execute(sa.update(api_keys).where(api_keys.c.name == "brief").values(expires_at=over))

    answer = get(service, "/v1/events", headers)
    assert (answer.status_code, problem(answer)["code"]) == (401, "AUTH_INVALID")


def test_a_revoked_key(service: Service) -> None:
    """It ends at once."""
    _, key = create_key(service.records, service.tenant, "leaked", parse_scopes("audit"))
    headers = {"authorization": f"Bearer {key}"}
    assert get(service, "/v1/events", headers).status_code == 200

    revoke_key(service.records, service.tenant, "leaked")

    assert get(service, "/v1/events", headers).status_code == 401


def test_the_last_use_of_a_key_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, and at the latest when the service stops; the key itself is nowhere."""
    settings = settings_in(tmp_path)
    monkeypatch.setattr(app, "USES_EVERY", 0.05)
    with running(settings) as service:
        _, key = create_key(service.records, service.tenant, "used", parse_scopes("audit"))
        _, other = create_key(service.records, service.tenant, "at the end", parse_scopes("audit"))
        before = format_time(datetime.now(UTC))
        get(service, "/v1/events", {"authorization": f"Bearer {key}"})
        until(lambda: last_used(service.records)["used"])
        get(service, "/v1/events", {"authorization": f"Bearer {other}"})
    records = Records.open(settings)
    noted = last_used(records)
    with records.database.read() as tx:
        rows = str(tx.execute(sa.select(api_keys)).all())
    records.close()

    assert all(before <= moment <= format_time(datetime.now(UTC)) for moment in noted.values())
    assert sorted(noted) == ["at the end", "used"]
    assert key not in rows


def last_used(records: Records) -> dict[str, str]:
    """When each key was last used, by name."""
    return {one["name"] or "": one["last_used_at"] or "" for one in list_keys(records, records.tenant("default"))}


# ---- tenants ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service whose logs are closed."""
    with running(settings_in(tmp_path_factory.mktemp("closed"), public_log=False)) as service:
        yield service


def test_a_tenant_sees_nothing_of_another(either_service: Service) -> None:
    """Not by list, id, item, source, leaf hash, index or cursor."""
    receipt = receipt_id()
    theirs = either_service.add_source("theirs")
    event = theirs.post(revoked(receipt)).json()
    either_service.until_published("theirs")
    key = either_service.key(tenant="ours")
    own = either_service.add_source("ours")
    own.post(revoked())
    own_size = either_service.until_published("ours")

    def ask(path: str) -> httpx2.Response:
        return get(either_service, path, key)

    assert [one["source"] for one in ask("/v1/events").json()["items"]] == [own.source_id]
    assert ask(f"/v1/events?source={theirs.source_id}").json() == {"items": [], "next_cursor": None}
    assert ask(f"/v1/events?item=receipt:{receipt}").json() == {"items": [], "next_cursor": None}
    assert ask(f"/v1/events/{event['event_id']}").status_code == 404
    assert ask(f"/v1/events/{event['event_id']}/evidence").status_code == 404
    item = ask(f"/v1/items/truthlocks/receipt/{receipt}").json()
    assert (item["state"], item["events"]) == ("no_record", [])
    assert item["as_of"]["tree_size"] == own_size
    assert "/log/ours\n" in item["as_of"]["checkpoint"]
    assert ask(f"/v1/log/proofs/inclusion?leaf_hash={event['leaf_hash']}").status_code == 404
    proof = ask("/v1/log/proofs/inclusion?index=0").json()
    assert proof["root"] != either_service.records.tenant("theirs").log.published.root.hex()
    assert get(either_service, f"/v1/events/{event['event_id']}", either_service.key(tenant="theirs")).is_success


@dataclass(frozen=True, slots=True)
class Theirs:
    """What a tenant has: its key, what others may ask for, and what must not come back when they do."""

    key: dict[str, str]
    ids: tuple[str, ...]
    marks: frozenset[str]


ANOTHER = "tenant-alpha"


@pytest.fixture(scope="module")
def theirs(either_service: Service) -> Theirs:
    """A tenant with an event, a mismatch, a test, a delivery in quarantine, a call that was passed on, a gap, an
    issuer's log that has forked, a subscription, an export, an event that is erased, and a hold.
    """
    receipt, account, kind = receipt_id(), receipt_id(), "alpha_receipt"
    sender = either_service.add_source(ANOTHER, account=account)
    tests = either_service.add_source(ANOTHER, account=account, test=True)
    members = {"tenant_id": account, "receipt_type": kind}
    unread = f'{{"event_type": "{receipt_id()}"}}'.encode()
    for body in (revoked(receipt, **members), revoked(receipt, note="other", **members), unread):
        sender.post(body)
    tests.post(revoked(**members))
    Calls(either_service, sender).begin()
    issuers = [Issuer(either_service.records), Issuer(either_service.records)]
    naming = [issuer.source("truthlocks", account, ANOTHER).endpoint.source.id for issuer in issuers]
    issuers[0].says("truthlocks", Effect.REVOKED, Item("receipt", receipt_id()), account=account)
    issuers[0].read_at("2027-01-01T00:00:00.000000Z")
    forked(either_service.records, issuers[1])
    check(either_service.records)
    gap = either_service.client.get("/v1/gaps", headers=either_service.key(tenant=ANOTHER)).json()["items"][0]["id"]
    asked = Subscribe(name="alpha-subscription", url=f"https://{ANOTHER}.example.com/hook", on=["recorded"])
    tenant = either_service.records.tenant(ANOTHER)
    subscription = subscribe(either_service.records, tenant, asked, resolve=somewhere).subscription
    either_service.until_published(ANOTHER)
    export = exported(either_service, ANOTHER)
    with either_service.records.database.read() as tx:
        exporter = tx.execute(sa.select(exports.c.asked_by).where(exports.c.id == export)).scalar_one()
    gone = sender.post(revoked(**members)).json()["event_id"]
    either_service.until_published(ANOTHER)
    operator = either_service.key("audit,operate", ANOTHER)
    assert get(either_service, f"/v1/events/{gone}/evidence", operator).status_code == 200
    asked_for = {"event_id": gone, "reason": "asked for"}
    erasure = either_service.client.post("/v1/erasures", json=asked_for, headers=operator).json()["id"]
    held = hold(either_service.records, acting(either_service.records, "Ann", ANOTHER), source=sender.source_id)
    rows = [*sender.rows(), *tests.rows()]
    hashes = [leaf_hash(either_service.entry(row.log_index, ANOTHER)).hex() for row in rows]
    found = (gap, subscription.id, export, exporter, erasure, held.id, *naming, *(issuer.id for issuer in issuers))
    own = (receipt, account, kind, sender.source_id, tests.source_id, *(row.id for row in rows), *hashes, *found)
    return Theirs(
        either_service.key("audit,export,operate,admin", ANOTHER),
        (*own, f"receipt:{receipt}", f"receipt_type:{kind}"),
        frozenset({*own, ANOTHER, base64.b64encode(unread).decode(), *(issuer.origin for issuer in issuers)}),
    )


def somewhere(host: str, port: int) -> list[str]:
    """A public address, whatever is asked for."""
    return ["93.184.215.14"]


def routes(service: Service) -> dict[str, list[tuple[str, bool]]]:
    """Every route under /v1 that can be read, as the schema has it, and its query's parameters: is it an integer?"""
    found: dict[str, list[tuple[str, bool]]] = {}
    for path, operations in service.client.get("/schema/openapi.json").json()["paths"].items():
        if path.startswith("/v1/") and "get" in operations:
            declared = [one for one in operations["get"].get("parameters", []) if one["in"] == "query"]
            found[path] = [(one["name"], "integer" in json.dumps(one["schema"])) for one in declared]
    return found


def questions(path: str, query: list[tuple[str, bool]], ids: Sequence[str]) -> Iterator[str]:
    """Ways to ask there with each of these ids in each place; ids that hold no slash."""
    known = path.replace("{provider}", "truthlocks").replace("{item_type}", "receipt")
    filled = [re.sub(r"{\w+}", one, known) for one in ids] if "{" in known else [known]
    yield from filled
    for name, is_integer in query:
        for value in ("0", "1") if is_integer else ids:
            yield f"{filled[0]}?{name}={value}"


@pytest.mark.parametrize("header", [{}, {"x-tenant-id": ANOTHER}], ids=["key alone", "x-tenant-id"])
def test_no_route_shows_anything_of_another_tenant(
    either_service: Service, theirs: Theirs, header: dict[str, str]
) -> None:
    """Whatever of its own is asked for, no answer has more of it than was asked; it is answered as what is nobody's."""
    key = {**either_service.key("audit,export,operate,admin", "tenant-beta"), **header}
    either_service.add_source("tenant-beta").post(revoked())
    either_service.until_published("tenant-beta")
    is_thorough = not header and either_service.records.database.is_sqlite  # elsewhere a few will do
    ids = theirs.ids if is_thorough else theirs.ids[:4]
    for path, query in routes(either_service).items():
        made_up = [_like(one) for one in ids]
        for asked, other in zip(questions(path, query, ids), questions(path, query, made_up), strict=True):
            answer, nobody = get(either_service, asked, key), get(either_service, other, key)
            shown = answer.text + str(answer.headers)
            assert {mark for mark in theirs.marks if mark in shown and mark not in asked} == set(), asked
            said = answer.text
            for one, instead in zip(ids, made_up, strict=True):
                said = said.replace(one, instead)
            assert (answer.status_code, said) == (nobody.status_code, nobody.text), asked


def test_every_route_shows_a_tenant_what_is_its_own(either_service: Service, theirs: Theirs) -> None:
    """With its own key, each of them has something of it that was not in the question."""
    for path, query in routes(either_service).items():
        assert any(
            mark in answer and mark not in asked
            for asked in questions(path, query, theirs.ids)
            for answer in [get(either_service, asked, theirs.key).text]
            for mark in theirs.marks
        ), path


def _like(own: str) -> str:
    """The same with other digits and letters: of the same form, and nobody's."""
    kind, colon, rest = own.rpartition(":")
    return kind + colon + rest.translate(str.maketrans("0123456789abcdef", "1234567890bcdefa"))


def test_a_tenant_cannot_be_named(service: Service) -> None:
    """The tenant comes from the key alone: a parameter or header of that name gives nobody another one's view."""
    theirs = service.add_source("one-tenant")
    theirs.post(revoked())
    key = service.key(tenant="two-tenant")

    answer = service.client.get("/v1/events", headers={**key, "x-tenant": "one-tenant", "x-tenant-id": "one-tenant"})

    assert answer.json()["items"] == []


def test_a_closed_log_needs_a_key_of_its_tenant(closed: Service) -> None:
    """401 without one, 403 without the scope, 404 with another tenant's, and the checkpoint with the right one."""
    other = closed.key(tenant="other")
    path = "/log/default/checkpoint"

    assert get(closed, path).status_code == 401
    assert get(closed, path, closed.key("operate")).status_code == 403
    assert get(closed, path, other).status_code == 404
    assert get(closed, "/log/nobody/checkpoint", other).status_code == 404
    answer = get(closed, path, closed.key())
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, max-age=1")
    assert closed.client.head(path).status_code == 401


def test_whether_a_tenant_exists_is_told_to_nobody(closed: Service) -> None:
    """A closed log of another tenant, and of none, get the same answer."""
    key = closed.key(tenant="other")

    real, none = (get(closed, f"/log/{name}/checkpoint", key) for name in ("default", "nobody-"))

    assert real.json()["detail"].replace("default", "nobody-") == none.json()["detail"]
    assert (real.status_code, none.status_code) == (404, 404)


@pytest.fixture
def elsewhere(service: Service) -> Generator[Records]:
    """The same records as another process has them open: what is made here the service is not told."""
    records = Records.open(service.records.settings)
    yield records
    records.close()


def test_a_key_of_a_tenant_that_is_new(service: Service, elsewhere: Records) -> None:
    """Its first question is answered, although the service has not heard of the tenant before."""
    _, key = create_key(elsewhere, elsewhere.ensure_tenant("brand-new"), "k", parse_scopes("audit"))

    answer = get(service, "/v1/items/truthlocks/receipt/x", {"authorization": f"Bearer {key}"})

    assert (answer.status_code, answer.json()["state"]) == (200, "no_record")


def test_the_log_of_a_tenant_that_is_new(service: Service, elsewhere: Records) -> None:
    """It is served within a second, and published from then on."""
    tenant = elsewhere.ensure_tenant("quite-new")
    create_key(elsewhere, tenant, "k", parse_scopes("audit"))

    until(lambda: get(service, "/log/quite-new/checkpoint").status_code == 200)
    until(lambda: f"\n{tenant.log.head().size}\n" in get(service, "/log/quite-new/checkpoint").text)
