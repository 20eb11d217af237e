"""`receiver source`: listed, changed, disabled and rotated by command, while a service runs or not."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver import providers
from receiver.events import parse_time
from receiver.records.sources import Source, load_sources
from tests.receiver.commands import Commands
from tests.receiver.service import Sender, revoked, running, settings_in, until
from translog.evidence import Leaf

ADD = ("source", "add", "shop", "--provider", "truthlocks")
STANDARD = (*ADD, "--scheme", "standard-webhooks")
SECRET = "a secret of more than twenty-four bytes, which is no base64"
HEX = "0a" * 32


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder to run commands in."""
    return Commands(tmp_path)


def sources(commands: Commands) -> dict[str, Source]:
    """The sources as the service reads them, by name."""
    records = commands.records()
    try:
        return {source.name: source for source in load_sources(records)}
    finally:
        records.close()


def told(commands: Commands, tenant: str = "default") -> list[tuple[Any, Any]]:
    """What the log tells of sources: action and by whom."""
    records = commands.records()
    try:
        log = records.tenant(tenant).log
        with records.database.read() as tx:
            leaves = [Leaf.parse(entry) for entry in log.store.entries(tx, 0, log.head().size)]
    finally:
        records.close()
    return [(leaf.facts["action"], leaf.facts["by"]) for leaf in leaves if leaf.kind == "source"]


# ---- add ----------------------------------------------------------------------------------------------------------

DOCUMENTED = [name for name in providers.names() if providers.get(name).signing.scheme is not None]


@pytest.mark.parametrize("provider", DOCUMENTED)
def test_a_documented_scheme_may_be_left_out(commands: Commands, provider: str) -> None:
    """With its options; one that is given changes it."""
    add = ("source", "add", "--provider", provider)
    commands.ok(*add, "plain")
    commands.ok(*add, "changed", "--prefix", "sha256=")

    signing, found = providers.get(provider).signing, sources(commands)
    assert found["plain"].scheme == found["changed"].scheme == signing.scheme
    assert signing.options.items() <= found["plain"].scheme_options.items()
    assert found["changed"].scheme_options == {**found["plain"].scheme_options, "prefix": "sha256="}


@pytest.mark.parametrize("provider", sorted(set(providers.names()) - set(DOCUMENTED)))
def test_a_scheme_that_is_not_documented_must_be_said(commands: Commands, provider: str) -> None:
    """A token where nothing is signed, for instance."""
    add = ("source", "add", "s", "--provider", provider)

    said = commands.refused(*add, status=2)

    assert f"{providers.get(provider).signing.said}: say which --scheme it is" in " ".join(said.split())
    commands.ok(*add, "--scheme", "token", "--header", "X-Token")
    assert sources(commands)["s"].scheme_options == {"header": "x-token"}


def test_the_environment(commands: Commands) -> None:
    """Live unless it is said to be test."""
    commands.ok(*STANDARD)
    commands.ok("source", "add", "tests", *STANDARD[3:], "--environment", "test")

    assert {name: source.test for name, source in sources(commands).items()} == {"shop": False, "tests": True}


# ---- list ---------------------------------------------------------------------------------------------------------


def test_sources_are_listed(commands: Commands) -> None:
    """Oldest first, with all there is to know of them but what their secrets are."""
    options = ("--scheme", "hmac", "--header", "X", "--strip-whitespace", "--account", "7b1c", "--rate-limit", "60")
    options += ("--upstream", "http://localhost:8100/")
    first = commands.json(*ADD, *options, "--environment", "test")
    commands.json("source", "add", "other", *STANDARD[3:])
    commands.ok("source", "disable", "other")
    rotated = commands.json("source", "rotate", "shop")

    printed = commands.json("source", "list")["items"]
    words = commands.ok("source", "list")

    shop, other = printed
    assert list(shop) == [
        *("id", "name", "provider", "scheme", "scheme_options", "account", "environment", "enabled", "replay_window"),
        *("rate_limit", "webhook_path", "upstream", "credential_since", "issuer_log", "issuer_log_from", "exclusive"),
        *("grace", "follow_every", "expect_every", "created_at", "secrets"),
    ]
    assert (shop["id"], shop["webhook_path"], shop["environment"]) == (first["id"], first["webhook_path"], "test")
    assert [sorted(one) for one in shop["secrets"]] == [["created_at", "id", "not_after", "not_before"]] * 2
    assert (other["name"], other["enabled"], other["account"], other["rate_limit"]) == ("other", False, None, None)
    old, new = shop["secrets"]
    assert new["id"] == rotated["id"]
    assert words.splitlines()[:10] == [
        "shop  truthlocks  test  enabled",
        f"  id {first['id']}, added {shop['created_at']}",
        f"  webhook path {first['webhook_path']}",
        "  scheme hmac, encoding hex, header x, key_form text, strip_whitespace",
        "  account 7b1c, replay window 300 s, rate limit 60 a minute",
        "  upstream http://localhost:8100, credential none",
        "  issuer log none",
        "  grace 86400 s, may be silent",
        f"  secret {old['id']}, added {old['created_at']}, valid until {old['not_after']}",
        f"  secret {new['id']}, added {new['created_at']}",
    ]
    assert words.splitlines()[10] == "other  truthlocks  live  disabled"
    assert "  account any, replay window 300 s, rate limit none\n  upstream none, credential none\n" in words
    for secret in (first["secret"], rotated["secret"]):
        assert secret not in json.dumps(printed) + words


def test_no_sources(commands: Commands) -> None:
    """And another tenant's are not these."""
    commands.ok(*STANDARD, "--tenant", "second")

    assert commands.ok("source", "list") == "No sources.\n"
    assert commands.json("source", "list") == {"items": []}
    assert "shop" in commands.ok("source", "list", "--tenant", "second")


# ---- set ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["--account", "7b1c"], {"account": "7b1c"}),
        (["--no-account"], {"account": None}),
        (["--replay-window", "60"], {"replay_window": 60}),
        (["--rate-limit", "7"], {"rate_limit": 7}),
        (["--no-rate-limit"], {"rate_limit": None}),
        (["--environment", "test"], {"environment": "test"}),
        (["--environment", "live"], {}),
        (["--upstream", "https://api.example.com/v/"], {"upstream": "https://api.example.com/v"}),
        (["--upstream", "http://127.0.0.1"], {}),
        (["--no-upstream"], {"upstream": None}),
        (["--grace", "30s"], {"grace": 30}),
        (["--grace", "366d", "--follow-every", "1d"], {"grace": 366 * 86_400, "follow_every": 86_400}),
        (["--follow-every", "10s", "--no-exclusive", "--no-issuer-log", "--no-expect-every"], {}),
        (["--expect-every", "24h"], {"expect_every": 86_400}),
        (["--scheme", "token", "--header", "X-T"], {"scheme": "token", "scheme_options": {"header": "x-t"}}),
        (
            ["--scheme", "timestamped-hmac", "--header", "x", "--no-account", "--no-rate-limit"],
            {"scheme": "timestamped-hmac", "scheme_options": {"header": "x"}, "account": None, "rate_limit": None},
        ),
    ],
)
def test_what_is_set(commands: Commands, arguments: list[str], changed: dict[str, Any]) -> None:
    """It is printed as it is then, and listed so; what was not named is as it was. The log tells of a change."""
    commands.ok(*STANDARD, "--account", "before", "--rate-limit", "60", "--upstream", "http://127.0.0.1")
    (before,) = commands.json("source", "list")["items"]

    printed = commands.json("source", "set", "shop", *arguments)

    assert printed == {**before, **changed}
    assert commands.json("source", "list")["items"] == [printed]
    assert told(commands)[1:] == [("changed", "command")] * bool(changed)


def test_options_of_the_present_scheme_are_set(commands: Commands) -> None:
    """Each by itself, there and back."""
    commands.ok(*ADD, "--scheme", "hmac", "--header", "x")
    every = {"header": "x", "prefix": "", "encoding": "hex", "key_form": "text", "strip_whitespace": False}

    for arguments, changed in (
        (["--header", "Y"], {"header": "y"}),
        (["--prefix", "sha256="], {"prefix": "sha256="}),
        (["--prefix", ""], {"prefix": ""}),
        (["--encoding", "base64"], {"encoding": "base64"}),
        (["--key-form", "hex"], {"key_form": "hex"}),
        (["--strip-whitespace"], {"strip_whitespace": True}),
        (["--no-strip-whitespace"], {"strip_whitespace": False}),
    ):
        every |= changed
        assert commands.json("source", "set", "shop", *arguments)["scheme_options"] == every


def test_a_scheme_is_set_with_a_new_secret(commands: Commands) -> None:
    """Which ends the others at once, and is not printed; without one it is refused if those there are do not fit."""
    commands.ok(*ADD, "--scheme", "hmac", "--header", "x", "--secret-stdin", stdin=SECRET.encode())
    hexadecimal = ("source", "set", "shop", "--scheme", "hmac", "--header", "y", "--key-form", "hex")

    said = commands.refused(*hexadecimal)
    printed = commands.ok(*hexadecimal, "--secret-stdin", stdin=f"whsec_{HEX}\n".encode())

    assert "cannot be used under this scheme: the secret is not hex" in said
    assert "Give a new secret together with the scheme" in said
    assert SECRET not in said + printed
    assert HEX not in printed
    source = sources(commands)["shop"]
    assert [(one.value, one.not_after is None) for one in source.secrets] == [
        (SECRET, False),
        (f"whsec_{HEX}", True),
    ]
    assert [action for action, _ in told(commands)] == ["added", "changed", "rotated"]


def test_an_upstream_that_is_not_encrypted_is_warned_of(commands: Commands) -> None:
    """When it is given, and taken all the same."""
    added = commands.run(*STANDARD, "--upstream", "http://10.0.0.1")
    changed = commands.run("source", "set", "shop", "--upstream", "http://10.0.0.2")
    quiet = commands.run("source", "set", "shop", "--account", "7b1c")

    said = (
        "warning: the upstream is http://, and not on this machine: the callers' credentials travel there unencrypted\n"
    )
    assert [one.stderr for one in (added, changed, quiet)] == [said, said, ""]
    assert sources(commands)["shop"].upstream == "http://10.0.0.2"


def test_another_upstream_takes_the_credential_away(commands: Commands) -> None:
    """A warning says so, and what it was for."""
    commands.ok(*STANDARD, "--upstream", "https://a.example.com")
    commands.ok("source", "credential", "shop", "--stdin", stdin=b"X-API-Key: read-only")

    moved = commands.run("source", "set", "shop", "--upstream", "https://a.example.com/base", "--json")
    gone = commands.run("source", "set", "shop", "--no-upstream", "--json")

    assert (moved.stderr, json.loads(moved.stdout)["credential_since"] is None) == ("", False)
    assert gone.stderr == "warning: the read-only credential was for https://a.example.com/base, and is removed\n"
    assert json.loads(gone.stdout)["credential_since"] is None
    assert [action for action, _ in told(commands)][-2:] == ["changed", "credential_removed"]


# ---- disable, enable, rotate --------------------------------------------------------------------------------------


def test_a_source_is_disabled_and_enabled(commands: Commands) -> None:
    """Saying so again is no error, and no entry."""
    commands.ok(*STANDARD, "--tenant", "second")

    for command in ("enable", "disable", "disable", "enable", "enable"):
        printed = commands.json("source", command, "shop", "--tenant", "second")
        assert printed["enabled"] is (command == "enable")
        assert sources(commands)["shop"].enabled is printed["enabled"]

    assert [action for action, _ in told(commands, "second")] == ["added", "disabled", "enabled"]


@pytest.mark.parametrize(
    ("given", "overlap"),
    [
        ([], timedelta(days=1)),
        (["--overlap", "90s"], timedelta(seconds=90)),
        (["--overlap", "15m"], timedelta(minutes=15)),
        (["--overlap", "24h"], timedelta(days=1)),
        (["--overlap", "366d"], timedelta(days=366)),
        (["--overlap", "0"], timedelta()),
        (["--overlap", "0s"], timedelta()),
    ],
)
def test_a_secret_is_rotated(commands: Commands, given: list[str], overlap: timedelta) -> None:
    """The new one is made, printed this once, and valid at once; the old one ends after the overlap."""
    first = commands.json(*STANDARD)

    rotated = commands.json("source", "rotate", "shop", *given)

    assert sorted(rotated) == ["id", "secret"]
    source = sources(commands)["shop"]
    assert [one.value for one in source.secrets] == [first["secret"], rotated["secret"]]
    old, new = commands.json("source", "list")["items"][0]["secrets"]
    assert parse_time(old["not_after"]) - parse_time(new["created_at"]) == overlap
    assert (new["id"], new["not_before"], new["not_after"]) == (rotated["id"], None, None)
    assert told(commands) == [("added", "command"), ("rotated", "command")]


def test_a_secret_is_rotated_to_one_that_is_given(commands: Commands) -> None:
    """By file or standard input; it is not printed, and warned of if it is short."""
    commands.ok(*ADD, "--scheme", "hmac", "--header", "x")
    file = commands.folder / "secret"
    file.write_text("hunter2\n")

    by_file = commands.run("source", "rotate", "shop", "--secret-file", str(file))
    by_stdin = commands.ok("source", "rotate", "shop", "--secret-stdin", stdin=SECRET.encode())

    assert (by_file.exit_code, by_file.stderr[:44]) == (0, "warning: the secret is short: 7 bytes, where")
    assert re.fullmatch("Source shop has the new secret [0-9a-f-]{36}\n", by_file.stdout)
    assert re.fullmatch("Source shop has the new secret [0-9a-f-]{36}\n", by_stdin)
    assert [one.value for one in sources(commands)["shop"].secrets][1:] == ["hunter2", SECRET]
    made = commands.ok("source", "rotate", "shop")
    assert re.search("\nSecret, shown this once: [0-9a-f]{64}\n", made)


# ---- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("set", "shop"), 2, "say what to change"),
        (("set", "shop", "--account", "a", "--no-account"), 2, "give --account or --no-account, not both"),
        (("set", "shop", "--rate-limit", "1", "--no-rate-limit"), 2, "give --rate-limit or --no-rate-limit, not both"),
        (("set", "shop", "--upstream", "http://h", "--no-upstream"), 2, "give --upstream or --no-upstream, not both"),
        (("set", "shop", "--upstream", "h"), 1, "upstream must be a URL of at most 2048 characters"),
        (("set", "shop", "--grace", "0"), 2, "Invalid value for '--grace': 0 is not between 1s and 366d"),
        (("set", "shop", "--grace", "367d"), 2, "367d is not between 1s and 366d"),
        (("set", "shop", "--grace", "60"), 2, "'60' must be a number and its unit"),
        (("set", "shop", "--follow-every", "25h"), 2, "25h is not between 1s and 1d"),
        (("set", "shop", "--expect-every", "0s"), 2, "0s is not between 1s and 366d"),
        (("set", "shop", "--expect-every", "1h", "--no-expect-every"), 2, "--expect-every or --no-expect-every, not"),
        (("set", "shop", "--exclusive"), 1, "exclusive says whose the entries of an issuer log are"),
        (("set", "shop", "--issuer-log-from", "0"), 1, "issuer_log_from is an index in an issuer log"),
        (("set", "shop", "--issuer-log-from", "-1"), 2, "-1 is not in the range"),
        (("add", "b", "--provider", "thanx", "--upstream", "http://h?"), 1, "upstream must be a URL"),
        (("set", "shop", "--rate-limit", "0"), 2, "0 is not in the range 1<=x<=1000000"),
        (("set", "shop", "--rate-limit", "1000001"), 2, "1000001 is not in the range"),
        (("set", "shop", "--replay-window", "86401"), 2, "86401 is not in the range"),
        (("set", "shop", "--environment", "prod"), 2, "'prod' is not one of 'live', 'test'"),
        (("set", "shop", "--account", ""), 2, "'' must be 1 to 256 printable characters"),
        (("set", "shop", "--provider", "thanx"), 2, "No such option"),
        (("set", "shop", "--scheme", "token"), 1, "scheme token needs the option header"),
        (("set", "shop", "--header", "x"), 1, "scheme standard-webhooks has no option 'header'"),
        (("set", "shop", "--secret-file", "x", "--secret-stdin"), 2, "--secret-file or --secret-stdin, not both"),
        (("set", "shop", "--secret-stdin"), 1, "the secret is empty"),
        (("set", "nope", "--no-account"), 1, "tenant default has no source named 'nope'"),
        (("disable", "nope"), 1, "tenant default has no source named 'nope'"),
        (("enable", "nope"), 1, "tenant default has no source named 'nope'"),
        (("rotate", "nope"), 1, "tenant default has no source named 'nope'"),
        (("rotate", "shop", "--tenant", "nobody"), 1, "there is no tenant 'nobody'; known: default"),
        (("list", "--tenant", "nobody"), 1, "there is no tenant 'nobody'"),
        (("rotate", "shop", "--secret-stdin"), 1, "the secret is empty"),
        (("rotate", "shop", "--overlap", "1"), 2, "'1' must be a number and its unit, such as 90s, 15m, 24h or 7d"),
        (("rotate", "shop", "--overlap", "-1h"), 2, "'-1h' must be a number and its unit"),
        (("rotate", "shop", "--overlap", "1.5h"), 2, "'1.5h' must be"),
        (("rotate", "shop", "--overlap", "٣h"), 2, "must be a number and its unit"),
        (("rotate", "shop", "--overlap", "367d"), 2, "at most 366d"),
        (("add", "b", "--provider", "thanx", "--rate-limit", "1000001"), 2, "1000001 is not in the range"),
    ],
)
def test_what_cannot_be(commands: Commands, arguments: tuple[str, ...], status: int, says: str) -> None:
    """A sentence, and nothing is changed."""
    commands.ok(*STANDARD)

    said = commands.refused("source", *arguments, status=status, stdin=b"")

    assert says in " ".join(said.split())
    assert told(commands) == [("added", "command")]


def test_a_secret_that_belongs_to_a_source(commands: Commands) -> None:
    """Is no new one: not of another source, and not of this one."""
    secret = commands.json(*STANDARD)["secret"].encode()
    commands.ok("source", "add", "other", *STANDARD[3:])

    for name in ("shop", "other"):
        for command in (("rotate", name), ("set", name)):
            said = commands.refused("source", *command, "--secret-stdin", stdin=secret)
            assert "this secret already belongs to a source; a secret is one source's only" in said
            assert secret.decode() not in said
    assert [action for action, _ in told(commands)] == ["added", "added"]


# ---- while the service runs ---------------------------------------------------------------------------------------


def test_a_change_by_command_is_taken_over(commands: Commands) -> None:
    """By a service that runs, which is told nothing: within the second that it takes to look twice."""
    with running(settings_in(commands.folder)) as service:
        added = commands.json(*STANDARD)
        first = Sender(service, added["id"], added["secret"])
        assert first.post(revoked()).json()["status"] == "recorded"

        commands.ok("source", "disable", "shop")
        until(lambda: first.post(revoked()).status_code == 404)
        commands.ok("source", "enable", "shop")
        until(lambda: first.post(revoked()).status_code == 200)
        second = Sender(service, added["id"], commands.json("source", "rotate", "shop", "--overlap", "1h")["secret"])
        until(lambda: second.post(revoked()).status_code == 200)
        assert first.post(revoked()).status_code == 200
        token = ("--scheme", "token", "--header", "x-t", "--secret-stdin")
        commands.ok("source", "set", "shop", *token, stdin=HEX.encode())
        until(lambda: first.post(revoked()).status_code == 401)
        answer = second.post(revoked(), {"x-t": HEX})
        assert answer.json()["status"] == "recorded"
        commands.ok("source", "set", "shop", "--environment", "test")
        until(lambda: first.endpoint.source.test)
        index = first.post(revoked(), {"x-t": HEX}).json()["log_index"]
        assert service.leaf(index).facts["test"] is True
        facts = [leaf.facts for leaf in map(service.leaf, range(service.size())) if leaf.kind == "source"]

    assert [one["action"] for one in facts] == [
        *("added", "disabled", "enabled", "rotated", "changed", "rotated", "changed")
    ]
    assert commands.ok("fsck").endswith("nothing is wrong.\n")
