"""The proof of a call that passed through: verified offline, with nothing but two vkeys; and copies that are not.

Of such a call there are two records. Its intent was logged before the provider was called, so that nothing is done that
the log does not know of; its answer, which is the event, names the intent. The issuer has an entry of the act in a log
of its own, and with the answer comes the proof of that.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from textwrap import shorten

from receiver import providers
from receiver.demo.auditor import Auditor, Call, Event
from receiver.demo.playing import Played, another
from receiver.demo.service import DemoError, must_be
from receiver.demo.stage import Stage
from receiver.demo.telling import Teller
from receiver.events import Item, format_time
from translog import evidence
from translog.cli.verifying import verify
from translog.errors import TranslogError
from translog.evidence import Delivery, Evidence, Leaf, Opening, Verified
from translog.policy import Policy
from translog.proof import TlogProof

INTENT, ANSWER = "intent.tlog-proof", "answer.tlog-proof"


class Prover:
    """Has evidence verified, in files of the stage's folder, and tells of it."""

    def __init__(self, teller: Teller, auditor: Auditor, stage: Stage) -> None:
        self._teller = teller
        self._auditor = auditor
        self._folder = stage.folder
        self._ours, self._issuers = Policy.of(stage.vkey), Policy.of(stage.issuer_vkey)

    def prove(self, played: Played, call: Call, event: Event, other: Event) -> None:
        """Verify what is logged of a played call, its intent and its event; then copies of that, tampered with.

        The other event is of another act, which the issuer logged as well. Raises DemoError where what must verify does
        not, or what must not does.
        """
        intent = self._verify(INTENT, call.intent_id, None)
        must_be("the entry of the intent", (intent.index, intent.leaf.id), (call.index, call.intent_id))
        must_be("the request that the intent shows", _shown(intent).body, played.scene.body)
        self._teller.done(f"entry {call.index} is the request, logged before it was passed on")

        answer = self._verify(ANSWER, event.id, self._issuers)
        must_be("the entry of the event", (answer.index, answer.leaf.id), (event.index, event.id))
        must_be("the call that the event names", answer.leaf.facts["attempt"], call.intent_id)
        self._teller.done(f"entry {event.index} is the provider's answer to it, and names it")
        said = answer.issuer_checked
        must_be("the issuer's entry that is proved", None if said is None else said.index, event.issuer_index)
        self._teller.done(f"entry {event.issuer_index} of the issuers' log says the same: the issuer stands for it")
        kept = {name for verified in (intent, answer) for name, _ in _shown(verified).headers}
        credentials = providers.get(played.provider).operation.credentials
        must_be("the credentials that are kept", kept.intersection(credentials), set[str]())
        self._teller.done("the credentials that the call was made with are in neither")

        data = (self._folder / ANSWER).read_bytes()
        item = played.scene.item
        self._refuse(f"a copy that names another {item.type}", "other-item", _naming(data, item, another(item)))
        self._refuse("a copy that is set back by a day", "backdated", _backdated(data))
        theirs = _vouching(data, self._auditor.evidence(other.id))
        self._refuse("a copy with another act's issuer proof", "other-act", theirs)

    def _verify(self, name: str, delivery_id: str, issuers: Policy | None) -> Verified:
        with self._teller.waiting("waiting for a signed checkpoint that covers it"):
            data = self._auditor.evidence(delivery_id)
        (self._folder / name).write_bytes(data)
        issuer_key = "" if issuers is None else ' --issuer-key "$ISSUER_VKEY"'
        self._teller.ran(f'translog verify {name} --key "$VKEY"{issuer_key}')
        self._teller.done(verify(data, self._ours, issuers).partition("\n")[0])
        return evidence.verify(data, self._ours, issuers)

    def _refuse(self, what: str, name: str, data: bytes) -> None:
        (self._folder / f"{name}.tlog-proof").write_bytes(data)
        try:
            verify(data, self._ours, self._issuers)
        except TranslogError as error:
            self._teller.done(what, "NOT VERIFIED")
            self._teller.say("  " + shorten(str(error), 74, placeholder=" ..."))
            return
        raise DemoError(f"{what} is said to be verified")


def _shown(verified: Verified) -> Delivery:
    if verified.delivery is None:
        raise DemoError(f"the evidence of entry {verified.index} does not show what was sent")
    return verified.delivery


def _naming(data: bytes, item: Item, instead: Item) -> bytes:
    """The evidence with another item's id in the event that is shown."""
    proof = TlogProof.parse(data)
    shown = Evidence.parse(proof.extra or b"")
    if shown.event is None:
        raise DemoError("the evidence does not show the event")
    changed = shown.event.data.replace(item.id.encode(), instead.id.encode())
    return replace(proof, extra=replace(shown, event=Opening(changed, shown.event.salt)).encode()).encode()


def _backdated(data: bytes) -> bytes:
    """The evidence with the entry itself logged a day earlier."""
    proof = TlogProof.parse(data)
    shown = Evidence.parse(proof.extra or b"")
    leaf = Leaf.parse(shown.entry)
    earlier = datetime.fromisoformat(leaf.logged_at) - timedelta(days=1)
    entry = replace(leaf, logged_at=format_time(earlier)).encode()
    return replace(proof, extra=replace(shown, entry=entry).encode()).encode()


def _vouching(data: bytes, other: bytes) -> bytes:
    """The evidence with the issuer's proof that another one has."""
    proof, its = TlogProof.parse(data), Evidence.parse(TlogProof.parse(other).extra or b"")
    shown = Evidence.parse(proof.extra or b"")
    return replace(proof, extra=replace(shown, issuer=its.issuer).encode()).encode()
