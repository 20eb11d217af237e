"""`receiver sandbox` and `receiver sandbox-log-key`: the real commands, the sandbox in a process that can be killed."""

import base64
import json
import signal
import threading
import time
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

from receiver import providers
from receiver.cli import cli
from receiver.providers import Notice
from receiver.sandbox.ledger import Ledger
from receiver.server import listen
from receiver.strictjson import parse
from tests.receiver.service import until
from tests.sandbox.inbox import Inbox, inbox
from tests.sandbox.monitor import must_continue, read_checkpoint, read_log
from tests.sandbox.process import DATA, Process, started
from translog.note import VerifyingKey

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
REDEMPTION = "/v1/redemptions/550e8400-e29b-41d4-a716-446655440001"
HEADERS = {"X-API-Key": "scrip_sandbox"}
KILLS = 4
SENDERS = 4
LOADED = 20  # answers in a round before the kill


def reverse(sandbox: Process, key: str) -> httpx2.Response:
    """Take back one of a redemption's 1000.00, once however often it is asked under that key."""
    asked = {"amount": "1.00", "idempotency_key": key, "reason": "a test"}
    return sandbox.client.post(f"{REDEMPTION}/reverse", headers=HEADERS, json=asked)


def run(folder: Path, *arguments: str, command: str = "sandbox") -> Result:
    """A command that ends at once, on the sandbox of that folder."""
    return CliRunner().invoke(cli, [command, *arguments, "--data", str(folder / DATA)])


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A file with a secret, as `--deliver-secret` names it."""
    file = tmp_path / "secret.txt"
    file.write_text(f"{SECRET}\n")
    return f"scrip={file}"


def refused(result: Result, status: int = 2) -> str:
    """What a command that must not succeed says on standard error: a sentence, and no traceback."""
    assert isinstance(result.exception, SystemExit), result.output
    assert (result.exit_code, result.stdout) == (status, "")
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


# ---- being told wrong ---------------------------------------------------------------------------------------------


def test_a_destination_needs_a_secret_and_a_secret_a_destination(tmp_path: Path, secret: str) -> None:
    """Nothing is delivered unsigned, and no secret is given for nothing."""
    said = "--deliver and --deliver-secret go together: scrip has no"

    assert f"{said} --deliver-secret" in refused(run(tmp_path, "--deliver", "scrip=http://127.0.0.1/"))
    assert f"{said} --deliver" in refused(run(tmp_path, "--deliver-secret", secret))


@pytest.mark.parametrize("given", ["nobody=http://127.0.0.1/", "http://127.0.0.1/", "=http://127.0.0.1/", ""])
def test_the_provider_must_be_one(given: str, tmp_path: Path) -> None:
    """And those there are, are named."""
    said = refused(run(tmp_path, "--deliver", given))

    assert "must begin with a provider and =; known: capillary, scrip, thanx, truthlocks, voucherify" in said


@pytest.mark.parametrize("option", ["--deliver", "--deliver-secret"])
def test_a_provider_is_given_once(option: str, tmp_path: Path) -> None:
    """And with something."""
    assert "scrip is given twice" in refused(run(tmp_path, option, "scrip=a", option, "scrip=b"))
    assert "must say something after the =" in refused(run(tmp_path, option, "scrip="))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:80", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http:///x", "http://h:99999/", "http://["],
)
def test_a_destination_must_be_a_url_of_the_web(url: str, tmp_path: Path, secret: str) -> None:
    """With a host."""
    said = refused(run(tmp_path, "--deliver", f"scrip={url}", "--deliver-secret", secret))

    assert "must be an http:// or https:// URL" in said


def test_a_secret_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Before anything is listened for; it is not shown."""
    file = tmp_path / "secret.txt"
    file.write_text("whsec_no base64")
    options = ("--deliver", "scrip=http://127.0.0.1/", "--deliver-secret", f"scrip={file}")

    said = refused(run(tmp_path, *options), 1)
    assert f"{file} holds no secret for scrip" in said
    assert "no base64" not in said
    file.write_text("\n")
    assert "the secret is empty" in refused(run(tmp_path, *options), 1)
    file.unlink()
    assert "No such file or directory" in refused(run(tmp_path, *options), 1)


@pytest.mark.parametrize("text", ["a-tok\u00e9n-that-is-long-enough", "a-token-that-has\ntwo-lines"])
def test_a_token_must_fit_into_a_header(text: str, tmp_path: Path) -> None:
    """Or nothing could ever be delivered; it is not shown."""
    file = tmp_path / "secret.txt"
    file.write_text(text)
    options = ("--deliver", "capillary=http://127.0.0.1/", "--deliver-secret", f"capillary={file}")

    said = refused(run(tmp_path, *options), 1)

    assert f"{file} holds no secret for capillary: no header can carry it" in said
    assert "long-enough" not in said
    assert "two-lines" not in said


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    """In a sentence."""
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    try:
        said = refused(run(tmp_path, "--port", str(port)), 1)
    finally:
        taken.close()

    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in said


def test_a_folder_that_cannot_be_one_is_said_to_be(tmp_path: Path) -> None:
    """In a sentence."""
    (tmp_path / DATA).write_text("a file")

    assert "File exists" in refused(run(tmp_path), 1)
    assert "File exists" in refused(run(tmp_path, command="sandbox-log-key"), 1)


# ---- running ------------------------------------------------------------------------------------------------------


def test_the_log_key_is_printed(tmp_path: Path) -> None:
    """The same every time, before the first start and while it runs; the log is signed by it."""
    printed = run(tmp_path, command="sandbox-log-key")
    assert (printed.exit_code, printed.stderr) == (0, "")
    vkey = printed.stdout.removesuffix("\n")
    assert str(VerifyingKey.parse(vkey)) == vkey

    with started(tmp_path) as sandbox:
        assert sandbox.vkey == vkey
        assert run(tmp_path, command="sandbox-log-key").stdout == printed.stdout
        assert read_checkpoint(sandbox.client, vkey).size == 0


def test_it_listens_on_loopback_only_unless_told_otherwise(tmp_path: Path) -> None:
    """Its credentials are public; where others reach it, that is said."""
    with started(tmp_path) as sandbox:
        assert "listens on http://127.0.0.1:" in sandbox.told
        assert "warning" not in sandbox.told
    with started(tmp_path, "--host", "0.0.0.0") as sandbox:
        assert "warning: whoever reaches 0.0.0.0 can use it, for its credentials are public" in sandbox.told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(number: int, tmp_path: Path) -> None:
    """With 0, and what was done is published."""
    with started(tmp_path) as sandbox:
        assert reverse(sandbox, "one").status_code == 201
        assert sandbox.end(number) == 0
    ledger = Ledger.open(tmp_path / DATA)
    assert ledger.log.published_size == 1
    ledger.close()


def test_what_it_delivers_it_says(tmp_path: Path, secret: str) -> None:
    """To whom, and once for all times that it fails; never the secret."""
    with inbox() as there, started(tmp_path, "--deliver", f"scrip={there.url}", "--deliver-secret", secret) as sandbox:
        assert f"Notices of scrip are delivered to {there.url}" in sandbox.told
        there.answers = lambda delivery: 503 if there.count(delivery.id) < 3 else 200
        assert reverse(sandbox, "one").status_code == 201
        until(lambda: there.taken)
        assert sandbox.end(signal.SIGTERM) == 0

    said = (tmp_path / "said.txt").read_text()
    assert said.count("was not taken, and is sent again: it was answered with 503") == 1
    assert "HTTP Request" not in said
    assert SECRET not in said


@pytest.mark.parametrize("command", ["sandbox", "sandbox-log-key"])
@pytest.mark.parametrize("name", ["rescind.db", "data.key"])
def test_the_folder_of_a_receiver_is_refused(command: str, name: str, tmp_path: Path) -> None:
    """With a sentence, and nothing is put into it."""
    folder = tmp_path / DATA
    folder.mkdir()
    (folder / name).touch()

    said = refused(run(tmp_path, command=command), status=1)

    assert f"is a receiver's data folder ({name} is in it): name another by --data" in said
    assert [name] == [file.name for file in folder.iterdir()]


# ---- killed -------------------------------------------------------------------------------------------------------


class Load:
    """Several senders that reverse as fast as they are answered, until nobody answers any more."""

    def __init__(self, sandbox: Process) -> None:
        self.answered: list[str] = []
        """The ids of the reversals that were answered."""
        self._sandbox = sandbox
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]

    def kill_in_the_middle(self) -> None:
        """Send, and kill the sandbox while it is at work."""
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answered) >= LOADED)
        assert self._sandbox.end(signal.SIGKILL) == -signal.SIGKILL
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        while True:
            try:
                answer = reverse(self._sandbox, f"{number} {time.monotonic_ns()}")
            except httpx2.TransportError:
                return
            assert answer.status_code == 201, answer.text
            self.answered.append(answer.json()["id"])


def operations(there: Inbox) -> set[str | None]:
    """What was taken, by the ids of the acts, as a receiver reads them."""
    found: set[str | None] = set()
    for body in there.bodies():
        notice = providers.get("scrip").read(parse(body))
        assert isinstance(notice, Notice)
        found.add(notice.event.operation)
    return found


def test_what_was_done_survives_every_kill(tmp_path: Path, secret: str) -> None:
    """Killed at work, whether or not notices are taken: in the end every act is in the log once, and was delivered."""
    answered: list[str] = []
    vkey = run(tmp_path, command="sandbox-log-key").stdout.strip()
    with inbox() as there:
        deliver = ("--deliver", f"scrip={there.url}", "--deliver-secret", secret)
        with started(tmp_path, *deliver) as sandbox:
            earlier = read_checkpoint(sandbox.client, vkey)

        for kill in range(KILLS):
            there.answers = lambda _, taken=bool(kill % 2): 204 if taken else 503
            with started(tmp_path, *deliver) as sandbox:
                earlier = must_continue(sandbox.client, vkey, earlier)
                load = Load(sandbox)
                load.kill_in_the_middle()
                answered += load.answered

        there.answers = lambda _: 204
        with started(tmp_path, *deliver) as sandbox:
            reversed_amount = sandbox.client.get(REDEMPTION, headers=HEADERS).json()["reversed_amount"]
            size = int(Decimal(reversed_amount))
            until(lambda: read_checkpoint(sandbox.client, vkey).size == size)
            must_continue(sandbox.client, vkey, earlier)
            logged = [json.loads(entry)["operation"] for entry in read_log(sandbox.client, vkey)]
            until(lambda: operations(there) == set(logged))

    assert len(set(logged)) == size
    assert set(answered) <= set(logged)
