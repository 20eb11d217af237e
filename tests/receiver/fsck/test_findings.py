"""What was found out: leaves of cross-checks, gaps, forks and silences, held against the rows of `findings`."""

import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from receiver.events import Kind, new_id
from receiver.fsck import fsck
from receiver.records.opening import Records
from receiver.records.tables import checks, claims, findings, issuer_logs
from receiver.settings import Settings
from tests.receiver.fsck.calls import Filled
from tests.receiver.fsck.copies import Copy, append
from tests.receiver.fsck.found import fill_found, kept
from translog.evidence import Leaf

LATER = "2030-01-01T00:00:00.000000Z"


def of(found: Filled, column: str, name: str) -> object:
    """What a finding's row has in a column."""
    return found.copy.one(f"SELECT {column} FROM findings WHERE id = '{found.ids[name]}'")


def entry_hash(found: Filled, name: str) -> str:
    """The leaf hash that a finding names of an issuer's entry."""
    return str(of(found, "event_data ->> 'entry'", name))


def test_all_that_can_be_found_out_is_clean(found: Filled) -> None:
    """Events of every state, by whomever they were judged, gaps, a fork and silences: as they were left."""
    assert found.found() == []
    assert found.copy.report().remarks == ()
    states = {
        "cross_check": {"absent": 2, "confirmed": 6, "contradicted": 2, "none": 2, "pending": 1},
        "gap": {"announced": 2, "open": 5},
        "fork": {"forked": 1},
        "silence": {"began": 2, "ended": 1},
    }
    for kind, numbers in states.items():
        for state, number in numbers.items():
            query = f"SELECT count(*) FROM findings WHERE kind = '{kind}' AND state = '{state}'"
            assert (state, found.copy.one(query)) == (state, number)
    assert found.copy.one("SELECT count(*) FROM findings") == sum(sum(one.values()) for one in states.values())
    assert found.copy.one("SELECT count(*) FROM checks WHERE finding_id IS NULL AND state = 'pending'") == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [("cross_check", "contradicted_told"), ("gap", "gap_gap"), ("fork", "forked_told"), ("silence", "silent_told")],
)
def test_what_these_entries_hold_is_documented(found: Filled, kind: str, name: str) -> None:
    """The page on the log's format has an example of the facts, and of what they commit to; and no other members."""
    page = (Path(__file__).parents[3] / "docs" / "log-format.md").read_text()
    section = page.partition(f"\n### {kind}\n")[2].partition("\n### ")[0]
    examples = [
        json.loads(one) for one in re.findall(r"(?:^    |`)(\{.*?\})(?:$|`)", section, re.MULTILINE | re.DOTALL)
    ]
    entry = found.copy.one(
        f'SELECT data FROM log_entries WHERE log_id = 1 AND "index" = {of(found, "log_index", name)}'
    )
    opened = json.loads(bytes(found.copy.one(f"SELECT event_data FROM findings WHERE id = '{found.ids[name]}'")))
    assert [set(one) for one in examples] == [set(Leaf.parse(bytes(entry)).facts), set(opened)]


# ---- a leaf and its row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "problems"),
    [
        ("gap_gap", "logged_at = '2030'", ["logged_at is '2030', the entry's '{logged_at}'"]),
        ("confirmed_told", "state = 'contradicted'", ["state is 'contradicted', the entry's fact 'confirmed'"]),
        ("late_told1", "state = 'melted'", ["state is 'melted', the entry's fact 'confirmed'"]),
        ("silent_told", "state = 'ended'", ["state is 'ended', the entry's fact 'began'"]),
        (
            "silent_told",
            "source_id = 'nobody'",
            [
                "the source nobody is not there",
                "provider is None, the entry's fact 'scrip'",
                "source is 'nobody', the entry's fact '[silent]'",
            ],
        ),
        (
            "silent_told",
            "source_id = [other_source]",
            [
                "the source [other_source] is another tenant's",
                "source is '[other_source]', the entry's fact '[silent]'",
            ],
        ),
        (
            "confirmed_told",
            "source_id = [asked]",
            [
                "provider is 'truthlocks', the entry's fact 'scrip'",
                "source is '[asked]', the entry's fact '[source]'",
                "the event [confirmed] that it is of is another source's",
            ],
        ),
        ("gap_gap", "event_id = [absent]", ["event_id is given, which a gap has not"]),
        ("forked_told", "source_id = [source]", ["source_id is given, which a fork has not"]),
        ("forked_told", "issuer_index = 1", ["issuer_index is given, which a fork has not"]),
        ("silent_told", "issuer_log_id = [issuer]", ["issuer_log_id is given, which a silence has not"]),
        (
            "contradicted_told",
            "event_data = CAST(replace(event_data, '21.00', '20.00') AS BLOB)",
            ["event_data, event_salt do not give the event that the entry commits to"],
        ),
        (
            "silent_told",
            "event_salt = zeroblob(32)",
            ["event_data, event_salt do not give the event that the entry commits to"],
        ),
        (
            "recorded_told",
            "headers = replace(headers, '200', '404')",
            ["headers, body, delivery_salt do not give the delivery that the entry commits to"],
        ),
        (
            "forked_told",
            "body = CAST(body || ' ' AS BLOB)",
            ["headers, body, delivery_salt do not give the delivery that the entry commits to"],
        ),
        (
            "denied_told",
            "headers = '['",
            ["the delivery cannot be opened: Expecting value: line 1 column 2 (char 1)"],
        ),
        (
            "absent_told",
            "headers = '[]', body = x'00'",
            ["the delivery is given, and the entry does not commit to it"],
        ),
        ("gap_gap", "event_salt = NULL", ["the event cannot be opened without event_salt"]),
        (
            "gap_gap",
            "event_data = NULL, event_salt = NULL, headers = NULL, body = NULL, delivery_salt = NULL",
            [
                "the event is erased, and no erasure entry names it",
                "the delivery is erased, and no erasure entry names it",
            ],
        ),
    ],
)
def test_a_row_that_its_entry_does_not_bear_out(found: Filled, name: str, change: str, problems: list[str]) -> None:
    """Whatever a row says that its entry does not, and whatever it holds that was not committed to, is named."""
    logged_at = of(found, "logged_at", name)
    found.damage(f"UPDATE findings SET {change} WHERE id = [{name}]")
    lines = [line for line in found.found() if line.startswith("finding")]
    assert lines == [f"finding [{name}]: {problem.format(logged_at=logged_at)}" for problem in problems]


def test_a_row_under_another_id(found: Filled) -> None:
    """It has the id of its entry."""
    found.damage("UPDATE findings SET id = 'another' WHERE id = [silent_told]")
    index = found.copy.one("SELECT log_index FROM findings WHERE id = 'another'")
    assert found.found() == [f"finding another (entry {index}): id is 'another', the entry's '[silent_told]'"]


def test_a_row_of_another_kind(found: Filled) -> None:
    """It is of the kind of its entry; and what it was before is missed where that counts."""
    found.damage("UPDATE findings SET kind = 'fork' WHERE id = [gap_gap]")
    assert found.found() == [
        "finding [gap_gap]: kind is 'fork', the entry's 'gap'",
        f"{kept('gap')}: gap_id is '[gap_gap]', and no finding tells of a gap",
        f"{kept('gap')}: source_id is '[source]', and no finding tells of a gap",
    ]


def test_rows_that_nothing_stands_for(found: Filled) -> None:
    """A row beside an entry of settings, and one beyond the log, for which its own entry misses it."""
    found.damage("UPDATE findings SET log_index = 0 WHERE id = [silent_told]")
    assert found.found() == [
        "finding [silent_told] (entry 0): stands beside a tenant, which is no finding",
        "entry [silent_told]: is the silence [silent_told], which has no row",
    ]
    found.damage("UPDATE findings SET log_index = 9999 WHERE id = [silent_told]")
    assert found.found() == [
        "entry [silent_told]: is the silence [silent_told], which has no row",
        "finding [silent_told] (entry 9999): has no entry",
    ]


@pytest.mark.parametrize("kind", [Kind.CROSS_CHECK, Kind.GAP, Kind.FORK, Kind.SILENCE])
def test_an_entry_without_a_row(copy: Copy, open_copy: Records, kind: Kind) -> None:
    """What an entry of these kinds commits to must be kept."""
    last = copy.one("SELECT logged_at FROM logs")
    leaf = Leaf(kind, new_id(), last, {}, None, None)
    append(open_copy, [leaf.encode()])
    assert copy.found() == [f"entry 268: is the {kind} {leaf.id}, which has no row"]


def test_entries_that_are_gone(found: Filled) -> None:
    """Where an entry is missing, that is all that is said of its row; where it is no leaf, not even that."""
    gone, no_leaf = (of(found, "log_index", name) for name in ("absent_told", "recorded_told"))
    found.copy.damage('DELETE FROM log_entries WHERE log_id = 1 AND "index" = ?', gone)
    found.copy.damage('UPDATE log_entries SET data = ? WHERE log_id = 1 AND "index" = ?', b"{}", no_leaf)
    assert sorted({line.partition(": ")[0] for line in found.found() if "_told]" in line}) == [
        "entry [absent_told]",
        "entry [recorded_told]",
        "finding [absent_told]",
    ]


def test_a_log_that_is_not_there(found: Filled) -> None:
    """Rows of it are named with it."""
    found.damage("UPDATE findings SET log_id = 7 WHERE id = [silent_told]")
    assert found.found() == [
        "entry [silent_told]: is the silence [silent_told], which has no row",
        "records: findings: log 7 is not there, but rows of it: 1",
    ]


# ---- what it was found from -----------------------------------------------------------------------------------------


def test_who_said_so(found: Filled) -> None:
    """A log, where the row names one, and else the provider's record; that is what the entry says."""
    found.damage("UPDATE findings SET issuer_log_id = NULL WHERE id = [absent_told]")
    found.damage("UPDATE findings SET issuer_log_id = [issuer] WHERE id = [denied_told]")
    lines = [line for line in found.found() if line.startswith("finding")]
    assert lines == [
        "finding [absent_told]: by is 'provider_record', the entry's fact 'issuer_log'",
        "finding [absent_told]: issuer_log is None, and what was found says 'issuer.example/log/2'",
        "finding [denied_told]: by is 'issuer_log', the entry's fact 'provider_record'",
        "finding [denied_told]: issuer_log is 'issuer.example/log/2', and what was found says None",
    ]


def test_what_was_told_before(found: Filled) -> None:
    """What it was before, and whether it came late, follows from the finding before; without it, from its absence."""
    found.damage("DELETE FROM findings WHERE id IN ([late_told], [again_told])")
    lines = [line for line in found.found() if line.startswith("finding")]
    assert lines == [
        "finding [late_told1]: late is False, the entry's fact True",
        "finding [late_told1]: was is 'pending', the entry's fact 'absent'",
        "finding [again_told1]: was is 'pending', the entry's fact 'none'",
    ]


def test_the_event_that_it_is_of(found: Filled) -> None:
    """It is there, of the same source, and was logged before; and the entry names it."""
    found.damage("UPDATE findings SET event_id = 'nobody' WHERE id = [confirmed_told]")
    assert found.found()[:2] == [
        "finding [confirmed_told]: first is 'nobody', the entry's fact '[confirmed]'",
        "finding [confirmed_told]: the event nobody that it is of is not there",
    ]
    found.damage("UPDATE findings SET event_id = [announced] WHERE id = [confirmed_told]")
    assert found.found()[:2] == [
        "finding [confirmed_told]: first is '[announced]', the entry's fact '[confirmed]'",
        "finding [confirmed_told]: the event [announced] that it is of was logged after it",
    ]


@pytest.mark.parametrize(
    ("name", "change", "problems"),
    [
        (
            "confirmed_told",
            "issuer_index = 99",
            [
                "entry 99 of the issuer log [issuer], which it names, is not kept",
                "issuer_index is 99, and what was found says 0",
            ],
        ),
        (
            "confirmed_told",
            "issuer_index = NULL",
            ["issuer_index is None, and what was found says 0", "entry is None, and what was found says '{entry}'"],
        ),
        (
            "confirmed_told",
            "issuer_index = 1",
            [
                "issuer_index is 1, and what was found says 0",
                "entry is '{contradicted}', and what was found says '{entry}'",
            ],
        ),
        (
            "absent_told",
            "issuer_index = 1",
            [
                "issuer_index is 1, and what was found says None",
                "entry is '{contradicted}', and what was found says None",
            ],
        ),
        (
            "gap_gap",
            "issuer_index = 1",
            [
                "body is not the entry of the issuer log that it names",
                "issuer_index is 1, and what was found says 2",
                "entry is '{contradicted}', and what was found says '{entry}'",
            ],
        ),
        ("absent_told", "issuer_log_id = 'x'", ["the issuer log x is not there"]),
        (
            "absent_told",
            "issuer_log_id = [forked]",
            ["issuer_log is 'issuer.example/log', and what was found says 'issuer.example/log/2'"],
        ),
        ("forked_told", "issuer_log_id = 'x'", ["issuer_log is 'x', the entry's fact '[forked]'"]),
    ],
)
def test_the_issuers_entry_that_it_names(found: Filled, name: str, change: str, problems: list[str]) -> None:
    """It is kept, is the very entry that was found, and of the log that was read."""
    hashes = {"entry": entry_hash(found, name), "contradicted": entry_hash(found, "contradicted_told")}
    found.damage(f"UPDATE findings SET {change} WHERE id = [{name}]")
    lines = [line for line in found.found() if line.startswith(f"finding [{name}]: ")]
    assert lines[: len(problems)] == [f"finding [{name}]: {problem.format(**hashes)}" for problem in problems]


def test_a_fork_that_was_told_of(found: Filled) -> None:
    """The log that it was told of has forked, by its own row, and with that evidence."""
    found.damage("UPDATE issuer_logs SET url = 'https://another' WHERE id = [forked]")
    [line] = found.found()
    assert line.startswith(
        "finding [forked_told]: url is 'https://another', and what was found says 'http://127.0.0.1:"
    )
    found.damage("UPDATE issuer_logs SET fork = NULL, forked_at = NULL WHERE id = [forked]")
    assert found.found()[0] == "finding [forked_told]: the issuer log [forked] has not forked, by issuer_logs"
    found.damage("DELETE FROM issuer_logs WHERE id = [forked]")
    assert found.found()[0] == "finding [forked_told]: the issuer log [forked] is not there"


@pytest.mark.parametrize("change", ["DELETE FROM bundle_roots", "UPDATE bundle_roots SET root = zeroblob(32)"])
def test_the_roots_that_proof_bundles_led_to(found: Filled, change: str) -> None:
    """Later ones are compared with them, so none may be taken away."""
    root = of(found, "event_data ->> '$.bundle.root'", "recorded_told")
    found.damage(change)
    assert found.found() == [
        f"finding [recorded_told]: the root {root} of the log log_main at size 3 is not in bundle_roots"
    ]


def test_since_when_a_source_is_silent(found: Filled) -> None:
    """It is what was told of it last."""
    found.damage("UPDATE sources SET silent_since = NULL WHERE id = [silent]")
    found.damage(f"UPDATE sources SET silent_since = '{LATER}' WHERE id = [heard]")
    assert sorted(found.found()) == [
        f"records: source [heard]: is silent since '{LATER}', and the entries say otherwise",
        "records: source [silent]: is not silent, and the entries say otherwise",
    ]


# ---- both databases -------------------------------------------------------------------------------------------------


def test_both_databases(settings: Settings) -> None:
    """On SQLite and on PostgreSQL alike: clean, and then each kind of damage is found."""
    ids = fill_found(settings)
    records = Records.inspect(settings)
    of_issuer = claims.c.issuer_log_id == ids["issuer"]
    try:
        clean = fsck(records)
        with records.database.write() as tx:
            for statement in (
                sa.update(findings).values(state="absent").where(findings.c.id == ids["confirmed_told"]),
                sa.update(findings).values(event_salt=bytes(32)).where(findings.c.id == ids["forked_told"]),
                sa.delete(findings).where(findings.c.id == ids["announced_gap1"]),
                sa.update(checks).values(state="confirmed").where(checks.c.event_id == ids["absent"]),
                sa.update(checks).values(finding_id=None).where(checks.c.event_id == ids["late"]),
                sa.delete(checks).where(checks.c.event_id == ids["pending"]),
                sa.update(claims).values(proof=b"x").where(of_issuer, claims.c.index == 0),
                sa.update(claims).values(announced=True).where(of_issuer, claims.c.index == 2),
                sa.update(issuer_logs).values(next_index=1).where(issuer_logs.c.id == ids["issuer"]),
            ):
                assert tx.execute(statement).rowcount == 1
        damaged = fsck(records)
    finally:
        records.close()

    assert (clean.findings, clean.remarks) == ((), ())
    places = [finding.place.partition(" (")[0] for finding in damaged.findings]
    gone = places.pop(3)
    assert places == [
        f"issuer log {ids['issuer']}",
        f"finding {ids['forked_told']}",
        f"finding {ids['confirmed_told']}",
        *[f"check of {ids[name]}" for name in ("absent", "late")],
        f"row {ids['pending']}",
        *[f"entry {index} of the issuer log {ids['issuer']}, kept for tenant 1" for index in (0, 2, 2, 3)],
    ]
    assert gone.startswith("entry ")
