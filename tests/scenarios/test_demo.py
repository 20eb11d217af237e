"""The demo, run as a newcomer runs it: what it tells, what it offers, and that it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

RECEIVER = Path(sys.executable).with_name("receiver")
TRANSLOG = Path(sys.executable).with_name("translog")
LAST_LINE = "All its files"


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
    told, _ = process.communicate(timeout=30)
    return process.returncode, told.splitlines()


def left_behind(tmp_path: Path) -> list[str]:
    """Everything that is not as it was before the demo."""
    return sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.name not in {"temporary", "state"}
    )


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
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"(200 \w+, entry \d+|401 \w+)", done.stdout) == [
        "200 recorded, entry 3",
        "200 recorded, entry 4",
        "200 recorded, entry 5",
        "200 duplicate, entry 3",
        "401 wrong_signature",
        "401 stale",
        "200 mismatch, entry 6",
        "200 recorded, entry 7",
    ]
    assert re.findall(r"taken_back|breach revoked_again|no_record|VERIFIED: this record|NOT VERIFIED", done.stdout) == [
        "taken_back",
        "breach revoked_again",
        "no_record",
        "VERIFIED: this record",
        "NOT VERIFIED",
        "NOT VERIFIED",
    ]
    assert done.stdout.splitlines()[-1].endswith("is removed.")
    assert "Ctrl-C" not in done.stdout
    assert left_behind(tmp_path) == []


def test_it_can_be_looked_at_until_ctrl_c(tmp_path: Path) -> None:
    """Without `--once` what it offers works as printed, until Ctrl-C ends it with exit status 0."""
    with demo(tmp_path) as process:
        told = told_until(process, LAST_LINE)
        key, vkey = re.findall(r"^ +V?KEY=(\S+)$", told, re.MULTILINE)
        (listed,) = re.findall(r'^ +curl -sH "Authorization: Bearer \$KEY" (\S+/v1/events)$', told, re.MULTILINE)
        answer = httpx2.get(listed, headers={"authorization": f"Bearer {key}"})
        assert [event["log_index"] for event in answer.json()["items"]] == [7, 5, 4, 3]
        (file,) = re.findall(r'translog verify (/\S+) --key "\$VKEY"$', told, re.MULTILINE)
        assert (
            subprocess.run([TRANSLOG, "verify", file, "--key", vkey], capture_output=True, check=False).returncode == 0
        )
        for tampered in ("other-receipt", "backdated"):
            copy = Path(file).with_name(f"{tampered}.tlog-proof")
            refused = subprocess.run([TRANSLOG, "verify", copy, "--key", vkey], capture_output=True, check=False)
            assert (refused.returncode, refused.stdout) == (1, b"")
        process.send_signal(signal.SIGINT)
        status, last = rest(process)
    assert status == 0
    assert last[-1] == f"  The service has ended, and {Path(file).parent} is removed."
    assert left_behind(tmp_path) == []


def test_a_service_that_dies_fails_the_demo(tmp_path: Path) -> None:
    """If its service ends by itself, the demo says so, exits with 1, and still leaves nothing."""
    with demo(tmp_path) as process:
        told_until(process, LAST_LINE)
        (service,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(service), signal.SIGKILL)
        status, last = rest(process)
    assert status == 1
    assert "  ✗ the service ended by itself, with exit status -9" in last
    assert left_behind(tmp_path) == []


def test_it_can_be_ended_in_the_middle(tmp_path: Path) -> None:
    """SIGTERM in the middle of the story ends it, exit status 1, with nothing left behind."""
    with demo(tmp_path) as process:
        told_until(process, "it listens on")
        process.terminate()
        status, _ = rest(process)
    assert status == 1
    assert left_behind(tmp_path) == []
