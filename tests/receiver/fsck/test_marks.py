"""What is stated of a log: head, checkpoints, guard and keys."""

import shutil

import pytest

from receiver.events import Kind, new_id
from receiver.records.opening import Records
from tests.receiver.fsck.copies import FIRST, LOG, Copy, append
from translog import note
from translog.checkpoint import Checkpoint
from translog.evidence import Leaf


def test_a_changed_head(copy: Copy) -> None:
    """A root that the entries do not give, and a time that is not the last entry's."""
    was = copy.one("SELECT root FROM logs").hex()
    last = copy.one("SELECT logged_at FROM logs")
    copy.flip("logs", "root", "id = 1")
    copy.damage("UPDATE logs SET logged_at = '2030-01-01T00:00:00.000000Z'")

    now = copy.one("SELECT root FROM logs").hex()
    assert copy.found() == [
        f"head: has root {now} at size 268, the entries give {was}",
        f"head: is of 2030-01-01T00:00:00.000000Z, the last entry of {last}",
    ]


def test_a_head_that_is_behind(copy: Copy) -> None:
    """Everything beyond it is named: tile, checkpoint, guard, row and entry."""
    root = copy.one("SELECT root FROM logs").hex()
    copy.damage("UPDATE logs SET size = 267")
    found = copy.found()

    assert found[0] == (
        "guard: has a checkpoint of 268 entries, the log has 267: the database was put back from a copy. Put the "
        "newest copy in place; if there is none, see `receiver recover`"
    )
    assert found[1] == "tile/0/001.p/11: has 384 bytes, not 352"
    assert found[2].startswith(f"head: has root {root} at size 267, the entries give ")
    assert found[3] == "checkpoint 268: is of 268 entries, the log has 267"
    assert found[4].startswith("head: is of ")
    assert found[5:] == ["entry 267: is not within the head's size, 267 (with it 1 in all)"]


def test_a_head_far_ahead(copy: Copy) -> None:
    """A size that nothing reaches ends the check soon, and what is missing is one line."""
    copy.damage("UPDATE logs SET size = 4611686018427387904")
    found = copy.found()

    assert found == [
        "entries 268 to 511: are missing",
        "tile/0/001: has 384 bytes, not 8192",
        "entries 512 to 4611686018427387903: are missing",
    ]


def test_a_checkpoint_that_does_not_verify(copy: Copy) -> None:
    """A flipped byte in a note is found by its signature, in whichever place the note is kept."""
    size = copy.one("SELECT min(size) FROM log_checkpoints WHERE size > 0")
    copy.flip("log_checkpoints", "note", f"size = {size}", byte=-2)
    copy.flip("log_published", "note", "log_id = 1", byte=-2)

    found = copy.found()
    assert [line.partition(": ")[0] for line in found] == [
        "published checkpoint",
        "published checkpoint",
        f"checkpoint {size}",
    ]
    assert found[0].startswith("published checkpoint: cannot be relied on: ")
    assert found[1] == (
        "published checkpoint: is of size 268, and not the newest in log_checkpoints: that is of size 268"
    )
    assert found[2].startswith(f"checkpoint {size}: cannot be relied on: ")


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        (
            "UPDATE log_checkpoints SET size = 100000 WHERE size = 0",
            [
                "published checkpoint: is of size 268, and not the newest in log_checkpoints: that is of size 100000",
                "checkpoint 100000: was signed for size 0",
            ],
        ),
        (
            "DELETE FROM log_published",
            ["published checkpoint: is missing; the newest in log_checkpoints is of size 268"],
        ),
        (
            "DELETE FROM log_checkpoints WHERE size = 268",
            ["published checkpoint: is of size 268, and not the newest in log_checkpoints: that is of size 267"],
        ),
        (
            "DELETE FROM log_checkpoints",
            ["published checkpoint: is of size 268, and not the newest in log_checkpoints: there is none"],
        ),
    ],
    ids=["under another size", "no newest", "not kept", "none kept"],
)
def test_a_checkpoint_in_the_wrong_place(copy: Copy, statement: str, lines: list[str]) -> None:
    """A note that was signed for another size, and a newest checkpoint that is not the newest."""
    copy.damage(statement)
    assert copy.found() == lines


def test_a_published_root(copy: Copy) -> None:
    """The root beside the newest note must be the one in it."""
    was = copy.one("SELECT root FROM log_published").hex()
    copy.flip("log_published", "root", "log_id = 1")
    now = copy.one("SELECT root FROM log_published").hex()
    assert copy.found() == [f"published checkpoint: has root {now}, its note {was}"]


def test_a_signed_checkpoint_of_another_tree(copy: Copy) -> None:
    """A checkpoint that the log's own key signed over another root is named, though its signature is right."""
    records = Records.inspect(copy.settings)
    sealed = bytes(copy.one("SELECT private_key FROM log_keys"))
    key = note.SigningKey.parse(records.vault.open("log/1", sealed).decode())
    records.close()
    signed = note.sign(Checkpoint(LOG, 100, bytes(32)).text, key)
    copy.damage("INSERT OR REPLACE INTO log_checkpoints VALUES (1, 100, ?)", signed)

    [line] = copy.found()
    assert line.startswith(f"checkpoint 100: has root {bytes(32).hex()} at size 100, the entries give ")


def test_a_damaged_guard(copy: Copy) -> None:
    """A guard file that does not verify is a fault, never an absent guard."""
    [file] = copy.settings.guard.glob("*.checkpoint")
    file.write_bytes(file.read_bytes().replace(b"268", b"200"))
    [line] = copy.found()
    assert line.startswith(f"guard: the guard file {file} does not hold a checkpoint of {LOG}: ")


def test_an_absent_guard(copy: Copy) -> None:
    """Nothing can be told from it, which is said; where a guard is required, it is a fault."""
    shutil.rmtree(copy.settings.guard)
    told = (
        f"the guard {copy.settings.guard} knows nothing of it, so whether this database was put back from a copy "
        "cannot be told"
    )
    assert copy.found() == []
    assert copy.report().remarks == (f"{LOG}: {told}",)
    assert Copy(copy.settings.model_copy(update={"require_guard": True})).found() == [f"guard: {told}"]


def test_a_guard_that_is_ahead(copy: Copy, open_copy: Records) -> None:
    """A database behind its guard is told with what to do."""
    database = copy.settings.data / "rescind.db"
    open_copy.database.dispose()
    older = database.read_bytes()
    append(open_copy, [Leaf(Kind.KEY, new_id(), "2100-01-01T00:00:00.000000Z", {}, None, None).encode()])
    open_copy.database.dispose()
    database.write_bytes(older)

    [line] = copy.found()
    assert line == (
        "guard: has a checkpoint of 269 entries, the log has 268: the database was put back from a copy. Put the "
        "newest copy in place; if there is none, see `receiver recover`"
    )


def test_damaged_keys(copy: Copy) -> None:
    """A private key, a tenant's key or a vkey that cannot be used is named, and the rest is still checked."""
    copy.flip("log_keys", "private_key", "log_id = 1")
    copy.flip("tenants", "hash_key", "id = 1")
    copy.damage("UPDATE deliveries SET via = 'relay' WHERE log_index = ?", FIRST)
    advice = (
        "does not open with this data key. Give the key this database was made with (the data folder's data.key, or "
        "RESCIND_DATA_KEY)"
    )
    assert copy.found() == [
        f"private key: log/1 {advice}",
        f"tenant default: tenant/default {advice}",
        f"{copy.row(FIRST)}: via is 'relay', the entry's fact 'webhook'",
    ]


def test_rows_of_a_log_that_is_gone(copy: Copy) -> None:
    """Without the log's own row everything of it is a stray, counted by table."""
    checkpoints = copy.one("SELECT count(*) FROM log_checkpoints")
    copy.damage("DELETE FROM logs")
    report = copy.report()
    assert [str(finding) for finding in report.findings] == [
        "records: log_entries: log 1 is not there, but rows of it: 268",
        "records: log_tiles: log 1 is not there, but rows of it: 3",
        "records: log_published: log 1 is not there, but rows of it: 1",
        f"records: log_checkpoints: log 1 is not there, but rows of it: {checkpoints}",
        "records: log_keys: log 1 is not there, but rows of it: 1",
        "records: deliveries: log 1 is not there, but rows of it: 265",
    ]
