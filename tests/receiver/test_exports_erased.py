"""Bundles of what was erased, while one is made, and of rows that are not what was logged; the same bytes each time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.exports import gathering
from receiver.exports.building import build
from receiver.exports.parquet import COLUMNS, available
from receiver.records.opening import Records
from receiver.records.tables import deliveries
from tests.receiver.claims import deliver
from tests.receiver.exporting import Filled, bundle, erase, fill, job, make, members
from tests.receiver.rereading import Bundle
from tests.receiver.service import revoked
from translog import evidence
from translog.errors import StoreError
from translog.store import entries, tiles


@pytest.fixture
def filled(records: Records) -> Filled:
    """A log with something of everything."""
    return fill(records)


# ---- the same bytes -------------------------------------------------------------------------------------------------


def test_the_same_job_gives_the_same_bytes(filled: Filled, tmp_path: Path) -> None:
    """In another process as well, and however much was logged since."""
    records = filled.records
    for asked in (job(records), job(records, basis="occurred", providers=("scrip",), tests=True)):
        first = make(records, asked, tmp_path).read_bytes()
        deliver(filled.truthlocks, revoked())
        records.tenant("default").log.publish()
        again = Records.open(records.settings)
        assert make(again, asked, tmp_path).read_bytes() == first
        again.close()


def test_the_same_bytes_after_an_erasure(filled: Filled, tmp_path: Path) -> None:
    """Once it has its place in the log: checkpoints that come later change nothing."""
    asked = job(filled.records)
    whole = make(filled.records, asked, tmp_path).read_bytes()
    erase(filled.records, filled.events[:2])
    first = make(filled.records, asked, tmp_path).read_bytes()
    deliver(filled.truthlocks, revoked())
    filled.tenant.log.publish()
    assert make(filled.records, asked, tmp_path).read_bytes() == first != whole


def test_progress(filled: Filled, tmp_path: Path) -> None:
    """It is told of every leaf in the end."""
    told: list[tuple[int, int]] = []
    asked = job(filled.records)
    built = build(filled.records, asked, tmp_path / "one.zip", lambda done, total: told.append((done, total)))
    assert told[-1] == (built.end - built.start,) * 2
    assert told == sorted(told)


def test_a_file_that_is_there_is_left_alone(filled: Filled, tmp_path: Path) -> None:
    """It is never written over."""
    path = tmp_path / "one.zip"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        build(filled.records, job(filled.records), path)
    assert path.read_bytes() == b"mine"


def test_payloads_are_split(filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At so many lines, and without an empty file at the end."""
    whole = members(bundle(filled.records, tmp_path))["payloads/000000.jsonl"]
    for number, expected in ((3, [3, 3, 1]), (7, [7]), (8, [7]), (1, [1] * 7)):
        monkeypatch.setattr(gathering, "PAYLOADS_PER_FILE", number)
        found = members(bundle(filled.records, tmp_path))
        payloads = {name: data for name, data in found.items() if name.startswith("payloads/")}
        assert list(payloads) == [f"payloads/{at:06}.jsonl" for at in range(len(expected))]
        assert [data.count(b"\n") for data in payloads.values()] == expected
        assert b"".join(payloads.values()) == whole


@pytest.mark.skipif(not available(), reason="pyarrow is not installed")
def test_the_parquet_file(filled: Filled, tmp_path: Path) -> None:
    """It has the rows of the table, as they are."""
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    arrow: Any = pytest.importorskip("pyarrow")
    found = Bundle(bundle(filled.records, tmp_path, parquet=True), filled)
    rows: list[dict[str, Any]] = parquet.read_table(arrow.BufferReader(found.files["events.parquet"])).to_pylist()

    assert [row["index"] for row in rows] == found.indexes
    for row, written in zip(rows, found.table(), strict=True):
        assert list(row) == list(COLUMNS)
        assert [row["test"], row["erased"]] == [False, False]
        assert [row[name] or "" for name in COLUMNS[1:-2]] == [
            written[name].removeprefix("'") for name in COLUMNS[1:-2]
        ]


# ---- erased ---------------------------------------------------------------------------------------------------------


def shown(found: Bundle, its_id: str) -> tuple[Any, Any, Any, Any]:
    """What is shown of an event: its data, by which entry it was erased; the same of its delivery."""
    at = [found.leaf(index).id for index in found.indexes].index(its_id)
    event, payload = found.events[at], found.payloads[at]
    return event["event"], event["erased_by"], payload["delivery"], payload["erased_by"]


def test_erased_in_the_range(filled: Filled, tmp_path: Path) -> None:
    """The event stays, with its leaf and nothing else; the entry that took the rest is among the leaves."""
    index = erase(filled.records, filled.events[1:3])
    asked = job(filled.records)
    found = Bundle(make(filled.records, asked, tmp_path), filled)

    for its_id in filled.events[1:3]:
        assert shown(found, its_id) == (None, index, None, index)
    assert shown(found, filled.events[0])[1::2] == (None, None)
    assert found.manifest["counts"]["erased"] == 2
    assert found.leaf(index).kind == "erasure"
    assert found.leaf(index).facts["ids"] == sorted(filled.events[1:3])
    rows = [row for row in found.table() if row["erased"] == "true"]
    assert len(rows) == 2
    assert {row[name] for row in rows for name in COLUMNS[11:20]} == {""}
    assert found.files["proof/later.jsonl"] == b""
    assert json.loads(found.files["tallies.json"])["cut_off"]["events"]["undated"] == 3


def test_erased_after_the_range(filled: Filled, tmp_path: Path) -> None:
    """The entry is shown to be in the log by an inclusion proof."""
    until = job(filled.records).query.until
    index = erase(filled.records, filled.events[:1])
    found = Bundle(bundle(filled.records, tmp_path, until=until), filled)

    assert found.range["end"] <= index
    assert shown(found, filled.events[0]) == (None, index, None, index)
    assert [line["index"] for line in found.later()] == [index]


def test_erased_after_the_checkpoint(filled: Filled, tmp_path: Path) -> None:
    """A file that is made again has the proof of the erasure under the first checkpoint that covers it."""
    asked = job(filled.records)
    first, second = erase(filled.records, filled.events[:2]), erase(filled.records, filled.events[2:3])
    found = Bundle(make(filled.records, asked, tmp_path), filled)

    assert [shown(found, its_id)[1] for its_id in filled.events[:4]] == [first, first, second, None]
    for index in (first, second):
        told = evidence.verify(found.files[f"proof/erasures/{index}.tlog-proof"], found.policy)
        assert (told.index, told.leaf.kind, told.checkpoint.size) == (index, "erasure", index + 1)
    assert found.files["proof/later.jsonl"] == b""


def test_an_erasure_that_is_not_published_yet(filled: Filled, tmp_path: Path) -> None:
    """Is published, so that it can be proven."""
    asked = job(filled.records)
    index = erase(filled.records, filled.events[:1], publish=False)
    found = Bundle(make(filled.records, asked, tmp_path), filled)
    assert evidence.verify(found.files[f"proof/erasures/{index}.tlog-proof"], found.policy).index == index


def test_only_the_delivery_is_erased(filled: Filled, tmp_path: Path) -> None:
    """The event is shown, and a tombstone for what came. If all is erased later, each names its own erasure."""
    its_id = filled.events[0]
    first = erase(filled.records, [its_id], extent="delivery")
    found = Bundle(bundle(filled.records, tmp_path), filled)
    event, erased_by, delivery, gone_by = shown(found, its_id)
    assert (event["item"]["type"], erased_by, delivery, gone_by) == ("receipt", None, None, first)
    assert found.manifest["counts"]["erased"] == 0

    second = erase(filled.records, [its_id])
    found = Bundle(bundle(filled.records, tmp_path), filled)
    assert shown(found, its_id) == (None, second, None, first)


def test_an_erased_event_on_the_basis_of_its_own_time(filled: Filled, tmp_path: Path) -> None:
    """Nobody can say that it is outside."""
    until = "2026-11-20T08:00:00.000000Z"
    assert Bundle(bundle(filled.records, tmp_path, basis="occurred", until=until), filled).events == []
    erase(filled.records, filled.events[:1])
    found = Bundle(bundle(filled.records, tmp_path, basis="occurred", until=until), filled)
    assert [found.leaf(index).id for index in found.indexes] == [filled.events[0]]


class Interrupting:
    """Erases something while the leaves are read for the first time, and counts how often they are."""

    def __init__(self, filled: Filled, ids: list[str]) -> None:
        self.filled, self.ids, self.index = filled, ids, -1
        self.times = 0

    def __call__(self, done: int, total: int) -> None:
        if self.index < 0:
            self.index = erase(self.filled.records, self.ids)
        self.times += done == total


def test_what_is_erased_meanwhile_is_not_in_the_file(filled: Filled, tmp_path: Path) -> None:
    """It is made again, and there is one file; an erasure of what is not in it makes no difference."""
    asked, path = job(filled.records), tmp_path / "one.zip"
    erasing = Interrupting(filled, [filled.events[0]])
    build(filled.records, asked, path, erasing)
    assert erasing.times == 2
    assert shown(Bundle(path, filled), filled.events[0]) == (None, erasing.index, None, erasing.index)
    assert [one.suffix for one in tmp_path.iterdir()].count(".zip") == 1

    outside = job(filled.records, since="2000-01-01T00:00:00.000000Z", until="2000-01-02T00:00:00.000000Z")
    erasing = Interrupting(filled, [filled.events[1]])
    build(filled.records, outside, tmp_path / "two.zip", erasing)
    assert erasing.times == 1


# ---- rows that are not what was logged ------------------------------------------------------------------------------


def change(**values: Any) -> Callable[[sa.Connection, str], None]:
    """Changes a delivery's row."""
    return lambda tx, its_id: _execute(tx, sa.update(deliveries).where(deliveries.c.id == its_id).values(**values))


def _execute(tx: sa.Connection, statement: sa.Executable) -> None:
    tx.execute(statement)


def _other(tx: sa.Connection) -> bytes:
    """The first entry of the log as it might have been."""
    data = tx.execute(sa.select(entries.c.data).where(entries.c.index == 0)).scalar_one()
    return bytes(data).replace(b"command", b"me")


def _of_entry(tx: sa.Connection, its_id: str) -> sa.ColumnElement[bool]:
    index = tx.execute(sa.select(deliveries.c.log_index).where(deliveries.c.id == its_id)).scalar_one()
    return entries.c.index == index


DAMAGES: dict[str, Callable[[sa.Connection, str], None]] = {
    "another event": change(event_data=b'{"account":null,"amount":"1","details":{},"extent":"full","item":{"id":"a",'
                            b'"type":"receipt"},"occurred_at":null,"occurred_from":null,"operation":null,'
                            b'"quantity":null,"reason":null}'),
    "an event that is no JSON": change(event_data=b"{"),
    "another salt": change(event_salt=bytes(32)),
    "another body": change(body=b"{}"),
    "other headers": change(headers="[]"),
    "another salt of the delivery": change(delivery_salt=bytes(32)),
    "an event that is gone": change(event_data=None, event_salt=None),
    "a body that is gone": change(headers=None, body=None, delivery_salt=None),
    "a row that is gone": lambda tx, its_id: _execute(tx, sa.delete(deliveries).where(deliveries.c.id == its_id)),
    "a leaf that is gone": lambda tx, its_id: _execute(tx, sa.delete(entries).where(_of_entry(tx, its_id))),
    "a leaf that was changed": lambda tx, _: _execute(
        tx, sa.update(entries).where(entries.c.index == 0).values(data=_other(tx))
    ),
    "a tile that is gone": lambda tx, _: _execute(tx, sa.delete(tiles)),
    "a tile that was changed": lambda tx, _: _execute(tx, sa.update(tiles).values(data=bytes(8192))),
}  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_bundle_of_damaged_rows(filled: Filled, tmp_path: Path, damage: str) -> None:
    """Whoever was given one would find it wrong; nothing is left of the file."""
    records, path = filled.records, tmp_path / "one.zip"
    asked = job(records)
    with records.database.write() as tx:
        DAMAGES[damage](tx, filled.events[0])
    with pytest.raises(StoreError):
        build(records, asked, path)
    assert not path.exists()
