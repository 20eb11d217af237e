"""Capillary: earned badges revoked.

Documented (docs.capillarytech.com, "Revoke issued badge"): `POST /api_gateway/v1/badges/customer/revokeEarn` revokes a
badge that a customer has earned, and answers

    {"data": {"badgeMetaId": "<id>", "customerId": 62090013, "earnedBadgeId": "<id>", "isActive": false},
     "errors": [], "warnings": []}

or, where the badge is not actively earned, with error 814 in `errors`. It gives no time.

No GET shows what became of such a call. "Get badges for customer" lists the earned badges that are active, and those
that have expired, but none that was revoked; and that a badge is in neither list does not say why.

No event is documented for it: of badges, `badgeEarned` alone is delivered. So a revocation is told in one of three
ways. The operator's own systems put the answer into the plain envelope (`badge.revoked`); or the call was passed on;
or an organization has an event of its own set up. What such an event is called is a convention of ours, `badge.revoked`
or `badgeRevoked`, and its data is taken to be the documented answer, or what is in it. Its envelope is one of the two
that Capillary documents for event notifications ("Event schema"):

    {"eventName": "…", "eventId": "…", "orgId": 50933, "refId": "…", "apiRequestId": "…", "createdAt": 1696315322593,
     "data": {…}, "loyaltyEventId": null}
    {"eventId": "…", "eventType": "<org>_<name>", "consumerGroupId": null, "actionType": "START", "timeStamp": …,
     "attributes": {"createdAt": …, "data": {…}, "eventName": "…", "refId": "…", "apiRequestId": "…", "orgId": …}}

A person is a customer, `customerId`: the number, but in a request also an email address, a mobile number, an external
id or a card number, as its header `X-CAP-CUSTOMER-IDENTIFIER` says, which is not kept. Documented for the events about
customers ("Event schema"), and so looked for in any: `mobile`, `email`, `card_number`, and `externalId`, which a store
has as well.

`eventId` is documented to be one event's, and the same whenever that is delivered again ("Consuming event
notifications"). Nothing is signed: the headers configured on the webhook come with every delivery.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Self

from receiver.documents import MAX_TYPE, Envelope, Members, PersonKind, WrongShape
from receiver.events import Breach, Effect, Event, Extent, Item, Kind, Past, Via, format_time
from receiver.providers import Call, Ignored, Notice, Operation, Provider, Reading, Signing, Unfit, read_plain_entry
from receiver.strictjson import Json, digest

_OURS = "badge.revoked"
_REVOCATIONS = frozenset({_OURS, "badgeRevoked"})

# The names in "Event schema" and in the examples of the webHooks API. What they tell of is kept nowhere here, be it
# issued or taken back, and most bring personal data along.
_IGNORED = frozenset(
    """
    badgeEarned
    customerAdded customerUpdated customerSubscription loyaltyCustomerMerge cardUpdated
    groupCreated groupUpdated groupMemberAdded groupMemberRemoved pointsContributionToGroup
    transactionAdded transactionUpdated transactionRejected rejectedTransactionRetrigger
    notInterestedBillAdded retroBillAdded requestUpdated requestWorkflowEvent
    pointsIssued pointsRedeemed pointsExpired pointsExpiryReminder pointsExpiryChange singlePointsExpiryUpdated
    issuedPointsReversed redeemedPointsReversed manualPointsAdjustment
    pointsTransferredInitiated pointsTransferredReceived
    promisedToCurrentPointsConversion promisedToCurrentAlternateCurrencyConversion
    tierUpgraded tierRenewed tierDowngraded tierDowngradeReminder
    partnerProgramLinked partnerProgramUpdated partnerProgramDelinked supplementaryMembershipExpiryReminder
    CouponIssue CouponRedeem
    rewardCreated rewardUpdated rewardIssued rewardExpiryReminder issueRewardFailure updateRewardTransaction
    promotionCreated promotionUpdated promotionIssued promotionEarned revokeIssuedPromotion revokeEarnedPromotion
    cartPromotionIssued cartPromotionEarned cartPromotionRedeemed cartPromotionRevoked
    targetCustomerEnrolment targetValueUpdated targetValueAchieved targetAchievedValueUpdated
    targetPeriodStarted targetPeriodCompleted unifiedTargetsAchieved unifiedTargetsUnAchieved
    streakCustomerEnrolment streakCustomerUnEnrolment streakStart streakEnd streakLevelAchieved streakLevelUnAchieved
    """.split()  # noqa: SIM905 (one name to a line would be as long as all the rest)
)

# Of the sending, not of the event: these may differ when the same event is delivered again.
_OF_THE_SENDING = frozenset({"timeStamp", "consumerGroupId", "actionType", "traceAttributes"})

_PERSONS = {
    "customerId": (
        PersonKind.CUSTOMER_ID,
        PersonKind.EMAIL,
        PersonKind.MOBILE,
        PersonKind.EXTERNAL_ID,
        PersonKind.CARD_NUMBER,
    ),
    "email": (PersonKind.EMAIL,),
    "mobile": (PersonKind.MOBILE,),
    "card_number": (PersonKind.CARD_NUMBER,),
    "attributes.externalId": (PersonKind.EXTERNAL_ID,),
    "customerIdentifiers.externalId": (PersonKind.EXTERNAL_ID,),
    "data.externalId": (PersonKind.EXTERNAL_ID,),
    "instore.externalId": (PersonKind.EXTERNAL_ID,),
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the documented answer says became of which badge."""

    effect: Effect
    earned_badge_id: str
    details: dict[str, Json]

    @classmethod
    def of(cls, answer: Members, request: Members | None) -> Self:
        """Read the answer, or the object that is its `data`. An answer with errors may lack that or members of it; the
        badge is then the one that was asked for.

        `customerId` is the answer's only: in a request it can be an email address or a mobile number.
        """
        whole = any(name in answer.document for name in ("data", "errors", "warnings"))
        failed = whole and answer.items("errors") != []
        if not whole:
            badge = answer
        elif failed:
            badge = answer.optional_inside("data") or Members({}, f"{answer.path}data.")
        else:
            badge = answer.inside("data")
        asked = None if request is None else request.optional_text("earnedBadgeId")
        told = badge.optional_text("earnedBadgeId") if failed else badge.text("earnedBadgeId")
        earned_badge_id = told or asked
        if earned_badge_id is None:
            raise WrongShape(f"{badge.path}earnedBadgeId is missing, and request.earnedBadgeId as well")
        if asked not in {None, earned_badge_id}:
            raise WrongShape(f"{badge.path}earnedBadgeId is not request.earnedBadgeId")
        ids = {
            "badgeMetaId": badge.optional_text("badgeMetaId"),
            "customerId": badge.optional_identifier("customerId"),
        }
        details: dict[str, Json] = {name: value for name, value in ids.items() if value is not None}
        if whole:
            details |= answer.kept(*(name for name in ("errors", "warnings") if answer.items(name)))
        refused = failed or badge.boolean("isActive")
        return cls(Effect.REFUSED if refused else Effect.REVOKED, earned_badge_id, details)

    def event(self, name: str, account: str | None, details: dict[str, Json]) -> Event:
        """The event of that name, with more details of how it was told."""
        return Event(
            kind=Kind.REVOCATION,
            type=name,
            item=Item("badge", self.earned_badge_id),
            effect=self.effect,
            extent=Extent.FULL if self.effect is Effect.REVOKED else Extent.UNKNOWN,
            account=account,
            operation=self.earned_badge_id,  # each earning has an id of its own, and is revoked once
            occurred_at=None,
            occurred_from=None,
            amount=None,
            quantity=None,
            reason=None,
            details=self.details | details,
        )

    @property
    def key(self) -> str:
        """What tells the answer from others. Effects hold no space, so no two badges share a key."""
        return f"declared {self.effect} {self.earned_badge_id}"


def _read(document: dict[str, Json]) -> Reading:
    members = Members(document)
    try:
        if members.has("eventName"):
            return _read_event(members.text("eventName", MAX_TYPE), None, members, members)
        if members.has("eventType"):
            org, name = _org_and_name(members.text("eventType"))
            attributes = members.inside("attributes")
            return _read_event(attributes.optional_text("eventName", MAX_TYPE) or name, org, members, attributes)
        if members.has("type"):
            return _read_declared(members)
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    return Unfit("wrong_shape", "eventName, eventType and type are missing: one of them names the event")


def _org_and_name(event_type: str) -> tuple[str | None, str]:
    """The two parts of `<org>_<name>`. Some are documented without the first; and an organization's id is a number."""
    org, _, name = event_type.partition("_")
    return org if name and org.isascii() and org.isdigit() else None, name or event_type


def _read_event(name: str, org: str | None, members: Members, content: Members) -> Reading:
    """Read an event notification: `content` holds `data` and what belongs to it, `org` is who it may be of besides."""
    if name in _IGNORED:
        return Ignored(name)
    if name not in _REVOCATIONS:
        return Unfit("unknown_type", f"the event is {name!a}, which is not documented")
    event_id = members.text("eventId")
    named = {members.optional_identifier("orgId"), content.optional_identifier("orgId"), org} - {None}
    if len(named) > 1:
        raise WrongShape("two organizations are named: orgId and eventType differ, or orgId stands there twice")
    account = next(iter(named), None)
    details: dict[str, Json] = {"eventId": event_id}
    details |= members.kept("timeStamp") | content.kept("createdAt", "apiRequestId")
    outcome = _Outcome.of(content.inside("data"), None)
    key, sent = f"event {event_id}", digest(members.document, drop=_OF_THE_SENDING)
    return Notice(outcome.event(name, account, details), key, sent, Via.WEBHOOK)


def _read_declared(members: Members) -> Reading:
    name = members.text("type", MAX_TYPE)
    if name != _OURS:
        return Unfit("unknown_type", f"type is {name!a}; in a plain envelope it is {_OURS!a}")
    envelope = Envelope.open(members.document)
    account = None if envelope.request is None else envelope.request.optional_identifier("orgId")
    details: dict[str, Json] = {}
    if envelope.declared_at is not None:
        details["declared_at"] = format_time(envelope.declared_at)
    outcome = _Outcome.of(envelope.data, envelope.request)
    return Notice(outcome.event(name, account, details), outcome.key, envelope.digest, Via.DECLARED)


def _item(_path: Mapping[str, str], request: dict[str, Json]) -> Item | None:
    try:
        earned_badge_id = Members(request).optional_text("earnedBadgeId")
    except WrongShape:
        return None
    return None if earned_badge_id is None else Item("badge", earned_badge_id)


def _read_answer(call: Call) -> Notice | Unfit:
    """A status of 200 says that there is an answer; whether the badge was revoked is in it."""
    try:
        outcome = _Outcome.of(Members(call.answer), Members(call.request, "request."))
    except WrongShape as error:
        return Unfit("wrong_shape", str(error))
    content = digest(call.answer)
    # A badge is revoked once, but may be refused for one reason and later for another: these are two refusals.
    key = f"{outcome.key} {content.hex()}" if outcome.effect is Effect.REFUSED else outcome.key
    return Notice(outcome.event(_OURS, None, {}), key, content, Via.RELAY)


# A revocation may be told by a webhook, declared and passed on: that is the same act, and breaks nothing. What cannot
# be is that two tellings differ in one of these. Two event ids are two revocations, but a revoked badge is not active,
# so a second one is refused (814). And an earned badge is one badge's, of one customer. The customer is not named in
# the sentence.
_SAME_IN_ALL = (
    ("eventId", "revoked_again", "badge revoked already, by another event: entry {} of the log"),
    ("badgeMetaId", "other_badge", "badgeMetaId is not that of the same earned badge in entry {} of the log"),
    ("customerId", "other_customer", "customerId is not that of the same earned badge in entry {} of the log"),
)


def _check(event: Event, _received_at: datetime, _replay_window: int, history: Sequence[Past]) -> tuple[Breach, ...]:
    # Why a call was refused can be that it named another badge or customer: a refusal is compared with nothing.
    if event.effect is not Effect.REVOKED:
        return ()
    breaches: list[Breach] = []
    for member, code, sentence in _SAME_IN_ALL:
        value = event.details.get(member)
        other = next(
            (past for past in history if past.effect is Effect.REVOKED and past.details.get(member, value) != value),
            None,
        )
        if value is not None and other is not None:
            breaches.append(Breach(code, sentence.format(other.log_index)))
    return tuple(breaches)


PROVIDER = Provider(
    name="capillary",
    title="Capillary",
    account_name="orgId",
    signing=Signing(
        "Capillary signs nothing: a header configured on the webhook comes with each delivery, as a static token "
        "(--scheme token --header NAME)"
    ),
    key_names_item=False,
    read=_read,
    check=_check,
    entry=partial(read_plain_entry, "capillary"),  # none of its log is documented
    operation=Operation(
        title="Revoke issued badge",
        method="POST",
        path="/api_gateway/v1/badges/customer/revokeEarn",
        successes=frozenset({200}),
        credentials=("authorization",),
        item=_item,
        read=_read_answer,
    ),
    persons=_PERSONS,
)
