"""`receiver demo`: how what is taken back gets from call or notice to proof, shown by services that leave nothing."""

import signal
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from receiver.demo.stage import Stage

LOOK_EVERY = 0.2  # seconds between two looks at whether the services still run


@click.command()
@click.option("--once", is_flag=True, help="End after the last step: exit status 0 only if each came out as it must.")
def demo(*, once: bool) -> None:
    """Show what this does: issuers take things back, and a receiver records and proves it.

    It all happens in a folder that is removed at the end. Without --once the services go on until Ctrl-C, so that you
    can look around in them.
    """
    import httpx2
    from rich.console import Console

    from receiver.demo import service, stage, story
    from receiver.demo.telling import Teller
    from translog.errors import TranslogError

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)  # nothing is left behind, whoever ends it
    teller = Teller(Console())
    failed = False
    with service.temporary_folder() as folder:
        teller.title(
            "Rescind: what was taken back, from the call or the notice to the proof",
            f"All of it happens now, in {folder}.",
            "Only the issuers are made up: a sandbox plays them, on their documented paths.",
        )
        try:
            with ExitStack() as stack:
                playing = stack.enter_context(stage.set_up(teller, folder))
                story.tell(teller, playing, goes_on=not once)
                if not once:
                    _until_interrupted(playing)
                for running in playing.services:
                    service.must_be(f"the exit status of the {running.name}", running.stop(), 0)
        except (service.DemoError, TranslogError, httpx2.RequestError) as error:
            failed = True
            asked = f"{error.request.url}: " if isinstance(error, httpx2.RequestError) else ""
            teller.failed(asked + (str(error) or type(error).__name__))
            teller.say("", "What the services said last:", *service.last_words(folder))
    teller.say("", f"Both services have ended, and {folder} is removed.")
    sys.exit(1 if failed else 0)


def _until_interrupted(playing: "Stage") -> None:
    try:
        while True:
            playing.must_run()
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rest takes a moment, and is not to be cut off
