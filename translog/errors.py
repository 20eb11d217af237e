"""The one tree of exceptions that `translog` raises.

`str(error)` is a sentence a person can act on: it names the thing, the value that was found, and where it helps what to
do. The classes say whose move it is:

- `FormatError`, `ProofError`, `SignatureError`, `EvidenceError` and `BundleError` are about bytes that somebody handed
  over. The same bytes fail the same way everywhere, so ask the one who gave them.
- `FetchError` is about a log's server: another try, later, may do better.
- `StoreError` and its three are about the log's own store: a matter for whoever operates the log.

A caller who only wants to know that something did not verify catches `TranslogError`. An argument that no input can
bring about, such as a negative number of leaves, is a mistake in the calling program and raises plain `ValueError`.
"""


class TranslogError(Exception):
    """Base of all that `translog` raises on purpose."""


class FormatError(TranslogError, ValueError):
    """Bytes or text that are not of the format, or are of it but not in its one canonical spelling.

    Also a `ValueError`, so that a parser can be handed to code that knows nothing of `translog`.
    """


class ProofError(TranslogError):
    """A Merkle proof that does not prove what it claims: too short, too long, malformed, or leading to another root."""


class SignatureError(TranslogError):
    """A note without a signature by a known key, or with one by a known key that does not verify."""


class EvidenceError(TranslogError):
    """An evidence file whose entry is not a leaf, or whose openings do not fit the entry's commitments.

    Under a policy for the issuer's log also one whose issuer's proof is missing, does not hold, or is about something
    else than the record.
    """


class BundleError(TranslogError):
    """An export bundle that is not whole, or not what it says of itself: `what` is wrong, first of all at `place`.

    A place is a file of the bundle and where in it (`events.jsonl line 17 (entry 1042)`, `manifest.json
    counts.by_effect`), or `ZIP` for what is wrong between the files.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class FetchError(TranslogError):
    """A log's server did not give what was asked for: out of reach, another HTTP status, too slow or too large."""


class StoreError(TranslogError):
    """The log's own store does not hold what is asked of it; base of the three reasons."""


class LogDamaged(StoreError):  # noqa: N818  these three name a state of the log in the operator's words
    """Stored entries, tiles, heads or checkpoints contradict one another."""


class LogRegressed(StoreError):  # noqa: N818
    """The store is behind, or beside, what this log was already seen to be: restored from a backup, or regrown."""


class NotPublished(StoreError):  # noqa: N818
    """A size or index beyond the published checkpoint: it may exist already, but nothing signed covers it yet."""
