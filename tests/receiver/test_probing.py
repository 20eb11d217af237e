"""`receiver.intake.probing`: from one delivery back to the scheme that signed it."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from receiver.intake.probing import MAX_HEADERS, Fit, fits, strongest
from receiver.intake.schemes import (
    Encoding,
    Hmac,
    KeyForm,
    Scheme,
    Secret,
    StandardWebhooks,
    TimestampedHmac,
    Token,
)
from receiver.intake.signatures import Authenticated, verifier

NOW = 1_795_165_200.0
WINDOW = 300
BODY = b'{"event": "receipt.revoked", "note": "two  words\\" and more"}'
STRIPPED = b'{"event":"receipt.revoked","note":"two  words\\" and more"}'
KEY = bytes(range(48))
FORMS: dict[KeyForm, tuple[str, bytes]] = {
    "text": ("whsec_correct horse battery staple", b"whsec_correct horse battery staple"),
    "text-without-whsec": ("whsec_correct horse battery staple", b"correct horse battery staple"),
    "base64": (base64.b64encode(KEY).decode(), KEY),
    "hex": (KEY.hex(), KEY),
}
SECRET = "correct horse battery staple"

Headers = Sequence[tuple[bytes, bytes]]


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, message, hashlib.sha256)


def spelled(signature: bytes, encoding: Encoding) -> bytes:
    """In hex or base64."""
    return signature.hex().encode() if encoding == "hex" else base64.b64encode(signature)


def sent(*headers: tuple[str, bytes]) -> list[tuple[bytes, bytes]]:
    """These headers among those that every delivery has."""
    return [
        (b"host", b"receiver.example.com"),
        (b"content-type", b"application/json"),
        (b"user-agent", b"provider/1.0 (+https://example.com/" + b"0" * 64 + b")"),
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        (b"digest", b"SHA-256=" + base64.b64encode(hashlib.sha256(BODY).digest())),
        *((name.encode(), value) for name, value in headers),
    ]


def found(headers: Headers, secret: str, body: bytes = BODY, now: float = NOW) -> list[Fit]:
    """What fits under this one secret."""
    return fits(headers, body, [Secret("s1", secret)], WINDOW, now)


def standard(secret: str, body: bytes = BODY, at: float = NOW) -> list[tuple[bytes, bytes]]:
    """Signed as Standard Webhooks says."""
    time = str(int(at)).encode()
    signature = mac(base64.b64decode(secret.removeprefix("whsec_")), b"msg_1." + time + b"." + body)
    return sent(
        ("webhook-id", b"msg_1"),
        ("webhook-timestamp", time),
        ("webhook-signature", b"v1," + spelled(signature, "base64")),
    )


def timestamped(secret: str, at: float = NOW) -> list[tuple[bytes, bytes]]:
    """Signed as `t=…,v1=…`."""
    time = str(int(at)).encode()
    return sent(("x-sig", b"t=" + time + b",v1=" + spelled(mac(secret.encode(), time + b"." + BODY), "hex")))


@pytest.mark.parametrize("prefix", ["", "sha256=", "v1,", "abcdef", 'keyId="k1", signature='])
@pytest.mark.parametrize(
    ("encoding", "key_form", "strip"), list(product(get_args(Encoding), get_args(KeyForm), [False, True]))
)
def test_every_hmac_is_found(prefix: str, encoding: Encoding, key_form: KeyForm, strip: bool) -> None:
    """By prefix, encoding, key form and whitespace rule: exactly that one, and it lets the next delivery in."""
    secret, key = FORMS[key_form]
    scheme = Hmac("x-sig", prefix, encoding, key_form, strip)

    def sign(body: bytes) -> list[tuple[bytes, bytes]]:
        return sent(("x-sig", prefix.encode() + spelled(mac(key, body), encoding)))

    assert found(sign(STRIPPED if strip else BODY), secret) == [Fit(scheme, timely=True, shows_whitespace=True)]
    verdict = verifier(scheme, [Secret("s1", secret)], WINDOW).verify(sign(b"{}"), b"{}", NOW)
    assert isinstance(verdict, Authenticated)


def test_hex_in_capitals() -> None:
    """As in lower case; the prefix stays as it is."""
    signature = b"SHA256=" + spelled(mac(SECRET.encode(), BODY), "hex").upper()

    (fit,) = found(sent(("x-sig", signature)), SECRET)
    assert fit.scheme == Hmac("x-sig", prefix="SHA256=")


@pytest.mark.parametrize("secret", ["whsec_" + base64.b64encode(KEY).decode(), base64.b64encode(KEY).decode()])
def test_standard_webhooks_is_found(secret: str) -> None:
    """With `whsec_` before the secret or without."""
    assert found(standard(secret), secret) == [Fit(StandardWebhooks(), timely=True, shows_whitespace=True)]


def test_a_public_key_is_tried_as_one() -> None:
    """Under `whpk_` an Ed25519 signature is found, and no scheme takes the key for a shared secret."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = "whpk_" + base64.b64encode(private.public_key().public_bytes_raw()).decode()
    time = str(int(NOW)).encode()
    signature = base64.b64encode(private.sign(b"msg_1." + time + b"." + BODY))
    forged = spelled(mac(public.encode(), BODY), "hex")
    headers = sent(
        ("webhook-id", b"msg_1"), ("webhook-timestamp", time), ("x-sig", forged), ("x-token", public.encode())
    )

    (fit,) = found([*headers, (b"webhook-signature", b"v1a," + signature)], public)
    assert fit.scheme == StandardWebhooks()
    assert found(headers, public) == []


def test_a_timestamped_hmac_is_found() -> None:
    """In whichever header it is; the other elements of its list may stand anywhere."""
    time = str(int(NOW)).encode()
    signature = b"v1=" + spelled(mac(SECRET.encode(), time + b"." + BODY), "hex")

    assert found(timestamped(SECRET), SECRET) == [Fit(TimestampedHmac("x-sig"), timely=True, shows_whitespace=True)]
    (fit,) = found(sent(("x-other", signature + b",v0=00,t=" + time)), SECRET)
    assert fit.scheme == TimestampedHmac("x-other")


@pytest.mark.parametrize("off", [-301, 301])
def test_a_timestamp_that_is_off_is_said(off: int) -> None:
    """The scheme is found all the same, since such a delivery is authentic."""
    secret = base64.b64encode(KEY).decode()

    assert [fit.timely for fit in found(standard(secret, at=NOW + off), secret)] == [False]
    assert [fit.timely for fit in found(timestamped(secret, at=NOW + off), secret)] == [False]


def test_a_signature_after_a_time_of_its_own_has_no_prefix() -> None:
    """`t=…,v1=` before a signature of the body alone would fit no second delivery."""
    signature = b"t=1795165200,v1=" + spelled(mac(SECRET.encode(), BODY), "hex")

    assert found(sent(("x-sig", signature)), SECRET) == []


def test_a_token_is_found() -> None:
    """In every header that is the secret whole and exact, and in no other."""
    token = SECRET.encode()
    headers = sent(("x-token", token), ("authorization", b"Bearer " + token), ("x-longer", token + b"!"))

    assert [fit.scheme for fit in found(headers, SECRET)] == [Token("x-token")]


def test_the_strongest_comes_first() -> None:
    """Where a delivery is signed in several ways, a time before the body alone, and that before a token."""
    secret = base64.b64encode(KEY).decode()
    headers = [
        (b"x-token", secret.encode()),
        (b"x-plain", spelled(mac(KEY, BODY), "hex")),
        *timestamped(secret)[-1:],
        *standard(secret),
    ]

    schemes = [fit.scheme for fit in found(headers, secret)]

    assert schemes == [
        StandardWebhooks(),
        TimestampedHmac("x-sig"),
        Hmac("x-plain", key_form="base64"),
        Token("x-token"),
    ]


def test_the_strongest_of_what_several_deliveries_fit() -> None:
    """Whichever came first; of equals, the first."""
    found = [
        Fit(scheme, timely=True, shows_whitespace=True)
        for scheme in (Token("x"), Hmac("x"), StandardWebhooks(), TimestampedHmac("x"), Hmac("y"))
    ]

    assert strongest(found) == found[2]
    assert strongest([*found[:2], found[3]]) == found[3]
    assert strongest([found[0], found[4], found[1]]) == found[4]
    assert strongest([]) is None


def test_whitespace_that_cannot_be_told() -> None:
    """A body without any fits both rules: the plain one is meant, and it is said that this is not known."""
    signature = spelled(mac(SECRET.encode(), STRIPPED), "hex")

    fit = Fit(Hmac("x-sig"), timely=True, shows_whitespace=False)
    assert found(sent(("x-sig", signature)), SECRET, STRIPPED) == [fit]


def test_two_spellings_of_one_key_are_one() -> None:
    """Without `whsec_` in it, a secret is the same with and without: the simpler one is meant."""
    (fit,) = found(sent(("x-sig", spelled(mac(SECRET.encode(), BODY), "hex"))), SECRET)

    assert fit.scheme == Hmac("x-sig", key_form="text")


def test_several_headers_may_fit() -> None:
    """They come in the order in which the sender has them."""
    signature = mac(SECRET.encode(), BODY)
    headers = sent(("x-sig-256", b"sha256=" + spelled(signature, "hex")), ("x-sig", spelled(signature, "base64")))

    schemes = [fit.scheme for fit in found(headers, SECRET)]
    assert schemes == [Hmac("x-sig-256", prefix="sha256="), Hmac("x-sig", encoding="base64")]


def test_only_active_secrets_are_tried() -> None:
    """By the time at which the delivery came."""
    headers = sent(("x-sig", spelled(mac(SECRET.encode(), BODY), "hex")))
    ended = Secret("s1", SECRET, not_after=datetime.fromtimestamp(NOW, UTC))

    assert fits(headers, BODY, [ended], WINDOW, NOW) == []
    assert fits(headers, BODY, [replace(ended, not_after=None), Secret("s2", "other")], WINDOW, NOW) != []
    assert fits(headers, BODY, [ended], WINDOW, NOW - 1) != []
    assert fits(headers, BODY, [], WINDOW, NOW) == []


SIGNED: list[tuple[Scheme, str, list[tuple[bytes, bytes]]]] = [
    (StandardWebhooks(), FORMS["base64"][0], standard(FORMS["base64"][0])),
    (TimestampedHmac("x-sig"), SECRET, timestamped(SECRET)),
    (Hmac("x-sig"), SECRET, sent(("x-sig", spelled(mac(SECRET.encode(), BODY), "hex")))),
]


@pytest.mark.parametrize(("scheme", "secret", "headers"), SIGNED, ids=lambda value: getattr(value, "name", ""))
def test_nothing_fits_what_another_made(scheme: Scheme, secret: str, headers: Headers) -> None:
    """Under another secret, for another body, with the signature left out or given twice."""
    assert [fit.scheme for fit in found(headers, secret)] == [scheme]
    assert found(headers, "another secret of the same length") == []
    assert found(headers, secret, BODY + b" ") == []
    assert found(headers[:-1], secret) == []
    assert found([*headers, headers[-1]], secret) == []


def test_a_delivery_that_is_full_of_signatures_is_not_tried_for_ever() -> None:
    """The first of its headers are tried, more than any provider sends."""
    wrong = [(f"x-wrong-{number}", spelled(bytes([number]) * 32, "hex")) for number in range(MAX_HEADERS - 2)]
    right = [(f"x-sig-{number}", spelled(mac(SECRET.encode(), BODY), "hex")) for number in range(4)]

    schemes = [fit.scheme for fit in found(sent(*wrong, *right), SECRET)]

    assert schemes == [Hmac("x-sig-0")]


@pytest.mark.parametrize("name", [b"x" * 129, b"x sig", b"\xff", b""])
def test_a_header_that_no_scheme_can_name_is_passed_over(name: bytes) -> None:
    """Whatever a stranger sends."""
    signature = spelled(mac(SECRET.encode(), BODY), "hex")

    assert found([*sent(("x-sig", b"0" * 64)), (name, signature)], SECRET) == []


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"x-sig", b"x-token"])
            | st.binary(max_size=20),
            st.binary(max_size=80)
            | st.from_regex(
                rb"(?:t=[0-9]{0,12}|v1=[0-9a-f]{64}|,|v1,[A-Za-z0-9+/]{43}=| |[0-9A-F]{64}){0,6}", fullmatch=True
            ),
        ),
        max_size=8,
    ),
    body=st.binary(max_size=60),
)
def test_no_delivery_of_a_stranger_fits(headers: Headers, body: bytes) -> None:
    """And none of them raises."""
    secrets = [Secret(form, secret) for form, (secret, _) in FORMS.items()]

    assert fits(headers, body, secrets, WINDOW, NOW) == []
