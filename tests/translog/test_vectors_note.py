"""Notes, checkpoints and keys that others made: Go's own cases, Rekor, Pixel, CT logs, a tiled log, an ML-DSA-44 log.

Where a case departs from the text of C2SP, the text wins, and the test says so.
"""

import base64
import json
import struct
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.vectors import VECTORS, needs_vectors
from translog import note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, SignatureError
from translog.note import Note, Signature, SigningKey, VerifyingKey
from translog.policy import Policy
from translog.proof import TlogProof

pytestmark = needs_vectors

ROOT = base64.b64encode(bytes(range(32))).decode()


def read_json(*path: str) -> Any:
    """The JSON of a vector file, without a claim about its shape."""
    return json.loads(VECTORS.joinpath(*path).read_bytes())


class TestGo:
    """The cases of golang.org/x/mod/sumdb/note."""

    GOOD = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    ERRORS: ClassVar[dict[str, type[Exception]]] = {
        "malformed note": FormatError,
        "ambiguous key": FormatError,
        "invalid signature": SignatureError,
        "no verifiable signatures": SignatureError,
    }

    @pytest.fixture
    def vectors(self) -> Any:
        return read_json("golang-mod", "note_open.json")

    def test_open(self, vectors: Any) -> None:
        """Each case opens with the signatures that Go verifies, or is refused for Go's reason."""
        assert len(vectors["cases"]) == 14
        for case in vectors["cases"]:
            data = case["note"].encode() if "note" in case else bytes.fromhex(case["note_hex"])
            keys = [VerifyingKey.parse(vkey) for vkey in case["vkeys"]]
            if "error" in case:
                with pytest.raises(self.ERRORS[case["error"]]):
                    note.open(data, keys)
                continue
            opened = note.open(data, keys)
            assert [signature.name for signature in opened.signatures] == case["verified"], case["name"]
            distinct = dict.fromkeys(Note.parse(data).signatures)
            unverified = [signature.name for signature in distinct if signature not in opened.signatures]
            assert unverified == case["unverified"], case["name"]

    def test_keys(self, vectors: Any) -> None:
        """Go's private key gives Go's vkey, and signs the note that Go signed."""
        key = SigningKey.parse(vectors["skey"])
        assert str(key) == vectors["skey"]
        assert str(key.verifying_key()) == self.GOOD
        (both,) = (case for case in vectors["cases"] if case["name"] == "both verified")
        parsed = Note.parse(both["note"].encode())
        assert key.sign(parsed.text) == parsed.signatures[0]

    def test_bad_vkeys(self, vectors: Any) -> None:
        """Keys of a wrong length or an unknown type, cut vkeys, and vkeys with one byte changed are refused."""
        listed = [vkey for vkey in vectors["bad_vkeys"] if vkey.startswith("PeterNeumann+")]
        assert len(listed) == 2
        cut = [self.GOOD[start:end] for start in range(len(self.GOOD)) for end in range(start, len(self.GOOD) + 1)]
        cut.remove(self.GOOD)
        changed = [self.GOOD[:i] + chr(ord(self.GOOD[i]) + 1) + self.GOOD[i + 1 :] for i in range(len(self.GOOD))]
        for vkey in (*listed, *cut, *changed):
            with pytest.raises(FormatError):
                VerifyingKey.parse(vkey)


class TestTransparencyDev:
    """The cases of github.com/transparency-dev/formats."""

    @pytest.fixture
    def vectors(self) -> Any:
        return read_json("transparency-dev-formats", "formats_vectors.json")

    def test_real_ecdsa_notes(self, vectors: Any) -> None:
        """Checkpoints of Rekor and of Pixel's log open with their ECDSA keys, and not with a changed size."""
        assert len(vectors["ecdsa_0x02_notes"]) == 2
        for case in vectors["ecdsa_0x02_notes"]:
            key = VerifyingKey.parse(case["vkey"])
            assert str(key) == case["vkey"]
            assert note.open(case["note"].encode(), [key]).signatures[0].name == key.name
            origin, size, rest = case["note"].split("\n", 2)
            with pytest.raises(SignatureError, match="does not verify"):
                note.open(f"{origin}\n{size}0\n{rest}".encode(), [key])

    def test_a_key_name_is_not_an_origin(self, vectors: Any) -> None:
        """These two logs sign under another name than their origin: as notes they open, as a log's checkpoints not."""
        for case in vectors["ecdsa_0x02_notes"]:
            with pytest.raises(SignatureError, match="signed only by"):
                Policy.of(case["vkey"]).open(case["note"].encode())

    def test_a_real_static_ct_checkpoint(self, vectors: Any) -> None:
        """A checkpoint of a static CT log opens with its RFC 6962 key, and tells its time in milliseconds."""
        (case,) = vectors["rfc6962_0x05"]
        key = VerifyingKey.parse(case["vkey"])
        assert str(key) == case["vkey"]
        (signature,) = note.open(case["note"].encode(), [key]).signatures
        assert signature.timestamp == 1_711_519_390_034
        assert Policy.of(key).open(case["note"].encode()).size == 115_474_666

    def test_a_real_tree_head(self, vectors: Any) -> None:
        """A tree head that a CT log gave as JSON verifies once it is written as a checkpoint."""
        (case,) = vectors["rfc6962_sth_to_checkpoint"]
        sth, key = case["sth"], VerifyingKey.parse(case["vkey"])
        head = Checkpoint(key.name, sth["tree_size"], base64.b64decode(sth["sha256_root_hash"]))
        blob = struct.pack(">Q", sth["timestamp"]) + base64.b64decode(sth["tree_head_signature"])
        data = Note(head.text, (Signature(key.name, key.key_id, blob),)).encode()
        assert Policy.of(key).open(data) == head
        assert note.open(data, [key]).signatures[0].timestamp == sth["timestamp"]

    def test_checkpoint_bodies_as_they_are(self, vectors: Any) -> None:
        """All are refused: those meant to be valid have roots of 7 or 37 bytes, and C2SP asks for SHA-256."""
        assert len(vectors["checkpoint_body_cases"]) == 12
        for case in vectors["checkpoint_body_cases"]:
            reason = "checkpoint" if case["wantErr"] else "a root is exactly 32 bytes|one line that is not empty"
            with pytest.raises(FormatError, match=reason):
                Checkpoint.parse(case["checkpoint"])

    def test_checkpoint_bodies_with_a_real_root(self, vectors: Any) -> None:
        """With a root of 32 bytes they are judged as expected, except that empty extension lines are not allowed."""
        accepted: list[str] = []
        for case in vectors["checkpoint_body_cases"]:
            lines = case["checkpoint"].split("\n")
            if len(lines) > 2 and lines[2].endswith("=="):
                lines[2] = ROOT
            try:
                Checkpoint.parse("\n".join(lines))
            except FormatError:
                assert case["wantErr"] or case["desc"] == "valid with trailing newlines"
            else:
                accepted.append(case["desc"])
        assert accepted == [
            "valid one",
            "valid with different origin",
            "valid with trailing data",
            "valid with multiple trailing data lines",
        ]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("missing header", "the first line is"),
            ("invalid extra data encoding", "tlog-proof extra: "),
            ("missing index", "expected a line with the index"),
            ("invalid index - not a number", "tlog-proof index: 'notanumber'"),
            ("invalid index - negative", "tlog-proof index: '-5'"),
            ("invalid hash base64", "tlog-proof hash: "),
        ],
    )
    def test_malformed_proofs(self, vectors: Any, name: str, reason: str) -> None:
        """Each malformed proof is refused for what is wrong with it, also above a checkpoint that is well formed."""
        (case,) = (case for case in vectors["tlog_proof_unmarshal_errors"] if case["name"] == name)
        head = case["proof"].removesuffix("checkpoint\n").encode()
        checkpoint = note.sign(Checkpoint("example.com/log", 1, bytes(32)).text, SigningKey.generate("example.com/log"))
        for data in (case["proof"].encode(), head + checkpoint):
            with pytest.raises(FormatError, match=reason):
                TlogProof.parse(data)


def test_a_real_ml_dsa_44_checkpoint() -> None:
    """A checkpoint by an ML-DSA-44 log key opens; the log states no time."""
    folder = VECTORS / "torchwood-mldsa"
    vkey, data = (folder / "vkey.txt").read_text().strip(), (folder / "checkpoint.txt").read_bytes()
    key = VerifyingKey.parse(vkey)
    assert str(key) == vkey
    head = Policy.of(key).open(data)
    assert (head.origin, head.size) == ("example.com/mldsa-log", 1)
    assert note.open(data, [key]).signatures[0].timestamp == 0
    with pytest.raises(SignatureError, match="does not verify"):
        Policy.of(key).open(data.replace(b"\n1\n", b"\n2\n"))


def test_a_real_tiled_log() -> None:
    """All sixteen checkpoints of a small log open with its key."""
    folder: Path = VECTORS / "transparency-dev-tessera" / "testdata" / "log"
    policy = Policy.of("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")
    heads = [policy.open((folder / f"checkpoint.{size}").read_bytes()) for size in range(16)]
    assert [head.size for head in heads] == list(range(16))
    assert policy.open((folder / "checkpoint").read_bytes()) == heads[15]
