"""What the demo is played on: a receiver and a sandbox that know of one another, and what is needed to use them.

Each issuer with something to play is a source of the receiver's, under its provider's name: calls that pass through the
receiver go on to the sandbox, and what the sandbox does it delivers to the receiver, which checks that against the
sandbox's log. All of this is made with the commands that an operator uses.
"""

import json
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from receiver import providers
from receiver.demo.service import DATA, SANDBOX, Service, commands, reserved_port, running
from receiver.demo.telling import Teller
from receiver.events import Via
from receiver.sandbox.issuers import Issuer, issuers

GRACE = 4
"""Seconds that a notice and the issuer's entry of it may be apart: enough for any of them, and soon over."""

_KEYS = (
    ("key", "create", "operator", "--scopes", "operate"),
    ("key", "create", "auditor", "--scopes", "audit,export"),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A receiver and a sandbox that run, and what is needed to use them."""

    folder: Path
    receiver: Service
    sandbox: Service
    issuers: Mapping[str, Issuer]
    """Those with something to play, by their provider's name, which is that of their source as well."""
    webhooks: Mapping[str, str]
    """By the same names, the URLs that deliveries go to."""
    secrets: Mapping[str, str]
    """By the same names, what deliveries are signed with."""
    relay_key: str
    """The operator's: with it calls may pass through."""
    audit_key: str
    """The auditor's: with it one may ask, and change nothing."""
    vkey: str
    """Of the receiver's log."""
    issuer_vkey: str
    """Of the sandbox's log."""

    def relay(self, provider: str) -> str:
        """The base URL of calls that pass through."""
        return f"{self.receiver.url}/relay/{provider}"

    @property
    def services(self) -> tuple[Service, Service]:
        """Both, in the order in which they are to end."""
        return self.sandbox, self.receiver

    def must_run(self) -> None:
        """Raise DemoError if one of them has ended by itself."""
        for service in self.services:
            service.must_run()


@dataclass(frozen=True, slots=True)
class _Made:
    """What the commands printed; paths and secrets are the sources', by name."""

    relay_key: str
    audit_key: str
    paths: Mapping[str, str]
    secrets: Mapping[str, str]
    vkey: str
    issuer_vkey: str


@contextmanager
def set_up(teller: Teller, folder: Path) -> Generator[Stage]:
    """Make the stage in that folder, and tell of it; both services run until the block is left.

    Raises DemoError where something does not come about.
    """
    teller.chapter("1. A receiver, and issuers to receive from")
    playing = {name: issuer for name, issuer in issuers().items() if issuer.scenes}
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())  # the receiver is told of the sandbox before that can be started
        teller.ran("receiver serve")
        with teller.waiting("starting the receiver"):
            receiver = stack.enter_context(running(folder, "receiver", "serve", "--port", "0", "--data", DATA))
        teller.done(f"the receiver listens on {receiver.url}")

        made = _make(teller, folder, list(playing.values()), f"http://127.0.0.1:{port}")
        webhooks = {name: receiver.url + path for name, path in made.paths.items()}

        start = [SANDBOX, "--port", str(port)]
        for name, issuer in playing.items():
            if _is_told(issuer, Via.WEBHOOK) or _is_told(issuer, Via.DECLARED):
                file = _write(folder / f"{name}.secret", made.secrets[name])
                start += ["--deliver", f"{name}={webhooks[name]}", "--deliver-secret", f"{name}={file}"]
        teller.ran(_typed(start))
        with teller.waiting("starting the sandbox"):
            sandbox = stack.enter_context(running(folder, "sandbox", *start, "--data", SANDBOX))
        teller.done(f"the sandbox listens on {sandbox.url}, and is all of the issuers")
        yield Stage(
            folder=folder,
            receiver=receiver,
            sandbox=sandbox,
            issuers=playing,
            webhooks=webhooks,
            secrets=made.secrets,
            relay_key=made.relay_key,
            audit_key=made.audit_key,
            vkey=made.vkey,
            issuer_vkey=made.issuer_vkey,
        )


def _make(teller: Teller, folder: Path, playing: Sequence[Issuer], upstream: str) -> _Made:
    """Keys, and a source for each issuer, whose calls go on to the upstream, and which names the log that is there."""
    ours = ("--data", DATA)
    with teller.waiting("making keys"):
        vkey, issuer_vkey = commands(folder, ("log-key", *ours), ("sandbox-log-key", "--data", SANDBOX))
    # That log cannot be asked yet where it stands; whatever is in it will have been done before our eyes.
    log = (f"--issuer-log-url={upstream}/log", f"--issuer-log-key={issuer_vkey}", "--issuer-log-from=0")
    log = (*log, f"--grace={GRACE}s", "--follow-every=1s")
    adding = [_add(issuer, upstream) for issuer in playing]
    asking = [_give_credential(folder, issuer) for issuer in playing if _is_told(issuer, Via.POLL)]
    made = [*_KEYS, *((*line, *log) for line in adding), *asking]
    with teller.waiting("making keys and sources"):
        printed = commands(folder, *((*line, "--json", *ours) for line in made))
    relay_key, audit_key, *answers = map(json.loads, printed)
    sources = dict(zip((issuer.name for issuer in playing), answers, strict=False))

    teller.ran(*map(_typed, _KEYS))
    teller.done("the operator may pass calls on; the auditor may ask and export")
    teller.ran("receiver log-key", f"ISSUER_VKEY=$(receiver sandbox-log-key --data {SANDBOX})")
    teller.done("the vkeys of both logs, ours and the issuers': proofs are verified with them")
    options = shlex.join(log).replace(upstream, "$SANDBOX").replace(issuer_vkey, "$ISSUER_VKEY")
    teller.ran(f"SANDBOX={upstream}", f'LOG="{options}"')
    teller.ran(*(f"{_typed(line).replace(upstream, '$SANDBOX')} $LOG" for line in adding))
    teller.done("each has a path for its deliveries, a secret, and where its calls go on to")
    teller.done("its events are checked against the issuers' log, where its account is named")
    teller.ran(*map(_typed, asking))
    teller.done("with it the issuer is asked whether what a call began has ended")
    return _Made(
        relay_key["key"],
        audit_key["key"],
        paths={name: source["webhook_path"] for name, source in sources.items()},
        secrets={name: source["secret"] for name, source in sources.items()},
        vkey=vkey,
        issuer_vkey=issuer_vkey,
    )


def _add(issuer: Issuer, upstream: str) -> Sequence[str]:
    options = ("--provider", issuer.name, *issuer.receiver_options, "--account", issuer.account, "--upstream", upstream)
    return "source", "add", issuer.name, *options


def _give_credential(folder: Path, issuer: Issuer) -> Sequence[str]:
    """The sandbox's public credentials are good for reading too."""
    named = providers.get(issuer.name).operation.credentials
    lines = [f"{name}: {value}" for name, value in issuer.scenes[0].headers.items() if name.lower() in named]
    return "source", "credential", issuer.name, "--file", _write(folder / f"{issuer.name}.headers", "\n".join(lines))


def _is_told(issuer: Issuer, via: Via) -> bool:
    """Whether a receiver hears of any of its scenes that way."""
    return any(way is via for scene in issuer.scenes for way, _ in scene.told)


def _write(path: Path, secret: str) -> str:
    """Put it into a file that is nobody else's; the file's name."""
    path.touch(mode=0o600)
    path.write_text(secret)
    return path.name


def _typed(line: Sequence[str]) -> str:
    return shlex.join(("receiver", *line))
