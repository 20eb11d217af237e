"""Issuers' logs that sources name: which are the same, where each stands when it is named, and what comes of that."""

import re
import threading
from collections.abc import Generator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from receiver.events import new_id, parse_time
from receiver.fsck import fsck
from receiver.intake.issuing import MAX_POLICY, LogMembers, log_identity
from receiver.intake.sourcing import Addition, Changes, SettingError, change, settle
from receiver.records.credentials import set_credential
from receiver.records.issuer_logs import Checking, IssuerLog, LogIdentity, Naming, followed
from receiver.records.opening import Records, Tenant
from receiver.records.sources import (
    Decision,
    ListedLog,
    ListedSource,
    NewSource,
    Source,
    add_source,
    change_source,
    get_source,
    load_sources,
)
from receiver.records.tables import issuer_logs, sources, taken_up
from tests.receiver.service import at_once
from tests.translog.misbehaving import Answering, Server, Simulated, dripping_head, garbage, serving, status
from tests.translog.policies import vkey
from tests.translog.samples import KEY, STRANGER
from translog.evidence import Leaf
from translog.follower import State
from translog.note import Kind
from translog.policy import Policy

VKEY = str(KEY.verifying_key())
OTHER = str(vkey("example.com/other", Kind.ED25519))
LOG = LogIdentity("https://log.example.com", Policy.of(VKEY).text, None)
WITNESSED = f"log {VKEY}\nwitness w {vkey('w.example')}\nquorum w\n"
OWNERLESS = "the source has neither an account nor is it exclusive, so it cannot be told which entries"


@pytest.fixture
def tenant(records: Records) -> Tenant:
    """A tenant with a source of its own."""
    return records.ensure_tenant("acme")


@pytest.fixture
def source_id(records: Records, tenant: Tenant) -> str:
    """A source of that tenant, which names no log."""
    return add_source(records, tenant, NewSource("shop", "thanx", "token", {"header": "x"}, "7b1c"), new_id())


@pytest.fixture
def server() -> Generator[Server]:
    """A log of three entries."""
    with serving(Simulated.of(3)) as server:
        yield server


def members(server: Server, **others: str | list[str] | None) -> LogMembers:
    """What is asked to name the log of a server, under its key unless said otherwise."""
    return {"url": server.url, "key": [VKEY], **others}


def naming(records: Records, tenant: Tenant, log: LogIdentity, account: str | None = "7b1c") -> str:
    """Add a source that names a log; its id."""
    new = NewSource(new_id(), "thanx", "token", {"header": "x"}, account, checking=Checking(log, 3))
    return add_source(records, tenant, new, new_id())


def ids(records: Records) -> list[str]:
    """The ids of all logs that have a row."""
    with records.database.read() as tx:
        return list(tx.execute(sa.select(issuer_logs.c.id).order_by(issuer_logs.c.created_at)).scalars())


def log_of(source: ListedSource) -> str:
    """The id of the log that a source names."""
    assert source.issuer_log is not None
    return source.issuer_log.id


def told(tenant: Tenant) -> list[str]:
    """The actions that the log tells of since the source was added."""
    with tenant.log.store.transactions.read() as tx:
        entries = list(tenant.log.store.entries(tx, 2, tenant.log.store.head(tx).size))
    return [str(leaf.facts["action"]) for leaf in map(Leaf.parse, entries)]


# ---- which log is which -------------------------------------------------------------------------------------------


def test_the_same_log_is_one(records: Records, tenant: Tenant) -> None:
    """However many sources name it, of whichever tenant; at another URL, under other keys or another origin not."""
    default = records.tenant("default")
    named = [naming(records, of, LOG) for of in (tenant, default, tenant)]
    other = LogIdentity(LOG.url, LOG.policy, "another.example")
    others = [LogIdentity("https://log.example.com/2", LOG.policy, None), LogIdentity(LOG.url, WITNESSED, None), other]

    apart = [naming(records, tenant, log) for log in others]

    with records.database.read() as tx:
        query = sa.select(sources.c.id, sources.c.issuer_log_id)
        log_ids = {row.id: row.issuer_log_id for row in tx.execute(query)}
    assert len({log_ids[one] for one in named}) == 1
    assert len({log_ids[one] for one in (named[0], *apart)}) == 4
    assert sorted(ids(records)) == sorted(set(log_ids.values()))
    assert get_source(records, tenant, apart[2]).issuer_log == ListedLog(log_ids[apart[2]], LOG.url, "another.example")


def test_a_log_begins_with_nothing_read(records: Records, tenant: Tenant) -> None:
    """Nothing is verified, nothing is wanted, and it is to be looked at, at once."""
    naming(records, tenant, LOG)

    with records.database.read() as tx:
        row = dict(tx.execute(sa.select(issuer_logs)).mappings().one())
    assert (row.pop("url"), row.pop("policy"), row.pop("origin")) == (LOG.url, LOG.policy, "")
    assert State.parse(row.pop("state")) == State()
    assert parse_time(row.pop("created_at"))
    assert (len(row.pop("id")), len(row.pop("identity"))) == (36, 32)
    begun = {"size": 0, "next_index": 0, "wanted": "[]", "unreadable": 0}
    assert row == {**dict.fromkeys(row), **begun}


def test_a_log_that_is_named_at_once_by_many_is_one(records: Records) -> None:
    """Their tenants' locks keep them apart from none: the second is given the row that the first one made."""
    tenants = [records.ensure_tenant(f"tenant-{number}") for number in range(6)]

    at_once(6, lambda number: naming(records, tenants[number], LOG))

    assert len(ids(records)) == 1


def test_a_long_policy(records: Records, tenant: Tenant) -> None:
    """Is as good as a short one: of thirty-six witnesses with keys of 1312 bytes, of which no index could hold two."""
    keys = [vkey(f"w{number}.example", Kind.ML_DSA_44) for number in range(36)]
    lines = "".join(f"witness w{number} {key}\n" for number, key in enumerate(keys))
    text = f"log {VKEY}\n{lines}group g any {' '.join(f'w{number}' for number in range(36))}\nquorum g\n"

    log = log_identity({"url": "https://h", "policy": text})
    source_ids = [naming(records, tenant, log) for _ in range(2)]

    assert len(log.policy) > 60_000
    assert {log_of(get_source(records, tenant, one)) for one in source_ids} == set(ids(records))
    assert len(ids(records)) == 1
    assert [source.checking.log for source in load_sources(records)] == [log, log]
    assert log.trust().quorum == b"g"


@pytest.mark.parametrize(
    ("asked", "log"),
    [
        ({"url": "https://log.example.com/", "key": [VKEY]}, LOG),
        ({"url": "https://log.example.com", "key": [VKEY], "policy": None, "origin": None}, LOG),
        ({"url": "https://log.example.com", "policy": f"# ours\n\nlog\t{VKEY}\nquorum  none\n"}, LOG),
        ({"url": "https://log.example.com", "key": [VKEY], "origin": KEY.name}, LOG),
        ({"url": "https://log.example.com", "key": [VKEY], "origin": "Ö 1"}, LogIdentity(LOG.url, LOG.policy, "Ö 1")),
        ({"url": LOG.url, "key": [OTHER, VKEY]}, LogIdentity(LOG.url, Policy.of(VKEY, OTHER).text, None)),
        ({"url": LOG.url, "key": [VKEY, OTHER]}, LogIdentity(LOG.url, Policy.of(VKEY, OTHER).text, None)),
        (
            {"url": LOG.url, "key": [VKEY, OTHER], "origin": KEY.name},
            LogIdentity(LOG.url, Policy.of(VKEY, OTHER).text, KEY.name),
        ),
        ({"url": LOG.url, "policy": WITNESSED}, LogIdentity(LOG.url, WITNESSED, None)),
    ],
)
def test_one_log_has_one_spelling(asked: LogMembers, log: LogIdentity) -> None:
    """Whatever the order of keys, a slash at the end, or a policy's comments; its policy is the one that was meant."""
    assert log_identity(asked) == log
    assert log.trust().text == log.policy
    assert log.trust().origin == log.origin


@pytest.mark.parametrize(
    ("asked", "member", "says"),
    [
        ({"url": None}, "issuer_log.url", "issuer_log.url, under which the log has its checkpoint, must be a text"),
        ({"url": ["https://h"]}, "issuer_log.url", "must be a text"),
        ({"url": "ftp://h"}, "issuer_log.url", "issuer_log.url must be a URL of at most 2048 characters"),
        ({"url": "https://u:hidden@h"}, "issuer_log.url", "no user, no query, no fragment"),
        ({"url": "https://h?a=hidden"}, "issuer_log.url", "no user, no query, no fragment"),
        ({"url": "https://h/../x"}, "issuer_log.url", "must have no segment . or .. in its path"),
        ({"url": "https://999.1.1.1"}, "issuer_log.url", "the host of issuer_log.url is like an address, and is none"),
        ({"ulr": "https://h"}, "issuer_log", "no member 'ulr' in issuer_log; known: url, key, policy, origin"),
        ({"key": None}, "issuer_log", "issuer_log must say whose signatures count: with key, the log's vkeys, or"),
        ({"key": []}, "issuer_log", "must say whose signatures count"),
        ({"key": VKEY}, "issuer_log.key", "issuer_log.key must be a list of the log's vkeys"),
        ({"key": [VKEY, 1]}, "issuer_log.key", "issuer_log.key must be a list of the log's vkeys, each a text"),
        ({"key": None, "policy": ["log"]}, "issuer_log.policy", "issuer_log.policy must be a text"),
        ({"policy": WITNESSED}, "issuer_log", "issuer_log has both key and policy: give one of them"),
        ({"key": [VKEY[:-1]]}, "issuer_log.key", "issuer_log.key cannot be used: vkey: "),
        ({"key": [str(KEY)]}, "issuer_log.key", "this is a private key; keep it secret"),
        ({"key": [VKEY, VKEY]}, "issuer_log.key", "give each key once"),
        ({"key": [str(vkey("w.example"))]}, "issuer_log.key", "a witness's cosigning key"),
        ({"key": None, "policy": "log x\n"}, "issuer_log.policy", "issuer_log.policy cannot be used: policy, line 1: "),
        ({"key": None, "policy": ""}, "issuer_log.policy", "no quorum line"),
        ({"key": None, "policy": "quorum none\n"}, "issuer_log.policy", "a policy file needs a log line"),
        ({"key": None, "policy": f"log {VKEY} {'u' * MAX_POLICY}\nquorum none\n"}, "issuer_log.policy", "is too long"),
        ({"origin": ""}, "issuer_log.origin", "issuer_log.origin cannot be used: checkpoint: the origin"),
        ({"origin": "a\nb"}, "issuer_log.origin", "issuer_log.origin cannot be used"),
        ({"origin": "a\0b"}, "issuer_log.origin", "issuer_log.origin cannot be used"),
        ({"origin": "o" * 1025}, "issuer_log.origin", "must be a line of at most 1024 characters"),
        ({"origin": ["o"]}, "issuer_log.origin", "must be a line of at most 1024 characters"),
    ],
)
def test_what_names_no_log(asked: LogMembers, member: str, says: str) -> None:
    """It is refused by the member at fault, before anything is asked of anybody."""
    with pytest.raises(SettingError, match=re.escape(says)) as refusal:
        log_identity({"url": "https://h", "key": [VKEY], **asked})

    assert refusal.value.member == member
    assert "hidden" not in str(refusal.value)
    assert str(KEY) not in str(refusal.value)


# ---- who is to follow it ------------------------------------------------------------------------------------------


def test_what_is_followed(records: Records, tenant: Tenant) -> None:
    """Each log once, with all sources that are enabled and name it, as they are configured; no log without one."""
    default = records.tenant("default")
    first, second = naming(records, tenant, LOG), naming(records, default, LOG, account=None)
    asked = Changes(exclusive=True, grace=60, follow_every=5, issuer_log_from=7)
    change(records, default, second, asked)
    disabled = naming(records, tenant, LOG)
    alone = naming(records, tenant, LogIdentity("https://other.example.com", WITNESSED, "Ö"))
    add_source(records, tenant, NewSource("without", "thanx", "token", {"header": "x"}), new_id())
    change(records, tenant, disabled, Changes(enabled=False))

    with records.database.read() as tx:
        shared, other = followed(tx)
    change(records, tenant, alone, Changes(enabled=False))
    with records.database.read() as tx:
        (left,) = followed(tx)

    log_id = log_of(get_source(records, tenant, first))
    assert shared.log == left.log == IssuerLog(LOG.url, LOG.policy, None, id=log_id)
    assert shared.namings == left.namings
    assert shared.namings == (
        Naming(first, tenant.id, "thanx", "7b1c", exclusive=False, grace=86_400, follow_every=10, starts_at=3),
        Naming(second, default.id, "thanx", None, exclusive=True, grace=60, follow_every=5, starts_at=7),
    )
    assert (other.log.url, other.log.policy, other.log.origin) == ("https://other.example.com", WITNESSED, "Ö")
    assert [one.source_id for one in other.namings] == [alone]


# ---- where it stands ----------------------------------------------------------------------------------------------


def test_gaps_start_where_the_log_stands(records: Records, tenant: Tenant, source_id: str, server: Server) -> None:
    """When it is named, for a new source and for one that is there: it is asked for its checkpoint, once."""
    settled = settle(Addition(name="new", provider="thanx", account="7b1c", issuer_log=members(server)))
    server.log = Simulated.of(5)
    changed, warnings = change(records, tenant, source_id, Changes(issuer_log=members(server)))

    assert settled.new.checking == Checking(LogIdentity(server.url, LOG.policy, None), 3)
    assert (changed.issuer_log, changed.issuer_log_from) == (ListedLog(ids(records)[0], server.url, None), 5)
    assert [*settled.warnings, *warnings] == []
    assert server.asked == ["checkpoint"] * 2
    assert told(tenant) == ["changed"]
    assert fsck(records).findings == ()


def test_where_gaps_start_may_be_given(records: Records, tenant: Tenant, source_id: str, server: Server) -> None:
    """Also beyond where the log stands, as it may be before anything is in it; then with a warning."""
    asked = Addition(name="new", provider="thanx", issuer_log=members(server), issuer_log_from=2**53 - 1)

    settled = settle(asked)
    changed, warnings = change(records, tenant, source_id, Changes(issuer_log=members(server), issuer_log_from=0))

    assert (settled.new.checking.starts_at, changed.issuer_log_from) == (2**53 - 1, 0)
    beyond = f"{server.url} has 3 entries: none before entry {2**53 - 1} will ever be a gap"
    assert (settled.warnings[0], warnings) == (beyond, [])


@pytest.mark.parametrize(
    ("answering", "says"),
    [
        (status(500), "cannot be had just now: .*status 500"),
        (status(404), "cannot be had just now: .*is not there"),
        (status(302, b"location: http://elsewhere"), "cannot be had just now: .*not followed"),
        (status(200, body=b"<html>"), "cannot be had just now: note: "),
        (garbage, "cannot be had just now: "),
        (dripping_head, "cannot be had just now: "),
    ],
    ids=["500", "404", "302", "page", "garbage", "slow"],
)
def test_a_log_that_cannot_be_read_just_then(
    records: Records, source_id: str, server: Server, answering: Answering, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is taken all the same, with a warning, asked once and not for long: its gaps start at a later checkpoint."""
    monkeypatch.setattr("receiver.intake.issuing.ASKING_SECONDS", 0.5)
    server.when("checkpoint", answering)

    settled = settle(Addition(name="new", provider="thanx", account="7b1c", issuer_log=members(server)))
    changed, warnings = change(records, records.tenant("acme"), source_id, Changes(issuer_log=members(server)))

    assert settled.warnings == warnings
    (warning,) = warnings
    end = re.escape(". Gaps start at the first one that is fetched and verified")
    assert re.fullmatch(f"the checkpoint of {server.url} {says}.*{end}", warning)
    assert settled.new.checking == Checking(LogIdentity(server.url, LOG.policy, None), None)
    assert (log_of(changed), changed.issuer_log_from) == (ids(records)[0], None)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "trust",
    [{"key": [str(STRANGER.verifying_key())]}, {"key": None, "policy": WITNESSED}, {"origin": "another.example"}],
    ids=["key", "witness", "origin"],
)
def test_a_wrong_key_is_noticed(trust: LogMembers, server: Server) -> None:
    """By a warning, as are witnesses that have not cosigned, and another origin: the log may be broken just then."""
    settled = settle(Addition(name="new", provider="thanx", account="7b1c", issuer_log={**members(server), **trust}))

    (warning,) = settled.warnings
    said = "is not signed as its keys or its policy demand, which may be the wrong ones: "
    assert warning.startswith(f"the checkpoint of {server.url} {said}")
    assert settled.new.checking.starts_at is None


def test_a_log_is_given_up_for_another(records: Records, tenant: Tenant, source_id: str, server: Server) -> None:
    """Gaps start anew where that stands, also if only its key is another; where all is the same, nothing is asked."""
    first = Changes(issuer_log=members(server, key=[VKEY, OTHER]), exclusive=True)
    one, _ = change(records, tenant, source_id, first)
    server.log = Simulated.of(5)

    same, _ = change(records, tenant, source_id, first)
    other, _ = change(records, tenant, source_id, Changes(issuer_log=members(server)))
    back, _ = change(records, tenant, source_id, Changes(issuer_log=members(server, key=[OTHER, VKEY])))
    given, _ = change(records, tenant, source_id, Changes(issuer_log_from=1))

    assert [source.issuer_log_from for source in (one, same, other, back, given)] == [3, 3, 5, 5, 1]
    assert (same, log_of(back)) == (one, log_of(one))
    assert log_of(other) != log_of(one)
    assert back.exclusive is True
    assert server.asked == ["checkpoint"] * 4
    assert told(tenant) == ["changed"] * 4


def test_a_log_is_taken_away(records: Records, tenant: Tenant, source_id: str, server: Server) -> None:
    """What was said of it goes with it, all else stays; its row stays for what was found out under it."""
    asked = Changes(issuer_log=members(server), exclusive=True, grace=60, follow_every=5, expect_every=9)
    change(records, tenant, source_id, asked)

    gone, warnings = change(records, tenant, source_id, Changes(issuer_log=None))
    silent, _ = change(records, tenant, source_id, Changes(expect_every=None, issuer_log=None))

    assert (gone.issuer_log, gone.issuer_log_from, gone.exclusive, warnings) == (None, None, False, [])
    assert (gone.grace, gone.follow_every, gone.expect_every, silent.expect_every) == (60, 5, 9, None)
    assert len(ids(records)) == 1
    for refused in (Changes(exclusive=True), Changes(issuer_log_from=0), Changes(issuer_log=None, exclusive=True)):
        with pytest.raises(SettingError, match="give that as well"):
            change(records, tenant, source_id, refused)
    assert told(tenant) == ["changed"] * 3


def test_what_the_follower_writes_meanwhile_is_not_lost(records: Records, tenant: Tenant, source_id: str) -> None:
    """Where gaps start, it writes as soon as it knows, without the tenant's lock: it waits for a change under way."""
    change(records, tenant, source_id, Changes(issuer_log={"url": "http://127.0.0.1:9", "key": [VKEY]}))
    its = sa.update(sources).where(sources.c.id == source_id, sources.c.issuer_log_from.is_(None))

    def follow() -> None:
        with records.database.write() as tx:
            tx.execute(its.values(issuer_log_from=7))

    following = threading.Thread(target=follow)

    def decide(source: Source) -> Decision:
        following.start()
        following.join(0.2)
        return Decision(replace(source, rate_limit=60))

    change_source(records, tenant, source_id, decide)
    following.join()

    after = get_source(records, tenant, source_id)
    assert (after.rate_limit, after.issuer_log_from) == (60, 7)


def test_whose_entries_are_a_sources_own(records: Records, tenant: Tenant, source_id: str, server: Server) -> None:
    """With neither account nor exclusive a warning says what that means, whenever one of the two or the log is set."""
    log = members(server)
    settled = settle(Addition(name="new", provider="thanx", issuer_log=log))
    exclusive = settle(Addition(name="new", provider="thanx", issuer_log=log, exclusive=True))
    steps = [
        (Changes(issuer_log=log), False),
        (Changes(account=None), True),
        (Changes(grace=60), False),
        (Changes(exclusive=True), False),
        (Changes(exclusive=False), True),
        (Changes(issuer_log=log), True),
        (Changes(account="7b1c"), False),
        (Changes(issuer_log=None, account=None), False),
    ]

    warned = [change(records, tenant, source_id, asked)[1] for asked, _ in steps]

    assert [[one.startswith(OWNERLESS) for one in each] for each in warned] == [[True] * warn for _, warn in steps]
    assert ([one.startswith(OWNERLESS) for one in settled.warnings], exclusive.warnings) == ([True], [])


# ---- taken up again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        (Changes(issuer_log=None), True),
        (Changes(issuer_log={"url": "https://h", "key": [VKEY]}, issuer_log_from=3), True),
        (Changes(issuer_log_from=2), True),
        (Changes(exclusive=True), True),
        (Changes(grace=60), True),
        (Changes(account=None), True),
        (Changes(upstream="https://h"), True),
        (Changes(enabled=False), True),
        (Changes(issuer_log={"url": LOG.url, "key": [VKEY]}, issuer_log_from=3), False),
        (Changes(grace=86_400, exclusive=False, account="7b1c", enabled=True), False),
        (Changes(follow_every=60, expect_every=60, rate_limit=7, environment="test"), False),
    ],
)
def test_what_has_events_taken_up_again(records: Records, tenant: Tenant, asked: Changes, *, again: bool) -> None:
    """Whatever changes what they are checked against, or how; and of that source only."""
    source_id, other = naming(records, tenant, LOG), naming(records, tenant, LOG)
    took_up(records, tenant, source_id, other)

    change(records, tenant, source_id, asked)

    assert left(records) == ({other} if again else {source_id, other})


def test_a_credential_has_events_taken_up_again(records: Records, tenant: Tenant, source_id: str) -> None:
    """One that is set, one in its place, and one that is taken away; but not that there is none to take away."""
    header = [("authorization", "read-only")]
    found: list[bool] = []
    for headers in (None, header, header, None, None):
        took_up(records, tenant, source_id)
        set_credential(records, tenant, source_id, headers)
        found.append(source_id in left(records))

    assert found == [True, False, False, False, True]


def took_up(records: Records, tenant: Tenant, *source_ids: str) -> None:
    """Have it that the events of these sources were taken up so far."""
    with records.database.write() as tx:
        tx.execute(sa.delete(taken_up))
        rows = [{"source_id": one, "log_id": tenant.log_id, "next_index": 7} for one in source_ids]
        tx.execute(sa.insert(taken_up), rows)


def left(records: Records) -> set[str]:
    """The sources whose events are not to be taken up from the beginning."""
    with records.database.read() as tx:
        return set(tx.execute(sa.select(taken_up.c.source_id)).scalars())
