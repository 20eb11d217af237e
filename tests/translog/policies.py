"""Keys of logs and witnesses, and policy files made of them, for the tests of policies and forks."""

from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from translog.note import Kind, SigningKey, VerifyingKey
from translog.policy import Group, LogLine, Policy, Witness

ORIGIN = "example.com/log"


@cache
def signer(name: str, kind: Kind = Kind.COSIGNATURE) -> SigningKey:
    """The key of that name: always the same one, and another one for another name or kind."""
    return SigningKey(name, kind, sha256(f"{name} {kind}".encode()).digest())


def vkey(name: str, kind: Kind = Kind.COSIGNATURE) -> VerifyingKey:
    """Its public half."""
    return signer(name, kind).verifying_key()


@cache
def ecdsa(name: str, kind: Kind, secret: int = 7) -> VerifyingKey:
    """A key of type 02 or 05, which only verify; the same public key for the same secret."""
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    return VerifyingKey(name, kind, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


LOG = signer(ORIGIN, Kind.ED25519)
OTHER = signer("example.com/other", Kind.ED25519)

KEYS = {
    "log": LOG.verifying_key(),
    "other": OTHER.verifying_key(),
    "renamed": VerifyingKey("example.com/renamed", Kind.ED25519, LOG.verifying_key().public),
    "ecdsa": ecdsa("example.com/ecdsa", Kind.ECDSA),
    "head": ecdsa("example.com/ecdsa", Kind.TREE_HEAD),
    "mldsa": vkey("example.com/mldsa", Kind.ML_DSA_44),
    "a": vkey("a.example"),
    "b": vkey("b.example"),
    "c": vkey("c.example", Kind.ML_DSA_44),
    "renamed_a": VerifyingKey("elsewhere.example", Kind.COSIGNATURE, vkey("a.example").public),
    "renamed_c": VerifyingKey("elsewhere.example", Kind.ML_DSA_44, vkey("c.example", Kind.ML_DSA_44).public),
}
"""Keys by the short names that `policy_file` puts vkeys in place of."""


def policy_file(text: str) -> bytes:
    """A policy file with `{a}` and the like replaced by the vkeys of `KEYS`."""
    return text.format_map(KEYS).encode()


words = st.binary(min_size=1, max_size=12).map(
    lambda octets: bytes(octet for octet in octets if 0x20 < octet != 0x7F) or b"\xff"
)
"""Names and URLs: any octets but controls and spaces."""

_LOGS = [
    *(vkey(f"log{number}.example", kind) for number in range(3) for kind in (Kind.ED25519, Kind.ML_DSA_44)),
    KEYS["ecdsa"],
    ecdsa("ct.example", Kind.TREE_HEAD, 8),
]
_WITNESSES = [vkey(f"w{number}.example", kind) for number in range(4) for kind in (Kind.COSIGNATURE, Kind.ML_DSA_44)]


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies of a few logs, up to six witnesses, and groups of witnesses and groups, as trees."""
    logs = draw(st.lists(st.sampled_from(_LOGS), min_size=1, max_size=4, unique=True))
    names = draw(st.lists(words.filter(lambda name: name != b"none"), max_size=12, unique=True))
    keys = draw(st.lists(st.sampled_from(_WITNESSES), max_size=min(6, len(names)), unique=True))
    witnesses = [Witness(name, key, draw(st.none() | words)) for name, key in zip(names, keys, strict=False)]
    free = [witness.name for witness in witnesses]
    groups: list[Group] = []
    for name in names[len(witnesses) :]:
        if not free:
            break
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        groups.append(Group(name, draw(st.integers(1, len(members))), tuple(members)))
        free = [name, *(other for other in free if other not in members)]
    quorum = draw(st.sampled_from([b"none", *(one.name for one in (*witnesses, *groups))]))
    return Policy(
        tuple(LogLine(log, draw(st.none() | words)) for log in logs),
        tuple(witnesses),
        tuple(groups),
        quorum,
        draw(st.none() | st.just("another origin")),
    )
