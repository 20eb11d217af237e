"""Schemes and their options, and what can be a secret under each."""

import base64
import json
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from receiver.intake.schemes import (
    Hmac,
    KeyForm,
    Scheme,
    Secret,
    StandardWebhooks,
    TimestampedHmac,
    Token,
    check_secret,
    generate_secret,
    scheme_from_options,
    secret_key,
)

STANDARD = StandardWebhooks()
KEY_32 = base64.b64encode(bytes(range(32))).decode()
PUBLIC = base64.b64encode(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()).decode()

SCHEMES: list[Scheme] = [
    STANDARD,
    TimestampedHmac("x-signature"),
    Hmac("x-signature"),
    Hmac("x-signature", prefix="sha256=", encoding="base64", key_form="base64", strip_whitespace=True),
    Hmac("x-signature", key_form="hex"),
    Hmac("x-signature", key_form="text-without-whsec"),
    Token("x-token"),
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_comes_back_from_its_options(scheme: Scheme) -> None:
    """By way of JSON, as a source's settings keep them."""
    options = json.loads(json.dumps(scheme.options()))

    assert scheme == scheme_from_options(scheme.name, options)


def test_options_not_given_have_their_defaults() -> None:
    """And a header's name is taken in any case."""
    scheme = scheme_from_options("hmac", {"header": "X-Hub-Signature-256"})

    assert scheme == Hmac("x-hub-signature-256", prefix="", encoding="hex", key_form="text", strip_whitespace=False)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Hmac", {}, "no signature scheme 'Hmac'; known: standard-webhooks, timestamped-hmac, hmac, token"),
        ("standard-webhooks", {"header": "x"}, "scheme standard-webhooks has no option 'header'; it takes: none"),
        ("token", {"header": "x", "prefix": "y"}, "scheme token has no option 'prefix'; it takes: header"),
        ("token", {}, "scheme token needs the option header"),
        ("timestamped-hmac", {}, "scheme timestamped-hmac needs the option header"),
        ("hmac", {"prefix": "sha256="}, "scheme hmac needs the option header"),
        ("hmac", {"header": ""}, "scheme hmac: header must be the name of a header"),
        ("hmac", {"header": 7}, "scheme hmac: header must be the name of a header"),
        ("token", {"header": "x token"}, "scheme token: header must be the name of a header"),
        ("token", {"header": "x-token\n"}, "scheme token: header must be the name of a header"),
        ("timestamped-hmac", {"header": "ü"}, "scheme timestamped-hmac: header must be the name of a header"),
        ("hmac", {"header": "x", "prefix": "é"}, "scheme hmac: prefix must be printable ASCII"),
        ("hmac", {"header": "x", "prefix": None}, "scheme hmac: prefix must be printable ASCII"),
        ("hmac", {"header": "x", "encoding": "HEX"}, "encoding must be one of hex, base64, not 'HEX'"),
        ("hmac", {"header": "x", "encoding": ["hex"]}, "encoding must be one of hex, base64"),
        ("hmac", {"header": "x", "key_form": "utf-8"}, "key_form must be one of text, text-without-whsec, base64, hex"),
        ("hmac", {"header": "x", "strip_whitespace": "yes"}, "strip_whitespace must be true or false"),
        ("hmac", {"header": "x", "strip_whitespace": 1}, "strip_whitespace must be true or false"),
    ],
)
def test_options_that_do_not_fit_are_named(name: str, options: dict[str, object], says: str) -> None:
    """The scheme, the option, and what it has to be."""
    with pytest.raises(ValueError, match=re.escape(says)):
        scheme_from_options(name, options)


@pytest.mark.parametrize(("key_form", "digits"), [("base64", KEY_32), ("hex", bytes(range(32)).hex())])
def test_a_leading_whsec_is_no_part_of_a_key_in_digits(key_form: KeyForm, digits: str) -> None:
    """It is no digit of base64 or hex: with it and without, the key is the same."""
    scheme = Hmac("x", key_form=key_form)

    assert secret_key(scheme, f"whsec_{digits}") == secret_key(scheme, digits) == bytes(range(32))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_generated_secret_is_a_good_one(scheme: Scheme) -> None:
    """It raises no warning, and no two are alike."""
    secret = generate_secret(scheme)

    assert check_secret(scheme, secret) == []
    assert secret != generate_secret(scheme)


@pytest.mark.parametrize("scheme", [STANDARD, TimestampedHmac("x"), Hmac("x", key_form="text-without-whsec")])
def test_a_generated_secret_has_the_prefix_of_its_scheme(scheme: Scheme) -> None:
    """Where senders know it."""
    assert generate_secret(scheme).startswith("whsec_")


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        (STANDARD, f"whsec_{KEY_32}"),
        (STANDARD, KEY_32),
        (STANDARD, base64.b64encode(bytes(24)).decode()),
        (STANDARD, base64.b64encode(bytes(64)).decode()),
        (STANDARD, f"whpk_{PUBLIC}"),
        (Hmac("x"), "correct horse battery staple"),
        (Hmac("x"), "Schlüssel unter der Fußmatte"),
        (Hmac("x", key_form="hex"), "0A" * 32),
        (Hmac("x", key_form="hex"), "whsec_" + "0a" * 32),
        (Hmac("x", key_form="base64"), f"whsec_{KEY_32}"),
        (Token("x"), "Bearer 0123456789abcdef01234567"),
    ],
)
def test_good_secrets(scheme: Scheme, value: str) -> None:
    """Nothing to warn of."""
    assert check_secret(scheme, value) == []


@pytest.mark.parametrize(
    ("scheme", "value", "warning"),
    [
        (STANDARD, base64.b64encode(bytes(23)).decode(), "the secret is short: 23 bytes"),
        (Hmac("x"), "secretKey", "the secret is short: 9 bytes"),
        (Hmac("x", key_form="text-without-whsec"), "whsec_" + "x" * 23, "the secret is short: 23 bytes"),
        (Hmac("x", key_form="base64"), "QUJD", "the secret is short: 3 bytes"),
        (Hmac("x", key_form="base64"), "whsec_QUJD", "the secret is short: 3 bytes"),
        (Hmac("x", key_form="hex"), "whsec_" + "0a" * 23, "the secret is short: 23 bytes"),
        (Token("x"), "hunter2", "the secret is short: 7 bytes"),
        (TimestampedHmac("x"), "x" * 32 + "\n", "begins or ends with whitespace"),
        (STANDARD, "whsec_" + "0a" * 32, "looks like hex and is read as base64"),
    ],
)
def test_doubtful_secrets_are_warned_of(scheme: Scheme, value: str, warning: str) -> None:
    """One warning, that does not show the secret; it can be used all the same."""
    (said,) = check_secret(scheme, value)

    assert warning in said
    assert value not in said


@pytest.mark.parametrize(
    ("scheme", "value", "says"),
    [
        (STANDARD, "", "the secret is empty"),
        (STANDARD, "whsec_", "the secret is empty"),
        (STANDARD, f"whsec_{KEY_32[:-1]}", "not standard, padded base64"),
        (STANDARD, f"whsec_ {KEY_32}", "not standard, padded base64"),
        (STANDARD, f"{KEY_32}\n", "not standard, padded base64"),
        (STANDARD, "whsec_" + base64.urlsafe_b64encode(b"\xff" * 30).decode(), "not standard, padded base64"),
        (STANDARD, "QUJ=", "not standard, padded base64"),
        (STANDARD, base64.b64encode(bytes(65)).decode(), "the secret is 65 bytes; Standard Webhooks allows 64"),
        (STANDARD, "whpk_AAAA", "exactly 32 bytes, not 3"),
        (STANDARD, "whpk_!", "not standard, padded base64"),
        (STANDARD, "whpk_" + base64.b64encode(bytes(32)).decode(), "a point of small order"),
        (STANDARD, "whpk_" + base64.b64encode(b"\x01" + bytes(31)).decode(), "a point of small order"),
        (STANDARD, f"whsk_{KEY_32}", "a private key, which stays with the sender"),
        (TimestampedHmac("x"), "", "the secret is empty"),
        (TimestampedHmac("x"), f"whpk_{PUBLIC}", "a public key: everyone could sign"),
        (Hmac("x"), "", "the secret is empty"),
        (Hmac("x"), "\ud800", "a lone surrogate"),
        (Hmac("x"), f"whpk_{PUBLIC}", "a public key: everyone could sign"),
        (Hmac("x", key_form="text-without-whsec"), "whsec_", "the secret is empty"),
        (Hmac("x", key_form="base64"), "abc", "not standard, padded base64"),
        (Hmac("x", key_form="base64"), "whsec_", "the secret is empty"),
        (Hmac("x", key_form="base64"), "whsec_whsec_QUJD", "not standard, padded base64"),
        (Hmac("x", key_form="hex"), "whsec_", "the secret is empty"),
        (Hmac("x", key_form="hex"), "whsec_0a whsec_0b", "not hex"),
        (Hmac("x", key_form="hex"), "abc", "not hex"),
        (Hmac("x", key_form="hex"), "0a 0b", "not hex"),
        (Hmac("x", key_form="hex"), "٣٣", "not hex"),
        (Hmac("x", key_form="hex"), "0a\n", "not hex"),
        (Token("x"), "", "the secret is empty"),
        (Token("x"), " secret", "printable ASCII without spaces around it"),
        (Token("x"), "sécret", "printable ASCII without spaces around it"),
        (Token("x"), "a\nb", "printable ASCII without spaces around it"),
    ],
)
def test_secrets_that_cannot_be_used_are_refused(scheme: Scheme, value: str, says: str) -> None:
    """The message says why, and does not show the secret."""
    with pytest.raises(ValueError, match=re.escape(says)) as refusal:
        check_secret(scheme, value)

    assert len(value) < 4 or value not in str(refusal.value)


def test_a_secret_is_not_shown() -> None:
    """Not in a traceback, not in a log."""
    assert repr(Secret("s1", "hunter2")) == "Secret(id='s1', not_before=None, not_after=None)"
