"""The export of all that was recorded: a bundle, verified offline by the auditor's tool and by the one that is in it.

One proof shows that one record is in the log. A bundle shows that nothing of a period is missing: it holds every entry
of the log from one before the period to one after it, with the proof that these are the log's, and each event with what
opens it. A copy that leaves an event out is refused.
"""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import shorten
from zipfile import ZipFile

from receiver.demo.auditor import Auditor
from receiver.demo.service import DemoError, must_be, until
from receiver.demo.stage import Stage
from receiver.demo.telling import Teller
from receiver.events import format_time
from translog.bundle import verify
from translog.errors import TranslogError
from translog.policy import Policy

BUNDLE, ALTERED, VERIFIER = "export.zip", "incomplete.zip", "verify.py"
EVENTS = "events.jsonl"


def export(teller: Teller, auditor: Auditor, stage: Stage) -> None:
    """Export everything, and verify it. Raises DemoError where what must verify does not, or what must not does."""
    teller.chapter(
        "6. Everything, exported: complete, and verified offline",
        "A bundle holds every entry of the log in its range: nothing can be left out.",
    )
    now = datetime.now(UTC)
    export_id = auditor.ask_for_export(format_time(now - timedelta(days=1)), format_time(now))

    def state() -> str:
        stage.must_run()
        return auditor.export_state(export_id)

    with teller.waiting("waiting for the bundle"):
        until("the state of the export", state, "completed")
        (stage.folder / BUNDLE).write_bytes(auditor.download(export_id))
    bundle, policy = stage.folder / BUNDLE, Policy.of(stage.vkey)
    teller.ran(f'translog verify {BUNDLE} --key "$VKEY"')
    counts = verify(bundle, policy).manifest.counts
    found = f"{counts['events']} events, {counts['entries']} entries of the log"
    teller.done(f"{found}: nothing is missing, nothing was changed")
    _verify_alone(teller, bundle, stage.vkey)
    _leave_one_out(bundle, stage.folder / ALTERED)
    try:
        verify(stage.folder / ALTERED, policy)
    except TranslogError as error:
        teller.done("a copy that leaves an event out", "NOT VERIFIED")
        teller.say("  " + shorten(str(error), 74, placeholder=" ..."))
        return
    raise DemoError("a bundle that lacks an event is said to be verified")


def _verify_alone(teller: Teller, bundle: Path, vkey: str) -> None:
    """Have the program in the bundle verify it, which needs nothing of ours."""
    with ZipFile(bundle) as archive:
        (bundle.parent / VERIFIER).write_bytes(archive.read(VERIFIER))
    teller.ran(f"unzip {BUNDLE} {VERIFIER}", f'python {VERIFIER} {BUNDLE} --key "$VKEY"')
    found = subprocess.run(  # noqa: S603  (what the receiver made)
        [sys.executable, "-I", bundle.parent / VERIFIER, bundle, "--key", vkey], capture_output=True, check=False
    )
    must_be("what the verifier in the bundle has to complain of", (found.returncode, found.stderr), (0, b""))
    teller.done("the program in the bundle, which needs nothing of ours, says the same")


def _leave_one_out(bundle: Path, altered: Path) -> None:
    """Write a copy of the bundle without its last event."""
    with ZipFile(bundle) as whole, ZipFile(altered, "w") as copy:
        for member in whole.infolist():
            data = whole.read(member)
            if member.filename == EVENTS:
                data = b"".join(data.splitlines(keepends=True)[:-1])
            copy.writestr(member, data)
