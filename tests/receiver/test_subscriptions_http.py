"""`/v1/subscriptions`: by keys with the scope `admin`, each for its own tenant."""

from base64 import b64decode, b64encode
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from receiver.assurance import outbox
from receiver.assurance.addresses import SETTING
from receiver.assurance.subscribing import KINDS
from tests.receiver.service import Service, problem, revoked, running, settings_in

URL = "http://127.0.0.1:9/hook"
SECRET = "whsec_" + b64encode(bytes(range(32))).decode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service whose subscriptions may call a network of the operator's, in which nothing answers."""
    with running(settings_in(tmp_path_factory.mktemp("service"), subscription_networks="127.0.0.1")) as service:
        yield service


@pytest.fixture
def tenant(service: Service, request: pytest.FixtureRequest) -> str:
    """A tenant of the test's own."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    service.records.ensure_tenant(name)
    return name


class Caller:
    """Somebody with a key."""

    def __init__(self, service: Service, tenant: str, scopes: str = "admin") -> None:
        self.service = service
        self.headers = service.key(scopes, tenant)
        self.key_id = self.tell(-1, tenant)["id"]
        self.tenant = tenant

    def tell(self, index: int, tenant: str | None = None) -> dict[str, Any]:
        """The facts of one of the last entries."""
        name = tenant or self.tenant
        return dict(self.service.leaf(self.service.size(name) + index, name).facts)

    def ask(self, method: str, path: str = "", body: Any = None) -> httpx2.Response:
        """Ask for something under `/v1/subscriptions`."""
        return self.service.client.request(method, f"/v1/subscriptions{path}", headers=self.headers, json=body)

    def add(self, **asked: Any) -> dict[str, Any]:
        """Add one that must be taken."""
        answer = self.ask("POST", body={"name": "alerts", "url": URL, "on": ["gap", "recorded"], **asked})
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture
def caller(service: Service, tenant: str) -> Caller:
    """An administrator of the test's tenant."""
    return Caller(service, tenant)


def test_one_is_added_and_found(caller: Caller) -> None:
    """With its secret and what to warn of in this answer alone."""
    added = caller.add()
    secret, warnings = added.pop("secret"), added.pop("warnings")

    assert len(b64decode(secret.removeprefix("whsec_"))) == 32
    assert warnings == ["the URL is http://: what is passed on travels there unencrypted"]
    assert (added["name"], added["url"], added["on"]) == ("alerts", URL, ["recorded", "gap"])
    assert (added["enabled"], added["waiting"], added["given_up"], added["failure"], added["replay"]) == (
        True,
        0,
        0,
        None,
        None,
    )
    assert caller.ask("GET", f"/{added['id']}").json() == added
    assert caller.ask("GET").json() == {"items": [added], "next_cursor": None}
    assert secret not in caller.ask("GET").text
    assert caller.tell(-1) == {
        "action": "subscription_added",
        "by": caller.key_id,
        "id": caller.tenant,
        "subscription": added["id"],
    }


def test_a_secret_that_is_given_is_not_given_back(caller: Caller) -> None:
    """Null says that it is known already."""
    assert caller.add(secret=SECRET, from_index=0)["secret"] is None


def test_one_is_changed(caller: Caller) -> None:
    """What is left out stays; each change is told with the key's id."""
    its_id = caller.add()["id"]
    changed = caller.ask("PATCH", f"/{its_id}", {"on": list(KINDS), "enabled": False, "secret": SECRET})

    assert changed.status_code == 200
    assert (changed.json()["on"], changed.json()["enabled"], changed.json()["url"]) == (list(KINDS), False, URL)
    assert changed.json()["warnings"] == []
    assert "secret" not in changed.json()
    assert [caller.tell(at)["action"] for at in (-2, -1)] == ["subscription_changed", "subscription_disabled"]
    assert caller.tell(-1)["by"] == caller.key_id


def test_one_is_removed(caller: Caller) -> None:
    """The answer is how it was; then there is none."""
    added = caller.add()
    removed = caller.ask("DELETE", f"/{added['id']}")

    assert (removed.status_code, removed.json()["id"]) == (200, added["id"])
    assert caller.tell(-1)["action"] == "subscription_removed"
    assert caller.ask("GET", f"/{added['id']}").status_code == 404
    assert caller.ask("DELETE", f"/{added['id']}").status_code == 404
    assert caller.add()["id"] != added["id"]


def test_entries_are_replayed(caller: Caller) -> None:
    """Of those that were passed on so far."""
    its_id = caller.add(from_index=0)["id"]
    sender = caller.service.add_source(caller.tenant)
    assert sender.post(revoked()).json()["status"] == "recorded"
    while outbox.fill(caller.service.records):
        pass
    assert caller.ask("PATCH", f"/{its_id}", {"enabled": False}).status_code == 200  # the service passes nothing on
    replayed = caller.ask("POST", f"/{its_id}/replay", {"from_index": 0, "to_index": 1})

    assert (replayed.status_code, replayed.json()["replay"]) == (200, {"next_index": 0, "to_index": 1})
    beyond = caller.ask("POST", f"/{its_id}/replay", {"from_index": 10**6})
    assert (beyond.status_code, problem(beyond)["details"].keys()) == (400, {"from_index"})


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        ({"name": " "}, "name"),
        ({"name": 1}, "name"),
        ({"url": "ftp://h/"}, "url"),
        ({"url": "http://127.0.0.2/"}, "url"),
        ({"url": "https://user:word@h/"}, "url"),
        ({"on": []}, "on"),
        ({"on": ["everything"]}, "on"),
        ({"on": "gap"}, "on"),
        ({"secret": "short"}, "secret"),
        ({"from_index": -1}, "from_index"),
        ({"from_index": 10**6}, "from_index"),
        ({"from": 1}, "from"),
        ({"url": None}, "url"),
    ],
)
def test_what_cannot_be_added_is_named(caller: Caller, asked: dict[str, Any], member: str) -> None:
    """And nothing of it is kept, told or repeated."""
    size = caller.service.size(caller.tenant)
    answer = caller.ask("POST", body={"name": "alerts", "url": URL, "on": ["gap"], **asked})

    assert answer.status_code == 400
    assert problem(answer)["details"].keys() == {member}
    assert not [one for one in ("word", "everything", "short", "127.0.0.2") if one in answer.text]
    assert caller.service.size(caller.tenant) == size
    assert caller.ask("GET").json()["items"] == []


def test_an_address_of_the_operators_network_is_refused_with_the_setting(caller: Caller) -> None:
    """By whichever host: this machine has a name as well."""
    for url in ("http://10.0.0.1/", "http://169.254.169.254/latest/", "http://[::1]/", "http://0x7f000002/"):
        answer = caller.ask("POST", body={"name": "alerts", "url": url, "on": ["gap"]})
        assert answer.status_code == 400
        assert SETTING in problem(answer)["detail"]


def test_what_else_is_refused(caller: Caller) -> None:
    """A name that is taken, nothing to change, an unknown member or parameter, and what is not there."""
    its_id = caller.add()["id"]
    taken = caller.ask("POST", body={"name": "alerts", "url": URL, "on": ["gap"]})
    assert (taken.status_code, problem(taken)["code"]) == (409, "CONFLICT")
    for method, path, body, status in (
        ("PATCH", f"/{its_id}", {}, 400),
        ("PATCH", f"/{its_id}", {"name": "other"}, 400),
        ("PATCH", f"/{its_id}", {"on": [1]}, 400),
        ("POST", f"/{its_id}/replay", {}, 400),
        ("POST", f"/{its_id}/replay", {"from_index": 5, "to_index": 4}, 400),
        ("GET", "?limit=1", None, 400),
        ("GET", "/nobody", None, 404),
        ("PATCH", "/nobody", {"enabled": False}, 404),
        ("DELETE", "/nobody", None, 404),
        ("POST", "/nobody/replay", {"from_index": 0}, 404),
        ("PUT", f"/{its_id}", {}, 405),
    ):
        answer = caller.ask(method, path, body)
        assert (answer.status_code, bool(problem(answer))) == (status, True), (method, path, body)


def test_another_tenants_subscriptions_are_not_there(caller: Caller) -> None:
    """Whatever is asked of them."""
    its_id = caller.add()["id"]
    other = Caller(caller.service, "default")

    assert other.ask("GET", f"/{its_id}").status_code == 404
    assert other.ask("PATCH", f"/{its_id}", {"enabled": False}).status_code == 404
    assert other.ask("DELETE", f"/{its_id}").status_code == 404
    assert other.ask("POST", f"/{its_id}/replay", {"from_index": 0}).status_code == 404
    assert its_id not in other.ask("GET").text
    assert caller.ask("GET", f"/{its_id}").json()["enabled"] is True


@pytest.mark.parametrize("scopes", ["audit", "operate", "export"])
def test_it_needs_a_key_of_an_administrator(service: Service, tenant: str, scopes: str) -> None:
    """For reading as well: a URL may have a secret in it."""
    caller = Caller(service, tenant, scopes)
    for method, path in (
        ("GET", ""),
        ("GET", "/some"),
        ("POST", ""),
        ("PATCH", "/some"),
        ("DELETE", "/some"),
        ("POST", "/some/replay"),
    ):
        assert caller.ask(method, path, {}).status_code == 403
        assert service.client.request(method, f"/v1/subscriptions{path}").status_code == 401


def test_nothing_is_changed_once_recording_has_stopped(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The log that would have to tell of it is not the one it was; what there is can still be read."""
    settings = settings_in(tmp_path_factory.mktemp("halted"), subscription_networks="127.0.0.1")
    with running(settings) as service:
        caller = Caller(service, "default")
        its_id = caller.add()["id"]
        service.intake.recorder.halt("for a test")
        for method, path, body in (
            ("POST", "", {"name": "n", "url": URL, "on": ["gap"]}),
            ("PATCH", f"/{its_id}", {"enabled": False}),
            ("DELETE", f"/{its_id}", None),
        ):
            answer = caller.ask(method, path, body)
            assert (answer.status_code, problem(answer)["retry_after_ms"]) == (503, 5000)
        assert caller.ask("GET", f"/{its_id}").json()["enabled"] is True
