"""`receiver subscription`: the command, on a data folder of its own."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.receiver.commands import Commands
from tests.receiver.subscribers import passing, record, rows, source
from tests.sandbox.inbox import Inbox, inbox

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands by which subscriptions may call this machine."""
    monkeypatch.setenv("RESCIND_SUBSCRIPTION_NETWORKS", "127.0.0.1")
    return Commands(tmp_path)


@pytest.fixture
def there() -> Iterator[Inbox]:
    """An endpoint."""
    with inbox() as there:
        yield there


def add(commands: Commands, url: str, name: str = "alerts", *more: str) -> dict[str, Any]:
    """Add one; what the command printed."""
    return commands.json("subscription", "add", name, "--url", url, "--on", "recorded,gap", *more)


def test_one_is_added_with_a_secret_that_is_shown_once(commands: Commands, there: Inbox) -> None:
    """In words, too; the list has all of it but the secret."""
    added = add(commands, there.url)
    shown = commands.ok("subscription", "add", "other", "--url", there.url, "--on", "fork").splitlines()

    assert added.pop("secret").startswith("whsec_")
    assert (added["name"], added["url"], added["on"], added["enabled"]) == (
        "alerts",
        there.url,
        ["recorded", "gap"],
        True,
    )
    assert shown[0] == f"other  {there.url}  enabled"
    assert shown[-1].startswith("Secret, shown this once: whsec_")
    listed = commands.json("subscription", "list")["items"]
    assert listed[0] == added
    assert [one["name"] for one in listed] == ["alerts", "other"]
    assert "whsec_" not in commands.ok("subscription", "list")
    assert commands.ok("subscription", "list", "--tenant", "default").count("  0 waiting, 0 given up") == 2


def test_a_secret_comes_from_a_file_or_standard_input(commands: Commands, there: Inbox, tmp_path: Path) -> None:
    """And is not printed then; never is it an argument."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    assert "secret" not in add(commands, there.url, "one", "--secret-file", str(file))
    printed = commands.ok(
        *("subscription", "add", "two", "--url", there.url, "--on", "gap", "--secret-stdin"), stdin=SECRET.encode()
    )
    assert SECRET not in printed
    for name in ("one", "two"):
        commands.ok("subscription", "test", name)
    for delivery in there.taken:
        Webhook(SECRET).verify(delivery.body, dict(delivery.headers))


def test_a_trial_says_what_was_answered(commands: Commands, there: Inbox) -> None:
    """A message of the type `test` goes out at once, and by itself; what is not taken is exit status 1."""
    secret = add(commands, there.url)["secret"]

    assert commands.ok("subscription", "test", "alerts") == "Taken: answered 204\n"
    (delivery,) = there.taken
    message: Any = Webhook(secret).verify(delivery.body, dict(delivery.headers))
    assert (message["type"], message["data"]["tenant"]) == ("test", "default")
    there.answers = lambda _: 418
    failed = commands.run("subscription", "test", "alerts")
    assert (failed.exit_code, failed.stdout) == (1, "Not taken: answered 418\n")
    failed = commands.run("subscription", "test", "alerts", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)) == (1, {"status": 418, "failure": "answered 418"})
    failed = commands.run("subscription", "test", "alerts", subscription_networks="")
    assert failed.exit_code == 1
    assert failed.stdout.startswith("Not taken: not sent: its host has an address that is not public")
    assert len(there.came) == 3


def test_what_is_passed_on_and_replayed(commands: Commands, there: Inbox) -> None:
    """From an index of the log on; what was passed on so far is listed."""
    with closing(commands.records()) as records:
        record(source(records), 3)
    add(commands, there.url, "alerts", "--from", "0")
    with closing(commands.records()) as records:
        passing(records, lambda: len(there.taken) == 3)
    assert commands.json("subscription", "list")["items"][0]["next_index"] > 3
    replayed = commands.json("subscription", "replay", "alerts", "--from", "0", "--to", "4")

    assert replayed["replay"] == {"next_index": 0, "to_index": 4}
    assert "  replaying, from 0 to 4" in commands.ok("subscription", "list")
    assert "999 is not among them" in commands.refused("subscription", "replay", "alerts", "--from", "999")
    assert "to_index" in commands.refused("subscription", "replay", "alerts", "--from", "2", "--to", "1")


def test_one_is_changed_and_removed(commands: Commands, there: Inbox) -> None:
    """URL, topics and secret; disabled and enabled; and then there is none."""
    add(commands, there.url)
    changed = commands.json("subscription", "set", "alerts", "--url", f"{there.url}?x", "--on", "silence, fork")

    assert (changed["url"], changed["on"]) == (f"{there.url}?x", ["fork", "silence"])
    commands.ok("subscription", "set", "alerts", "--secret-stdin", stdin=SECRET.encode())
    commands.ok("subscription", "test", "alerts")
    Webhook(SECRET).verify(there.taken[0].body, dict(there.taken[0].headers))
    assert commands.json("subscription", "disable", "alerts")["enabled"] is False
    assert commands.ok("subscription", "enable", "alerts").splitlines()[0] == f"alerts  {there.url}?x  enabled"
    assert commands.ok("subscription", "remove", "alerts") == "Subscription alerts is removed.\n"
    assert commands.ok("subscription", "list") == "No subscriptions.\n"
    assert "has no subscription named 'alerts'" in commands.refused("subscription", "remove", "alerts")


def test_what_waits_and_why_is_listed(commands: Commands, there: Inbox) -> None:
    """How many messages wait or were given up, and why the first of them was not taken."""
    there.answers = lambda _: 503
    add(commands, there.url)
    with closing(commands.records()) as records:
        record(source(records))
        passing(records, lambda: [row for row in rows(records) if row.failure])

    assert commands.ok("subscription", "list").splitlines()[-2:] == ["  1 waiting, 0 given up", "  answered 503"]


def test_what_is_refused(commands: Commands, there: Inbox) -> None:
    """In a sentence: an address that may not be called, no topic, a name that is taken, nothing to change."""
    url = ("--url", there.url, "--on", "gap")
    assert "whsec_" in commands.ok("subscription", "add", "alerts", *url)
    for arguments, status, says in (
        (("add", "n", "--url", "http://10.0.0.1/", "--on", "gap"), 1, "RESCIND_SUBSCRIPTION_NETWORKS"),
        (("add", "n", "--url", "gopher://h/", "--on", "gap"), 1, "the URL must be"),
        (("add", "n", "--url", there.url, "--on", "gap,all"), 2, "'all' is no topic; there are recorded, cross_check"),
        (("add", "n", "--url", there.url), 2, "Missing option '--on'"),
        (("add", "n", *url, "--from", "9999"), 1, "9999 is beyond them"),
        (("add", "alerts", *url), 1, "already has a subscription named 'alerts'"),
        (("set", "alerts"), 2, "say what to change"),
        (("set", "nobody", "--on", "gap"), 1, "has no subscription named 'nobody'"),
        (("test", "nobody"), 1, "has no subscription named 'nobody'"),
    ):
        assert says in commands.refused("subscription", *arguments, status=status)
    assert "the secret must be whsec_" in commands.refused(
        *("subscription", "add", "n", *url, "--secret-stdin"), stdin=b"short"
    )
    assert len(commands.json("subscription", "list")["items"]) == 1
