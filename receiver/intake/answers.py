"""The answers of section "Intake: what a delivery gets" as they go out: status, headers and body in one."""

import json

from receiver.answer import Answer
from receiver.intake.signatures import Refused
from receiver.intake.submission import Outcome, Status
from receiver.problems import CONTENT_TYPE, Code, Problem

RETRY_AFTER = 5  # seconds, when we cannot keep a delivery now

_JSON = ((b"content-type", b"application/json"),)


IGNORED = Answer(200, b'{"status":"ignored"}', _JSON)


def kept(outcome: Outcome) -> Answer:
    """200: the delivery is in the log, by this or by an earlier attempt."""
    where = f'"log_index":{outcome.log_index},"leaf_hash":"{outcome.leaf_hash.hex()}"'
    if outcome.status is Status.QUARANTINED:
        text = f'"quarantine_id":"{outcome.id}",{where},"reason":{json.dumps(outcome.reason)}'
    elif outcome.status is Status.MISMATCH:
        text = f'"event_id":"{outcome.id}",{where},"reason":{json.dumps(outcome.reason)}'
    else:
        text = f'"event_id":"{outcome.id}",{where}'
    return Answer(200, f'{{"status":"{outcome.status}",{text}}}'.encode(), _JSON)


def refused(refusal: Refused) -> Answer:
    """401: not authenticated; what was sent has been looked at no further."""
    missing = refusal.reason == "missing_signature"
    return problem(
        Problem(
            401,
            refusal.message,
            Code.AUTH_REQUIRED if missing else Code.AUTH_INVALID,
            {"reason": refusal.reason},
            challenge="Signature",
        )
    )


def unknown_source() -> Answer:
    """404: no such source, or a disabled one; which of them is nobody's business."""
    return problem(Problem(404, "There is no source with this id. Check the URL that the webhook is registered with"))


def too_large(limit: int) -> Answer:
    """413. The connection is closed, for the rest of the body is not read."""
    return problem(Problem(413, f"A delivery is at most {limit} bytes"), close=True)


def incomplete() -> Answer:
    """400, to nobody: the sender went away."""
    return problem(Problem(400, "The connection was closed before the body had arrived"), close=True)


def too_many(what: str, wait: int) -> Answer:
    """429, with how many seconds to wait."""
    return problem(Problem(429, f"Too many {what}; wait {wait} seconds", retry_after=wait))


def unavailable(why: str) -> Answer:
    """503: nothing was kept, so it must be sent again."""
    return problem(Problem(503, f"The delivery was not kept: {why}. Send it again", retry_after=RETRY_AFTER))


def problem(problem: Problem, *, close: bool = False) -> Answer:
    """Any error answer."""
    headers = [(b"content-type", CONTENT_TYPE.encode())]
    headers += [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    if close:
        headers.append((b"connection", b"close"))
    return Answer(problem.status, problem.body, tuple(headers))
