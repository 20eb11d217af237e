"""What the answer to a question about an event means. Pure: who asks, and when again, is `receiver.assurance.asking`.

    200, the same act            `confirmed`
    200, differing in a field    `contradicted`
    200, which denies it         open until the grace period is over, for a record may lag; then `contradicted`
    200, begun but not done      the same, of an event that says it is done
    404                          open until the grace period is over; then `absent`
    anything else                open

That the grace period is over is told by the time of asking: what a record did not hold then it may hold by the time of
its answer.
"""

from dataclasses import dataclass
from enum import StrEnum

from receiver.assurance.matching import Difference, differences
from receiver.events import Claim, CrossCheck
from receiver.providers import Denied, Record, Unfit
from receiver.strictjson import NotJson, parse

OK, NOT_FOUND = 200, 404
_REFUSALS = frozenset({401, 403, 429})


class Outcome(StrEnum):
    """What came of a look."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    ABSENT = "absent"
    NONE = "none"
    """No record is documented that could tell of it."""
    DENIED = "denied"
    """The record says otherwise, and there is time yet."""
    NOT_FOUND = "not_found"
    """There is no record, and there is time yet."""
    BUNDLE = "bundle"
    """It is confirmed, but for the proof bundle, which is asked for again."""
    UNREADABLE = "unreadable"
    """The record is not as it is documented, or does not tell."""
    REFUSED = "refused"
    """401, 403 or 429: the credential does not suffice, or too much is asked."""
    FAILED = "failed"
    """Another status."""
    UNREACHABLE = "unreachable"
    """No answer."""
    NOT_ASKED = "not_asked"
    """Something is missing to ask."""
    OVERTAKEN = "overtaken"
    """Another look was begun, or the source was changed."""

    @property
    def is_upstreams(self) -> bool:
        """Whether the upstream is likely to say the same of any other event."""
        return self in {Outcome.REFUSED, Outcome.FAILED, Outcome.UNREACHABLE}

    @property
    def failed(self) -> bool:
        """Whether somebody should look into it."""
        return self.is_upstreams or self in {Outcome.BUNDLE, Outcome.UNREADABLE, Outcome.NOT_ASKED}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of the event now."""

    state: CrossCheck
    said: str
    """In words; never a credential, nor a member that could name a person."""
    differences: tuple[Difference, ...] = ()
    gone: bool = False
    """It was found not to be there."""

    @property
    def outcome(self) -> Outcome:
        """The same, as what came of the look."""
        return Outcome(self.state.value)


@dataclass(frozen=True, slots=True)
class Open:
    """Nothing is known by this answer."""

    outcome: Outcome
    said: str


def judge(record: Record, event: Claim, asked: Claim, status: int, body: bytes, *, over: bool) -> Judged | Open:
    """What an answer means for an event. `asked` is the claim that was asked about; `over` whether the grace period is.

    The body is read without what it may repeat of the credential.
    """
    if status == NOT_FOUND:
        said = "the provider's record is not there: the answer is 404"
        return Judged(CrossCheck.ABSENT, said, gone=True) if over else Open(Outcome.NOT_FOUND, said)
    if status != OK:
        outcome = Outcome.REFUSED if status in _REFUSALS else Outcome.FAILED
        return Open(outcome, f"the provider's record cannot be read: the answer is {status}")
    try:
        said = record.read(asked, parse(body))
    except NotJson as error:
        return Open(Outcome.UNREADABLE, f"the provider's record cannot be read: {error}")
    if isinstance(said, Unfit):
        return Open(Outcome.UNREADABLE, f"the provider's record does not tell: {said.message}")
    if isinstance(said, Denied):
        return _denied(event, said.message, over=over)
    differing = differences(event, said)
    if not differing:
        return Judged(CrossCheck.CONFIRMED, "the provider's record says the same")
    names = ", ".join(one.field for one in differing)
    if names == "effect" and said.effect.under_way:
        return _denied(event, f"the act is only {said.effect}", over=over)
    return Judged(CrossCheck.CONTRADICTED, f"the provider's record says otherwise: {names}", differing)


def _denied(event: Claim, word: str, *, over: bool) -> Judged | Open:
    """By the record's word it was not done."""
    said = f"the provider's record denies it: {word}"
    if not over:
        return Open(Outcome.DENIED, said)
    return Judged(CrossCheck.CONTRADICTED, said, (Difference("effect", event.effect.value, word),), gone=True)
