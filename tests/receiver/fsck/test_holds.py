"""Holds and retention: each row must be as was told, or something could be erased that must be kept."""

from typing import Any

import pytest

from receiver.erasure.placing import Hold
from receiver.erasure.retention import clear, set_days
from receiver.events import new_id
from receiver.records.opening import Records
from tests.receiver.fsck.copies import Copy
from tests.receiver.holding import acting, hold, release

ITEM = {"provider": "truthlocks", "type": "receipt", "id": "r1"}
PERIOD = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}


@pytest.fixture
def placed(open_copy: Records) -> Hold:
    """A hold on an item."""
    return hold(open_copy, acting(open_copy, "Ann"), item=ITEM)


def test_holds_of_every_kind_are_sound(copy: Copy, open_copy: Records) -> None:
    """Placed, and released."""
    ann, bob = acting(open_copy, "Ann"), acting(open_copy, "Bob")
    source = copy.one("SELECT name FROM sources")
    kinds: list[dict[str, Any]] = [
        {"item": ITEM},
        {"source": source},
        {"provider": "thanx"},
        {"person": "email:jane@example.com"},
        {"period": PERIOD},
    ]
    for covers in kinds:
        one = hold(open_copy, ann, **covers)
        assert copy.found() == []
        release(open_copy, one, bob)
        assert copy.found() == []


def test_a_hold_that_is_gone(copy: Copy, placed: Hold) -> None:
    """What it kept could be erased."""
    copy.damage("DELETE FROM holds")
    assert copy.found() == [f"records: hold {placed.id}: is not there, though an entry tells of it"]


def test_a_hold_that_nobody_placed(copy: Copy, placed: Hold) -> None:
    """It would keep what may go."""
    columns = [f"'{new_id()}'" if name == "id" else name for name in copy.columns("holds")]
    copy.damage(f"INSERT INTO holds SELECT {', '.join(columns)} FROM holds")
    other = copy.one(f"SELECT id FROM holds WHERE id <> '{placed.id}'")
    assert copy.found() == [f"records: hold {other}: is there, and no entry tells of it"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("item_key = x'00'", "covers something else than its entry commits to"),
        ("item_key = NULL, provider = 'thanx'", "covers something else than its entry commits to"),
        (
            "provider = 'thanx'",
            "covers other than one item, person, source, provider or period",
        ),
        ("placed_at = '2026'", "and the entries say otherwise"),
        ("released_at = placed_at", "is released, and no entry tells of that"),
        ("release_id = id", "is released, and no entry tells of that"),
        ("item_key = 'text'", "covers something else than its entry commits to"),
    ],
)
def test_a_hold_that_was_changed(copy: Copy, placed: Hold, change: str, problem: str) -> None:
    """It must cover what its words say, and stand as was told."""
    copy.damage(f"UPDATE holds SET {change}")

    [found] = copy.found()
    assert found.startswith(f"records: hold {placed.id}: ")
    assert found.endswith(problem)


@pytest.mark.parametrize("key", ["x'00'", "'text'", "CAST('' AS BLOB)"])
def test_a_person_that_is_none(copy: Copy, open_copy: Records, key: str) -> None:
    """Whom it covers is said nowhere but in the row, as a keyed hash: what is none covers nobody."""
    one = hold(open_copy, acting(open_copy, "Ann"), person="email:jane@example.com")
    copy.damage(f"UPDATE holds SET person_key = {key}")
    assert copy.found() == [f"records: hold {one.id}: covers something else than its entry commits to"]


def test_a_period_that_was_changed(copy: Copy, open_copy: Records) -> None:
    """It must be the one that was placed."""
    one = hold(open_copy, acting(open_copy, "Ann"), period=PERIOD)
    copy.damage("UPDATE holds SET until = since")
    assert copy.found() == [f"records: hold {one.id}: covers something else than its entry commits to"]


def test_a_release_that_is_not_as_was_told(copy: Copy, open_copy: Records, placed: Hold) -> None:
    """It must stand, and be by whom and when it was; and by somebody else than who placed it."""
    released = release(open_copy, placed, acting(open_copy, "Bob"))
    copy.damage("UPDATE holds SET released_by = placed_by")
    place, by = f"records: hold {placed.id}:", f"by '{placed.placed_by}' at '{released.released_at}'"
    assert copy.found() == [
        f"{place} was released {by}, and the entries say otherwise",
        f"{place} was placed and released with keys of one owner",
    ]
    copy.damage("UPDATE holds SET released_at = NULL")
    assert f"records: hold {placed.id}: is not released, as was told" in copy.found()


def test_words_that_were_changed(copy: Copy, placed: Hold) -> None:
    """They are not what the entry commits to."""
    copy.damage("UPDATE findings SET event_data = CAST('{}' AS BLOB) WHERE kind = 'hold'")
    opened, covers = copy.found()
    assert opened.startswith(f"finding {placed.id} (entry {placed.log_index}): event_data, event_salt do not give")
    assert covers == f"records: hold {placed.id}: covers something else than its entry commits to"


def test_retention_is_as_was_told_last(copy: Copy, open_copy: Records) -> None:
    """Neither shorter, nor gone, nor there where none was told of."""
    tenant = open_copy.tenant("default")
    rule = set_days(open_copy, tenant, "thanx", 30)
    assert copy.found() == []
    place = "records: retention of thanx by tenant default:"
    copy.damage("UPDATE retention SET days = 1")
    assert copy.found() == [f"{place} is 1 days since '{rule.set_at}', and the entries say 30 since '{rule.set_at}'"]
    copy.damage("DELETE FROM retention")
    assert copy.found() == [f"{place} is not there, though an entry tells of it"]
    copy.damage("INSERT INTO retention (tenant_id, provider, days, set_at) VALUES (1, 'thanx', 30, ?)", rule.set_at)
    assert copy.found() == []
    clear(open_copy, tenant, "thanx")
    assert copy.found() == []
    copy.damage("INSERT INTO retention (tenant_id, provider, days, set_at) VALUES (1, 'thanx', 30, ?)", rule.set_at)
    assert copy.found() == [f"{place} is there, and no entry tells of it"]
