"""The demo's auditor: asks the receiver what was recorded, by HTTP, as any auditor does with a key of theirs."""

from dataclasses import dataclass
from typing import Any

import httpx2

from receiver.demo.service import must_be
from receiver.events import CrossCheck, Effect, Item, Via

_EXPORTS = "/v1/exports"


@dataclass(frozen=True, slots=True)
class Event:
    """One event, as far as the demo tells of it."""

    id: str
    index: int
    """Of its entry in the log."""
    via: Via
    effect: Effect
    name: str
    """What the provider, or the operation, is called by: `receipt.revoked`."""
    amount: str | None
    operation: str | None
    """The act: two events of the same one tell of it twice."""
    check: CrossCheck
    """What the issuer's log says of it."""
    issuer_index: int | None
    """Of the entry there that says so."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an item; events are in the log's order."""

    state: str
    since: str | None
    events: tuple[Event, ...]

    def beyond(self, before: "Known") -> tuple[Event, ...]:
        """The events that came after what was known before."""
        return self.events[len(before.events) :]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that passed through."""

    intent_id: str
    index: int
    """Of its intent's entry in the log."""
    outcome: str
    outcome_id: str | None
    """Of what tells of the outcome."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What an issuer's log has, and no delivery announced."""

    item: Item
    effect: Effect
    amount: str | None
    index: int
    """Of its entry in the log."""
    issuer_index: int
    """Of the entry in the issuer's."""


class Auditor:
    """Asks with a key of the scopes `audit` and `export`."""

    def __init__(self, client: httpx2.Client, url: str, key: str) -> None:
        self._client = client
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}

    def item(self, provider: str, item: Item) -> Known:
        """What is known of an item; also of one that nothing is known of."""
        found = self._get(item_path(provider, item)).json()
        return Known(found["state"], found["since"], tuple(map(_event, found["events"])))

    def calls(self) -> list[Call]:
        """Every call that passed through, oldest first."""
        found = self._get("/v1/attempts").json()["items"]
        return [Call(one["id"], one["log_index"], one["outcome"], one["outcome_id"]) for one in reversed(found)]

    def gaps(self) -> list[Gap]:
        """Every gap that there is now, oldest first."""
        return [
            Gap(
                item=Item(one["item"]["type"], one["item"]["id"]),
                effect=Effect(one["effect"]),
                amount=one["amount"],
                index=one["log_index"],
                issuer_index=one["issuer_index"],
            )
            for one in reversed(self._get("/v1/gaps").json()["items"])
        ]

    def evidence(self, delivery_id: str) -> bytes:
        """The evidence of an event, or of a call's intent: a tlog-proof. Waits until a checkpoint covers it."""
        return self._get(evidence_path(delivery_id)).content

    def ask_for_export(self, since: str, until: str) -> str:
        """Ask for all events of a period (RFC 3339); the export's id."""
        asked = {"since": since, "until": until}
        answer = self._client.post(self._url + _EXPORTS, headers=self._headers, json=asked)
        must_be("the status of an export that is asked for", answer.status_code, 202)
        return answer.json()["id"]

    def export_state(self, export_id: str) -> str:
        """How far it is: `completed` once it has a file."""
        return self._get(f"{_EXPORTS}/{export_id}").json()["state"]

    def download(self, export_id: str) -> bytes:
        """Its file."""
        return self._get(f"{_EXPORTS}/{export_id}/download").content

    def _get(self, path: str) -> httpx2.Response:
        answer = self._client.get(self._url + path, headers=self._headers)
        must_be(f"the status of {path}", answer.status_code, 200)
        return answer


def item_path(provider: str, item: Item) -> str:
    """Where the state of an item is asked for."""
    return f"/v1/items/{provider}/{item.type}/{item.id}"


def evidence_path(delivery_id: str) -> str:
    """Where the evidence of an event is, or of a call's intent."""
    return f"/v1/events/{delivery_id}/evidence"


def _event(found: dict[str, Any]) -> Event:
    return Event(
        id=found["id"],
        index=found["log_index"],
        via=Via(found["via"]),
        effect=Effect(found["effect"]),
        name=found["event"],
        amount=found["amount"],
        operation=found["operation"],
        check=CrossCheck(found["cross_check"]["state"]),
        issuer_index=found["cross_check"]["issuer_index"],
    )
