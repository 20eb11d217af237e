"""`translog.log` on rows that were changed behind its back: what notices it, and that no proof is made of them.

What each step reads is what it can notice:

- a receiver that starts on the log, or finds that another one grew it, reads the tiles at the edge of the tree;
- `check` (at each start) and `publish` read the tiles at the edge of the published and of the whole tree, all entries
  in between, and the checkpoint;
- a proof reads the tiles on its path, and is held to the checkpoint before it is given; an entry is held to its leaf;
- tiles and bundles are served as they are: whoever reads them verifies them. The rest is left to `receiver fsck`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.records.engine import Database
from tests.translog import reference
from tests.translog.logs import append, bundle_of, grow, guard_in, new_log, note_of_size, open_log
from tests.translog.samples import KEY, STRANGER
from translog import merkle, note, store
from translog.checkpoint import Checkpoint
from translog.errors import LogDamaged, LogRegressed, StoreError
from translog.log import Log
from translog.tiles import Bundle, Tile

# Published at 300, committed at 600: level 0 has tiles of 256, 256 and 88 hashes, level 1 one of 2.
PUBLISHED, COMMITTED = 300, 600

Damage = Callable[[Database], None]


def flipped(data: bytes, place: int = 0) -> bytes:
    """The same with one bit changed."""
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def change(table: sa.Table, column: str, to: Callable[[Any], Any], **where: int) -> Damage:
    """Replace one column of one row."""

    def damage(database: Database) -> None:
        this_row = sa.and_(sa.true(), *(table.c[name] == value for name, value in where.items()))
        with database.write() as tx:
            value = tx.execute(sa.select(table.c[column]).where(this_row)).scalar_one()
            tx.execute(sa.update(table).where(this_row).values({column: to(value)}))

    return damage


def remove(table: sa.Table, **where: int) -> Damage:
    """Delete one row."""

    def damage(database: Database) -> None:
        with database.write() as tx:
            removed = tx.execute(sa.delete(table).where(*(table.c[name] == value for name, value in where.items())))
        assert removed.rowcount == 1

    return damage


def tile(level: int, index: int, to: Callable[[bytes], bytes]) -> Damage:
    """Change a tile's row."""
    return change(store.tiles, "data", to, level=level, index=index)


AT_THE_EDGE = {
    "the last tile flipped": tile(0, 2, flipped),
    "the last tile too short": tile(0, 2, lambda data: data[:-32]),
    "the last tile cut in a hash": tile(0, 2, lambda data: data[:-1]),
    "the last tile missing": remove(store.tiles, level=0, index=2),
    "the upper tile flipped": tile(1, 0, lambda data: flipped(data, 32)),
    "the upper tile missing": remove(store.tiles, level=1, index=0),
    "the head's root": change(store.logs, "root", flipped, id=1),
    "the head's size": change(store.logs, "size", lambda size: size + 1, id=1),
}
SINCE_THE_CHECKPOINT = {
    "a published tile flipped": tile(0, 1, flipped),
    "a published tile too short": tile(0, 1, lambda data: data[: 43 * 32]),
    "a published tile missing": remove(store.tiles, level=0, index=1),
    "a new entry flipped": change(store.entries, "data", flipped, index=450),
    "a new entry missing": remove(store.entries, index=450),
    "the last entry missing": remove(store.entries, index=599),
    "the checkpoint's size": change(store.published, "size", lambda size: size - 1),
    "the checkpoint's root": change(store.published, "root", flipped),
    "the checkpoint's signature": change(store.published, "note", lambda data: flipped(data, -5)),
    "another checkpoint": change(store.published, "note", lambda _: note_of_size(PUBLISHED)),
    "somebody else's checkpoint": change(
        store.published,
        "note",
        lambda _: note.sign(Checkpoint(STRANGER.name, 300, reference.mth(reference.numbered(300))).text, STRANGER),
    ),
}


def _log(database: Database) -> Log:
    log = new_log(database)
    grow(log, PUBLISHED)
    log.publish()
    grow(log, COMMITTED)
    return log


@pytest.mark.parametrize(
    "damage", (AT_THE_EDGE | SINCE_THE_CHECKPOINT).values(), ids=AT_THE_EDGE | SINCE_THE_CHECKPOINT
)
def test_nothing_is_signed_over_damage(sqlite_database: Database, tmp_path: Path, damage: Damage) -> None:
    """Damage between the checkpoint and the head stops `check` and `publish`, of this receiver and of a new one."""
    log = _log(sqlite_database)
    damage(sqlite_database)
    guard = guard_in(tmp_path)
    for receiver in (log, open_log(sqlite_database), open_log(sqlite_database, guard)):
        with pytest.raises(LogDamaged):
            receiver.check()
        with pytest.raises(LogDamaged):
            receiver.publish()
    assert guard.read(KEY.verifying_key()) is None
    assert log.published_size == PUBLISHED
    with sqlite_database.read() as tx:
        assert tx.execute(sa.select(sa.func.max(store.checkpoints.c.size))).scalar_one() == PUBLISHED


@pytest.mark.parametrize("damage", AT_THE_EDGE.values(), ids=AT_THE_EDGE)
def test_nothing_is_appended_to_a_damaged_edge(sqlite_database: Database, damage: Damage) -> None:
    """A receiver that has to read the edge finds the damage under the lock."""
    _log(sqlite_database)
    damage(sqlite_database)
    with pytest.raises(LogDamaged):
        append(open_log(sqlite_database), [b"never"])


@pytest.mark.parametrize(
    "damage",
    [change(store.logs, "size", lambda size: size - 1, id=1), change(store.logs, "root", flipped, id=1)],
    ids=["smaller", "another root"],
)
def test_a_head_that_went_back(database: Database, damage: Damage) -> None:
    """A receiver that has seen the log larger, or with another root at that size, appends nothing to it any more."""
    log = _log(database)
    damage(database)
    for _ in range(2):
        with pytest.raises(LogRegressed, match="replaced while it was in use"):
            append(log, [b"never"])


def test_an_edge_in_memory_mends_the_last_tile(database: Database) -> None:
    """A receiver that has the edge in memory does not read the last tile, and writes it whole with its next batch."""
    log = _log(database)
    tile(0, 2, flipped)(database)
    append(log, [b"next"])
    open_log(database).check()


@pytest.mark.parametrize(
    ("level", "index", "place", "leaf"),
    [(0, 0, 5, 5), (0, 0, 4, 5), (0, 0, 200, 5), (0, 1, 43, 298), (0, 1, 0, 298), (1, 0, 0, 298), (1, 0, 0, 5)],
)
def test_no_inclusion_proof_with_a_wrong_hash(
    sqlite_database: Database, level: int, index: int, place: int, leaf: int
) -> None:
    """A leaf gets no proof if its own hash, one beside its path, or one that its root is made of is wrong."""
    _log(sqlite_database)
    tile(level, index, lambda data: flipped(data, 32 * place))(sqlite_database)
    log = open_log(sqlite_database)
    log.refresh()
    for size in (PUBLISHED, PUBLISHED - 1):
        with pytest.raises(LogDamaged, match="contradict its checkpoint"):
            log.inclusion_proof(leaf, size)


@pytest.mark.parametrize(("level", "index", "place"), [(0, 1, 0), (0, 1, 43), (1, 0, 0)])
def test_no_consistency_proof_with_a_wrong_hash(sqlite_database: Database, level: int, index: int, place: int) -> None:
    """No tree is proved to be the beginning of another if a hash that one of them is made of is wrong."""
    _log(sqlite_database)
    tile(level, index, lambda data: flipped(data, 32 * place))(sqlite_database)
    log = open_log(sqlite_database)
    log.refresh()
    for old, new in [(1, PUBLISHED), (256, PUBLISHED), (299, PUBLISHED), (PUBLISHED, PUBLISHED), (256, 299)]:
        with pytest.raises(LogDamaged, match="contradict its checkpoint"):
            log.consistency_proof(old, new)


def test_a_damaged_tile_spoils_no_other_proof(database: Database) -> None:
    """Damage to one tile leaves the proofs that do not go through it."""
    _log(database)
    tile(0, 0, flipped)(database)
    log = open_log(database)
    log.check()
    proof, leaf, root = log.inclusion_proof(290, PUBLISHED)
    assert root == reference.mth(reference.numbered(PUBLISHED))
    merkle.verify_inclusion(leaf, 290, PUBLISHED, proof, root)
    log.consistency_proof(256, PUBLISHED)
    assert log.tile(Tile(0, 0, 256)) == flipped(reference.mth(reference.numbered(1))) + b"".join(
        merkle.leaf_hash(entry) for entry in reference.numbered(256)[1:]
    )


def test_a_damaged_entry_is_not_given_out_as_a_leaf(database: Database) -> None:
    """A published entry is held to its leaf hash when it is asked for; in a bundle whoever reads it does that."""
    _log(database)
    change(store.entries, "data", flipped, index=7)(database)
    remove(store.entries, index=280)(database)
    log = open_log(database)
    log.check()
    with pytest.raises(LogDamaged, match="entry 7 "):
        log.entry(7)
    with pytest.raises(LogDamaged, match="entry 280 "):
        log.entry(280)
    with pytest.raises(LogDamaged, match="entry 280 "):
        log.bundle(Bundle(1, 44))
    entries = list(reference.numbered(256))
    assert log.bundle(Bundle(0, 256)) == bundle_of([*entries[:7], flipped(entries[7]), *entries[8:]])


def test_a_missing_tile_is_not_a_missing_page(database: Database) -> None:
    """A published tile that is not there is an error, and not the None that says there is no such tile."""
    _log(database)
    remove(store.tiles, level=0, index=0)(database)
    log = open_log(database)
    log.refresh()
    with pytest.raises(LogDamaged, match="tile/0/000 of"):
        log.tile(Tile(0, 0, 256))
    with pytest.raises(LogDamaged, match="tile/0/000 of"):
        log.inclusion_proof(0, PUBLISHED)


def test_a_log_that_is_gone(database: Database) -> None:
    """Without its row there is no log to write to or to read."""
    log = open_log(database)
    for step in (log.publish, log.check, log.head, lambda: append(log, [b"never"])):
        with pytest.raises(StoreError, match="log 1 is not in the database"):
            step()
