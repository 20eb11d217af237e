"""A source's issuer log as it is asked for: by command and over HTTP, in the same members."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from receiver.records.apikeys import create_key, parse_scopes
from receiver.records.issuer_logs import Checking, LogIdentity
from receiver.records.sources import load_sources
from tests.receiver.claims import Issuer, forked
from tests.receiver.commands import Commands
from tests.receiver.holding import acting, hold, release
from tests.receiver.service import Service, problem
from tests.translog.misbehaving import Server, Simulated, serving
from tests.translog.policies import vkey
from tests.translog.samples import KEY, STRANGER
from translog.note import Kind
from translog.policy import Policy

VKEY = str(KEY.verifying_key())
OTHER = str(vkey("example.com/other", Kind.ED25519))
ADD = ("source", "add", "shop", "--provider", "thanx", "--account", "7b1c")
SET = ("source", "set", "shop")
NOBODY = "http://127.0.0.1:9"
DEFAULTS = {"issuer_log_from": None, "exclusive": False, "grace": 86_400, "follow_every": 10, "expect_every": None}


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A folder to run commands in."""
    return Commands(tmp_path)


@pytest.fixture
def server() -> Generator[Server]:
    """A log of three entries."""
    with serving(Simulated.of(3)) as server:
        yield server


def checking(commands: Commands) -> Checking:
    """How the one source is checked."""
    records = commands.records()
    try:
        (source,) = load_sources(records)
    finally:
        records.close()
    return source.checking


# ---- by command ---------------------------------------------------------------------------------------------------


def test_a_source_is_added_with_all_of_it(commands: Commands, server: Server) -> None:
    """And shown so, by lists and by what changes it."""
    log = ("--issuer-log-url", f"{server.url}/", "--issuer-log-key", OTHER, "--issuer-log-key", VKEY)
    times = ("--grace", "15m", "--follow-every", "30s", "--expect-every", "7d")

    added = commands.run(*ADD, *log, *times, "--exclusive")

    assert (added.exit_code, added.stderr) == (0, "")
    kept = LogIdentity(server.url, Policy.of(VKEY, OTHER).text, None)
    assert checking(commands) == Checking(kept, 3, exclusive=True, grace=900, follow_every=30, expect_every=604_800)
    (listed,) = commands.json("source", "list")["items"]
    assert listed["issuer_log"] == {"id": listed["issuer_log"]["id"], "url": server.url, "origin": None}
    names = ("issuer_log_from", "exclusive", "grace", "follow_every", "expect_every")
    assert [listed[name] for name in names] == [3, True, 900, 30, 604_800]
    words = commands.ok("source", "list").splitlines()
    assert f"  issuer log {server.url}, exclusive, gaps from entry 3 on, looked at every 30 s" in words
    assert "  grace 900 s, expected every 604800 s" in words
    assert commands.json(*SET, "--grace", "20m") == {**listed, "grace": 1200}


def test_a_policy_is_read_from_a_file(commands: Commands, server: Server) -> None:
    """With an origin, where the keys have another name; and it may be another's later."""
    file = commands.folder / "policy"
    file.write_text(f"# whom we believe\nlog {STRANGER.verifying_key()}\n\nquorum none\n")
    asked = ("--issuer-log-url", server.url, "--issuer-log-policy", str(file), "--issuer-log-origin", KEY.name)

    added = commands.run(*ADD, *asked)
    changed = commands.run(*SET, *asked[:2], "--issuer-log-key", VKEY)

    policy = f"log {STRANGER.verifying_key()}\nquorum none\n"
    assert ("which may be the wrong ones" in added.stderr, changed.stderr) == (True, "")
    assert f"issuer log {server.url}, gaps from entry 3 on, looked at every 10 s" in changed.stdout
    assert checking(commands) == Checking(LogIdentity(server.url, Policy.of(VKEY).text, None), 3)
    back = commands.run(*SET, *asked)
    assert f"{server.url}, origin {KEY.name}, gaps from its first checkpoint on" in back.stdout
    assert "is not signed as its keys or its policy demand, which may be the wrong ones" in back.stderr
    assert checking(commands).log == LogIdentity(server.url, policy, KEY.name)


def test_gaps_that_start_beyond_the_log(commands: Commands, server: Server) -> None:
    """Are warned of, for the source would have none for long, and taken; as far as the log goes nothing is said."""
    log = ("--issuer-log-url", server.url, "--issuer-log-key", VKEY)
    beyond = f"{server.url} has 3 entries: none before entry 4 will ever be a gap"

    added = commands.run(*ADD, *log, "--issuer-log-from", "4")
    within = commands.run(*SET, "--issuer-log-from", "3")
    changed = commands.run(*SET, "--issuer-log-from", "4")

    for said in (added, changed):
        assert beyond in " ".join(said.stderr.split())
    assert within.stderr == ""
    assert checking(commands).starts_at == 4


def test_where_gaps_start_is_not_said_twice(commands: Commands) -> None:
    """Where it is given, a log that cannot be had changes nothing of that."""
    added = commands.run(
        *ADD, "--issuer-log-url", "http://127.0.0.1:9", "--issuer-log-key", VKEY, "--issuer-log-from", "4"
    )

    assert "cannot be had just now" not in added.stderr
    assert "Gaps start at the first one" not in added.stderr
    assert checking(commands).starts_at == 4


def test_a_log_that_has_forked_is_warned_of(commands: Commands, server: Server) -> None:
    """Under any URL, whoever saw it; a log with another key is another."""
    commands.ok("init")
    records = commands.records()
    try:
        seen = Issuer(records)
        forked(records, seen)
    finally:
        records.close()
    same = ("--issuer-log-url", server.url, "--issuer-log-key", str(seen.key.verifying_key()))

    added = commands.run(*ADD, *same)
    other = commands.run(*SET, "--issuer-log-url", server.url, "--issuer-log-key", VKEY)
    back = commands.run(*SET, *same)

    for said in (added, back):
        assert f"the log {seen.origin} has forked: its key signed two histories" in " ".join(said.stderr.split())
    assert other.stderr == ""


def test_it_is_taken_away(commands: Commands, server: Server) -> None:
    """Log and silence each by an option of its own."""
    commands.ok(*ADD, "--issuer-log-url", server.url, "--issuer-log-key", VKEY, "--exclusive", "--expect-every", "1h")

    silent = commands.json(*SET, "--no-expect-every")
    gone = commands.json(*SET, "--no-issuer-log")

    assert (silent["expect_every"], silent["issuer_log_from"], silent["exclusive"]) == (None, 3, True)
    assert gone == {**silent, **DEFAULTS, "issuer_log": None}
    assert checking(commands) == Checking()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--issuer-log-url", "https://h"], 2, "say whose signatures count, with --issuer-log-key or"),
        (["--issuer-log-key", VKEY], 2, "say with --issuer-log-url of which log that is"),
        (["--issuer-log-origin", "o"], 2, "say with --issuer-log-url of which log that is"),
        (["--issuer-log-policy", "policy"], 2, "say with --issuer-log-url of which log that is"),
        (["--issuer-log-policy", "none"], 2, "none: No such file or directory"),
        (["--issuer-log-policy", "latin"], 2, "latin is not UTF-8 text"),
        (["--issuer-log-policy", "long"], 2, "long: a policy is at most 65536 bytes"),
        (
            ["--issuer-log-url", "https://h", "--issuer-log-key", VKEY, "--issuer-log-policy", "policy"],
            2,
            "give --issuer-log-key or --issuer-log-policy, not both",
        ),
        (["--issuer-log-url", "https://h", "--issuer-log-policy", "policy"], 1, "issuer_log.policy cannot be used"),
        (["--issuer-log-url", "https://h", "--issuer-log-key", VKEY[:-1]], 1, "issuer_log.key cannot be used: vkey"),
        (["--issuer-log-url", "h", "--issuer-log-key", VKEY], 1, "issuer_log.url must be a URL of at most 2048"),
    ],
)
def test_what_cannot_be(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, says: str
) -> None:
    """A sentence that names the option or the member, and nothing is added or changed."""
    monkeypatch.chdir(commands.folder)
    for name, content in (("policy", b"log\n"), ("latin", b"# \xff\n"), ("long", b"#" * 65_537)):
        Path(name).write_bytes(content)
    commands.ok(*ADD)

    for command in (("source", "add", "other", "--provider", "thanx"), SET):
        assert says in " ".join(commands.refused(*command, *arguments, status=status).split())

    assert [one["name"] for one in commands.json("source", "list")["items"]] == ["shop"]
    assert checking(commands) == Checking()


def test_a_log_is_not_given_and_taken_away_at_once(commands: Commands) -> None:
    """Which of the two was meant cannot be known."""
    commands.ok(*ADD)

    asked = ("--issuer-log-url", "https://h", "--issuer-log-key", VKEY, "--no-issuer-log")
    said = commands.refused(*SET, *asked, status=2)

    assert "give --issuer-log-url or --no-issuer-log, not both" in said


def test_a_source_that_is_held_keeps_its_log(commands: Commands) -> None:
    """Until the hold is released: by the log its entries are held as well."""
    commands.ok(*ADD, "--issuer-log-url", NOBODY, "--issuer-log-key", VKEY, "--issuer-log-from", "0")
    records = commands.records()
    try:
        placed = hold(records, acting(records, "Ann"), source="shop")
        said = commands.refused(*SET, "--no-issuer-log")
        assert f"a hold covers the source, {placed.id}" in " ".join(said.split())
        release(records, placed, acting(records, "Bob"))
    finally:
        records.close()

    assert commands.json(*SET, "--no-issuer-log")["issuer_log"] is None


# ---- over HTTP ----------------------------------------------------------------------------------------------------


def test_over_http(either_service: Service, server: Server) -> None:
    """The same members, times in seconds; null takes the log, or what is expected, away."""
    client, size = either_service.client, either_service.size()
    _, key = create_key(either_service.records, either_service.tenant, f"admin-{size}", parse_scopes("admin"))
    headers = {"authorization": f"Bearer {key}"}
    asked = {"name": f"source-{size}", "provider": "thanx", "grace": 60, "expect_every": 9, "follow_every": 5}
    log = {"url": server.url, "key": [VKEY], "origin": None}

    answer = client.post("/v1/sources", content=json.dumps({**asked, "issuer_log": log}), headers=headers)
    added = answer.json()
    path = f"/v1/sources/{added['id']}"

    def patch(**members: object) -> dict[str, object]:
        return client.patch(path, content=json.dumps(members), headers=headers).json()

    assert answer.status_code == 201
    assert added["issuer_log"] == {"id": added["issuer_log"]["id"], "url": server.url, "origin": None}
    names = ("issuer_log_from", "exclusive", "grace", "follow_every", "expect_every")
    assert [added[name] for name in names] == [3, False, 60, 5, 9]
    assert [warning[:45] for warning in added["warnings"]] == ["the source has neither an account nor is it e"]
    exclusive = patch(exclusive=True, issuer_log_from=1)
    assert (exclusive["exclusive"], exclusive["issuer_log_from"], exclusive["warnings"]) == (True, 1, [])
    policy = patch(issuer_log={"url": server.url, "policy": f"log {OTHER}\nquorum none\n"})
    assert policy["issuer_log_from"] is None
    assert "which may be the wrong ones" in str(policy["warnings"])
    gone = patch(issuer_log=None, expect_every=None)
    assert (gone["issuer_log"], gone["exclusive"], gone["expect_every"]) == (None, False, None)
    assert client.get(path, headers=headers).json() == {name: gone[name] for name in gone if name != "warnings"}
    refused = client.patch(path, content=json.dumps({"issuer_log": {**log, "key": ["x"]}}), headers=headers)
    assert (refused.status_code, list(problem(refused)["details"])) == (400, ["issuer_log.key"])


def test_a_held_sources_log_is_a_conflict(service: Service) -> None:
    """It names the hold; what else there is to change of the source is changed."""
    client, records = service.client, service.records
    _, key = create_key(records, service.tenant, "holding", parse_scopes("admin"))
    headers = {"authorization": f"Bearer {key}"}
    log = {"url": NOBODY, "key": [VKEY]}
    asked = {"name": "held", "provider": "thanx", "issuer_log": log, "issuer_log_from": 0}
    path = f"/v1/sources/{client.post('/v1/sources', json=asked, headers=headers).json()['id']}"
    placed = hold(records, acting(records, "Ann"), source="held")

    for other in (None, {**log, "url": f"{NOBODY}/moved"}):
        refused = client.patch(path, json={"issuer_log": other}, headers=headers)
        assert (refused.status_code, problem(refused)["code"]) == (409, "CONFLICT")
        assert problem(refused)["details"] == {"reason": "held", "hold": placed.id}
    changed = client.patch(path, json={"issuer_log": log, "grace": 60}, headers=headers).json()
    assert (changed["grace"], changed["issuer_log"]["url"]) == (60, NOBODY)


def test_the_schema_says_what_a_log_is_given_by(service: Service) -> None:
    """Its members, of which the URL is needed, and no others."""
    document = service.client.get("/schema/openapi.json").json()
    for method, path in (("post", "/v1/sources"), ("patch", "/v1/sources/{source_id}")):
        body = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
        log, none = body["properties"]["issuer_log"]["anyOf"]
        assert none == {"type": "null"}
        assert (sorted(log["properties"]), log["required"]) == (["key", "origin", "policy", "url"], ["url"])
        assert log["propertyNames"] == {"enum": ["url", "key", "policy", "origin"]}
