"""The `translog` command: what an auditor runs, with nothing but this package and the log's key.

    translog keygen NAME                    a new log key: the private key, then the vkey to give to readers
    translog inspect FILE                   what is in a proof, a note, a key or a policy; verifies nothing and says so
    translog verify FILE --key VKEY         does this evidence, or export bundle, hold; what does it show; offline
    translog fsck URL --key VKEY            is a log whole: everything it serves against the root it signed
    translog follow URL --key VKEY --state FILE    the log's new entries, each proven, as lines of JSON

`--policy FILE` takes the place of `--key`: a C2SP tlog-policy, which can ask for witnesses. `fsck` and `follow` read
over HTTP, and need the extra `reader`; all else needs nothing but `cryptography`.

It exits with 0 if all is well; 1 if something does not verify, or cannot be read; 2 if the log that is followed has
forked, or the command was called wrongly. Whatever comes from a file or a server is printed with its control characters
escaped: what is being checked must not get to write the verdict.
"""

import argparse
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from translog.canonical import decimal
from translog.cli.telling import MAX_FILE_SIZE, UsageError, drop_output, is_bundle, printable, read
from translog.errors import FormatError, TranslogError

if TYPE_CHECKING:
    from translog.policy import Policy

__all__ = ["MAX_FILE_SIZE", "main", "printable"]

_INTERRUPTED = 128 + 2  # as a shell says it of SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Called wrongly, it raises `SystemExit(2)` after saying how it is called."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name the terminal cannot show must not end the report
    command = cast("str", arguments.command)
    try:
        if command == "follow":
            return _follow(arguments)
        output = _output(command, arguments)
    except UsageError as error:
        parser.error(printable(str(error)))
    except TranslogError as error:
        print(f"translog {command}: {printable(str(error))}", file=sys.stderr)
        if command in {"verify", "fsck"}:
            print(f"translog {command}: NOT VERIFIED", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if command not in {"fsck", "follow"} or missing == "translog":
            raise
        print(
            f"translog {command}: reading a log over HTTP needs the extra `reader` ({missing} is missing): "
            "pip install 'rescind[reader]'",
            file=sys.stderr,
        )
        return 1
    try:
        print(output, flush=True)
    except OSError as error:
        drop_output()
        if not isinstance(error, BrokenPipeError):  # `translog verify … | head`: what was read of it stands
            print(f"translog {command}: the report cannot be written: {error.strerror}", file=sys.stderr)
            return 1
    return 0


def _output(command: str, arguments: argparse.Namespace) -> str:
    """What a command has to say."""
    if command in {"keygen", "inspect"}:
        from translog.cli import inspecting

        return inspecting.keygen(arguments.name) if command == "keygen" else inspecting.inspect(read(arguments.file))
    if command == "verify":
        if is_bundle(arguments.file):
            from translog.cli import bundles

            return bundles.verify(arguments.file, _policy(arguments), _issuer_policy(arguments))
        from translog.cli.verifying import verify

        return verify(read(arguments.file), _policy(arguments), _issuer_policy(arguments))
    from translog.cli.auditing import fsck

    return fsck(arguments.url, _policy(arguments), arguments.cache)


def _follow(arguments: argparse.Namespace) -> int:
    from translog.cli.following import Following, follow

    every = None if arguments.once else arguments.every
    policy = _policy(arguments)
    return follow(Following(arguments.url, policy, arguments.state, arguments.out, every, arguments.start))


def _policy(arguments: argparse.Namespace) -> "Policy":
    return _given_policy("--key", arguments.key, arguments.policy, arguments.origin)


def _issuer_policy(arguments: argparse.Namespace) -> "Policy | None":
    vkeys, file, origin = arguments.issuer_key, arguments.issuer_policy, arguments.issuer_origin
    if vkeys is None and file is None:
        if origin is not None:
            raise UsageError("--issuer-origin: says nothing without --issuer-key or --issuer-policy")
        return None
    return _given_policy("--issuer-key", vkeys, file, origin)


def _given_policy(option: str, vkeys: Sequence[str] | None, file: str | None, origin: str | None) -> "Policy":
    """The policy of a file, or of vkeys, which were given with `option`."""
    from translog.policy import Policy

    if file is not None:
        return Policy.parse(read(file), origin)
    try:
        return Policy.of(*(vkeys or ()), origin=origin)
    except FormatError as error:
        raise UsageError(f"{option}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="translog", description="Keys, proofs and checkpoints of transparency logs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    keygen = commands.add_parser("keygen", help="make a log key: prints the private key, then the vkey")
    keygen.add_argument("name", metavar="NAME", help="the log's origin, such as example.com/log/acme")
    inspect = commands.add_parser("inspect", help="say what is in a file, without verifying anything")
    inspect.add_argument(
        "file",
        metavar="FILE",
        help="a .tlog-proof, a fork's evidence, a checkpoint or another signed note, a key, or a policy",
    )
    verify = commands.add_parser("verify", help="verify evidence offline, and say what it shows")
    verify.add_argument("file", metavar="FILE", help="a .tlog-proof file, an export bundle, or the evidence of a fork")
    _add_policy(verify, "log")
    _add_policy(verify, "issuer's log", "issuer-")
    fsck = commands.add_parser("fsck", help="read a whole log, and compare all that it serves with what it signed")
    fsck.add_argument("url", metavar="URL", help="the log's prefix, under which it has `checkpoint` and `tile/`")
    _add_policy(fsck, "log")
    fsck.add_argument(
        "--cache", metavar="DIR", type=Path, help="keep full tiles there; those that are there are not fetched again"
    )
    follow = commands.add_parser("follow", help="read a log's new entries, each proven, as lines of JSON")
    follow.add_argument("url", metavar="URL", help="the log's prefix, under which it has `checkpoint` and `tile/`")
    _add_policy(follow, "log")
    follow.add_argument(
        "--state", metavar="FILE", type=Path, required=True, help="where to keep how far the log was followed"
    )
    follow.add_argument(
        "--out", metavar="FILE", type=Path, help="append the lines to this file, instead of standard output"
    )
    rounds = follow.add_mutually_exclusive_group()
    rounds.add_argument(
        "--every", metavar="SECONDS", type=_seconds, default=10.0, help="from one look to the next; 10 unless given"
    )
    rounds.add_argument("--once", action="store_true", help="look once, read all that there is, and end")
    follow.add_argument(
        "--from",
        metavar="INDEX",
        dest="start",
        type=_index,
        default=0,
        help="the first entry to read, while the state has none; 0 unless given",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!a} is no number of seconds above 0")
    return seconds


def _index(text: str) -> int:
    try:
        return decimal(text, "index")
    except FormatError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_policy(command: argparse.ArgumentParser, log: str, whose: str = "") -> None:
    """The options that say whose signatures count: of the log itself, or with `whose` of the issuer's."""
    which = command.add_mutually_exclusive_group(required=not whose)
    which.add_argument(
        f"--{whose}key",
        metavar="VKEY",
        action="append",
        help=f"the {log}'s vkey, which you were given by other means than this file; repeat it to accept several logs",
    )
    which.add_argument(
        f"--{whose}policy", metavar="FILE", help="a C2SP tlog-policy file instead: which logs, cosigned by whom"
    )
    command.add_argument(
        f"--{whose}origin",
        metavar="LINE",
        help=f"the origin line of the {log}'s checkpoints, if it is not its key's name",
    )
