"""`docs/cross-checks.md`, followed as it is written: an event confirmed, a gap, a forgery, a fork, with the sandbox."""

import json
import re
import shutil
from pathlib import Path

import pytest

from receiver import providers
from receiver.events import Claim, CrossCheck
from tests.sandbox.process import started
from tests.scenarios.killing import LOOPBACK, free_port
from tests.scenarios.pages import run_as_shown
from tests.scenarios.service import Site
from translog.issuer import Act

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cross-checks.md").read_text()
SANDBOX, RECEIVER = "http://127.0.0.1:8100", "http://127.0.0.1:8000"
"""Where they listen, on the page."""

IN_THE_SANDBOX = [
    "### An event is confirmed",
    "### A delivery is withheld",
    "### A notice is forged",
    "### The log forks",
]

needs_a_shell = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "openssl", "curl", "jq"))), reason="the page needs bash, openssl, curl and jq"
)


def test_the_page_has_every_state() -> None:
    """Each with what it means, and no other."""
    table = PAGE.partition("\n## The five states\n")[2].partition("\n\n`by`")[0]

    assert list(CrossCheck) == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_pages_plain_entry_is_one() -> None:
    """To the provider's module, and to whoever compares it with a record; and it has the members of the table."""
    section = PAGE.partition("\n## Plain entries\n")[2].partition("\n## ")[0]
    [example] = re.findall(r"^    {(?:.|\n)*?}\n\n", section, re.MULTILINE)
    entry = "".join(map(str.strip, example.splitlines())).encode()

    assert isinstance(providers.get("scrip").entry(entry), Claim)
    assert Act.parse(entry).provider == "scrip"
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert json.loads(entry).keys() == {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@needs_a_shell
def test_it_works_as_the_page_shows(tmp_path: Path) -> None:
    """From the source that names the log to the evidence of the fork; only the ports are others."""
    site = Site(tmp_path)
    port = free_port()
    with site.serving() as service:
        page = PAGE.replace(SANDBOX, f"{LOOPBACK}:{port}").replace(RECEIVER, service.url)
        run_as_shown(page, ["## Try it"], site, tmp_path)
        [start] = re.findall(r"^    receiver sandbox (--deliver .*)$", page, re.MULTILINE)
        start = start.replace("secret.txt", str(tmp_path / "secret.txt"))
        delivering = site.shell(f"printf '%s\n' {start}", tmp_path).splitlines()
        with started(tmp_path, "--port", str(port), "--data", str(tmp_path / "rescind-sandbox"), *delivering):
            run_as_shown(page, IN_THE_SANDBOX, site, tmp_path, no_proxy="127.0.0.1")
