"""Truthlocks as the issuing side: the `receipt.revoked` that it delivers once a receipt has been revoked.

Documented are the body, here byte for byte of that shape, the header `X-Truthlocks-Signature` and HMAC-SHA256. Not
documented is over which bytes, and in which spelling, the HMAC is made. The deliveries made here are signed by the
scheme `timestamped-hmac`, so that what is forged and what is stale can both be shown; it says nothing of how
Truthlocks itself signs.
"""

import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

NAME = "truthlocks"
TITLE = "Truthlocks"
EVENT = "receipt.revoked"

ACCOUNT = "7b1c2f4e-0d3a-4a53-9a3b-0f0a3f6f1f10"
"""The `tenant_id` of every receipt made here."""

HEADER = "X-Truthlocks-Signature"

SOURCE_OPTIONS = ("--provider", NAME, "--scheme", "timestamped-hmac", "--header", HEADER, "--account", ACCOUNT)
"""What `receiver source add` is to be told, so that it takes these deliveries."""

DEFAULT_TYPE = "payment_receipt"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that was issued; `id` is a UUID."""

    id: str
    type: str = DEFAULT_TYPE

    item_type = "receipt"


def issue() -> Receipt:
    """A new receipt."""
    return Receipt(str(uuid4()))


def revocation(receipt: Receipt, revoked_at: datetime) -> bytes:
    """The body that tells of a receipt's revocation; `revoked_at` is in UTC, and told to the second."""
    return json.dumps(
        {
            "event_type": EVENT,
            "receipt_id": receipt.id,
            "receipt_type": receipt.type,
            "tenant_id": ACCOUNT,
            "revoked_at": f"{revoked_at:%Y-%m-%dT%H:%M:%SZ}",
        }
    ).encode()


def signed(body: bytes, secret: str, sent_at: int) -> dict[str, str]:
    """The headers of a delivery of `body` under the secret that issuer and receiver share.

    `sent_at` is in Unix seconds; it is part of what is signed, so that a delivery cannot be kept and sent later.
    """
    mac = hmac.digest(secret.encode(), b"%d.%b" % (sent_at, body), "sha256")
    return {"content-type": "application/json", HEADER: f"t={sent_at},v1={mac.hex()}"}
