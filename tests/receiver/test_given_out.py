"""Who is given what opens an entry is noted before the answer goes out."""

import sqlalchemy as sa

from receiver.records.keeping import given_out
from receiver.records.tables import deliveries
from tests.receiver.service import Sender, Service, revoked


def given(service: Service, entry_id: str) -> list[str]:
    """To whom the evidence of an entry was given."""
    with service.records.database.read() as tx:
        query = sa.select(given_out.c.given_to).where(given_out.c.entry_id == entry_id).order_by(given_out.c.id)
        return list(tx.execute(query).scalars())


def caller(service: Service) -> tuple[str, dict[str, str]]:
    """A new key's id, and its header."""
    headers = service.key("audit")
    return str(service.leaf(service.size() - 1).facts["id"]), headers


def test_evidence_is_noted_each_time(either_service: Service, either_sender: Sender) -> None:
    """With the key that asked, in whichever form; what is only asked about is not."""
    event_id = either_sender.post(revoked()).json()["event_id"]
    one, its_key = caller(either_service)
    another, other_key = caller(either_service)
    path = f"/v1/events/{event_id}"

    for headers in (its_key, {**other_key, "accept": "application/json"}, its_key):
        assert either_service.client.get(f"{path}/evidence", headers=headers).status_code == 200
    assert either_service.client.get(path, headers=its_key).status_code == 200

    assert given(either_service, event_id) == [one, another, one]


def test_what_is_refused_is_not_given(service: Service, sender: Sender) -> None:
    """Neither to another tenant, nor without the scope."""
    event_id = sender.post(revoked()).json()["event_id"]
    path = f"/v1/events/{event_id}/evidence"

    assert service.client.get(path, headers=service.key("audit", "another")).status_code == 404
    assert service.client.get(path, headers=service.key("export")).status_code == 403
    assert given(service, event_id) == []


def test_what_opens_nothing_gives_nothing_out(service: Service, sender: Sender) -> None:
    """Once the event and the delivery are erased, the entry alone is shown."""
    event_id = sender.post(revoked()).json()["event_id"]
    nothing = dict.fromkeys(("event_data", "event_salt", "headers", "body", "delivery_salt"))
    with service.records.database.write() as tx:
        tx.execute(sa.update(deliveries).where(deliveries.c.id == event_id).values(nothing))

    answer = service.client.get(f"/v1/events/{event_id}/evidence", headers=service.key("audit"))

    assert answer.status_code == 200
    assert given(service, event_id) == []
