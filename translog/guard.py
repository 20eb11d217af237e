"""The guard: what each log last signed, kept where a restored database does not reach.

A database that is put back from a copy is whole in itself; nothing in it says that it once was larger. So before a
checkpoint leaves the process it is written here: a folder outside the database and the data folder, with one small
file for each log, named by the SHA-256 of the log's vkey and holding the signed checkpoint. A log that does not
reach the guard's checkpoint, or gives another root at its size, must not sign again.

    guard/<sha256 of the vkey>.checkpoint    the note
    guard/<sha256 of the vkey>.lock          held while the note is replaced
"""

import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from translog.checkpoint import Checkpoint
from translog.errors import LogRegressed, StoreError, TranslogError
from translog.note import VerifyingKey
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

    def origins(self) -> frozenset[str]:
        """The origins of all checkpoints here, not verified: logs that no database knows any more are among them."""
        files = self.folder.glob("*.checkpoint")
        return frozenset(file.read_bytes().partition(b"\n")[0].decode(errors="replace") for file in files)

    def advance(self, key: VerifyingKey, note: bytes) -> None:
        """Write a checkpoint that is about to leave the process. When this returns it is durable.

        A guard that is already beyond it stays as it is: another receiver on this machine was faster. A crash before
        the rename leaves the old file, which is still true. Raises LogRegressed if the guard has another root at
        that size: signing both would be a fork.
        """
        new = Policy.of(key).open(note)
        with self._locked(key):
            old = self.read(key)
            if old is not None and old.size == new.size and old.root != new.root:
                raise LogRegressed(
                    f"{new.origin} has signed root {old.root.hex()} at size {old.size} (guard "
                    f"{self._path(key, 'checkpoint')}); to sign {new.root.hex()} as well would be a fork"
                )
            if old is not None and old.size >= new.size:
                return
            path = self._path(key, "checkpoint")
            fresh = path.with_suffix(".new")
            with fresh.open("wb") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            fsync_folder(self.folder)

    def _path(self, key: VerifyingKey, suffix: str) -> Path:
        return self.folder / f"{hashlib.sha256(str(key).encode()).hexdigest()}.{suffix}"

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


def fsync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk: until then a power cut may undo a file's making or renaming."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
