"""The five documented operations as their pages have them: the request, typed in with curl, and the answer to it.

    answer = THANX.send(sandbox.url)
    answer = THANX.send(sandbox.url, ("job_xyz789", "job_pending1"))

Only the host is replaced, what the page leaves to the reader to fill in, and what a test says. Two of the pages have no
line for curl: theirs is put together here from the path, the headers and the bodies that they do have.

The pages are in a folder that is not part of this project. Where it is there, a test holds all of this against them.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tests.vectors import VECTORS

PAGES = VECTORS.parent / "seeds"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the requests are sent with curl")
needs_pages = pytest.mark.skipif(
    not PAGES.is_dir(), reason=f"the providers' pages are not on this machine (looked for the folder {PAGES})"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl got: the status, and the JSON."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A documented operation."""

    page: str
    """The name of the file that documents it."""
    request: str
    """The command."""
    answer: Mapping[str, Any]
    """The documented answer: as the page shows it, or with the members that it lists."""
    filled: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the page leaves to fill in, and what is filled in."""
    facts: tuple[str, ...] = ()
    """What the page has of request and answer, if it does not have them as they stand here."""

    def send(self, url: str, *changes: tuple[str, str]) -> Answer:
        """Type it in, to the sandbox at that URL, with the first text of each change replaced by the second."""
        command = self.request
        for old, new in (*self.filled.items(), *changes):
            assert command.count(old) == 1, f"{old!r} in {command}"
            command = command.replace(old, new)
        arguments = [re.sub("^https://[^/]+", url, word) for word in shlex.split(command.replace("\\\n", " "))]
        assert arguments.pop(0) == "curl"
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--max-time", "30", "--write-out", "\n%{http_code}", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), json.loads(body))

    def on_page(self) -> Iterator[str]:
        """Each text that is on the page, though perhaps in other lines."""
        yield from self.facts or (self.request, json.dumps(self.answer, indent=2))


def differences(documented: object, answered: object, nulls: frozenset[str] = frozenset(), path: str = "") -> list[str]:
    """What an answer lacks of the documented one: members, by their path, that are not there or of another type.

    Those of `nulls` are to be null.
    """
    if path in nulls:
        return [] if answered is None else [f"{path} is not null"]
    if type(documented) is not type(answered):
        return [f"{path} is a {type(answered).__name__}, and not a {type(documented).__name__}"]
    found: list[str] = []
    if isinstance(documented, dict) and isinstance(answered, dict):
        members = cast("dict[str, object]", answered)
        for name, value in cast("dict[str, object]", documented).items():
            inner = f"{path}.{name}".lstrip(".")
            found += differences(value, members[name], nulls, inner) if name in members else [f"{inner} is missing"]
    return found


def squeezed(text: str) -> str:
    """A text without its whitespace: pages break and indent their lines as they like."""
    return "".join(text.split())


ENVELOPE = {"code": "AUTH_REQUIRED", "message": "Authentication required", "http_status": 401}
"""The page's example of an ErrorEnvelope."""

NOTICE = {
    "event_type": "receipt.revoked",
    "receipt_id": "<uuid>",
    "receipt_type": "payment_receipt",
    "tenant_id": "<uuid>",
    "revoked_at": "<RFC3339>",
}
"""What the page has delivered."""

TRUTHLOCKS = Seed(
    page="truthlocks-revoke-receipt.txt",
    request="""\
curl -X POST https://api.truthlocks.com/v1/receipts/{id}/revoke \\
  -H 'X-API-Key: <key>' \\
  -H 'Idempotency-Key: <uuid>' \\
  -H 'Content-Type: application/json' \\
  -d '{"reason": "Paid back"}'
""",
    filled={
        "{id}": "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01",
        "<key>": "tl_test_sandbox",
        "<uuid>": "5b0e1f9c-0d3f-4d5c-8a55-0c7d1f2e3a4b",
    },
    answer={"receipt_id": "<uuid>", "status": "revoked", "revoked_at": "<RFC3339>"},
    facts=(
        "url: https://api.truthlocks.com",
        "POST /v1/receipts/{id}/revoke",
        'header="Idempotency-Key" type="string" required',
        "in: header name: X-API-Key",
        "application/json: schema: type: object required: - reason properties: reason: type: string",
        *(f'<ResponseField name="{name}" type="string">' for name in ("receipt_id", "status", "revoked_at")),
        "code: AUTH_REQUIRED message: Authentication required http_status: 401",
        json.dumps(NOTICE, indent=2),
    ),
)

THANX = Seed(
    page="thanx-revoke-issuance-job.txt",
    request="""\
curl https://api.thanxsandbox.com/partner/issuance_jobs/job_xyz789/revoke \\
  -X POST \\
  -H 'X-ClientId: {client_id}' \\
  -H 'Accept-Version: v4.0' \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {access_token}' \\
  -d '{
    "merchant_id": "k2lye10h32l5wzo"
  }'
""",
    filled={"{client_id}": "sandbox-client", "{access_token}": "sandbox-token"},
    answer={
        "issuance_job": {
            "id": "job_xyz789",
            "campaign_id": "camp_abc123",
            "variant_id": "var_treat1",
            "state": "revoking",
            "total_count": 2,
            "processed_count": 2,
            "success_count": 1,
            "failure_count": 1,
            "progress_percent": 100,
            "created_at": "2025-06-15T10:30:00Z",
            "started_at": "2025-06-15T10:30:05Z",
            "completed_at": "2025-06-15T10:30:15Z",
        }
    },
)


NOT_EARNED = (814, "Active earn instance is not present")
"""The page's one error."""


def _capillary(body: str, header: str, answer: Mapping[str, Any]) -> Seed:
    command = f"""\
curl -X POST https://eucrm.cc.capillarytech.com/api_gateway/v1/badges/customer/revokeEarn \\
  -u <user>:<password> \\
  -H 'Content-Type: application/json' \\
  -d '{body}'{header}
"""
    return Seed(
        page="capillary-revoke-issued-badge.txt",
        request=command,
        filled={"<user>:<password>": "sandbox:sandbox"},
        answer=answer,
        facts=(
            "<https://eucrm.cc.capillarytech.com/api_gateway/v1/badges/customer/revokeEarn>",
            "| HTTP method | POST |",
            "Authentication: Basic or OAuth",
            "X-CAP-CUSTOMER-IDENTIFIER: email",
            "1. email 2. mobile 3. externalId 4. cardNumber",
            f"| {NOT_EARNED[0]} | {NOT_EARNED[1]}. |",
            body,
            json.dumps(answer, indent=4),
        ),
    )


CAPILLARY = _capillary(
    """{
  "badgeMetaId": "653ddb33b3cda7078c7c68e9",
  "customerId": 62090013,
  "earnedBadgeId": "654cbea06bccde1274b6d3a2"
}""",
    "",
    {
        "data": {
            "badgeMetaId": "653ddb33b3cda7078c7c68e9",
            "customerId": 62090013,
            "earnedBadgeId": "654cbea06bccde1274b6d3a2",
            "isActive": False,
        },
        "errors": [],
        "warnings": [],
    },
)

CAPILLARY_BY_EMAIL = _capillary(
    """{
  "badgeMetaId": "653de84db3cda7078c7c68ed",
  "customerId": "tom.sawyer@capillarytech.com",
  "earnedBadgeId": "6659551c304b6e0b517b7bc7"
}""",
    " -H 'X-CAP-CUSTOMER-IDENTIFIER: email'",
    {
        "data": {
            "badgeMetaId": "653de84db3cda7078c7c68ed",
            "customerId": 62090013,
            "earnedBadgeId": "6659551c304b6e0b517b7bc7",
            "isActive": False,
        },
        "errors": [],
        "warnings": [],
    },
)

VOUCHERIFY = Seed(
    page="voucherify-cancel-pending-points.txt",
    request="""\
curl --request POST \\
--url https://api.voucherify.io/v2/loyalties/programs/{programId}/members/{memberId}/cards/{cardId}/pending-points/{bucketId}/cancel \\
--header 'Authorization: Bearer <token>' \\
--header 'X-App-Id: <api-key>' \\
--header 'X-App-Token: <api-key>'""",  # noqa: E501 (as the page has it)
    filled={
        "{programId}": "lprg_128f58429f4c4bf7b2",
        "{memberId}": "lmbr_128f962dbc8c4ba5dc",
        "{cardId}": "lcrd_128f962dbd8c4ba5df",
        "{bucketId}": "lcppb_12db4ebb0483a14091",
        "<token>": "sandbox-token",
        "Id: <api-key>": "Id: sandbox-app",
        "Token: <api-key>": "Token: sandbox-app-token",
    },
    answer={
        "message": "<string>",
        "transaction": {
            "id": "<string>",
            "card_id": "<string>",
            "program_id": "<string>",
            "member_id": "<string>",
            "card_definition_id": "<string>",
            "card_type": "<string>",
            "details": {
                "reason": "<string>",
                "metadata": {},
                "rejection": {"reason": "<string>", "details": "<string>"},
                "points": {
                    "total": 123,
                    "expiration_date": "2023-12-25",
                    "expiration_type": "<string>",
                    "date": "2023-12-25",
                    "type": "<string>",
                },
                "result": {},
                "reward_id": "<string>",
                "bucket": {},
            },
            "created_at": "2023-11-07T05:31:56Z",
            "updated_at": "2023-11-07T05:31:56Z",
        },
    },
)

NOT_YET = frozenset({"transaction.details.rejection", "transaction.details.reward_id", "transaction.updated_at"})
"""What there is nothing to say of in a cancellation that was just begun: no rejection, no reward, no change."""

SCRIP = Seed(
    page="scrip-reverse-redemption.txt",
    request="""\
curl --request POST \\
  --url https://api.scrip.dev/v1/redemptions/{id}/reverse \\
  --header 'Content-Type: application/json' \\
  --header 'X-API-Key: <api-key>' \\
  --data '
{
  "reason": "Customer refund request",
  "amount": "500.00",
  "idempotency_key": "reverse-12345",
  "quantity": 1
}
'
""",
    filled={"{id}": "550e8400-e29b-41d4-a716-446655440001", "<api-key>": "scrip_sandbox"},
    answer={
        "amount": "500.00",
        "created_at": "2024-01-15T10:30:00Z",
        "id": "550e8400-e29b-41d4-a716-446655440000",
        "journal_entry_id": "550e8400-e29b-41d4-a716-446655440002",
        "quantity": 1,
        "reason": "Customer refund request",
        "redemption_id": "550e8400-e29b-41d4-a716-446655440001",
    },
)

SEEDS = (TRUTHLOCKS, THANX, CAPILLARY, CAPILLARY_BY_EMAIL, VOUCHERIFY, SCRIP)
