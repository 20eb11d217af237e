"""What the demo is played on: a receiver and a sandbox that know of one another, and what is needed to use them.

Each issuer with something to play is a source of the receiver's, under its provider's name: calls that pass through the
receiver go on to the sandbox, and what the sandbox does it delivers to the receiver. All of this is made with the
commands that an operator uses.
"""

import json
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from receiver import providers
from receiver.demo.service import DATA, Service, commands, reserved_port, running
from receiver.demo.telling import Teller
from receiver.events import Via
from receiver.sandbox.issuers import Issuer, issuers

_KEYS = (("key", "create", "operator", "--scopes", "operate"), ("key", "create", "auditor", "--scopes", "audit"))


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
    relay_key: str
    """The operator's: with it calls may pass through."""
    audit_key: str
    """The auditor's: with it one may ask, and change nothing."""
    vkey: str
    """Of the receiver's log."""

    def relay(self, provider: str) -> str:
        """The base URL of calls that pass through."""
        return f"{self.receiver.url}/relay/{provider}"

    @property
    def services(self) -> tuple[Service, Service]:
        """Both, in the order in which they are to end."""
        return self.sandbox, self.receiver


@contextmanager
def set_up(teller: Teller, folder: Path) -> Generator[Stage]:
    """Make the stage in that folder, and tell of it; both services run until the block is left.

    Raises DemoError where something does not come about.
    """
    teller.chapter("1. A receiver, and five issuers to receive from")
    playing = {name: issuer for name, issuer in issuers().items() if issuer.scenes}
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())  # the receiver is told of the sandbox before that can be started
        upstream = f"http://127.0.0.1:{port}"

        teller.ran("receiver serve")
        with teller.waiting("starting the receiver"):
            receiver = stack.enter_context(running(folder, "receiver", "serve", "--port", "0", "--data", DATA))
        teller.done(f"the receiver listens on {receiver.url}")

        adding = [_add(issuer, upstream) for issuer in playing.values()]
        asking = [_give_credential(folder, issuer) for issuer in playing.values() if _is_told(issuer, Via.POLL)]
        with teller.waiting("making keys and sources"):
            printed = commands(folder, *(_as_json(line) for line in (*_KEYS, *adding, *asking)), ("log-key",))
        keys = [json.loads(line)["key"] for line in printed[: len(_KEYS)]]
        sources = [json.loads(line) for line in printed[len(_KEYS) : len(_KEYS) + len(adding)]]
        teller.ran(*map(_typed, _KEYS))
        teller.done("the operator may pass calls on; the auditor may ask, and change nothing")
        teller.ran(f"SANDBOX={upstream}", *(_typed(line).replace(upstream, "$SANDBOX") for line in adding))
        teller.done("each has a webhook's path, a secret, and a base URL that calls go on to")
        teller.ran(*map(_typed, asking))
        teller.done("with this the provider is asked what became of a call")

        webhooks = {name: receiver.url + source["webhook_path"] for name, source in zip(playing, sources, strict=True)}
        options: list[str] = []
        for (name, issuer), source in zip(playing.items(), sources, strict=True):
            if _is_told(issuer, Via.WEBHOOK) or _is_told(issuer, Via.DECLARED):
                secret = _write(folder / f"{name}.secret", source["secret"])
                options += ["--deliver", f"{name}={webhooks[name]}", "--deliver-secret", f"{name}={secret}"]
        start = ("sandbox", "--port", str(port), *options)
        teller.ran(_typed(start))
        with teller.waiting("starting the sandbox"):
            sandbox = stack.enter_context(running(folder, "sandbox", *start, "--data", "sandbox"))
        teller.done(f"the sandbox listens on {sandbox.url}, and is all five issuers")
        yield Stage(folder, receiver, sandbox, playing, webhooks, *keys, vkey=printed[-1])


def _add(issuer: Issuer, upstream: str) -> Sequence[str]:
    options = ("--provider", issuer.name, *issuer.receiver_options, "--upstream", upstream)
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


def _as_json(line: Sequence[str]) -> Sequence[str]:
    return *line, "--json"


def _typed(line: Sequence[str]) -> str:
    return shlex.join(("receiver", *line))
