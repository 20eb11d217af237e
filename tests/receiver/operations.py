"""The documented call of each provider's operation, its answer, and what the provider's own record shows afterwards.

The examples are those of the documents, with the members that the others of them need, and with times that fit
`CALLED_AT`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from receiver.events import Item
from receiver.strictjson import Json, parse

CALLED_AT = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)

RECEIPT = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"
TENANT = "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10"
JOB = "job_xyz789"
MERCHANT = "k2lye10h32l5wzo"
BADGE = "654cbea06bccde1274b6d3a2"
BUCKET = "lcppb_12db4ebb0483a14091"
REDEMPTION = "550e8400-e29b-41d4-a716-446655440001"
OTHER = "550e8400-e29b-41d4-a716-44665544ffff"
REASON = "Customer refund request"


@dataclass(frozen=True, slots=True)
class Example:
    """A call of an operation as it is documented: its path's parameters, the JSON it sends, the answer, its item."""

    path: dict[str, str]
    request: dict[str, Json]
    answer: dict[str, Json]
    item: Item
    record: dict[str, Json] | None = None
    """What the lookup shows once it was done; None where there is no lookup."""


JOB_REVOKING = parse(b"""
{"issuance_job": {"id": "job_xyz789", "campaign_id": "camp_abc123", "variant_id": "var_treat1", "state": "revoking",
 "total_count": 2, "processed_count": 2, "success_count": 1, "failure_count": 1, "progress_percent": 100,
 "created_at": "2025-06-15T10:30:00Z", "started_at": "2025-06-15T10:30:05Z", "completed_at": "2025-06-15T10:30:15Z"}}
""")
RECEIPT_REVOKED = parse(b"""
{"receipt_id": "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01", "receipt_type": "payment_receipt", "status": "revoked",
 "revoked_at": "2026-11-20T09:00:01Z", "tenant_id": "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10", "subject": "a@example.com",
 "payload": {}, "signature": {}, "transparency_log": {"leaf_index": 7}, "issued_at": "2026-01-15T09:00:00Z"}
""")
REVERSAL = parse(b"""
{"amount": "500.00", "created_at": "2026-11-20T09:00:01Z", "id": "550e8400-e29b-41d4-a716-446655440000",
 "journal_entry_id": "550e8400-e29b-41d4-a716-446655440002", "quantity": null, "reason": "Customer refund request",
 "redemption_id": "550e8400-e29b-41d4-a716-446655440001"}
""")


def listed(*reversals: Json, more: bool = False) -> dict[str, Json]:
    """A page of reversals."""
    return {"data": list(reversals), "pagination": {"has_more": more, "next_cursor": "YWJjMTIz" if more else None}}


EXAMPLES: dict[str, Example] = {
    "truthlocks": Example(
        {"id": RECEIPT},
        {"reason": REASON},
        {"receipt_id": RECEIPT, "status": "revoked", "revoked_at": "2026-11-20T09:00:01Z"},
        Item("receipt", RECEIPT),
        RECEIPT_REVOKED,
    ),
    "thanx": Example({"id": JOB}, {"merchant_id": MERCHANT}, JOB_REVOKING, Item("issuance_job", JOB), JOB_REVOKING),
    "capillary": Example(
        {},
        {"badgeMetaId": "653ddb33b3cda7078c7c68e9", "customerId": 62090013, "earnedBadgeId": BADGE},
        parse(b"""
        {"data": {"badgeMetaId": "653ddb33b3cda7078c7c68e9", "customerId": 62090013, "isActive": false,
         "earnedBadgeId": "654cbea06bccde1274b6d3a2"}, "errors": [], "warnings": []}
        """),
        Item("badge", BADGE),
    ),
    "voucherify": Example(
        {"programId": "lprg_1", "memberId": "lmbr_1", "cardId": "lcrd_1", "bucketId": BUCKET},
        {},
        parse(b"""
        {"message": "Points cancellation transaction created", "status": "TRANSACTION_CREATED", "transaction":
         {"id": "lctx_1", "card_id": "lcrd_1", "program_id": "lprg_1", "member_id": "lmbr_1", "status": "PENDING",
          "type": "PENDING_POINTS_CANCELED", "created_at": "2026-11-20T09:00:01Z",
          "details": {"points": {"total": 60}}}}
        """),
        Item("pending_points", BUCKET),
    ),
    "scrip": Example(
        {"id": REDEMPTION},
        {"reason": REASON, "amount": "500.00", "idempotency_key": "reverse-12345", "quantity": 1},
        REVERSAL,
        Item("redemption", REDEMPTION),
        listed(REVERSAL),
    ),
}
"""By provider."""

WITH_LOOKUP = [name for name, example in EXAMPLES.items() if example.record is not None]
