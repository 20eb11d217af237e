"""`/v1/sources`: sources by HTTP, for keys of the scope `admin`, each of its own tenant."""

import itertools
import json
import logging
import re
from typing import Any

import httpx2
import pytest

from receiver.intake.sources import AddedSource
from receiver.intake.sourcing import Addition, Changes, Rotated, Rotation, settle
from receiver.records.apikeys import create_key, parse_scopes
from receiver.records.issuer_logs import Checking
from receiver.records.secrets import new_secret
from receiver.records.sources import Decision, Source
from tests.receiver.service import ACCOUNT, Sender, Service, problem, revoked

UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z"
NOBODYS = "0198a1b2-0000-7000-8000-000000000000"

_numbers = itertools.count(1)


class Admin:
    """Who holds a key of a tenant with the scope `admin`."""

    def __init__(self, service: Service, tenant: str = "default") -> None:
        self.service = service
        of = service.records.ensure_tenant(tenant)
        self.key_id, key = create_key(service.records, of, f"admin-{next(_numbers)}", parse_scopes("admin"))
        self.headers = {"authorization": f"Bearer {key}"}
        self.tenant = tenant

    def ask(self, method: str, path: str = "", body: object = None, **headers: str) -> httpx2.Response:
        """Ask at /v1/sources; `body` as JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = {**self.headers, **headers}
        return self.service.client.request(method, f"/v1/sources{path}", content=content, headers=sent)

    def add(self, **members: object) -> dict[str, Any]:
        """Add a source; the answer."""
        asked = {"name": f"s-{self.service.size(self.tenant)}", "provider": "truthlocks", "scheme": "standard-webhooks"}
        answer = self.ask("POST", "", {**asked, **members})
        assert answer.status_code == 201, answer.text
        self.service.refresh()
        return answer.json()

    def told(self, since: int) -> list[tuple[str, object]]:
        """What the log tells since it had that size: kind and facts."""
        leaves = [self.service.leaf(index, self.tenant) for index in range(since, self.service.size(self.tenant))]
        return [(leaf.kind, leaf.facts) for leaf in leaves]

    def size(self) -> int:
        """How many entries the log has."""
        return self.service.size(self.tenant)


@pytest.fixture
def admin(either_service: Service) -> Admin:
    """Who administers the tenant `default`, on either database."""
    return Admin(either_service)


def refused(answer: httpx2.Response, status: int, says: str) -> dict[str, Any]:
    """The members of a refusal, after a look at its status and sentence."""
    members = problem(answer)
    assert (answer.status_code, says in members["detail"]) == (status, True), members
    return members


# ---- adding and listing -------------------------------------------------------------------------------------------


def test_a_source_is_added(admin: Admin) -> None:
    """The answer has all there is to know of it, and the secret that was made: a delivery under it is recorded."""
    before = admin.size()

    added = admin.add(name="by-http", account=ACCOUNT, rate_limit=600, upstream="http://127.0.0.1:8100/")

    secret, source_id = added.pop("secret"), added["id"]
    assert re.fullmatch(UUID7, source_id)
    assert re.fullmatch(TIME, added["created_at"])
    (listed,) = added["secrets"]
    assert sorted(listed) == ["created_at", "id", "not_after", "not_before"]
    assert added == {
        "id": source_id,
        "name": "by-http",
        "provider": "truthlocks",
        "scheme": "standard-webhooks",
        "scheme_options": {},
        "account": ACCOUNT,
        "environment": "live",
        "enabled": True,
        "replay_window": 300,
        "rate_limit": 600,
        "webhook_path": f"/webhooks/{source_id}",
        "upstream": "http://127.0.0.1:8100",
        "credential_since": None,
        "issuer_log": None,
        "issuer_log_from": None,
        "exclusive": False,
        "grace": 86_400,
        "follow_every": 10,
        "expect_every": None,
        "created_at": added["created_at"],
        "secrets": [{**listed, "not_before": None, "not_after": None}],
        "warnings": [],
    }
    assert admin.told(before) == [("source", {"action": "added", "by": admin.key_id, "id": source_id})]
    assert Sender(admin.service, source_id, secret).post(revoked()).json()["status"] == "recorded"


def test_sources_are_listed_and_read(admin: Admin) -> None:
    """Oldest first, as they were added, without warnings or what their secrets are."""
    first, second = admin.add(), admin.add(environment="test")
    secrets = [one.pop("secret") for one in (first, second)]
    for one in (first, second):
        one.pop("warnings")

    answer = admin.ask("GET")

    listed = answer.json()
    assert (answer.status_code, listed["next_cursor"]) == (200, None)
    assert listed["items"][-2:] == [first, second]
    assert [admin.ask("GET", f"/{one['id']}").json() for one in (first, second)] == [first, second]
    assert [one for one in secrets if one.removeprefix("whsec_") in answer.text] == []


def test_the_documented_scheme_needs_no_mention(admin: Admin) -> None:
    """Where a provider documents none it must be said."""
    asked = {"name": "voucher", "provider": "voucherify"}

    answer = admin.ask("POST", "", asked).json()

    assert (answer["scheme"], answer["scheme_options"]["header"]) == ("hmac", "x-voucherify-signature")
    assert answer["scheme_options"]["strip_whitespace"] is True
    members = refused(admin.ask("POST", "", {"name": "t", "provider": "truthlocks"}), 400, ": say which scheme it is")
    assert list(members["details"]) == ["scheme"]


def test_a_secret_that_is_given_does_not_come_back(admin: Admin) -> None:
    """The answer has none, and says what there is to warn of."""
    secret = f"short{admin.size()}"

    answer = admin.ask(
        "POST",
        "",
        {"name": secret[::-1], "provider": "capillary", "scheme": "token", "scheme_options": {"header": "X-T"}}
        | {"secret": secret},
    )

    assert (answer.status_code, answer.json()["secret"]) == (201, None)
    assert [warning[:19] for warning in answer.json()["warnings"]] == ["the secret is short"]
    assert secret not in answer.text


def test_test_events_are_marked(admin: Admin) -> None:
    """Of a source of the environment `test`."""
    added = admin.add(environment="test", account=None)
    sender = Sender(admin.service, added["id"], added["secret"])

    index = sender.post(revoked()).json()["log_index"]

    assert admin.service.leaf(index).facts["test"] is True


# ---- changing -----------------------------------------------------------------------------------------------------


def test_a_source_is_changed(admin: Admin) -> None:
    """The members that are given, and no others; null takes an account, a rate limit or an upstream away."""
    added = admin.add(account=ACCOUNT, rate_limit=60, upstream="https://a")
    secret, before = added.pop("secret"), admin.size()
    path = f"/{added['id']}"

    changed = admin.ask("PATCH", path, {"replay_window": 60, "environment": "test", "account": None}).json()
    again = admin.ask("PATCH", path, {"replay_window": 60, "rate_limit": 60}).json()
    moved = admin.ask("PATCH", path, {"upstream": "http://b.example.com/"}).json()
    last = admin.ask("PATCH", path, {"rate_limit": None, "upstream": None, "enabled": False}).json()

    assert changed == {**added, "replay_window": 60, "environment": "test", "account": None}
    assert again == changed
    assert (moved.pop("warnings") == [], moved["upstream"]) == (False, "http://b.example.com")
    assert last == {**changed, "rate_limit": None, "upstream": None, "enabled": False}
    facts = {"by": admin.key_id, "id": added["id"]}
    actions = ["changed", "changed", "changed", "disabled"]
    assert admin.told(before) == [("source", {"action": action, **facts}) for action in actions]
    admin.service.refresh()
    assert Sender(admin.service, added["id"], secret).post(revoked()).status_code == 404


def test_another_upstream_takes_the_credential_away(admin: Admin) -> None:
    """With a warning in the answer, and an entry that names the key which asked."""
    added = admin.add(upstream="https://a.example.com")
    path, credential = f"/{added['id']}", {"headers": {"X-API-Key": "read-only"}}
    since = admin.ask("PUT", f"{path}/credential", credential).json()["credential_since"]
    before = admin.size()

    stays = admin.ask("PATCH", path, {"upstream": "https://a.example.com/base"}).json()
    gone = admin.ask("PATCH", path, {"upstream": "https://b.example.com"}).json()

    assert (stays["credential_since"], stays["warnings"]) == (since, [])
    assert gone["credential_since"] is None
    assert gone["warnings"] == [
        "the read-only credential was for https://a.example.com/base, and is removed; give the new one's"
    ]
    facts = {"by": admin.key_id, "id": added["id"]}
    actions = ["changed", "changed", "credential_removed"]
    assert admin.told(before) == [("source", {"action": action, **facts}) for action in actions]


def test_a_scheme_is_changed(admin: Admin) -> None:
    """With the secret there is if it fits, or with a new one, which ends the others."""
    added = admin.add()
    path, hmac = f"/{added['id']}", {"scheme": "hmac", "scheme_options": {"header": "X-Sig", "key_form": "hex"}}

    members = refused(admin.ask("PATCH", path, hmac), 409, "cannot be used under this scheme: the secret is not hex")
    changed = admin.ask("PATCH", path, {**hmac, "secret": f"{admin.size():064x}"}).json()
    merged = admin.ask("PATCH", path, {"scheme_options": {"prefix": "sha256="}}).json()

    assert members["code"] == "CONFLICT"
    options = {"header": "x-sig", "prefix": "", "encoding": "hex", "key_form": "hex", "strip_whitespace": False}
    assert (changed["scheme"], changed["scheme_options"]) == ("hmac", options)
    assert [one["not_after"] is None for one in changed["secrets"]] == [False, True]
    assert merged["scheme_options"] == {**options, "prefix": "sha256="}


def test_a_secret_is_rotated(admin: Admin) -> None:
    """Both are taken while they overlap; the log says that it was, and nothing of either."""
    added = admin.add(account=None)
    path, before = f"/{added['id']}/secrets", admin.size()

    answer = admin.ask("POST", path, {})

    rotated = answer.json()
    assert (answer.status_code, sorted(rotated)) == (201, ["id", "secret", "warnings"])
    assert admin.told(before) == [("source", {"action": "rotated", "by": admin.key_id, "id": added["id"]})]
    admin.service.refresh()
    senders = [Sender(admin.service, added["id"], one["secret"]) for one in (added, rotated)]
    assert [sender.post(revoked()).status_code for sender in senders] == [200, 200]

    last = admin.ask("POST", path, {"secret": f"whsec_{'Ab0+' * 10}", "overlap_seconds": 0}).json()

    admin.service.refresh()
    assert last["secret"] is None
    assert [sender.post(revoked()).status_code for sender in senders] == [401, 401]
    source = admin.ask("GET", f"/{added['id']}").json()
    assert [one["id"] for one in source["secrets"]] == [added["secrets"][0]["id"], rotated["id"], last["id"]]
    assert [one["not_after"] is None for one in source["secrets"]] == [False, False, True]


# ---- refusals -----------------------------------------------------------------------------------------------------

ADD = {"name": "refused", "provider": "truthlocks", "scheme": "token", "scheme_options": {"header": "x"}}


@pytest.mark.parametrize(
    ("method", "given", "member", "says"),
    [
        ("POST", {"name": 1}, "name", "name must be str, got int"),
        ("POST", {"name": ""}, "name", "1 to 256 printable characters"),
        ("POST", {"name": "a\nb"}, "name", "printable characters"),
        ("POST", {"account": " x"}, "account", "without spaces around them"),
        ("POST", {"provider": "x" * 65}, "provider", "provider must be str of length <= 64"),
        ("POST", {"scheme_options": {"header": "x" * 257}}, "scheme_options", "scheme_options must be str of length"),
        ("POST", {"scheme_options": {"x" * 65: "y"}}, "scheme_options", "scheme_options must be str of length <= 64"),
        ("POST", {"provider": "nobody"}, "provider", "there is no provider 'nobody'"),
        ("POST", {"scheme": "rot13"}, "scheme", "there is no signature scheme 'rot13'"),
        ("POST", {"scheme_options": {}}, "scheme", "scheme token needs the option header"),
        ("POST", {"scheme_options": {"header": 1}}, "scheme_options", "scheme_options must be bool | str, got int"),
        ("POST", {"scheme_options": []}, "scheme_options", "scheme_options must be object, got array"),
        ("POST", {"environment": "prod"}, "environment", "environment must be one of live, test"),
        ("POST", {"replay_window": 0}, "replay_window", "replay_window must be int >= 1"),
        ("POST", {"replay_window": 86401}, "replay_window", "replay_window must be int <= 86400"),
        ("POST", {"replay_window": 2**64}, "replay_window", "replay_window must be int below 2^53"),
        ("POST", {"rate_limit": True}, "rate_limit", "rate_limit must be int | null, got bool"),
        ("POST", {"rate_limit": 1_000_001}, "rate_limit", "rate_limit must be int <= 1000000"),
        ("POST", {"secret": ""}, "secret", "the secret is empty"),
        ("POST", {"secret": "s" * 4097}, "secret", "a secret is at most 4096 bytes"),
        ("POST", {"secret": "secret with an é"}, "secret", "a token must be printable ASCII"),
        ("POST", {"secret": ["secret-in-a-list"]}, "secret", "secret must be str | null, got array"),
        ("POST", {"upstream": "https://user:pass@h"}, "upstream", "upstream must be a URL of at most 2048 characters"),
        ("POST", {"sceme": "token"}, "sceme", "There is no member 'sceme' here; known: name, provider, scheme"),
        ("PATCH", {"name": "other"}, "name", "There is no member 'name' here; known: scheme, scheme_options"),
        ("PATCH", {"provider": "thanx"}, "provider", "There is no member 'provider'"),
        ("PATCH", {"enabled": 1}, "enabled", "enabled must be bool, got int"),
        ("PATCH", {"replay_window": None}, "replay_window", "replay_window must be int, got null"),
        ("PATCH", {"scheme_options": {"strip": True}}, "scheme", "scheme token has no option 'strip'"),
        ("PATCH", {"secret": " secret"}, "secret", "a token must be printable ASCII"),
        ("PATCH", {"account": ""}, "account", "1 to 256 printable characters"),
        ("PATCH", {"upstream": 80}, "upstream", "upstream must be str | null, got int"),
        ("PATCH", {"upstream": "https://h/.."}, "upstream", "upstream must have no segment . or .. in its path"),
        ("POST", {"issuer_log": "https://h"}, "issuer_log", "issuer_log must be object | null, got str"),
        ("POST", {"issuer_log": {"url": 1}}, "issuer_log.url", "must be a text"),
        ("POST", {"issuer_log": {"url": "http://h", "foo": 1}}, "issuer_log", "there is no member 'foo' in issuer_log"),
        ("POST", {"issuer_log": {"url": "http://h", "key": "x"}}, "issuer_log.key", "must be a list of the log's vk"),
        ("POST", {"expect_every": 0.5}, "expect_every", "int | null, written without a fraction or an exponent"),
        ("POST", {"grace": 1e300}, "grace", "grace must be int, written without a fraction or an exponent"),
        ("POST", {"issuer_log": {"url": "h", "key": []}}, "issuer_log.url", "issuer_log.url must be a URL"),
        ("POST", {"issuer_log": {"url": "http://h"}}, "issuer_log", "must say whose signatures count"),
        ("POST", {"issuer_log_from": 1}, "issuer_log_from", "issuer_log_from is an index in an issuer log"),
        ("POST", {"issuer_log_from": -1}, "issuer_log_from", "issuer_log_from must be int >= 0"),
        ("POST", {"grace": 0}, "grace", "grace must be int >= 1"),
        ("POST", {"grace": 31_622_401}, "grace", "grace must be int <= 31622400"),
        ("POST", {"follow_every": 86_401}, "follow_every", "follow_every must be int <= 86400"),
        ("POST", {"expect_every": 0}, "expect_every", "expect_every must be int >= 1"),
        ("PATCH", {"exclusive": True}, "exclusive", "exclusive says whose the entries of an issuer log are"),
        ("PATCH", {"grace": None}, "grace", "grace must be int, got null"),
        ("PATCH", {"issuer_log_from": None}, "issuer_log_from", "issuer_log_from must be int, got null"),
        ("PATCH", {"issuer_log": {"url": "http://h", "keys": []}}, "issuer_log", "no member 'keys' in issuer_log"),
        ("PATCH", {}, None, "The body has nothing to change; it may have scheme, scheme_options, account"),
        ("SECRETS", {"overlap_seconds": -1}, "overlap_seconds", "overlap_seconds must be int >= 0"),
        ("SECRETS", {"overlap_seconds": 31622401}, "overlap_seconds", "overlap_seconds must be int <= 31622400"),
        ("SECRETS", {"overlap": 60}, "overlap", "There is no member 'overlap' here; known: secret, overlap_seconds"),
        ("SECRETS", {"secret": "\t"}, "secret", "a token must be printable ASCII"),
    ],
)
def test_what_cannot_be_is_named(
    service: Service, method: str, given: dict[str, object], member: str | None, says: str
) -> None:
    """400 with the member at fault; nothing is changed, and no secret is repeated."""
    admin = Admin(service)
    path = ""
    if method != "POST":
        added = admin.ask("POST", "", {**ADD, "name": f"s-{admin.size()}"}).json()
        path = f"/{added['id']}" + ("/secrets" if method == "SECRETS" else "")
    before = admin.size()
    body = {**ADD, **given} if method == "POST" else given

    answer = admin.ask("PATCH" if method == "PATCH" else "POST", path, body)

    members = refused(answer, 400, says)
    assert list(members["details"]) == ([] if member is None else [member])
    assert admin.size() == before
    assert "secret with" not in answer.text
    assert "secret-in-a-list" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "The body cannot be read: not JSON"),
        (b"[]", 400, "The body cannot be read: the JSON is not an object"),
        (b"{}", 400, "name is missing"),
        (b'{"name":"a","name":"b"}', 400, "the member 'name' is given twice"),
        (b'{"name":"\xff"}', 400, "is not UTF-8"),
        (b'{"name":"\\u0000"}', 400, "a string holds a NUL character"),
        (b'{"name":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "nested deeper"),
        (b'{"' + b"n" * 1000 + b'":1}', 400, "There is no member '" + "n" * 80 + "' here"),
        (b'{"name":"' + b"x" * 256 * 1024 + b'"}', 413, "The body of a request is at most 262144 bytes"),
    ],
    ids=["none", "list", "empty", "twice", "bytes", "nul", "deep", "long name", "large"],
)
def test_a_body_is_read_strictly(service: Service, body: bytes, status: int, says: str) -> None:
    """As a delivery is."""
    refused(Admin(service).ask("POST", "", body), status, says)


def test_what_is_taken_already(admin: Admin) -> None:
    """409, without a word of whose it is: a name in this tenant, a secret in any, this very source's included."""
    theirs = Admin(admin.service, "another").add()
    mine = admin.add(name="taken")
    standard = {"provider": "truthlocks", "scheme": "standard-webhooks"}
    before, unsaid = admin.size(), (theirs["id"], theirs["name"], theirs["secret"], "another", mine["secret"])

    refusals = [
        admin.ask("POST", "", {**standard, "name": "taken"}),
        admin.ask("POST", "", {**standard, "name": "new", "secret": theirs["secret"]}),
        admin.ask("PATCH", f"/{mine['id']}", {"secret": theirs["secret"]}),
        admin.ask("POST", f"/{mine['id']}/secrets", {"secret": theirs["secret"].removeprefix("whsec_")}),
        admin.ask("POST", f"/{mine['id']}/secrets", {"secret": mine["secret"]}),
    ]

    for answer in refusals:
        assert refused(answer, 409, "already")["code"] == "CONFLICT"
        assert [one for one in unsaid if one in answer.text] == []
    assert admin.size() == before
    assert [one["not_after"] for one in admin.ask("GET", f"/{mine['id']}").json()["secrets"]] == [None]


@pytest.mark.parametrize(
    ("method", "path", "body"), [("GET", "", None), ("PATCH", "", {"enabled": False}), ("POST", "/secrets", {})]
)
def test_another_tenants_source_is_not_there(
    admin: Admin, method: str, path: str, body: dict[str, object] | None
) -> None:
    """404 in the same words as for one that nobody has, whatever the header X-Tenant-ID says."""
    theirs = Admin(admin.service, "another")
    source_id = theirs.add()["id"]
    before = theirs.size()

    answers = [
        admin.ask(method, f"/{one}{path}", body, **{"x-tenant-id": "another"}) for one in (source_id, NOBODYS, "%00")
    ]

    said = [refused(answer, 404, "there is no source ")["detail"] for answer in answers]
    assert said[0].replace(source_id, NOBODYS) == said[1]
    assert theirs.size() == before
    assert source_id not in admin.ask("GET", "", **{"x-tenant-id": "another"}).text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", ""), ("GET", f"/{NOBODYS}"), ("PATCH", f"/{NOBODYS}"), ("POST", f"/{NOBODYS}/secrets")],
)
def test_it_needs_the_scope(service: Service, method: str, path: str) -> None:
    """401 without a key; 403 with one of every other scope; a question in the query is 400."""
    client, url = service.client, f"/v1/sources{path}"

    assert client.request(method, url).status_code == 401
    answer = client.request(method, url, headers=service.key("audit,export,operate"))
    assert (answer.status_code, problem(answer)["details"]) == (403, {"scope": "admin"})
    refused(Admin(service).ask(method, f"{path}?limit=1"), 400, "There is no parameter 'limit' here; known: none")


def test_a_log_that_must_not_grow(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, and nothing is changed, once recording has stopped; what there is can still be read."""
    added = admin.add()
    before = admin.size()
    monkeypatch.setattr(admin.service.intake.recorder, "refusal", "the database is another one")

    answer = admin.ask("PATCH", f"/{added['id']}", {"enabled": False})

    assert refused(answer, 503, "Nothing was changed: recording has stopped")["retry_after_ms"] == 5000
    assert admin.size() == before
    assert admin.ask("GET", f"/{added['id']}").json()["enabled"] is True


# ---- secrets stay secret ------------------------------------------------------------------------------------------


def test_no_repr_shows_a_secret() -> None:
    """Of whatever holds one on its way."""
    secret = "do-not-show-this-secret"
    asked = Addition(name="s", provider="truthlocks", scheme="token", scheme_options={"header": "x"}, secret=secret)
    source: dict[str, Any] = {
        "id": "i",
        "name": "s",
        "provider": "truthlocks",
        "scheme": "token",
        "scheme_options": {"header": "x"},
        "account": None,
        "replay_window": 300,
        "rate_limit": None,
        "enabled": True,
        "upstream": None,
    }
    listed: dict[str, Any] = {
        "environment": "live",
        "webhook_path": "/",
        "credential_since": None,
        "issuer_log": None,
        "issuer_log_from": None,
        "exclusive": False,
        "grace": 86_400,
        "follow_every": 10,
        "expect_every": None,
        "created_at": "",
        "secrets": [],
        "warnings": [],
    }
    holders: list[object] = [
        *(asked, settle(asked), Changes(secret=secret), Rotation(secret=secret), Rotated("i", secret, [])),
        AddedSource(**source, **listed, secret=secret),
        Decision(
            Source(**source, tenant="t", test=False, checking=Checking(), secrets=(new_secret(secret),)),
            new_secret(secret),
        ),
    ]

    assert [repr(one) for one in holders if secret in repr(one)] == []


def test_the_process_logs_no_secret(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Neither one that is taken nor one that is refused, and not on a fault of ours."""
    caplog.set_level(logging.DEBUG)
    admin = Admin(service)
    given = "a-secret-that-is-given-and-of-a-good-length"
    admin.ask("POST", "", {**ADD, "name": "logged", "secret": given})
    admin.ask("POST", "", {**ADD, "name": "again", "secret": given})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("receiver.intake.sources.settle", None)
        answer = admin.ask("POST", "", {**ADD, "name": "fault", "secret": given + "2"})

    assert answer.status_code == 500
    assert given not in caplog.text + answer.text
