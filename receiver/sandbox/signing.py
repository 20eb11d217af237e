"""Signatures of deliveries, for issuers that document none of their own: Standard Webhooks, from the sender's side.

    headers = standard_webhooks(body, "whsec_MfKQ9r8G…", "msg_01", int(time.time()))

The specification lays down three headers: `webhook-id` names the message, and is the same whenever it is sent again;
`webhook-timestamp` says when this attempt was made; `webhook-signature` is a list of signatures over both and the body,
so that a delivery that was overheard can neither be changed nor be kept and sent later. Of its two kinds of signature
this is `v1`, HMAC-SHA256 under a secret that both sides share.

Source: the Standard Webhooks specification, "Webhook Headers" and "Signature scheme".
"""

import hmac

from translog.canonical import from_base64, to_base64

PREFIX = "whsec_"
"""How a shared secret begins, as it is handed out."""


def standard_webhooks(body: bytes, secret: str, message_id: str, at: int) -> dict[str, str]:
    """The headers of one attempt to deliver `body`, `content-type` included.

    `secret` is `whsec_` and standard base64 of the key, the prefix of which may be missing; `message_id` is printable
    ASCII and stays the same from one attempt to the next; `at` is the time of this one, in Unix seconds. Raises
    ValueError, without showing the secret, if that is not base64 of at least a byte.
    """
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + to_base64(_mac(secret_key(secret), body, message_id, at)),
    }


def secret_key(secret: str) -> bytes:
    """The bytes of the key that a secret is the spelling of. Raises ValueError, without showing it, if it is none."""
    try:
        key = from_base64(secret.removeprefix(PREFIX))
    except ValueError:  # its message shows the value
        raise ValueError(f"a secret of Standard Webhooks is {PREFIX} and standard, padded base64") from None
    if not key:
        raise ValueError(f"the secret is empty: {PREFIX} is to be followed by base64 of 24 to 64 random bytes")
    return key


def _mac(key: bytes, body: bytes, message_id: str, at: int) -> bytes:
    """HMAC-SHA256 (32 bytes) over id, time and body, joined by full stops."""
    return hmac.digest(key, f"{message_id}.{at}.".encode() + body, "sha256")
