"""How the demo tells what it does: a few kinds of line, the same in a terminal and in a plain pipe.

Lines are never broken by us: a command or a URL must come out of a log as it has to be typed in.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from textwrap import wrap

from rich.console import Console
from rich.text import Text

_LABEL, _OUTCOME, _COMMAND = 38, 23, 72  # columns, so that all but URLs and keys fits into 80
_ITEM, _INDEX, _EFFECT, _VIA, _CHECK = 48, 3, 15, 8, 12
_NO_BREAK = "\N{NO-BREAK SPACE}"


class Teller:
    """Tells the story on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        plain = not console.encoding.lower().startswith("utf")
        self._done, self._failed = ("ok", "FAILED") if plain else ("✓", "✗")

    def title(self, text: str, *lines: str) -> None:
        """What the story is about."""
        self._line((text, "bold"))
        self.say(*lines)

    def chapter(self, text: str, *lines: str) -> None:
        """What the next lines are about."""
        self._line()
        self._line((text, "bold"))
        self.say(*lines)

    def ran(self, *commands: str) -> None:
        """Commands that were run, as they would be typed in."""
        for command in commands:
            together = re.sub(r"(--\S+) (?!-)", rf"\1{_NO_BREAK}", command)  # an option and its value
            lines = wrap(together, _COMMAND, break_long_words=False, break_on_hyphens=False)
            self._line("  ", ("$ " + " \\\n      ".join(lines).replace(_NO_BREAK, " "), "cyan"))

    def done(self, what: str, outcome: str = "", note: str = "") -> None:
        """Something that came out as it must: what it was, and if there is more to say, how it came out and why."""
        label = f"{what:<{_LABEL}} " if outcome else what
        if note:
            outcome = f"{outcome:<{_OUTCOME}} "
        self._line("  ", (self._done, "green"), " ", label, (outcome, "bold"), (note, "dim"))

    def item(self, what: str, state: str) -> None:
        """Something that something is known of; its entries follow."""
        self._line("  ", f"{what:<{_ITEM}} ", (state, "bold"))

    def entry(self, index: int, what: str, via: str, check: str, note: str) -> None:
        """One entry of the log that tells of it, and what it was found to be worth."""
        row = f"entry {index:<{_INDEX}} {what:<{_EFFECT}} {via:<{_VIA}} "
        self._line("    ", row, (f"{check:<{_CHECK}} " if note else check, "bold"), (note, "dim"))

    def failed(self, why: str) -> None:
        """The one step that did not."""
        self._line("  ", (self._failed, "bold red"), " ", why)

    def say(self, *lines: str) -> None:
        """Something to know, in words."""
        for line in lines:
            self._line("  ", (line, "dim"))

    def offer(self, label: str, *commands: str) -> None:
        """Something to try, or to look at."""
        self._line("  ", label)
        for command in commands:
            self._line("    ", (command, "cyan"))

    @contextmanager
    def waiting(self, why: str) -> Generator[None]:
        """While the block runs a terminal shows that it is being waited; a pipe is told nothing."""
        with self._console.status(f"[dim]{why}[/dim]", spinner="dots"):
            yield

    def _line(self, *parts: str | tuple[str, str]) -> None:
        self._console.print(Text.assemble(*parts), soft_wrap=True, highlight=False)
