"""The signature schemes a source can be configured with, and the secrets that go with them.

Senders of webhooks differ in small ways that cannot be told from a delivery: which header, which bytes, which spelling.
A scheme is a value that says them; `scheme_from_options` and `options` carry it to and from a source's settings. What a
secret is good for depends on the scheme, so both are checked together, before the first delivery is.

- `standard-webhooks`: the Standard Webhooks specification. The headers `webhook-id`, `webhook-timestamp` (Unix seconds)
  and `webhook-signature` (a list, separated by spaces), over `{id}.{timestamp}.{body}`. An entry `v1,` is HMAC-SHA256
  under a secret `whsec_` + base64, an entry `v1a,` Ed25519 under a public key `whpk_` + base64; both in base64.
- `timestamped-hmac`: one header `t=<Unix seconds>,v1=<lower-case hex>`, `v1` once or more, over `{t}.{body}`, under the
  whole secret as UTF-8.
- `hmac`: one header with an HMAC-SHA256 of the body alone: only remembering a delivery keeps out its replay.
- `token`: one header with the secret itself, which says nothing of body or time.
"""

import re
import secrets as randomness
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from translog.canonical import from_base64
from translog.note import ed25519_public_key

ADVISED_KEY = 24
"""Bytes below which `check_secret` warns of a secret: the least that Standard Webhooks allows."""

_MAX_STANDARD_KEY = 64
_SECRET, _PUBLIC, _PRIVATE = "whsec_", "whpk_", "whsk_"

KeyForm: TypeAlias = Literal["text", "text-without-whsec", "base64", "hex"]
Encoding: TypeAlias = Literal["hex", "base64"]


@dataclass(frozen=True, slots=True)
class _Scheme:
    name: ClassVar[str]

    def options(self) -> dict[str, str | bool]:
        """What `scheme_from_options` makes this scheme of again; all of it fits JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StandardWebhooks(_Scheme):
    """Standard Webhooks, v1 and v1a: everything is laid down."""

    name: ClassVar[str] = "standard-webhooks"


@dataclass(frozen=True, slots=True)
class TimestampedHmac(_Scheme):
    """Timestamp and signatures in the one `header`."""

    name: ClassVar[str] = "timestamped-hmac"
    header: str

    def __post_init__(self) -> None:
        _check_header(self.name, self.header)


@dataclass(frozen=True, slots=True)
class Hmac(_Scheme):
    """`prefix` and the HMAC of the body in the one `header`; hex is read in either case."""

    name: ClassVar[str] = "hmac"
    header: str
    prefix: str = ""
    encoding: Encoding = "hex"
    key_form: KeyForm = "text"
    """How the key's bytes are written in the secret: as themselves (UTF-8, without a leading `whsec_` or with it), as
    base64, or as hex. A leading `whsec_` is no base64 and no hex: before these it is left out."""
    strip_whitespace: bool = False
    """Signed is the body without the whitespace outside of its JSON strings."""

    def __post_init__(self) -> None:
        _check_header(self.name, self.header)
        if not _is_ascii_text(self.prefix):
            raise ValueError(f"scheme {self.name}: prefix must be printable ASCII, not {self.prefix!r}")
        for option, choices in (("encoding", get_args(Encoding)), ("key_form", get_args(KeyForm))):
            if getattr(self, option) not in choices:
                raise ValueError(
                    f"scheme {self.name}: {option} must be one of {', '.join(choices)}, not {getattr(self, option)!r}"
                )
        if type(self.strip_whitespace) is not bool:
            raise ValueError(f"scheme {self.name}: strip_whitespace must be true or false")


@dataclass(frozen=True, slots=True)
class Token(_Scheme):
    """The secret itself in the one `header`."""

    name: ClassVar[str] = "token"
    header: str

    def __post_init__(self) -> None:
        _check_header(self.name, self.header)


Scheme: TypeAlias = StandardWebhooks | TimestampedHmac | Hmac | Token

_SCHEMES: dict[str, type[Scheme]] = {scheme.name: scheme for scheme in get_args(Scheme)}


def scheme_from_options(name: str, options: Mapping[str, object]) -> Scheme:
    """The scheme of that name with these options; a header's name may come in any case.

    Raises ValueError, naming the option, for one that is unknown, missing or not of the kind it has to be.
    """
    kind = _SCHEMES.get(name)
    if kind is None:
        raise ValueError(f"there is no signature scheme {name!r}; known: {', '.join(_SCHEMES)}")
    known = fields(kind)
    for option in options:
        if option not in {each.name for each in known}:
            takes = ", ".join(each.name for each in known) or "none"
            raise ValueError(f"scheme {name} has no option {option!r}; it takes: {takes}")
    for each in known:
        if each.default is MISSING and each.name not in options:
            raise ValueError(f"scheme {name} needs the option {each.name}")
    values: dict[str, Any] = dict(options)
    if isinstance(values.get("header"), str):
        values["header"] = values["header"].lower()
    return kind(**values)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of a source: active from `not_before` on, and until just before `not_after`."""

    id: str
    value: str = field(repr=False)
    not_before: datetime | None = None
    not_after: datetime | None = None


def check_secret(scheme: Scheme, value: str) -> list[str]:
    """What to warn of before `value` is used as a secret under the scheme: sentences, none of which show it.

    Raises ValueError, which does not show it either, where it cannot be used at all.
    """
    if public_key(scheme, value) is not None:
        return []
    warnings: list[str] = []
    size = len(secret_key(scheme, value))
    if size < ADVISED_KEY:
        warnings.append(f"the secret is short: {size} bytes, where {ADVISED_KEY} random ones are advised")
    if value != value.strip():
        warnings.append("the secret begins or ends with whitespace, which counts as part of it")
    if isinstance(scheme, StandardWebhooks) and re.fullmatch("[0-9a-f]{64}", value.removeprefix(_SECRET)):
        warnings.append(
            "the secret looks like hex and is read as base64, as Standard Webhooks says; if deliveries are refused, "
            "the provider may use the scheme hmac or timestamped-hmac"
        )
    return warnings


def generate_secret(scheme: Scheme) -> str:
    """A new secret of 32 random bytes in the form that the scheme takes."""
    raw = randomness.token_bytes(32)
    match scheme:
        case StandardWebhooks():
            return _SECRET + b64encode(raw).decode()
        case Hmac(key_form="base64"):
            return b64encode(raw).decode()
        case TimestampedHmac() | Hmac(key_form="text-without-whsec"):
            return _SECRET + raw.hex()
        case Hmac() | Token():
            return raw.hex()


def public_key(scheme: Scheme, value: str) -> Ed25519PublicKey | None:
    """The key to verify v1a signatures with, if that is what `value` is under the scheme, else None.

    Raises ValueError for a damaged one, or one of small order, for which anyone can sign.
    """
    if isinstance(scheme, StandardWebhooks) and value.startswith(_PUBLIC):
        return ed25519_public_key(_from_base64(value.removeprefix(_PUBLIC)))
    return None


def secret_key(scheme: Scheme, value: str) -> bytes:
    """The bytes that are secret in `value`. Raises ValueError, without showing it, if it has none for the scheme."""
    bare = value.strip().removeprefix(_SECRET)
    if not bare and value.strip():
        raise ValueError("the secret is empty")
    if bare.startswith(_PUBLIC):
        raise ValueError(f"{_PUBLIC} begins a public key: everyone could sign; only standard-webhooks verifies with it")
    if bare.startswith(_PRIVATE):
        raise ValueError(f"{_PRIVATE} begins a private key, which stays with the sender; give the {_PUBLIC} one")
    try:
        as_text = value.encode()
    except UnicodeEncodeError:
        raise ValueError("the secret holds a lone surrogate, which is not text") from None
    match scheme:
        case StandardWebhooks():
            key = _from_base64(value.removeprefix(_SECRET))
            if len(key) > _MAX_STANDARD_KEY:
                raise ValueError(f"the secret is {len(key)} bytes; Standard Webhooks allows {_MAX_STANDARD_KEY}")
        case Hmac(key_form="base64"):
            key = _from_base64(value.removeprefix(_SECRET))
        case Hmac(key_form="hex"):
            digits = value.removeprefix(_SECRET)
            if not re.fullmatch("(?:[0-9a-fA-F]{2})*", digits):
                raise ValueError("the secret is not hex: two digits for each byte, and nothing else")
            key = bytes.fromhex(digits)
        case Hmac(key_form="text-without-whsec"):
            key = as_text.removeprefix(_SECRET.encode())
        case Token():
            if not _is_ascii_text(value) or value != value.strip():
                raise ValueError("a token must be printable ASCII without spaces around it, or no header can carry it")
            key = as_text
        case TimestampedHmac() | Hmac():
            key = as_text
    if not key:
        raise ValueError("the secret is empty")
    return key


def _from_base64(value: str) -> bytes:
    try:
        return from_base64(value)
    except ValueError:  # its message shows the value
        raise ValueError("the secret is not standard, padded base64") from None


def _is_ascii_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _check_header(scheme: str, header: object) -> None:
    # RFC 9110 section 5.6.2, in the lower case in which ASGI gives names.
    if not isinstance(header, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}", header):
        raise ValueError(f"scheme {scheme}: header must be the name of a header, in lower case, not {header!r}")
