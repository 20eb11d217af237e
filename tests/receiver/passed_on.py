"""Calls that were passed on, as the relay records them, for tests of what is shown of them.

    calls = Calls(service, sender)
    attempt = calls.begin()                        its intent; what is asked is the documented example
    calls.answered(attempt, document)              the event that its answer is

Nothing is sent anywhere: what the provider would have said is given. All of it goes through the recorder of the running
service, as the relay's own submissions do.
"""

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import structs

from receiver import providers
from receiver.events import new_id
from receiver.intake.submission import Outcome, Submission
from receiver.providers import Inquiry, NotDone, Notice
from receiver.records.apikeys import Scope, create_key
from receiver.records.attempts import Attempt
from receiver.records.keyed import idempotency_key
from receiver.relay import entries
from receiver.relay.calls import Outgoing, prepare
from receiver.relay.entries import Party
from receiver.strictjson import plain
from tests.receiver.operations import CALLED_AT, EXAMPLES, Example
from tests.receiver.service import Sender, Service

_names = itertools.count(1)


class Calls:
    """Whoever makes the calls of a source."""

    def __init__(self, service: Service, sender: Sender) -> None:
        self.service = service
        source = sender.endpoint.source
        self.party = Party(source, sender.endpoint.tenant, providers.get(source.provider))
        self.example: Example = EXAMPLES[source.provider]
        name = f"caller-{next(_names)}"
        self.key_id, _ = create_key(service.records, self.party.tenant, name, frozenset({Scope.OPERATE}))

    def begin(
        self,
        path: Mapping[str, str] | None = None,
        request: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> Attempt:
        """Record the intent of a call made at that time, or now; where nothing is given, it is the example's."""
        outgoing = self.outgoing(path, request, headers)
        at = datetime.now(UTC) if at is None else at
        attempt = Attempt(
            id=new_id(),
            key_id=self.key_id,
            item=outgoing.item,
            path=outgoing.parameters,
            request=outgoing.request,
            called_at=at,
            idempotency=self.idempotency(outgoing),
            upstream=self.party.source.upstream or "",
            settle_at=datetime.now(UTC) + timedelta(days=1),  # later than any test, for nobody is there to be asked
        )
        self._record(entries.intent(self.party, attempt, outgoing.kept, outgoing.body, at))
        return attempt

    def outgoing(
        self,
        path: Mapping[str, str] | None = None,
        request: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Outgoing:
        """The call as it would go out."""
        given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        body = as_json(self.example.request if request is None else request)
        path = self.example.path if path is None else path
        outgoing = prepare(self.party.provider.operation, path, given, body)
        assert outgoing is not None
        return outgoing

    def idempotency(self, outgoing: Outgoing) -> bytes | None:
        """The keyed hash of its idempotency key."""
        if outgoing.idempotency_key is None:
            return None
        party, key = self.party, outgoing.idempotency_key
        return idempotency_key(party.tenant.hash_key, party.source.id, outgoing.item, key, outgoing.request)

    def answered(self, attempt: Attempt, document: Mapping[str, Any] | None = None) -> Outcome:
        """The provider's success; the example's unless it is given."""
        status = min(self.party.provider.operation.successes)
        answer = as_json(self.example.answer if document is None else document)
        return self._record(entries.answer(self.party, _told(attempt, status), answer, datetime.now(UTC)))

    def refused(self, attempt: Attempt, status: int = 422) -> Outcome:
        """The provider's no."""
        answer = as_json({"code": "NO"})
        return self._record(entries.refusal(self.party, _told(attempt, status), answer, datetime.now(UTC)))

    def not_sent(self, attempt: Attempt) -> Outcome:
        """There was no connection."""
        return self._record(entries.not_sent(self.party, _told(attempt), datetime.now(UTC)))

    def repeated(self, attempt: Attempt, first_id: str) -> Outcome:
        """Another call with its idempotency key was answered, as that delivery tells."""
        return self._record(entries.repeated(self.party, _told(attempt), first_id, datetime.now(UTC)))

    def looked_up(self, attempt: Attempt, record: Mapping[str, Any] | None = None) -> Outcome:
        """What the provider's record says later; the example's, of what was done, unless it is given."""
        lookup = self.party.provider.operation.lookup
        assert lookup is not None
        record = self.example.record if record is None else record
        assert record is not None
        called_at = min(attempt.called_at, CALLED_AT)  # what the examples show was done after that
        reading = lookup.read(Inquiry(attempt.path, attempt.request, called_at, dict(record), frozenset()))
        target, body, now = lookup.target(attempt.path, attempt.request), as_json(record), datetime.now(UTC)
        if isinstance(reading, NotDone):
            return self._record(entries.not_done(self.party, _told(attempt), target, body, now))
        assert isinstance(reading, Notice), reading
        return self._record(entries.recorded_there(self.party, _told(attempt), reading, target, body, now))

    def _record(self, submission: Submission) -> Outcome:
        return self.service.on_loop(self.service.intake.recorder.record(submission))


def as_json(document: Mapping[str, Any]) -> bytes:
    """A document as bytes."""
    return json.dumps({name: plain(value) for name, value in document.items()}).encode()


def _told(attempt: Attempt, status: int | None = None) -> Attempt:
    return structs.replace(attempt, status=status)
