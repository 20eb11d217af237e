"""What entries tell of tenants, sources, API keys and subscriptions, and the settings that the logs depend on."""

import pytest

from receiver.assurance import subscribing
from receiver.assurance.subscribing import Resubscribe, Subscribe
from receiver.events import Kind, new_id
from receiver.intake.sourcing import Changes, Rotation, change, rotate
from receiver.records import journal
from receiver.records.apikeys import Scope, create_key, revoke_key
from receiver.records.credentials import set_credential
from receiver.records.opening import Records
from tests.receiver.fsck.copies import FIRST, LOG, Copy

AUDIT = frozenset({Scope.AUDIT})


def test_what_no_entry_tells_of(copy: Copy) -> None:
    """A source, a key and a tenant that were put into the database are named."""
    columns = [f"'{new_id()}'" if name == "id" else name for name in copy.columns("sources")]
    columns[2] = "'another'"
    copy.damage(f"INSERT INTO sources SELECT {', '.join(columns)} FROM sources")
    copy.damage(
        "INSERT INTO api_keys (id, tenant_id, name, owner, scopes, hash, created_at) "
        "VALUES ('key', 1, 'n', 'o', 'audit', x'00', '2026')"
    )
    source = copy.one("SELECT id FROM sources WHERE name = 'another'")
    assert copy.found() == [
        f"records: source {source}: is there, and no entry tells of it",
        "records: key key: is there, and no entry tells of it",
    ]


def test_what_is_not_there_any_more(copy: Copy, open_copy: Records) -> None:
    """A key that was told of and removed is named, and so is a source without its row."""
    key_id, _ = create_key(open_copy, open_copy.tenant("default"), "auditor", AUDIT)
    with journal.change(open_copy.database, open_copy.tenant("default").log) as changing:
        changing.tell(Kind.SOURCE, {"action": "added", "by": "command", "id": "gone"})
    assert copy.found() == ["records: source gone: is not there, though an entry tells of it"]
    copy.damage("DELETE FROM api_keys")
    assert copy.found() == [
        "records: source gone: is not there, though an entry tells of it",
        f"records: key {key_id}: is not there, though an entry tells of it",
    ]


def test_a_key_that_was_revoked(copy: Copy, open_copy: Records) -> None:
    """It must still be, and none may be that was not told of."""
    tenant = open_copy.tenant("default")
    key_id, _ = create_key(open_copy, tenant, "auditor", AUDIT)
    copy.damage("UPDATE api_keys SET revoked_at = created_at")
    assert copy.found() == [f"records: key {key_id}: is revoked, and no entry tells of that"]
    copy.damage("UPDATE api_keys SET revoked_at = NULL")
    revoke_key(open_copy, tenant, "auditor")
    assert copy.found() == []
    copy.damage("UPDATE api_keys SET revoked_at = NULL")
    assert copy.found() == [f"records: key {key_id}: is not revoked, as was told"]


def test_a_source_that_was_disabled(copy: Copy, open_copy: Records) -> None:
    """It must be as was told of it last, and none may be disabled that was not told of."""
    tenant, source_id = open_copy.tenant("default"), copy.one("SELECT id FROM sources")
    copy.damage("UPDATE sources SET enabled = 0")
    assert copy.found() == [f"records: source {source_id}: is disabled, and the entries say otherwise"]
    copy.damage("UPDATE sources SET enabled = 1")
    change(open_copy, tenant, source_id, Changes(enabled=False))
    assert copy.found() == []
    copy.damage("UPDATE sources SET enabled = 1")
    assert copy.found() == [f"records: source {source_id}: is enabled, and the entries say otherwise"]
    copy.damage("UPDATE sources SET enabled = 0")
    change(open_copy, tenant, source_id, Changes(enabled=True))
    assert copy.found() == []


def test_a_source_that_was_changed_is_sound(copy: Copy, open_copy: Records) -> None:
    """With another scheme, window, account, environment and secret: what was recorded before is as it was."""
    tenant, source_id = open_copy.tenant("default"), copy.one("SELECT id FROM sources")
    rotate(open_copy, tenant, source_id, Rotation(overlap_seconds=0))
    asked = Changes(
        scheme="hmac",
        scheme_options={"header": "x"},
        account=None,
        environment="test",
        replay_window=1,
        secret="a secret of more than twenty-four bytes",
    )
    change(open_copy, tenant, source_id, asked)
    assert copy.found() == []


def test_a_tenant_of_another_name(copy: Copy) -> None:
    """What it was made as stands in its first entry."""
    copy.damage("UPDATE tenants SET name = 'other'")
    found = copy.found()
    assert found[0].startswith("tenant other: tenant/other does not open with this data key")
    assert found[1:] == [
        "records: tenant other: is there, and no entry tells of it",
        "records: tenant default: is not there, though an entry tells of it",
    ]


def test_nothing_is_said_where_an_entry_cannot_be_read(copy: Copy) -> None:
    """It may have told of what seems to be told of by none."""
    copy.damage(
        "INSERT INTO api_keys (id, tenant_id, name, owner, scopes, hash, created_at) "
        "VALUES ('key', 1, 'n', 'o', 'audit', x'00', '2026')"
    )
    copy.damage('DELETE FROM log_entries WHERE "index" = 1')
    assert copy.found() == ["entry 1: is missing"]


def test_a_secret_that_does_not_open(copy: Copy) -> None:
    """A sealed secret that was changed is named, and one of a source that is not there."""
    secret = copy.one("SELECT id FROM secrets")
    copy.flip("secrets", "value", "1")
    [line] = copy.found()
    assert line.startswith(f"records: secret {secret}: secret/{secret} does not open with this data key")
    copy.damage("UPDATE secrets SET source_id = 'nobody'")
    assert f"records: secret {secret}: is of the source nobody, which is not there" in copy.found()


def test_a_credential_that_was_told_of(copy: Copy, open_copy: Records) -> None:
    """It must be there, and none may be that was not told of, or was told to be removed."""
    tenant, source_id = open_copy.tenant("default"), copy.one("SELECT id FROM sources")
    set_credential(open_copy, tenant, source_id, [("x-api-key", "k")])
    assert copy.found() == []
    sealed = copy.one("SELECT value FROM credentials")
    copy.damage("DELETE FROM credentials")
    assert copy.found() == [f"records: source {source_id}: has no credential, and the entries say otherwise"]
    set_credential(open_copy, tenant, source_id, [("x-api-key", "l")])
    set_credential(open_copy, tenant, source_id, None)
    assert copy.found() == []
    copy.damage("INSERT INTO credentials VALUES (?, ?, '2026')", source_id, sealed)
    assert copy.found() == [f"records: source {source_id}: has a credential, and the entries say otherwise"]


def test_a_credential_that_does_not_open(copy: Copy, open_copy: Records) -> None:
    """One that was changed is named, and one of a source that is not there, which was sealed for another."""
    tenant, source_id = open_copy.tenant("default"), copy.one("SELECT id FROM sources")
    set_credential(open_copy, tenant, source_id, [("x-api-key", "k")])
    copy.flip("credentials", "value", "1")
    [line] = copy.found()
    does_not_open = "does not open with this data key"
    assert line.startswith(f"records: credential of {source_id}: credential/{source_id} {does_not_open}")
    copy.flip("credentials", "value", "1")
    copy.damage("UPDATE credentials SET source_id = 'nobody'")
    found = copy.found()
    assert found[0] == f"records: source {source_id}: has no credential, and the entries say otherwise"
    assert "records: credential of nobody: its source is not there" in found
    assert found[-1].startswith(f"records: credential of nobody: credential/nobody {does_not_open}")


def test_a_subscription_that_was_told_of(copy: Copy, open_copy: Records) -> None:
    """It must be there, be disabled or not as was told last, and be gone once it was removed; and no other."""
    tenant = open_copy.tenant("default")
    open_copy.settings.subscription_networks = "127.0.0.1"
    asked = Subscribe(name="alerts", url="http://127.0.0.1:9/", on=["gap"])
    its_id = subscribing.subscribe(open_copy, tenant, asked).subscription.id
    assert copy.found() == []
    copy.damage("UPDATE subscriptions SET enabled = 0")
    assert copy.found() == [f"records: subscription {its_id}: is disabled, and the entries say otherwise"]
    copy.damage("UPDATE subscriptions SET enabled = 1")
    subscribing.resubscribe(open_copy, tenant, its_id, Resubscribe(on=["fork"], enabled=False))
    assert copy.found() == []
    copy.damage("UPDATE subscriptions SET enabled = 1")
    assert copy.found() == [f"records: subscription {its_id}: is enabled, and the entries say otherwise"]
    copy.damage("UPDATE subscriptions SET id = 'another', enabled = 0")
    found = copy.found()
    assert found[:2] == [
        "records: subscription another: is there, and no entry tells of it",
        f"records: subscription {its_id}: is not there, though an entry tells of it",
    ]
    assert found[2].startswith("records: subscription another: subscription/another does not open with this data key")
    copy.damage("UPDATE subscriptions SET id = ?", its_id)
    subscribing.unsubscribe(open_copy, tenant, its_id)
    assert copy.found() == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE settings SET value = 'evil.example'", f"the origin is evil.example, and there is the log {LOG}"),
        ("DELETE FROM settings WHERE name = 'origin'", "the origin is missing"),
    ],
)
def test_the_origin_of_the_logs(copy: Copy, statement: str, problem: str) -> None:
    """The settings must have the base that every log was made with."""
    copy.damage(statement)
    copy.damage("UPDATE deliveries SET via = 'relay' WHERE log_index = ?", FIRST)
    assert copy.found() == [
        f"records: settings: {problem}",
        f"{copy.row(FIRST)}: via is 'relay', the entry's fact 'webhook'",
    ]


def test_a_guard_file_that_cannot_be_read(copy: Copy) -> None:
    """A claim of this base that is damaged is named, whichever log it is of; one of another base is nobody's here."""
    (copy.settings.guard / "other.checkpoint").write_text("example.net/other\nnothing")
    assert copy.found() == []
    (copy.settings.guard / "other.checkpoint").write_text(f"{LOG}\nnothing")
    [line] = copy.found()
    assert line.startswith(f"records: guard: the guard file {copy.settings.guard / 'other.checkpoint'} cannot be read")
