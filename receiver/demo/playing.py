"""Plays the issuers' scenes on the stage: each call is made for real, and what is recorded of it is waited for.

    played = Player(stage, client, auditor).play("…", scene)

A call goes to the sandbox itself, which the receiver then hears of in some way; or it passes through the receiver. What
is heard of it the scene says, and until it is exactly that, nothing goes on.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from receiver import providers
from receiver.demo.auditor import Auditor, Event
from receiver.demo.service import DemoError, must_be, until
from receiver.demo.stage import Stage
from receiver.events import CrossCheck, Effect, Item, Via, new_id
from receiver.relay.calls import KEY_HEADER
from receiver.sandbox.issuers import Scene
from translog import evidence
from translog.evidence import Delivery
from translog.policy import Policy


@dataclass(frozen=True, slots=True)
class Played:
    """A scene that was played, and the events that came of it, in the order in which the scene has them."""

    provider: str
    scene: Scene
    events: tuple[Event, ...]

    @property
    def title(self) -> str:
        """The issuer, and what was done."""
        return f"{providers.get(self.provider).title}: {self.scene.title}"

    def heard(self, via: Via) -> Event | None:
        """The first event that came that way."""
        return next((event for event in self.events if event.via is via), None)


def expected(scene: Scene, effect: Effect) -> CrossCheck:
    """What is to be known in the end of an event of a scene, by the issuers' log.

    What was refused was not done, and is in no log. What had only begun is denied by how it ended, if that took nothing
    back.
    """
    if effect is Effect.REFUSED:
        return CrossCheck.NONE
    ended = scene.told[-1][1]
    if effect.under_way and not (ended.under_way or ended.takes_back):
        return CrossCheck.CONTRADICTED
    return CrossCheck.CONFIRMED


class Player:
    """Plays on a stage."""

    def __init__(self, stage: Stage, client: httpx2.Client, auditor: Auditor) -> None:
        self._stage = stage
        self._client = client
        self._auditor = auditor

    def play(self, provider: str, scene: Scene) -> Played:
        """Make the call, and wait for all that is told of it. Raises DemoError unless both are as the scene says."""
        before = self._auditor.item(provider, scene.item)
        answer = self._call(provider, scene)
        must_be(f"the status of {scene.path}", answer.status_code, scene.status)

        def told() -> Counter[tuple[Via, Effect]]:
            self._stage.must_run()
            known = self._auditor.item(provider, scene.item)
            return Counter((event.via, event.effect) for event in known.beyond(before))

        until(f"what is told of {scene.path}", told, Counter(scene.told))
        until(f"the state after {scene.path}", lambda: self._auditor.item(provider, scene.item).state, scene.state)
        known = self._auditor.item(provider, scene.item)
        events = {(event.via, event.effect): event for event in known.beyond(before)}
        played = Played(provider, scene, tuple(events[way] for way in scene.told))
        if (relayed := played.heard(Via.RELAY)) is not None:
            must_be("the event that the caller was told of", answer.headers.get("x-rescind-event"), relayed.id)
        return played

    def withhold(self, provider: str, scene: Scene) -> Played:
        """Play a scene of which nobody is to be told."""
        answer = self._client.post(f"{self._stage.sandbox.url}/sandbox/withhold/{provider}")
        must_be("the status of withholding a notice", answer.status_code, 204)
        return self.play(provider, scene)

    def delivery(self, event: Event) -> Delivery:
        """The delivery that an event was told by, as it came: it is part of the event's evidence."""
        verified = evidence.verify(self._auditor.evidence(event.id), Policy.of(self._stage.vkey))
        if verified.delivery is None:
            raise DemoError(f"the evidence of {event.name} does not show the delivery")
        return verified.delivery

    def deliver(self, provider: str, delivery: Delivery) -> str:
        """Send a delivery to that provider's source; the answer in a few words, such as `200 duplicate, entry 12`."""
        return self._send(provider, dict(delivery.headers), delivery.body)

    def forge(self, provider: str, delivery: Delivery) -> str:
        """Send a delivery's body as whoever has stolen the secret does, signed anew; the answer as `deliver` has it."""
        issuer = self._stage.issuers[provider]
        headers = issuer.sign(delivery.body, self._stage.secrets[provider], f"msg_{new_id()}", int(time.time()))
        return self._send(provider, headers, delivery.body)

    def _send(self, provider: str, headers: Mapping[str, str], body: bytes) -> str:
        answer = self._client.post(self._stage.webhooks[provider], headers=dict(headers), content=body)
        said = answer.json()
        if answer.status_code == 200:
            return f"200 {said['status']}, entry {said['log_index']}"
        return f"{answer.status_code} {said['details'].get('reason', said['code'])}"

    def _call(self, provider: str, scene: Scene) -> httpx2.Response:
        method, headers = providers.get(provider).operation.method, dict(scene.headers)
        base = self._stage.sandbox.url
        if scene.relayed:
            base = self._stage.relay(provider)
            headers[KEY_HEADER] = self._stage.relay_key
        return self._client.request(method, base + scene.path, headers=headers, content=scene.body)


def another(item: Item) -> Item:
    """One with an id as long, that nothing is known of."""
    last = "0" if item.id[-1] != "0" else "1"
    return Item(item.type, item.id[:-1] + last)


def naming(delivery: Delivery, item: Item, instead: Item) -> Delivery:
    """A delivery with another item in its body, and all else as it was."""
    return Delivery(delivery.headers, delivery.body.replace(item.id.encode(), instead.id.encode()))
