"""`receiver.records.sources`: who may deliver, with a secret that is one source's only and is kept encrypted."""

import hashlib
import hmac
from dataclasses import replace

import pytest
import sqlalchemy as sa

from receiver.records.issuer_logs import Checking
from receiver.records.opening import Records, RecordsError, Tenant
from receiver.records.sources import (
    NewSource,
    NoSuchSourceError,
    Source,
    StoredSecret,
    add_source,
    load_sources,
    relay_source,
    sources_version,
)
from receiver.records.tables import secrets, sources
from translog.evidence import Leaf

SHOP = NewSource(
    "shop",
    "truthlocks",
    "standard-webhooks",
    {"prefix": "v1", "strict": True},
    account="7b1c",
    test=True,
    upstream="http://h",
)
BARE = NewSource("bare", "truthlocks", "standard-webhooks", {})


def facts(tenant: Tenant) -> list[tuple[str, object]]:
    """What the tenant's log says since it was made: kind and facts of each leaf."""
    with tenant.log.store.transactions.read() as tx:
        entries = list(tenant.log.store.entries(tx, 1, tenant.log.store.head(tx).size))
    return [(leaf.kind, leaf.facts) for leaf in map(Leaf.parse, entries)]


def test_a_source_is_read_as_it_was_added(records: Records) -> None:
    """All that was said of it, what was not said by its default, and its secret in the clear; the log tells of it."""
    tenant = records.ensure_tenant("acme")
    source_id = add_source(records, tenant, SHOP, "first secret", by="key-1")
    bare_id = add_source(records, tenant, BARE, "second secret")
    loaded = {source.id: source for source in load_sources(records)}
    (secret,) = loaded[source_id].secrets
    assert loaded[source_id] == Source(
        id=source_id,
        tenant="acme",
        name="shop",
        provider="truthlocks",
        scheme="standard-webhooks",
        scheme_options={"prefix": "v1", "strict": True},
        account="7b1c",
        replay_window=300,
        test=True,
        rate_limit=None,
        enabled=True,
        upstream="http://h",
        checking=Checking(None, None, exclusive=False, grace=86_400, follow_every=10, expect_every=None),
        secrets=(StoredSecret(secret.id, "first secret", None, None),),
    )
    bare = loaded[bare_id]
    assert (bare.name, bare.scheme_options, bare.account, bare.test) == ("bare", {}, None, False)
    assert bare.upstream is None
    assert facts(tenant) == [
        ("source", {"action": "added", "by": "key-1", "id": source_id}),
        ("source", {"action": "added", "by": "command", "id": bare_id}),
    ]


def test_a_source_is_read_by_id_or_name(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is now, enabled or not, without opening its secrets; another tenant's is not there."""
    tenant, other = records.ensure_tenant("acme"), records.ensure_tenant("other")
    source_id = add_source(records, tenant, SHOP, "first secret")
    add_source(records, other, SHOP, "second secret")
    (loaded,) = [one for one in load_sources(records) if one.id == source_id]
    monkeypatch.setattr(records.vault, "open", None)

    found = [relay_source(records, tenant, given) for given in (source_id, "shop")]

    assert found == [replace(loaded, secrets=())] * 2
    with records.database.write() as tx:
        its = sa.update(sources).where(sources.c.id == source_id)
        tx.execute(its.values(enabled=False, upstream="http://changed"))
    changed = relay_source(records, tenant, "shop")
    assert (changed.enabled, changed.upstream) == (False, "http://changed")
    for tenant_without, unknown in ((other, source_id), (tenant, "bare"), (tenant, ""), (tenant, "\0")):
        with pytest.raises(NoSuchSourceError, match="there is no source "):
            relay_source(records, tenant_without, unknown)


def test_a_name_is_one_sources_within_its_tenant(records: Records) -> None:
    """Another tenant may have a source of the same name. A refusal keeps nothing, neither row nor leaf."""
    tenant = records.tenant("default")
    add_source(records, tenant, SHOP, "first secret")
    with pytest.raises(RecordsError, match="tenant default already has a source named 'shop'"):
        add_source(records, tenant, SHOP, "second secret")
    assert len(facts(tenant)) == 1
    add_source(records, records.ensure_tenant("acme"), SHOP, "second secret")
    assert sorted(source.tenant for source in load_sources(records)) == ["acme", "default"]


@pytest.mark.parametrize("tenant", ["default", "acme"])
@pytest.mark.parametrize(("first", "second"), [("c2VjcmV0", "c2VjcmV0"), ("whsec_c2VjcmV0", "c2VjcmV0")])
def test_a_secret_belongs_to_one_source(records: Records, tenant: str, first: str, second: str) -> None:
    """Whoever holds it could else deliver in another's name, in this tenant or any: with its prefix or without."""
    add_source(records, records.tenant("default"), SHOP, first)
    other = records.ensure_tenant(tenant)
    before = facts(other)
    with pytest.raises(RecordsError, match="this secret already belongs to a source; a secret is one source's only"):
        add_source(records, other, BARE, second)
    assert facts(other) == before
    assert [source.name for source in load_sources(records)] == ["shop"]
    add_source(records, other, BARE, f"{second}=")
    assert sorted(source.name for source in load_sources(records)) == ["bare", "shop"]


def test_what_is_kept_of_a_secret(records: Records) -> None:
    """A sealed value, and a fingerprint that cannot be computed, or tried, without the data key."""
    add_source(records, records.tenant("default"), SHOP, "secret")
    with records.database.read() as tx:
        row = tx.execute(sa.select(secrets.c.value, secrets.c.fingerprint)).one()
    assert b"secret" not in row.value + row.fingerprint
    key = records.vault.derive("secret-fingerprint")
    assert row.fingerprint == hmac.new(key, b"secret", hashlib.sha256).digest()


def test_a_secret_moved_to_another_source_does_not_open(records: Records) -> None:
    """A sealed secret is bound to its own row, so that it cannot be lent out; the others go on."""
    add_source(records, records.tenant("default"), SHOP, "first secret")
    add_source(records, records.tenant("default"), BARE, "second secret")
    with records.database.write() as tx:
        ids = list(tx.execute(sa.select(secrets.c.id).order_by(secrets.c.id)).scalars())
        stolen = tx.execute(sa.select(secrets.c.value).where(secrets.c.id == ids[0])).scalar_one()
        tx.execute(sa.update(secrets).where(secrets.c.id == ids[1]).values(value=stolen))
    opened = {source.name: [secret.value for secret in source.secrets] for source in load_sources(records)}
    assert sorted(opened.values()) == [[], ["first secret"]]


def test_the_version_changes_with_any_change(records: Records) -> None:
    """It differs after each change to a source or a secret, and not by itself."""
    seen = [sources_version(records)]
    assert sources_version(records) == seen[0]

    def has_changed() -> bool:
        seen.append(sources_version(records))
        assert sources_version(records) == seen[-1]
        return seen[-1] not in seen[:-1]

    source_id = add_source(records, records.tenant("default"), SHOP, "first secret")
    assert has_changed()
    for change in (
        {"enabled": False},
        {"rate_limit": 60},
        {"replay_window": 600},
        {"account": "another"},
        {"scheme_options": "{}"},
        {"scheme": "another"},
        {"environment": "live"},
        {"upstream": "http://another"},
        {"issuer_log_id": "another"},
        {"exclusive": True},
        {"grace": 60},
        {"expect_every": 60},
    ):
        with records.database.write() as tx:
            tx.execute(sa.update(sources).where(sources.c.id == source_id).values(change))
        assert has_changed(), change
    for moment in ("not_before", "not_after"):
        with records.database.write() as tx:
            tx.execute(sa.update(secrets).values({moment: "2026-11-20T09:00:00.000000Z"}))
        assert has_changed(), moment
    add_source(records, records.tenant("default"), BARE, "second secret")
    assert has_changed()
