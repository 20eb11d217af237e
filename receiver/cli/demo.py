"""`receiver demo`: the way of a notice from delivery to proof, shown by a receiver of its own that leaves nothing."""

import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from receiver.demo.service import Service


@click.command()
@click.option("--once", is_flag=True, help="End after the last step: exit status 0 only if each came out as it must.")
def demo(*, once: bool) -> None:
    """Show what this does: deliveries sent, recorded, audited and proved, in a folder that is removed at the end.

    Without --once the receiver goes on until Ctrl-C, so that you can look around in it.
    """
    import httpx2
    from rich.console import Console

    from receiver.demo import service, story
    from receiver.demo.telling import Teller
    from translog.errors import TranslogError

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)  # nothing is left behind, whoever ends it
    teller = Teller(Console())
    failed = False
    with service.temporary_folder() as folder:
        try:
            with ExitStack() as stack:
                with teller.waiting("starting a receiver"):
                    running = stack.enter_context(service.running(folder))
                story.tell(teller, running, goes_on=not once)
                if not once:
                    _until_interrupted(running)
                story.must_be("the exit status of the service", running.stop(), 0)
        except (service.DemoError, TranslogError, httpx2.HTTPError) as error:
            failed = True
            teller.failed(str(error) or type(error).__name__)
            teller.say("", "What the service said last:", *service.last_words(folder))
    teller.say("", f"The service has ended, and {folder} is removed.")
    sys.exit(1 if failed else 0)


def _until_interrupted(running: "Service") -> None:
    try:
        running.wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rest takes a moment, and is not to be cut off
