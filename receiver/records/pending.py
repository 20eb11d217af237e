"""Answers that could not be recorded when they came: kept in files until they are.

The provider has been called, and its answer goes to the caller whatever happens here: to be told of a failure now the
caller would only call again. So when the database is away the answer is put into a file of the data folder, sealed
under the data key, and durable before the caller has it. It is taken from there by this process, or by the next one.
A crash between the provider's answer and the file leaves an intent without an outcome, which is then to be settled.
"""

import logging
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from receiver.records.opening import Records
from receiver.records.vault import Vault, VaultError
from translog.guard import fsync_folder

FOLDER = "relay-pending"
MOST = 1 << 20  # bytes of a file: an answer's, and what sealing and base64 add

_log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """An answer to a call: `status` None and no body if nothing of the call has reached the provider."""

    attempt_id: str
    tenant: str
    source_id: str
    status: int | None
    body: bytes
    received_at: datetime


class Pending:
    """The folder of such files, one for each call, named by the id of its intent."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self._folder = folder
        self._vault = vault

    @classmethod
    def of(cls, records: Records) -> Self:
        """Those of a data folder."""
        return cls(records.settings.data / FOLDER, records.vault)

    def put(self, held: Held) -> None:
        """Keep an answer; returns once it is durable. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._folder / f"{held.attempt_id}.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self._vault.seal(_place(held.attempt_id), msgspec.json.encode(held)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path(held.attempt_id))
        fsync_folder(self._folder)

    def all(self) -> Iterator[Held]:
        """What is kept, oldest call first. A file that cannot be read is logged and left where it is; what a crash left
        half written, before its caller had the answer, is removed.
        """
        for half in self._folder.glob("*.new"):
            half.unlink(missing_ok=True)
        for path in sorted(self._folder.glob("*.answer")):
            try:
                if not path.is_file() or path.stat().st_size > MOST:
                    raise OSError("it is no file that was made here")
                opened = self._vault.open(_place(path.stem), path.read_bytes())
                yield msgspec.json.decode(opened, type=Held)
            except (OSError, VaultError, msgspec.MsgspecError) as error:
                _log.error("the answer in %s cannot be read, so it is not recorded: %s", path, error)

    def calls(self) -> list[str]:
        """The ids of the calls whose answers are kept, whether these can be read or not."""
        return sorted(path.stem for path in self._folder.glob("*.answer") if path.is_file())

    def drop(self, attempt_id: str) -> None:
        """Forget an answer that is recorded, or erased. Raises OSError."""
        self._path(attempt_id).unlink(missing_ok=True)

    def _path(self, attempt_id: str) -> Path:
        return self._folder / f"{attempt_id}.answer"


def _place(attempt_id: str) -> str:
    return f"answer/{attempt_id}"
