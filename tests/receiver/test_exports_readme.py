"""`README.txt`: what it says of each file and of keys, and that its commands do what they say; as do the report's."""

import json
import re
import shutil
import subprocess
import zipfile
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from receiver.exports.readme import README
from receiver.exports.report import report
from tests.receiver.reported import quarter
from translog.canonical import encode, to_base64

TEXT = README.decode("ascii")
FORMAT = (Path(__file__).resolve().parents[2] / "docs" / "export-format.md").read_text()
BODY = b'{"event":"receipt.revoked"}\n'

needs_jq = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "jq", "unzip", "base64"))), reason="it needs jq, unzip"
)


def commands(heading: str) -> list[str]:
    """The blocks of commands under a heading, each as it is typed in."""
    section = TEXT.partition(f"\n{heading}\n{'-' * len(heading)}\n")[2].split("\n\n\n")[0]
    return [block for block in section.split("\n\n") if all(line.startswith("    ") for line in block.splitlines())]


def event(
    index: int, effect: str | None, breaches: list[str] | None, state: str | None, *, erased: bool = False
) -> Any:
    """A line of `events.jsonl`, as far as it is asked about."""
    facts = {"breaches": breaches or None, "effect": effect, "event": "receipt.revoked", "provider": "truthlocks"}
    return {
        "erased": erased,
        "event": None if erased else {"item": {"id": f"r{index}", "type": "receipt"}},
        "index": index,
        "leaf": {"facts": facts, "logged_at": "2026-07-01T00:00:00.000000Z"},
        "stands": {"cross_check": state, "entry": None},
    }


EVENTS = [
    event(1040, "revoked", ["taken_back_twice"], "confirmed"),
    event(1041, "revoked", [], "absent"),
    event(1042, None, [], "contradicted"),
    event(1043, "revoked", [], None, erased=True),
]
DAY = {"deliveries": 6, "duplicate": 1, "ignored": 1, "mismatch": 1, "quarantined": 1, "recorded": 1}
TALLIES: dict[str, Any] = {"days": [{**DAY, "refused": {"wrong_signature": 1}}, {**DAY, "refused": {}}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a bundle, as far as the commands look into it."""
    bodies = {one["index"]: to_base64(BODY if one["index"] == 1042 else b"x") for one in EVENTS}
    payloads = [{"delivery": {"body": body}, "index": index} for index, body in bodies.items()]
    with zipfile.ZipFile(tmp_path / "BUNDLE.zip", "w") as bundle:
        bundle.writestr("events.jsonl", b"".join(encode(one) + b"\n" for one in EVENTS))
        bundle.writestr("payloads/000000.jsonl", b"".join(encode(one) + b"\n" for one in payloads))
        bundle.writestr("tallies.json", encode(TALLIES))
    return tmp_path


def run(command: str, folder: Path) -> str:
    """What it prints there."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode()


def test_it_can_be_read_anywhere() -> None:
    """ASCII, of at most 72 columns, without a tab or a space at a line's end."""
    assert all(len(line) <= 72 and line == line.rstrip() for line in TEXT.split("\n"))
    assert re.search(r"[^ -~\n]", TEXT) is None
    assert TEXT.endswith("\n")


def test_it_names_every_file() -> None:
    """Those of the document."""
    listed = FORMAT.partition("\n## The file\n")[2].partition("\n## ")[0]
    tops = set(re.findall(r"^    ([A-Za-z.]+/?)", listed, re.MULTILINE))

    assert {"manifest.json", "payloads/", "proof/", "verify.py"} <= tops
    assert {name for name in tops if f"\n{name} " not in TEXT} == set()


def test_it_says_what_proves_nothing() -> None:
    """A key that came along, and a verifier that did; and where to compare that."""
    plain = " ".join(TEXT.split())

    assert "A key that comes with the evidence proves nothing." in plain
    assert "verify.py alone proves nothing" in plain
    assert "SHA-256" in plain
    assert "docs/verify.md" in plain


def test_it_says_what_is_not_shown() -> None:
    """In the words that are used everywhere."""
    plain = " ".join(TEXT.split())

    assert "complete as to what the provider did only where cross-checked." in plain
    assert "complete as to what Rescind recorded; complete" in plain
    assert "Without witnesses an operator could still show two auditors two logs, or backdate" in plain


@needs_jq
def test_its_commands_read_the_events(folder: Path) -> None:
    """Each in its turn, as it stands there."""
    unpack, effects, items, breaking, doubtful, body = commands("To read the events")

    assert run(unpack, folder) == ""
    assert [line.strip() for line in run(effects, folder).splitlines()] == ["1 none", "3 revoked"]
    assert [["receipt.revoked", "receipt", f"r{index}"] for index in (1040, 1041, 1042)] == [
        line.split("\t")[1:] for line in run(items, folder).splitlines()
    ]
    assert [json.loads(line)["index"] for line in run(breaking, folder).splitlines()] == [1040]
    assert [json.loads(line)["index"] for line in run(doubtful, folder).splitlines()] == [1041, 1042]
    assert BODY.decode() == run(body, folder)


@needs_jq
def test_the_reports_commands_count_the_events(folder: Path) -> None:
    """By effect, provider, cross-check and breach, and whether the tallies add up."""
    page = report(quarter()).decode()
    blocks = [unescape(block) for block in re.findall("<pre><code>(.*?)</code></pre>", page, re.DOTALL)]
    [steps] = [block for block in blocks if "jq" in block]

    printed = [line.strip() for line in run(steps, folder).splitlines()]

    assert [
        *("1 none", "3 revoked"),
        "4 truthlocks",
        *("1 absent", "1 confirmed", "1 contradicted", "1 untold"),
        "1 taken_back_twice",
        "false",
    ] == printed
