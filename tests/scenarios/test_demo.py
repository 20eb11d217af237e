"""The demo, run as a newcomer runs it: what it tells, what it offers, and that it leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver.sandbox.issuers import issuers

RECEIVER = Path(sys.executable).with_name("receiver")
TRANSLOG = Path(sys.executable).with_name("translog")
LAST_LINE = "All files"
SERVICES = ["receiver", "sandbox"]  # in the order in which they are started

BY_WEBHOOK = """\
Scrip: reverse 500.00 of 1000.00 201
told by webhook reversed, entry _
Truthlocks: revoke a receipt 200
told by webhook revoked, entry _
the same delivery, replayed 200 duplicate, entry _ told twice
one forged of it: another receipt 401 wrong_signature nothing kept
what is known of that receipt no_record
forged again, with a stolen secret 200 recorded, entry _ authenticated
Scrip: reverse all of 250.00 201
its notice is withheld no_record
"""

BY_RELAY = """\
Capillary: revoke a badge 200 revoked, entry _
Capillary: revoke it again: error 814 200 refused, entry _
Scrip: reverse the rest 201 reversed, entry _
told by webhook reversed, entry _
Thanx: revoke an issuance job 202 revoking, entry _
polled until it had ended revoked, entry _
Truthlocks: revoke the receipt again 409 refused, entry _
Voucherify: cancel pending points 200 canceling, entry _
declared, in a plain envelope canceling, entry _
declared, in a plain envelope canceled, entry _
Voucherify: cancel points it will keep 200 canceling, entry _
declared, in a plain envelope canceling, entry _
declared, in a plain envelope rejected, entry _
"""

RECORDED = {
    "redemption 550e8400-e29b-41d4-a716-446655440001 taken_back": [
        "reversed 500.00 relay confirmed",
        "reversed 500.00 webhook confirmed",
        "reversed 500.00 webhook confirmed",
    ],
    "receipt 3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01 taken_back": ["refused relay none", "revoked webhook confirmed"],
    "badge 654cbea06bccde1274b6d3a2 taken_back": ["refused relay none", "revoked relay confirmed"],
    "issuance_job job_xyz789 taken_back": ["revoked poll confirmed", "revoking relay confirmed"],
    "pending_points lcppb_12db4ebb0483a14091 taken_back": [
        "canceled declared confirmed",
        "canceling declared confirmed",
        "canceling relay confirmed",
    ],
    "pending_points lcppb_12db4ebb0483a14093 disputed": [
        "canceling declared contradicted",
        "canceling relay contradicted",
        "rejected declared confirmed",
    ],
    "receipt 3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a00 taken_back": ["revoked webhook absent forged"],
    "redemption 550e8400-e29b-41d4-a716-446655440013 no_record": ["reversed 250.00 gap"],
}
"""What an auditor is told of each item, and of its events by the issuers' log; their order is up to the deliveries."""

PROVED = """\
VERIFIED: this record is in the log, unchanged.
entry _ is the request, logged before it was passed on
VERIFIED: this record is in the log, unchanged.
entry _ is the provider's answer to it, and names it
entry _ of the issuers' log says the same: the issuer stands for it
the credentials that the call was made with are in neither
a copy that names another badge NOT VERIFIED
a copy that is set back by a day NOT VERIFIED
a copy with another act's issuer proof NOT VERIFIED
"""

EXPORTED = """\
16 events, 48 entries of the log: nothing is missing, nothing was changed
the program in the bundle, which needs nothing of ours, says the same
a copy that leaves an event out NOT VERIFIED
"""

needs_a_shell = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl"))), reason="what the demo offers is typed into bash, and asks with curl"
)


def environment(tmp_path: Path) -> dict[str, str]:
    """A user's environment with settings of their own, none of which the demo may touch."""
    for name in ("temporary", "state"):
        (tmp_path / name).mkdir()
    return os.environ | {
        "TMPDIR": str(tmp_path / "temporary"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "RESCIND_DATA": str(tmp_path / "data"),
        "RESCIND_GUARD": str(tmp_path / "guard"),
        "RESCIND_ORIGIN": "not an origin",
        "PYTHONIOENCODING": "utf-8",
    }


@contextmanager
def demo(tmp_path: Path) -> Generator[subprocess.Popen[str]]:
    """`receiver demo`, until the block is left."""
    process = subprocess.Popen(
        [RECEIVER, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=environment(tmp_path),
        cwd=tmp_path,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def told_until(process: subprocess.Popen[str], text: str) -> str:
    """What the demo tells up to the line with that text."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if text in line:
            return told
    pytest.fail(f"the demo ended before it said {text!r}:\n{told}")


def rest(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit status, and what is told before it, line by line."""
    told, _ = process.communicate(timeout=60)
    return process.returncode, told.splitlines()


def left_behind(tmp_path: Path) -> list[str]:
    """Everything that is not as it was before the demo."""
    return sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.name not in {"temporary", "state"}
    )


def chapter(told: str, number: int) -> str:
    """What is told between that chapter's title and the next one's."""
    return told.partition(f"\n{number}. ")[2].partition("\n\n")[0]


def steps(told: str) -> str:
    """The steps that came out as they must, a line each; whichever entry is named, and how much space there is."""
    lines = re.findall(r"^ +✓ (.+)$", told, re.MULTILINE)
    return "".join(f"{re.sub(r'entry [0-9]+', 'entry _', ' '.join(line.split()))}\n" for line in lines)


def recorded(table: str) -> dict[str, list[str]]:
    """Of each item in the table, its state, and its events and gaps without their entries, sorted."""
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if item := re.match(r"^  (\w+ \S+) +(\w+)(?: since [0-9:]{8})?$", line):
            found[f"{item[1]} {item[2]}"] = []
        elif entry := re.match(r"^    entry [0-9]+ +(.+?)(?: +(?:call in|same act as|entry) [0-9]+.*)?$", line):
            found[list(found)[-1]].append(" ".join(entry[1].split()))
    return {item: sorted(events) for item, events in found.items()}


def test_once_every_step_comes_out_as_it_must(tmp_path: Path) -> None:
    """`--once` plays the whole story, exits with 0, and leaves neither folder nor guard."""
    done = subprocess.run(
        [RECEIVER, "demo", "--once"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(tmp_path),
        cwd=tmp_path,
        check=False,
        timeout=120,
    )
    told = done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(chapter(told, 2)) == BY_WEBHOOK
    assert steps(chapter(told, 3)) == BY_RELAY
    assert recorded(chapter(told, 4)) == RECORDED
    assert steps(chapter(told, 4)) == "7 calls passed through: of each the log has its intent, and its outcome\n"
    assert steps(chapter(told, 5)) == PROVED
    assert re.sub("[0-9]+ entries", "48 entries", steps(chapter(told, 6))) == EXPORTED
    assert told.splitlines()[-1].endswith("is removed.")
    assert "Ctrl-C" not in told
    assert left_behind(tmp_path) == []
    long = [line for line in told.splitlines() if len(line) > 80]
    assert [line for line in long if "http://" not in line and str(tmp_path) not in line] == []


def test_every_issuer_is_in_it() -> None:
    """Each has something to play, and each way to hear of it is played; one act is heard of in two ways."""
    scenes = {name: issuer.scenes for name, issuer in issuers().items()}
    ways = [{via.value for via, _ in scene.told} for played in scenes.values() for scene in played]

    assert all(scenes.values())
    assert set[str]().union(*ways) == {"webhook", "relay", "poll", "declared"}
    assert {"relay", "webhook"} in ways


def typed_in(variables: list[str], command: str) -> str:
    """What a command prints that must succeed, in a shell with these variables."""
    script = "\n".join([*variables, command])
    done = subprocess.run(
        ["bash", "-euc", script],
        capture_output=True,
        text=True,
        env={**os.environ, "no_proxy": "127.0.0.1"},
        timeout=60,
        check=True,
    )
    return done.stdout


@needs_a_shell
def test_it_can_be_looked_at_until_ctrl_c(tmp_path: Path) -> None:
    """Without `--once` what it offers works as printed, until Ctrl-C ends it with exit status 0."""
    with demo(tmp_path) as process:
        told = told_until(process, LAST_LINE) + told_until(process, "ls ")
        offered: list[str] = re.findall(r"^    (\S.+)$", chapter(told, 7), re.MULTILINE)
        variables, commands = offered[:4], offered[4:]
        assert [line.partition("=")[0] for line in variables] == ["KEY", "RELAY_KEY", "VKEY", "ISSUER_VKEY"]

        call, events, calls, item, evidence, shown, bundle, logs, gaps, *checkpoints, files = [
            typed_in(variables, command) for command in commands
        ]
        badge = json.loads(call)["data"]
        assert (badge["earnedBadgeId"], badge["isActive"]) == ("6659551c304b6e0b517b7bc7", False)
        newest = [json.loads(listed)["items"][0]["item"] for listed in (events, calls)]
        assert newest == [{"type": "badge", "id": badge["earnedBadgeId"]}] * 2
        assert json.loads(item)["state"] == "taken_back"
        assert evidence.startswith("c2sp.org/tlog-proof@v1\n")
        assert shown.startswith("VERIFIED: this record is in the log, unchanged.\n")
        assert "The issuer itself stands for it." in " ".join(shown.split())
        assert bundle.startswith("VERIFIED: ")
        assert [one["state"] for one in json.loads(logs)["items"]] == ["current"]
        assert [one["effect"] for one in json.loads(gaps)["items"]] == ["reversed"]
        assert [re.sub(r"(?<=^sandbox.invalid).*", "", checkpoint.splitlines()[0]) for checkpoint in checkpoints] == [
            "rescind-demo.invalid/log/default",
            "sandbox.invalid",
        ]
        folder = Path(commands[-1].split()[1])
        key, issuer_key = (variable.partition("=")[2] for variable in variables[2:])
        for name in ("other-item", "backdated", "other-act"):
            assert f"{name}.tlog-proof" in files
            file = folder / f"{name}.tlog-proof"
            verify = [TRANSLOG, "verify", file, "--key", key, "--issuer-key", issuer_key]
            refused = subprocess.run(verify, capture_output=True, check=False)
            assert (refused.returncode, refused.stdout) == (1, b"")
        process.send_signal(signal.SIGINT)
        status, last = rest(process)
    assert status == 0
    assert last[-1] == f"  Both services have ended, and {folder} is removed."
    assert left_behind(tmp_path) == []


def test_a_service_that_dies_fails_the_demo(tmp_path: Path) -> None:
    """If the receiver ends by itself, the demo says so, exits with 1, and still leaves nothing."""
    with demo(tmp_path) as process:
        told_until(process, LAST_LINE)
        os.kill(children(process)[SERVICES.index("receiver")], signal.SIGKILL)
        status, last = rest(process)
    assert status == 1
    assert "  ✗ the receiver ended by itself, with exit status -9" in last
    assert left_behind(tmp_path) == []


def test_a_step_that_does_not_come_out_fails_it(tmp_path: Path) -> None:
    """Without the issuers nothing more can be played: it says so at once, exits with 1, and leaves nothing."""
    with demo(tmp_path) as process:
        told_until(process, "the sandbox listens on")
        os.kill(children(process)[SERVICES.index("sandbox")], signal.SIGKILL)
        status, last = rest(process)
    assert status == 1
    assert len([line for line in last if line.startswith("  ✗ ")]) == 1
    assert "5. " not in "\n".join(last)
    assert left_behind(tmp_path) == []


def test_it_can_be_ended_in_the_middle(tmp_path: Path) -> None:
    """SIGTERM in the middle of the story ends it, exit status 1, with nothing left behind."""
    with demo(tmp_path) as process:
        told_until(process, "the sandbox listens on")
        process.terminate()
        status, _ = rest(process)
    assert status == 1
    assert left_behind(tmp_path) == []


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes it has started and that still run, in order."""
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(child) for child in told.split()]
