"""Keyed hashes: what lets rows be found and compared by things that may not be kept.

Each is the first 16 bytes of an HMAC-SHA256 under the tenant's own key. They outlive an erasure: a replay of an
erased delivery is still known, and an erased item can still be said to be erased, while nobody without the key learns
which item it was. Parts are joined with NUL, which no part holds.
"""

from functools import lru_cache

from receiver.documents import one_case
from receiver.events import Item, Via
from receiver.strictjson import Json, digest
from translog.canonical import hmac_sha256

SIZE = 16


def item_key(hash_key: bytes, provider: str, item: Item) -> bytes:
    """What all events about one item share, whichever source and way they came by."""
    return _keyed(hash_key, f"item\0{provider}\0{item.type}\0{one_case(item.id)}".encode())


def operation_key(hash_key: bytes, provider: str, operation: str) -> bytes:
    """What all that tells of one act of an issuer shares, whatever item it names: events, and entries of its log."""
    return _keyed(hash_key, f"operation\0{provider}\0{one_case(operation)}".encode())


def person_key(hash_key: bytes, kind: str, value: str) -> bytes:
    """What all deliveries share that name one person in one way: `email`, say, and an address, in its one spelling."""
    return _keyed(hash_key, f"person\0{kind}\0{value}".encode())


def dedupe_key(hash_key: bytes, source_id: str, via: Via, delivery_key: str) -> bytes:
    """What two deliveries of the same notice to one source share."""
    return _keyed(hash_key, f"delivery\0{source_id}\0{via}\0{delivery_key}".encode())


def content_key(hash_key: bytes, digest: bytes) -> bytes:
    """What two deliveries of the same content share, from the 32-byte digest of the content."""
    return _keyed(hash_key, b"content\0" + digest)


def mismatch_key(hash_key: bytes, dedupe: bytes, content: bytes) -> bytes:
    """What two deliveries share that differ from the first of their notice in the same way."""
    return _keyed(hash_key, b"mismatch\0" + dedupe + content)


def quarantine_key(hash_key: bytes, source_id: str, body: bytes) -> bytes:
    """What two deliveries of the same bytes, that could not be understood, share."""
    return _keyed(hash_key, f"quarantine\0{source_id}\0".encode() + body)


def unread_key(hash_key: bytes, intent_id: str, body: bytes) -> bytes:
    """The same for the answer to a call that was passed on: another call's is another, whatever its bytes."""
    return _keyed(hash_key, f"unread\0{intent_id}\0".encode() + body)


def intent_key(hash_key: bytes, intent_id: str) -> bytes:
    """What the intent of a call that was passed on is found by: nothing shares it."""
    return _keyed(hash_key, f"intent\0{intent_id}".encode())


def answer_key(hash_key: bytes, intent_id: str, ended: str) -> bytes:
    """What two rows would share that, without being an event, say the same of the call with that intent."""
    return _keyed(hash_key, f"answer\0{intent_id}\0{ended}".encode())


def idempotency_key(hash_key: bytes, source_id: str, item: Item, key: str, request: dict[str, Json]) -> bytes:
    """What two calls to one source share that are one by their idempotency key, about the same item.

    With another `request`, the JSON that it sends, a call is another: providers refuse it, or do what it says.
    """
    named = f"idempotency\0{source_id}\0{item.type}\0{one_case(item.id)}\0{key}\0"
    return _keyed(hash_key, named.encode() + digest(request))


def _keyed(hash_key: bytes, data: bytes) -> bytes:
    return _mac(hash_key)(data)[:SIZE]


_mac = lru_cache(maxsize=4096)(hmac_sha256)
