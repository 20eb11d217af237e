"""Sources that are changed: what is decided under the log's lock, what it writes, and what the log tells of it."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from receiver.events import format_time, new_id, parse_time
from receiver.fsck import fsck
from receiver.intake.sourcing import Addition, Changes, Rotation, SettingError, UnusableError, change, rotate, settle
from receiver.records.credentials import find_credential, set_credential
from receiver.records.opening import Records, Tenant
from receiver.records.secrets import MAX_SECRET
from receiver.records.sources import (
    Decision,
    ListedSource,
    NewSource,
    NoSuchSourceError,
    Source,
    TakenError,
    add_source,
    change_source,
    get_source,
    load_sources,
    named_source,
    sources_version,
)
from receiver.records.tables import secrets
from tests.receiver.service import Sender, Service, at_once, revoked
from translog.evidence import Leaf

STANDARD = "whsec_" + "Ab0+" * 10
TEXT = "a secret of more than twenty-four bytes, which is no base64"
HEX = "0a" * 32


@pytest.fixture
def tenant(records: Records) -> Tenant:
    """A tenant with a source of its own."""
    return records.ensure_tenant("acme")


@pytest.fixture
def source_id(records: Records, tenant: Tenant) -> str:
    """A source of that tenant."""
    return add_source(records, tenant, NewSource("shop", "truthlocks", "standard-webhooks", {}, "7b1c"), STANDARD)


def told(tenant: Tenant) -> list[str]:
    """The actions that the log tells of since the source was added."""
    with tenant.log.store.transactions.read() as tx:
        entries = list(tenant.log.store.entries(tx, 2, tenant.log.store.head(tx).size))
    return [str(leaf.facts["action"]) for leaf in map(Leaf.parse, entries)]


def ends(source: ListedSource) -> list[str | None]:
    """When each of its secrets ends, oldest first."""
    return [secret.not_after for secret in source.secrets]


# ---- changes ------------------------------------------------------------------------------------------------------


def test_only_what_changes_is_told(records: Records, tenant: Tenant, source_id: str) -> None:
    """What is as it was asked to be is no entry, no new version, and no error."""
    before, version = get_source(records, tenant, source_id), sources_version(records)
    same = Changes(
        account="7b1c",
        environment="live",
        replay_window=300,
        rate_limit=None,
        upstream=None,
        enabled=True,
        scheme="standard-webhooks",
    )

    for asked in (same, Changes(), Changes(scheme_options={})):
        assert change(records, tenant, source_id, asked) == (before, [])
    assert (told(tenant), sources_version(records)) == ([], version)


def test_each_kind_of_change_is_an_entry(records: Records, tenant: Tenant, source_id: str) -> None:
    """Of one change that is several at once, several."""
    asked = Changes(account=None, rate_limit=60, enabled=False, secret=f"{STANDARD[:-4]}Ab1+")

    change(records, tenant, source_id, asked, by="key-1")
    change(records, tenant, source_id, Changes(enabled=False), by="key-1")
    change(records, tenant, source_id, Changes(enabled=True), by="key-1")

    assert told(tenant) == ["changed", "disabled", "rotated", "enabled"]
    (source,) = load_sources(records)
    assert (source.account, source.rate_limit, source.enabled) == (None, 60, True)


def test_options_are_changed_or_begun_again(records: Records, tenant: Tenant, source_id: str) -> None:
    """Without a scheme those given are put over the present ones; with one, nothing of the old one is left."""
    first = Changes(scheme="hmac", scheme_options={"header": "X-Sig", "prefix": "sha256="})
    every = {"header": "x-sig", "prefix": "sha256=", "encoding": "hex", "key_form": "text", "strip_whitespace": False}

    assert change(records, tenant, source_id, first)[0].scheme_options == every
    over = change(records, tenant, source_id, Changes(scheme_options={"prefix": "", "strip_whitespace": True}))[0]
    assert over.scheme_options == {**every, "prefix": "", "strip_whitespace": True}
    anew = change(records, tenant, source_id, Changes(scheme="hmac", scheme_options={"header": "x-other"}))[0]
    assert anew.scheme_options == {**every, "header": "x-other", "prefix": ""}
    with pytest.raises(SettingError, match="scheme token needs the option header") as refusal:
        change(records, tenant, source_id, Changes(scheme="token"))
    assert refusal.value.member == "scheme"
    assert told(tenant) == ["changed"] * 3


def test_a_scheme_that_the_secrets_do_not_fit(records: Records, tenant: Tenant, source_id: str) -> None:
    """It is refused with what to do, while any secret that has not ended does not fit it."""
    change(records, tenant, source_id, Changes(scheme="hmac", scheme_options={"header": "x"}, secret=TEXT))
    rotate(records, tenant, source_id, Rotation(secret=HEX, overlap_seconds=60))
    asked = Changes(scheme_options={"key_form": "hex"})
    before = get_source(records, tenant, source_id)

    with pytest.raises(UnusableError, match="cannot be used under this scheme: the secret is not hex") as refusal:
        change(records, tenant, source_id, asked)

    assert TEXT not in str(refusal.value)
    assert "Give a new secret together with the scheme" in str(refusal.value)
    assert get_source(records, tenant, source_id) == before
    with records.database.write() as tx:
        over = sa.update(secrets).where(secrets.c.not_after.is_not(None))
        tx.execute(over.values(not_after=format_time(datetime.now(UTC))))
    change(records, tenant, source_id, asked)
    assert told(tenant) == ["changed", "rotated", "rotated", "changed"]


def test_a_new_secret_ends_the_others_at_once(records: Records, tenant: Tenant, source_id: str) -> None:
    """Whatever they were worth under the new scheme."""
    rotate(records, tenant, source_id, Rotation())
    asked = Changes(scheme="token", scheme_options={"header": "x"}, secret=TEXT)

    source, warnings = change(records, tenant, source_id, asked)

    now = source.secrets[-1].created_at
    assert (ends(source), warnings) == ([now, now, None], [])
    assert told(tenant) == ["rotated", "changed", "rotated"]


def test_what_there_is_to_warn_of(records: Records, tenant: Tenant, source_id: str) -> None:
    """Of a new secret; of the present ones once another scheme reads them differently, and not before."""
    hexadecimal = Changes(scheme="hmac", scheme_options={"header": "x", "key_form": "hex"}, secret="0a" * 8)
    text = Changes(scheme_options={"key_form": "text"})

    warnings = [change(records, tenant, source_id, asked)[1] for asked in (hexadecimal, text, Changes(account=None))]

    assert [[one[:29] for one in each] for each in warnings] == [
        ["the secret is short: 8 bytes,"],
        ["the secret is short: 16 bytes"],
        [],
    ]


def test_a_source_of_an_unknown_scheme_can_be_disabled(records: Records, tenant: Tenant) -> None:
    """As one of a later version might be; what concerns the scheme is refused."""
    source_id = add_source(records, tenant, NewSource("later", "truthlocks", "quantum", {"spin": "up"}), TEXT)

    source, _ = change(records, tenant, source_id, Changes(enabled=False))

    assert (source.enabled, source.scheme, source.scheme_options) == (False, "quantum", {"spin": "up"})
    with pytest.raises(SettingError, match="there is no signature scheme 'quantum'"):
        rotate(records, tenant, source_id, Rotation())


@pytest.mark.parametrize("asked", [Changes(account=" x"), Changes(account=""), Changes(account="x" * 257)])
def test_an_account_must_be_one_that_can_be_written(records: Records, tenant: Tenant, asked: Changes) -> None:
    """Before the source is even looked for."""
    with pytest.raises(SettingError, match="account must be 1 to 256 printable characters") as refusal:
        change(records, tenant, new_id(), asked)

    assert refusal.value.member == "account"


@pytest.mark.parametrize(
    ("given", "kept", "warned"),
    [
        ("https://api.example.com", "https://api.example.com", False),
        ("https://API.example.com:8443/base/", "https://API.example.com:8443/base", False),
        ("https://gate_way/a;b=c,d/~e/%2F//", "https://gate_way/a;b=c,d/~e/%2F", False),
        ("https://[2001:db8::1]:443/", "https://[2001:db8::1]:443", False),
        ("http://localhost:8100/", "http://localhost:8100", False),
        ("http://127.0.0.7", "http://127.0.0.7", False),
        ("HTTP://[::1]:8100/x", "HTTP://[::1]:8100/x", False),
        ("http://10.0.0.1", "http://10.0.0.1", True),
        ("http://[2001:db8::1]", "http://[2001:db8::1]", True),
        ("http://localhost.example.com", "http://localhost.example.com", True),
        ("https://h/" + "p" * 2038, "https://h/" + "p" * 2038, False),
    ],
)
def test_an_upstream(records: Records, tenant: Tenant, source_id: str, given: str, kept: str, warned: bool) -> None:
    """It is kept without the slash at its end; what would travel unencrypted to another machine is warned of."""
    changed, warnings = change(records, tenant, source_id, Changes(upstream=given))
    settled = settle(Addition(name="new", provider="thanx", upstream=given))
    again, _ = change(records, tenant, source_id, Changes(upstream=kept))
    gone, none = change(records, tenant, source_id, Changes(upstream=None))

    assert changed.upstream == again.upstream == settled.new.upstream == kept
    assert ["credentials travel there unencrypted" in one for one in warnings] == [True] * warned
    assert settled.warnings == warnings
    assert (gone.upstream, none) == (None, [])
    assert told(tenant) == ["changed", "changed"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "upstream must be a URL of at most 2048 characters: http:// or https:// and a host"),
        ("api.example.com", "upstream must be a URL"),
        ("//api.example.com", "upstream must be a URL"),
        ("ftp://api.example.com", "upstream must be a URL"),
        ("https://", "upstream must be a URL"),
        ("https:///path", "upstream must be a URL"),
        ("https://user:hidden@h", "upstream must be a URL"),
        ("https://hidden@h", "upstream must be a URL"),
        ("https://h\\@other", "upstream must be a URL"),
        ("https://h?key=hidden", "upstream must be a URL"),
        ("https://h/?", "upstream must be a URL"),
        ("https://h/#", "upstream must be a URL"),
        ("https://h:", "upstream must be a URL"),
        ("https://h:0", "upstream must be a URL"),
        ("https://h:65536", "upstream must be a URL"),
        ("https://h:٣", "upstream must be a URL"),
        ("https://a..b", "upstream must be a URL"),
        ("https://" + "a" * 64, "upstream must be a URL"),
        ("https://hé", "upstream must be a URL"),
        ("https://h/é", "upstream must be a URL"),
        ("https://h/%zz", "upstream must be a URL"),
        ("https://h/a b", "upstream must be a URL"),
        (" https://h", "upstream must be a URL"),
        ("https://h\n", "upstream must be a URL"),
        ("https://h/" + "p" * 2039, "upstream must be a URL"),
        ("https://h/a/../b", "upstream must have no segment . or .. in its path"),
        ("https://h/./", "upstream must have no segment . or .."),
        ("https://h/%2e%2E", "upstream must have no segment . or .."),
        ("https://[::1", "upstream must be a URL"),
        ("http://[1.2.3.4]", "the host of upstream is like an address, and is none"),
        ("http://999.1.1.1", "the host of upstream is like an address, and is none"),
        ("https://127.1", "the host of upstream is like an address, and is none"),
    ],
)
def test_what_is_no_upstream(records: Records, tenant: Tenant, source_id: str, given: str, says: str) -> None:
    """It is refused, and not repeated: there may be a password in it."""
    for ask in (
        lambda: change(records, tenant, source_id, Changes(upstream=given)),
        lambda: settle(Addition(name="new", provider="thanx", upstream=given)),
    ):
        with pytest.raises(SettingError, match=says) as refusal:
            ask()
        assert (refusal.value.member, "hidden" in str(refusal.value)) == ("upstream", False)

    assert told(tenant) == []


@pytest.mark.parametrize(
    "after",
    [
        "https://other.example.com/base",
        "http://api.example.com:443/base",
        "https://api.example.com:8443/base",
        "https://api.example.com.example.org/base",
        None,
    ],
)
def test_another_upstream_takes_the_credential_away(
    records: Records, tenant: Tenant, source_id: str, after: str | None
) -> None:
    """It was for the host before, on that port and by that scheme: whoever is at another must not be sent it."""
    before = "https://api.example.com/base"
    change(records, tenant, source_id, Changes(upstream=before))
    set_credential(records, tenant, source_id, [("x-api-key", "read-only")])

    changed, warnings = change(records, tenant, source_id, Changes(upstream=after, enabled=False))
    again = change(records, tenant, source_id, Changes(upstream=after))

    removed = f"the read-only credential was for {before}, and is removed"
    assert warnings[-1] == (removed if after is None else f"{removed}; give the new one's")
    assert (changed.upstream, changed.credential_since, find_credential(records, source_id)) == (after, None, None)
    assert (again[0], removed in str(again[1])) == (changed, False)
    assert told(tenant) == ["changed", "credential", "changed", "credential_removed", "disabled"]
    assert fsck(records).findings == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("https://api.example.com", "https://api.example.com/base/"),
        ("https://api.example.com", "HTTPS://API.example.com:443"),
        ("http://127.0.0.1:80/a", "http://127.0.0.1/b"),
        ("https://[2001:db8::1]:8443", "https://[2001:DB8::1]:8443"),
        ("https://api.example.com", "https://api.example.com"),
        (None, "https://api.example.com"),
    ],
)
def test_the_credential_stays_where_it_was_for(
    records: Records, tenant: Tenant, source_id: str, before: str | None, after: str
) -> None:
    """At another path, written otherwise, or at the first upstream that there is; and whatever else is changed."""
    change(records, tenant, source_id, Changes(upstream=before))
    set_credential(records, tenant, source_id, [("x-api-key", "read-only")])

    moved = change(records, tenant, source_id, Changes(upstream=after))
    disabled = change(records, tenant, source_id, Changes(enabled=False))

    assert [warnings for _, warnings in (moved, disabled)] == [[], []]
    assert find_credential(records, source_id) == (("x-api-key", "read-only"),)
    assert "credential_removed" not in told(tenant)


def test_where_there_was_no_credential_none_is_removed(records: Records, tenant: Tenant, source_id: str) -> None:
    """Nothing is told or warned of."""
    for upstream in ("https://a.example.com", "https://b.example.com", None):
        assert change(records, tenant, source_id, Changes(upstream=upstream))[1] == []

    assert told(tenant) == ["changed"] * 3


# ---- rotation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 90, 86_400, 366 * 86_400])
def test_the_others_end_after_the_overlap(records: Records, tenant: Tenant, source_id: str, overlap: int) -> None:
    """The new one is valid at once and has no end; it is made in the form of the scheme if none is given."""
    rotated = rotate(records, tenant, source_id, Rotation(overlap_seconds=overlap))

    source = get_source(records, tenant, source_id)
    first, second = source.secrets
    assert (second.id, second.not_before, second.not_after) == (rotated.id, None, None)
    end = parse_time(second.created_at) + timedelta(seconds=overlap)
    assert first.not_after == format_time(end)
    (loaded,) = load_sources(records)
    assert [one.value for one in loaded.secrets] == [STANDARD, rotated.secret]
    assert re.fullmatch("whsec_[A-Za-z0-9+/]{43}=", rotated.secret or "")


def test_what_ends_earlier_keeps_its_end(records: Records, tenant: Tenant, source_id: str) -> None:
    """A later rotation gives no secret more time than it had; one with less takes it away."""
    for overlap in (60, 3600):
        rotate(records, tenant, source_id, Rotation(overlap_seconds=overlap))
    first, second, third = ends(get_source(records, tenant, source_id))
    assert first is not None
    assert second is not None
    assert (first < second, third) == (True, None)

    rotate(records, tenant, source_id, Rotation(overlap_seconds=120))

    again = ends(get_source(records, tenant, source_id))
    assert again[0] == first
    assert (again[1] or "") < second
    assert again[3] is None
    assert told(tenant) == ["rotated"] * 3


def test_a_secret_that_cannot_be_the_new_one(records: Records, tenant: Tenant, source_id: str) -> None:
    """Of another source, of this one, or none under its scheme: nothing ends."""
    other = add_source(records, records.tenant("default"), NewSource("b", "truthlocks", "token", {"header": "x"}), TEXT)
    rotate(records, records.tenant("default"), other, Rotation(secret="Ab1+" * 10))

    for taken in (STANDARD, STANDARD.removeprefix("whsec_"), "Ab1+" * 10):
        with pytest.raises(TakenError, match="this secret already belongs to a source"):
            rotate(records, tenant, source_id, Rotation(secret=taken))
    for unfit in (TEXT, "whpk_AAAA", "", "A" * (MAX_SECRET + 4)):
        with pytest.raises(SettingError) as refusal:
            rotate(records, tenant, source_id, Rotation(secret=unfit))
        assert refusal.value.member == "secret"
    assert (ends(get_source(records, tenant, source_id)), told(tenant)) == ([None], [])


def test_a_source_that_is_not_there(records: Records, tenant: Tenant, source_id: str) -> None:
    """Another tenant's is as little there as nobody's."""
    default = records.tenant("default")
    for unknown in (source_id, new_id(), "", "x" * 100, "\0"):
        says = re.escape(f"there is no source {unknown[:64]!a}")
        with pytest.raises(NoSuchSourceError, match=says):
            change(records, default, unknown, Changes(enabled=False))
        with pytest.raises(NoSuchSourceError, match=says):
            rotate(records, default, unknown, Rotation())
        with pytest.raises(NoSuchSourceError, match=says):
            get_source(records, default, unknown)
    with pytest.raises(NoSuchSourceError, match="tenant default has no source named 'shop'"):
        named_source(records, default, "shop")
    assert named_source(records, tenant, "shop") == source_id


# ---- at once, and while the service runs --------------------------------------------------------------------------


def test_what_is_decided_sees_what_was_decided_before(records: Records, tenant: Tenant, source_id: str) -> None:
    """Changes at once wait for one another: none is lost, and each has its entry."""

    def one_more(source: Source) -> Decision:
        return Decision(replace(source, rate_limit=(source.rate_limit or 0) + 1))

    at_once(8, lambda _: change_source(records, tenant, source_id, one_more))

    assert get_source(records, tenant, source_id).rate_limit == 8
    assert told(tenant) == ["changed"] * 8


def test_a_decision_that_fails_changes_nothing(records: Records, tenant: Tenant, source_id: str) -> None:
    """What it raises comes out, and the next change is free to go on."""

    def fail(_: Source) -> Decision:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        change_source(records, tenant, source_id, fail)
    assert told(tenant) == []
    change(records, tenant, source_id, Changes(enabled=False))
    assert told(tenant) == ["disabled"]


def test_the_running_service_takes_changes_over(either_service: Service) -> None:
    """A scheme with its new secret, and a rotation back to a secret of before's form: the old ones are refused.

    That an ended secret does not fit the scheme of now keeps no delivery out.
    """
    sender, records, of = either_service.add_source(account=None), either_service.records, either_service.tenant
    token = f"{TEXT}: {sender.source_id}"
    asked = Changes(scheme="token", scheme_options={"header": "x-token"}, secret=token)
    assert sender.post(revoked()).status_code == 200

    change(records, of, sender.source_id, asked)
    either_service.refresh()

    assert (sender.post(revoked()).status_code, sender.post(revoked(), {"x-token": token}).status_code) == (401, 200)
    with pytest.raises(UnusableError):
        change(records, of, sender.source_id, Changes(scheme="standard-webhooks"))
    new = f"{new_id()}{new_id()}".replace("-", "")
    change(records, of, sender.source_id, Changes(scheme="standard-webhooks", secret=new))
    either_service.refresh()
    assert sender.post(revoked(), {"x-token": token}).status_code == 401
    assert Sender(either_service, sender.source_id, new).post(revoked()).status_code == 200
