"""`REPORT.html` in a browser: it asks nobody for anything, not even if a picture were put into it, and it prints.

The browser is given a proxy that notes whatever it is asked for, and no other way out.
"""

import re
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from receiver.exports.facts import Facts
from receiver.exports.report import report
from tests.receiver.reported import nothing, quarter

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed here")

PICTURE = b'<img alt="" src="http://picture.invalid/x.png">'
ASKED_FOR_IT = "GET http://picture.invalid/x.png HTTP/1.1"
ITS_OWN = ("google", "gstatic", "chromium")
"""What is in the addresses that the browser asks for by itself, if at all."""


@contextmanager
def noting() -> Generator[tuple[str, list[str]]]:
    """A proxy that answers nothing: its address, and the first line of each request."""
    asked: list[str] = []

    class Noting(StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode().strip())

    with ThreadingTCPServer(("127.0.0.1", 0), Noting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def printed(page: bytes, folder: Path) -> tuple[bytes, list[str]]:
    """The PDF that a browser makes of the page, and what it asked for meanwhile."""
    (folder / "REPORT.html").write_bytes(page)
    with noting() as (proxy, asked):
        subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--no-pdf-header-footer",
                f"--user-data-dir={folder / 'profile'}",
                f"--proxy-server=http://{proxy}",
                "--proxy-bypass-list=<-loopback>",
                f"--print-to-pdf={folder / 'report.pdf'}",
                (folder / "REPORT.html").as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    return (folder / "report.pdf").read_bytes(), [one for one in asked if not any(its in one for its in ITS_OWN)]


@pytest.mark.parametrize("facts", [quarter(), nothing()], ids=["a quarter", "an empty period"])
def test_it_prints_and_asks_for_nothing(tmp_path: Path, facts: Facts) -> None:
    """On a few pages of A4."""
    pdf, asked = printed(report(facts), tmp_path)

    assert asked == []
    sizes = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", pdf)
    assert {(595, 842)} == {(round(float(wide)), round(float(high))) for wide, high in sizes}
    assert 3 <= len(sizes) <= 9


def test_it_would_be_seen_if_it_asked(tmp_path: Path) -> None:
    """A picture in a page that does not forbid it is asked for; in the report it is not."""
    _, free = printed(b"<!DOCTYPE html><title>x</title>" + PICTURE, tmp_path)
    _, forbidden = printed(report(nothing()).replace(b"</main>", PICTURE + b"</main>"), tmp_path)

    assert free[:1] == [ASKED_FOR_IT]
    assert forbidden == []
