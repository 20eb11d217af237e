"""`receiver source probe`: a source's scheme is found from what it refuses, or from a delivery in two files."""

import base64
import hashlib
import hmac
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest
import sqlalchemy as sa
from click.testing import Result

from receiver.events import format_time, parse_time
from receiver.records.probes import begin_probe, end_probe, load_probes
from receiver.records.tables import held, probes, secrets, sources
from tests.receiver.commands import Commands
from tests.receiver.service import PATIENCE, Sender, Service, at_once, revoked, standard_headers, until

Sign: TypeAlias = Callable[[bytes], dict[str, str]]

SECRET = "whsec_" + "0f" * 32
KEY = bytes.fromhex("0f" * 32)
BODY = b'{"event": "receipt.revoked", "note": "a  b"}'
COMPACT = b'{"event":"receipt.revoked","note":"a  b"}'


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, message, hashlib.sha256)


def timestamped(secret: str, body: bytes) -> dict[str, str]:
    """Signed with a time, which is long ago."""
    signature = mac(secret.encode(), b"1795000000." + body)
    return {"X-Sig": f"t=1795000000,v1={signature.hex()}"}


@pytest.fixture(autouse=True)
def _handlers() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """The command changes what signals do to the process that it has for itself, and here has not."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


# ---- while the service runs ---------------------------------------------------------------------------------------


@pytest.fixture
def commands(service: Service) -> Commands:
    """Commands on the records of the running service."""
    return Commands(service.records.settings.data.parent)


@pytest.fixture
def other_scheme(service: Service) -> Sender:
    """A source whose scheme is not the one that its provider signs by."""
    return service.add_source(secret=f"whsec_{os.urandom(32).hex()}", scheme="token", options={"header": "x-token"})


def name_of(sender: Sender) -> str:
    """The source's name."""
    return sender.endpoint.source.name


def left(service: Service) -> list[int]:
    """How many rows there are of probes and of held deliveries."""
    with service.records.database.read() as tx:
        return [tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in (probes, held)]


def probing(commands: Commands, sender: Sender, work: Callable[[], object]) -> Result:
    """What the command comes to while that is done, as soon as the service knows of the probe."""

    def when_it_is_on() -> None:
        until(lambda: sender.endpoint.probe is not None)
        work()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(when_it_is_on)
        result = commands.run("source", "probe", name_of(sender), "--for", "30s")
        working.result()
    return result


def post(sender: Sender, headers: Mapping[str, str], body: bytes = BODY) -> int:
    """A delivery with these headers; the status of its answer."""
    return sender.service.client.post(sender.path, content=body, headers=headers).status_code


def test_a_scheme_is_found_while_the_service_runs(service: Service, commands: Commands, other_scheme: Sender) -> None:
    """From the one delivery that the provider made among those of others; nothing stays of any of them."""
    sender, digits = other_scheme, other_scheme.secret.removeprefix("whsec_")
    signature = "sha256=" + mac(bytes.fromhex(digits), COMPACT).hex()

    def deliver() -> None:
        assert post(sender, {}) == 401
        assert post(sender, {"X-Provider-Signature": "sha256=" + "0" * 64}) == 401
        assert post(sender, {"X-Provider-Signature": signature}) == 401

    result = probing(commands, sender, deliver)

    assert result.exit_code == 0, result.output
    *words, line = result.stdout.splitlines()
    assert " ".join(words) == (
        "A delivery fits: the HMAC-SHA256 of the body without the whitespace outside of its strings, in hex, in the "
        "header x-provider-signature after sha256=; the key is the secret read as hex. "
        "What stands before the signature is taken from this one delivery: it must be so in every one."
    )
    assert shlex.split(line) == [
        *("receiver", "source", "set", name_of(sender), "--scheme", "hmac", "--header", "x-provider-signature"),
        *("--prefix", "sha256=", "--key-form", "hex", "--strip-whitespace", "--data", str(commands.data)),
    ]
    assert f"Deliveries to {sender.path} that are refused are tried until 20" in result.stderr
    assert digits not in result.output
    assert left(service) == [0, 0]


def test_what_is_printed_can_be_run(service: Service, commands: Commands, other_scheme: Sender) -> None:
    """And then the provider's next delivery is let in."""
    key = other_scheme.secret.removeprefix("whsec_").encode()

    def sign(body: bytes) -> dict[str, str]:
        return {"X-Sig": 'keyId="a key", ' + base64.b64encode(mac(key, body)).decode()}

    result = probing(commands, other_scheme, lambda: post(other_scheme, sign(BODY)))
    program, *words = shlex.split(result.stdout.splitlines()[-1])
    assert (program, words[-2:]) == ("receiver", ["--data", str(commands.data)])

    commands.ok(*words[:-2])
    service.refresh()

    body = revoked()
    assert post(other_scheme, sign(body), body) == 200


def test_a_clock_that_is_off_is_told(commands: Commands, other_scheme: Sender) -> None:
    """Since the scheme alone would not let the delivery in."""
    headers = timestamped(other_scheme.secret, BODY)

    result = probing(commands, other_scheme, lambda: post(other_scheme, headers))

    first, second, line = result.stdout.splitlines()
    assert first == "A delivery fits: an HMAC-SHA256 of time and body, as t=…,v1=… in the header x-sig."
    assert second.startswith("Its timestamp was more than 300 s off when it came: compare the clocks")
    assert line.startswith(f"receiver source set {name_of(other_scheme)} --scheme timestamped-hmac --header x-sig")


def test_it_ends_after_twenty(service: Service, commands: Commands) -> None:
    """Status 1, how many were tried, and what to look at; nothing on standard output."""
    sender = service.add_source()
    wrong = {"X-Sig": mac(b"another secret", BODY).hex()}

    result = probing(commands, sender, lambda: at_once(4, lambda _: [post(sender, wrong) for _ in range(6)]))

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: 20 deliveries were tried, and no scheme fits. Check that the secret is the one" in result.stderr
    assert "no proxy changes bodies" in result.stderr
    said = re.search(r"are tried until (\S+)\. ", result.stderr)
    assert said is not None
    assert datetime.now(UTC) < parse_time(said[1])
    assert left(service) == [0, 0]


def test_nothing_came(service: Service, commands: Commands, sender: Sender) -> None:
    """Until the time was over: status 1 that says what to look at."""
    result = commands.run("source", "probe", name_of(sender), "--for", "1s")

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Error: nothing came to {sender.path} that was refused" in result.stderr
    assert left(service) == [0, 0]


@contextmanager
def started(commands: Commands, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """The command as a process of its own, which has said that it is on."""
    program = "from receiver.entry import main; main()"
    command = [sys.executable, "-c", program, "source", "probe", *arguments, "--data", str(commands.data)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=commands.environment, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("Deliveries to /webhooks/")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(
    service: Service, commands: Commands, sender: Sender, number: signal.Signals
) -> None:
    """Status 130, a sentence, and nothing left of what was held."""
    with started(commands, name_of(sender)) as process:
        until(lambda: sender.endpoint.probe is not None)
        post(sender, {})
        assert left(service) == [1, 1]
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)

    assert (process.returncode, said) == (130, "The probe was ended, and what it held is deleted.\n")
    assert left(service) == [0, 0]


def test_it_lasts_as_long_as_is_said(service: Service, commands: Commands, sender: Sender) -> None:
    """A quarter of an hour unless given; meanwhile a second one is refused and says until when."""
    for arguments, seconds in (((), 900), (("--for", "24h"), 86_400)):
        began = datetime.now(UTC)
        with started(commands, name_of(sender), *arguments) as process:
            end = load_probes(service.records)[sender.source_id]
            said = commands.refused("source", "probe", name_of(sender))
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        assert began < end - timedelta(seconds=seconds) < datetime.now(UTC)
        assert f"this source is being probed already, until {format_time(end)}" in said


def test_a_second_probe_does_not_end_the_first(service: Service, commands: Commands, sender: Sender) -> None:
    """By being refused."""
    end = begin_probe(service.records, sender.source_id, 60)

    commands.refused("source", "probe", name_of(sender))

    assert left(service) == [1, 0]
    end_probe(service.records, sender.source_id, end)


def test_a_source_that_takes_nothing(service: Service, commands: Commands, sender: Sender) -> None:
    """A disabled one, and one that has no secret any more, are not waited for."""
    with service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == sender.source_id).values(enabled=False))
    disabled = commands.refused("source", "probe", name_of(sender))
    with service.records.database.write() as tx:
        ended = sa.update(secrets).where(secrets.c.source_id == sender.source_id)
        tx.execute(ended.values(not_after=format_time(datetime.now(UTC))))
    without = commands.refused("source", "probe", name_of(sender))

    assert f"source {name_of(sender)} is disabled, so no delivery reaches it: enable it first" in disabled
    assert f"source {name_of(sender)} has no secret to try: give it one with `receiver source rotate`" in without
    assert left(service) == [0, 0]


# ---- from files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """A folder with the sources `shop` and, of another tenant, `a shop's`, which share no secret; no service runs."""
    commands = Commands(tmp_path_factory.mktemp("offline"))
    add = ("source", "add", "--provider", "truthlocks", "--scheme", "token", "--header", "x-token", "--secret-stdin")
    commands.ok(*add, "shop", stdin=SECRET.encode())
    standard = "whsec_" + base64.b64encode(KEY).decode()
    commands.ok(*add, "a shop's", "--tenant", "second", stdin=standard.encode())
    return commands


def files(commands: Commands, headers: bytes, body: bytes = BODY) -> tuple[str, ...]:
    """The options that name a delivery's two files."""
    one, two = commands.folder / "headers", commands.folder / "body"
    one.write_bytes(headers)
    two.write_bytes(body)
    return ("--headers", str(one), "--body", str(two))


def written(headers: Mapping[str, str]) -> bytes:
    """As HTTP writes them."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def in_text(key: str) -> dict[str, str]:
    """The HMAC of the body in hex, under a key that is text."""
    return {"X-Sig": mac(key.encode(), BODY).hex()}


@pytest.mark.parametrize(
    ("headers", "words", "options"),
    [
        (timestamped(SECRET, BODY), "an HMAC-SHA256 of time and body, as t=…,v1=…", "timestamped-hmac"),
        (in_text(SECRET), "in hex, in the header x-sig; the key is the secret's text.", "hmac"),
        (
            in_text(SECRET[6:]),
            "in the header x-sig; the key is the secret's text after whsec_.",
            "hmac --key-form text-without-whsec",
        ),
        (
            {"X-Sig": base64.b64encode(mac(KEY, COMPACT)).decode()},
            "in base64, in the header x-sig; the key is the secret read as hex.",
            "hmac --encoding base64 --key-form hex --strip-whitespace",
        ),
        (
            {"X-Sig": SECRET},
            "the secret itself, in the header x-sig. Neither body nor time is signed.",
            "token",
        ),
    ],
)
def test_a_scheme_is_found_from_files(offline: Commands, headers: dict[str, str], words: str, options: str) -> None:
    """Whenever it was signed; in words, and as the command that sets it, in which defaults are left out."""
    first, *_, line = offline.ok("source", "probe", "shop", *files(offline, written(headers))).splitlines()

    assert first.startswith("A delivery fits: ")
    assert first.endswith(words) or words in first
    scheme, *more = options.split()
    assert shlex.split(line) == [
        *("receiver", "source", "set", "shop", "--scheme", scheme, "--header", "x-sig", *more),
        *("--data", str(offline.data)),
    ]


def test_a_name_and_a_tenant_are_written_for_the_shell(offline: Commands) -> None:
    """Whatever is in them."""
    headers = standard_headers("whsec_" + base64.b64encode(KEY).decode(), BODY)

    arguments = ("source", "probe", "a shop's", "--tenant", "second", *files(offline, written(headers)))
    first, line = offline.ok(*arguments).splitlines()

    assert first == "A delivery fits: Standard Webhooks, which signs an id, the time and the body."
    assert shlex.split(line) == [
        *("receiver", "source", "set", "a shop's", "--scheme", "standard-webhooks", "--tenant", "second"),
        *("--data", str(offline.data)),
    ]


@pytest.mark.parametrize(
    "form",
    [
        "X-Sig: {}\n",
        "x-sig:{}",
        "POST /webhooks/0 HTTP/1.1\r\nHost: a\r\nX-SIG: \t{} \r\n\r\n",
        "POST http://a:8000/webhooks/0 HTTP/1.1\nX-Sig: {}\n",
        "HTTP/2 200\nX-Sig: {}\n",
        "HTTP/1.1 401 Unauthorized\r\nX-Sig: {}\r\n",
        "\nHost: a\n\nX-Sig: {}\n\n",
        "X-Other: caf\u00e9\nX-Sig: {}\n",
    ],
)
def test_headers_as_they_are_written_down(offline: Commands, form: str) -> None:
    """Names in any case, lines that end either way, empty ones, and before them all the first line of a message."""
    headers = form.format(mac(SECRET.encode(), BODY).hex()).encode()

    assert "--scheme hmac --header x-sig" in offline.ok("source", "probe", "shop", *files(offline, headers))


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (b"Host: a\nX-Sig\n", "line 2 is no header, `Name: value`"),
        (b"Host: a\n: x\n", "line 2 is no header"),
        (b"X-Sig: a\n  folded: b\n", "line 2 is no header"),
        (b"X-Sig : a\n", "line 1 is no header"),
        (b"Host: a\nPOST / HTTP/1.1\n", "line 2 is no header"),
        (b"X-Sig: " + b"a" * 65_536, "the headers of a delivery are at most 65536 bytes"),
    ],
)
def test_headers_that_are_none(offline: Commands, headers: bytes, says: str) -> None:
    """The file and the line are named."""
    given = files(offline, headers)

    assert f"Error: {given[1]}: " in (said := offline.refused("source", "probe", "shop", *given))
    assert says in said


def test_from_files_nothing_fits(offline: Commands) -> None:
    """Status 1 that says what to look at."""
    said = offline.refused("source", "probe", "shop", *files(offline, written(in_text("another secret"))))

    assert "Error: 1 delivery was tried, and no scheme fits. Check that the secret is the one" in said


def test_what_a_delivery_cannot_tell_is_said(offline: Commands) -> None:
    """A body without whitespace fits both rules."""
    headers = written({"X-Sig": mac(SECRET.encode(), COMPACT).hex()})

    _, remark, line = offline.ok("source", "probe", "shop", *files(offline, headers, COMPACT)).splitlines()

    assert remark.startswith("The body has no whitespace outside of strings, so this delivery cannot tell whether")
    assert "--strip-whitespace" not in line


def test_a_scheme_that_the_source_has_is_said_to_be_so(offline: Commands) -> None:
    """The line is printed all the same: it changes nothing."""
    given = files(offline, b"X-Token: " + SECRET.encode())

    _, remark, line = offline.ok("source", "probe", "shop", *given).splitlines()

    assert remark == "The source has this scheme already."
    assert line.startswith("receiver source set shop --scheme token --header x-token")


def test_from_files_nothing_is_written(offline: Commands, tmp_path: Path) -> None:
    """Neither to the database nor beside it; where there are no records, none are made."""
    given = files(offline, written(in_text(SECRET)))
    before = {file: file.read_bytes() for file in offline.data.iterdir()}

    offline.ok("source", "probe", "shop", *given)

    assert {file: file.read_bytes() for file in offline.data.iterdir()} == before
    nowhere = Commands(tmp_path)
    assert "there is no data folder" in nowhere.refused("source", "probe", "shop", *given)
    assert not nowhere.data.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 2, "Missing argument 'NAME'"),
        (("nobody",), 1, "tenant default has no source named 'nobody'"),
        (("a shop's",), 1, "tenant default has no source named"),
        (("shop", "--tenant", "second"), 1, "tenant second has no source named 'shop'"),
        (("shop", "--for", "0"), 2, "a probe lasts at least a second and at most 24h"),
        (("shop", "--for", "86401s"), 2, "at most 24h"),
        (("shop", "--for", "soon"), 2, "'soon' must be a number and its unit, such as 90s, 15m, 24h or 7d"),
        (("shop", "--headers", "x"), 2, "give --headers and --body together, or neither"),
        (("shop", "--body", "x"), 2, "give --headers and --body together, or neither"),
        (("shop", "--headers", "nope", "--body", "nope"), 1, "nope: No such file or directory"),
    ],
)
def test_what_cannot_be(offline: Commands, arguments: tuple[str, ...], status: int, says: str) -> None:
    """Each says what it is."""
    said = offline.refused("source", "probe", *arguments, status=status)

    assert says in re.sub(r"\s+", " ", said)
