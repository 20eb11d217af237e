"""`receiver relay list`: the calls that were passed on, by command."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from receiver.audit import attempted
from receiver.records.attempts import Attempt
from receiver.records.tables import deliveries
from tests.receiver.commands import Commands
from tests.receiver.passed_on import Calls
from tests.receiver.service import Sender, Service, running, settings_in

OPERATION = "POST /v1/receipts/{id}/revoke"
KEY = "5b2d1c80-7c35-4a0e-8a1f-0a4d7d2f6e11"


@dataclass(frozen=True, slots=True)
class Made:
    """A running service with a source and three calls, and commands on its data folder."""

    commands: Commands
    service: Service
    sender: Sender
    calls: Calls
    attempts: tuple[Attempt, ...]

    @property
    def name(self) -> str:
        """The source's."""
        return self.sender.endpoint.source.name

    def run(self, *arguments: str) -> str:
        """Run the command, which must succeed; what it printed."""
        return self.commands.ok("relay", "list", *arguments)

    def ids(self, *arguments: str) -> list[str]:
        """The ids of what it lists with --json."""
        items: list[dict[str, Any]] = self.commands.json("relay", "list", *arguments)["items"]
        return [item["id"] for item in items]


@pytest.fixture
def made(tmp_path: Path) -> Generator[Made]:
    """One that was refused, one of unknown outcome, and one in progress."""
    with running(settings_in(tmp_path)) as service:
        sender = service.add_source()
        calls = Calls(service, sender)
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        attempts = (
            calls.begin({"id": "a"}, at=hour_ago),
            calls.begin({"id": "b"}, at=hour_ago, headers={"Idempotency-Key": KEY}),
            calls.begin({"id": "c"}),
        )
        calls.refused(attempts[0], 409)
        yield Made(Commands(tmp_path), service, sender, calls, attempts)


def test_what_has_no_outcome(made: Made) -> None:
    """One line each, newest first, and of unknown ones what can be done, with the key to repeat them by."""
    _, unknown, in_progress = made.attempts
    rows = {row.id: row for row in made.sender.rows()}

    def line(attempt: Attempt, outcome: str, item: str) -> str:
        begun = rows[attempt.id].received_at
        return f"{attempt.id}  {outcome}  {OPERATION}  receipt:{item}  source {made.name}  begun {begun}"

    note = "the source has no upstream whose record could be asked: receiver source set --upstream"
    assert made.run().splitlines() == [
        line(in_progress, "in_progress", "c"),
        f"{line(unknown, 'unknown', 'b')}  idempotency key {KEY}  {note}",
    ]


def test_all_of_them(made: Made) -> None:
    """Those that have an outcome with the status that was answered, and the delivery that tells of it."""
    answer = made.sender.rows()[-1]

    lines = made.run("--all").splitlines()

    assert [line.split("  ")[:2] for line in lines] == [
        [made.attempts[2].id, "in_progress"],
        [made.attempts[1].id, "unknown"],
        [made.attempts[0].id, "refused"],
    ]
    assert lines[2].endswith(f"  status 409  told by {answer.id}")


def test_some_of_them(made: Made) -> None:
    """By source, name or id, and by outcome."""
    refused, unknown, in_progress = (attempt.id for attempt in made.attempts)
    other = Calls(made.service, made.service.add_source(provider="thanx", account=None)).begin().id

    assert made.ids() == [other, in_progress, unknown]
    assert made.ids("--source", made.name) == made.ids("--source", made.sender.source_id) == [in_progress, unknown]
    assert made.ids("--outcome", "unknown") == [unknown]
    assert made.ids("--outcome", "refused", "--source", made.name) == [refused]
    assert made.ids("--all", "--source", made.name) == [in_progress, unknown, refused]
    assert made.run("--outcome", "quarantined") == "There is no such call.\n"


def test_as_json(made: Made) -> None:
    """The same as by HTTP."""
    answer = made.service.client.get("/v1/attempts", headers=made.service.key()).json()

    assert made.commands.json("relay", "list", "--all") == {"items": answer["items"]}


def test_a_long_list(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, however many are read at a time."""
    whole = made.run("--all")
    for size in (1, 2, 3):
        monkeypatch.setattr(attempted, "_PAGE", size)
        assert made.run("--all") == whole


def test_what_came_from_outside_stays_on_its_line(made: Made) -> None:
    """An id may hold whatever a request could: it is printed as what it is, and does nothing to a terminal."""
    calls = Calls(made.service, made.service.add_source(provider="capillary", account=None))
    calls.begin(request={"earnedBadgeId": "x\n\x1b[2J\u202e"})

    [line] = [one for one in made.run().splitlines() if "badge" in one]

    assert r"  badge:x\u{a}\u{1b}[2J\u{202e}  " in line


def test_one_that_is_erased(made: Made) -> None:
    """It is listed, without what it was about."""
    gone = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with made.service.records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == made.attempts[1].id).values(**gone))

    assert f"{OPERATION}  erased  source {made.name}" in made.run("--outcome", "unknown")
    assert KEY not in made.run()


def test_nothing_is_open(made: Made) -> None:
    """It says so, and of another tenant's calls nothing."""
    made.service.records.ensure_tenant("second")

    assert made.run("--tenant", "second") == "Every call that was passed on has an outcome.\n"
    assert made.run("--tenant", "second", "--all") == "There is no such call.\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--outcome", "unknown", "--all"), 2, "give --outcome or --all, not both"),
        (("--outcome", "melted"), 2, "'melted' is not one of 'in_progress', 'unknown', 'recorded'"),
        (("--source", "s"), 1, "there is no source 's'"),
        (("--source", ""), 2, "'' must be 1 to 256 printable characters"),
        (("--tenant", "nobody"), 1, "there is no tenant 'nobody'"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    """With a sentence that says what to do."""
    commands = Commands(tmp_path)
    commands.ok("init")

    assert says in commands.refused("relay", "list", *arguments, status=status)
