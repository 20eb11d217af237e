"""Calls that were passed on: the rows of their intents and of what tells of them, held against the entries."""

from collections.abc import Callable, Generator
from datetime import UTC, datetime

import pytest
from msgspec import structs

from receiver import providers
from receiver.events import Item, new_id
from receiver.intake.batch import write_batch
from receiver.intake.submission import Submission
from receiver.records.attempts import METHOD, PATH, Attempt, Ended, load_attempt
from receiver.records.keyed import idempotency_key
from receiver.records.opening import Records
from receiver.records.sources import relay_source
from receiver.relay import entries
from receiver.relay.entries import Party
from receiver.strictjson import Json
from tests.receiver.fsck.calls import KEY, Filled
from tests.receiver.passed_on import as_json

NOW = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
ERASED = "event_data = NULL, event_salt = NULL, headers = NULL, body = NULL, delivery_salt = NULL"


@pytest.mark.parametrize(
    ("name", "change", "problems"),
    [
        # an intent
        ("refused", "via = 'webhook'", ["via is 'webhook', its delivery's 'relay'"]),
        ("refused", "via = 'poll'", ["via is 'poll', its delivery's 'relay'"]),
        ("refused", "scheme = 'token'", ["scheme is 'token', of a call that was passed on it is 'upstream'"]),
        ("refused", "event = 'POST /'", ["event is 'POST /', the entry's fact 'POST /v1/receipts/{id}/revoke'"]),
        ("refused", "test = 1", ["test is True, the entry's fact False"]),
        ("refused", "effect = 'refused'", ["effect is given, which an intent has not"]),
        ("refused", "reason = 'refused'", ["reason is given, which an intent has not"]),
        ("refused", "first_id = [done_told]", ["first_id is given, which an intent has not"]),
        ("refused", "breaches = '[]'", ["breaches is given, which an intent has not"]),
        ("refused", "kind = 'revocation'", ["kind is 'revocation', the entry's 'attempt'"]),
        ("refused", "group_key = zeroblob(16)", ["group_key is not what its delivery gives"]),
        ("refused", "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        ("refused", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        ("refused", "item_key = zeroblob(16)", ["item_key is not what its delivery gives"]),
        # an answer that is no event
        ("refused_told", "reason = 'not_sent'", ["outcome is 'not_sent', the entry's fact 'refused'"]),
        ("refused_told", "reason = NULL", ["outcome is None, the entry's fact 'refused'"]),
        ("refused_told", "effect = NULL", ["effect is None, the entry's fact 'refused'"]),
        ("not_sent_told", "effect = 'revoked'", ["effect is 'revoked', the entry's fact None"]),
        ("refused_told", "event = 'POST /'", ["event is 'POST /', the entry's fact 'POST /v1/receipts/{id}/revoke'"]),
        ("refused_told", "via = 'poll'", ["via is 'poll', its delivery's 'relay'"]),
        ("not_done_told", "via = 'relay'", ["via is 'relay', its delivery's 'poll'"]),
        ("refused_told", "scheme = 'token'", ["scheme is 'token', of a call that was passed on it is 'upstream'"]),
        ("refused_told", "breaches = '[]'", ["breaches is given, which an answer has not"]),
        ("refused_told", "group_key = zeroblob(16)", ["group_key is not what its delivery gives"]),
        ("refused_told", "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        ("refused_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        ("refused_told", "item_key = NULL", ["item_key is not what its delivery gives"]),
        ("again_told", "first_id = [breach_told]", ["first is '[breach_told]', the entry's fact '[done_told]'"]),
        ("repeated_told", "first_id = NULL", ["first is None, the entry's fact '[done_told]'"]),
        (
            "again_told",
            "first_id = [job_told]",
            [
                "first is '[job_told]', the entry's fact '[done_told]'",
                "the delivery [job_told] that told of it is of another source",
            ],
        ),
        (
            "repeated_told",
            "first_id = 'nobody'",
            ["first is 'nobody', the entry's fact '[done_told]'", "the delivery nobody that told of it is not there"],
        ),
        # an event, by answer and by record
        ("done_told", "via = 'webhook'", ["via is 'webhook', the entry's fact 'relay'"]),
        ("done_told", "first_id = 'nobody'", ["first_id is given, which a revocation has not"]),
        ("done_told", "via = 'poll'", ["via is 'poll', the entry's fact 'relay'"]),
        ("found_told", "via = 'relay'", ["via is 'relay', the entry's fact 'poll'"]),
        ("done_told", "scheme = 'token'", ["scheme is 'token', the entry's fact 'upstream'"]),
        ("done_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        ("found_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        ("breach_told", "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        ("found_told", "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        ("job_told1", "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        ("redemption_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        ("answer_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        ("record_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
        # a mismatch
        ("differs_told", "via = 'poll'", ["via is 'poll', its delivery's 'relay'"]),
        ("differs_told", "via = 'webhook'", ["via is 'webhook', its delivery's 'relay'"]),
        ("differs_told", "scheme = 'token'", ["scheme is 'token', of a call that was passed on it is 'upstream'"]),
        ("differs_told", "dedupe_key = zeroblob(16)", ["dedupe_key is not what its delivery gives"]),
        (
            "differs_told",
            "digest = zeroblob(16)",
            ["digest is not what its delivery gives", "dedupe_key is not what its delivery gives"],
        ),
        # what was quarantined
        ("strange_told", "via = 'webhook'", ["via is 'webhook', its delivery's 'relay'"]),
        ("strange_told", "via = 'poll'", ["via is 'poll', its delivery's 'relay'"]),
        ("record_kept", "via = 'relay'", ["via is 'relay', its delivery's 'poll'"]),
        ("strange_told", "reason = 'not_json'", ["reason is 'not_json', the entry's fact 'wrong_shape'"]),
        ("strange_told", "digest = zeroblob(16)", ["digest is not what its delivery gives"]),
    ],
)
def test_a_row_that_its_entry_does_not_bear_out(calls: Filled, name: str, change: str, problems: list[str]) -> None:
    """Whatever a row says that neither its entry says nor its delivery gives is named."""
    calls.damage(f"UPDATE deliveries SET {change} WHERE id = [{name}]")
    assert calls.found() == [f"row [{name}]: {problem}" for problem in problems]


@pytest.mark.parametrize("name", ["refused", "refused_told", "breach_told", "strange_told"])
def test_a_row_of_another_source(calls: Filled, name: str) -> None:
    """Its entry names the one it is of."""
    calls.damage(f"UPDATE deliveries SET source_id = [other_source] WHERE id = [{name}]")
    found = calls.found()
    assert f"row [{name}]: source is '[other_source]', the entry's fact '[source]'" in found
    assert {line.partition(": ")[0] for line in found} == {f"row [{name}]"}


def test_the_sentence_of_a_breach(calls: Filled) -> None:
    """It follows from the item's earlier events, and from what was asked and answered."""
    calls.damage("UPDATE deliveries SET breaches = replace(breaches, 'final', 'fine') WHERE id = [breach_told]")
    [line] = calls.found()
    assert line.startswith('row [breach_told]: breaches is \'[["revoked_again",')


@pytest.mark.parametrize("call", ["done", "repeated", "found", "job", "redemption", "strange", "twice", "unknown"])
def test_an_intent_that_is_damaged_or_erased(calls: Filled, call: str) -> None:
    """That is told once, with its own row; what tells of the call cannot be read beside it, and nothing is said."""
    calls.damage(f"UPDATE deliveries SET body = CAST(body || ' ' AS BLOB) WHERE id = [{call}]")
    changed = "headers, body, delivery_salt do not give the delivery that the entry commits to"
    assert calls.found() == [f"row [{call}]: {changed}"]
    calls.damage(f"UPDATE deliveries SET {ERASED} WHERE id = [{call}]")
    assert calls.found() == [
        f"row [{call}]: the {part} is erased, and no erasure entry names it" for part in ("event", "delivery")
    ]


@pytest.mark.parametrize(
    "name", ["done_told", "found_told", "refused_told", "strange_told", "differs_told", "not_done_told"]
)
def test_what_tells_of_a_call_is_erased(calls: Filled, name: str) -> None:
    """What became of the call stands in the entry all the same, and the call's row agrees with it."""
    parts = ["delivery"] if name in {"strange_told", "differs_told"} else ["event", "delivery"]
    calls.damage(f"UPDATE deliveries SET {ERASED} WHERE id = [{name}]")
    assert calls.found() == [f"row [{name}]: the {part} is erased, and no erasure entry names it" for part in parts]


# ---- what was read again --------------------------------------------------------------------------------------------


def test_an_answer_that_is_a_duplicate_by_now(calls: Filled) -> None:
    """It is read as an answer, beside what was asked: nobody can hide one by saying that it bears on nothing."""
    calls.damage("UPDATE reprocessed SET status = 'ignored', same_id = NULL WHERE quarantine_id = [twice_kept]")
    assert calls.found() == [
        "records: reprocessed [twice_kept]: status is 'ignored', and it is not read as that: reprocess it again"
    ]


def test_an_answer_to_another_call(calls: Filled) -> None:
    """What is written for a quarantined answer tells of the call that this was an answer to."""
    calls.damage("UPDATE reprocessed SET row_id = [once_more_told] WHERE quarantine_id = [twice_kept]")
    assert calls.found()[:2] == [
        "row [once_more_told]: attempt is '[twice]', the entry's fact '[once_more]'",
        "row [once_more_told]: the entry has no fact reprocessed",
    ]


# ---- entries that tell of what is no call ---------------------------------------------------------------------------


class Forger:
    """Whoever can have the receiver log what no call was."""

    def __init__(self, calls: Filled, records: Records) -> None:
        self.records = records
        self.ids = calls.ids
        self.party = self.of("truthlocks", "source")
        self.call = structs.replace(self.load("unknown"), status=200)

    def load(self, name: str) -> Attempt:
        """The call of that name, of this source."""
        with self.records.database.read() as tx:
            call = load_attempt(tx, self.party.provider, self.ids[name])
        assert call is not None
        return call

    def begin(self, receipt: str, key: str, request: dict[str, Json]) -> Attempt:
        """Log a call about a receipt with that idempotency key, which asked for that."""
        item = Item("receipt", receipt)
        same = idempotency_key(self.party.tenant.hash_key, self.party.source.id, item, key, request)
        call = structs.replace(self.call, id=new_id(), item=item, idempotency=same)
        operation = self.party.provider.operation
        line = ((METHOD, operation.method), (PATH, operation.path.format(id=receipt)), ("idempotency-key", key))
        self.write(entries.intent(self.party, call, line, as_json(request), NOW))
        return call

    def of(self, provider: str, source: str) -> Party:
        """The source of that name."""
        tenant = self.records.tenant("default")
        return Party(relay_source(self.records, tenant, self.ids[source]), tenant, providers.get(provider))

    def write(self, *submissions: Submission) -> None:
        """Log them, each for itself."""
        for one in submissions:
            write_batch(self.records.database, [one])


def refused(forger: Forger, call: Attempt, party: Party | None = None) -> Submission:
    """That a call was refused."""
    return entries.refusal(party or forger.party, call, b"", NOW)


def answered(forger: Forger, **changes: object) -> Submission:
    """That the call was done, but for these changes."""
    item = forger.call.item.id
    body = f'{{"receipt_id":"{item}","status":"revoked","revoked_at":"2026-11-20T08:59:00Z"}}'.encode()
    return structs.replace(entries.answer(forger.party, forger.call, body, NOW), **changes)


@pytest.fixture
def forger(calls: Filled) -> Generator[Forger]:
    """One for the copy."""
    records = Records.open(calls.copy.settings)
    yield Forger(calls, records)
    records.close()


FORGED: list[tuple[Callable[[Forger], Submission], list[str]]] = [
    (
        lambda forger: refused(forger, forger.call, forger.of("thanx", "other_source")),
        ["the call [unknown] that it tells of is another source's"],
    ),
    (
        lambda forger: refused(forger, structs.replace(forger.call, id=forger.ids["refused_told"])),
        ["it tells of [refused_told], which is no call"],
    ),
    (
        lambda forger: refused(forger, structs.replace(forger.call, id="nobody")),
        ["the call nobody that it tells of is not there"],
    ),
    (
        lambda forger: answered(forger, scheme="token"),
        ["scheme is 'token', of a call that was passed on it is 'upstream'"],
    ),
    (
        lambda forger: answered(forger, secret_id="another"),
        [
            "secret is None, the entry's fact 'another'",
            "the entry's fact secret is 'another', which is no secret of its source",
        ],
    ),
    (
        lambda forger: answered(forger, attempt=None),
        [
            "via is 'relay', and the entry names no call that was passed on",
            "scheme is 'upstream', and the entry names no call that was passed on",
        ],
    ),
]


@pytest.mark.parametrize(("forge", "problems"), FORGED)
def test_an_entry_that_names_no_call_of_its_source(
    calls: Filled, forger: Forger, forge: Callable[[Forger], Submission], problems: list[str]
) -> None:
    """Tree and checkpoints are in order, and the row is as its entry says."""
    forger.write(forge(forger))
    found = calls.found()
    assert [line.partition("): ")[2] for line in found] == problems


# ---- what told of it already ----------------------------------------------------------------------------------------


def repeated(forger: Forger, first: str, call: Attempt | None = None) -> Submission:
    """That a call was made again, and the delivery of that name told of both."""
    return entries.repeated(forger.party, call or forger.call, forger.ids[first], NOW)


def duplicate(forger: Forger, first: str | None) -> Submission:
    """That the call was answered as the delivery of that name told already."""
    return answered(forger).answered(Ended.DUPLICATE, first_id=first and forger.ids[first])


ANOTHER = "is another one by its idempotency key"
NO_ACT = "that told of it tells of no act that a call came to"
FIRSTS: list[tuple[Callable[[Forger], Submission], list[str]]] = [
    (lambda forger: repeated(forger, "done_told"), [f"the call [done] that [done_told] tells of {ANOTHER}"]),
    (lambda forger: repeated(forger, "again_told"), [f"the call [again] that [again_told] tells of {ANOTHER}"]),
    (lambda forger: repeated(forger, "differs_told"), [f"the call [differs] that [differs_told] tells of {ANOTHER}"]),
    (
        lambda forger: repeated(forger, "job_told"),
        [
            "the delivery [job_told] that told of it is of another source",
            f"the call [job] that [job_told] tells of {ANOTHER}",
        ],
    ),
    (
        lambda forger: structs.replace(repeated(forger, "done_told"), attempt=ended_without_first(forger)),
        ["it names no delivery that told of the act already"],
    ),
    (lambda forger: duplicate(forger, None), ["it names no delivery that told of the act already"]),
    (lambda forger: duplicate(forger, "done_told"), ["the delivery [done_told] that told of it is about another item"]),
    (
        lambda forger: duplicate(forger, "differs_told"),
        ["the delivery [differs_told] that told of it is about another item"],
    ),
    *(
        (lambda forger, say=say, first=first: say(forger, first), [f"the delivery [{first}] {NO_ACT}"])
        for say in (repeated, duplicate)
        for first in ("refused_told", "not_sent_told", "strange_told", "not_done_told", "done")
    ),
]


def ended_without_first(forger: Forger) -> Attempt:
    """The call, as one that is said to be repeated."""
    return structs.replace(forger.call, ended=Ended.REPEATED, first_id=None)


@pytest.mark.parametrize(("forge", "problems"), FIRSTS)
def test_a_first_that_did_not_tell_of_the_act(
    calls: Filled, forger: Forger, forge: Callable[[Forger], Submission], problems: list[str]
) -> None:
    """Also where the receiver itself logged it, deceived by a changed row of `attempts` that was put back since."""
    forger.write(forge(forger))
    found = [line.partition("): ")[2] for line in calls.found()]
    assert found == problems


def test_a_first_that_tells_of_the_call_itself(calls: Filled, forger: Forger) -> None:
    """It would be its own repetition."""
    forger.write(repeated(forger, "done_told", forger.load("done")))
    found = [line.partition("): ")[2] for line in calls.found()]
    assert found == [f"the call [done] that [done_told] tells of {ANOTHER}"]


@pytest.mark.parametrize(
    ("receipt", "key", "asked", "one"),
    [
        (None, KEY, None, True),
        (None, "6c3e2d91-8d46-4b1f-9b20-1b5e8e307f22", None, False),
        ("another", KEY, None, False),
        (None, KEY, {"reason": "another"}, False),
    ],
)
def test_calls_are_one_by_what_they_sent(
    calls: Filled, forger: Forger, receipt: str | None, key: str, asked: dict[str, Json] | None, *, one: bool
) -> None:
    """The idempotency key, the item and the JSON, as the intents keep them; where none is given, the other's."""
    done = forger.load("done")
    call = forger.begin(receipt or done.item.id, key, done.request if asked is None else asked)
    forger.write(repeated(forger, "done_told", call))
    found = [line.partition("): ")[2] for line in calls.found()]
    assert found == ([] if one else [f"the call [done] that [done_told] tells of {ANOTHER}"])


def test_an_answer_that_was_logged_before_its_call(calls: Filled, forger: Forger) -> None:
    """A call's intent is durable before the provider is called."""
    call = structs.replace(forger.call, id=new_id(), idempotency=None)
    forger.write(refused(forger, call), entries.intent(forger.party, call, ((":path", "/"),), b"", NOW))
    assert [line.partition("): ")[2] for line in calls.found()] == [
        f"the call {call.id} that it tells of was logged after it"
    ]


def test_many_calls(calls: Filled, forger: Forger) -> None:
    """They are gone through a part at a time, to the last one."""
    made = [structs.replace(forger.call, id=new_id(), idempotency=None) for _ in range(600)]
    write_batch(
        forger.records.database,
        [entries.intent(forger.party, call, ((":path", "/"),), b"", NOW) for call in made],
    )
    assert calls.found() == []
    calls.damage("UPDATE attempts SET status = 200 WHERE outcome IS NULL")
    assert calls.copy.report().found == 601
