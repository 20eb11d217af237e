"""What a log derives from its entries: tiles, head, and the index of leaf hashes; and the entries themselves."""

import pytest

from receiver.records.opening import Records
from tests.receiver.fsck.copies import FIRST, LOG, Copy
from translog import lookup
from translog.merkle import leaf_hash


def test_a_changed_entry(copy: Copy) -> None:
    """Its index and both hashes are named, what no longer fits in its row, and that the guard bears the tiles out."""
    was = copy.entry(FIRST)
    forged = was.replace(b'"effect":"revoked"', b'"effect":"refused"')
    copy.damage('UPDATE log_entries SET data = ? WHERE "index" = ?', forged, FIRST)

    assert copy.found() == [
        f"entry 2: gives the leaf hash {leaf_hash(forged).hex()}, tile/0/000 has {leaf_hash(was).hex()}",
        f"{copy.row(FIRST)}: effect is 'revoked', the entry's fact 'refused'",
    ]
    assert copy.report().remarks == (
        f"{LOG}: where entries and tiles differ, the entries were changed: the guard is of what the tiles give",
    )


def test_an_entry_that_is_no_leaf(copy: Copy) -> None:
    """A flipped byte that breaks the JSON is found as that, and by the hash."""
    was = copy.entry(FIRST)
    copy.flip("log_entries", "data", f'"index" = {FIRST}')
    damaged = copy.entry(FIRST)

    assert copy.found() == [
        f"entry 2: gives the leaf hash {leaf_hash(damaged).hex()}, tile/0/000 has {leaf_hash(was).hex()}",
        "entry 2: cannot be read: canonical JSON: Expecting value: line 1 column 1 (char 0)",
    ]


def test_a_flipped_leaf_hash_in_a_tile(copy: Copy) -> None:
    """The entry and the tile are named, and the checkpoint tells that it was the tile."""
    was = leaf_hash(copy.entry(260)).hex()
    copy.flip("log_tiles", "data", 'level = 0 AND "index" = 1', byte=4 * 32)

    tile = f"{int(was[:2], 16) ^ 1:02x}{was[2:]}"
    assert copy.found() == [f"entry 260: gives the leaf hash {was}, tile/0/001.p/12 has {tile}"]
    assert copy.report().remarks == (
        f"{LOG}: where entries and tiles differ, the tiles were changed: the guard is of what the entries give",
    )


def test_a_flipped_hash_in_a_higher_tile(copy: Copy) -> None:
    """It is named with its place, what it is, and what it should be."""
    was = copy.one("SELECT data FROM log_tiles WHERE level = 1").hex()
    copy.flip("log_tiles", "data", "level = 1", byte=31)
    now = copy.one("SELECT data FROM log_tiles WHERE level = 1").hex()

    assert copy.found() == [f"tile/1/000.p/1: hash 0 is {now}, the entries give {was}"]


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        ('DELETE FROM log_tiles WHERE level = 0 AND "index" = 0', ["tile/0/000: is missing"]),
        ("DELETE FROM log_tiles WHERE level = 1", ["tile/1/000.p/1: is missing"]),
        (
            'UPDATE log_tiles SET data = substr(data, 1, 100) WHERE level = 0 AND "index" = 1',
            ["tile/0/001.p/12: has 100 bytes, not 384"],
        ),
        (
            "UPDATE log_tiles SET data = CAST(data || data AS BLOB) WHERE level = 1",
            ["tile/1/000.p/1: has 64 bytes, not 32"],
        ),
        (
            "INSERT INTO log_tiles SELECT log_id, 1, 1, data FROM log_tiles WHERE level = 1",
            ["tile of level 1, index 1: is one too many for 268 entries"],
        ),
        (
            'INSERT INTO log_tiles SELECT log_id, 2, 0, data FROM log_tiles WHERE level = 0 AND "index" = 1',
            ["tile of level 2, index 0: is one too many for 268 entries"],
        ),
    ],
    ids=["missing", "missing above", "too short", "too long", "one too many", "a level too many"],
)
def test_a_tile_of_the_wrong_shape(copy: Copy, statement: str, lines: list[str]) -> None:
    """A tile that is not there, too short, too long, or one that should not be there is named by its path."""
    copy.damage(statement)
    assert copy.found() == lines


def test_a_missing_entry(copy: Copy) -> None:
    """It is named, and so is the row without its entry; its hash in the tile stands in for it in the tree."""
    copy.damage('DELETE FROM log_entries WHERE "index" = 100')
    assert copy.found() == ["entry 100: is missing", f"{copy.row(100)}: has no entry"]
    assert copy.report().entries == 267


def test_missing_entries_are_one_line(copy: Copy) -> None:
    """A gap in the indexes is told from where to where."""
    copy.damage("DELETE FROM deliveries WHERE log_index BETWEEN 100 AND 102 OR log_index = 200")
    copy.damage('DELETE FROM log_entries WHERE "index" BETWEEN 100 AND 102 OR "index" = 200')
    assert copy.found() == ["entries 100 to 102: are missing", "entry 200: is missing"]


def test_entries_and_tiles_both_gone(copy: Copy) -> None:
    """Where neither entry nor hash is left, what follows from them is not checked, and that is said."""
    copy.damage("DELETE FROM deliveries WHERE log_index >= 256")
    copy.damage('DELETE FROM log_entries WHERE "index" >= 256')
    copy.damage('DELETE FROM log_tiles WHERE level = 0 AND "index" = 1')

    assert copy.found() == ["entries 256 to 267: are missing"]
    [remark] = copy.report().remarks
    assert remark == (
        f"{LOG}: entry 256 is neither among the entries nor in the tiles, so what is derived from it, tiles, "
        "checkpoints and guard, cannot be checked"
    )


def test_an_entry_and_its_tile_gone_within_a_bundle(copy: Copy) -> None:
    """The same in the middle of a log: what stands beside entries is still checked, beyond the gap as well."""
    copy.damage('DELETE FROM log_entries WHERE "index" = 10')
    copy.damage('DELETE FROM log_tiles WHERE level = 0 AND "index" = 0')
    copy.damage("UPDATE deliveries SET via = 'relay' WHERE log_index = 260")

    assert copy.found() == [
        "entry 10: is missing",
        "tile/0/000: is missing",
        f"{copy.row(10)}: has no entry",
        f"{copy.row(260)}: via is 'relay', the entry's fact 'webhook'",
    ]


def test_the_index_of_leaf_hashes(copy: Copy, open_copy: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that was changed, one that is missing, one too many, and a run of leaves that are not there."""
    monkeypatch.setattr(lookup, "RUN", 256)
    log = open_copy.tenant("default").log
    assert log.index_leaves()
    assert not log.index_leaves()
    assert copy.found() == []
    copy.flip("log_leaf_buckets", "data", "bucket = (SELECT min(bucket) FROM log_leaf_buckets WHERE data <> x'')")
    damaged = copy.one("SELECT min(bucket) FROM log_leaf_buckets WHERE data <> x''")
    copy.damage("DELETE FROM log_leaf_buckets WHERE bucket = 200")
    copy.damage("INSERT INTO log_leaf_buckets VALUES (1, 300, 0, x'')")
    copy.damage("INSERT INTO log_leaf_buckets VALUES (1, 0, 7, x'')")
    assert copy.found() == [
        f"leaf bucket {damaged} of run 0: does not hold the run's leaf hashes",
        "leaf bucket 200 of run 0: is missing",
        "leaf bucket 300 of run 0: is one too many; there are 256",
        "leaf buckets of run 7: are of leaves that a log of 268 entries does not have",
    ]
