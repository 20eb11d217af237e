"""The five providers as senders: of each, one delivery as it is documented, and what signs it.

    sender = FIVE["thanx"].add_to(service)
    answer = sender.post(sender.party.body())

The bodies are the documented examples, with an item of their own each time, so that no two are the same notice unless
they are meant to be. Where a provider documents no webhook for what it takes back, it is the documented answer in the
plain envelope. Where it documents no scheme, one is chosen here: so all four are in use. Signatures are made from what
the schemes are documented to be, and not with our verifier; `Party.sign` needs no running service.
"""

import hashlib
import hmac
import json
import secrets as randomness
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.receiver.service import Sender, Service, standard_headers

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Party:
    """A provider, as the other end of a source."""

    provider: str
    scheme: str
    options: Mapping[str, str | bool]
    account: str
    """Which its delivery names, as the event has it."""
    event: str
    """The type of its delivery."""
    item_type: str
    """Of the item in it."""
    new_item: Callable[[], str]
    """An id of such an item that no delivery had before."""
    new_secret: Callable[[], str]
    """A secret in the form that the provider gives it out."""
    document: Callable[[str], Document]
    """Its delivery about the item of that id: the same for the same id."""
    signed: Callable[[str, bytes, float], dict[str, str]]
    """The headers for a secret, a body and a time (Unix seconds)."""

    def body(self, item: str | None = None, **members: object) -> bytes:
        """The delivery as bytes, without whitespace; `members` are added at its top, or stand in for others there."""
        document = {**self.document(item or self.new_item()), **members}
        return json.dumps(document, separators=(",", ":")).encode()

    def sign(self, secret: str, body: bytes, at: float | None = None) -> dict[str, str]:
        """The headers that authenticate a body under that secret, sent at that time (Unix seconds) or now."""
        return self.signed(secret, body, time.time() if at is None else at)

    def add_to(self, service: Service, tenant: str = "default") -> "PartySender":
        """A source of it in a running service, under a new secret."""
        secret = self.new_secret()
        made = service.add_source(
            tenant, self.scheme, self.options, provider=self.provider, account=self.account, secret=secret
        )
        return PartySender(service, made.source_id, secret, self)


@dataclass(frozen=True, slots=True)
class PartySender(Sender):
    """A provider's end of a source: it signs by that source's scheme."""

    party: Party

    def headers(self, body: bytes, at: float | None = None) -> dict[str, str]:
        return self.party.sign(self.secret, body, at)


# ---- signatures -----------------------------------------------------------------------------------------------------


def hex_mac(secret: str, message: bytes) -> str:
    """HMAC-SHA256 in lower-case hex, the secret as text."""
    return hmac.digest(secret.encode(), message, hashlib.sha256).hex()


def without_whitespace(body: bytes) -> bytes:
    """The body without the whitespace outside of its strings, byte by byte."""
    kept = bytearray()
    inside = escaped = False
    for byte in body:
        if inside or byte not in b" \t\r\n":
            kept.append(byte)
        if escaped or not inside:
            escaped, inside = False, inside or byte == 0x22
        else:
            escaped, inside = byte == 0x5C, byte != 0x22
    return bytes(kept)


def _timestamped(secret: str, body: bytes, at: float) -> dict[str, str]:
    sent = str(int(at))
    return {"x-truthlocks-signature": f"t={sent},v1={hex_mac(secret, sent.encode() + b'.' + body)}"}


# ---- deliveries -----------------------------------------------------------------------------------------------------


def _derived(item: str) -> str:
    """A second id, of an act or an event, that goes with the item's."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, item))


def _receipt_revoked(item: str) -> Document:
    return {
        "event_type": "receipt.revoked",
        "receipt_id": item,
        "receipt_type": "payment_receipt",
        "tenant_id": "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10",
        "revoked_at": "2026-11-20T08:59:58Z",
    }


def _job_revoking(item: str) -> Document:
    job = {
        "id": item,
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
    return {
        "type": "issuance_job.revoking",
        "data": {"issuance_job": job},
        "request": {"merchant_id": "k2lye10h32l5wzo"},
    }


def _badge_revoked(item: str) -> Document:
    badge = {
        "badgeMetaId": "653ddb33b3cda7078c7c68e9",
        "customerId": 62090013,
        "earnedBadgeId": item,
        "isActive": False,
    }
    return {
        "type": "badge.revoked",
        "data": {"data": badge, "errors": [], "warnings": []},
        "request": {"orgId": 50933},
    }


def _points_canceled(item: str) -> Document:
    # Of the documented `data`, the members about the points; the others are the customer, the voucher and the order.
    name = "voucher.loyalty_card.pending_points.canceled"
    points = {
        "id": item,
        "voucher_id": "v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v",
        "campaign_id": "camp_E14SFSXh2JueXgZ0wFarf3jU",
        "customer_id": "cust_KiZa6C6R30sgqqpU76o6B7u0",
        "order_id": "ord_0ff3476ebb49a3901d",
        "points": 23,
        "activates_at": "2025-01-09",
        "created_at": "2025-01-08T13:50:17.680Z",
    }
    balance = {
        "points": -23,
        "total": 23,
        "object": "balance",
        "related_object": {"type": "voucher", "id": "v_bITntTcyfRHPvrOMgwdQVSlShsWRZu4v"},
        "operation_type": "MANUAL",
    }
    return {
        "id": f"whs_{_derived(item)}",
        "project_id": "proj_5T4Rpl4T1nuM",
        "created_at": "2025-01-08T14:10:49.001Z",
        "type": name,
        "data": {"redemption": None, "voucher_pending_points_balance": balance, "pending_points": points},
        "source": {"id": "wh_j56Vfy47Vx9YOX7QYD1fzHnc", "object": "webhook", "target_url": "https://example.com/"},
        "event": {"id": f"evvou_{_derived(item)}", "type": name, "created_at": "2025-01-08T14:10:48.345Z"},
    }


def _redemption_reversed(item: str) -> Document:
    return {
        "id": _derived(f"envelope {item}"),
        "type": "redemption.reversed",
        "api_version": "2026-03-01",
        "created_at": "2024-01-15T10:30:01Z",
        "organization_id": "3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55",
        "data": {
            "amount": "500.00",
            "created_at": "2024-01-15T10:30:00Z",
            "id": _derived(item),
            "journal_entry_id": "550e8400-e29b-41d4-a716-446655440002",
            "quantity": 1,
            "reason": "Customer refund request",
            "redemption_id": item,
        },
    }


def _new_uuid() -> str:
    return str(uuid.uuid4())


PARTIES = (
    Party(
        provider="truthlocks",
        scheme="timestamped-hmac",  # chosen: only the header and HMAC-SHA256 are documented
        options={"header": "X-Truthlocks-Signature"},
        account="7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10",
        event="receipt.revoked",
        item_type="receipt",
        new_item=_new_uuid,
        new_secret=lambda: randomness.token_hex(32),
        document=_receipt_revoked,
        signed=_timestamped,
    ),
    Party(
        provider="thanx",
        scheme="hmac",
        options={"header": "X-Thanx-Signature"},
        account="k2lye10h32l5wzo",
        event="issuance_job.revoking",
        item_type="issuance_job",
        new_item=lambda: f"job_{randomness.token_hex(8)}",
        new_secret=_new_uuid,
        document=_job_revoking,
        signed=lambda secret, body, _: {"x-thanx-signature": hex_mac(secret, body)},
    ),
    Party(
        provider="capillary",
        scheme="token",
        options={"header": "X-Webhook-Token"},
        account="50933",
        event="badge.revoked",
        item_type="badge",
        new_item=lambda: randomness.token_hex(12),
        new_secret=lambda: randomness.token_urlsafe(32),
        document=_badge_revoked,
        signed=lambda secret, _body, _at: {"x-webhook-token": secret},
    ),
    Party(
        provider="voucherify",
        scheme="hmac",
        options={"header": "x-voucherify-signature", "strip_whitespace": True},
        account="proj_5T4Rpl4T1nuM",
        event="voucher.loyalty_card.pending_points.canceled",
        item_type="pending_points",
        new_item=lambda: f"lopp_{randomness.token_hex(9)}",
        new_secret=_new_uuid,
        document=_points_canceled,
        signed=lambda secret, body, _: {"x-voucherify-signature": hex_mac(secret, without_whitespace(body))},
    ),
    Party(
        provider="scrip",
        scheme="standard-webhooks",  # chosen: only the form of the secret is documented
        options={},
        account="3d6f0a4e-5b1c-4f6e-9a0d-2f7e8c9b1a55",
        event="redemption.reversed",
        item_type="redemption",
        new_item=_new_uuid,
        new_secret=lambda: f"whsec_{randomness.token_hex(32)}",
        document=_redemption_reversed,
        signed=standard_headers,
    ),
)

FIVE = {party.provider: party for party in PARTIES}
"""The same by name."""
