"""`receiver.records.apikeys`: keys that open `/v1`, kept as hashes, each of them told of in the log."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from receiver.events import format_time
from receiver.records.apikeys import (
    ApiKey,
    Scope,
    Uses,
    create_key,
    find_key,
    list_keys,
    parse_scopes,
    revoke_key,
)
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.tables import api_keys
from translog.evidence import Leaf

NOW = datetime(2026, 11, 20, 9, 0, 0, 123456, UTC)
AUDIT = frozenset({Scope.AUDIT})


def facts(tenant: Tenant) -> list[tuple[str, object]]:
    """What the tenant's log says since it was made: kind and facts of each leaf."""
    with tenant.log.store.transactions.read() as tx:
        entries = list(tenant.log.store.entries(tx, 1, tenant.log.store.head(tx).size))
    return [(leaf.kind, leaf.facts) for leaf in map(Leaf.parse, entries)]


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("audit", {Scope.AUDIT}),
        ("audit,export", {Scope.AUDIT, Scope.EXPORT}),
        (" operate , admin,operate", {Scope.OPERATE, Scope.ADMIN}),
    ],
)
def test_scopes_as_text(text: str, scopes: set[Scope]) -> None:
    """They are separated by commas, in any order."""
    assert parse_scopes(text) == scopes


@pytest.mark.parametrize(
    ("text", "wrong"), [("", "''"), ("audit,", "''"), ("audit,Admin", "'Admin'"), ("all", "'all'")]
)
def test_what_is_no_scope(text: str, wrong: str) -> None:
    """The one that is none is named, with those there are."""
    with pytest.raises(RecordsError, match=f"{wrong} is not a scope; there are audit, export, operate, admin"):
        parse_scopes(text)


def test_a_key_is_shown_once_and_found_by_its_text(records: Records) -> None:
    """It is long and random, and what is kept of it is its hash; it gives its tenant and its scopes and no more."""
    tenant = records.ensure_tenant("acme")
    key_id, key = create_key(records, tenant, "ci", frozenset({Scope.AUDIT, Scope.EXPORT}))
    assert key.startswith("rk_")
    assert len(key) == 3 + 43
    assert find_key(records, key, NOW) == ApiKey(key_id, "acme", "ci", frozenset({"audit", "export"}))
    with records.database.read() as tx:
        assert tx.execute(sa.select(api_keys.c.hash)).scalar_one() == hashlib.sha256(key.encode()).digest()
    for other in ("", "rk_", key[:-1], key + "=", key.removeprefix("rk_"), key.swapcase(), key_id, f" {key}"):
        assert find_key(records, other, NOW) is None
    assert create_key(records, tenant, "another", AUDIT)[1] != key


def test_an_expired_key_is_none(records: Records) -> None:
    """It is valid until its expiry, to the microsecond, in whichever zone that was given."""
    tenant = records.tenant("default")
    expiry = NOW.astimezone(timezone(timedelta(hours=5)))
    _, key = create_key(records, tenant, "ci", AUDIT, expires_at=expiry)
    assert find_key(records, key, NOW - timedelta(microseconds=1)) is not None
    assert find_key(records, key, NOW) is None
    assert find_key(records, key, NOW + timedelta(days=1)) is None
    assert list_keys(records, tenant)[0]["expires_at"] == "2026-11-20T09:00:00.123456Z"


def test_a_revoked_key_is_none_from_then_on(records: Records) -> None:
    """It is revoked once, by its name and tenant; the log tells of it."""
    tenant, other = records.tenant("default"), records.ensure_tenant("other")
    key_id, key = create_key(records, tenant, "ci", AUDIT, by="key-7")
    _, same_name = create_key(records, other, "ci", AUDIT)
    revoke_key(records, tenant, "ci", by="key-8")
    assert find_key(records, key, NOW) is None
    assert find_key(records, same_name, NOW) is not None
    for name in ("ci", "never made"):
        with pytest.raises(RecordsError, match=f"tenant default has no key named '{name}' that is in use"):
            revoke_key(records, tenant, name)
    assert facts(tenant) == [
        ("key", {"action": "created", "by": "key-7", "id": key_id}),
        ("key", {"action": "revoked", "by": "key-8", "id": key_id}),
    ]


def test_a_name_is_given_once(records: Records) -> None:
    """Two keys of one tenant never have the same name, were the first revoked; a refusal leaves no leaf."""
    tenant = records.tenant("default")
    create_key(records, tenant, "ci", AUDIT)
    revoke_key(records, tenant, "ci")
    with pytest.raises(RecordsError, match="tenant default already has a key named 'ci'"):
        create_key(records, tenant, "ci", AUDIT)
    assert len(facts(tenant)) == 2
    create_key(records, tenant, "ci 2", AUDIT)
    assert len(facts(tenant)) == 3


def test_the_last_use_is_noted_when_asked_to(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses are gathered in memory; what could not be written is written the next time, and nobody's use is lost."""
    tenant = records.tenant("default")
    _, key = create_key(records, tenant, "ci", AUDIT)
    found = find_key(records, key, NOW)
    assert found is not None
    uses = Uses(records)
    uses.note()  # nothing to write
    uses.add(found)
    assert list_keys(records, tenant)[0]["last_used_at"] is None
    with monkeypatch.context() as patch:
        patch.setattr(records.database, "write", _out_of_reach)
        with pytest.raises(OperationalError):
            uses.note()
    before = format_time(datetime.now(UTC))
    uses.note()
    assert "" < (list_keys(records, tenant)[0]["last_used_at"] or "") <= before


def _out_of_reach() -> None:
    raise OperationalError("BEGIN", {}, Exception("database is locked"))


def test_a_list_gives_nothing_to_use_a_key_with(records: Records) -> None:
    """Oldest first, with the owner (the key's name unless said), and without key or hash; of one tenant only."""
    tenant = records.tenant("default")
    keys = [
        create_key(records, tenant, "first", AUDIT, owner="Ada"),
        create_key(records, tenant, "second", frozenset(Scope)),
    ]
    create_key(records, records.ensure_tenant("other"), "theirs", AUDIT)
    listed = list_keys(records, tenant)
    assert [(row["id"], row["name"], row["owner"], row["scopes"]) for row in listed] == [
        (keys[0][0], "first", "Ada", "audit"),
        (keys[1][0], "second", "second", "admin,audit,export,operate"),
    ]
    for row, (_, key) in zip(listed, keys, strict=True):
        assert set(row) == {"id", "name", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at"}
        assert key not in row.values()
        assert hashlib.sha256(key.encode()).hexdigest() not in row.values()


def test_the_log_names_no_person(records: Records) -> None:
    """Owner and name of a key, which may be a person's, are in no leaf: leaves are for ever."""
    tenant = records.tenant("default")
    key_id, _ = create_key(records, tenant, "ada@example.com", AUDIT, owner="Ada Lovelace")
    assert facts(tenant) == [("key", {"action": "created", "by": "command", "id": key_id})]
