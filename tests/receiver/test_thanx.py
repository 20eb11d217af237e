"""Thanx: the documented webhooks, the jobs that are declared, the operation, and the rules."""

import copy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import providers
from receiver.documents import Members
from receiver.events import Effect, Event, Extent, Item, Kind, Past, Via
from receiver.intake.signatures import Authenticated, Refused, Secret, scheme_from_options, verifier
from receiver.providers import Call, Ignored, Notice, Unfit
from receiver.strictjson import Json, Number, digest, parse
from translog.canonical import decode

THANX = providers.get("thanx")
JOB = "job_xyz789"
MERCHANT = "k2lye10h32l5wzo"
RECEIVED = datetime(2025, 6, 15, 10, 30, 16, tzinfo=UTC)

SIGNED_BODY = (
    b'{"purchase":{"id":"bd4163e4ea5e168431fdc4b8d1ea061f","amount":"7.76","purchased_at":"2024-03-26T21:38:36.000Z",'
    b'"event":"create","user":{"id":"675c038cfc5f43591718936c18080855","email":"example@thanx.com","first_name":"Thanx",'
    b'"last_name":"Example"},"merchant":{"id":"a91f75a0dc2cc54a62ad8a1a05b9fa6b","name":"Thanx Restaurant"},'
    b'"location":{},"order":{},"products":["Latte"]}}'
)
SECRET = "f19ce124-48e4-45fb-b39b-4f9e3e1d4b1b"
SIGNATURE = b"425bf0e847d0647d6e3449c7c1cddadc2095a98c954a7549da0d01c417b833fd"
"""The documented example, whose body is the one-line JSON that it is made to be there."""

BATCH = parse(b"""
{"event": "reward_batch.completed", "timestamp": "2025-06-15T10:30:15Z",
 "data": {"issuance_job_id": "job_xyz789", "state": "completed", "total_count": 2, "issued_count": 1, "failed_count": 1,
          "failures": [{"user_identifier": "+14155551234", "reason": "User not found"}]}}
""")
ANSWER = parse(b"""
{"issuance_job": {"id": "job_xyz789", "campaign_id": "camp_abc123", "variant_id": "var_treat1", "state": "revoking",
  "total_count": 2, "processed_count": 2, "success_count": 1, "failure_count": 1, "progress_percent": 100,
  "created_at": "2025-06-15T10:30:00Z", "started_at": "2025-06-15T10:30:05Z", "completed_at": "2025-06-15T10:30:15Z"}}
""")
INNER = Members(ANSWER).inside("issuance_job").document
DECLARED: dict[str, Json] = {
    "type": "issuance_job.revoking",
    "created_at": "2025-06-16T08:00:00Z",
    "data": ANSWER,
    "request": {"merchant_id": MERCHANT},
}
IGNORED = {
    "reward.issued": parse(b"""
{"event": "reward.issued", "timestamp": "2025-06-15T10:30:10Z",
 "data": {"issuance_job_id": "job_xyz789", "merchant_id": "mer_abc123", "reward_id": "rwd_abc123",
          "identifier": {"type": "email", "index": 0}, "user_id": "usr_def456", "state": "active"}}
"""),
    "purchase": parse(SIGNED_BODY),
    "communication_setting": parse(b"""
{"communication_setting": {"id": "weori234098", "merchant_id": "owierywtwt", "user_id": "woeruijsfwer",
  "reward_progress": {"email": true}, "reward_offer": {"notification": true, "email": true}}}
"""),
    "sms_subscription": parse(b"""
{"sms_subscription": {"user_id": "woeruijsfwer", "merchant_id": "owierywtwt",
  "phone": "+14157582345", "email": "example@thanx.com"}}
"""),
}


NOT_TAKEN_BACK = "only a job that is 'revoking' or 'revoked' says that it is taken back"


def notice(document: dict[str, Json]) -> Notice:
    """The notice that a document is read as."""
    reading = THANX.read(document)
    assert isinstance(reading, Notice)
    return reading


def batch(**changes: Json) -> dict[str, Json]:
    """The documented batch, with other members in its data."""
    return {**BATCH, "data": {**Members(BATCH).inside("data").document, **changes}}


def job(**changes: Json) -> dict[str, Json]:
    """The documented answer, with other members in its job."""
    return {"issuance_job": {**INNER, **changes}}


def declared(state: str = "revoking", /, **changes: Json) -> dict[str, Json]:
    """That job, declared to be in that state."""
    return {**DECLARED, "type": f"issuance_job.{state}", "data": job(state=state, **changes)}


def call(answer: dict[str, Json], **request: Json) -> Call:
    """The documented call, with that answer."""
    return Call({"id": JOB}, request or {"merchant_id": MERCHANT}, answer)


def codes(event: Event, *history: Event, received_at: datetime = RECEIVED) -> list[str]:
    """The codes of the rules that it breaks after those events."""
    past = [Past.from_event(earlier, RECEIVED, index) for index, earlier in enumerate(history)]
    return [breach.code for breach in THANX.check(event, received_at, 300, past)]


def messages(event: Event) -> list[str]:
    """What is said of each breach."""
    return [breach.message for breach in THANX.check(event, RECEIVED, 300, [])]


def test_the_documented_scheme_verifies_the_documented_example() -> None:
    """With the secret as text and the body as it came; another byte, and it does not."""
    assert THANX.signing.scheme is not None
    scheme = scheme_from_options(THANX.signing.scheme, THANX.signing.options)
    verify = verifier(scheme, [Secret("s1", SECRET)], 300).verify
    headers = [(b"x-thanx-signature", SIGNATURE)]

    assert Authenticated("s1", "hmac", (("x-thanx-signature", SIGNATURE.decode()),)) == verify(headers, SIGNED_BODY, 0)
    assert isinstance(verify(headers, SIGNED_BODY + b"\n", 0), Refused)


def test_a_completed_batch_in_full() -> None:
    """It says how many rewards there are to take back; whom they could not be issued to is left in the body."""
    assert THANX.read(BATCH) == Notice(
        event=Event(
            kind=Kind.CONTEXT,
            type="reward_batch.completed",
            item=Item("issuance_job", JOB),
            effect=None,
            extent=Extent.UNKNOWN,
            account=None,
            operation=None,
            occurred_at=datetime(2025, 6, 15, 10, 30, 15, tzinfo=UTC),
            occurred_from="timestamp",
            amount=None,
            quantity="1",
            reason=None,
            details={"state": "completed", "total_count": 2, "issued_count": 1, "failed_count": 1},
        ),
        key=f"batch completed {JOB}",
        digest=digest({"event": BATCH["event"], "data": BATCH["data"]}),
        via=Via.WEBHOOK,
    )


def test_what_a_batch_may_bring_or_leave_out() -> None:
    """The merchant and further counts are kept if given; without the issued ones there is no quantity."""
    event = notice(batch(merchant_id="mer_abc123", success_count=1, failure_count=1, processed_count=2, x=1)).event
    counts = ("total", "issued", "failed", "success", "failure", "processed")
    assert event.account == "mer_abc123"
    assert {"state", *(f"{name}_count" for name in counts)} == event.details.keys()

    bare = notice({**BATCH, "data": {"issuance_job_id": JOB, "state": "failed"}}).event
    assert (bare.quantity, bare.details) == (None, {"state": "failed"})


def test_a_batch_told_again_at_another_time_is_the_same_notice() -> None:
    """The time is no part of its content; what failed is, and so is the state of its key."""
    again = notice({**BATCH, "timestamp": "2025-06-15T11:00:00Z"})
    assert (again.key, again.digest) == (notice(BATCH).key, notice(BATCH).digest)

    other = notice(batch(failures=[]))
    assert other.key == notice(BATCH).key
    assert other.digest != notice(BATCH).digest
    assert notice(batch(state="failed")).key == f"batch failed {JOB}"


@pytest.mark.parametrize("name", IGNORED)
def test_webhooks_about_people_are_ignored(name: str) -> None:
    """Documented, and nothing of them is kept."""
    assert Ignored(name) == THANX.read(IGNORED[name])


@pytest.mark.parametrize(
    "document",
    [
        *({"purchase": value} for value in (None, 7, "bd4163e4", [IGNORED["purchase"]])),
        {**IGNORED["purchase"], "event": "create"},
        {**IGNORED["purchase"], "event": 7, "type": []},
        {**BATCH, **IGNORED["purchase"]},
        *({"event": name, "data": 7} for name in ("purchase", "purchase.created", "purchase_" + "x" * 200)),
    ],
)
def test_purchases_are_ignored_in_any_shape(document: dict[str, Json]) -> None:
    """They name people, and quarantine would keep them whole; but what is declared is kept, whatever is beside it."""
    assert Ignored("purchase") == THANX.read(document)
    assert notice({**document, **DECLARED}).event == REVOKING


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({**BATCH, "event": "reward.revoked"}, "event is 'reward.revoked', which is not documented"),
        ({**BATCH, "event": "Reward.Issued"}, "event is 'Reward.Issued', which is not documented"),
        ({**DECLARED, "type": "issuance_job.completed"}, "type is 'issuance_job.completed', which is not documented"),
        ({"event": "purchases"}, "event is 'purchases', which is not documented"),
        ({}, "neither event nor type is there, nor a member that a documented webhook is told by"),
        (ANSWER, "neither event nor type is there, nor a member that a documented webhook is told by"),
    ],
)
def test_other_types_are_unknown(document: dict[str, Json], says: str) -> None:
    """Nothing is guessed from a name that looks familiar."""
    assert Unfit("unknown_type", says) == THANX.read(document)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({**BATCH, "event": 7}, "event is not a string"),
        ({**BATCH, "event": "x" * 129}, "event has 129 characters; it must have 1 to 128"),
        ({"type": ["issuance_job.revoked"]}, "type is not a string"),
        ({"sms_subscription": "s1"}, "sms_subscription is not an object"),
        ({**BATCH, "timestamp": None}, "timestamp is missing"),
        ({**BATCH, "timestamp": 1749983415}, "timestamp is not a string"),
        (
            {**BATCH, "timestamp": "2025-06-15"},
            "timestamp: '2025-06-15' is not an RFC 3339 time with a zone, such as 2026-11-20T09:00:00Z",
        ),
        ({**BATCH, "data": None}, "data is missing"),
        (batch(issuance_job_id=None), "data.issuance_job_id is missing"),
        (batch(merchant_id=[]), "data.merchant_id is not a string"),
        (batch(state=None), "data.state is missing"),
        (batch(state="revoked"), "data.state is 'revoked'; of a batch that is done it is 'completed' or 'failed'"),
        (batch(issued_count="1"), "data.issued_count is not an integer below 2^53"),
        (batch(total_count=Number("2.0")), "data.total_count is not an integer below 2^53"),
        ({**DECLARED, "data": None}, "data is missing"),
        ({**DECLARED, "data": {"issuance_job": 7}}, "data.issuance_job is not an object"),
        ({**DECLARED, "data": {}}, "data.id is missing"),
        ({**DECLARED, "request": "x"}, "request is not an object"),
        ({**DECLARED, "request": {"merchant_id": 7}}, "request.merchant_id is not a string"),
        (declared(id=7), "data.issuance_job.id is not a string"),
        ({**DECLARED, "data": job(state=None)}, "data.issuance_job.state is missing"),
        ({**DECLARED, "data": job(state="completed")}, f"data.issuance_job.state is 'completed': {NOT_TAKEN_BACK}"),
        (declared(success_count="1"), "data.issuance_job.success_count is not an integer below 2^53"),
        (declared(progress_percent=Number("99.5")), "data.issuance_job.progress_percent is not an integer below 2^53"),
    ],
)
def test_what_is_not_of_the_documented_shape_is_unfit(document: dict[str, Json], says: str) -> None:
    """The member and what is wrong with it."""
    assert Unfit("wrong_shape", says) == THANX.read(document)


def test_a_declared_job_in_full() -> None:
    """The documented answer as it is: it has no time of its revocation, only those of the issuance."""
    assert THANX.read(DECLARED) == Notice(
        event=Event(
            kind=Kind.REVOCATION,
            type="issuance_job.revoking",
            item=Item("issuance_job", JOB),
            effect=Effect.REVOKING,
            extent=Extent.FULL,
            account=MERCHANT,
            operation=f"{JOB} revoking",
            occurred_at=None,
            occurred_from=None,
            amount=None,
            quantity="1",
            reason=None,
            details={
                **{name: value for name, value in INNER.items() if name != "id"},
                "declared_at": "2025-06-16T08:00:00.000000Z",
            },
        ),
        key=f"job revoking {JOB}",
        digest=digest({"type": "issuance_job.revoking", "data": ANSWER}),
        via=Via.DECLARED,
    )


def test_a_revoked_job() -> None:
    """Its effect, operation and key go by its state."""
    reading = notice(declared("revoked"))

    assert (Effect.REVOKED, f"{JOB} revoked") == (reading.event.effect, reading.event.operation)
    assert reading.key == f"job revoked {JOB}"


def test_the_job_may_stand_in_the_data_itself() -> None:
    """Without the member around it."""
    assert notice({**DECLARED, "data": INNER}).event == notice(DECLARED).event


def test_the_merchant_is_the_requests_or_the_jobs() -> None:
    """Where both name one it is the same, and where neither does, none is made up."""
    without = {name: value for name, value in declared(merchant_id="mer_1").items() if name != "request"}
    assert notice(without).event.account == "mer_1"
    assert notice({**without, "request": {"merchant_id": "mer_1"}}).event.account == "mer_1"
    assert notice({**DECLARED, "request": {}}).event.account is None

    two = f"request.merchant_id is '{MERCHANT}', %sissuance_job.merchant_id is 'mer_1': they name two merchants"
    assert Unfit("wrong_shape", two % "data.") == THANX.read(declared(merchant_id="mer_1"))
    assert Unfit("wrong_shape", two % "") == THANX.operation.read(call(job(merchant_id="mer_1")))


def test_least_that_can_be_declared() -> None:
    """An id and a state; members that are not known stay in the body."""
    reading = notice({"type": "issuance_job.revoked", "data": {"id": "j", "state": "revoked", "summary": {"x": 1}}})

    assert reading.event.details == {"state": "revoked"}
    assert (reading.event.quantity, reading.event.account) == (None, None)


def test_every_key_names_its_job() -> None:
    """Ids that look like the rest of a key are no other job's, nor another state's."""
    ids = [JOB, "revoked j", "j", "job revoked j", " j", "completed"]
    documents = [declared(state, id=job_id) for state in ("revoking", "revoked") for job_id in ids]
    documents += [batch(state=state, issuance_job_id=job_id) for state in ("completed", "failed") for job_id in ids]
    keys = {notice(document).key for document in documents}

    assert THANX.key_names_item
    assert len(keys) == 4 * len(ids)


def test_the_documented_call_in_full() -> None:
    """It is the event that its declaration is, come another way."""
    reading = THANX.operation.read(call(ANSWER))

    event = notice({name: value for name, value in DECLARED.items() if name != "created_at"}).event
    assert Notice(event, notice(DECLARED).key, digest(ANSWER), Via.RELAY) == reading
    assert (THANX.operation.method, THANX.operation.path) == ("POST", "/partner/issuance_jobs/{id}/revoke")
    assert frozenset({202}) == THANX.operation.successes
    assert THANX.operation.credentials == ("authorization", "x-clientid")


def test_an_answer_may_say_that_it_is_done() -> None:
    """Then that is its type."""
    reading = THANX.operation.read(call(job(state="revoked")))

    assert isinstance(reading, Notice)
    assert (reading.event.type, reading.event.effect) == ("issuance_job.revoked", Effect.REVOKED)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (call({}), "issuance_job is missing"),
        (call(job(id=None)), "issuance_job.id is missing"),
        (call(job(id="job_other")), "issuance_job.id is not the one in the path"),
        (Call({}, {}, ANSWER), "issuance_job.id is not the one in the path"),
        (call(ANSWER, merchant_id=7), "request.merchant_id is not a string"),
        (call(job(state="failed")), f"issuance_job.state is 'failed': {NOT_TAKEN_BACK}"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_unfit(made: Call, says: str) -> None:
    """The member and what is wrong with it."""
    assert Unfit("wrong_shape", says) == THANX.operation.read(made)


COMPLETED = notice(BATCH).event
REVOKING = notice(DECLARED).event
REVOKED = notice(declared("revoked")).event


def test_a_type_that_contradicts_the_job() -> None:
    """What became of the job goes by its state; the type stays as it was declared."""
    event = notice({**DECLARED, "type": "issuance_job.revoked"}).event

    assert (event.type, event.effect) == ("issuance_job.revoked", Effect.REVOKING)
    assert codes(event) == ["type_contradicts_state"]
    assert messages(event) == ["the type is issuance_job.revoked, but the job is revoking"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (declared(success_count=2), "processed_count is 2, but success_count + failure_count is 3"),
        (declared(processed_count=1, progress_percent=50), "processed_count is 1, but success_count + failure_count"),
        (declared(processed_count=3, failure_count=2, progress_percent=None), "processed_count is 3, above the total"),
        (declared(success_count=3, failure_count=None), "success_count is 3, above the total_count of 2"),
        (declared(success_count=2, processed_count=None), "success_count + failure_count is 3, above the total_count"),
        (declared(success_count=-1, failure_count=3, total_count=None), "success_count is -1, below 0"),
        (declared(total_count=-1, progress_percent=None), "total_count is -1, below 0"),
        (batch(issued_count=2), "issued_count + failed_count is 3, above the total_count of 2"),
        (batch(issued_count=None, failed_count=3), "failed_count is 3, above the total_count of 2"),
        (batch(issued_count=-1), "issued_count is -1, below 0"),
        (batch(success_count=1, failure_count=1, processed_count=1), "processed_count is 1, but success_count"),
    ],
)
def test_counts_that_do_not_add_up(document: dict[str, Json], says: str) -> None:
    """Each clause names the counts; the event is recorded with them as they are."""
    event = notice(document).event

    assert codes(event) == ["counts_differ"]
    assert says in messages(event)[0]


@pytest.mark.parametrize(
    "document",
    [
        declared(processed_count=None, progress_percent=None),
        declared(total_count=None, success_count=9, failure_count=9, processed_count=18),
        declared(failure_count=None),
        declared(total_count=3, processed_count=2, progress_percent=66),
        batch(issued_count=1, failed_count=0),
        batch(total_count=None, issued_count=9),
        batch(issued_count=0, failed_count=0, total_count=0),
    ],
)
def test_counts_that_are_not_given_break_no_rule(document: dict[str, Json]) -> None:
    """A rule is about members that are there; and of a batch, not everything need have been tried."""
    assert codes(notice(document).event) == []


@pytest.mark.parametrize(
    ("processed", "total", "fits"),
    [
        (2, 3, {66, 67}),
        (1, 3, {33, 34}),
        (1, 2, {50}),
        (0, 2, {0}),
        (2, 2, {100}),
        (9999, 10000, {99, 100}),
        (0, 0, set(range(101))),
        (1, None, set(range(101))),
        (None, 2, set(range(101))),
    ],
)
def test_progress_is_the_share_that_is_processed(processed: int | None, total: int | None, fits: set[int]) -> None:
    """Rounded up or down, which is not documented; of no rewards, or an unknown number, any share may be right."""
    counts: dict[str, Json] = {"processed_count": processed, "total_count": total}
    said = {
        n: codes(notice(declared(progress_percent=n, success_count=None, failure_count=None, **counts)).event)
        for n in range(-2, 103)
    }

    assert {n: [] if n in fits else ["progress_differs"] for n in said} == said


@pytest.mark.parametrize(("ahead", "expected"), [(0, []), (300, []), (301, ["occurred_in_future"])])
def test_a_batch_of_the_future(ahead: int, expected: list[str]) -> None:
    """Beyond the replay window only, which is how far clocks may differ."""
    before = datetime(2025, 6, 15, 10, 30, 15, tzinfo=UTC) - timedelta(seconds=ahead)

    assert expected == codes(COMPLETED, received_at=before)


def test_all_rules_at_once() -> None:
    """Each breach is told once, in the order of the rules."""
    event = notice({**declared(success_count=-5, progress_percent=1), "type": "issuance_job.revoked"}).event
    expected = ["type_contradicts_state", "illegal_transition", "counts_differ", "progress_differs"]

    assert expected == codes(event, REVOKED, REVOKED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5) | st.just(Number("1.0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
states = st.sampled_from(["completed", "failed", "revoking", "revoked"])


@st.composite
def mutated(draw: st.DrawFn, examples: list[dict[str, Json]]) -> dict[str, Json]:
    """One of the examples with some of its members, at any depth, left out or replaced by some JSON."""
    document = copy.deepcopy(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 3))):
        place = document
        while place:
            name = draw(st.sampled_from(sorted(place)))
            inner = place[name]
            if isinstance(inner, dict) and draw(st.booleans()):
                place = inner
                continue
            if draw(st.booleans()):
                place[name] = draw(json_values | states)
            else:
                del place[name]
            break
    return document


def see_through(reading: object) -> None:
    """What the recorder does with a notice: it encodes the event, and judges it before and after others."""
    if isinstance(reading, Notice):
        assert isinstance(decode(reading.event.data()), dict)
        assert len(reading.digest) == 32
        again = Past.of(reading.event.kind, reading.event.type, reading.event.effect, RECEIVED, 0, reading.event.data())
        assert again == Past.from_event(reading.event, RECEIVED, 0)
        for history in ([], [again], [Past.from_event(COMPLETED, RECEIVED, 0), Past.from_event(REVOKED, RECEIVED, 1)]):
            found = [breach.code for breach in THANX.check(reading.event, RECEIVED, 300, history)]
            assert len(found) == len(set(found))
    else:
        assert isinstance(reading, Ignored | Unfit)


@given(mutated([BATCH, DECLARED, declared("revoked"), {**DECLARED, "data": INNER}, *IGNORED.values()]))
def test_no_delivery_makes_it_raise(document: dict[str, Json]) -> None:
    """However far from the documented examples; and whatever is a notice can be recorded."""
    see_through(THANX.read(document))


@given(mutated([ANSWER]), mutated([{"merchant_id": MERCHANT}]))
def test_no_answer_makes_it_raise(answer: dict[str, Json], request: dict[str, Json]) -> None:
    """Nor a request."""
    see_through(THANX.operation.read(Call({"id": JOB}, request, answer)))
