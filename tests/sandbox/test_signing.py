"""Standard Webhooks from the sender's side: a published vector, a reference library, and the receiver's verifier."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from receiver.intake.signatures import Authenticated, Refused, Secret, StandardWebhooks, verifier
from receiver.sandbox.signing import secret_key, standard_webhooks

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "standard-webhooks" / "fixed_vectors.json"

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""The vector of the reference libraries."""


def verdict(headers: dict[str, str], body: bytes = BODY, secret: str = SECRET) -> Authenticated | Refused:
    """What the receiver makes of a delivery."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return verifier(StandardWebhooks(), [Secret("s1", secret)], 300).verify(raw, body, AT)


def test_the_vector_of_the_reference_libraries() -> None:
    """All four headers of it, and no others."""
    assert {
        "content-type": "application/json",
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(AT),
        "webhook-signature": SIGNATURE,
    } == standard_webhooks(BODY, SECRET, MESSAGE_ID, AT)


@pytest.mark.skipif(not VECTORS.exists(), reason=f"the vectors are not on this machine (looked for {VECTORS})")
def test_the_vector_is_the_published_one() -> None:
    """As it stands in the folder of vectors."""
    assert {
        "secret": SECRET,
        "msg_id": MESSAGE_ID,
        "timestamp": AT,
        "payload": BODY.decode(),
        "signature": SIGNATURE,
    } == json.loads(VECTORS.read_text())["symmetric_v1"]


def test_the_receiver_takes_it() -> None:
    """And names the scheme that it was taken by."""
    taken = verdict(standard_webhooks(BODY, SECRET, MESSAGE_ID, AT))

    assert isinstance(taken, Authenticated)
    assert taken.scheme == "standard-webhooks"


def test_the_reference_library_signs_alike() -> None:
    """For a body that is not ASCII as well."""
    body = '{"subject": "Zoë"}'
    headers = standard_webhooks(body.encode(), SECRET, "msg_2", AT)

    assert Webhook(SECRET).sign("msg_2", datetime.fromtimestamp(AT, UTC), body) == headers["webhook-signature"]


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body", "secret"])
def test_everything_that_is_signed_matters(changed: str) -> None:
    """With another id, time, body or secret the signature does not fit."""
    headers = standard_webhooks(BODY, SECRET, MESSAGE_ID, AT)
    if changed in headers:
        headers[changed] = headers[changed][:-1] + "9"
    body = BODY + b" " if changed == "body" else BODY
    secret = "whsec_" + "A" * 32 if changed == "secret" else SECRET

    refused = verdict(headers, body, secret)

    assert isinstance(refused, Refused)
    assert refused.reason == "wrong_signature"


def test_the_prefix_is_no_part_of_the_key() -> None:
    """A secret without it is the same secret."""
    bare = SECRET.removeprefix("whsec_")

    assert secret_key(SECRET) == secret_key(bare)
    assert standard_webhooks(BODY, SECRET, MESSAGE_ID, AT) == standard_webhooks(BODY, bare, MESSAGE_ID, AT)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64", "whsec_QUJ", "whsec_QUI=\n"])
def test_what_is_no_secret_is_refused_unseen(secret: str) -> None:
    """With a sentence that does not show it."""
    with pytest.raises(ValueError, match="whsec_ ") as error:
        standard_webhooks(BODY, secret, MESSAGE_ID, AT)

    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in str(error.value)
