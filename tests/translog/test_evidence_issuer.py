"""`translog.issuer`: an issuer's proof stands for a record if it verifies, and is about that record."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog.issuers import FORGER, ISSUER_POLICY, ISSUER_VKEY, PLAIN, issuer_proof, plain, vouched_for
from tests.translog.samples import EVENT, EVIDENCE, FACTS, KEY, LEAF, POLICY, evidence_file
from translog import evidence, note
from translog.canonical import Value, encode, to_base64
from translog.errors import EvidenceError, FormatError, ProofError, SignatureError, TranslogError
from translog.evidence import Evidence, Opening
from translog.issuer import Act, IssuerEntry, vouched
from translog.policy import Policy

UUID = "3f0c7a1e-5d0b-4c1e-9a55-2b9c7f3d1a01"


def checked(entry: bytes, facts: Mapping[str, Value] = FACTS, event: Mapping[str, Value] | None = EVENT) -> IssuerEntry:
    """What the issuer's proof of an entry shows for a record."""
    return vouched(issuer_proof(entry), ISSUER_POLICY, facts, event)


class TestTheProof:
    """Whether the issuer's log has the entry."""

    def test_an_entry_that_is_there(self) -> None:
        """The issuer's checkpoint, the entry and its place are given, and what it has in common with the record."""
        shown = checked(plain())
        assert (shown.checkpoint.origin, shown.checkpoint.size, shown.index) == ("issuer.example/log", 3, 1)
        assert shown.entry == encode(PLAIN)
        assert shown.act == Act.parse(encode(PLAIN))
        assert shown.compared == ("provider", "item type", "item id", "effect", "operation", "account")

    def test_other_keys(self) -> None:
        """A proof signed by another key of the same name, or by another log, is none of the issuer's."""
        for key in (FORGER, KEY):
            with pytest.raises(SignatureError):
                vouched(issuer_proof(plain(), key), ISSUER_POLICY, FACTS, EVENT)

    def test_another_entry(self) -> None:
        """An entry that the issuer's log does not have is not shown by the proof of one that it has."""
        extra = f"extra {to_base64(plain())}".encode()
        proof = issuer_proof(plain(effect="rejected"))
        other = proof.replace(proof.split(b"\n")[1], extra)
        assert other != proof
        with pytest.raises(ProofError):
            vouched(other, ISSUER_POLICY, FACTS, EVENT)

    def test_without_its_entry(self) -> None:
        """A proof without extra data does not say what it proves."""
        with pytest.raises(FormatError, match="no extra line"):
            vouched(issuer_proof(plain(), extra=False), ISSUER_POLICY, FACTS, EVENT)

    @pytest.mark.parametrize("data", [b"", b"anything", encode(PLAIN)])
    def test_what_is_no_proof(self, data: bytes) -> None:
        """Bytes that are no tlog-proof are refused."""
        with pytest.raises(FormatError):
            vouched(data, ISSUER_POLICY, FACTS, EVENT)


class TestWhatItIsAbout:
    """Whether the entry is about the record."""

    @pytest.mark.parametrize(
        ("name", "value", "member"),
        [
            ("provider", "other", "provider"),
            ("item", {"id": "3f0d", "type": "receipt"}, "item id"),
            ("item", {"id": "3F0C", "type": "receipt"}, "item id"),
            ("effect", "reversed", "effect"),
            ("effect", "rejected", "effect"),
            ("effect", "revoking", "effect"),
            ("operation", "3f0d", "operation"),
            ("account", "7b1d", "account"),
        ],
    )
    def test_each_difference_is_named(self, name: str, value: Value, member: str) -> None:
        """An entry of something else proves nothing of this record, and what differs is said."""
        with pytest.raises(EvidenceError, match=f"the issuer's entry is about something else: its {member} is "):
            checked(plain(**{name: value}))

    def test_the_event_is_withheld(self) -> None:
        """What the leaf says itself is compared all the same."""
        other: Value = {"id": "another", "type": "badge"}
        assert checked(plain(item=other, operation="another"), event=None).compared == ("provider", "effect")
        for member, value in (("provider", "other"), ("effect", "rejected")):
            with pytest.raises(EvidenceError, match=f"its {member} is "):
                checked(plain(**{member: value}), event=None)

    def test_an_entry_is_no_longer_than_a_log_has_it(self) -> None:
        """65,535 bytes, which is what fits in a bundle."""
        short = len(plain(at=""))
        assert checked(plain(at="A" * (65_535 - short))).act is not None
        with pytest.raises(FormatError, match="an entry of 65536 bytes; it has 65535 at most"):
            checked(plain(at="A" * (65_536 - short)))

    def test_another_kind_of_item(self) -> None:
        """The same act may be told of as of another kind of item: then its operation tells, or nothing does."""
        other: Value = {"id": "654c", "type": "badge"}
        assert checked(plain(item=other)).compared == ("provider", "effect", "operation", "account")
        with pytest.raises(EvidenceError, match="its operation is "):
            checked(plain(item=other, operation="3f0d"))
        with pytest.raises(EvidenceError, match="its item type is "):
            checked(plain(item=other, operation=None))
        with pytest.raises(EvidenceError, match="its item type is "):
            checked(plain(item=other), event={**EVENT, "operation": None})

    @pytest.mark.parametrize("name", ["amount", "quantity"])
    @pytest.mark.parametrize(
        ("here", "there", "same"),
        [
            ("500.00", "500", True),
            ("-0.50", "-0.5", True),
            ("0", "-0.00", True),
            ("1" * 256, "1" * 256 + ".0", False),  # too long for an amount
            ("500.00", "500.01", False),
            ("0.1", "0.1000000000000000000000000000000000000001", False),
            ("500", "5e2", False),
            ("5", "\u0665", False),
            ("many", "many", True),
            ("many", "few", False),
            ("1", "", False),
        ],
    )
    def test_amounts_are_numbers(self, name: str, here: str, there: str, same: bool) -> None:
        """Amounts are compared exactly, however they are written; what is no plain decimal, as text."""
        event, entry = {**EVENT, name: here}, plain(**{name: there})
        if same:
            assert checked(entry, event=event).compared[-1] == name
        else:
            with pytest.raises(EvidenceError, match=f"its {name} is "):
                checked(entry, event=event)

    @pytest.mark.parametrize("name", ["operation", "account", "amount", "quantity"])
    def test_what_only_one_of_them_names(self, name: str) -> None:
        """What record or entry does not say is not compared, and not said to be the same."""
        assert name not in checked(plain(**{name: "1"}), event={**EVENT, name: None}).compared
        assert name not in checked(plain(**{name: None}), event={**EVENT, name: "1"}).compared

    @pytest.mark.parametrize(
        ("member", "name"), [("item id", "item"), ("operation", "operation"), ("account", "account")]
    )
    def test_uuids_in_any_case(self, member: str, name: str) -> None:
        """An id that is a UUID is the same in either case."""
        here: Value = {"id": UUID, "type": "receipt"} if name == "item" else UUID
        there: Value = {"id": UUID.upper(), "type": "receipt"} if name == "item" else UUID.upper()
        assert member in checked(plain(**{name: there}), event={**EVENT, name: here}).compared

    @pytest.mark.parametrize(
        ("here", "there", "same"),
        [
            ("revoking", "revoked", True),
            ("canceling", "canceled", True),
            ("revoking", "revoking", True),
            ("reversed", "reversed", True),
            ("revoking", "canceled", False),
            ("canceling", "revoked", False),
            ("canceled", "canceling", False),
            ("refused", "revoked", False),
            (None, "revoked", False),
        ],
    )
    def test_effects(self, here: str | None, there: str, same: bool) -> None:
        """What is done stands also for its beginning, and nothing else for another."""
        facts = {**FACTS, "effect": here}
        if same:
            assert "effect" in checked(plain(effect=there), facts).compared
        else:
            with pytest.raises(EvidenceError, match="its effect is "):
                checked(plain(effect=there), facts)

    @pytest.mark.parametrize(
        ("facts", "event", "member"),
        [
            ({**FACTS, "provider": None}, EVENT, "provider"),
            ({name: value for name, value in FACTS.items() if name != "provider"}, EVENT, "provider"),
            (FACTS, {**EVENT, "item": "3f0c"}, "item type"),
            (FACTS, {**EVENT, "item": {"id": 3, "type": "receipt"}}, "item id"),
            (FACTS, {**EVENT, "account": 7}, "account"),
        ],
    )
    def test_records_of_a_strange_form(self, facts: dict[str, Value], event: dict[str, Value], member: str) -> None:
        """A record whose members are not as they should be is not the same as any entry."""
        with pytest.raises(EvidenceError, match=f"its {member} is "):
            checked(plain(), facts, event)

    @pytest.mark.parametrize(
        "entry",
        [
            b"a certificate",
            b"",
            b"{}",
            b"[1]",
            encode({**PLAIN, "more": None}),
            encode({name: value for name, value in PLAIN.items() if name != "at"}),
            encode({**PLAIN, "item": {"id": "3f0c", "type": "receipt", "more": None}}),
            encode({**PLAIN, "item": "3f0c"}),
            encode({**PLAIN, "item": {"id": None, "type": "receipt"}}),
            encode({**PLAIN, "provider": None}),
            encode({**PLAIN, "amount": 500}),
            encode(PLAIN) + b"\n",
            encode(PLAIN).replace(b":", b": "),
        ],
    )
    def test_entries_of_other_forms(self, entry: bytes) -> None:
        """An entry that is not known here is handed on as it is, and compared with nothing."""
        shown = checked(entry)
        assert (shown.entry, shown.act, shown.compared) == (entry, None, ())

    def test_a_record_that_names_no_item(self) -> None:
        """Nor has an effect, as that of a fork: the entry is read and compared with nothing."""
        for event in (None, {"issuer_log": "issuer.example/log"}):
            shown = checked(plain(provider="other"), {"issuer_log": "log-1"}, event)
            assert shown.act == Act.parse(plain(provider="other"))
            assert shown.compared == ()

    def test_a_record_without_an_effect(self) -> None:
        """A record of a kind that has no effect, a gap for instance, is compared in all else."""
        facts: dict[str, Value] = {"provider": "acme", "source": "source-1", "state": "open"}
        assert "effect" not in checked(plain(), facts).compared
        with pytest.raises(EvidenceError, match="its item id is "):
            checked(plain(item={"id": "x", "type": "receipt"}), facts)


class TestInEvidence:
    """The issuer's proof as part of a file."""

    def test_it_is_checked_on_demand(self) -> None:
        """Under a policy for the issuer's log it is verified; without one it is handed on."""
        file = vouched_for(plain())
        assert evidence.verify(file, POLICY).issuer_checked is None
        verified = evidence.verify(file, POLICY, ISSUER_POLICY)
        assert verified.issuer_checked == checked(plain())
        assert replace(verified, issuer_checked=None) == evidence.verify(file, POLICY)

    def test_there_is_none(self) -> None:
        """What was asked to be verified and is not there fails."""
        with pytest.raises(EvidenceError, match="no proof of the issuer's own came with it"):
            evidence.verify(evidence_file(EVIDENCE), POLICY, ISSUER_POLICY)

    @pytest.mark.parametrize(
        ("issuer", "cause"),
        [
            (b"anything", FormatError),
            (issuer_proof(plain(), extra=False), FormatError),
            (issuer_proof(plain(), FORGER), SignatureError),
            (issuer_proof(plain()).replace(b"index 1", b"index 0"), ProofError),
        ],
    )
    def test_it_does_not_hold(self, issuer: bytes, cause: type[Exception]) -> None:
        """One that does not verify fails the file, and is told from the operator's own."""
        with pytest.raises(EvidenceError, match="evidence: the issuer's proof does not hold: ") as raised:
            evidence.verify(evidence_file(replace(EVIDENCE, issuer=issuer)), POLICY, ISSUER_POLICY)
        assert isinstance(raised.value.__cause__, cause)

    def test_it_is_about_something_else(self) -> None:
        """A proof of another item's entry fails, though the issuer's log has it; unless the event is withheld."""
        other = plain(item={"id": "another", "type": "receipt"})
        with pytest.raises(EvidenceError, match="something else: its item id is 'another', the record's '3f0c'"):
            evidence.verify(vouched_for(other), POLICY, ISSUER_POLICY)
        shown = evidence.verify(vouched_for(other, replace(EVIDENCE, event=None)), POLICY, ISSUER_POLICY)
        assert shown.issuer_checked is not None
        assert shown.issuer_checked.compared == ("provider", "effect")

    def test_the_log_of_the_record_is_none_of_the_issuers(self) -> None:
        """The two policies are not taken for one another."""
        file = vouched_for(plain())
        with pytest.raises(EvidenceError, match="does not hold"):
            evidence.verify(file, POLICY, POLICY)
        with pytest.raises(SignatureError):
            evidence.verify(file, ISSUER_POLICY, ISSUER_POLICY)

    @given(st.data())
    def test_no_edit_proves_anything_else(self, data: st.DataObject) -> None:
        """Whatever is changed in the issuer's proof: the file fails, or shows the same."""
        proof = issuer_proof(plain())
        start = data.draw(st.integers(0, len(proof)))
        end = data.draw(st.integers(start, min(start + 50, len(proof))))
        changed = proof[:start] + data.draw(st.binary(max_size=50)) + proof[end:]
        try:
            verified = evidence.verify(evidence_file(replace(EVIDENCE, issuer=changed)), POLICY, ISSUER_POLICY)
        except TranslogError:
            return
        assert verified.issuer_checked == checked(plain())

    def test_a_record_of_its_beginning(self) -> None:
        """The issuer's entry that something is revoked stands for the record that it was being revoked."""
        leaf = replace(LEAF, facts={**FACTS, "effect": "revoking"})
        file = vouched_for(plain(), replace(EVIDENCE, entry=leaf.encode()))
        verified = evidence.verify(file, POLICY, ISSUER_POLICY)
        assert verified.issuer_checked is not None
        assert "effect" in verified.issuer_checked.compared

    def test_amounts_of_an_event(self) -> None:
        """A partial reversal is held to the amount that the issuer has."""
        opening = Opening(encode({**EVENT, "amount": "500.00"}), bytes(32))
        leaf = replace(LEAF, event=opening.commitment("event"))
        shown = Evidence(leaf.encode(), opening)
        assert evidence.verify(vouched_for(plain(amount="500"), shown), POLICY, ISSUER_POLICY).issuer_checked
        with pytest.raises(EvidenceError, match=r"its amount is '400', the record's '500.00'"):
            evidence.verify(vouched_for(plain(amount="400"), shown), POLICY, ISSUER_POLICY)


def test_the_policy_may_ask_for_witnesses() -> None:
    """The issuer's checkpoint satisfies its own policy, or the proof does not hold."""
    witness = note.SigningKey("witness.example", note.Kind.COSIGNATURE, bytes(32)).verifying_key()
    policy = Policy.parse(f"log {ISSUER_VKEY}\nwitness w {witness}\nquorum w\n".encode())
    with pytest.raises(EvidenceError, match="the quorum lacks 'w'"):
        evidence.verify(vouched_for(plain()), POLICY, policy)
