"""Thanx: issuance jobs revoked, and with each all the rewards that it issued.

Documented (docs.thanx.com, "Revoke Issuance Job"): `POST /partner/issuance_jobs/{id}/revoke` begins to revoke a job
that is `completed` or `failed`. The answer, 202, is the job, which is `revoking` from then on and `revoked` in the end:

    {"issuance_job": {"id": "job_xyz789", "campaign_id": "camp_abc123", "variant_id": "var_treat1", "state": "revoking",
     "total_count": 2, "processed_count": 2, "success_count": 1, "failure_count": 1, "progress_percent": 100, …}}

Documented ("Get Issuance Job"): `GET /partner/issuance_jobs/{id}?merchant_id=…` answers with the job as it is. It needs
the same scope as the revocation, `rewards.issue`, and the header `Accept-Version`. Its page lists the states of an
issuance only; the page of the revocation names `revoking` and `revoked` as well.

No webhook is documented for a revocation, so the operator's own systems declare the job as they got it (the plain
envelope of `receiver.documents`, of type `issuance_job.revoking` or `issuance_job.revoked`). A job tells when its
rewards were issued, and never when they were revoked; so no such event has a time.

Documented ("Webhooks"): the signature, in full; and, once a job is done, a `reward_batch.completed`:

    {"event": "reward_batch.completed", "timestamp": "<ISO 8601>",
     "data": {"issuance_job_id": "job_xyz789", "merchant_id": "mer_abc123", "state": "completed",
              "total_count": 2, "issued_count": 1, "failed_count": 1, "failures": [{"user_identifier", "reason"}]}}

It takes nothing back, but says how many rewards there are to take back. Its `failures` name people: they stay in the
body. The other documented webhooks are about people altogether, so nothing is kept of them: `reward.issued`, in the
same envelope, and three that name no event and are told by a member. Of these a purchase is ignored in whatever shape
it comes, for quarantine keeps bodies whole. There is no id of an event or a delivery.

A person is a user. A failure's `user_identifier` is documented as an email address or a phone number. The webhooks of
which nothing is kept have `user_id`, or a `user` with its `id`, and `email` and `phone`: should any of them come in
another shape than the documented one, and so be quarantined, these are found all the same.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from urllib.parse import quote

from msgspec.structs import replace

from receiver.documents import MAX_TYPE, Envelope, Members, PersonKind, WrongShape
from receiver.events import Breach, Claim, Effect, Event, Extent, Item, Kind, Past, Via, format_time
from receiver.providers import (
    Call,
    Denied,
    Ignored,
    Inquiry,
    Lookup,
    NotDone,
    Notice,
    Operation,
    Provider,
    Reading,
    Record,
    Signing,
    Unfit,
    occurred_in_future,
    read_plain_entry,
)
from receiver.strictjson import Json, digest

_DECLARED = ("issuance_job.revoking", "issuance_job.revoked")
_TOLD_BY_MEMBER = ("communication_setting", "sms_subscription")

_PERSONS = {
    "email": (PersonKind.EMAIL,),
    "phone": (PersonKind.MOBILE,),
    "user.id": (PersonKind.CUSTOMER_ID,),
    "user_id": (PersonKind.CUSTOMER_ID,),
    "user_identifier": (PersonKind.EMAIL, PersonKind.MOBILE),
}

_VERSION = "v4.0"

_EFFECTS = {"revoking": Effect.REVOKING, "revoked": Effect.REVOKED}

_NOT_REVOKED = ("pending", "processing", "completed", "failed")

# Only a job that is done can be revoked, and one that is being revoked stays so until it is.
_RANKS = {"completed": 0, "failed": 0, "revoking": 1, "revoked": 2}

_JOB_COUNTS = ("total_count", "processed_count", "success_count", "failure_count")
_BATCH_COUNTS = (*_JOB_COUNTS, "issued_count", "failed_count")
_SUMS = (("success_count", "failure_count"), ("issued_count", "failed_count"))


def _read(document: dict[str, Json]) -> Reading:
    try:
        members = Members(document)
        if document.get("type") in _DECLARED:
            return _declared(Envelope.open(document))
        if _is_purchase(document):
            return Ignored("purchase")
        if members.has("event"):
            name = members.text("event", MAX_TYPE)
            if name == "reward_batch.completed":
                return _batch(members, name)
            return Ignored(name) if name == "reward.issued" else _unknown("event", name)
        for name in _TOLD_BY_MEMBER:
            if members.optional_inside(name) is not None:
                return Ignored(name)
        if members.has("type"):
            return _unknown("type", members.text("type", MAX_TYPE))
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return Unfit("unknown_type", "neither event nor type is there, nor a member that a documented webhook is told by")


def _is_purchase(document: dict[str, Json]) -> bool:
    """By the documented member, whatever is in it, or by an event of that name or under it."""
    event = document.get("event")
    named = isinstance(event, str) and (event == "purchase" or event.startswith(("purchase.", "purchase_")))
    return named or "purchase" in document


def _unknown(member: str, name: str) -> Unfit:
    return Unfit("unknown_type", f"{member} is {name!a}, which is not documented")


def _batch(members: Members, name: str) -> Notice:
    occurred_at = members.moment("timestamp")
    data = members.inside("data")
    job_id = data.text("issuance_job_id")
    state = data.text("state")
    if state not in ("completed", "failed"):
        raise WrongShape(f"{data.path}state is {state!a}; of a batch that is done it is 'completed' or 'failed'")
    counts = _integers(data, *_BATCH_COUNTS)
    event = Event(
        kind=Kind.CONTEXT,
        type=name,
        item=Item("issuance_job", job_id),
        effect=None,
        extent=Extent.UNKNOWN,
        account=data.optional_text("merchant_id"),
        operation=None,
        occurred_at=occurred_at,
        occurred_from="timestamp",
        amount=None,
        quantity=_quantity(counts, "issued_count"),
        reason=None,
        details={"state": state, **counts},
    )
    # A state holds no space. And should the batch be told again, at another time, it is the same notice.
    return Notice(event, f"batch {state} {job_id}", digest(members.document, drop=("timestamp",)), Via.WEBHOOK)


def _declared(envelope: Envelope) -> Notice:
    declared_at: dict[str, Json] = {}
    if envelope.declared_at is not None:
        declared_at["declared_at"] = format_time(envelope.declared_at)
    job = envelope.data.optional_inside("issuance_job") or envelope.data
    event = _revocation(job, envelope.type, envelope.request, declared_at)
    return Notice(event, _key(event), envelope.digest, Via.DECLARED)


def _read_answer(call: Call) -> Notice | Unfit:
    """The answer is the job, but without the merchant: that one is in the request."""
    try:
        job = Members(call.answer).inside("issuance_job")
        if job.text("id") != call.path.get("id"):
            raise WrongShape(f"{job.path}id is not the one in the path")
        event = _revocation(job, None, Members(call.request, "request."), {})
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return Notice(event, _key(event), digest(call.answer), Via.RELAY)


def _target(path: Mapping[str, str], request: dict[str, Json]) -> str:
    """The job, of the merchant that the call named; one that named none was refused, and this will be as well."""
    merchant = request.get("merchant_id")
    return _shown_at(path["id"], merchant if isinstance(merchant, str) else None)


def _shown_at(job_id: str, merchant: str | None) -> str:
    query = "" if merchant is None else f"?merchant_id={quote(merchant, safe='')}"
    return f"/partner/issuance_jobs/{quote(job_id, safe='')}{query}"


def _read_record(inquiry: Inquiry) -> Notice | NotDone | Unfit:
    """The job as it is. It does not say which call began to revoke it; but that is begun once."""
    try:
        job = Members(inquiry.record).inside("issuance_job")
        if job.text("id") != inquiry.path.get("id"):
            raise WrongShape(f"{job.path}id is not the one asked for")
        state = job.text("state")
        if state in _NOT_REVOKED:
            return NotDone(f"the job is {state}, neither revoking nor revoked")
        event = _revocation(job, None, Members(inquiry.request, "request."), {})
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    if not inquiry.known.isdisjoint(_operation(event.item.id, state) for state in _EFFECTS):
        return NotDone(f"the job is {state}, which was begun before it, or by another call")
    # A record is read again and again: what is kept of it is its content, for the rest may change in the same state.
    return Notice(event, _key(event), digest({"account": event.account, **event.details}), Via.POLL)


def _job(claim: Claim) -> str | None:
    """Where the job of a claim is shown: to whoever names its merchant."""
    if claim.item.type != "issuance_job" or claim.account is None:
        return None
    return _shown_at(claim.item.id, claim.account)


def _recorded(claim: Claim, document: dict[str, Json]) -> Claim | Denied | Unfit:
    """What the job says of its revocation, as it is: it has but one, which is under way or done."""
    try:
        job = Members(document).inside("issuance_job")
        if job.text("id") != claim.item.id:
            raise WrongShape(f"{job.path}id is not the one asked for")
        state = job.text("state")
        if state in _NOT_REVOKED:
            return Denied(f"the job is {state}, neither revoking nor revoked")
        shown = _revocation(job, None, None, {})
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    effect = shown.effect or claim.effect
    return replace(claim, account=shown.account, effect=effect, amount=None, quantity=shown.quantity, at=None)


def _revocation(job: Members, name: str | None, request: Members | None, more: dict[str, Json]) -> Event:
    """The event that a job says is under way or done; `name` is its type, None to go by the state, `more` is details.

    Raises WrongShape.
    """
    job_id = job.text("id")
    state = job.text("state")
    effect = _EFFECTS.get(state)
    if effect is None:
        raise WrongShape(
            f"{job.path}state is {state!a}: only a job that is 'revoking' or 'revoked' says that it is taken back"
        )
    counts = _integers(job, *_JOB_COUNTS, "progress_percent")
    return Event(
        kind=Kind.REVOCATION,
        type=name or f"issuance_job.{state}",
        item=Item("issuance_job", job_id),
        effect=effect,
        extent=Extent.FULL,
        account=_merchant(job, request),
        operation=_operation(job_id, state),
        occurred_at=None,
        occurred_from=None,
        amount=None,
        quantity=_quantity(counts, "success_count"),
        reason=None,
        details={
            "state": state,
            **counts,
            **job.kept("campaign_id", "variant_id", "created_at", "started_at", "completed_at"),
            **more,
        },
    )


def _operation(job_id: str, state: str) -> str:
    """What names the act that brought a job into that state."""
    return f"{job_id} {state}"


def _merchant(job: Members, request: Members | None) -> str | None:
    """The one that the request or the job names. Raises WrongShape where they name two."""
    told = job.optional_text("merchant_id")
    asked_for = None if request is None else request.optional_text("merchant_id")
    if request is not None and None not in (told, asked_for) and told != asked_for:
        raise WrongShape(
            f"{request.path}merchant_id is {asked_for!a}, {job.path}merchant_id is {told!a}: they name two merchants"
        )
    return asked_for or told


def _key(event: Event) -> str:
    """The same in whichever way the job came to us: its state, which holds no space, and its id."""
    return f"job {event.effect} {event.item.id}"


def _integers(members: Members, *names: str) -> dict[str, Json]:
    """Those of the members that are there. Raises WrongShape for one that is no integer."""
    return {name: members.integer(name) for name in names if members.has(name)}


def _quantity(counts: dict[str, Json], name: str) -> str | None:
    return str(counts[name]) if name in counts else None


def _check(event: Event, received_at: datetime, replay_window: int, history: Sequence[Past]) -> tuple[Breach, ...]:
    breaches = occurred_in_future(event, received_at, replay_window)
    state = event.details.get("state")
    if event.kind is Kind.REVOCATION and event.type != f"issuance_job.{state}":
        breaches.append(Breach("type_contradicts_state", f"the type is {event.type}, but the job is {state}"))
    transitions = (_illegal_transition(state, received_at, past) for past in history)
    if (transition := next(filter(None, transitions), None)) is not None:
        breaches.append(Breach("illegal_transition", transition))
    if differences := _differences(event):
        breaches.append(Breach("counts_differ", "; ".join(differences)))
    if (progress := _progress_difference(event)) is not None:
        breaches.append(Breach("progress_differs", progress))
    return tuple(breaches)


def _illegal_transition(state: object, received_at: datetime, past: Past) -> str | None:
    """Why a job in that state contradicts an event logged earlier, which may have been received later, if it does."""
    told, entry = past.details.get("state"), f"entry {past.log_index} of the log"
    if past.received_at > received_at:
        if _cannot_follow(state, told):
            return f"a job cannot be {told}, as {entry} says it was later, after it was {state}"
    elif _cannot_follow(told, state):
        return f"a job cannot be {state} after it was {told}, as {entry} says it was"
    return None


def _cannot_follow(before: object, state: object) -> bool:
    """Whether a job that was in the one state cannot be in the other later; the same state may be told again."""
    return before != state and _RANKS.get(str(before), -1) >= _RANKS.get(str(state), -1)


def _differences(event: Event) -> list[str]:
    """What does not add up among those of the counts that are given: a clause each."""
    counts = {name: count for name in _BATCH_COUNTS if (count := _integer(event, name)) is not None}
    clauses = [f"{name} is {count}, below 0" for name, count in counts.items() if count < 0]
    total = counts.pop("total_count", None)
    parts = dict(counts)
    for one, other in _SUMS:
        if one in counts and other in counts:
            parts[f"{one} + {other}"] = counts[one] + counts[other]
    for name, part in parts.items():
        if total is not None and part > total:
            clauses.append(f"{name} is {part}, above the total_count of {total}")
    processed, both = parts.get("processed_count"), parts.get("success_count + failure_count")
    if processed is not None and both is not None and processed != both:
        clauses.append(f"processed_count is {processed}, but success_count + failure_count is {both}")
    return clauses


def _progress_difference(event: Event) -> str | None:
    """What is wrong with the progress, if it is given: that is a whole number, and may have been rounded either way."""
    progress, processed, total = (
        _integer(event, name) for name in ("progress_percent", "processed_count", "total_count")
    )
    if progress is None:
        return None
    if not 0 <= progress <= 100:
        return f"progress_percent is {progress}, outside of 0 to 100"
    if processed is None or not total:  # of no rewards at all, any share is processed
        return None
    rounded_down, rounded_up = 100 * processed // total, -(-100 * processed // total)
    if rounded_down <= progress <= rounded_up:
        return None
    return f"progress_percent is {progress}, but {processed} of {total} are processed"


def _integer(event: Event, name: str) -> int | None:
    value = event.details.get(name)
    return value if type(value) is int else None


PROVIDER = Provider(
    name="thanx",
    title="Thanx",
    account_name="merchant_id",
    signing=Signing(
        "Thanx documents the header X-Thanx-Signature: the HMAC-SHA256 of the body, in hex, without a timestamp",
        scheme="hmac",
        options={"header": "x-thanx-signature"},
    ),
    key_names_item=True,
    read=_read,
    check=_check,
    entry=partial(read_plain_entry, "thanx"),  # none of its log is documented
    record=Record(target=_job, read=_recorded, headers={"Accept-Version": _VERSION}),
    operation=Operation(
        title="Revoke issuance job",
        method="POST",
        path="/partner/issuance_jobs/{id}/revoke",
        successes=frozenset({202}),
        credentials=("authorization", "x-clientid"),
        item=lambda path, _request: Item("issuance_job", path["id"]) if "id" in path else None,
        read=_read_answer,
        lookup=Lookup(target=_target, read=_read_record, headers={"Accept-Version": _VERSION}),
    ),
    persons=_PERSONS,
)
