"""The guard: what each log last signed, kept where a restored database does not reach.

A database that is put back from a copy is whole in itself; nothing in it says that it once was larger. So before a
checkpoint leaves the process it is written here: a folder outside the database and the data folder, with one small
file for each log, named by the SHA-256 of the log's vkey and holding the signed checkpoint. A log that does not
reach the guard's checkpoint, or gives another root at its size, must not sign again.

What is checked against the guard must still be what it holds when it is replaced: else two copies of one database, on
one guard, could both pass and sign two histories. So whoever signs holds the guard from reading it to writing it.

    with guard.hold(key) as held:
        held.checkpoint                     # the tree at hand must be a continuation of it
        held.advance(note)                  # durable when it returns

    guard/<sha256 of the vkey>.checkpoint    the note
    guard/<sha256 of the vkey>.lock          locked while somebody holds it (flock: a process that dies lets go)
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from translog.checkpoint import Checkpoint
from translog.errors import LogRegressed, StoreError, TranslogError
from translog.note import Note, VerifyingKey
from translog.policy import Policy


class Guard:
    """The folder of guard files. Several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: VerifyingKey) -> Checkpoint | None:
        """The checkpoint that the log of that key last signed, verified again; None if there is none.

        Raises StoreError if the file is there and cannot be read or does not verify: it is never taken for absent.
        """
        path = self._path(key, "checkpoint")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"the guard file {path} cannot be read: {error.strerror}") from error
        try:
            return Policy.of(key).open(data)
        except TranslogError as error:
            raise StoreError(
                f"the guard file {path} does not hold a checkpoint of {key.name}: {error}. "
                "Put it back from a copy; without it nobody can tell whether this database was rolled back"
            ) from error

    @contextmanager
    def hold(self, key: VerifyingKey) -> Generator["Held"]:
        """Keep all other processes, and threads, from moving that log's guard until the block is left.

        Raises StoreError as `read` does, and if the folder cannot be written. Not to be nested for one key.
        """
        with self._locked(key):
            yield Held(self._path(key, "checkpoint"), key, self.read(key))

    def claims(self, under: str) -> dict[str, Checkpoint]:
        """The checkpoints of all logs whose origin begins with `under`, by `claim_of` their key.

        They are not verified, since the key of a log that the database does not know is not at hand either. A size
        that is wrong can only make an operator look. Raises StoreError for a file that cannot be read.
        """
        claims: dict[str, Checkpoint] = {}
        for path in sorted(self.folder.glob("*.checkpoint")):
            try:
                data = path.read_bytes()
                if data.startswith(under.encode()):
                    claims[path.stem] = Checkpoint.parse(Note.parse(data).text)
            except (OSError, TranslogError) as error:
                raise StoreError(
                    f"the guard file {path} cannot be read as a checkpoint: {error}. Put it back from a copy; without "
                    "it nobody can tell whether a database was rolled back"
                ) from error
        return claims

    def _path(self, key: VerifyingKey, suffix: str) -> Path:
        return self.folder / f"{claim_of(str(key))}.{suffix}"

    @contextmanager
    def _locked(self, key: VerifyingKey) -> Generator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = self._path(key, "lock").open("ab")
        except OSError as error:
            raise StoreError(
                f"the guard folder {self.folder} cannot be written ({error.strerror}); set RESCIND_GUARD to another"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Held:
    """The guard of one log while it is held: what it says, and the way to move it on."""

    def __init__(self, path: Path, key: VerifyingKey, checkpoint: Checkpoint | None) -> None:
        self.checkpoint = checkpoint
        """What the log last signed; None if the guard knows nothing of it."""
        self._path = path
        self._key = key

    def advance(self, note: bytes) -> None:
        """Write a checkpoint that is about to leave the process. When this returns it is durable.

        The tree that it was made from must have been found to continue `checkpoint`, in this very hold. So a guard
        that is already beyond it stays as it is. Raises LogRegressed if the guard has another root at that size:
        signing both would be a fork.
        """
        new, old = Policy.of(self._key).open(note), self.checkpoint
        if old is not None and old.size == new.size and old.root != new.root:
            raise LogRegressed(
                f"{new.origin} has signed root {old.root.hex()} at size {old.size} (guard {self._path}); to sign "
                f"{new.root.hex()} as well would be a fork"
            )
        if old is None or old.size < new.size:
            _replace(self._path, note)
            self.checkpoint = new


def must_continue(guarded: Checkpoint | None, size: int, root_at: Callable[[int], bytes]) -> None:
    """Refuse a log of `size` entries that is not a continuation of what its guard has; None has nothing to say.

    `root_at` gives the log's root (32 bytes) at any size up to its own. Raises LogRegressed.
    """
    if guarded is None:
        return
    advice = (
        "The database was put back from a copy, or is another one. Put the newest copy in place; if there is "
        "none, `receiver recover` begins a successor log that says what is missing"
    )
    if size < guarded.size:
        raise LogRegressed(
            f"{guarded.origin} holds {size} entries, but its guard has a checkpoint of {guarded.size}. {advice}"
        )
    root = root_at(guarded.size)
    if root != guarded.root:
        raise LogRegressed(
            f"{guarded.origin} gives root {root.hex()} at size {guarded.size}, but its guard has a checkpoint with "
            f"{guarded.root.hex()}: other entries stand where signed ones stood. {advice}"
        )


def claim_of(vkey: str) -> str:
    """The name, without its suffix, of the guard file of a log with that key: 64 hex digits."""
    return hashlib.sha256(vkey.encode()).hexdigest()


def _replace(path: Path, note: bytes) -> None:
    # A crash before the rename leaves the old file, which is still true.
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk: until then a power cut may undo a file's making or renaming."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
