"""`translog.evidence`: what a leaf is, what an opening opens, and that neither can be passed off as another."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog.samples import (
    DELIVERY,
    DELIVERY_OPENING,
    EVENT,
    EVENT_OPENING,
    EVIDENCE,
    FACTS,
    KEY,
    LEAF,
    LEAF_ID,
    POLICY,
    STRANGER,
    Log,
    evidence_file,
)
from translog import canonical, evidence
from translog.errors import EvidenceError, FormatError, ProofError, SignatureError, TranslogError
from translog.evidence import Delivery, Evidence, Leaf, Opening
from translog.policy import Policy
from translog.proof import TlogProof

texts = st.text(st.characters(exclude_categories=["Cs"]))
openings = st.builds(Opening, st.binary(), st.binary(min_size=32, max_size=32))
commitments = st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)
leaves = st.builds(
    Leaf,
    kind=st.sampled_from(["revocation", "cross_check", "tally"]),
    id=st.just(LEAF_ID),
    logged_at=st.datetimes().map(lambda time: time.isoformat(timespec="microseconds") + "Z"),
    facts=st.dictionaries(st.text(st.characters(max_codepoint=127)), texts | st.booleans() | st.lists(texts)),
    event=commitments,
    delivery=commitments,
)
# Header names that differ only in case are one name.
header_names = st.text(st.characters(max_codepoint=127), min_size=1).map(str.lower)
deliveries = st.builds(
    Delivery, st.dictionaries(header_names, texts).map(lambda headers: tuple(headers.items())), st.binary()
)


class TestLeaf:
    """The entry of the log."""

    def test_the_bytes(self) -> None:
        """A leaf is canonical JSON of exactly seven members."""
        leaf = Leaf("gap", LEAF_ID, "2026-11-20T09:00:00.123456Z", {"b": 1, "a": ["x"]}, "ab" * 32, None)
        assert leaf.encode() == (
            b'{"delivery":null,"event":"'
            + b"ab" * 32
            + b'","facts":{"a":["x"],"b":1},"id":"'
            + LEAF_ID.encode()
            + b'",'
            b'"kind":"gap","logged_at":"2026-11-20T09:00:00.123456Z","v":1}'
        )

    @given(leaves)
    def test_both_ways(self, leaf: Leaf) -> None:
        """Whatever it holds, a leaf is read back from its bytes."""
        assert Leaf.parse(leaf.encode()) == leaf

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("v", 2, "version 2 is not known here"),
            ("v", True, "version True is not known here"),
            ("v", None, "version None is not known here"),
            ("kind", "", "kind is ''"),
            ("kind", "Revocation", "kind is 'Revocation'"),
            ("kind", "revocation\n", "kind is 'revocation\\\\n'"),
            ("kind", None, "'kind' is not a string"),
            ("id", LEAF_ID.upper(), "id is"),
            ("id", LEAF_ID.replace("7def", "4def"), "id is"),
            ("id", "{" + LEAF_ID + "}", "id is"),
            ("id", 7, "'id' is not a string"),
            ("logged_at", "2026-11-20T09:00:00Z", "logged_at is"),
            ("logged_at", "2026-11-20T09:00:00.123Z", "logged_at is"),
            ("logged_at", "2026-11-20 09:00:00.123456Z", "logged_at is"),
            ("logged_at", "2026-11-20T09:00:00.123456+00:00", "logged_at is"),
            ("logged_at", "2026-11-20T09:00:00.12345\u0666Z", "logged_at is"),
            ("logged_at", "2026-13-20T09:00:00.123456Z", "is no time"),
            ("logged_at", "2026-02-29T09:00:00.123456Z", "is no time"),
            ("logged_at", "2026-11-20T24:00:00.123456Z", "is no time"),
            ("logged_at", 0, "'logged_at' is not a string"),
            ("facts", [], "leaf facts: expected an object"),
            ("facts", None, "leaf facts: expected an object"),
            ("event", "", "event is ''"),
            ("event", "AB" * 32, "event is"),
            ("event", "ab" * 31, "event is"),
            ("event", False, "'event' is not a string"),
            ("delivery", "ab" * 33, "delivery is"),
            ("delivery", {}, "'delivery' is not a string"),
        ],
    )
    def test_members_of_a_wrong_form(self, name: str, value: canonical.Value, reason: str) -> None:
        """Each member has one form, and a message that names it."""
        members = {**self.members(), name: value}
        with pytest.raises(FormatError, match=reason):
            Leaf.parse(canonical.encode(members))

    @pytest.mark.parametrize("name", ["v", "kind", "id", "logged_at", "facts", "event", "delivery"])
    def test_all_seven_members_are_there(self, name: str) -> None:
        """A leaf with a member missing, or one too many, is none."""
        members = self.members()
        del members[name]
        with pytest.raises(FormatError, match="leaf: the members are"):
            Leaf.parse(canonical.encode(members))
        with pytest.raises(FormatError, match="leaf: the members are"):
            Leaf.parse(canonical.encode({**self.members(), name + "x": None}))

    @pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", LEAF.encode() + b"\n", b" " + LEAF.encode()])
    def test_not_a_leaf(self, data: bytes) -> None:
        """Other JSON, and a leaf in another spelling, is none."""
        with pytest.raises(FormatError):
            Leaf.parse(data)

    def test_size(self) -> None:
        """65,535 bytes are a leaf, one more is none, to write or to read."""
        room = 65_535 - len(replace(LEAF, facts={"x": ""}).encode())
        largest = replace(LEAF, facts={"x": "y" * room})
        assert Leaf.parse(largest.encode()) == largest
        with pytest.raises(FormatError, match="leaf: 65536 bytes, at most 65535"):
            replace(LEAF, facts={"x": "y" * (room + 1)}).encode()
        with pytest.raises(FormatError, match="leaf: 65536 bytes, at most 65535"):
            Leaf.parse(largest.encode().replace(b"yy", b"yyy", 1))

    @staticmethod
    def members() -> dict[str, canonical.Value]:
        """The members of a leaf, to take one out or change it."""
        members = canonical.decode(LEAF.encode())
        assert isinstance(members, dict)
        return members


class TestDelivery:
    """What the commitment `delivery` is made over."""

    def test_the_bytes(self) -> None:
        """Headers by lowercase name, and the body in base64."""
        delivery = Delivery((("webhook-timestamp", "1"), ("webhook-id", "é")), b"\xff{}")
        assert delivery.encode() == '{"body":"/3t9","headers":{"webhook-id":"é","webhook-timestamp":"1"}}'.encode()

    @given(deliveries)
    def test_both_ways(self, delivery: Delivery) -> None:
        """Whatever headers and body, the delivery is read back from its bytes."""
        assert Delivery.parse(delivery.encode()) == delivery

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b'{"body":"YQ==","headers":{"Webhook-Id":"1"}}', "'Webhook-Id' is not in lower case"),
            (b'{"body":"YQ==","headers":{"":"1"}}', "'' is not in lower case"),
            (b'{"body":"YQ==","headers":{"a":1}}', "'a' is not a string"),
            (b'{"body":"YQ==","headers":[]}', "delivery headers: expected an object"),
            (b'{"body":"YQ","headers":{}}', "delivery body"),
            (b'{"body":"YR==","headers":{}}', "delivery body"),
            (b'{"body":null,"headers":{}}', "'body' is not a string"),
            (b'{"headers":{}}', "the members are"),
            (b'{"body":"","headers":{},"x":1}', "the members are"),
            (b"[]", "expected an object"),
        ],
    )
    def test_not_a_delivery(self, data: bytes, reason: str) -> None:
        """Whatever departs from that form is refused."""
        with pytest.raises(FormatError, match=reason):
            Delivery.parse(data)

    def test_a_header_is_given_once(self) -> None:
        """Two values for one header could not both be kept."""
        with pytest.raises(FormatError, match="given more than once"):
            Delivery((("a", "1"), ("a", "2")), b"")


class TestEvidence:
    """The `extra` of the proof."""

    @given(st.binary(), st.none() | openings, st.none() | openings, st.none() | st.binary())
    def test_both_ways(
        self, entry: bytes, event: Opening | None, delivery: Opening | None, issuer: bytes | None
    ) -> None:
        """Whatever is shown and withheld, the evidence is read back from its bytes."""
        shown = Evidence(entry, event, delivery, issuer)
        assert Evidence.parse(shown.encode()) == shown

    def test_the_bytes(self) -> None:
        """Four members, always there; what is not shown is null."""
        assert Evidence(b"e").encode() == b'{"delivery":null,"entry":"ZQ==","event":null,"issuer":null}'
        salt = "/" * 42 + "8="
        assert Evidence(b"e", Opening(b"d", b"\xff" * 32), None, b"i").encode() == (
            f'{{"delivery":null,"entry":"ZQ==","event":{{"data":"ZA==","salt":"{salt}"}},"issuer":"aQ=="}}'.encode()
        )

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "canonical JSON"),
            (b"{}", "evidence: the members are"),
            (b'{"delivery":null,"entry":"ZQ==","event":null}', "evidence: the members are"),
            (b'{"delivery":null,"entry":null,"event":null,"issuer":null}', "'entry' is not a string"),
            (b'{"delivery":null,"entry":"ZQ","event":null,"issuer":null}', "evidence entry"),
            (b'{"delivery":null,"entry":"ZQ==","event":"ZQ==","issuer":null}', "evidence event: expected an object"),
            (
                b'{"delivery":{"data":"ZQ=="},"entry":"ZQ==","event":null,"issuer":null}',
                "evidence delivery: the members",
            ),
            (b'{"delivery":null,"entry":"ZQ==","event":{"data":"","salt":"ZQ=="},"issuer":null}', "exactly 32 bytes"),
            (b'{"delivery":null,"entry":"ZQ==","event":null,"issuer":{}}', "'issuer' is not a string"),
        ],
    )
    def test_not_evidence(self, data: bytes, reason: str) -> None:
        """Whatever departs from that form is refused."""
        with pytest.raises(FormatError, match=reason):
            Evidence.parse(data)

    def test_salts_are_32_bytes(self) -> None:
        """An opening with a salt of another length is none."""
        for size in (0, 31, 33):
            with pytest.raises(FormatError, match=f"exactly 32 bytes, this one has {size}"):
                Opening(b"", bytes(size))


class TestVerify:
    """The whole file, from the log's key to the data of the event."""

    def test_all_is_shown(self) -> None:
        """With both openings the record, the event and the delivery are given, and nothing is withheld."""
        verified = evidence.verify(evidence_file(EVIDENCE), POLICY)
        assert verified.leaf == LEAF
        assert (verified.index, verified.checkpoint.size, verified.checkpoint.origin) == (2, 5, KEY.name)
        assert verified.event == EVENT
        assert verified.delivery == DELIVERY
        assert verified.issuer is None
        assert verified.withheld == ()

    @pytest.mark.parametrize(
        ("shown", "withheld"),
        [
            (replace(EVIDENCE, event=None), ("event",)),
            (replace(EVIDENCE, delivery=None), ("delivery",)),
            (replace(EVIDENCE, event=None, delivery=None), ("event", "delivery")),
        ],
    )
    def test_openings_can_be_withheld(self, shown: Evidence, withheld: tuple[str, ...]) -> None:
        """What is taken out is named as withheld, and the rest is proved as before."""
        verified = evidence.verify(evidence_file(shown), POLICY)
        assert verified.withheld == withheld
        assert verified.leaf == LEAF
        assert (verified.event is None) == ("event" in withheld)
        assert (verified.delivery is None) == ("delivery" in withheld)

    def test_what_is_not_there_is_not_withheld(self) -> None:
        """A leaf that commits to nothing has nothing to withhold, and nothing can be shown for it."""
        bare = replace(LEAF, event=None, delivery=None).encode()
        assert evidence.verify(evidence_file(Evidence(bare)), POLICY).withheld == ()
        with pytest.raises(EvidenceError, match="it opens the event, but the leaf commits to none"):
            evidence.verify(evidence_file(Evidence(bare, event=EVENT_OPENING)), POLICY)
        with pytest.raises(EvidenceError, match="it opens the delivery, but the leaf commits to none"):
            evidence.verify(evidence_file(Evidence(bare, delivery=DELIVERY_OPENING)), POLICY)

    def test_other_openings(self) -> None:
        """Other data, another salt, and one opening in the place of the other do not fit the commitments."""
        for wrong in (
            replace(EVIDENCE, event=replace(EVENT_OPENING, data=canonical.encode({**EVENT, "amount": "1"}))),
            replace(EVIDENCE, event=replace(EVENT_OPENING, salt=bytes(32))),
            replace(EVIDENCE, event=DELIVERY_OPENING),
        ):
            with pytest.raises(EvidenceError, match="the event shown is not the one logged"):
                evidence.verify(evidence_file(wrong), POLICY)
        with pytest.raises(EvidenceError, match="the delivery shown is not the one logged"):
            evidence.verify(evidence_file(replace(EVIDENCE, delivery=EVENT_OPENING)), POLICY)

    def test_labels_keep_openings_apart(self) -> None:
        """A leaf that holds the commitment of an event as its delivery's does not make a delivery of it."""
        leaf = replace(LEAF, event=None, delivery=LEAF.event)
        with pytest.raises(EvidenceError, match="the delivery shown is not the one logged"):
            evidence.verify(evidence_file(Evidence(leaf.encode(), delivery=EVENT_OPENING)), POLICY)

    @pytest.mark.parametrize(
        ("label", "data"),
        [
            ("event", b'{"a": 1}'),
            ("event", b"[]"),
            ("event", b""),
            ("delivery", canonical.encode(EVENT)),
            ("delivery", b'{"body":"YQ","headers":{}}'),
            ("delivery", b'{"body":"","headers":{"A":""}}'),
        ],
    )
    def test_committed_to_something_else(self, label: str, data: bytes) -> None:
        """Data that fits its commitment, but is no event or delivery, is refused all the same."""
        opening = Opening(data, bytes(32))
        leaf = replace(LEAF, **{label: opening.commitment(label)})
        shown = replace(Evidence(leaf.encode()), **{label: opening})
        with pytest.raises(EvidenceError, match="what was committed to is not what it should be"):
            evidence.verify(evidence_file(shown), POLICY)

    def test_an_entry_that_is_no_leaf(self) -> None:
        """An entry that is in the log, but is none of ours, is refused for that."""
        with pytest.raises(EvidenceError, match="the entry is in the log, but it is no leaf"):
            evidence.verify(evidence_file(Evidence(b"a certificate")), POLICY)

    def test_an_entry_that_is_not_in_the_log(self) -> None:
        """A leaf with one fact changed is not what the log has."""
        forged = replace(LEAF, facts={**FACTS, "effect": "refused"})
        data = replace(Log(LEAF.encode()).proof(), extra=replace(EVIDENCE, entry=forged.encode()).encode()).encode()
        with pytest.raises(ProofError):
            evidence.verify(data, POLICY)

    def test_a_log_that_is_not_known(self) -> None:
        """Under another key nothing is verified."""
        with pytest.raises(SignatureError, match="no signature by a key that was given"):
            evidence.verify(evidence_file(EVIDENCE), Policy.of(STRANGER.verifying_key()))

    def test_a_proof_without_extra(self) -> None:
        """A proof that does not carry its entry is no evidence, and the message says so."""
        with pytest.raises(FormatError, match="this tlog-proof has no extra line"):
            evidence.verify(Log(LEAF.encode()).proof().encode(), POLICY)

    def test_the_issuers_proof_is_handed_on(self) -> None:
        """It is not verified here, and changes nothing of what is."""
        verified = evidence.verify(evidence_file(replace(EVIDENCE, issuer=b"anything")), POLICY)
        assert verified.issuer == b"anything"
        assert replace(verified, issuer=None) == evidence.verify(evidence_file(EVIDENCE), POLICY)

    @pytest.mark.parametrize("bit", [0, 5, 7])
    def test_every_changed_byte_is_noticed(self, bit: int) -> None:
        """A change to any byte makes the file fail; in a signature by a stranger it may also change nothing."""
        data = self.cosigned()
        expected = evidence.verify(data, POLICY)
        unsigned = data.rindex("— ".encode())
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            try:
                verified = evidence.verify(bytes(changed), POLICY)
            except TranslogError:
                continue
            assert position >= unsigned
            assert verified == expected

    @given(st.data())
    def test_no_edit_proves_anything_else(self, data: st.DataObject) -> None:
        """Whatever is cut out, put in or replaced: the file fails, or it proves the same."""
        file = self.cosigned()
        start = data.draw(st.integers(0, len(file)))
        end = data.draw(st.integers(start, min(start + 50, len(file))))
        changed = file[:start] + data.draw(st.binary(max_size=50)) + file[end:]
        try:
            verified = evidence.verify(changed, POLICY)
        except TranslogError:
            return
        assert verified == evidence.verify(file, POLICY)

    @staticmethod
    def cosigned() -> bytes:
        """An evidence file whose checkpoint also has a signature by a stranger, in its last line."""
        log = Log(LEAF.encode())
        return replace(log.proof(), checkpoint=log.checkpoint(KEY, STRANGER), extra=EVIDENCE.encode()).encode()


def test_the_file_is_a_tlog_proof() -> None:
    """An evidence file is read by whatever reads tlog-proofs, and proves its entry there."""
    proof = TlogProof.parse(evidence_file(EVIDENCE))
    assert proof.extra == EVIDENCE.encode()
    assert proof.verify(LEAF.encode(), POLICY).size == 5
