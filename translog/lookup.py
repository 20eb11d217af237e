"""Finding a leaf by its hash, without an index that writes at random places (no I/O).

Leaf hashes are random, so an ordinary index on them would dirty a page of the database for every entry. Instead
every RUN leaves, once they are there for good, are sorted into 256 buckets by their hash's first byte, six more
bytes and the leaf's place in the run each. Looking a hash up reads one bucket of every run (2 KiB for 65,536
leaves), and the level-0 tiles of the leaves that fill no run yet.
"""

RUN = 65_536
BUCKETS = 256
_KEY = 6
_ROW = _KEY + 2


def sort_into_buckets(leaf_hashes: bytes) -> list[bytes]:
    """The 256 buckets of one run, from its RUN concatenated 32-byte leaf hashes.

    A row of a bucket is 8 bytes: bytes 1 to 6 of the hash, then its place in the run, big-endian.
    """
    if len(leaf_hashes) != RUN * 32:
        raise ValueError(f"a run is {RUN * 32} bytes of leaf hashes, not {len(leaf_hashes)}")
    buckets = [bytearray() for _ in range(BUCKETS)]
    for place in range(RUN):
        at = place * 32
        buckets[leaf_hashes[at]] += leaf_hashes[at + 1 : at + 1 + _KEY] + place.to_bytes(2, "big")
    return [bytes(bucket) for bucket in buckets]


def bucket_of(leaf_hash: bytes) -> int:
    """Which bucket a 32-byte leaf hash is in."""
    return leaf_hash[0]


def search_bucket(bucket: bytes, leaf_hash: bytes) -> list[int]:
    """The places in the run that may hold that hash (48 more bits agree): the caller compares the whole hash."""
    key = leaf_hash[1 : 1 + _KEY]
    places: list[int] = []
    at = bucket.find(key)
    while at >= 0:
        if at % _ROW == 0:
            places.append(int.from_bytes(bucket[at + _KEY : at + _ROW], "big"))
        at = bucket.find(key, at + 1)
    return places


def search_tile(tile: bytes, leaf_hash: bytes) -> int | None:
    """The place of that hash among a level-0 tile's concatenated hashes, or None."""
    at = tile.find(leaf_hash)
    while at >= 0 and at % 32:
        at = tile.find(leaf_hash, at + 1)
    return None if at < 0 else at // 32
