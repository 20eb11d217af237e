"""The four signature schemes from end to end, and secrets that take one another's place without a delivery lost."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook

from receiver.events import format_time, new_id
from receiver.records.tables import secrets
from tests.receiver.service import Sender, Service, revoked, standard_headers

Sign: TypeAlias = Callable[[bytes], dict[str, str]]

TOKEN = "correct horse battery staple, as it is"


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, message, hashlib.sha256)


def standard(secret: str) -> Sign:
    """The three headers of Standard Webhooks."""
    return lambda body: standard_headers(secret, body)


def timestamped(secret: str, at: float | None = None) -> Sign:
    """`t=…,v1=…` over timestamp and body."""

    def sign(body: bytes) -> dict[str, str]:
        sent = str(int(time.time() if at is None else at))
        return {"x-signature": f"t={sent},v1={mac(secret.encode(), sent.encode() + b'.' + body).hex()}"}

    return sign


def in_header(header: str, key: bytes, spell: Callable[[bytes], str], *, stripped: bool = False) -> Sign:
    """A signature of the body alone in one header, spelled so."""
    return lambda body: {header: spell(mac(key, body.replace(b" ", b"") if stripped else body))}


def in_base64(signature: bytes) -> str:
    """`sha256=` and base64."""
    return "sha256=" + base64.b64encode(signature).decode()


def token(value: str) -> Sign:
    """The secret itself in one header."""
    return lambda _: {"x-token": value}


def post(sender: Sender, sign: Sign, body: bytes) -> str:
    """Deliver what was signed so; the answer's status, or its reason for a refusal."""
    answer = sender.service.client.post(sender.path, content=body, headers=sign(body)).json()
    return answer["details"]["reason"] if answer["status"] == 401 else answer["status"]


@pytest.mark.parametrize(
    ("scheme", "options", "secret", "sign", "kept"),
    [
        ("timestamped-hmac", {"header": "X-Signature"}, "7f" * 32, timestamped("7f" * 32), ["x-signature"]),
        (
            "hmac",
            {"header": "X-Sig"},
            "a secret as text",
            in_header("X-Sig", b"a secret as text", bytes.hex),
            ["x-sig"],
        ),
        (
            "hmac",
            {"header": "x-sig", "prefix": "sha256=", "encoding": "base64", "key_form": "hex"},
            "00ff" * 16,
            in_header("x-sig", b"\x00\xff" * 16, in_base64),
            ["x-sig"],
        ),
        (
            "hmac",
            {"header": "x-sig", "key_form": "text-without-whsec", "strip_whitespace": True},
            "whsec_a secret without its prefix",
            in_header("x-sig", b"a secret without its prefix", bytes.hex, stripped=True),
            ["x-sig"],
        ),
        ("token", {"header": "x-token"}, TOKEN, token(TOKEN), []),
    ],
    ids=["timestamped-hmac", "hmac", "hmac-base64", "hmac-stripped", "token"],
)
def test_a_source_of_each_scheme(
    service: Service, scheme: str, options: dict[str, str | bool], secret: str, sign: Sign, kept: list[str]
) -> None:
    """Recorded under the scheme's name with the signature's header, never with a static token; forged, refused."""
    sender = service.add_source(scheme=scheme, options=options, secret=secret)
    body = revoked()

    assert post(sender, sign, body) == "recorded"
    assert post(sender, sign, body) == "duplicate"
    assert post(sender, lambda _: {}, body) == "missing_signature"
    other = "recorded" if scheme == "token" else "wrong_signature"  # a token says nothing of the body
    assert post(sender, lambda _: sign(body), revoked()) == other
    row = sender.rows()[0]
    assert row.scheme == scheme
    assert [name for name, _ in json.loads(row.headers)] == kept
    assert service.leaf(row.log_index).facts["scheme"] == scheme
    everything = "".join(map(str, row)).encode() + service.entry(row.log_index)
    assert secret.encode() not in everything


def test_another_token_is_refused(service: Service) -> None:
    """It is the token whole and exact, or it is none."""
    secret = "open sesame, says the provider"
    sender = service.add_source(scheme="token", options={"header": "x-token"}, secret=secret)

    for other in (secret + "x", secret[:-1], secret.upper(), ""):
        assert post(sender, token(other), revoked()) == "wrong_signature"
    assert post(sender, token(secret), revoked()) == "recorded"


def test_a_timestamp_of_the_scheme_has_its_window(service: Service) -> None:
    """Stale and future, as with Standard Webhooks."""
    secret = "whsec_" + "f7" * 32
    sender = service.add_source(scheme="timestamped-hmac", options={"header": "x-signature"}, secret=secret)
    now = time.time()

    assert post(sender, timestamped(secret, now - 302), revoked()) == "stale"
    assert post(sender, timestamped(secret, now + 302), revoked()) == "future"
    assert post(sender, timestamped(secret, now - 290), revoked()) == "recorded"


def test_what_the_reference_library_signs(service: Service, sender: Sender) -> None:
    """A delivery of the Standard Webhooks library is recorded."""
    body = revoked().decode()
    now = datetime.now(UTC)
    signature = Webhook(sender.secret).sign("msg_1", now, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v1,AAAA v2,xyz {signature}",
    }

    assert post(sender, lambda _: headers, body.encode()) == "recorded"


def test_an_asymmetric_signature(service: Service) -> None:
    """Of version v1a: recorded under a name of its own, for it alone is the provider's."""
    private = Ed25519PrivateKey.generate()
    public = "whpk_" + base64.b64encode(private.public_key().public_bytes_raw()).decode()
    sender = service.add_source(secret=public)

    def sign(body: bytes) -> dict[str, str]:
        sent = str(int(time.time()))
        signature = private.sign(f"msg_1.{sent}.".encode() + body)
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": sent,
            "webhook-signature": "v1a," + base64.b64encode(signature).decode(),
        }

    assert post(sender, sign, revoked()) == "recorded"
    assert post(sender, lambda _: sign(b"{}"), revoked()) == "wrong_signature"
    (row,) = sender.rows()
    assert row.scheme == "standard-webhooks/v1a"
    assert service.leaf(row.log_index).facts["scheme"] == "standard-webhooks/v1a"


# ---- several secrets ----------------------------------------------------------------------------------------------


def add_secret(sender: Sender, start: timedelta | None = None, end: timedelta | None = None) -> tuple[str, str]:
    """A further secret of the source, active from and until so long from now; its id and itself."""
    secret_id, value = new_id(), "whsec_" + base64.b64encode(new_id().encode()[:32]).decode()
    now = datetime.now(UTC)
    records = sender.service.records
    with records.database.write() as tx:
        tx.execute(
            sa.insert(secrets).values(
                id=secret_id,
                source_id=sender.source_id,
                value=records.vault.seal(f"secret/{secret_id}", value.encode()),
                fingerprint=secret_id.encode(),
                not_before=None if start is None else format_time(now + start),
                not_after=None if end is None else format_time(now + end),
                created_at=format_time(now),
            )
        )
    sender.service.refresh()
    return secret_id, value


def test_several_secrets_are_active_at_once(either_sender: Sender) -> None:
    """A delivery under any of them is recorded, and its facts say under which."""
    first = either_sender.endpoint.source.secrets[0].id
    second, value = add_secret(either_sender)

    assert either_sender.post(revoked()).status_code == 200
    assert post(either_sender, standard(value), revoked()) == "recorded"
    told = [either_sender.service.leaf(row.log_index).facts["secret"] for row in either_sender.rows()]
    assert told == [first, second]


def test_a_notice_under_another_secret_is_the_same_notice(either_sender: Sender) -> None:
    """Resent after a rotation it is a duplicate."""
    _, value = add_secret(either_sender)
    body = revoked()
    assert either_sender.post(body).json()["status"] == "recorded"

    assert post(either_sender, standard(value), body) == "duplicate"


def test_a_secret_is_good_in_its_time_only(service: Service, sender: Sender) -> None:
    """Not before its start, and not from its end on; the source's other secrets stay good."""
    hour = timedelta(hours=1)
    _, early = add_secret(sender, start=hour)
    _, late = add_secret(sender, end=-hour)
    _, good = add_secret(sender, start=-hour, end=hour)

    statuses = [
        post(sender, lambda body, s=secret: standard_headers(s, body), revoked()) for secret in (early, late, good)
    ]

    assert statuses == ["wrong_signature", "wrong_signature", "recorded"]
    assert sender.post(revoked()).status_code == 200


def test_a_secret_ends_while_the_service_runs(service: Service, sender: Sender) -> None:
    """Without anybody telling it: the time is looked at with each delivery."""
    _, value = add_secret(sender, end=timedelta(seconds=0.8))
    assert post(sender, standard(value), revoked()) == "recorded"

    time.sleep(0.85)

    assert post(sender, standard(value), revoked()) == "wrong_signature"


def test_a_source_whose_secrets_are_all_over(service: Service, sender: Sender) -> None:
    """401 that says so, to whoever holds the secret and whoever does not."""
    with service.records.database.write() as tx:
        over = format_time(datetime.now(UTC) - timedelta(hours=1))
        tx.execute(sa.update(secrets).where(secrets.c.source_id == sender.source_id).values(not_after=over))
    service.refresh()

    answer = sender.post(revoked())

    assert (answer.status_code, answer.json()["details"]) == (401, {"reason": "no_active_secret"})
    assert sender.counts() == {"refused:no_active_secret": 1}


def test_a_new_source_is_known_without_a_restart(service: Service) -> None:
    """Also without a look of the test's own: an id that is not known is looked for at once."""
    time.sleep(0.15)  # an earlier look for another id may be a moment ago
    sender = service.add_source()

    assert sender.post(revoked()).status_code == 200


def test_a_source_that_cannot_be_used_leaves_the_others_in_peace(service: Service, sender: Sender) -> None:
    """Its scheme is not one this version knows, say: it is unknown, and the others go on."""
    broken = service.add_source()
    with service.records.database.write() as tx:
        tx.execute(sa.text("UPDATE sources SET scheme = 'quantum' WHERE id = :id"), {"id": broken.source_id})
    service.refresh()

    assert broken.post(revoked()).status_code == 404
    assert sender.post(revoked()).status_code == 200
