"""The `receiver` command: what each of them prints and does."""

import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx2
import pytest
from click.testing import CliRunner

from receiver.cli import cli
from receiver.records.apikeys import find_key
from receiver.records.sources import Source, load_sources
from tests.receiver.commands import Commands
from tests.receiver.service import revoked, standard_headers
from translog.evidence import Leaf
from translog.note import VerifyingKey

UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder to run commands in."""
    return Commands(tmp_path)


def sources(commands: Commands) -> list[Source]:
    """The sources as the service reads them."""
    records = commands.records()
    try:
        return load_sources(records)
    finally:
        records.close()


def leaves(commands: Commands, tenant: str = "default") -> list[Leaf]:
    """The entries of a tenant's log."""
    records = commands.records()
    try:
        log = records.tenant(tenant).log
        with records.database.read() as tx:
            return [Leaf.parse(entry) for entry in log.store.entries(tx, 0, log.head().size)]
    finally:
        records.close()


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Generator[tuple[str, ...]]:
    """The names of all commands there are."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        yield (*path, name)


# ---- init, migrate, log-key ---------------------------------------------------------------------------------------


def test_init_makes_a_data_folder(commands: Commands) -> None:
    """With a data key that only its owner may read, a database, and the log of the tenant `default`."""
    printed = commands.ok("init", "--origin", "example.com/rescind")

    first, second = printed.splitlines()
    assert first == f"{commands.data} is ready."
    vkey = VerifyingKey.parse(second.removeprefix("Log of tenant default: "))
    assert vkey.name == "example.com/rescind/log/default"
    assert sorted(file.name for file in commands.data.iterdir())[:2] == ["data.key", "rescind.db"]
    assert stat.S_IMODE((commands.data / "data.key").stat().st_mode) == 0o600
    assert len(list((commands.folder / "guard").glob("*.checkpoint"))) == 1
    assert [leaf.facts for leaf in leaves(commands)] == [{"action": "created", "by": "command", "id": "default"}]


def test_init_again_changes_nothing(commands: Commands) -> None:
    """The same key, the same log; with or without the origin that it has."""
    printed = commands.ok("init", "--origin", "example.com/rescind")

    assert commands.ok("init") == printed
    assert commands.ok("init", "--origin", "example.com/rescind") == printed
    assert len(leaves(commands)) == 1


def test_without_an_origin_one_is_made_up(commands: Commands) -> None:
    """Under a name that resolves nowhere (RFC 2606)."""
    assert re.search(r"Log of tenant default: rescind\.invalid/[0-9a-f]{16}/log/default\+", commands.ok("init"))


def test_migrate(commands: Commands) -> None:
    """Says that the schema is the newest, as often as it is asked."""
    assert [commands.ok("migrate") for _ in range(2)] == ["The schema is up to date.\n"] * 2


def test_log_key(commands: Commands) -> None:
    """One line with the vkey of the tenant's log, and nothing else."""
    commands.ok("key", "create", "k", "--scopes", "audit", "--tenant", "second")

    keys = [commands.ok("log-key"), commands.ok("log-key", "--tenant", "second")]

    assert [key.count("\n") for key in keys] == [1, 1]
    assert [VerifyingKey.parse(key.strip()).name.rpartition("/")[2] for key in keys] == ["default", "second"]
    assert commands.ok("log-key") == keys[0]


# ---- source -------------------------------------------------------------------------------------------------------


def test_a_source_with_a_secret_that_is_made(commands: Commands) -> None:
    """The secret is printed this once, in the form of its scheme; the log tells of the source, not of the secret."""
    printed = commands.json("source", "add", "shop", "--provider", "truthlocks", "--scheme", "standard-webhooks")

    assert sorted(printed) == ["id", "secret", "webhook_path"]
    assert re.fullmatch(UUID7, printed["id"])
    assert printed["webhook_path"] == f"/webhooks/{printed['id']}"
    (source,) = sources(commands)
    assert (source.id, source.name, source.provider, source.tenant) == (printed["id"], "shop", "truthlocks", "default")
    assert (source.scheme, source.scheme_options, source.account) == ("standard-webhooks", {}, None)
    assert (source.replay_window, source.rate_limit, source.enabled, source.test) == (300, None, True, False)
    assert [one.value for one in source.secrets] == [printed["secret"]]
    assert printed["secret"].startswith("whsec_")
    leaf = leaves(commands)[-1]
    assert (leaf.kind, leaf.facts) == ("source", {"action": "added", "by": "command", "id": source.id})
    stored = b"".join(file.read_bytes() for file in commands.data.glob("rescind.db*"))
    assert printed["secret"].removeprefix("whsec_").encode() not in stored


def test_in_words(commands: Commands) -> None:
    """The same for people."""
    printed = commands.ok("source", "add", "shop", "--provider", "truthlocks", "--scheme", "token", "--header", "x-t")

    first, second, third = printed.splitlines()
    assert re.fullmatch(rf"Source shop \({UUID7}\)", first)
    assert re.fullmatch(rf"Webhook path: /webhooks/{UUID7}", second)
    assert re.fullmatch("Secret, shown this once: [0-9a-f]{64}", third)


@pytest.mark.parametrize(
    ("options", "scheme", "kept"),
    [
        (["--scheme", "standard-webhooks"], "standard-webhooks", {}),
        (["--scheme", "timestamped-hmac", "--header", "X-Sig"], "timestamped-hmac", {"header": "x-sig"}),
        (["--scheme", "token", "--header", "X-Token"], "token", {"header": "x-token"}),
        (
            ["--scheme", "hmac", "--header", "X-Sig"],
            "hmac",
            {"header": "x-sig", "prefix": "", "encoding": "hex", "key_form": "text", "strip_whitespace": False},
        ),
        (
            [
                *("--scheme", "hmac", "--header", "x", "--prefix", "sha256="),
                *("--encoding", "base64", "--key-form", "base64", "--strip-whitespace"),
            ],
            "hmac",
            {"header": "x", "prefix": "sha256=", "encoding": "base64", "key_form": "base64", "strip_whitespace": True},
        ),
    ],
)
def test_every_scheme_and_option(commands: Commands, options: list[str], scheme: str, kept: dict[str, Any]) -> None:
    """As given, and otherwise as by default."""
    commands.ok("source", "add", "s", "--provider", "truthlocks", *options)

    (source,) = sources(commands)
    assert (source.scheme, source.scheme_options) == (scheme, kept)


def test_account_window_and_tenant(commands: Commands) -> None:
    """The tenant is made on first use."""
    options = ["--account", "acc 1", "--replay-window", "60", "--tenant", "second", "--scheme", "standard-webhooks"]
    commands.ok("source", "add", "s", "--provider", "truthlocks", *options)

    (source,) = sources(commands)
    assert (source.account, source.replay_window, source.tenant) == ("acc 1", 60, "second")
    assert [leaf.kind for leaf in leaves(commands, "second")] == ["tenant", "source"]


SECRET = "a secret of more than twenty-four bytes"


@pytest.mark.parametrize(
    ("written", "secret"),
    [
        (SECRET, SECRET),
        (f"{SECRET}\n", SECRET),
        (f"{SECRET}\r\n", SECRET),
        (f"{SECRET}\n\n", f"{SECRET}\n"),
        (f" {SECRET}", f" {SECRET}"),
        ("Schlüssel unter der Fußmatte", "Schlüssel unter der Fußmatte"),
        ("x" * 4096, "x" * 4096),
    ],
)
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_secret_that_is_given(commands: Commands, written: str, secret: str, way: str) -> None:
    """By file or standard input, without its one trailing newline; it is not printed again."""
    file = commands.folder / "secret"
    file.write_bytes(written.encode())
    given = ["--secret-file", str(file)] if way == "file" else ["--secret-stdin"]
    stdin = None if way == "file" else written.encode()
    options = ["--provider", "truthlocks", "--scheme", "hmac", "--header", "x", *given]

    result = commands.run("source", "add", "s", *options, "--json", stdin=stdin)

    assert result.exit_code == 0
    assert sorted(json.loads(result.stdout)) == ["id", "webhook_path"]
    assert secret.strip() not in result.output
    (source,) = sources(commands)
    assert [one.value for one in source.secrets] == [secret]


def test_a_short_secret_is_warned_of(commands: Commands) -> None:
    """On standard error, without showing it; it is taken all the same."""
    options = ["--provider", "truthlocks", "--scheme", "token", "--header", "x", "--secret-stdin", "--json"]
    result = commands.run("source", "add", "s", *options, stdin=b"hunter2\n")

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: the secret is short: 7 bytes")
    assert "hunter2" not in result.output
    assert result.stdout.count("\n") == 1


# ---- key ----------------------------------------------------------------------------------------------------------


def test_a_key_is_made_listed_and_revoked(commands: Commands) -> None:
    """Printed once when it is made; the list has all but what would let anybody use it; the log tells of both."""
    made = commands.json("key", "create", "auditor", "--scopes", "export,audit", "--owner", "Ann")
    (listed,) = commands.json("key", "list")["items"]
    now = datetime.now(UTC)
    records = commands.records()
    found = find_key(records, made["key"], now)
    records.close()
    told = commands.ok("key", "revoke", "auditor")
    (after,) = commands.json("key", "list")["items"]

    assert sorted(made) == ["id", "key"]
    assert re.fullmatch("rk_[A-Za-z0-9_-]{43}", made["key"])
    assert found is not None
    assert (found.id, found.tenant, sorted(found.scopes)) == (made["id"], "default", ["audit", "export"])
    assert listed == {
        "id": made["id"],
        "name": "auditor",
        "owner": "Ann",
        "scopes": "audit,export",
        "created_at": listed["created_at"],
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    assert told == "Key auditor is revoked.\n"
    assert after["revoked_at"] > listed["created_at"]
    assert [leaf.facts for leaf in leaves(commands)[1:]] == [
        {"action": "created", "by": "command", "id": made["id"]},
        {"action": "revoked", "by": "command", "id": made["id"]},
    ]


def test_keys_in_words(commands: Commands) -> None:
    """The key on a line of its own, to be copied; then what there is, one line each."""
    assert commands.ok("key", "list") == "No keys.\n"
    printed = commands.ok("key", "create", "k", "--scopes", "audit", "--expires", "2027-01-01T01:00:00+01:00")
    key, empty, sentence = printed.splitlines()

    assert re.fullmatch("rk_[A-Za-z0-9_-]{43}", key)
    assert empty == ""
    assert re.fullmatch(rf"Key {UUID7} \(k\). It is shown this once: Authorization: Bearer <key>", sentence)
    expected = "k  audit  owner k  expires 2027-01-01T00:00:00.000000Z  last used never\n"
    assert commands.ok("key", "list") == expected
    commands.ok("key", "revoke", "k")
    assert re.fullmatch("k  audit  owner k  revoked 20.*Z  last used never\n", commands.ok("key", "list"))


@pytest.mark.parametrize(("owner", "code"), [("Ann\ufe0f", "U+FE0F"), ("A\u034fnn\u3164", "U+034F, U+3164")])
def test_an_owner_is_what_is_seen(commands: Commands, owner: str, code: str) -> None:
    """What shows no character of its own is no part of a name that is to be told from others."""
    said = commands.refused("key", "create", "k", "--scopes", "audit", "--owner", owner, status=2)

    assert f"has characters that cannot be seen: {code}" in said
    assert commands.ok("key", "list") == "No keys.\n"


def test_a_key_that_may_call_says_how(commands: Commands) -> None:
    """Of the scope `operate`: with a call it has a header of its own, for `Authorization` is the provider's."""
    sentence = commands.ok("key", "create", "erp", "--scopes", "audit,operate").splitlines()[-1]

    assert sentence.endswith("shown this once: Authorization: Bearer <key>, or for /relay X-Rescind-Key: <key>")


def test_keys_are_a_tenants_own(commands: Commands) -> None:
    """Two tenants may each have one of the same name."""
    for tenant in ("default", "second"):
        commands.ok("key", "create", "k", "--scopes", "audit", "--tenant", tenant)
    commands.ok("key", "revoke", "k", "--tenant", "second")

    kept = commands.json("key", "list")["items"]
    gone = commands.json("key", "list", "--tenant", "second")["items"]
    assert ([one["revoked_at"] for one in kept], gone[0]["revoked_at"] is None) == ([None], False)


# ---- serve, and all of them ---------------------------------------------------------------------------------------


@contextmanager
def serving(commands: Commands, *arguments: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """`receiver serve` as a process of its own, and the line in which it says where it listens."""
    program = "from receiver.entry import main; main()"
    command = [sys.executable, "-c", program, "serve", "--data", str(commands.data), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=commands.environment, text=True) as process:
        try:
            assert process.stderr is not None
            yield process, process.stderr.readline()
        finally:
            process.kill()


def test_serve(commands: Commands) -> None:
    """Says where it listens, serves what commands made, and ends in order at SIGTERM."""
    source = commands.json("source", "add", "s", "--provider", "truthlocks", "--scheme", "standard-webhooks")
    with serving(commands, "--port", "0") as (process, line):
        said = re.fullmatch(r"Rescind listens on (http://127\.0\.0\.1:\d+) \(data in (.+)\)\n", line)
        assert said is not None, line
        with httpx2.Client(base_url=said[1]) as client:
            body = revoked()
            answer = client.post(source["webhook_path"], content=body, headers=standard_headers(source["secret"], body))
        process.send_signal(signal.SIGTERM)
        status = process.wait(15)

    assert said[2] == str(commands.data)
    assert answer.json()["status"] == "recorded"
    assert status == 0
    assert leaves(commands)[-1].facts["counts"] == {
        "deliveries": 1,
        "duplicate": 0,
        "ignored": 0,
        "mismatch": 0,
        "quarantined": 0,
        "recorded": 1,
        "refused": {},
    }


def test_serve_on_another_address(commands: Commands) -> None:
    """IPv6 as well, where there is any."""
    with serving(commands, "--port", "0", "--host", "::1") as (process, line):
        if "cannot listen" in line:
            pytest.skip("this machine has no IPv6")
        said = re.match(r"Rescind listens on (http://\[::1\]:\d+) ", line)
        assert said is not None, line
        with httpx2.Client(base_url=said[1]) as client:
            assert client.get("/health/live").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0


def test_the_version() -> None:
    """Of the distribution."""
    assert re.fullmatch(r"cli, version \d+\.\d+\.\d+\n", CliRunner().invoke(cli, ["--version"]).output)


@pytest.mark.parametrize("command", sorted(every_command(cli)), ids=" ".join)
def test_every_command_says_what_it_does(command: tuple[str, ...]) -> None:
    """With --help or -h, on standard output."""
    for option in ("--help", "-h"):
        result = CliRunner().invoke(cli, [*command, option])
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: ")
        assert len(result.stdout.splitlines()) > 3
