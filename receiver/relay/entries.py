"""What a call that was passed on becomes in the log: the submissions of its intent, of its answer, and of later looks.

    intent     before the provider is called: who calls which operation, about what; the request as it goes out
    answer     an event, if it is one; else what it says: refused, not sent
    record     what the provider's own record says of it later: an event, or that it had no effect

The caller's credentials are in none of them: of the request's headers only those are kept that the call itself is made
of, and of an answer's none but its status.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiver.events import Effect, Via
from receiver.intake.submission import Submission
from receiver.providers import Notice, Provider
from receiver.records.attempts import PATH, STATUS, Attempt, Ended
from receiver.records.opening import Tenant
from receiver.records.sources import Source

SCHEME = "upstream"
"""Where others have the scheme of a signature: it was said by the source's upstream, to our own question."""

LATE = timedelta(seconds=5)
"""A call whose intent took longer to be recorded is not made: others may have given it up by then."""

SETTLE_MARGIN = LATE + timedelta(seconds=30)
"""How long, beyond the time that its answer has, a call may still be under way: until it is made, and after it was
given up, for the provider may still be at work on it.
"""


@dataclass(frozen=True, slots=True)
class Party:
    """Whose call it is: the source, and what belongs to it."""

    source: Source
    tenant: Tenant
    provider: Provider


def intent(
    party: Party, attempt: Attempt, headers: Sequence[tuple[str, str]], body: bytes, received_at: datetime
) -> Submission:
    """The request as it goes out: the headers of it that are kept, and its body."""
    return _submission(party, attempt, Via.RELAY, tuple(headers), body, received_at).intended()


def answer(party: Party, attempt: Attempt, body: bytes, received_at: datetime) -> Submission:
    """An answer that says that it was done, or begun: its status, `attempt.status`, is a 2xx."""
    headers = ((STATUS, str(attempt.status)),)
    submission = _submission(party, attempt, Via.RELAY, headers, body, received_at).read(party.source.account)
    if submission is None:
        raise AssertionError("an operation's answer bears on something we keep, or is for quarantine")
    return submission


def refusal(party: Party, attempt: Attempt, body: bytes, received_at: datetime) -> Submission:
    """An answer by which the provider refused, with its status."""
    headers = ((STATUS, str(attempt.status)),)
    submission = _submission(party, attempt, Via.RELAY, headers, body, received_at)
    return submission.answered(Ended.REFUSED, effect=Effect.REFUSED)


def not_sent(party: Party, attempt: Attempt, received_at: datetime) -> Submission:
    """That nothing of the call has reached the provider."""
    return _submission(party, attempt, Via.RELAY, (), b"", received_at).answered(Ended.NOT_SENT)


def recorded_there(
    party: Party, attempt: Attempt, notice: Notice, target: str, body: bytes, received_at: datetime
) -> Submission:
    """What the provider's record, got from the path `target`, says was done."""
    return _of_record(party, attempt, target, body, received_at).noticed(notice, party.source.account)


def not_done(party: Party, attempt: Attempt, target: str, body: bytes, received_at: datetime) -> Submission:
    """That the call had no effect, by the provider's record, got from the path `target`."""
    return _of_record(party, attempt, target, body, received_at).answered(Ended.NOT_DONE)


def repeated(party: Party, attempt: Attempt, first_id: str, received_at: datetime) -> Submission:
    """That the call was made again, and that the delivery of that id tells what became of both."""
    submission = _submission(party, attempt, Via.RELAY, (), b"", received_at)
    return submission.answered(Ended.REPEATED, first_id=first_id)


def _of_record(party: Party, attempt: Attempt, target: str, body: bytes, received_at: datetime) -> Submission:
    headers = ((PATH, target), (STATUS, "200"))
    return _submission(party, attempt, Via.POLL, headers, body, received_at)


def _submission(
    party: Party,
    attempt: Attempt,
    via: Via,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    received_at: datetime,
) -> Submission:
    source = party.source
    return Submission(
        tenant=party.tenant,
        source_id=source.id,
        provider=party.provider,
        test=source.test,
        replay_window=source.replay_window,
        scheme=SCHEME,
        secret_id=None,
        received_at=received_at,
        headers=headers,
        body=body,
        attempt=attempt,
        via=via,
    )
