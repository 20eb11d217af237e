"""A sixth provider, added as docs/adding-a-provider.md says: its file and its commands are read from the page itself.

The file is the only thing that is added, to a copy of the checkout. There the page's commands are run as they stand,
and have to print what the page shows (`tests.scenarios.pages`).
"""

import hmac
import importlib.util
import json
import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from receiver import providers
from receiver.events import Claim, Effect, Item, Via, parse_time
from receiver.providers import Call, Denied, Inquiry, NotDone, Notice, Provider, Unfit
from receiver.strictjson import Json, parse
from tests.scenarios.pages import blocks, run_as_shown
from tests.scenarios.service import BIN, Service, Site
from translog.canonical import encode

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-provider.md").read_text()
MADE = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "rescind-data", "node_modules")

STAMP: dict[str, Json] = {
    "id": "st_1",
    "card_id": "cd_7",
    "shop_id": "shop_3",
    "revoked_at": "2026-11-20T08:59:58Z",
    "reason": "given twice",
}


@pytest.fixture(scope="module")
def module() -> str:
    """The file's path, as the page names it."""
    (path,) = re.findall(r"^`(receiver/providers/\w+\.py)`, the whole of it:$", PAGE, re.MULTILINE)
    assert not (ROOT / path).exists()
    return path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, module: str) -> Path:
    """A copy of the checkout, with that one file more."""
    copy = tmp_path_factory.mktemp("sixth") / "checkout"
    shutil.copytree(ROOT, copy, ignore=MADE)
    (copy / ".venv").symlink_to(BIN.parent)
    ((kind, source),) = blocks(PAGE, "## Write it")
    assert kind == "python"
    (copy / module).write_text(source)
    return copy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Site:
    """An installation of that copy, in an empty folder."""
    return Site(tmp_path_factory.mktemp("site"), checkout)


@pytest.fixture(scope="module")
def service(site: Site) -> Generator[Service]:
    """Its service."""
    with site.serving() as service:
        yield service


@dataclass(frozen=True, slots=True)
class Cafe:
    """The provider's end of a source of its own."""

    service: Service
    path: str
    secret: str

    def post(self, event: str, stamp: dict[str, Json], secret: str) -> httpx2.Response:
        """Deliver, signed as the page says."""
        body = json.dumps({"event": event, "stamp": stamp}).encode()
        signature = hmac.digest(secret.encode(), body, "sha256").hex()
        headers = {"x-ristrella-signature": f"sha256={signature}"}
        return self.service.client.post(self.path, content=body, headers=headers)

    def deliver(self, event: str = "stamp.revoked", **changes: Json) -> dict[str, Any]:
        """Deliver the stamp, with other members, which must be answered 200; the answer."""
        answer = self.post(event, {**STAMP, **changes}, self.secret)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def cafe(site: Site, service: Service) -> Cafe:
    """A source of the sixth provider, without a scheme: it documents one."""
    options = ("--provider", "ristrella", "--account", "shop_3", "--json")
    made = json.loads(site.tell("receiver", "source", "add", "corner", *options))
    return Cafe(service, made["webhook_path"], made["secret"])


def test_it_passes_every_check(site: Site, checkout: Path) -> None:
    """Lint, types, the rules of the house and those of providers, in the copy of the checkout."""
    run_as_shown(PAGE, ["## Check it"], site, checkout, PYRIGHT_PYTHON_IGNORE_WARNINGS="1")


def test_it_works_as_the_page_shows(site: Site, service: Service) -> None:
    """Added, delivered to, asked, proved, verified. Its port leads to the service's by curl's own configuration."""
    port = service.client.base_url.port
    (site.folder / ".curlrc").write_text(f'connect-to = "127.0.0.1:8000:127.0.0.1:{port}"\nnoproxy = "*"\n')
    run_as_shown(PAGE, ["## Try it"], site, site.folder, CURL_HOME=str(site.folder))


def test_what_becomes_of_other_deliveries(site: Site, cafe: Cafe) -> None:
    """What the page says of them: told again, otherwise, at another time, of another kind, not authentic."""
    first = cafe.deliver()
    again = cafe.deliver()
    otherwise = cafe.deliver(reason="stolen")
    later = cafe.deliver(revoked_at="2026-11-20T09:30:00Z")
    assert [first["status"], again["status"], otherwise["status"]] == ["recorded", "duplicate", "mismatch"]
    assert (later["status"], later["event_id"] != first["event_id"]) == ("recorded", True)
    for event, codes in ((first, []), (later, ["revoked_again"])):
        told = cafe.service.get(f"/v1/events/{event['event_id']}", site.key()).json()
        assert codes == [breach["code"] for breach in told["breaches"]]

    assert cafe.deliver("stamp.given") == {"status": "ignored"}
    unfit = [cafe.deliver(shop_id="shop_4"), cafe.deliver("stamp.stolen"), cafe.deliver(revoked_at=None)]
    assert [one["status"] for one in unfit] == ["quarantined"] * 3
    assert [one["reason"] for one in unfit] == ["other_account", "unknown_type", "wrong_shape"]
    refused = cafe.post("stamp.revoked", STAMP, "another")
    assert (refused.status_code, refused.json()["details"]) == (401, {"reason": "wrong_signature"})


def test_the_answer_is_the_event_that_is_delivered(checkout: Path, module: str) -> None:
    """The operation's own answer, by another way."""
    provider = loaded(checkout / module)
    answer: dict[str, Json] = {"stamp": STAMP}
    told = provider.read({"event": "stamp.revoked", **answer})
    passed_on = provider.operation.read(Call({"id": "st_1"}, parse(b'{"reason": "given twice"}'), answer))
    assert isinstance(told, Notice)
    assert isinstance(passed_on, Notice)
    assert (told.event, told.key, told.digest) == (passed_on.event, passed_on.key, passed_on.digest)
    assert (told.via, passed_on.via) == (Via.WEBHOOK, Via.RELAY)
    assert Unfit("wrong_shape", "stamp.id is not the one in the path") == provider.operation.read(
        Call({"id": "st_2"}, {}, answer)
    )
    assert provider.operation.item({"id": "st_1"}, {}) == told.event.item


def test_the_record_says_what_became_of_a_call(checkout: Path, module: str) -> None:
    """The same event once more, or that there is none; another stamp's record says nothing."""
    provider = loaded(checkout / module)
    lookup = provider.operation.lookup
    assert lookup is not None
    assert lookup.target({"id": "st/1"}, {}) == "/v1/stamps/st%2F1"

    def shown(**changes: Json) -> Notice | NotDone | Unfit:
        return lookup.read(Inquiry({"id": "st_1"}, {}, datetime.now(UTC), {"stamp": {**STAMP, **changes}}, frozenset()))

    told, revoked = provider.read({"event": "stamp.revoked", "stamp": STAMP}), shown()
    assert isinstance(told, Notice)
    assert isinstance(revoked, Notice)
    assert (revoked.event, revoked.key, revoked.digest, revoked.via) == (told.event, told.key, told.digest, Via.POLL)
    assert shown(revoked_at=None) == NotDone("the stamp is not revoked")
    assert shown(id="st_2") == Unfit("wrong_shape", "stamp.id is not the one asked for")


def test_what_the_issuer_says_is_the_act_of_the_event(checkout: Path, module: str) -> None:
    """By an entry of its log and by its record alike; a stamp that is not revoked denies it."""
    provider = loaded(checkout / module)
    act = Claim("shop_3", Item("stamp", "st_1"), "st_1", Effect.REVOKED, None, None, parse_time("2026-11-20T08:59:58Z"))
    entry = {"provider": "ristrella", "account": "shop_3", "item": {"type": "stamp", "id": "st_1"}, "effect": "revoked"}
    entry |= {"operation": "st_1", "at": "2026-11-20T08:59:58Z", "event": "STAMP_REVOKE"}
    entry |= {"amount": None, "quantity": None}

    assert provider.entry(encode(entry)) == act
    assert provider.entry(encode(entry | {"provider": "another"})) is None
    assert provider.record is not None
    assert provider.record.target(act) == "/v1/stamps/st_1"
    assert provider.record.read(replace(act, at=None), {"stamp": STAMP}) == act
    assert provider.record.read(act, {"stamp": {**STAMP, "revoked_at": None}}) == Denied("the stamp is not revoked")
    assert isinstance(provider.record.read(act, {"stamp": {**STAMP, "id": "st_2"}}), Unfit)


def test_without_the_file_there_is_no_such_provider(tmp_path: Path) -> None:
    """The project as it is refuses the name, and makes nothing."""
    site = Site(tmp_path)
    done = site.run("receiver", "source", "add", "cafe", "--provider", "ristrella")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'ristrella' is not one of" in done.stderr
    assert not site.data.exists()
    with pytest.raises(ValueError, match="there is no provider 'ristrella'"):
        providers.get("ristrella")


def loaded(file: Path) -> Provider:
    """The provider that a file holds, taken by itself."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    assert isinstance(found.PROVIDER, Provider)
    return found.PROVIDER
