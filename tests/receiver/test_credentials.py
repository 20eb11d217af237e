"""The read-only credential of a source: kept encrypted, told of in the log, and shown nowhere."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver import providers
from receiver.events import new_id
from receiver.intake.sourcing import Credential, SettingError, UnusableError, give_credential, take_credential
from receiver.records.attempts import Attempt
from receiver.records.credentials import MAX_CREDENTIAL, find_credential, set_credential
from receiver.records.opening import Records, Tenant
from receiver.records.sources import NewSource, NoSuchSourceError, add_source, get_source, sources_version
from receiver.records.tables import attempts, credentials
from receiver.records.vault import VaultError
from tests.receiver.commands import Commands
from tests.receiver.open_calls import Caller, new_caller
from tests.receiver.service import Service, at_once, problem
from translog.evidence import Leaf

KEY = "tl_live_a-key-that-nobody-may-see"
HEADERS = [("x-api-key", KEY)]
NOBODYS = "0198a1b2-0000-7000-8000-000000000000"
ASKABLE = [name for name in providers.names() if providers.get(name).operation.lookup is not None]


@pytest.fixture
def tenant(records: Records) -> Tenant:
    """A tenant with a source of its own."""
    return records.ensure_tenant("acme")


@pytest.fixture
def source_id(records: Records, tenant: Tenant) -> str:
    """A source of that tenant."""
    return new_source(records, tenant)


def new_source(records: Records, tenant: Tenant, provider: str = "truthlocks") -> str:
    """Another source of a tenant."""
    return add_source(records, tenant, NewSource(new_id(), provider, "token", {"header": "x"}), new_id())


def told(tenant: Tenant) -> list[tuple[object, object, object]]:
    """What the log tells of sources since the first was added: action, by whom, of which."""
    with tenant.log.store.transactions.read() as tx:
        entries = list(tenant.log.store.entries(tx, 2, tenant.log.store.head(tx).size))
    return [(leaf.facts["action"], leaf.facts["by"], leaf.facts["id"]) for leaf in map(Leaf.parse, entries)]


def sealed(records: Records, source_id: str) -> bytes:
    """What the database has."""
    with records.database.read() as tx:
        return bytes(
            tx.execute(sa.select(credentials.c.value).where(credentials.c.source_id == source_id)).scalar_one()
        )


# ---- keeping ------------------------------------------------------------------------------------------------------


def test_a_credential_is_kept_encrypted(records: Records, tenant: Tenant, source_id: str) -> None:
    """It comes back as it was given; the database does not show it, and the log tells that it was set."""
    assert find_credential(records, source_id) is None

    assert set_credential(records, tenant, source_id, [*HEADERS, ("authorization", "Bearer b")], by="key-1") is True

    assert find_credential(records, source_id) == (("x-api-key", KEY), ("authorization", "Bearer b"))
    assert [part for part in (KEY.encode(), b"x-api-key") if part in sealed(records, source_id)] == []
    assert told(tenant) == [("credential", "key-1", source_id)]


def test_a_new_one_takes_the_place_of_the_old(records: Records, tenant: Tenant, source_id: str) -> None:
    """Nothing of the old one is left; lists say since when there is this one."""
    set_credential(records, tenant, source_id, [*HEADERS, ("authorization", "Bearer b")])
    first = get_source(records, tenant, source_id).credential_since

    set_credential(records, tenant, source_id, [("authorization", "Bearer c")])

    assert find_credential(records, source_id) == (("authorization", "Bearer c"),)
    second = get_source(records, tenant, source_id).credential_since
    assert first is not None
    assert second is not None
    assert first < second
    assert [action for action, _, _ in told(tenant)] == ["credential", "credential"]


def test_it_is_removed(records: Records, tenant: Tenant, source_id: str) -> None:
    """Removed again, or where there never was one, nothing is changed and nothing told."""
    assert take_credential(records, tenant, source_id)[1] is False
    set_credential(records, tenant, source_id, HEADERS)

    removed, had_one = take_credential(records, tenant, source_id, by="key-1")

    assert (removed.credential_since, had_one, find_credential(records, source_id)) == (None, True, None)
    assert take_credential(records, tenant, source_id) == (removed, False)
    assert [(action, by) for action, by, _ in told(tenant)] == [
        ("credential", "command"),
        ("credential_removed", "key-1"),
    ]


def test_it_is_bound_to_its_source(records: Records, tenant: Tenant, source_id: str) -> None:
    """Moved to another source it does not open, and that is an error; so it is with another data key."""
    other = new_source(records, tenant)
    set_credential(records, tenant, source_id, HEADERS)
    set_credential(records, tenant, other, [("x-api-key", "another")])
    with records.database.write() as tx:
        its = sa.update(credentials).where(credentials.c.source_id == other)
        tx.execute(its.values(value=sealed(records, source_id)))

    with pytest.raises(VaultError, match=f"credential/{other} does not open with this data key"):
        find_credential(records, other)
    assert find_credential(records, source_id) == tuple(HEADERS)


def test_a_source_that_is_not_there(records: Records, tenant: Tenant, source_id: str) -> None:
    """Another tenant's is as little there as nobody's."""
    default = records.tenant("default")
    for unknown in (source_id, NOBODYS, "", "\0"):
        for headers in (HEADERS, None):
            with pytest.raises(NoSuchSourceError, match="there is no source "):
                set_credential(records, default, unknown, headers)
        with pytest.raises(NoSuchSourceError, match="there is no source "):
            give_credential(records, default, unknown, HEADERS)
    assert (find_credential(records, source_id), told(tenant)) == (None, [])


def test_of_several_at_once_each_is_told(records: Records, tenant: Tenant, source_id: str) -> None:
    """One of them is the credential afterwards, and whole."""
    at_once(8, lambda number: set_credential(records, tenant, source_id, [("x-api-key", str(number))]))

    found = find_credential(records, source_id)
    assert found is not None
    assert found[0][1] in set("01234567")
    assert told(tenant) == [("credential", "command", source_id)] * 8


def test_the_running_service_need_not_look(records: Records, tenant: Tenant, source_id: str) -> None:
    """What takes deliveries has no part in it: the version that it looks at stays."""
    before = sources_version(records)

    set_credential(records, tenant, source_id, HEADERS)

    assert sources_version(records) == before


# ---- calls of unknown outcome -------------------------------------------------------------------------------------


def test_what_is_unknown_is_due_at_once(records: Records) -> None:
    """Of that source alone, even what was given up; what has an outcome is left as it is. A removal changes none."""
    caller, other = new_caller(records, "truthlocks"), new_caller(records, "truthlocks")
    unknown, given_up, refused, elsewhere = caller.begin(), caller.begin(), caller.begin(), other.begin()
    caller.refused(refused)
    with records.database.write() as tx:
        tx.execute(sa.update(attempts).where(attempts.c.id == given_up.id).values(next_at=None))
    before = next_at(caller, unknown)

    set_credential(records, caller.party.tenant, caller.party.source.id, None)
    assert next_at(caller, unknown) == before
    set_credential(records, caller.party.tenant, caller.party.source.id, HEADERS)

    due = next_at(caller, unknown)
    assert due is not None
    assert due < (before or "")
    assert [next_at(caller, one) for one in (given_up, refused)] == [due, None]
    assert next_at(other, elsewhere) not in {None, due}


def next_at(caller: Caller, attempt: Attempt) -> str | None:
    """When a call is to be looked at."""
    return caller.call(attempt).next_at


# ---- what can be one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ASKABLE)
def test_what_carries_credentials_can_be_one(records: Records, tenant: Tenant, provider: str) -> None:
    """Each header that the provider takes them in, in any case; they are kept in lower case."""
    source_id = new_source(records, tenant, provider)
    known = providers.get(provider).operation.credentials

    source = give_credential(records, tenant, source_id, [(name.title(), f"a {name}~!") for name in known])

    assert find_credential(records, source_id) == tuple((name, f"a {name}~!") for name in known)
    assert source.credential_since is not None


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([], "no header is given: this provider takes credentials in x-api-key, authorization"),
        (
            [("x-tenant-id", KEY)],
            "the header x-tenant-id carries no credentials: this provider takes credentials in x-api",
        ),
        ([*HEADERS, ("Cookie", KEY)], "the header Cookie carries no credentials"),
        ([("", KEY)], "what stands for a header's name carries no credentials"),
        ([(f"{KEY} and so on", KEY)], "what stands for a header's name carries no credentials"),
        ([("x-api-\u212aey", KEY)], "what stands for a header's name carries no credentials"),
        ([("x-api-key\r\nhost", KEY)], "what stands for a header's name carries no credentials"),
        ([*HEADERS, ("X-API-Key", "b")], "the header x-api-key is given twice"),
        (
            [("X-API-Key", "")],
            "the value of x-api-key must be printable ASCII, without spaces around it, and not empty",
        ),
        ([("x-api-key", f" {KEY}")], "the value of x-api-key must be printable ASCII"),
        ([("x-api-key", f"{KEY} ")], "the value of x-api-key must be printable ASCII"),
        ([("x-api-key", f"{KEY}\n")], "the value of x-api-key must be printable ASCII"),
        ([("x-api-key", f"{KEY}\r\nhost: evil")], "the value of x-api-key must be printable ASCII"),
        ([("authorization", f"Bearer\t{KEY}")], "the value of authorization must be printable ASCII"),
        ([("authorization", f"Bearer {KEY}é")], "the value of authorization must be printable ASCII"),
        ([("x-api-key", KEY + "k" * MAX_CREDENTIAL)], "a credential is at most 8192 bytes"),
    ],
)
def test_what_cannot_be_one(
    records: Records, tenant: Tenant, source_id: str, headers: Sequence[tuple[str, str]], says: str
) -> None:
    """It is refused by what is known, without a value in the sentence; what there is stays."""
    set_credential(records, tenant, source_id, [("x-api-key", "before")])

    with pytest.raises(SettingError) as refusal:
        give_credential(records, tenant, source_id, headers)

    assert says in str(refusal.value)
    assert (refusal.value.member, KEY in str(refusal.value)) == ("headers", False)
    assert find_credential(records, source_id) == (("x-api-key", "before"),)


def test_the_longest_one(records: Records, tenant: Tenant, source_id: str) -> None:
    """Names and values together are as long as may be."""
    longest = "k" * (MAX_CREDENTIAL - len("x-api-key"))

    give_credential(records, tenant, source_id, [("X-API-Key", longest)])

    assert find_credential(records, source_id) == (("x-api-key", longest),)
    with pytest.raises(SettingError, match="at most 8192 bytes"):
        give_credential(records, tenant, source_id, [("X-API-Key", f"{longest}k")])


@pytest.mark.parametrize("provider", [*sorted(set(providers.names()) - set(ASKABLE)), "later"])
def test_a_provider_that_cannot_be_asked(records: Records, tenant: Tenant, provider: str) -> None:
    """Or that this version does not know: there is nothing to do with a credential, and it is refused."""
    source_id = new_source(records, tenant, provider)

    with pytest.raises(
        UnusableError, match=r"the provider documents nothing that shows what|there is no provider 'later'"
    ):
        give_credential(records, tenant, source_id, [("authorization", KEY)])

    assert take_credential(records, tenant, source_id)[1] is False


def test_no_repr_shows_one() -> None:
    """On its way in."""
    assert KEY not in repr(Credential(headers={"x-api-key": KEY}))


# ---- by command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder with a source to run commands on."""
    commands = Commands(tmp_path)
    commands.ok("source", "add", "shop", "--provider", "truthlocks", "--scheme", "standard-webhooks")
    return commands


def kept(commands: Commands) -> tuple[tuple[str, str], ...] | None:
    """The credential of the source, as the relay reads it."""
    source = commands.json("source", "list")["items"][0]
    records = commands.records()
    try:
        return find_credential(records, source["id"])
    finally:
        records.close()


@pytest.mark.parametrize("text", ["X-API-Key: {}", "x-api-key: {}\n", "\r\nX-Api-Key:   {} \t\r\n\r\n"])
def test_it_is_set_by_command(commands: Commands, text: str) -> None:
    """From standard input or a file, with the spaces that may be around a value; nothing that is printed shows it."""
    given = text.format(KEY).encode()
    file = commands.folder / "credential"
    file.write_bytes(given)

    said = commands.ok("source", "credential", "shop", "--stdin", stdin=given)
    assert kept(commands) == (("x-api-key", KEY),)
    commands.ok("source", "credential", "shop", "--remove")
    printed = commands.json("source", "credential", "shop", "--file", str(file))

    assert kept(commands) == (("x-api-key", KEY),)
    assert printed == commands.json("source", "list")["items"][0]
    assert said[:34] == "Source shop has a credential since"
    assert f"credential since {printed['credential_since']}\n" in commands.ok("source", "list")
    assert KEY not in said + json.dumps(printed) + commands.ok("source", "list")


def test_it_is_removed_by_command(commands: Commands) -> None:
    """It is said whether there was one; that there was none is no error."""
    commands.ok("source", "credential", "shop", "--stdin", stdin=f"X-API-Key: {KEY}\nAuthorization: Bearer b".encode())

    first = commands.ok("source", "credential", "shop", "--remove")
    second = commands.ok("source", "credential", "shop", "--remove")
    printed = commands.json("source", "credential", "shop", "--remove")

    assert first == "Source shop has no credential any more\n"
    assert second == "Source shop has no credential: nothing is changed\n"
    assert (printed["credential_since"], kept(commands)) == (None, None)
    assert ", credential none\n" in commands.ok("source", "list")
    assert commands.ok("fsck").endswith("nothing is wrong.\n")


@pytest.mark.parametrize(
    ("arguments", "text", "status", "says"),
    [
        (("shop",), "", 2, "give one of --stdin, --file and --remove"),
        (("shop", "--stdin", "--remove"), "", 2, "give one of --stdin, --file and --remove"),
        (("shop", "--file", "x", "--remove"), "", 2, "give one of --stdin, --file and --remove"),
        (("shop", "--file", "missing"), "", 1, "missing: No such file or directory"),
        (("shop", "--stdin"), "", 1, "no header is given: this provider takes credentials in x-api-key, authorization"),
        (("shop", "--stdin"), KEY, 1, "standard input: line 1 is no header, `Name: value`"),
        (("shop", "--stdin"), f"X-API-Key: a\n\n{KEY}:b", 1, "standard input: line 3 is no header"),
        (("shop", "--stdin"), f"X-API-Key: a\r{KEY}", 1, "standard input: line 2 is no header"),
        (("shop", "--stdin"), f"X-Key: {KEY}", 1, "the header X-Key carries no credentials"),
        (("shop", "--stdin"), f"\ufeffX-API-Key: {KEY}", 1, "what stands for a header's name carries no credentials"),
        (("shop", "--stdin"), f"X-API-Key: {KEY}\nx-api-key: b", 1, "the header x-api-key is given twice"),
        (("shop", "--stdin"), f"X-API-Key: {KEY}é", 1, "the value of x-api-key must be printable ASCII"),
        (("shop", "--stdin"), f"X-API-Key: {KEY}\xa0", 1, "the value of x-api-key must be printable ASCII"),
        (("shop", "--stdin"), "X-API-Key: ", 1, "the value of x-api-key must be printable ASCII"),
        (("shop", "--stdin"), f"X-API-Key: {KEY * 300}", 1, "standard input: a credential is at most 8192 bytes"),
        (("nope", "--stdin"), f"X-API-Key: {KEY}", 1, "tenant default has no source named 'nope'"),
        (("nope", "--remove"), "", 1, "tenant default has no source named 'nope'"),
        (("badges", "--stdin"), f"Authorization: {KEY}", 1, "the provider documents nothing that shows what became of"),
        (("shop", "--remove", "--tenant", "nobody"), "", 1, "there is no tenant 'nobody'"),
    ],
)
def test_what_a_command_refuses(
    commands: Commands, arguments: tuple[str, ...], text: str, status: int, says: str
) -> None:
    """It says why, and shows nothing of what was read."""
    commands.ok("source", "add", "badges", "--provider", "capillary", "--scheme", "token", "--header", "x")

    said = commands.refused("source", "credential", *arguments, status=status, stdin=text.encode())

    assert says in " ".join(said.split())
    assert KEY not in said
    assert [one["credential_since"] for one in commands.json("source", "list")["items"]] == [None, None]


# ---- by HTTP ------------------------------------------------------------------------------------------------------


def added(service: Service, provider: str = "truthlocks", tenant: str = "default") -> str:
    """The path of the credential of a new source."""
    sender = service.add_source(tenant, "token", {"header": "x"}, provider=provider)
    return f"/v1/sources/{sender.source_id}/credential"


def facts(service: Service, since: int) -> list[dict[str, Any]]:
    """What the log tells of sources since it had that size."""
    leaves = [service.leaf(index) for index in range(since, service.size())]
    return [dict(leaf.facts) for leaf in leaves if leaf.kind == "source"]


def test_it_is_set_and_removed_by_http(either_service: Service) -> None:
    """The answer is the source as it is then; the log has the id of the key that asked."""
    client, headers, path = either_service.client, either_service.key("admin"), added(either_service)
    since, source_id = either_service.size(), path.split("/")[3]

    was_set = client.put(path, json={"headers": {"X-API-Key": KEY}}, headers=headers)
    found = find_credential(either_service.records, source_id)
    one = client.get(f"/v1/sources/{source_id}", headers=headers)
    removed = client.delete(path, headers=headers)
    again = client.delete(path, headers=headers)

    assert [answer.status_code for answer in (was_set, removed, again)] == [200, 200, 200]
    assert found == (("x-api-key", KEY),)
    assert was_set.json() == {**one.json(), "warnings": []}
    assert one.json()["credential_since"] is not None
    assert removed.json() == again.json() == {**was_set.json(), "credential_since": None}
    assert KEY not in was_set.text + one.text + removed.text
    told = facts(either_service, since)
    assert [(one["action"], one["id"]) for one in told] == [
        ("credential", source_id),
        ("credential_removed", source_id),
    ]
    assert {len(str(one["by"])) for one in told} == {36}


@pytest.mark.parametrize(
    ("body", "member", "says"),
    [
        ({}, "headers", "headers is missing"),
        ({"headers": {}}, "headers", "no header is given: this provider takes credentials in"),
        ({"headers": [["x-api-key", KEY]]}, "headers", "headers must be object, got array"),
        ({"headers": {"x-api-key": [KEY]}}, "headers", "headers must be str, got array"),
        ({"headers": {"x" * 65: KEY}}, "headers", "headers must be str of length <= 64"),
        ({"headers": {"x-api-key": KEY, "X-Api-Key": KEY}}, "headers", "the header x-api-key is given twice"),
        ({"headers": {"cookie": KEY}}, "headers", "the header cookie carries no credentials"),
        ({"headers": {"x-api-key": f"{KEY} "}}, "headers", "the value of x-api-key must be printable ASCII"),
        (
            {"headers": {"x-api-key": KEY}, "upstream": "x"},
            "upstream",
            "There is no member 'upstream' here; known: headers",
        ),
    ],
)
def test_what_a_request_cannot_set(service: Service, body: dict[str, object], member: str, says: str) -> None:
    """400 with the member at fault, and no value."""
    path = added(service)
    before = service.size()

    answer = service.client.put(path, json=body, headers=service.key("admin"))

    members = problem(answer)
    assert (answer.status_code, list(members["details"]), says in members["detail"]) == (400, [member], True), members
    assert KEY not in answer.text
    assert service.size() == before + 1  # the key's entry


def test_what_a_request_is_refused_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """409 for a provider that cannot be asked, 404 for another tenant's source, 503 once recording has stopped."""
    client, headers, body = service.client, service.key("admin"), {"headers": {"authorization": KEY}}

    conflict = client.put(added(service, "voucherify"), json=body, headers=headers)
    theirs = [
        client.request(method, added(service, tenant="another"), json=body, headers=headers) for method in METHODS
    ]
    path = added(service)
    monkeypatch.setattr(service.intake.recorder, "refusal", "the database is another one")
    halted = [client.request(method, path, json=body, headers=headers) for method in METHODS]

    assert (conflict.status_code, problem(conflict)["code"]) == (409, "CONFLICT")
    assert [(answer.status_code, problem(answer)["code"]) for answer in theirs] == [(404, "NOT_FOUND")] * 2
    assert [(answer.status_code, problem(answer)["code"]) for answer in halted] == [(503, "SERVICE_UNAVAILABLE")] * 2


METHODS = ("PUT", "DELETE")


@pytest.mark.parametrize("method", METHODS)
def test_it_needs_the_scope(service: Service, method: str) -> None:
    """401 without a key, 403 with one of every other scope; nothing is asked in the query."""
    path = added(service)

    without = service.client.request(method, path)
    other = service.client.request(method, path, headers=service.key("audit,export,operate"))
    asking = service.client.request(method, f"{path}?remove=1", headers=service.key("admin"))

    assert [answer.status_code for answer in (without, other, asking)] == [401, 403, 400]
    assert problem(other)["details"] == {"scope": "admin"}


def test_the_process_logs_none(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is taken or refused, and not on a fault of ours."""
    caplog.set_level(logging.DEBUG)
    path, headers = added(service), service.key("admin")
    service.client.put(path, json={"headers": {"x-api-key": KEY}}, headers=headers)
    service.client.put(path, json={"headers": {"x-api-key": f"{KEY}\n"}}, headers=headers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("receiver.intake.sourcing.set_credential", None)
        answer = service.client.put(path, json={"headers": {"x-api-key": KEY}}, headers=headers)

    assert answer.status_code == 500
    assert KEY not in caplog.text + answer.text
