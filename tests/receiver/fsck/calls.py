"""A service that passed calls on, one for everything that can become of one, and copies of its records to damage.

`Filled.ids["refused"]` is the intent of the call that was refused, `Filled.ids["refused_told"]` the delivery that tells
so. The rest is named likewise: where several deliveries tell of a call, the later ones end in a number.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from receiver.intake.reprocessing import reprocess
from receiver.intake.submission import Outcome
from receiver.records.attempts import Attempt
from receiver.records.sources import relay_source
from receiver.records.tables import sources
from receiver.settings import Settings
from tests.receiver.fsck.copies import Copy
from tests.receiver.operations import EXAMPLES
from tests.receiver.passed_on import Calls, as_json
from tests.receiver.service import ACCOUNT, Sender, Service, receipt_id, running

KEY = "5b2d1c80-7c35-4a0e-8a1f-0a4d7d2f6e11"
FIRST_AT, AGAIN_AT = "2026-11-20T09:00:01Z", "2026-11-20T10:00:00Z"


def answer(receipt: str, **members: object) -> dict[str, object]:
    """What the provider answers when it has revoked a receipt."""
    return {"receipt_id": receipt, "status": "revoked", "revoked_at": FIRST_AT, **members}


def record(receipt: str, status: str = "revoked") -> dict[str, object]:
    """The provider's own record of a receipt."""
    return {"receipt_id": receipt, "status": status, "tenant_id": ACCOUNT}


@dataclass(slots=True)
class Filler:
    """The calls of one source, whose ids it keeps under names."""

    sender: Sender
    calls: Calls
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def begin(self, name: str, receipt: str | None = None, headers: Mapping[str, str] | None = None) -> Attempt:
        """A call's intent, of the documented example or about that receipt."""
        call = self.calls.begin(None if receipt is None else {"id": receipt}, headers=headers)
        self.ids[name] = call.id
        return call

    def told(self, name: str, _outcome: Outcome | None) -> None:
        """What was written last."""
        self.ids[name] = self.sender.rows()[-1].id


def filler(service: Service, provider: str, account: str | None = None) -> Filler:
    """Calls of a new source."""
    sender = service.add_source(provider=provider, account=account)
    return Filler(sender, Calls(service, sender))


def fill_calls(settings: Settings) -> dict[str, str]:
    """Let a service pass calls on."""
    with running(settings) as service:
        parts = [filler(service, name) for name in ("truthlocks", "thanx", "scrip")]
        receipts, jobs, redemptions = parts
        done = _answered(receipts)
        _found_out(receipts, done)
        job = jobs.begin("job")
        jobs.told("job_told", jobs.calls.answered(job))
        jobs.told("job_told1", jobs.calls.looked_up(job, _ended_job()))
        redemptions.told("redemption_told", redemptions.calls.answered(redemptions.begin("redemption")))
        others = filler(service, "truthlocks", account="another")
        _read_again(others)
        service.until_published()
    ids = {
        "source": receipts.calls.party.source.id,
        "other_source": jobs.calls.party.source.id,
        "key": receipts.calls.key_id,
        "other_key": jobs.calls.key_id,
    }
    for part in (*parts, others):
        ids |= part.ids
    return ids


def _answered(fill: Filler) -> str:
    """All that can become of a call at once; the receipt that they are about."""
    receipt, calls = receipt_id(), fill.calls
    fill.told("done_told", calls.answered(fill.begin("done", receipt, {"Idempotency-Key": KEY}), answer(receipt)))
    fill.told("again_told", calls.answered(fill.begin("again", receipt), answer(receipt)))
    fill.told("differs_told", calls.answered(fill.begin("differs", receipt), answer(receipt, receipt_type="other")))
    fill.told("breach_told", calls.answered(fill.begin("breach", receipt), answer(receipt, revoked_at=AGAIN_AT)))
    fill.told("strange_told", calls.answered(fill.begin("strange", receipt), {"receipt_id": receipt}))
    fill.told("refused_told", calls.refused(fill.begin("refused", receipt), 409))
    fill.told("not_sent_told", calls.not_sent(fill.begin("not_sent", receipt)))
    return receipt


def _found_out(fill: Filler, done: str) -> None:
    """All that can become of a call later."""
    receipt, calls = receipt_id(), fill.calls
    fill.begin("unknown", receipt)
    repeated = fill.begin("repeated", done, {"Idempotency-Key": KEY})
    fill.told("repeated_told", calls.repeated(repeated, fill.ids["done_told"]))
    fill.told("not_done_told", calls.looked_up(fill.begin("not_done", receipt), record(receipt, "active")))
    late = fill.begin("late", receipt)
    fill.told("late_told", calls.looked_up(late, record(receipt, "active")))
    fill.told("late_told1", calls.answered(late, {"receipt_id": "another"}))
    fill.told("late_told2", calls.answered(late, answer(receipt)))
    found = fill.begin("found", receipt)
    fill.told("found_told", calls.looked_up(found, record(receipt)))
    fill.told("found_told1", calls.refused(found, 409))
    fill.told("found_too_told", calls.looked_up(fill.begin("found_too", receipt), record(receipt)))


def _read_again(fill: Filler) -> None:
    """What was another account's when it came, and is not any more: an answer, a record, and a duplicate by then."""
    calls, service = fill.calls, fill.sender.service
    receipts = {name: receipt_id() for name in ("answer", "record", "twice")}
    answers = {name: answer(receipt, tenant_id=ACCOUNT) for name, receipt in receipts.items()}
    begun = {name: fill.begin(name, receipt) for name, receipt in receipts.items()}
    fill.told("answer_kept", calls.answered(begun["answer"], answers["answer"]))
    fill.told("record_kept", calls.looked_up(begun["record"], record(receipts["record"])))
    fill.told("twice_kept", calls.answered(begun["twice"], answers["twice"]))
    with service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == calls.party.source.id).values(account=None))
    source = relay_source(service.records, calls.party.tenant, calls.party.source.id)
    calls.party = type(calls.party)(source, calls.party.tenant, calls.party.provider)
    fill.told("once_more_told", calls.answered(fill.begin("once_more", receipts["twice"]), answers["twice"]))
    for name, status in (("answer", "recorded"), ("record", "recorded"), ("twice", "duplicate")):
        outcome = reprocess(service.records, service.tenant, fill.ids[f"{name}_kept"])
        assert outcome is not None
        assert outcome.status == status
        if outcome.new:
            fill.told(f"{name}_told", outcome)


def _ended_job() -> dict[str, Any]:
    example = EXAMPLES["thanx"].record
    assert example is not None
    job: dict[str, Any] = json.loads(as_json(example))
    job["issuance_job"]["state"] = "revoked"
    return job


class Filled:
    """A copy of such records. In what is said of it, `[name]` stands for the id of that name."""

    def __init__(self, copy: Copy, ids: Mapping[str, str]) -> None:
        self.copy = copy
        self.ids = ids
        self._indexes = {name: copy.one(_INDEX.format(id_)) for name, id_ in ids.items()}

    def damage(self, statement: str) -> None:
        """Change the database as no part of the service would; `[name]` stands for that id, as text."""
        for name, id_ in self.ids.items():
            statement = statement.replace(f"[{name}]", f"'{id_}'")
        self.copy.damage(statement)

    def found(self) -> list[str]:
        """The lines that the check gives, without the log's name; of a row `row [name]`, of an entry `entry [name]`.

        Of a finding's row it is `finding [name]`.
        """
        return [self._named(line) for line in self.copy.found()]

    def _named(self, line: str) -> str:
        for name, id_ in self.ids.items():
            line = line.replace(f"{id_} (entry {self._indexes[name]})", f"[{name}]").replace(id_, f"[{name}]")
            line = line.replace(f"entry {self._indexes[name]}: ", f"entry [{name}]: ")
        return line


_ROWS = "SELECT id, log_index FROM deliveries UNION ALL SELECT id, log_index FROM findings"
_INDEX = f"SELECT coalesce(max(log_index), -1) FROM ({_ROWS}) WHERE id = '{{}}'"
