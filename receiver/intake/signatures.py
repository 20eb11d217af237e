"""Whether a delivery comes from whom it says: the schemes, the secrets, and one verdict.

Four schemes cover what senders of webhooks do:

- `standard-webhooks`: the Standard Webhooks specification. The headers `webhook-id`, `webhook-timestamp` (Unix seconds)
  and `webhook-signature` (a list, separated by spaces), over `{id}.{timestamp}.{body}`. An entry `v1,` is HMAC-SHA256
  under a secret `whsec_` + base64, an entry `v1a,` Ed25519 under a public key `whpk_` + base64.
- `timestamped-hmac`: one header `t=<Unix seconds>,v1=<hex>`, `v1` once or more, over `{t}.{body}`.
- `hmac`: one header with an HMAC-SHA256 of the body alone, so that nothing but remembering it keeps out a replay.
- `token`: one header with a secret in it, which says nothing of body or time.

A signature is over bytes, so it is checked before anything is parsed. A `Verifier` is made once for a source and keeps
what can be computed beforehand; it answers and never raises, for raising is slow and a flood is the time to be fast.
Any one listed signature that fits any one active secret suffices: that is what makes rotation possible. The timestamp
is judged after the signature, so `stale` and `future` are said of authentic deliveries only.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

MAX_SIGNATURES = 16
"""Listed in one delivery; more are refused, not searched."""

MAX_HEADER = 4096
"""Bytes of a signature's header."""

ADVISED_KEY = 24
"""Bytes of a secret below which `check_secret` warns: the least that Standard Webhooks allows."""

_MAX_STANDARD_KEY = 64
_PUBLIC, _PRIVATE, _SECRET = "whpk_", "whsk_", "whsec_"


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """Standard Webhooks, v1 and v1a."""

    name: ClassVar[str] = "standard-webhooks"

    def options(self) -> dict[str, str | bool]:
        """What `scheme_from_options` makes the same scheme from; can be written as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TimestampedHmac(StandardWebhooks):
    """A header of a timestamp and signatures in hex."""

    name: ClassVar[str] = "timestamped-hmac"
    header: str
