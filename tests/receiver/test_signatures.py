"""Verdicts on deliveries: every scheme, every reason to refuse, and the vectors of others."""

import base64
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from receiver.intake.signatures import (
    Authenticated,
    Hmac,
    Refused,
    Scheme,
    Secret,
    StandardWebhooks,
    TimestampedHmac,
    Token,
    verifier,
    without_whitespace,
)
from tests.vectors import VECTORS, needs_vectors

Headers = list[tuple[bytes, bytes]]

NOW = 1_795_172_400
BODY = b'{"event_type": "receipt.revoked"}'
KEY = bytes(range(32))
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
WHPK = "whpk_" + base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
OTHERS: Headers = [(b"host", b"example.com"), (b"content-type", b"application/json"), (b"x-webhook-id", b"no")]


def hex_hmac(key: bytes, message: bytes) -> bytes:
    """What a sender computes, by the standard library."""
    return hmac.digest(key, message, "sha256").hex().encode()


def v1(message_id: str = "msg_1", timestamp: int = NOW, body: bytes = BODY, key: bytes = KEY) -> bytes:
    """A v1 entry."""
    mac = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return b"v1," + base64.b64encode(mac)


def v1a(message_id: str = "msg_1", timestamp: int = NOW, body: bytes = BODY) -> bytes:
    """A v1a entry."""
    return b"v1a," + base64.b64encode(PRIVATE.sign(f"{message_id}.{timestamp}.".encode() + body))


def standard(
    signatures: bytes, message_id: bytes = b"msg_1", timestamp: bytes = b"%d" % NOW, *, more: Sequence[bytes] = ()
) -> Headers:
    """The three headers among others; `more` repeats some."""
    three = [(b"webhook-id", message_id), (b"webhook-timestamp", timestamp), (b"webhook-signature", signatures)]
    return [*OTHERS, *three, *[header for header in three if header[0] in more]]


def stripe(*elements: bytes) -> Headers:
    """The one header of the timestamped scheme."""
    return [*OTHERS, (b"x-signature", b",".join(elements))]


def reason(
    scheme: Scheme, headers: Headers, *secrets: Secret, body: bytes = BODY, now: float = NOW, window: int = 300
) -> str:
    """Why the delivery is refused; `authenticated` if it is not."""
    verdict = verifier(scheme, secrets, window).verify(headers, body, now)
    return verdict.reason if isinstance(verdict, Refused) else "authenticated"


STANDARD = StandardWebhooks()
TIMESTAMPED = TimestampedHmac("x-signature")
WHSEC_SECRET = Secret("s1", WHSEC)
TEXT_SECRET = Secret("s1", "whsec_text")
T = b"t=%d" % NOW
V1 = b"v1=" + hex_hmac(b"whsec_text", b"%d." % NOW + BODY)


# The vectors of others


@needs_vectors
def test_the_fixed_vectors_of_standard_webhooks() -> None:
    """The specification's own v1 and v1a examples, by the secret and the private key they give."""
    vectors = json.loads((VECTORS / "standard-webhooks" / "fixed_vectors.json").read_text())
    seed = base64.b64decode(vectors["asymmetric_v1a"]["private_key_b64"])[:32]
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    secrets = {
        "symmetric_v1": vectors["symmetric_v1"]["secret"],
        "asymmetric_v1a": "whpk_" + base64.b64encode(public).decode(),
    }
    for name, value in secrets.items():
        vector = vectors[name]
        texts = {
            "webhook-id": vector["msg_id"],
            "webhook-timestamp": str(vector["timestamp"]),
            "webhook-signature": vector["signature"],
        }
        headers = [(name.encode(), text.encode()) for name, text in texts.items()]

        verdict = verifier(STANDARD, [Secret("s1", value)], 300).verify(
            headers, vector["payload"].encode(), vector["timestamp"]
        )

        scheme = "standard-webhooks" if name == "symmetric_v1" else "standard-webhooks/v1a"
        assert verdict == Authenticated("s1", scheme, tuple(texts.items()))


@pytest.mark.parametrize(
    ("scheme", "secret", "body", "signature"),
    [
        (
            Hmac("x-signature", prefix="sha256="),
            "It's a Secret to Everybody",
            b"Hello, World!",
            b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        (
            Hmac("x-signature", strip_whitespace=True),
            "secretKey",
            b' {\r\n\t"a" : 1 }\n',
            b"a17d2ac229d1ebbb5f10e839c7985c4818e5986eab297f7e5979196d4d7d3ed2",
        ),
        (
            Hmac("x-signature"),
            "secretKey",
            b'{"a":1}',
            b"a17d2ac229d1ebbb5f10e839c7985c4818e5986eab297f7e5979196d4d7d3ed2",
        ),
    ],
)
def test_published_signatures_of_bodies(scheme: Scheme, secret: str, body: bytes, signature: bytes) -> None:
    """As senders print them: with a prefix, bare, and over the body without its whitespace."""
    verdict = verifier(scheme, [Secret("s1", secret)], 300).verify([(b"x-signature", signature)], body, NOW)

    assert verdict == Authenticated("s1", "hmac", (("x-signature", signature.decode()),))


@given(
    st.binary(min_size=1, max_size=64),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1),
    st.integers(0, 2**33),
    st.text(),
)
def test_what_a_sender_signs_with_the_reference_library_is_authentic(
    key: bytes, message_id: str, timestamp: int, body: str
) -> None:
    """For every key, id, time and body."""
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body)
    headers = standard(signature.encode(), message_id.encode(), b"%d" % timestamp)

    assert reason(STANDARD, headers, Secret("s1", secret), body=body.encode(), now=timestamp) == "authenticated"


# What is authentic


def test_the_headers_of_the_signature_are_kept() -> None:
    """Those three, whatever else came along: the signature can be checked again from them."""
    verdict = verifier(STANDARD, [WHSEC_SECRET], 300).verify(standard(v1()), BODY, NOW)

    assert verdict == Authenticated(
        "s1",
        "standard-webhooks",
        (("webhook-id", "msg_1"), ("webhook-timestamp", str(NOW)), ("webhook-signature", v1().decode())),
    )


def test_a_token_is_never_kept() -> None:
    """It would be the secret."""
    verdict = verifier(Token("x-token"), [Secret("s1", "hunter2")], 300).verify([(b"x-token", b"hunter2")], BODY, NOW)

    assert verdict == Authenticated("s1", "token", ())


@pytest.mark.parametrize("signatures", [v1a(), v1() + b" " + v1a(), v1a() + b" v2,x"])
def test_an_asymmetric_signature_is_named_so(signatures: bytes) -> None:
    """Only for it may one say that the provider signed."""
    verdict = verifier(STANDARD, [Secret("p1", WHPK)], 300).verify(standard(signatures), BODY, NOW)

    assert isinstance(verdict, Authenticated)
    assert (verdict.secret_id, verdict.scheme) == ("p1", "standard-webhooks/v1a")


@pytest.mark.parametrize("entry", [0, 7, 15])
@pytest.mark.parametrize("secret", [0, 1, 2])
def test_any_signature_and_any_active_secret_will_do(entry: int, secret: int) -> None:
    """Wherever in the lists the two that fit are."""
    entries = [b"v1," + base64.b64encode(bytes([n]) * 32) for n in range(16)]
    entries[entry] = v1()
    secrets = [Secret(f"s{n}", base64.b64encode(bytes([n]) * 24).decode()) for n in range(3)]
    secrets[secret] = Secret("the one", WHSEC)

    verdict = verifier(STANDARD, secrets, 300).verify(standard(b" ".join(entries)), BODY, NOW)

    assert isinstance(verdict, Authenticated)
    assert verdict.secret_id == "the one"


@pytest.mark.parametrize(
    ("headers", "scheme", "secret"),
    [
        (standard(v1()), STANDARD, WHSEC),
        (standard(v1()), STANDARD, WHSEC.removeprefix("whsec_")),
        (standard(b"v2,x " + v1()), STANDARD, WHSEC),
        (stripe(T, V1), TIMESTAMPED, "whsec_text"),
        (stripe(V1, T), TIMESTAMPED, "whsec_text"),
        (stripe(T, b"v1=" + b"0" * 64, V1, b"v0=abc"), TIMESTAMPED, "whsec_text"),
        ([(b"x-s", hex_hmac(b"text", BODY))], Hmac("x-s"), "text"),
        ([(b"x-s", hex_hmac(b"text", BODY).upper())], Hmac("x-s"), "text"),
        ([(b"x-s", hex_hmac(b"whsec_text", BODY))], Hmac("x-s"), "whsec_text"),
        ([(b"x-s", hex_hmac(b"text", BODY))], Hmac("x-s", key_form="text-without-whsec"), "whsec_text"),
        ([(b"x-s", hex_hmac(KEY, BODY))], Hmac("x-s", key_form="hex"), KEY.hex()),
        ([(b"x-s", hex_hmac(KEY, BODY))], Hmac("x-s", key_form="base64"), WHSEC.removeprefix("whsec_")),
        ([(b"x-s", hex_hmac("ü".encode(), BODY))], Hmac("x-s"), "ü"),
        (
            [(b"x-s", b"sig " + base64.b64encode(hmac.digest(b"text", BODY, "sha256")))],
            Hmac("x-s", prefix="sig ", encoding="base64"),
            "text",
        ),
        ([(b"authorization", b"Bearer abc")], Token("authorization"), "Bearer abc"),
    ],
)
def test_each_way_of_signing(headers: Headers, scheme: Scheme, secret: str) -> None:
    """Every option of every scheme, as a sender would do it."""
    assert reason(scheme, headers, Secret("s1", secret)) == "authenticated"


# What is refused


@pytest.mark.parametrize(
    ("expected", "scheme", "headers", "secret"),
    [
        ("missing_signature", STANDARD, [], WHSEC_SECRET),
        ("missing_signature", STANDARD, OTHERS, WHSEC_SECRET),
        ("missing_signature", STANDARD, standard(v1())[:-1], WHSEC_SECRET),
        ("missing_signature", STANDARD, [h for h in standard(v1()) if h[0] != b"webhook-id"], WHSEC_SECRET),
        ("missing_signature", STANDARD, [h for h in standard(v1()) if h[0] != b"webhook-timestamp"], WHSEC_SECRET),
        ("missing_signature", STANDARD, [standard(v1())[3]] * 3, WHSEC_SECRET),
        ("missing_signature", TIMESTAMPED, OTHERS, TEXT_SECRET),
        ("missing_signature", Hmac("x-signature"), OTHERS, TEXT_SECRET),
        ("missing_signature", Token("x-token"), OTHERS, TEXT_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), more=[b"webhook-id"]), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), more=[b"webhook-timestamp"]), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), more=[b"webhook-signature"]), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(b""), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(b"v1,"), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(b"v1"), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1()[3:]), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1()[:-1]), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1() + b"="), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(b"v1," + b"-" * 43 + b"="), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(b"v1a," + v1()[3:]), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1a()[:-2] + b"!="), Secret("p1", WHPK)),
        ("malformed_signature", STANDARD, standard(v1(timestamp=NOW - 1) + b"  v2,x"), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(b" ".join([v1()] * 17)), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1() + b" " + b"x" * 4096), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1() + b" v2,\xff"), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1() + b" v2,\t"), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(""), b""), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1("é"), "é".encode()), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b""), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b"%d.7" % NOW), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b"+%d" % NOW), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b" %d" % NOW), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b"0%d" % NOW), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b"1_795_172_400"), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp="٣".encode()), WHSEC_SECRET),
        ("malformed_signature", STANDARD, standard(v1(), timestamp=b"9" * 12), WHSEC_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(b""), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(V1), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, T, V1), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, b" " + V1), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, b"v1"), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, V1.upper().replace(b"V1", b"v1")), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, V1, b""), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, V1, b"=x"), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(T, *[V1] * 17), TEXT_SECRET),
        ("malformed_signature", TIMESTAMPED, stripe(b"t=1e9", V1), TEXT_SECRET),
        ("malformed_signature", Hmac("x-signature"), stripe(b"xyz"), TEXT_SECRET),
        ("malformed_signature", Hmac("x-signature"), stripe(b"0" * 63), TEXT_SECRET),
        ("malformed_signature", Hmac("x-signature", prefix="sha256="), stripe(b"0" * 64), TEXT_SECRET),
        ("malformed_signature", Hmac("x-signature", encoding="base64"), stripe(b"0" * 64), TEXT_SECRET),
        ("malformed_signature", Hmac("x-signature"), stripe(b"0" * 64) * 2, TEXT_SECRET),
        ("malformed_signature", Token("x-signature"), stripe(b"whsec_text") * 2, TEXT_SECRET),
        ("malformed_signature", Token("x-signature"), stripe(b"whsec_text\xe9"), TEXT_SECRET),
        ("wrong_signature", STANDARD, standard(v1(body=b"{}")), WHSEC_SECRET),
        ("wrong_signature", STANDARD, standard(v1("msg_2")), WHSEC_SECRET),
        ("wrong_signature", STANDARD, standard(v1(timestamp=NOW - 1)), WHSEC_SECRET),
        ("wrong_signature", STANDARD, standard(v1(key=b"x" * 32)), WHSEC_SECRET),
        ("wrong_signature", STANDARD, standard(b"v2,x"), WHSEC_SECRET),
        ("wrong_signature", STANDARD, standard(v1a()), WHSEC_SECRET),
        ("wrong_signature", STANDARD, standard(v1()), Secret("p1", WHPK)),
        ("wrong_signature", STANDARD, standard(v1a("msg_2")), Secret("p1", WHPK)),
        ("wrong_signature", STANDARD, standard(v1a(body=b"{}")), Secret("p1", WHPK)),
        ("wrong_signature", TIMESTAMPED, stripe(b"t=%d" % (NOW - 1), V1), TEXT_SECRET),
        ("wrong_signature", TIMESTAMPED, stripe(T, V1), Secret("s1", "text")),
        ("wrong_signature", Hmac("x-signature"), stripe(b"0" * 64), TEXT_SECRET),
        ("wrong_signature", Hmac("x-signature", encoding="base64"), stripe(b"0" * 43 + b"="), TEXT_SECRET),
        ("wrong_signature", Token("x-signature"), stripe(b"whsec_texT"), TEXT_SECRET),
        ("wrong_signature", Token("x-signature"), stripe(b"whsec_text "), TEXT_SECRET),
        ("wrong_signature", Token("x-signature"), stripe(b""), TEXT_SECRET),
    ],
)
def test_each_reason_to_refuse(expected: str, scheme: Scheme, headers: Headers, secret: Secret) -> None:
    """A signature that is not there, not well formed, or not of this delivery."""
    assert expected == reason(scheme, headers, secret)


def test_a_public_key_is_no_hmac_key() -> None:
    """What everyone knows signs nothing: not as text, and not decoded."""
    for key in (WHPK.encode(), WHPK.removeprefix("whpk_").encode(), base64.b64decode(WHPK.removeprefix("whpk_"))):
        assert reason(STANDARD, standard(v1(key=key)), Secret("p1", WHPK)) == "wrong_signature"


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (-301, "future"),
        (-300.001, "future"),
        (-300, "authenticated"),
        (0, "authenticated"),
        (300, "authenticated"),
        (300.001, "stale"),
        (301, "stale"),
        (10**9, "stale"),
    ],
)
def test_the_replay_window_is_inclusive(offset: float, expected: str) -> None:
    """Exactly as long as it says, both ways, in each scheme that has a timestamp."""
    assert expected == reason(STANDARD, standard(v1()), WHSEC_SECRET, now=NOW + offset)
    assert expected == reason(STANDARD, standard(v1a()), Secret("p1", WHPK), now=NOW + offset)
    assert expected == reason(TIMESTAMPED, stripe(T, V1), TEXT_SECRET, now=NOW + offset)


def test_the_replay_window_can_be_set() -> None:
    """To none at all, even."""
    assert reason(STANDARD, standard(v1()), WHSEC_SECRET, window=0) == "authenticated"
    assert reason(STANDARD, standard(v1()), WHSEC_SECRET, window=0, now=NOW + 1) == "stale"
    assert reason(STANDARD, standard(v1()), WHSEC_SECRET, window=3600, now=NOW + 3600) == "authenticated"


def test_only_what_is_authentic_is_called_stale() -> None:
    """A forged old delivery has a wrong signature, and the sender learns nothing of the clock."""
    assert reason(STANDARD, standard(v1("msg_2")), WHSEC_SECRET, now=NOW + 10**6) == "wrong_signature"


def test_without_a_timestamp_nothing_is_stale() -> None:
    """An HMAC of the body alone is as good next year."""
    headers = [(b"x-signature", hex_hmac(b"whsec_text", BODY))]

    assert reason(Hmac("x-signature"), headers, TEXT_SECRET, now=NOW + 10**9) == "authenticated"


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(-1, "no_active_secret"), (0, "authenticated"), (59.999, "authenticated"), (60, "no_active_secret")],
)
def test_a_secret_is_active_from_then_until_before_then(offset: float, expected: str) -> None:
    """From its first instant, and no longer at its last."""
    secret = Secret("s1", WHSEC, datetime.fromtimestamp(NOW, UTC), datetime.fromtimestamp(NOW + 60, UTC))

    assert expected == reason(STANDARD, standard(v1()), secret, now=NOW + offset)


def test_a_secret_that_is_over_is_not_tried() -> None:
    """While another is active, its signature is a wrong one."""
    over = Secret("s1", WHSEC, None, datetime.fromtimestamp(NOW, UTC))
    active = Secret("s2", base64.b64encode(bytes(32)).decode())

    assert reason(STANDARD, standard(v1()), over, active) == "wrong_signature"
    assert reason(STANDARD, standard(v1())) == "no_active_secret"


def test_a_secret_that_cannot_be_used_makes_no_verifier() -> None:
    """The message names it by its id alone."""
    with pytest.raises(ValueError, match=r"^secret s1: the secret is not standard, padded base64$"):
        verifier(STANDARD, [Secret("s1", "whsec_!")], 300)
    with pytest.raises(ValueError, match=r"^secret s1: its times must have a zone$"):
        verifier(STANDARD, [Secret("s1", WHSEC, datetime(2026, 11, 20))], 300)  # noqa: DTZ001 (that is the point)


header_values = st.binary(max_size=60) | st.sampled_from([v1(), v1a(), V1, T, b"%d" % NOW, b"msg_1", b"v1,", b" "])


@given(
    st.sampled_from([STANDARD, TIMESTAMPED, Hmac("x-signature", prefix="v"), Token("x-signature")]),
    st.lists(
        st.tuples(
            st.sampled_from([b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"x-signature", b"host"]),
            header_values,
        ),
        max_size=6,
    ),
    st.binary(max_size=20),
)
@example(STANDARD, standard(b"v1a," + b"A" * 86 + b"=="), BODY)
def test_no_delivery_makes_it_raise(scheme: Scheme, headers: Headers, body: bytes) -> None:
    """Whatever the bytes, there is a verdict; and none of these is authentic but by the right headers."""
    secrets = [Secret("s1", WHSEC)] if scheme != STANDARD else [Secret("s1", WHSEC), Secret("p1", WHPK)]

    verdict = verifier(scheme, secrets, 300).verify(headers, body, NOW)

    kept = () if isinstance(verdict, Refused) else verdict.headers
    assert {name.encode() for name, _ in kept} <= {name for name, _ in headers}


# The body without whitespace


def plainly_without_whitespace(body: bytes) -> bytes:
    """The same, one byte after the other."""
    kept, in_string, escaped = bytearray(), False, False
    for byte in body:
        if in_string:
            in_string = escaped or byte != ord('"')
            escaped = not escaped and byte == ord("\\")
        elif byte == ord('"'):
            in_string = True
        elif byte in b" \t\r\n":
            continue
        kept.append(byte)
    return bytes(kept)


@pytest.mark.parametrize(
    ("body", "stripped"),
    [
        (b"", b""),
        (b' { "a b" : [ 1 , 2 ] } \r\n', b'{"a b":[1,2]}'),
        (b'{"a": "x \\" y" }', b'{"a":"x \\" y"}'),
        (b'{"a": "x \\\\" , "b": " \\\\\\" " }', b'{"a":"x \\\\","b":" \\\\\\" "}'),
        (b'{"a":\t"tab\\t and\\u0020space" }', b'{"a":"tab\\t and\\u0020space"}'),
        ('{"é è": "ü ö"}'.encode(), '{"é è":"ü ö"}'.encode()),
        (b'{"a":\xc2\xa01.50 }', b'{"a":\xc2\xa01.50}'),
        (b'{"never ends: 1 }', b'{"never ends: 1 }'),
        (b'{ "never ends\\', b'{"never ends\\'),
    ],
)
def test_whitespace_goes_outside_of_strings_only(body: bytes, stripped: bytes) -> None:
    """Escapes, numbers and other spaces stay as they were sent."""
    assert stripped == without_whitespace(body)


@given(st.lists(st.sampled_from([b'"', b"\\", b" ", b"\n", b"a", b":", b"\xff"]), max_size=40).map(b"".join))
def test_whitespace_is_removed_alike_from_all_bytes(body: bytes) -> None:
    """JSON or not, with backslashes or without."""
    assert plainly_without_whitespace(body) == without_whitespace(body)


@given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_without_whitespace_is_json_written_compactly(value: object) -> None:
    """What a sender signs is what it would have sent without indentation."""
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    indented = json.dumps(value, indent=3, ensure_ascii=False).encode("utf-8", "surrogatepass")

    assert compact == without_whitespace(indented)


def test_hostile_bodies_are_stripped_in_linear_time() -> None:
    """A quarter of a megabyte of escaped quotes in a string that never ends is kept as it is."""
    body = b'"' + b'\\"' * 131_071

    assert body == without_whitespace(body)
