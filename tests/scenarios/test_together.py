"""Many deliveries at the same moment: one notice sent many times is kept once, and a poisoned one harms nobody else."""

from collections import Counter
from collections.abc import Generator

import httpx2
import pytest

from tests.scenarios.service import Sender, Service, Site, at_once, leaves, revoked

POISON = {
    "a NUL escaped in a string": (revoked(receipt_type="a\0b"), 200, "not_json"),
    "a lone surrogate": (revoked(note="\ud800"), 200, "not_json"),
    "nesting a hundred thousand deep": (b"[" * 100_000 + b"]" * 100_000, 200, "not_json"),
    "a byte that is not UTF-8": (revoked().replace(b"payment", b"\xff"), 200, "not_json"),
    "an id that is far too long": (revoked("x" * 10_000), 200, "wrong_shape"),
    "more than is taken": (revoked(note="x" * 300_000), 413, None),
}
HARMLESS = {
    "an integer of five thousand digits": revoked().replace(b"}", b',"n":' + b"9" * 5000 + b"}"),
    "an integer that no column takes": revoked(n=2**63),
    "a string that looks like SQL": revoked("'); DROP TABLE deliveries; --"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An installation that the stories of this module share."""
    return Site(tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def service(site: Site) -> Generator[Service]:
    """Its service."""
    with site.serving() as service:
        yield service


def test_the_same_notice_fifty_times_at_once_is_one_entry(site: Site, service: Service) -> None:
    """One is recorded, the others are duplicates, and all are told the same entry, which is the only one."""
    sender = site.add_source()
    body = revoked()
    answers = at_once(50, lambda _: sender.deliver(service, body))

    assert Counter(answer.pop("status") for answer in answers) == {"recorded": 1, "duplicate": 49}
    assert answers == [answers[0]] * 50
    entries = service.entries(service.checkpoint_of(answers[0]["log_index"] + 1, site.vkey()).size)
    mine = [leaf for leaf in leaves(entries) if leaf.facts.get("source") == sender.path.removeprefix("/webhooks/")]
    assert [leaf.id for leaf in mine if leaf.kind != "tally"] == [answers[0]["event_id"]]


def test_two_contents_of_one_notice_at_once(site: Site, service: Service) -> None:
    """Whichever comes first is recorded; the other is one mismatch, however often both are sent."""
    sender = site.add_source()
    bodies = [revoked("3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01", note=note) for note in ("one", "other")]
    answers = at_once(40, lambda number: sender.deliver(service, bodies[number % 2]))

    statuses = Counter(answer["status"] for answer in answers)
    assert (statuses["recorded"], statuses["duplicate"], statuses["mismatch"]) == (1, 19, 20)
    assert len({answer["event_id"] for answer in answers}) == 1, "a mismatch names the first one"
    assert len({answer["leaf_hash"] for answer in answers}) == 2


def test_a_poisoned_delivery_in_a_full_batch_fails_nobody_else(site: Site, service: Service) -> None:
    """Among a hundred good ones sent at the same moment each gets its own answer, and the good ones are recorded."""
    sender = site.add_source()
    poison, harmless = list(POISON.values()), list(HARMLESS.values())
    good = [revoked() for _ in range(100)] + harmless
    bodies = [*good[:50], *(body for body, _, _ in poison), *good[50:]]

    def send(number: int) -> httpx2.Response:
        return sender.post(service, bodies[number])

    answers = at_once(len(bodies), send)
    poisoned, others = answers[50 : 50 + len(poison)], answers[:50] + answers[50 + len(poison) :]
    assert [answer.status_code for answer in others] == [200] * len(good)
    assert [answer.json()["status"] for answer in others] == ["recorded"] * len(good)
    assert len({answer.json()["log_index"] for answer in others}) == len(good)
    assert [(answer.status_code, answer.json().get("reason")) for answer in poisoned] == [
        (status, reason) for _, status, reason in poison
    ]


def test_several_sources_at_once(site: Site, service: Service) -> None:
    """The same notice to two sources is an event of each; neither waits for the other's."""
    senders: list[Sender] = [site.add_source(), site.add_source()]
    body = revoked()
    answers = at_once(20, lambda number: senders[number % 2].deliver(service, body))
    assert Counter(answer["status"] for answer in answers) == {"recorded": 2, "duplicate": 18}
    assert len({answer["event_id"] for answer in answers[::2]}) == 1
    assert len({answer["event_id"] for answer in answers}) == 2


def test_nothing_is_wrong_afterwards(site: Site, service: Service) -> None:
    """While the service still runs, every entry, tile, checkpoint and row is in order."""
    assert "nothing is wrong" in site.tell("receiver", "fsck")
