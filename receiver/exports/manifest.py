"""The manifest: what a bundle is, what was counted in it, the hash of each of its files; and the note that signs it.

The note is signed by the log's exports key, never by the log's own: no manifest may ever read as a checkpoint. Its text
is no checkpoint's either, since its second line is no number.
"""

import hashlib
from collections.abc import Mapping

import sqlalchemy as sa

from receiver.exports.archive import Member
from receiver.exports.facts import Facts
from receiver.records.keeping import export_keys
from receiver.records.opening import Records
from translog import note
from translog.canonical import Value, encode
from translog.errors import StoreError
from translog.note import SigningKey

SCHEMA = "rescind-export/v1"


def manifest(facts: Facts, files: Mapping[str, Member]) -> bytes:
    """`manifest.json`, of these files: all but itself and its note."""
    job, counts, range_ = facts.job, facts.counts, facts.range
    query, providers = job.query, job.query.providers
    return encode(
        {
            "asked": {"at": job.created_at, "by": job.asked_by},
            "counts": {
                "by_breach": dict(counts.by_breach),
                "by_cross_check": dict(counts.by_cross_check),
                "by_effect": dict(counts.by_effect),
                "by_provider": dict(counts.by_provider),
                "entries": counts.entries,
                "erased": counts.erased,
                "events": counts.events,
                "late": counts.late,
            },
            "exclusions": dict(facts.exclusions),
            "export": job.id,
            "files": {name: {"sha256": member.sha256.hex(), "size": member.size} for name, member in files.items()},
            "log": {"origin": facts.origin, "root": facts.root.hex(), "size": facts.size},
            "period": {"basis": query.basis, "since": query.since, "until": query.until},
            "population": "complete" if facts.complete else "subset",
            "previous": _previous(facts),
            "query": {"providers": None if providers is None else list(providers), "tests": query.tests},
            "range": {"end": range_.end, "entry": range_.entry, "first": range_.first, "start": range_.start},
            "schema": SCHEMA,
            "software": facts.software,
            "tenant": facts.tenant,
        }
    )


def sign(export_id: str, manifest: bytes, key: SigningKey) -> bytes:
    """`manifest.json.note`."""
    return note.sign(f"{SCHEMA}\n{export_id}\n{hashlib.sha256(manifest).hexdigest()}\n", key)


def exports_key(records: Records, log_id: int) -> tuple[SigningKey, int]:
    """The key that a log's exports are signed with, and the index of the entry that announces it.

    Raises StoreError if there is none, or it is not the announced one, and VaultError if it does not open.
    """
    with records.database.read() as tx:
        row = tx.execute(sa.select(export_keys).where(export_keys.c.log_id == log_id)).one_or_none()
    if row is None:
        raise StoreError(f"log {log_id} has no key that signs exports; it is made when an export is asked for")
    key = SigningKey.parse(records.vault.open(f"exports/{log_id}", bytes(row.private_key)).decode())
    if str(key.verifying_key()) != row.vkey:
        raise StoreError(f"the key that signs exports of log {log_id} is not the one that its entry announces")
    return key, row.log_index


def _previous(facts: Facts) -> Value:
    if facts.previous is None:
        return None
    size, root = facts.previous
    return {"root": root.hex(), "size": size}
