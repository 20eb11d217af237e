"""What a delivery gets that is not let in: 401, 404, 413 and 429, with nothing of it kept."""

import base64
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeAlias

import httpx2
import pytest
import sqlalchemy as sa

from receiver.records.tables import sources
from tests.receiver.service import Sender, Service, encoded, problem, receipt_id, revoked, running, settings_in

WRONG = "v1," + base64.b64encode(bytes(32)).decode()

Headers: TypeAlias = list[tuple[bytes, bytes]]
Change: TypeAlias = Callable[[Headers], Headers]


def without(*names: str) -> Change:
    """A delivery that lacks these headers."""
    return lambda headers: [pair for pair in headers if pair[0].decode() not in names]


def doubled(name: str) -> Change:
    """A delivery that has that header twice."""
    return lambda headers: [*headers, *(pair for pair in headers if pair[0] == name.encode())]


def changed(name: str, value: str | bytes) -> Change:
    """A delivery with that header changed."""
    raw = value if isinstance(value, bytes) else value.encode()
    return lambda headers: [*without(name)(headers), (name.encode(), raw)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("webhook-id"), "missing_signature"),
        (without("webhook-timestamp"), "missing_signature"),
        (without("webhook-signature"), "missing_signature"),
        (without("webhook-id", "webhook-timestamp", "webhook-signature"), "missing_signature"),
        (doubled("webhook-id"), "malformed_signature"),
        (doubled("webhook-timestamp"), "malformed_signature"),
        (doubled("webhook-signature"), "malformed_signature"),
        (changed("webhook-signature", WRONG), "wrong_signature"),
        (changed("webhook-id", "msg_other"), "wrong_signature"),
        (changed("webhook-timestamp", str(int(time.time()) - 7)), "wrong_signature"),
        (changed("webhook-id", ""), "malformed_signature"),
        (changed("webhook-timestamp", "1_795_165_200"), "malformed_signature"),
        (changed("webhook-timestamp", "+1795165200"), "malformed_signature"),
        (changed("webhook-timestamp", "01795165200"), "malformed_signature"),
        (changed("webhook-timestamp", "1795165200.0"), "malformed_signature"),
        (changed("webhook-timestamp", "1" * 30), "malformed_signature"),
        (changed("webhook-timestamp", "٣٣".encode()), "malformed_signature"),
        (changed("webhook-signature", "v1,AAAA"), "malformed_signature"),
        (changed("webhook-signature", ""), "malformed_signature"),
        (changed("webhook-signature", "v1"), "malformed_signature"),
        (changed("webhook-signature", "v1,é".encode()), "malformed_signature"),
        (changed("webhook-signature", b"\xff\xfe"), "malformed_signature"),
        (changed("webhook-signature", WRONG.replace("v1,", "v1, ")), "malformed_signature"),
        (changed("webhook-signature", " ".join([WRONG] * 17)), "malformed_signature"),
        (changed("webhook-signature", "v1," + "A" * 5000), "malformed_signature"),
        (changed("webhook-signature", WRONG.replace("v1", "v2")), "wrong_signature"),
    ],
)
def test_what_is_not_authenticated_is_refused(service: Service, sender: Sender, change: Change, reason: str) -> None:
    """401 that says why, a count, and nothing else: the body, which is no JSON, has not been looked at."""
    size, body = service.size(), b"{ not read"

    answer = service.client.post(sender.path, content=body, headers=change(encoded(sender.headers(body))))

    members = problem(answer)
    assert answer.status_code == 401
    assert members["code"] == ("AUTH_REQUIRED" if reason == "missing_signature" else "AUTH_INVALID")
    assert members["details"] == {"reason": reason}
    assert (answer.headers["www-authenticate"], answer.headers["cache-control"]) == ("Signature", "no-store")
    assert (sender.rows(), service.size()) == ([], size)
    assert sender.counts() == {f"refused:{reason}": 1}


@pytest.mark.parametrize(("offset", "reason"), [(-302, "stale"), (302, "future")])
def test_the_replay_window_is_closed_on_both_sides(sender: Sender, offset: int, reason: str) -> None:
    """401 for an authentic delivery that was signed too long ago or ahead, although its signature fits."""
    answer = sender.post(revoked(), at=time.time() + offset)

    assert (answer.status_code, problem(answer)["details"]) == (401, {"reason": reason})
    assert (sender.rows(), sender.counts()) == ([], {f"refused:{reason}": 1})


@pytest.mark.parametrize("offset", [-295, 295])
def test_within_the_replay_window_it_is_let_in(sender: Sender, offset: int) -> None:
    """Clocks differ."""
    assert sender.post(revoked(), at=time.time() + offset).status_code == 200


def test_a_body_that_was_changed_is_refused(sender: Sender) -> None:
    """By one byte, under a signature that was good for the other."""
    body = revoked()
    answer = sender.post(body.replace(b"payment", b"paymend"), headers=sender.headers(body))

    assert (answer.status_code, problem(answer)["details"]) == (401, {"reason": "wrong_signature"})


def test_a_secret_opens_its_own_source_only(service: Service) -> None:
    """A delivery that is good for one source is refused at another."""
    one, two = service.add_source(), service.add_source()
    body = revoked()

    answer = two.post(body, headers=one.headers(body))

    assert (answer.status_code, two.rows()) == (401, [])


@pytest.mark.parametrize("source", ["nobody", "0198a1b2-0000-7000-8000-000000000000", "%00", "%ff", "..", "a" * 4000])
def test_an_unknown_source(service: Service, source: str) -> None:
    """404, and a counter that anyone may push up without growing anything."""
    before = service.metric("rescind_unknown_source_total")

    answer = service.client.post(f"/webhooks/{source}", content=revoked())

    assert (answer.status_code, problem(answer)["code"]) == (404, "NOT_FOUND")
    assert service.metric("rescind_unknown_source_total") - before == (0 if source == ".." else 1)


def test_an_unknown_source_is_not_told_from_a_disabled_one(service: Service, sender: Sender) -> None:
    """The same answer to the byte."""
    with service.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == sender.source_id).values(enabled=False))
    service.refresh()

    assert sender.post(revoked()).content == service.client.post("/webhooks/nobody", content=b"").content


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_deliveries_are_posted(sender: Sender, method: str) -> None:
    """405 that says so, for every other method."""
    answer = sender.service.client.request(method, sender.path)

    assert answer.status_code == (204 if method == "OPTIONS" else 405)
    assert set(answer.headers["allow"].split(", ")) == {"OPTIONS", "POST"}
    if answer.content:
        assert problem(answer)["code"] == "VALIDATION_ERROR"


def test_the_largest_body(sender: Sender) -> None:
    """256 KiB are taken, whatever is in them."""
    body = revoked(padding="").replace(
        b'"padding": ""', b'"padding": "' + b"x" * (262_144 - len(revoked(padding=""))) + b'"'
    )

    assert len(body) == 262_144
    assert sender.post(body).json()["status"] == "recorded"


def test_a_larger_body(service: Service, sender: Sender) -> None:
    """413 for one byte more, however it is signed; nothing is kept but a count."""
    answer = sender.post(b"x" * 262_145)

    assert (answer.status_code, problem(answer)["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert answer.headers["connection"] == "close"
    assert (sender.rows(), sender.counts()) == ([], {"refused:too_large": 1})


# ---- 429 ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service that lets an address cause three refusals a minute, and believes one proxy."""
    settings = settings_in(
        tmp_path_factory.mktemp("strict"), refusals_per_minute=3, trusted_proxies="127.0.0.1, 10.0.0.0/8"
    )
    with running(settings) as service:
        yield service


def forged(sender: Sender, address: str) -> httpx2.Response:
    """A delivery that is not authentic, from that address behind the proxy."""
    return sender.post(revoked(), headers={"webhook-signature": WRONG, "x-forwarded-for": address})


def test_an_address_may_not_guess_for_ever(strict: Service) -> None:
    """The fourth refusal in a minute is a 429 that says how long to wait; another address is none the worse."""
    sender = strict.add_source()

    answers = [forged(sender, "192.0.2.1") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert problem(answers[3])["code"] == "RATE_LIMIT_EXCEEDED"
    assert 55 <= int(answers[3].headers["retry-after"]) <= 60
    assert forged(sender, "192.0.2.2").status_code == 401
    assert sender.counts() == {"refused:wrong_signature": 5}


def test_unknown_sources_count_as_well(strict: Service) -> None:
    """Whoever tries ids is slowed down like who tries signatures."""
    headers = {"x-forwarded-for": "192.0.2.3"}

    answers = [strict.client.post("/webhooks/nobody", headers=headers) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]


def test_authentic_deliveries_always_pass(strict: Service) -> None:
    """Even from an address that is answered 429, for a stranger may share it."""
    sender = strict.add_source()
    assert [forged(sender, "192.0.2.4").status_code for _ in range(4)][3] == 429

    answer = sender.post(revoked(), headers={"x-forwarded-for": "192.0.2.4"})

    assert (answer.status_code, answer.json()["status"]) == (200, "recorded")


def test_only_proxies_that_are_trusted_are_believed(strict: Service) -> None:
    """An address is the last one that no trusted proxy added: what the sender wrote before it changes nothing."""
    sender = strict.add_source()
    chains = ["203.0.113.1, 192.0.2.5", "203.0.113.2, 192.0.2.5, 10.1.2.3", "203.0.113.3,192.0.2.5", "192.0.2.5"]

    assert [forged(sender, chain).status_code for chain in chains] == [401, 401, 401, 429]


def test_without_trusted_proxies_the_header_means_nothing(tmp_path: Path) -> None:
    """All requests count for the connection's own address."""
    with running(settings_in(tmp_path, refusals_per_minute=2)) as service:
        sender = service.add_source()
        statuses = [forged(sender, f"192.0.2.{last}").status_code for last in range(3)]

    assert statuses == [401, 401, 429]


def test_a_source_may_have_a_rate(strict: Service) -> None:
    """Deliveries beyond it get 429 after they were authenticated, and are not kept; another source is not slowed."""
    sender, other = strict.add_source(), strict.add_source()
    with strict.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == sender.source_id).values(rate_limit=2))
    strict.refresh()

    answers = [sender.post(revoked(receipt_id())) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 55 <= int(answers[2].headers["retry-after"]) <= 60
    assert problem(answers[2])["code"] == "RATE_LIMIT_EXCEEDED"
    assert len(sender.rows()) == 2
    assert sender.counts() == {"recorded": 2, "refused:too_many": 1}
    assert other.post(revoked()).status_code == 200


def test_a_refusal_does_not_use_up_the_rate_of_its_source(strict: Service) -> None:
    """Nobody can keep a source's own deliveries out by forging some."""
    sender = strict.add_source()
    with strict.records.database.write() as tx:
        tx.execute(sa.update(sources).where(sources.c.id == sender.source_id).values(rate_limit=1))
    strict.refresh()
    assert forged(sender, "192.0.2.6").status_code == 401

    assert sender.post(revoked()).status_code == 200
