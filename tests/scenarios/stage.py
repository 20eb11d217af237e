"""Where the documented operations are played: one sandbox in a process of its own, and all that it does.

What it did is read in its log, as anybody reads it, and in its database where no provider documents a way to see it.
"""

import base64
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from receiver.events import parse_time
from receiver.sandbox.ledger import Ledger
from tests.sandbox.inbox import Inbox, inbox
from tests.sandbox.monitor import read_checkpoint, read_log
from tests.sandbox.process import DATA, Process, started
from tests.scenarios.seeds import Answer, Seed
from tests.scenarios.service import until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SENDING = ("truthlocks", "scrip")
"""Those who document a webhook for their operation."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The sandbox, and what came of it since `begin`."""

    sandbox: Process
    ledger: Ledger
    """Its database, from another process."""
    inbox: Inbox
    """Where it delivers to."""
    begin: int = 0
    """How many entries its log had then."""

    def reset(self) -> "Stage":
        """The same with everything as in a fresh sandbox, from now on."""
        assert self.sandbox.client.post("/sandbox/reset").status_code == 204
        return Stage(self.sandbox, self.ledger, self.inbox, self._size())

    def send(self, seed: Seed, *changes: tuple[str, str]) -> Answer:
        """Type in the request of a page, with these changes."""
        return seed.send(self.sandbox.url, *changes)

    def read(self, path: str, **headers: str) -> Any:
        """What is at a path that there is."""
        answer = self.sandbox.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def logged(self) -> list[dict[str, Any]]:
        """What was logged since then, oldest first, each entry proved to be in the log."""
        size = self._size()
        client, vkey = self.sandbox.client, self.sandbox.vkey
        until(lambda: read_checkpoint(client, vkey).size >= size)
        return [json.loads(entry) for entry in read_log(client, vkey)[self.begin :]]

    def effects(self) -> list[tuple[str, str]]:
        """What these entries are, and of what effect."""
        return [(entry["event"], entry["effect"]) for entry in self.logged()]

    def thing(self, provider: str, kind: str, thing_id: str) -> dict[str, Any]:
        """What an issuer keeps of a thing."""
        with self.ledger.read(provider) as books:
            found = books.get(kind, thing_id)
        assert found is not None
        return found

    def delivered(self, text: str) -> dict[str, Any]:
        """What was delivered that has that text in it, once it was."""
        found: list[bytes] = []

        def came() -> bool:
            found.extend(one.body for one in self.inbox.taken if text.encode() in one.body)
            return bool(found)

        until(came)
        return json.loads(found[0])

    def _size(self) -> int:
        store = self.ledger.log.store
        with store.transactions.read() as tx:
            return store.head(tx).size


@contextmanager
def staged(folder: Path) -> Generator[Stage]:
    """A sandbox in that folder, which delivers what is documented to be delivered."""
    secret = folder / "secret.txt"
    secret.write_text(SECRET)
    with inbox() as there:
        options: list[str] = []
        for provider in SENDING:
            options += ["--deliver", f"{provider}={there.url}", "--deliver-secret", f"{provider}={secret}"]
        with started(folder, *options) as sandbox:
            ledger = Ledger.open(folder / DATA)
            yield Stage(sandbox, ledger, there)
            ledger.close()


def is_now(text: str) -> bool:
    """Whether that is a time of the last minute."""
    return abs((datetime.now(UTC) - parse_time(text)).total_seconds()) < 60
