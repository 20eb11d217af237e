"""Whether a log goes on for another one, of which nothing is in its own export bundles.

After a loss a log begins with an entry for each log that it goes on for (kind `tenant`):

    {"action":"recovered",…,"predecessor":{"origin":"…","guard":{"root":"<hex>","size":20},…}}

    for one in predecessors(leaves):            from entry 0 on
        print(one.sentence)

A bundle is complete as to its own log. So whoever asks for a period that reaches back to that log's beginning has to be
told that there was one before it, which is exactly when the range begins with entry 0. How the entries tell of it is in
`docs/log-format.md`; what is told here is the operator's word, as all facts are.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from translog.canonical import Value
from translog.evidence import Leaf
from translog.merkle import MAX_SIZE

__all__ = ["Predecessor", "predecessors"]


class Predecessor(NamedTuple):
    """A log that another one goes on for: its origin, and how many entries it is known to have signed."""

    origin: str
    size: int

    @property
    def sentence(self) -> str:
        """What whoever relies on a bundle of the later log has to know."""
        entries = "1 signed entry" if self.size == 1 else f"{self.size} signed entries"
        return f"This log succeeds {self.origin}, which held {entries}: what that one holds is not here."


def predecessors(leaves: Iterable[bytes]) -> tuple[Predecessor, ...]:
    """The logs that a log goes on for, by its leaves from entry 0 on; none after the first that tells of none.

    Raises `FormatError` for what is no leaf.
    """
    return tuple(_told(leaves))


def _told(leaves: Iterable[bytes]) -> Iterator[Predecessor]:
    for data in leaves:
        if b'"recovered"' not in data:  # before the leaf is taken apart: nearly no log succeeds another
            return
        leaf = Leaf.parse(data)
        found = _predecessor(leaf.facts) if leaf.kind == "tenant" else None
        if found is None:
            return
        yield found


def _predecessor(facts: dict[str, Value]) -> Predecessor | None:
    match facts:
        case {"action": "recovered", "predecessor": {"origin": str(origin), "guard": {"size": int(size)}}}:
            return None if isinstance(size, bool) or not 0 <= size <= MAX_SIZE else Predecessor(origin, size)
        case _:
            return None
