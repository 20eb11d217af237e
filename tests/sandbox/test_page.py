"""`docs/sandbox.md`, followed as it is written: its requests, its credentials, and what it says of delivering."""

import base64
import json
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from receiver import providers
from receiver.sandbox.deliverer import Destination
from receiver.sandbox.issuers import issuers
from tests.receiver.commands import Commands
from tests.receiver.service import ORIGIN, settings_in, until
from tests.receiver.service import running as receiver_running
from tests.sandbox.service import Sandbox, running

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sandbox.md").read_text()
REQUEST = re.compile(r"^    # (\w+): (\d+)\n((?:    .*\n)+)", re.MULTILINE)
IDS = re.findall(r"`(\S{8,})`", PAGE[PAGE.index("## What is there") : PAGE.index("To have everything")])
HOST = "http://127.0.0.1:8100"
SECRETS = {name: "whsec_" + base64.b64encode(name.encode().ljust(32)).decode() for name in providers.names()}
"""A source needs one of its own."""

needs_a_shell = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl"))), reason="the requests need bash and curl"
)


def requests() -> dict[str, tuple[str, str]]:
    """By provider, the documented status and the command that sends the request."""
    return {name.lower(): (status, textwrap.dedent(command)) for name, status, command in REQUEST.findall(PAGE)}


def send(sandbox: Sandbox, command: str) -> str:
    """Type a request in as it stands, but for the port; the status of its answer."""
    host = str(sandbox.client.base_url).removesuffix("/")
    assert command.count(HOST) == 1
    script = "curl() { command curl -s -o /dev/null -w '%{http_code}' \"$@\"; }\n" + command.replace(HOST, host)
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, env=environment, timeout=30, check=True
    )
    return done.stdout


def options_of(provider: str) -> list[str]:
    """What the page has `receiver source add` told, besides the provider."""
    table = PAGE[PAGE.index("| provider | what is delivered |") :]
    row = re.search(rf"^\| {provider} \|.*\| (.*) \|$", table, re.MULTILINE | re.IGNORECASE)
    assert row is not None
    return [] if row[1] == "none" else row[1].strip("`").split()


def test_the_options_are_those_of_the_issuers() -> None:
    """What the page says a source needs, each issuer says as well."""
    assert {name: options_of(name) for name in providers.names()} == {
        name: list(issuer.receiver_options) for name, issuer in issuers().items()
    }


@needs_a_shell
def test_the_accounts_are_those_of_the_issuers() -> None:
    """By which a receiver knows whose entries the log has."""
    table = PAGE[PAGE.index("| provider | account |") :]
    named = re.findall(r"^\| (\w+) \| `(\S+)` \|$", table, re.MULTILINE)
    assert {name.lower(): account for name, account in named} == {
        name: issuer.account for name, issuer in issuers().items()
    }


def test_every_request_gets_its_documented_status(sandbox: Sandbox) -> None:
    """Each is typed in as it stands, and its act is in the log."""
    assert sorted(requests()) == providers.names()
    for provider, (status, command) in requests().items():
        assert send(sandbox, command) == status, provider

    sandbox.until(lambda: len(sandbox.entries()) == 7)
    assert {entry["provider"] for entry in sandbox.entries()} == set(providers.names())


@needs_a_shell
def test_after_a_reset_they_are_answered_again(sandbox: Sandbox) -> None:
    """As the first time, by things that are as they were."""
    reset = re.search(r"^    (curl .*/sandbox/reset)$", PAGE, re.MULTILINE)
    assert reset is not None
    for _ in range(2):
        for provider, (status, command) in requests().items():
            assert send(sandbox, command) == status, provider
        assert send(sandbox, reset[1]) == "204"


@pytest.mark.parametrize("item", IDS)
def test_what_the_page_says_is_there_is_there(item: str, sandbox: Sandbox) -> None:
    """Every id of its table is one of the sandbox's."""
    with sandbox.ledger._database.read() as tx:  # pyright: ignore[reportPrivateUsage]
        found = tx.exec_driver_sql("SELECT 1 FROM things WHERE instr(id || data, ?)", (item,)).first()

    assert found is not None


COMPARED = ("provider", "operation", "effect", "item", "amount", "quantity")


@needs_a_shell
def test_a_receiver_records_what_the_log_says(tmp_path: Path) -> None:
    """Of each request, with a source added as the page says: the same acts, in the same words."""
    file = tmp_path / "secret.txt"
    commands = Commands(tmp_path)
    paths: dict[str, str] = {}
    for name in providers.names():
        file.write_text(SECRETS[name])
        added = ["source", "add", name, "--provider", name, *options_of(name)]
        said = commands.ok(*added, "--secret-file", str(file), "--json", origin=ORIGIN)
        paths[name] = json.loads(said)["webhook_path"]
    with receiver_running(settings_in(tmp_path)) as service:
        base = str(service.client.base_url).removesuffix("/")
        destinations = {name: Destination(base + path, SECRETS[name]) for name, path in paths.items()}
        with running(tmp_path / "sandbox", destinations) as sandbox:
            for _, command in requests().values():
                send(sandbox, command)
            until(lambda: len(sandbox.entries()) == 7 and not sandbox.ledger.owed())
            entries = sandbox.entries()
        events = service.client.get("/v1/events", headers=service.key()).json()["items"]

    assert chosen(events) == chosen(entries)


def chosen(acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What events and entries both tell of acts, in one order for both."""
    return sorted(({name: act[name] for name in COMPARED} for act in acts), key=str)
