"""What auditors see of cross-checks: the state of each event, why, and the issuer's own proof in its evidence."""

import base64
from datetime import timedelta
from typing import Any

import pytest

from receiver.events import Effect, Item, format_time, new_id
from tests.receiver.claims import GRACE, ORGANIZATION, Issuer, check, deliver, new_source, reversed_, state_of
from tests.receiver.service import Service, until
from tests.receiver.submissions import RECEIVED_AT, Source
from translog import evidence
from translog.policy import Policy
from translog.proof import TlogProof

NONE = {"state": "none", "id": None, "by": None, "since": None, "issuer_log": None, "issuer_index": None, "late": False}
LATER = RECEIVED_AT + timedelta(seconds=2 * GRACE)


@pytest.fixture(scope="module")
def key(either_service: Service) -> dict[str, str]:
    """A key with the scope `audit`."""
    return either_service.key()


@pytest.fixture
def issuer(either_service: Service) -> Issuer:
    """An issuer's log of its own."""
    return Issuer(either_service.records)


class Story:
    """One source that names an issuer's log, and what is asked about its events."""

    def __init__(self, service: Service, key: dict[str, str], issuer: Issuer) -> None:
        self.service, self.key, self.issuer = service, key, issuer
        self.source = issuer.source("scrip", ORGANIZATION)

    def reverse(self, reversal: str, amount: str = "40.00", redemption: str = "r1") -> str:
        """Deliver a reversal; the event's id."""
        (outcome,) = deliver(self.source, reversed_(redemption, reversal, amount))
        return outcome.id

    def log(
        self, reversal: str, amount: str = "40.00", redemption: str = "r1", effect: Effect = Effect.REVERSED
    ) -> int:
        """Have the issuer's log say so; the index."""
        return self.issuer.says(
            "scrip",
            Effect.REVERSED,
            Item("redemption", redemption),
            account=ORGANIZATION,
            operation=reversal,
            amount=amount,
        )

    def judged(self, event_id: str, state: str) -> dict[str, Any]:
        """The event, once it is in that state."""
        check(self.service.records)
        until(lambda: state_of(self.service.records, event_id) == state)
        return self.event(event_id)

    def event(self, event_id: str) -> dict[str, Any]:
        """The event as it is answered."""
        return self.service.client.get(f"/v1/events/{event_id}", headers=self.key).json()

    def listed(self, state: str) -> list[str]:
        """The ids of the source's events in a state."""
        asked = {"cross_check": state, "source": self.source.endpoint.source.id}
        answer = self.service.client.get("/v1/events", params=asked, headers=self.key)
        return [one["id"] for one in answer.json()["items"]]


@pytest.fixture
def story(either_service: Service, key: dict[str, str], issuer: Issuer) -> Story:
    """A source of its own."""
    return Story(either_service, key, issuer)


def test_confirmed(story: Story) -> None:
    """It says by whom, since when and by which entry."""
    event_id, index = story.reverse("v1"), story.log("v1")
    story.issuer.read_at(None)

    found = story.judged(event_id, "confirmed")["cross_check"]

    since, leaf = found.pop("since"), found.pop("id")
    assert found == {
        "state": "confirmed",
        "by": "issuer_log",
        "issuer_log": story.issuer.origin,
        "issuer_index": index,
        "late": False,
        "differences": [],
    }
    assert _finding(story.source, event_id)[1] == leaf
    assert since > format_time(RECEIVED_AT)


def test_contradicted(story: Story) -> None:
    """It names what differs, and the item is disputed."""
    event_id = story.reverse("v1", "40.00")
    story.log("v1", "39.00")
    story.issuer.read_at(None)

    found = story.judged(event_id, "contradicted")["cross_check"]

    assert found["differences"] == [{"field": "amount", "event": "40.00", "issuer": "39.00"}]
    asked = {"source": story.source.endpoint.source.id}
    item = story.service.client.get("/v1/items/scrip/redemption/r1", params=asked, headers=story.key).json()
    assert (item["state"], item["since"]) == ("disputed", found["since"])


def test_absent_then_late(story: Story) -> None:
    """What was not there in time is absent; found later, it is confirmed, and late."""
    event_id = story.reverse("v1")
    story.issuer.read_at(format_time(LATER))
    assert story.judged(event_id, "absent")["cross_check"]["issuer_index"] is None

    story.log("v1")
    story.issuer.read_at(format_time(LATER))

    found = story.judged(event_id, "confirmed")["cross_check"]
    assert (found["late"], found["issuer_index"]) == (True, 0)


def test_pending_from_the_beginning(story: Story) -> None:
    """An event that has only just come is pending, before and after it is taken up; no entry tells of that."""
    event_id = story.reverse("v1")

    assert story.event(event_id)["cross_check"] == {**NONE, "state": "pending", "differences": []}
    check(story.service.records)
    assert story.event(event_id)["cross_check"] == {**NONE, "state": "pending", "differences": []}


def test_none(either_service: Service, key: dict[str, str]) -> None:
    """Where a source names nothing to check against, no event is checked."""
    source = new_source(either_service.records, "scrip", ORGANIZATION)
    (outcome,) = deliver(source, reversed_("r1", "v1", "1.00"))

    answer = either_service.client.get(f"/v1/events/{outcome.id}", headers=key).json()

    assert answer["cross_check"] == {**NONE, "differences": []}


def test_filter(story: Story) -> None:
    """Events are found by their state, each in one."""
    ids = {
        "confirmed": story.reverse("v1", redemption="r1"),
        "contradicted": story.reverse("v2", "2.00", redemption="r2"),
        "absent": story.reverse("v3", redemption="r3"),
    }
    story.log("v1", redemption="r1")
    story.log("v2", "2.01", redemption="r2")
    story.issuer.read_at(format_time(LATER))
    for state, event_id in ids.items():
        story.judged(event_id, state)
    ids["pending"] = deliver(story.source, reversed_("r4", "v4"), at=LATER + timedelta(days=9))[0].id

    assert {state: story.listed(state) for state in ids} == {state: [event_id] for state, event_id in ids.items()}
    assert story.listed("none") == []


def test_evidence_with_the_issuers_proof(story: Story) -> None:
    """The issuer's entry, its checkpoint and the proof between them come with the event, and verify by its key."""
    event_id = story.reverse("v1")
    story.log("v0", redemption="r0")
    index = story.log("v1")
    story.issuer.read_at(None)
    story.judged(event_id, "confirmed")

    answer = story.service.client.get(f"/v1/events/{event_id}/evidence", headers=story.key)

    ours = Policy.of(str(story.service.tenant.log.verifying_key))
    issuer = evidence.verify(answer.content, ours).issuer
    assert issuer is not None
    proof = TlogProof.parse(issuer)
    assert (proof.index, proof.extra) == (index, story.issuer.entries[index])
    checkpoint = proof.verify(proof.extra or b"", story.issuer.identity.trust())
    assert checkpoint.origin == story.issuer.origin
    accepted = {**story.key, "accept": "application/json"}
    members = story.service.client.get(f"/v1/events/{event_id}/evidence", headers=accepted).json()
    assert base64.b64decode(members["issuer"]) == issuer


def test_evidence_of_what_is_not_confirmed(story: Story) -> None:
    """An entry that contradicts an event is in the evidence of the cross-check, not in the event's."""
    event_id = story.reverse("v1", "40.00")
    story.log("v1", "39.00")
    story.issuer.read_at(None)
    story.judged(event_id, "contradicted")
    ours = Policy.of(str(story.service.tenant.log.verifying_key))

    mine = story.service.client.get(f"/v1/events/{event_id}/evidence", headers=story.key).content
    leaf, found = _finding(story.source, event_id)
    told = story.service.client.get(f"/v1/events/{found}/evidence", headers=story.key).content

    assert evidence.verify(mine, ours).issuer is None
    verified = evidence.verify(told, ours)
    assert (verified.leaf.kind, verified.leaf.facts) == ("cross_check", leaf)
    assert verified.event is not None
    assert verified.event["differences"] == [{"event": "40.00", "field": "amount", "issuer": "39.00"}]
    assert TlogProof.parse(verified.issuer or b"").extra == story.issuer.entries[0]


def test_another_tenant_sees_nothing(story: Story) -> None:
    """What is found out of an event is its tenant's."""
    event_id = story.reverse("v1")
    story.log("v1")
    story.issuer.read_at(None)
    story.judged(event_id, "confirmed")
    _, found = _finding(story.source, event_id)
    other = story.service.key(tenant=f"other-{new_id()[:8]}")

    for asked in (event_id, found):
        assert story.service.client.get(f"/v1/events/{asked}/evidence", headers=other).status_code == 404


def _finding(source: Source, event_id: str) -> tuple[dict[str, Any], str]:
    """The last cross-check of an event: the facts of its leaf, and its id."""
    leaf = [one for one in source.leaves() if one.kind == "cross_check" and one.facts["first"] == event_id][-1]
    return leaf.facts, leaf.id
