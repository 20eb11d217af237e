"""Pages that are followed as they are written: their commands are run, and have to print what the page shows.

    run_as_shown(page, "## Try it", site, folder)

A page's commands are its fenced blocks of `sh`, and what they print the block of `text` behind each. In that an
ellipsis is whatever may be there: an id, a hash, or lines left out.
"""

import re
from pathlib import Path

from tests.scenarios.service import Site

END = "\x1e"  # printed between two blocks of commands


def blocks(page: str, heading: str) -> list[tuple[str, str]]:
    """The fenced blocks under a heading, up to the next one, each with what it is: `python`, `sh` or `text`."""
    section = re.split("^##+ ", page.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found


def fits(printed: str, shown: str) -> bool:
    """Whether that is what the page shows."""
    lines = [re.escape(line).replace("…", ".*") for line in shown.strip().split("\n")]
    pattern = "\n".join("(?s:.*?)" if line == ".*" else line for line in lines)
    return re.fullmatch(pattern, printed.strip()) is not None


def run_as_shown(page: str, headings: list[str], site: Site, folder: Path, **variables: str) -> None:
    """Run the commands under these headings in one shell, and compare what they print with what the page shows."""
    parts: list[str] = []
    expected: list[str] = []
    for kind, text in (block for heading in headings for block in blocks(page, heading)):
        if kind == "sh":
            parts.append(text)
        else:
            assert (kind, len(expected)) == ("text", len(parts) - 1)
            expected.append(text)
    printed = site.shell(f"printf '{END}'\n".join(parts), folder, **variables).split(END)
    assert len(printed) == len(expected)
    for one, shown in zip(printed, expected, strict=True):
        assert fits(one, shown), f"{one}\n\nis not what the page shows:\n\n{shown}"
