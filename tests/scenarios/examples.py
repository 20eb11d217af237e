"""What the five providers document of their operations, to the letter, and the events that are to be made of it.

The documents themselves (and so the whole of Voucherify's webhook) are in a folder that is not part of this project.
Where it is there, a test holds the examples against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.service import ACCOUNT
from tests.vectors import VECTORS

DOCUMENTS = VECTORS.parent
POINTS_DATA = DOCUMENTS / "providers" / "voucherify-pending-points-canceled.data.json"
POINTS_REFERENCE = DOCUMENTS / "seeds" / "voucherify-cancel-pending-points.txt"


def needs(document: Path) -> pytest.MarkDecorator:
    """Skips a test where a provider's document is not on this machine."""
    return pytest.mark.skipif(not document.is_file(), reason=f"the provider's document is not here: {document}")


@dataclass(frozen=True, slots=True)
class Example:
    """A documented example, and what is to become of it."""

    name: str
    provider: str
    document: Path
    """Where it is documented."""
    text: str
    """As it is written there, placeholders included."""
    body: bytes
    """What is delivered: that, in its envelope, with its placeholders filled in."""
    event: Mapping[str, Any]
    """Members of the event as `/v1/events/{id}` gives them; not all, but all that tell it from others."""
    state: str
    """Of the item, once it is recorded."""
    altered: tuple[bytes, bytes]
    """What makes another content of it: the first replaced by the second."""
    before: bytes | None = None
    """What the provider delivers before it."""
    reversed_amount: str | None = None
    reversed_quantity: str | None = None

    @property
    def item(self) -> str:
        """`type/id`, as in the path of `/v1/items`."""
        return "{type}/{id}".format(**self.event["item"])

    @property
    def altered_body(self) -> bytes:
        """The same notice with other content."""
        old, new = self.altered
        assert old in self.body
        return self.body.replace(old, new)


# ---- Truthlocks ------------------------------------------------------------------------------------------------------

RECEIPT = "550e8400-e29b-41d4-a716-446655440009"

_RECEIPT_REVOKED = """{
  "event_type": "receipt.revoked",
  "receipt_id": "<uuid>",
  "receipt_type": "payment_receipt",
  "tenant_id": "<uuid>",
  "revoked_at": "<RFC3339>"
}"""

_TRUTHLOCKS = Example(
    name="a receipt revoked",
    provider="truthlocks",
    document=DOCUMENTS / "seeds" / "truthlocks-revoke-receipt.txt",
    text=_RECEIPT_REVOKED,
    body=_RECEIPT_REVOKED.replace("<uuid>", RECEIPT, 1)
    .replace("<uuid>", ACCOUNT)
    .replace("<RFC3339>", "2026-11-20T08:59:58Z")
    .encode(),
    event={
        "event": "receipt.revoked",
        "item": {"type": "receipt", "id": RECEIPT},
        "effect": "revoked",
        "extent": "full",
        "account": ACCOUNT,
        "operation": RECEIPT,
        "occurred_at": "2026-11-20T08:59:58.000000Z",
        "details": {"receipt_type": "payment_receipt"},
        "via": "webhook",
        "breaches": [],
    },
    state="taken_back",
    altered=(b"payment_receipt", b"delivery_receipt"),
)


# ---- Thanx -----------------------------------------------------------------------------------------------------------

_JOB = """{
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
      "completed_at": "2025-06-15T10:30:15Z"
    }
  }"""

_THANX = Example(
    name="an issuance job revoking",
    provider="thanx",
    document=DOCUMENTS / "seeds" / "thanx-revoke-issuance-job.txt",
    text=_JOB,
    body=b'{"type": "issuance_job.revoking", "created_at": "2026-11-20T08:59:58Z", "data": %b,'
    b' "request": {"merchant_id": "k2lye10h32l5wzo"}}' % _JOB.encode(),
    event={
        "event": "issuance_job.revoking",
        "item": {"type": "issuance_job", "id": "job_xyz789"},
        "effect": "revoking",
        "extent": "full",
        "quantity": "1",
        "account": "k2lye10h32l5wzo",
        "operation": "job_xyz789 revoking",
        "occurred_at": None,
        "via": "declared",
        "breaches": [],
    },
    state="pending",
    altered=(b"camp_abc123", b"camp_abc124"),
)


# ---- Capillary -------------------------------------------------------------------------------------------------------

CUSTOMER, CUSTOMER_EMAIL = "62090013", "tom.sawyer@capillarytech.com"

_BADGE = """{
    "data": {
        "badgeMetaId": "653ddb33b3cda7078c7c68e9",
        "customerId": 62090013,
        "earnedBadgeId": "654cbea06bccde1274b6d3a2",
        "isActive": false
    },
    "errors": [],
    "warnings": []
}"""

_BADGE_REQUEST = """{
  "badgeMetaId": "653ddb33b3cda7078c7c68e9",
  "customerId": 62090013,
  "earnedBadgeId": "654cbea06bccde1274b6d3a2"
}"""

_BADGE_BY_EMAIL = """{
    "data": {
        "badgeMetaId": "653de84db3cda7078c7c68ed",
        "customerId": 62090013,
        "earnedBadgeId": "6659551c304b6e0b517b7bc7",
        "isActive": false
    },
    "errors": [],
    "warnings": []
}"""

_BADGE_BY_EMAIL_REQUEST = """{
  "badgeMetaId": "653de84db3cda7078c7c68ed",
  "customerId": "tom.sawyer@capillarytech.com",
  "earnedBadgeId": "6659551c304b6e0b517b7bc7"
}"""


def _badge_revoked(name: str, answer: str, request: str, badge: str, meta: str) -> Example:
    return Example(
        name=name,
        provider="capillary",
        document=DOCUMENTS / "seeds" / "capillary-revoke-issued-badge.txt",
        text=answer,
        body=b'{"type": "badge.revoked", "data": %b, "request": %b}' % (answer.encode(), request.encode()),
        event={
            "event": "badge.revoked",
            "item": {"type": "badge", "id": badge},
            "effect": "revoked",
            "extent": "full",
            "account": None,
            "operation": badge,
            "occurred_at": None,
            "details": {"badgeMetaId": meta, "customerId": CUSTOMER},
            "via": "declared",
            "breaches": [],
        },
        state="taken_back",
        altered=(meta.encode(), b"653ddb33b3cda7078c7c68e0"),
    )


# ---- Voucherify ------------------------------------------------------------------------------------------------------

POINTS_WEBHOOK = (
    b'{"id": "whs_0e16e42bc6e0c65b57", "project_id": "proj_5T4Rpl4T1nuM", "created_at": "2025-01-08T14:10:49.001Z",'
    b' "type": "voucher.loyalty_card.pending_points.canceled", "data": %b,'
    b' "source": {"id": "wh_j56Vfy47Vx9YOX7QYD1fzHnc", "object": "webhook", "target_url": "https://example.com/"},'
    b' "event": {"id": "evvou_0ff49105e1c8dd5c95", "type": "voucher.loyalty_card.pending_points.canceled",'
    b' "created_at": "2025-01-08T14:10:48.345Z", "entity_id": "v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v",'
    b' "group_id": "v-0ff4910580cfac5c81", "event_source": {"channel": "USER_PORTAL"}}}'
)
"""The documented envelope of the older programs' webhook, around what is documented of its `data`."""

POINTS_EVENT: Mapping[str, Any] = {
    "event": "voucher.loyalty_card.pending_points.canceled",
    "item": {"type": "pending_points", "id": "lopp_0ff49105b988dd5c8f"},
    "effect": "canceled",
    "extent": "full",
    "quantity": "23",
    "operation": "lopp_0ff49105b988dd5c8f",
    "via": "webhook",
    "breaches": [],
}
"""What the `data` alone says; the envelope adds to it."""

_TRANSACTION = """{
         "transaction": {
          "id": "lctx_12d7941860abf9e87f",
          "card_id": "lcrd_128f962dbd8c4ba5df",
          "program_id": "lprg_128f58429f4c4bf7b2",
          "member_id": "lmbr_128f962dbc8c4ba5dc",
          "card_definition_id": "lcdef_128f495f720c4bec8c",
          "card_type": "INDIVIDUAL",
          "type": "PENDING_POINTS_CANCELED",
          "details": {
           "reason": "Manual points cancellation",
           "rejection": null,
           "metadata": {},
           "points": {
            "total": 60,
            "date": "2026-08-16",
            "type": "PERIOD_BASED"
           }
          },
          "status": "PENDING",
          "created_at": "2026-08-06T14:01:13.346Z",
          "updated_at": null,
          "object": "card_transaction"
         },
         "status": "TRANSACTION_CREATED",
         "message": "Points cancellation transaction created"
        }"""

_VOUCHERIFY = Example(
    name="pending points canceling",
    provider="voucherify",
    document=DOCUMENTS / "providers" / "voucherify-v2-cancel.openapi.json",
    text=_TRANSACTION,
    body=b'{"type": "pending_points.canceled", "data": %b, "request": {"program_id": "lprg_128f58429f4c4bf7b2",'
    b' "member_id": "lmbr_128f962dbc8c4ba5dc", "card_id": "lcrd_128f962dbd8c4ba5df",'
    b' "bucket_id": "lcppb_12db4ebb0483a1409"}}' % _TRANSACTION.encode(),
    event={
        "event": "pending_points.canceled",
        "item": {"type": "pending_points", "id": "lcppb_12db4ebb0483a1409"},
        "effect": "canceling",
        "extent": "full",
        "quantity": "60",
        "reason": "Manual points cancellation",
        "operation": "lctx_12d7941860abf9e87f",
        "occurred_at": "2026-08-06T14:01:13.346000Z",
        "via": "declared",
        "breaches": [],
    },
    state="pending",
    altered=(b"Manual points cancellation", b"Another reason"),
)


# ---- Scrip -----------------------------------------------------------------------------------------------------------

_REVERSAL = """{
  "amount": "500.00",
  "created_at": "2024-01-15T10:30:00Z",
  "id": "550e8400-e29b-41d4-a716-446655440000",
  "journal_entry_id": "550e8400-e29b-41d4-a716-446655440002",
  "quantity": 1,
  "reason": "Customer refund request",
  "redemption_id": "550e8400-e29b-41d4-a716-446655440001"
}"""

REDEMPTION_WEBHOOK = (
    b'{"id": "f47ac10b-58cc-4372-a567-0e02b2c3d479", "type": "redemption.%b", "api_version": "2026-03-01",'
    b' "created_at": "2024-01-15T10:30:01Z", "organization_id": "3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55", "data": %b}'
)
"""The documented envelope, for the second part of its type's name and its `data`."""

_SCRIP = Example(
    name="a redemption reversed",
    provider="scrip",
    document=DOCUMENTS / "seeds" / "scrip-reverse-redemption.txt",
    text=_REVERSAL,
    before=REDEMPTION_WEBHOOK
    % (b"completed", b'{"id": "550e8400-e29b-41d4-a716-446655440001", "amount": "500.00", "quantity": 1}'),
    body=REDEMPTION_WEBHOOK % (b"reversed", _REVERSAL.encode()),
    event={
        "event": "redemption.reversed",
        "item": {"type": "redemption", "id": "550e8400-e29b-41d4-a716-446655440001"},
        "effect": "reversed",
        "extent": "full",
        "amount": "500.00",
        "quantity": "1",
        "reason": "Customer refund request",
        "account": "3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55",
        "operation": "550e8400-e29b-41d4-a716-446655440000",
        "occurred_at": "2024-01-15T10:30:00.000000Z",
        "via": "webhook",
        "breaches": [],
    },
    state="taken_back",
    reversed_amount="500.00",
    reversed_quantity="1",
    altered=(b"500.00", b"400.00"),
)

EXAMPLES = (
    _TRUTHLOCKS,
    _THANX,
    _badge_revoked("a badge revoked", _BADGE, _BADGE_REQUEST, "654cbea06bccde1274b6d3a2", "653ddb33b3cda7078c7c68e9"),
    _badge_revoked(
        "a badge revoked by email",
        _BADGE_BY_EMAIL,
        _BADGE_BY_EMAIL_REQUEST,
        "6659551c304b6e0b517b7bc7",
        "653de84db3cda7078c7c68ed",
    ),
    _VOUCHERIFY,
    _SCRIP,
)
