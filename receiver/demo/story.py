"""The story the demo tells: what issuers take back, how a receiver hears of it, and what an auditor can show of it.

What is played the issuers say themselves (`Issuer.scenes`). Every step is held to exactly what it must come to; the
first that differs raises DemoError and ends the demo.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from receiver import providers
from receiver.demo.auditor import Auditor, Call, Event, Known, evidence_path, item_path
from receiver.demo.exporting import BUNDLE, export
from receiver.demo.playing import Played, Player, another, expected, naming
from receiver.demo.proving import ANSWER, Prover
from receiver.demo.service import PATIENCE, DemoError, must_be, until
from receiver.demo.stage import GRACE, Stage
from receiver.demo.telling import Teller
from receiver.events import CrossCheck, Item, Via
from receiver.relay.calls import KEY_HEADER
from receiver.sandbox.issuers import Scene

_HEARD = {
    Via.WEBHOOK: "told by webhook",
    Via.DECLARED: "declared, in a plain envelope",
    Via.POLL: "polled until it had ended",
}
"""How it came, for people, if it was not the call itself that passed through."""


@dataclass(frozen=True, slots=True)
class Forged:
    """What somebody delivered who has a source's secret, and what is recorded of it."""

    provider: str
    item: Item
    event: Event


def tell(teller: Teller, stage: Stage, *, goes_on: bool) -> None:
    """The whole story, told by `teller` while it happens, and at its end where to look, if the services go on.

    Raises DemoError where something does not come out as it must.
    """
    # No proxy of the user's stands between this process and services on its own loopback.
    with httpx2.Client(timeout=PATIENCE, trust_env=False) as client:
        auditor = Auditor(client, stage.receiver.url, stage.audit_key)
        player = Player(stage, client, auditor)
        by_webhook, forged = play_webhooks(teller, stage, player, auditor)
        untold = play_untold(teller, stage, player)
        by_relay = play_relay(teller, stage, player)
        played = [*by_webhook, *by_relay]
        calls = audit(teller, stage, auditor, played, untold, forged)
        proven, call, event = _taken_back(auditor, by_relay, calls)
        other = next(one.events[0] for one in played if one.scene.item != proven.scene.item)
        teller.chapter("5. The proof of a call, verified offline with nothing but the two logs' vkeys")
        Prover(teller, auditor, stage).prove(proven, call, event, other)
        export(teller, auditor, stage)
    if goes_on:
        show_where(teller, stage, proven, event)


def play_webhooks(teller: Teller, stage: Stage, player: Player, auditor: Auditor) -> tuple[list[Played], Forged]:
    """What issuers tell of themselves; then the last one's delivery once more, and forged."""
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
    return told, _forge(teller, player, auditor, told[-1])


def _forge(teller: Teller, player: Player, auditor: Auditor, played: Played) -> Forged:
    """A delivery once more; then forged, without the secret and with it."""
    provider, event, item = played.provider, played.events[0], played.scene.item
    with teller.waiting("waiting for the evidence of the delivery, which shows it as it came"):
        delivery = player.delivery(event)
    gist = player.deliver(provider, delivery)
    must_be("the answer to a replayed delivery", gist, f"200 duplicate, entry {event.index}")
    teller.done("  the same delivery, replayed", gist, "told twice")
    forged = another(item)
    forgery = naming(delivery, item, forged)
    gist = player.deliver(provider, forgery)
    must_be("the answer to a forged delivery", gist, "401 wrong_signature")
    teller.done(f"  one forged of it: another {item.type}", gist, "nothing kept")
    known = auditor.item(provider, forged)
    must_be("what is known of what was forged", known, Known("no_record", None, ()))
    teller.done(f"  what is known of that {item.type}", known.state)
    gist = player.forge(provider, forgery)
    (event,) = auditor.item(provider, forged).events
    must_be("the answer to a delivery forged with the secret", gist, f"200 recorded, entry {event.index}")
    teller.done("  forged again, with a stolen secret", gist, "authenticated")
    return Forged(provider, forged, event)


def play_untold(teller: Teller, stage: Stage, player: Player) -> list[Played]:
    """What issuers do and do not tell of."""
    told: list[Played] = []
    for provider, issuer in stage.issuers.items():
        if issuer.untold is not None:
            with teller.waiting(issuer.untold.title):
                played = player.withhold(provider, issuer.untold)
            teller.done(played.title, str(issuer.untold.status))
            teller.done("  its notice is withheld", issuer.untold.state)
            told.append(played)
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


def audit(
    teller: Teller,
    stage: Stage,
    auditor: Auditor,
    played: Sequence[Played],
    untold: Sequence[Played],
    forged: Forged,
) -> list[Call]:
    """What an auditor is told of each item, and the calls that passed through."""
    teller.chapter(
        "4. What was recorded of each item, and what the issuers' log says of it (UTC)",
        f"Notice and entry may come {GRACE} s apart. Then a notice without an entry is absent,",
        "and an entry without a notice is a gap.",
    )
    items = {(one.provider, one.scene.item): one.scene.state for one in played}
    items[forged.provider, forged.item] = "taken_back"
    checks = {event.id: expected(one.scene, event.effect) for one in played for event in one.events}
    checks[forged.event.id] = CrossCheck.ABSENT

    def found() -> dict[str, CrossCheck]:
        stage.must_run()
        return {event.id: event.check for of in items for event in auditor.item(*of).events}

    with teller.waiting("waiting until the issuers' log was asked after that time"):
        until("what is found out of the events", found, checks)
    calls = auditor.calls()
    intents = {call.outcome_id: call for call in calls}
    for (provider, item), state in items.items():
        known = auditor.item(provider, item)
        must_be(f"the state of {item.type} {item.id}", known.state, state)
        teller.item(f"{item.type} {item.id}", f"{known.state} since {(known.since or '')[11:19]}")
        for place, event in enumerate(known.events):
            what = event.effect if event.amount is None else f"{event.effect} {event.amount}"
            note = _note(event, known.events[:place], intents.get(event.id))
            teller.entry(event.index, what, event.via, event.check, "forged" if event.id == forged.event.id else note)
    _tell_gaps(teller, stage, auditor, untold)
    relayed = [one for one in played if one.scene.relayed]
    outcomes = ["refused" if one.scene.status >= 400 else "recorded" for one in relayed]
    must_be("what became of the calls", [call.outcome for call in calls], outcomes)
    teller.done(f"{len(calls)} calls passed through: of each the log has its intent, and its outcome")
    return calls


def _tell_gaps(teller: Teller, stage: Stage, auditor: Auditor, untold: Sequence[Played]) -> None:
    """What the issuers' log has, and nobody told of."""
    providers_of = {one.scene.item: one.provider for one in untold}

    def found() -> set[Item]:
        stage.must_run()
        return {gap.item for gap in auditor.gaps()}

    with teller.waiting("waiting until the time for a notice is over"):
        until("the gaps", found, set(providers_of))
    for gap in auditor.gaps():
        what = gap.effect if gap.amount is None else f"{gap.effect} {gap.amount}"
        teller.item(f"{gap.item.type} {gap.item.id}", auditor.item(providers_of[gap.item], gap.item).state)
        teller.entry(gap.index, what, "gap", f"entry {gap.issuer_index} of the issuers' log", "")


def show_where(teller: Teller, stage: Stage, played: Played, event: Event) -> None:
    """Where to look while the services go on."""
    teller.chapter("7. It is yours until Ctrl-C. In another terminal:")
    url, folder = stage.receiver.url, stage.folder
    asking = f'curl -sH "Authorization: Bearer $KEY" {url}'
    translog = Path(sys.executable).with_name("translog")
    teller.offer(
        "The auditor's key, the operator's, and those of the two logs:",
        f"KEY={stage.audit_key}",
        f"RELAY_KEY={stage.relay_key}",
        f"VKEY={stage.vkey}",
        f"ISSUER_VKEY={stage.issuer_vkey}",
    )
    for provider, issuer in stage.issuers.items():
        if issuer.spare is not None:
            label = f"A call that is still to be made, by relay, to {providers.get(provider).title}:"
            teller.offer(label, _curl(stage, provider, issuer.spare))
    teller.offer("What was recorded, newest first:", f"{asking}/v1/events")
    teller.offer("The calls that passed through:", f"{asking}/v1/attempts")
    teller.offer(f"The state of the {played.scene.item.type}:", asking + item_path(played.provider, played.scene.item))
    teller.offer(f"The evidence of entry {event.index}:", asking + evidence_path(event.id))
    bundle = f'{translog} verify {folder / BUNDLE} --key "$VKEY"'
    verify = f'{translog} verify {folder / ANSWER} --key "$VKEY" --issuer-key "$ISSUER_VKEY"'
    teller.offer("What that shows, and what it does not:", verify)
    teller.offer("The same of all that was exported:", bundle)
    teller.offer(
        "How the issuers' log stands, and what nobody was told of:", f"{asking}/v1/issuer-logs", f"{asking}/v1/gaps"
    )
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
    notes = [] if call is None else [f"call in {call.index}"]
    again = [one for one in before if (one.operation, one.effect) == (event.operation, event.effect)]
    if again and event.operation is not None:
        notes.append(f"same act as {again[0].index}")
    return ", ".join(notes)


def _taken_back(auditor: Auditor, played: Sequence[Played], calls: Sequence[Call]) -> tuple[Played, Call, Event]:
    """The first call that passed through and took something back at once; its event, as it is known now."""
    for one in played:
        event = one.heard(Via.RELAY)
        if event is not None and event.effect.takes_back:
            (call,) = [call for call in calls if call.outcome_id == event.id]
            (known,) = [now for now in auditor.item(one.provider, one.scene.item).events if now.id == event.id]
            return one, call, known
    raise DemoError("no call that passed through has taken anything back at once")


def _curl(stage: Stage, provider: str, scene: Scene) -> str:
    """A call that passes through, to be typed in."""
    words = ["curl", "-s", "-X", providers.get(provider).operation.method, stage.relay(provider) + scene.path]
    for name, value in scene.headers.items():
        words += ["-H", f"{name}: {value}"]
    return f'{shlex.join([*words, "-d", scene.body.decode()])} -H "{KEY_HEADER.title()}: $RELAY_KEY"'
