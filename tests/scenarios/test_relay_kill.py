"""Sandbox and receiver are killed at random while things are taken back: nothing of it is lost, nothing recorded twice.

Half of the calls pass through the relay; the others go to the sandbox directly, and only its deliveries tell of them.
Afterwards the sandbox's own log and database say what it did. Held against them are the receiver's log, what it shows
of its events and of the calls that it passed on, and what the callers were told.

Who is killed, when, and in which order the calls are made follows from a seed, which is printed. KILL_SEED=… plays the
same again, as far as clocks and threads let it.
"""

import base64
import json
import os
import random
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import SecretStr

from receiver import providers
from receiver.events import Kind
from receiver.records.attempts import load_attempt
from receiver.records.opening import Records
from receiver.sandbox.ledger import Data
from receiver.settings import Settings
from tests.sandbox.monitor import must_continue, read_checkpoint, read_log
from tests.scenarios.callers import REDEMPTIONS, About, Call, Callers, Things, Told, planned
from tests.scenarios.killing import Stand, everything_is_told, kill_at_random, standing
from tests.scenarios.service import Site, leaves
from translog.evidence import Leaf
from translog.merkle import leaf_hash, root_from_leaves

ANSWERS = {
    "truthlocks": {200},
    "thanx": {202},
    "capillary": {200},
    "voucherify": {200, 423},
    "scrip": {200, 201, 422},
}
"""What callers are told of a call that came through. Of a badge, a bucket and the last unit later calls are refused."""

RELAY_FAILED = {502, 503, 504}
OPEN = {"unknown", "in_progress"}
"""Both are without an outcome: the relay's own time for it is over, or not quite."""

Act: TypeAlias = tuple[str, str, str, str, str | None, str | None]
"""What the sandbox did: provider, the item's id, effect, the operation's id, amount, quantity."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What there is when all is over."""

    calls: Sequence[Call]
    told: Sequence[Told]
    """The answers that callers got."""
    acts: Sequence[Act]
    """By the sandbox's log."""
    reasons: Mapping[str, str]
    """Of the sandbox's reversals, by their ids."""
    log: Sequence[Leaf]
    """The receiver's."""
    events: Mapping[str, dict[str, Any]]
    """By their ids, as the receiver shows them."""
    attempts: Mapping[str, dict[str, Any]]
    """The calls that were passed on, in the same way."""
    asked: Mapping[str, About]
    """What each of these was about, by its intent."""
    listed: Sequence[str]
    """Those of them that are listed as having no outcome."""

    def about(self, act: Act) -> About:
        """What a call is about that has this done."""
        return act[1], self.reasons.get(act[3])

    def event_of(self, attempt: Mapping[str, Any]) -> dict[str, Any] | None:
        """The event that tells what became of a call, be it another call's; None if there is none."""
        by_id = {leaf.id: leaf for leaf in self.log}
        told_by: str | None = attempt["outcome_id"]
        while told_by is not None and by_id[told_by].kind == Kind.ATTEMPT:
            first = by_id[told_by].facts["first"]
            told_by = None if first is None else str(first)
        return None if told_by is None else self.events[told_by]


def test_nothing_is_lost_though_both_are_killed(tmp_path: Path) -> None:
    """Five hundred calls and ten kills, on SQLite."""
    _play(tmp_path, [Site(tmp_path / "receiver", settings={"RESCIND_RELAY_TIMEOUT": "5"})], calls=500, kills=10)


def test_nothing_is_lost_by_two_receivers(tmp_path: Path, postgresql_url: str) -> None:
    """The same of two receivers that share a database: callers and the sandbox go to both."""
    shared = {
        "RESCIND_DATABASE_URL": postgresql_url,
        "RESCIND_DATA_KEY": base64.b64encode(os.urandom(32)).decode(),
        "RESCIND_RELAY_TIMEOUT": "5",
    }
    _play(tmp_path, [Site(tmp_path / name, settings=shared) for name in ("one", "other")], calls=80, kills=4)


def _play(folder: Path, sites: Sequence[Site], calls: int, kills: int) -> None:
    seed = int(os.environ.get("KILL_SEED") or secrets.randbelow(1 << 32))
    print(f"KILL_SEED={seed}")  # noqa: T201  (shown with a failure)
    rng = random.Random(seed)
    for site in sites:
        site.folder.mkdir()
    with standing(folder, sites) as stand:
        things = Things.made(stand.sandbox_url, calls)
        everything_is_told(stand, things.jobs)
        before = read_checkpoint(stand.sandbox.client, stand.sandbox.vkey)
        made = planned(rng, things)
        assert len(made) >= calls
        callers = Callers(made, stand.sandbox_url, stand.relays, stand.key)
        callers.start()
        kill_at_random(stand, rng, len(made), kills, callers.have_begun)
        told = callers.finished()
        everything_is_told(stand, things.jobs)
        must_continue(stand.sandbox.client, stand.sandbox.vkey, before)

        settled = sites[0].run("receiver", "relay", "settle", "--json")
        assert settled.stderr == ""
        aftermath = _aftermath(stand, made, told)
        _settled_as_far_as_can_be(aftermath, settled.returncode, json.loads(settled.stdout)["items"])
        _everything_done_is_in_the_sandboxs_log(stand, aftermath)
        _everything_done_was_delivered_and_recorded_once(aftermath, things)
        _every_call_has_its_intent_and_its_outcome_or_none(aftermath)
        _what_became_of_calls_is_true(aftermath)
        _callers_were_told_what_is_there(aftermath)
        _the_sums_agree(stand)
        for service in stand.receivers:
            assert service.stop() == 0
    for site in sites:
        assert "nothing is wrong" in site.tell("receiver", "fsck")


# ---- what there is afterwards ----------------------------------------------------------------------------------------


def _aftermath(stand: Stand, calls: Sequence[Call], told: Sequence[Told]) -> Aftermath:
    entries = [json.loads(entry) for entry in read_log(stand.sandbox.client, stand.sandbox.vkey)]
    service = stand.receivers[0]
    # In this order, for the receivers are still at work on what has no outcome: what is read later says no less.
    listed = json.loads(stand.sites[0].tell("receiver", "relay", "list", "--json"))["items"]
    attempts = {one["id"]: one for one in _all(stand, "/v1/attempts")}
    last = max(index for one in attempts.values() for index in (one["log_index"], one["outcome_log_index"] or 0))
    checkpoint = service.checkpoint_of(last + 1, stand.vkey)
    log = service.entries(checkpoint.size)
    assert root_from_leaves([leaf_hash(entry) for entry in log]) == checkpoint.root
    return Aftermath(
        calls=calls,
        told=told,
        acts=[
            (
                entry["provider"],
                entry["item"]["id"],
                entry["effect"],
                entry["operation"],
                entry["amount"],
                entry["quantity"],
            )
            for entry in entries
        ],
        reasons={reversal["id"]: reversal["reason"] for reversal in _kept(stand, "scrip", "reversal")},
        log=leaves(log),
        events={event["id"]: event for event in _all(stand, "/v1/events")},
        attempts=attempts,
        asked=_asked(stand, attempts.values()),
        listed=[one["id"] for one in listed],
    )


def _all(stand: Stand, path: str) -> list[dict[str, Any]]:
    """Every item of a list, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = stand.receivers[0].get(f"{path}?limit=500{cursor}", stand.key).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def _kept(stand: Stand, provider: str, kind: str) -> list[Data]:
    """All things of a kind that the sandbox's database has."""
    ledger = stand.ledger()
    try:
        with ledger.read(provider) as books:
            return books.all(kind)
    finally:
        ledger.close()


def _asked(stand: Stand, attempts: Iterable[Mapping[str, Any]]) -> dict[str, About]:
    """What calls are about, as their intents' requests have it."""
    site = stand.sites[0]
    key = site.settings.get("RESCIND_DATA_KEY")
    settings = Settings(
        data=site.data,
        guard=site.guard,
        database_url=site.settings.get("RESCIND_DATABASE_URL"),
        data_key=None if key is None else SecretStr(key),
    )
    records = Records.inspect(settings)
    asked: dict[str, About] = {}
    try:
        with records.database.read() as tx:
            for one in attempts:
                attempt = load_attempt(tx, providers.get(one["provider"]), one["id"])
                assert attempt is not None
                reason = attempt.request.get("reason")
                asked[attempt.id] = attempt.item.id, None if reason is None else str(reason)
    finally:
        records.close()
    return asked


# ---- the proof -------------------------------------------------------------------------------------------------------


def _everything_done_is_in_the_sandboxs_log(stand: Stand, aftermath: Aftermath) -> None:
    """Each act that shows in its database is an entry, and each entry is such an act: once."""
    receipts = [json.loads(one["json"]) for one in _kept(stand, "truthlocks", "receipt")]
    revoked = [one["receipt_id"] for one in receipts if one["status"] == "revoked"]
    jobs = [one["job"] for one in _kept(stand, "thanx", "issuance_job") if one["job"]["state"] == "revoked"]
    badges = [one["earnedBadgeId"] for one in _kept(stand, "capillary", "badge") if not one["isActive"]]
    canceled = _kept(stand, "voucherify", "card_transaction")
    reversals = _kept(stand, "scrip", "reversal")
    outcomes = {"APPROVED": "canceled", "REJECTED": "rejected"}
    done = [
        *(("truthlocks", one, "revoked", one, None, None) for one in revoked),
        *(
            ("thanx", job["id"], state, f"{job['id']} {state}", None, str(job["success_count"]))
            for job in jobs
            for state in ("revoking", "revoked")
        ),
        *(("capillary", one, "revoked", one, None, None) for one in badges),
        *(
            ("voucherify", one["bucket_id"], effect, one["transaction"]["id"], None, "60")
            for one in canceled
            for effect in ("canceling", outcomes[one["transaction"]["status"]])
        ),
        *(
            (
                "scrip",
                one["redemption_id"],
                "reversed",
                one["id"],
                one["amount"],
                _text(one["quantity"]),
            )
            for one in reversals
        ),
    ]
    assert Counter(aftermath.acts) == Counter(done)


def _everything_done_was_delivered_and_recorded_once(aftermath: Aftermath, things: Things) -> None:
    """By its delivery each act is one event, and there is no other; each was understood, and came in one form."""
    delivered = [event for event in aftermath.events.values() if event["via"] in {"webhook", "declared"}]
    assert Counter(_act(event) for event in delivered if event["effect"]) == Counter(aftermath.acts)
    assert sorted(event["item"]["id"] for event in delivered if not event["effect"]) == sorted(things.jobs)
    assert {leaf.kind for leaf in aftermath.log}.isdisjoint({Kind.QUARANTINE, Kind.MISMATCH})


def _every_call_has_its_intent_and_its_outcome_or_none(aftermath: Aftermath) -> None:
    """In the log, each where it is said to be; and a call that has no outcome is listed."""
    log, attempts = aftermath.log, aftermath.attempts
    calls = [leaf for leaf in log if leaf.kind == Kind.ATTEMPT and "attempt" not in leaf.facts]
    assert sorted(leaf.id for leaf in calls) == sorted(attempts)
    assert [log[int(one["log_index"])].id for one in attempts.values()] == list(attempts)
    ended = [one for one in attempts.values() if one["outcome"] not in OPEN]
    outcomes = [log[int(one["outcome_log_index"])] for one in ended]
    assert [(leaf.id, leaf.facts["attempt"]) for leaf in outcomes] == [(one["outcome_id"], one["id"]) for one in ended]
    assert len({leaf.id for leaf in outcomes}) == len(outcomes)
    assert attempts.keys() - {one["id"] for one in ended} <= set(aftermath.listed) <= attempts.keys()


def _what_became_of_calls_is_true(aftermath: Aftermath) -> None:
    """What is told of a call was done, and of that very call; and what was done through the relay is told of one."""
    done = {aftermath.about(act) for act in aftermath.acts}
    relayed = [event for event in aftermath.events.values() if event["via"] in {"relay", "poll"}]
    acts = Counter((event["via"], _act(event)) for event in relayed if event["effect"] != "refused")
    assert set(acts.values()) == {1}
    assert {act for _, act in acts} <= set(aftermath.acts)

    told: set[About] = set()
    still_open: set[About] = set()
    for attempt_id, attempt in aftermath.attempts.items():
        about, event = aftermath.asked[attempt_id], aftermath.event_of(attempt)
        if event is not None and event["effect"] != "refused":
            assert about == (event["item"]["id"], event["reason"] if attempt["provider"] == "scrip" else None)
            told.add(about)
        elif attempt["outcome"] in OPEN:
            still_open.add(about)
    assert told <= done
    through_the_relay = {call.about for call in aftermath.calls if call.relayed}
    assert done & through_the_relay <= told | still_open
    jobs = {event["item"]["id"] for event in relayed if (event["via"], event["effect"]) == ("poll", "revoked")}
    assert {about[0] for about in told if about[0].startswith("job_")} <= jobs, "followed to their end"


def _settled_as_far_as_can_be(aftermath: Aftermath, status: int, settled: Sequence[Mapping[str, Any]]) -> None:
    """Open is only what no record tells: the provider has none, or the call was not done and may still be under way."""
    assert [one for one in settled if one["under_way"]] == []
    still_open = {one["id"] for one in settled if one["outcome"] in OPEN}
    assert set(aftermath.listed) <= still_open
    assert status == (1 if still_open else 0)
    done = {aftermath.about(act) for act in aftermath.acts}
    for attempt_id in still_open:
        has_record = providers.get(aftermath.attempts[attempt_id]["provider"]).operation.lookup is not None
        assert not has_record or aftermath.asked[attempt_id] not in done


def _callers_were_told_what_is_there(aftermath: Aftermath) -> None:
    """A call that came through was done; the entry and the event that its answer names are those of that call."""
    done = {aftermath.about(act) for act in aftermath.acts}
    for told in aftermath.told:
        call, headers = told.call, told.headers
        assert told.status in ANSWERS[call.provider] or (call.relayed and told.status in RELAY_FAILED), told
        assert call.about in done or told.status >= 400, told
        if call.relayed and told.status != 503:
            assert aftermath.asked[headers["x-rescind-attempt"]] == call.about
        if "x-rescind-event" in headers:
            leaf = aftermath.log[int(headers["x-rescind-log-index"])]
            assert leaf.id == headers["x-rescind-event"]
            if leaf.kind == Kind.ATTEMPT:
                assert leaf.facts["attempt"] == headers["x-rescind-attempt"]
            else:
                assert aftermath.events[leaf.id]["item"]["id"] == call.item
        else:
            assert not call.relayed or told.status == 503 or "x-rescind-recorded" in headers


def _the_sums_agree(stand: Stand) -> None:
    """Of each redemption the receiver says that as much was reversed as the sandbox has."""
    kept = {one["id"]: one for one in _kept(stand, "scrip", "redemption")}
    for redemption in REDEMPTIONS:
        said = stand.receivers[0].get(f"/v1/items/scrip/redemption/{redemption}", stand.key).json()
        assert Decimal(said["reversed_amount"] or 0) == Decimal(kept[redemption]["reversed_amount"])
        assert int(said["reversed_quantity"] or 0) == (kept[redemption]["reversed_quantity"] or 0)


def _act(event: Mapping[str, Any]) -> Act:
    return (
        event["provider"],
        event["item"]["id"],
        event["effect"],
        event["operation"],
        event["amount"],
        event["quantity"],
    )


def _text(quantity: int | None) -> str | None:
    return None if quantity is None else str(quantity)
