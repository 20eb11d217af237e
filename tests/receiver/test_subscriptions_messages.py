"""`receiver.assurance.messages`: what is passed on of each topic, as `docs/subscriptions.md` shows it, and signed."""

import base64
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook

from receiver.assurance import messages
from receiver.assurance.messages import Message, of_entry
from receiver.assurance.subscribing import KINDS, signing_key
from receiver.events import Kind, new_id
from receiver.intake.signatures import Authenticated, Secret, StandardWebhooks, verifier
from receiver.records.opening import Records
from receiver.records.tables import deliveries, findings
from tests.receiver.service import ACCOUNT, receipt_id, revoked
from tests.receiver.submissions import Source
from tests.receiver.subscribers import findings as find_all
from tests.receiver.subscribers import source
from translog.merkle import leaf_hash

PAGE = Path(__file__).resolve().parents[2] / "docs" / "subscriptions.md"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass(frozen=True, slots=True)
class Made:
    """Records with an entry of each topic."""

    records: Records
    source: Source
    indexes: dict[str, int]
    receipt: str

    def message(self, topic: str) -> Message:
        """What is passed on of it."""
        with self.records.database.read() as tx:
            return of_entry(tx, "default", self.source.log_id, self.indexes[topic])

    def data(self, topic: str) -> dict[str, Any]:
        """The message's data."""
        return json.loads(self.message(topic).body)["data"]


@pytest.fixture
def made(records: Records) -> Made:
    """An event, one that differs from it, one that is not understood, and what was found out."""
    its, receipt = source(records), receipt_id()
    written = [outcome for body in (revoked(receipt), revoked(receipt, more=1), b"{}") for outcome in its.write(body)]
    found = find_all(records, its, written[0].id)
    topics = ("recorded", "mismatch", "quarantined", "cross_check", "gap", "fork", "silence")
    return Made(records, its, dict(zip(topics, [one.log_index for one in (*written, *found)], strict=True)), receipt)


def examples() -> dict[str, dict[str, Any]]:
    """The messages that the page shows, by their types."""
    blocks = re.findall(r"(?:^ {4}.*\n)+", PAGE.read_text(), re.MULTILINE)
    shown = [json.loads(block) for block in blocks if block.startswith("    {")]
    return {message["type"]: message for message in shown}


def shape(value: Any) -> Any:
    """The names of a value's members, in order, and the kinds of what is in them."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [shape(member) for member in cast("list[Any]", value)]
    return type(cast("object", value))


# ---- what is in it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", KINDS)
def test_a_message_is_as_the_page_shows_it(made: Made, topic: str) -> None:
    """With these members in this order, and values of these kinds; where the page has one and we have none, null."""
    example, message = examples()[topic], json.loads(made.message(topic).body)

    assert list(message) == list(example) == ["type", "timestamp", "data"]
    assert message["type"] == example["type"] == topic
    assert list(message["data"]) == list(example["data"])
    for name, value in message["data"].items():
        if name not in {"breaches", "delivery"}:
            assert shape(value) == shape(example["data"][name]), name
    assert message["data"]["kind"] == example["data"]["kind"]
    assert Kind(message["data"]["kind"]) in KINDS[topic]


def test_the_page_has_every_topic_and_the_test() -> None:
    """And no other."""
    assert set(examples()) == {*KINDS, "test"}
    for topic in KINDS:
        assert f"| `{topic}` |" in PAGE.read_text()


def test_every_message_names_its_entry(made: Made) -> None:
    """By id, index and hash; its own id is made of the entry's, and its time is when that was logged."""
    leaves = made.source.leaves()
    for topic, index in made.indexes.items():
        message, leaf = made.message(topic), leaves[index]
        body = json.loads(message.body)
        assert message.id == f"msg_{leaf.id}"
        assert body["timestamp"] == leaf.logged_at
        assert body["data"]["tenant"] == "default"
        assert (body["data"]["id"], body["data"]["log_index"]) == (leaf.id, index)
        assert body["data"]["leaf_hash"] == leaf_hash(leaf.encode()).hex()


def test_an_event_is_passed_on_with_its_delivery(made: Made) -> None:
    """The body byte for byte, and the headers that authenticated it."""
    data, sent = made.data("recorded"), made.source.rows()[0]

    assert (data["item"], data["account"]) == ({"type": "receipt", "id": made.receipt}, ACCOUNT)
    assert (data["effect"], data["via"], data["test"], data["erased"]) == ("revoked", "webhook", False, False)
    assert data["received_at"] == sent.received_at
    assert base64.b64decode(data["delivery"]["body"], validate=True) == bytes(sent.body) == revoked(made.receipt)
    assert data["delivery"]["headers"] == {"x-signed": "so"}


def test_a_breach_is_named_and_explained(made: Made) -> None:
    """A receipt that is revoked a second time, at another time."""
    (outcome,) = made.source.write(revoked(made.receipt, revoked_at="2026-11-20T09:00:00Z"))
    with made.records.database.read() as tx:
        message = of_entry(tx, "default", made.source.log_id, outcome.log_index)
    breaches = json.loads(message.body)["data"]["breaches"]

    assert [one["code"] for one in breaches] == ["revoked_again"]
    assert shape(breaches) == shape(examples()["recorded"]["data"]["breaches"])


def test_what_differs_or_was_not_understood_is_passed_on_as_it_came(made: Made) -> None:
    """One with the id of the event that it differs from, the other with the reason."""
    mismatch, quarantined = made.data("mismatch"), made.data("quarantined")

    assert mismatch["event_id"] == made.data("recorded")["id"]
    assert json.loads(base64.b64decode(mismatch["delivery"]["body"]))["more"] == 1
    assert quarantined["reason"] == "wrong_shape"
    assert base64.b64decode(quarantined["delivery"]["body"]) == b"{}"


def test_what_was_found_out_is_passed_on_with_what_it_was_found_in(made: Made) -> None:
    """The differing fields, the issuer's entry, the evidence of a fork, and since when there is silence."""
    check, gap, fork, silence = (made.data(topic) for topic in ("cross_check", "gap", "fork", "silence"))

    assert check["event_id"] == made.data("recorded")["id"]
    assert (check["was"], check["state"], check["by"], check["late"]) == (
        "pending",
        "contradicted",
        "issuer_log",
        False,
    )
    assert check["differences"] == [{"field": "amount", "event": "40.00", "issuer": "41.00"}]
    assert (check["issuer_log"], check["issuer_index"], check["issuer_leaf_hash"]) == ("log.example", 7, "33" * 32)
    assert base64.b64decode(gap["issuer_entry"]) == b'{"effect":"revoked"}'
    assert (gap["state"], gap["gap"], gap["issuer_leaf_hash"]) == ("open", None, "44" * 32)
    assert base64.b64decode(fork["evidence"]) == b"translog-fork@v1\n"
    assert (fork["smaller"]["size"], fork["larger"]["size"], fork["issuer_log"]) == (5, 9, "log.example")
    assert (silence["state"], silence["since"]) == ("began", "2026-11-20T09:00:00.000000Z")


def test_what_was_erased_is_not_passed_on(made: Made) -> None:
    """It is read when it is sent: what the entry only commits to is null then, and said to be erased."""
    gone = {"event_data": None, "event_salt": None, "headers": None, "body": None, "delivery_salt": None}
    with made.records.database.write() as tx:
        tx.execute(sa.update(deliveries).values(**gone))
        tx.execute(sa.update(findings).values(**gone))
    for topic in KINDS:
        example, data = examples()[topic]["data"], made.data(topic)
        assert data["erased"] is True
        assert list(data) == list(example)
        for secret in ("item", "account", "operation", "delivery", "differences", "issuer_entry", "evidence"):
            assert data.get(secret) is None
        assert made.receipt not in json.dumps(data)
    assert made.data("recorded")["effect"] == "revoked"


def test_an_entry_that_has_no_message(made: Made) -> None:
    """One that tells of a source, and one that is not there."""
    with made.records.database.read() as tx:
        with pytest.raises(LookupError, match="there is nothing to pass on of entry 1"):
            of_entry(tx, "default", made.source.log_id, 1)
        with pytest.raises(LookupError, match="entry 999 is not in the database"):
            of_entry(tx, "default", made.source.log_id, 999)


# ---- how it is signed -----------------------------------------------------------------------------------------------


def test_whoever_knows_standard_webhooks_can_verify_it(made: Made) -> None:
    """The library of that name, by the page's own example, and a receiver of ours, by its scheme."""
    sample = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    page: dict[str, Any] = {}
    exec(sample, page)
    ours = verifier(StandardWebhooks(), [Secret("1", SECRET)], 300)
    for topic in KINDS:
        message = made.message(topic)
        headers = messages.headers(message, signing_key(SECRET), datetime.now(UTC))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]

        assert page["take"](SECRET, headers, message.body) == json.loads(message.body)
        assert isinstance(ours.verify(raw, message.body, time.time()), Authenticated)
        assert not isinstance(ours.verify(raw, message.body + b" ", time.time()), Authenticated)
        assert not isinstance(ours.verify(raw, message.body, time.time() + 301), Authenticated)


def test_each_try_is_signed_anew_and_keeps_its_id() -> None:
    """So it is never stale, and still known."""
    message = messages.trial("default", "some", new_id(), datetime(2026, 11, 21, tzinfo=UTC))
    first, second = (
        messages.headers(message, signing_key(SECRET), datetime(2026, 11, 21, hour, tzinfo=UTC)) for hour in (1, 2)
    )

    assert first["webhook-id"] == second["webhook-id"] == message.id
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 3600
    assert first["webhook-signature"] != second["webhook-signature"]


def test_the_trial_is_as_the_page_shows_it() -> None:
    """Of the type `test`, about no entry."""
    now = datetime.now(UTC)
    message = messages.trial("default", "some", new_id(), now)
    headers = messages.headers(message, signing_key(SECRET), now)

    assert shape(json.loads(message.body)) == shape(examples()["test"])
    assert Webhook(SECRET).verify(message.body, headers)["type"] == "test"
