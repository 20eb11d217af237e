"""`translog.policy`: whose signatures satisfy a policy, with real keys, real notes and the policies of others."""

import json
from collections.abc import Collection, Iterator
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given

from tests.translog.policies import KEYS, LOG, ORIGIN, OTHER, policies, policy_file, signer, vkey
from tests.vectors import VECTORS, needs_vectors
from translog import note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, SignatureError
from translog.note import Kind, Note, SigningKey
from translog.policy import Policy, Witness

HEAD = Checkpoint(ORIGIN, 7, bytes(range(32)))
OTHER_HEAD = Checkpoint(ORIGIN, 7, bytes(32))

WITNESSES = {
    "X1": signer("x1.example"),
    "X2": signer("x2.example", Kind.ML_DSA_44),
    "X3": signer("x3.example"),
    "Y1": signer("y1.example"),
    "Y2": signer("y2.example", Kind.ML_DSA_44),
    "Y3": signer("y3.example"),
}

QUORUM = Policy.parse(
    "".join(
        (
            f"log {LOG.verifying_key()}\n",
            *(f"witness {name} {key.verifying_key()}\n" for name, key in WITNESSES.items()),
            "group X-witnesses 2 X1 X2 X3\n",
            "group Y-witnesses any Y1 Y2 Y3\n",
            "group X-and-Y all X-witnesses Y-witnesses\n",
            "quorum X-and-Y\n",
        )
    ).encode()
)
"""The example of C2SP tlog-policy, with a log that signs by Ed25519 and witnesses of both kinds."""


def signed(*names: str, head: Checkpoint = HEAD, log: SigningKey = LOG, time: int = 1_800_000_000) -> bytes:
    """A checkpoint by the log, cosigned by the witnesses of these names at a time."""
    cosignatures = (WITNESSES[name].sign(head.text, time) for name in names)
    return Note(head.text, (log.sign(head.text), *cosignatures)).encode()


def subsets(names: Collection[bytes]) -> Iterator[set[bytes]]:
    """Every set of some of these."""
    sizes = range(len(names) + 1)
    return (set(some) for some in chain.from_iterable(combinations(names, size) for size in sizes))


def has_witnessed(policy: Policy, name: bytes, cosigners: set[bytes]) -> bool:
    """The definition, read backwards: for a group, try all choices of as many members as the threshold says."""
    for group in policy.groups:
        if group.name == name:
            choices = combinations(group.members, group.threshold)
            return any(all(has_witnessed(policy, member, cosigners) for member in choice) for choice in choices)
    return name == b"none" or name in cosigners


@given(policies())
def test_every_set_of_witnesses(policy: Policy) -> None:
    """Whatever the groups, exactly the sets of witnesses that the definition accepts make the quorum."""
    for cosigners in subsets([witness.name for witness in policy.witnesses]):
        assert has_witnessed(policy, policy.quorum, cosigners) == policy.met_by(cosigners)


@given(policies())
def test_a_name_that_is_no_witness_witnesses_nothing(policy: Policy) -> None:
    """The name of a group, or one that nothing has, stands for no cosignature."""
    groups = {group.name for group in policy.groups}

    assert policy.met_by(groups | {b"nobody at all"}) == (policy.quorum == b"none")


class TestQuorum:
    """Two of the X and one of the Y must have cosigned."""

    @pytest.mark.parametrize("some", list(subsets([name.encode() for name in WITNESSES])), ids=str)
    def test_every_set_of_real_cosignatures(self, some: set[bytes]) -> None:
        """A checkpoint opens if and only if enough of the right witnesses have cosigned it."""
        data = signed(*(name.decode() for name in some))
        if len(some & {b"X1", b"X2", b"X3"}) >= 2 and some & {b"Y1", b"Y2", b"Y3"}:
            assert QUORUM.open(data) == HEAD
        else:
            with pytest.raises(SignatureError, match=r"'example\.com/log' cosigned by .*; the quorum lacks "):
                QUORUM.open(data)
        assert QUORUM.open_log(data) == HEAD

    @pytest.mark.parametrize(
        ("names", "here", "missing"),
        [
            (
                (),
                "no known witness",
                (
                    "2 more of 'X-and-Y' (2 more of 'X-witnesses' ('X1', 'X2', 'X3'), "
                    "1 more of 'Y-witnesses' ('Y1', 'Y2', 'Y3'))"
                ),
            ),
            (
                ("X2", "Y3"),
                "'X2', 'Y3'",
                "1 more of 'X-and-Y' (1 more of 'X-witnesses' ('X1', 'X3'))",
            ),
        ],
    )
    def test_who_is_missing(self, names: tuple[str, ...], here: str, missing: str) -> None:
        """The message says who has cosigned and whose cosignatures would help, group by group."""
        with pytest.raises(SignatureError) as raised:
            QUORUM.open(signed(*names))
        expected = f"policy: a checkpoint of 'example.com/log' cosigned by {here}; the quorum lacks {missing}"
        assert str(raised.value) == expected

    def test_one_witness_is_one(self) -> None:
        """Cosignatures of one witness at several times count once."""
        twice = (WITNESSES["X1"].sign(HEAD.text, time) for time in (1, 2))
        data = Note(HEAD.text, (LOG.sign(HEAD.text), *twice, WITNESSES["Y1"].sign(HEAD.text, 1))).encode()
        with pytest.raises(SignatureError, match=r"\(1 more of 'X-witnesses' \('X2', 'X3'\)\)"):
            QUORUM.open(data)

    def test_times_are_not_judged(self) -> None:
        """A cosignature may be of any time, or of none where its kind allows that."""
        for time in (0, 1, 2**63 - 1):
            assert QUORUM.open(signed("X1", "X2", "Y2", time=time)) == HEAD

    @pytest.mark.parametrize("name", ["X1", "X2", "Y3"])
    def test_a_cosignature_of_another_checkpoint(self, name: str) -> None:
        """By a known witness, it is a wrong signature: the note is refused, however many others are right."""
        wrong = WITNESSES[name].sign(OTHER_HEAD.text, 1)
        others = [other for other in WITNESSES if other != name]
        data = Note(HEAD.text, (*Note.parse(signed(*others)).signatures, wrong)).encode()

        with pytest.raises(SignatureError, match=f"the signature of {name.lower()}.example.* does not verify"):
            QUORUM.open(data)
        assert QUORUM.open(signed(*others)) == HEAD
        assert QUORUM.open_log(data) == HEAD

    def test_each_octet_of_a_cosignature(self) -> None:
        """Its time is covered as well as the rest: any bit of it changed, and it does not verify."""
        lines = Note.parse(signed("X1", "X3", "Y1")).signatures
        blob = lines[1].blob
        for place in range(len(blob)):
            changed = blob[:place] + bytes((blob[place] ^ 1,)) + blob[place + 1 :]
            line = note.Signature(lines[1].name, lines[1].key_id, changed)
            with pytest.raises(SignatureError, match=r"x1\.example.* does not verify"):
                QUORUM.open(Note(HEAD.text, (lines[0], line, *lines[2:])).encode())

    def test_a_namesake_of_a_witness(self) -> None:
        """Of the same name with another key, it is nobody known: left out, and not counted."""
        namesake = SigningKey("y1.example", Kind.COSIGNATURE, b"n" * 32).sign(HEAD.text, 1)
        data = Note(HEAD.text, (*Note.parse(signed("X1", "X2")).signatures, namesake)).encode()
        with pytest.raises(SignatureError, match="cosigned by 'X1', 'X2'; the quorum lacks"):
            QUORUM.open(data)

    def test_the_order_of_signatures(self) -> None:
        """Witnesses may stand before the log, and strangers between them."""
        strange = OTHER.sign(HEAD.text)
        log, *cosignatures = Note.parse(signed("X3", "X1", "Y2")).signatures
        assert QUORUM.open(Note(HEAD.text, (*cosignatures, strange, log)).encode()) == HEAD


class TestTheLogSigns:
    """No number of witnesses makes up for the log's own signature."""

    def test_witnesses_alone(self) -> None:
        """A checkpoint that all witnesses cosigned and no log signed is refused."""
        data = Note(HEAD.text, tuple(key.sign(HEAD.text, 1) for key in WITNESSES.values())).encode()
        with pytest.raises(SignatureError, match=r"signed by no known log, only cosigned by x1\.example, x2\.example"):
            QUORUM.open(data)
        with pytest.raises(SignatureError, match="no signature by a key that was given"):
            QUORUM.open_log(data)

    def test_a_witness_of_the_logs_name(self) -> None:
        """Its cosignature is not the log's signature, though the name in the line is."""
        witness = signer(ORIGIN)
        policy = Policy(QUORUM.log_lines, (Witness(b"w", witness.verifying_key()),), quorum=b"w")
        cosignature = witness.sign(HEAD.text, 1)
        with pytest.raises(SignatureError, match="signed by no known log"):
            policy.open(Note(HEAD.text, (cosignature,)).encode())
        assert policy.open(Note(HEAD.text, (cosignature, LOG.sign(HEAD.text))).encode()) == HEAD

    def test_another_log_of_the_policy(self) -> None:
        """With or without witnesses, one log's signature under the name of another is refused."""
        policy = Policy.parse(policy_file("log {log}\nlog {other}\nquorum none\n"))
        for data in (note.sign(HEAD.text, OTHER), signed("X1", log=OTHER)):
            for opening in (policy.open, policy.open_log):
                with pytest.raises(SignatureError, match=r"signed only by example\.com/other, which is another log"):
                    opening(data)

    def test_nothing_but_a_checkpoint(self) -> None:
        """A signed text of another form is none, whichever way it is opened."""
        for opening in (QUORUM.open, QUORUM.open_log):
            with pytest.raises(FormatError, match="checkpoint: "):
                opening(note.sign("hello\n", LOG))


class TestNoQuorum:
    """`quorum none`: witnesses may be known and are not needed."""

    POLICY = Policy(QUORUM.log_lines, QUORUM.witnesses, QUORUM.groups)

    def test_cosigned_or_not(self) -> None:
        """The log's signature is enough."""
        assert self.POLICY.quorum == b"none"
        assert self.POLICY.open(signed()) == HEAD
        assert self.POLICY.open(signed("X1")) == HEAD

    def test_a_wrong_cosignature(self) -> None:
        """By a known witness it is refused all the same; the log's own word stands."""
        wrong = WITNESSES["X1"].sign(OTHER_HEAD.text, 1)
        data = Note(HEAD.text, (LOG.sign(HEAD.text), wrong)).encode()
        with pytest.raises(SignatureError, match=r"x1\.example.* does not verify"):
            self.POLICY.open(data)
        assert self.POLICY.open_log(data) == HEAD

    def test_a_wrong_signature_of_the_log(self) -> None:
        """It is refused either way."""
        data = Note(HEAD.text, (LOG.sign(OTHER_HEAD.text),)).encode()
        for opening in (self.POLICY.open, self.POLICY.open_log):
            with pytest.raises(SignatureError, match=r"example\.com/log.* does not verify"):
                opening(data)


class TestOneKeyAsLogAndWitness:
    """A policy may have one key, or one public key, in both parts."""

    def test_one_signature_is_both(self) -> None:
        """An ML-DSA-44 log key that is named as witness, too: what the log signs, the witness has cosigned."""
        key = signer(ORIGIN, Kind.ML_DSA_44)
        policy = Policy.parse(
            f"log {key.verifying_key()}\nwitness w {key.verifying_key()}\nwitness x {KEYS['a']}\n"
            "group g any w x\nquorum g\n".encode()
        )
        assert policy.open(note.sign(HEAD.text, key)) == HEAD

    def test_one_public_key_of_two_kinds(self) -> None:
        """A plain signature is no cosignature, though one secret can make both."""
        witness = SigningKey(ORIGIN, Kind.COSIGNATURE, LOG.seed)
        policy = Policy.parse(f"log {KEYS['log']}\nwitness w {witness.verifying_key()}\nquorum w\n".encode())
        with pytest.raises(SignatureError, match="cosigned by no known witness; the quorum lacks 'w'"):
            policy.open(note.sign(HEAD.text, LOG))
        assert policy.open(Note(HEAD.text, (LOG.sign(HEAD.text), witness.sign(HEAD.text, 1))).encode()) == HEAD


class TestOrigin:
    """A log whose origin is not its key's name is known by both together."""

    POLICY = Policy.of(LOG.verifying_key(), OTHER.verifying_key(), origin="The Log")
    NAMED = Checkpoint("The Log", 7, bytes(32))

    def test_any_log_key_signs_for_it(self) -> None:
        """Each of the keys, or both."""
        for keys in ([LOG], [OTHER], [LOG, OTHER]):
            assert self.POLICY.open(note.sign(self.NAMED.text, *keys)) == self.NAMED
            assert self.POLICY.open_log(note.sign(self.NAMED.text, *keys)) == self.NAMED

    def test_no_other_origin(self) -> None:
        """Not even the name of the key that signed."""
        for opening in (self.POLICY.open, self.POLICY.open_log):
            with pytest.raises(SignatureError, match=r"a checkpoint of 'example\.com/log', not of 'The Log'"):
                opening(note.sign(HEAD.text, LOG))
        with pytest.raises(SignatureError, match=r"is another log; .*: give the origin with the policy"):
            Policy.of(LOG.verifying_key()).open(note.sign(self.NAMED.text, LOG))

    def test_with_witnesses(self) -> None:
        """Of a policy file, too; the witnesses then cosign that origin."""
        policy = Policy.parse(QUORUM.encode(), origin="The Log")
        assert policy.open(signed("X1", "X2", "Y2", head=self.NAMED)) == self.NAMED
        with pytest.raises(SignatureError, match="the quorum lacks"):
            policy.open(signed("X1", "X2", head=self.NAMED))
        with pytest.raises(SignatureError, match="not of 'The Log'"):
            policy.open(signed("X1", "X2", "Y2"))

    def test_witnesses_do_not_sign_for_it(self) -> None:
        """A named origin gives the keys of witnesses no other part."""
        policy = Policy.parse(QUORUM.encode(), origin="The Log")
        lines = Note.parse(signed("X1", "X2", "Y2", head=self.NAMED)).signatures[1:]
        with pytest.raises(SignatureError, match="signed by no known log"):
            policy.open(Note(self.NAMED.text, lines).encode())


@needs_vectors
class TestWhatOthersMade:
    """Logs in use, and the policy files of another implementation."""

    @pytest.fixture
    def vectors(self) -> Any:
        return json.loads((VECTORS / "transparency-dev-formats" / "formats_vectors.json").read_bytes())

    def test_origins_that_are_not_key_names(self, vectors: Any) -> None:
        """Rekor's checkpoint and that of Pixel's log open once their origins are given, and not with each other's."""
        rekor, pixel = vectors["ecdsa_0x02_notes"]
        for case, origin, other in ((rekor, "Rekor", "DEFAULT"), (pixel, "DEFAULT", "Rekor")):
            data = case["note"].encode()
            assert Policy.of(case["vkey"], origin=origin).open(data).origin == origin
            file = f"log {case['vkey']}\nquorum none\n".encode()
            assert Policy.parse(file, origin).open_log(data).size in {798_034, 10}
            with pytest.raises(SignatureError, match=f"a checkpoint of '{origin}', not of '{other}'"):
                Policy.of(case["vkey"], origin=other).open(data)

    def test_an_ml_dsa_44_log_that_is_its_own_witness(self) -> None:
        """The one signature of a checkpoint that another program made is the log's and the witness's."""
        folder = VECTORS / "torchwood-mldsa"
        key, data = (folder / "vkey.txt").read_text().strip(), (folder / "checkpoint.txt").read_bytes()
        policy = Policy.parse(f"log {key}\nwitness w {key}\nquorum w\n".encode())
        assert policy.open(data).origin == "example.com/mldsa-log"
        with pytest.raises(SignatureError, match="does not verify"):
            policy.open(data.replace(b"\n1\n", b"\n2\n"))

    def test_policy_files_of_a_dialect(self, vectors: Any) -> None:
        """None is a C2SP policy: no logs, keys that do not cosign, one key for two witnesses, comments after a URL."""
        assert len(vectors["tlog_policy_cases"]) == 11
        for case in vectors["tlog_policy_cases"]:
            with pytest.raises(FormatError, match=r"^policy"):
                Policy.parse(case["policy"].encode())

    def test_policy_files_in_c2sp_form(self, vectors: Any) -> None:
        """With a log, cosigning keys, and a line end, they are judged as expected, but that `all` may be a name."""
        thresholds: dict[str, int] = {}
        refused: list[str] = []
        for case in vectors["tlog_policy_cases"]:
            text = case["policy"].replace("    #comment", "").rstrip("\n\t ")
            for number, old in enumerate(word for word in text.split() if word.count("+") >= 2):
                text = text.replace(old, str(vkey(f"{number}.example")), 1)
            try:
                policy = Policy.parse(f"log {KEYS['log']}\n{text}\n".encode())
            except FormatError as error:
                assert case["error"] is not None, case["name"]
                refused.append(str(error))
            else:
                assert case["error"] is None, case["name"]
                thresholds[case["name"]] = policy.groups[0].threshold
                assert case["wantN"] in {None, policy.groups[0].threshold}

        assert thresholds == {
            "tidy": 2,
            "whitespace and comments": 2,
            "group numerical": 2,
            "group all": 3,
            "group any": 1,
        }
        expected = [
            "policy: no quorum line",
            "policy, line 2: quorum: no line before it defines 'unknown'",
            "policy, line 3: the name 'w1' is already defined",
            "policy, line 5: threshold: '-1' is not a decimal number",
            "policy: no quorum line",
            "policy, line 2: group 'none': no line before it defines its member 'witness'",
        ]
        assert [reason[: len(start)] for reason, start in zip(refused, expected, strict=True)] == expected
        named_all = f"log {KEYS['log']}\nwitness all {KEYS['a']}\nquorum all\n"
        assert Policy.parse(named_all.encode()).quorum == b"all"
