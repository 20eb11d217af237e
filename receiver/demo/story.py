"""The story the demo tells: what issuers take back, how a receiver hears of it, and what an auditor can show of it.

What is played the issuers say themselves (`Issuer.scenes`). Every step is held to exactly what it must come to; the
first that differs raises DemoError and ends the demo.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2

from receiver import providers
from receiver.demo.auditor import Auditor, Call, Event, Known, evidence_path, item_path
from receiver.demo.playing import Played, Player, another, naming
from receiver.demo.proving import ANSWER, Prover
from receiver.demo.service import PATIENCE, DemoError, must_be
from receiver.demo.stage import Stage
from receiver.demo.telling import Teller
from receiver.events import Via
from receiver.relay.calls import KEY_HEADER
from receiver.sandbox.issuers import Scene

_HEARD = {
    Via.WEBHOOK: "told by webhook",
    Via.DECLARED: "declared, in a plain envelope",
    Via.POLL: "polled until it had ended",
}
"""How it came, for people, if it was not the call itself that passed through."""


def tell(teller: Teller, stage: Stage, *, goes_on: bool) -> None:
    """The whole story, told by `teller` while it happens, and at its end where to look, if the services go on.

    Raises DemoError where something does not come out as it must.
    """
    # No proxy of the user's stands between this process and services on its own loopback.
    with httpx2.Client(timeout=PATIENCE, trust_env=False) as client:
        auditor = Auditor(client, stage.receiver.url, stage.audit_key)
        player = Player(stage, client, auditor)
        by_webhook = play_webhooks(teller, stage, player, auditor)
        by_relay = play_relay(teller, stage, player)
        calls = audit(teller, auditor, [*by_webhook, *by_relay])
        played, call, event = _taken_back(by_relay, calls)
        teller.chapter("5. The proof of a call, verified offline with nothing but the log's vkey")
        Prover(teller, auditor, stage.vkey, stage.folder).prove(played, call, event)
    if goes_on:
        show_where(teller, stage, played, event)


def play_webhooks(teller: Teller, stage: Stage, player: Player, auditor: Auditor) -> list[Played]:
    """What issuers tell of themselves; then their delivery once more, and forged."""
    teller.chapter(
        "2. By webhook: an issuer delivers what was done",
        "The calls go to the issuers; the receiver learns of them by what is delivered.",
    )
    told: list[Played] = []
    for provider, scene in _scenes(stage, relayed=False):
        with teller.waiting(scene.title):
            played = player.play(provider, scene)
        teller.done(played.title, str(scene.status))
        _tell_events(teller, played.events)
        told.append(played)
    last = told[-1]
    event, item = last.events[0], last.scene.item
    with teller.waiting("waiting for the evidence of the delivery, which shows it as it came"):
        delivery = player.delivery(event)
    gist = player.deliver(last.provider, delivery)
    must_be("the answer to a replayed delivery", gist, f"200 duplicate, entry {event.index}")
    teller.done("  the same delivery, replayed", gist, "told twice")
    forged = another(item)
    gist = player.deliver(last.provider, naming(delivery, item, forged))
    must_be("the answer to a forged delivery", gist, "401 wrong_signature")
    teller.done(f"  one forged of it: another {item.type}", gist, "nothing kept")
    known = auditor.item(last.provider, forged)
    must_be("what is known of what was forged", known, Known("no_record", None, ()))
    teller.done(f"  what is known of that {item.type}", known.state)
    return told


def play_relay(teller: Teller, stage: Stage, player: Player) -> list[Played]:
    """Calls that pass through the receiver, and what comes after them."""
    teller.chapter(
        "3. By relay: the operator's own call passes through, and is recorded",
        f"Its base URL is {stage.relay('SOURCE')}, and it has one header",
        f"more, {KEY_HEADER.title()}. The rest of it goes on, its credentials included.",
    )
    told: list[Played] = []
    for provider, scene in _scenes(stage, relayed=True):
        with teller.waiting(scene.title):
            played = player.play(provider, scene)
        first, *more = played.events
        teller.done(played.title, f"{scene.status} {_gist(first)}")
        _tell_events(teller, more)
        told.append(played)
    return told


def audit(teller: Teller, auditor: Auditor, played: Sequence[Played]) -> list[Call]:
    """What an auditor is told of each item, and the calls that passed through."""
    teller.chapter("4. What was recorded of each item, and in which entries of the log (in UTC)")
    calls = auditor.calls()
    intents = {call.outcome_id: call for call in calls}
    items = {(one.provider, one.scene.item): one.scene.state for one in played}
    for (provider, item), state in items.items():
        known = auditor.item(provider, item)
        must_be(f"the state of {item.type} {item.id}", known.state, state)
        teller.item(f"{item.type} {item.id}", f"{known.state} since {(known.since or '')[11:19]}")
        for place, event in enumerate(known.events):
            what = event.effect if event.amount is None else f"{event.effect} {event.amount}"
            teller.entry(event.index, what, event.via, _note(event, known.events[:place], intents.get(event.id)))
    relayed = [one for one in played if one.scene.relayed]
    outcomes = ["refused" if one.scene.status >= 400 else "recorded" for one in relayed]
    must_be("what became of the calls", [call.outcome for call in calls], outcomes)
    teller.done(f"{len(calls)} calls passed through: of each the log has its intent, and its outcome")
    return calls


def show_where(teller: Teller, stage: Stage, played: Played, event: Event) -> None:
    """Where to look while the services go on."""
    teller.chapter("6. It is yours until Ctrl-C. In another terminal:")
    url, folder = stage.receiver.url, stage.folder
    asking = f'curl -sH "Authorization: Bearer $KEY" {url}'
    translog = Path(sys.executable).with_name("translog")
    teller.offer(
        "The auditor's key, the operator's, and the log's:",
        f"KEY={stage.audit_key}",
        f"RELAY_KEY={stage.relay_key}",
        f"VKEY={stage.vkey}",
    )
    for provider, issuer in stage.issuers.items():
        if issuer.spare is not None:
            label = f"A call that is still to be made, by relay, to {providers.get(provider).title}:"
            teller.offer(label, _curl(stage, provider, issuer.spare))
    teller.offer("What was recorded, newest first:", f"{asking}/v1/events")
    teller.offer("The calls that passed through:", f"{asking}/v1/attempts")
    teller.offer(f"The state of the {played.scene.item.type}:", asking + item_path(played.provider, played.scene.item))
    teller.offer(f"The evidence of entry {event.index}:", asking + evidence_path(event.id))
    teller.offer("What that shows, and what it does not:", f'{translog} verify {folder / ANSWER} --key "$VKEY"')
    teller.offer(
        "The newest checkpoint of each log, the receiver's and the sandbox's:",
        f"curl -s {url}/log/default/checkpoint",
        f"curl -s {stage.sandbox.url}/log/checkpoint",
    )
    teller.offer("All files, until this ends:", f"ls {folder} {folder / 'data'}")


def _scenes(stage: Stage, *, relayed: bool) -> list[tuple[str, Scene]]:
    return [
        (provider, scene)
        for provider, issuer in stage.issuers.items()
        for scene in issuer.scenes
        if scene.relayed is relayed
    ]


def _tell_events(teller: Teller, events: Sequence[Event]) -> None:
    for event in events:
        teller.done(f"  {_HEARD[event.via]}", _gist(event))


def _gist(event: Event) -> str:
    return f"{event.effect}, entry {event.index}"


def _note(event: Event, before: Sequence[Event], call: Call | None) -> str:
    """What else there is to say of an event: where its call is logged; that it tells of an act once more."""
    notes = [] if call is None else [f"call: entry {call.index}"]
    again = [one for one in before if (one.operation, one.effect) == (event.operation, event.effect)]
    if again and event.operation is not None:
        notes.append(f"same act: entry {again[0].index}")
    return ", ".join(notes)


def _taken_back(played: Sequence[Played], calls: Sequence[Call]) -> tuple[Played, Call, Event]:
    """The first call that passed through and took something back at once; its event."""
    for one in played:
        event = one.heard(Via.RELAY)
        if event is not None and event.effect.takes_back:
            (call,) = [call for call in calls if call.outcome_id == event.id]
            return one, call, event
    raise DemoError("no call that passed through has taken anything back at once")


def _curl(stage: Stage, provider: str, scene: Scene) -> str:
    """A call that passes through, to be typed in."""
    words = ["curl", "-s", "-X", providers.get(provider).operation.method, stage.relay(provider) + scene.path]
    for name, value in scene.headers.items():
        words += ["-H", f"{name}: {value}"]
    return f'{shlex.join([*words, "-d", scene.body.decode()])} -H "{KEY_HEADER.title()}: $RELAY_KEY"'
