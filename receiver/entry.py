"""Where the `receiver` command begins: what it needs is imported here, so that a missing extra becomes a sentence."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from receiver.cli import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"receiver", "translog"}:
            raise
        print(  # noqa: T201
            f"receiver: the service needs the extra `server` ({error.name} is missing): pip install 'rescind[server]'",
            file=sys.stderr,
        )
        sys.exit(1)
    cli(prog_name="receiver")
