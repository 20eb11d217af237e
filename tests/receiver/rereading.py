"""A small second reading of `docs/export-format.md`: a bundle, each statement of which is held to what proves it.

It is for what was just written by the receiver, and asks the library's verifier as well. That what is wrong is told in
words, and in time, is what the verifiers are for.
"""

import base64
import csv
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

from tests.receiver.exporting import Filled, members
from translog import evidence, merkle, note
from translog.bundle import verify
from translog.canonical import commitment, decode
from translog.evidence import Leaf
from translog.note import VerifyingKey
from translog.policy import Policy

ORDER = (
    "manifest.json",
    "manifest.json.note",
    "events.jsonl",
    "events.csv",
    "events.parquet",
    "payloads/",
    "entries.bin",
    "proof/checkpoint",
    "proof/range.json",
    "proof/entry.tlog-proof",
    "proof/exports-key.tlog-proof",
    "proof/later.jsonl",
    "proof/erasures/",
    "proof/previous-checkpoint",
    "proof/consistency.json",
    "proof/indexes.json",
    "tallies.json",
    "REPORT.html",
    "README.txt",
    "verify.py",
)


class Bundle:
    """What a bundle says, each statement of it held to the leaves, and the leaves to the checkpoint."""

    def __init__(self, path: Path, filled: Filled) -> None:
        verify(path, Policy.of(filled.tenant.log.verifying_key))
        self.files = members(path)
        self.manifest: dict[str, Any] = json.loads(self.files["manifest.json"])
        self.range: dict[str, int] = self.manifest["range"]
        self.policy = Policy.of(filled.tenant.log.verifying_key)
        self.entries = self._entries()
        self.events: list[dict[str, Any]] = self._lines(b"".join([self.files["events.jsonl"]]))
        self.payloads = self._lines(b"".join(self.of("payloads/")))
        self.indexes = [one["index"] for one in self.events]
        self._check_files()
        self._check_range()
        self._check_openings()
        self._check_counts()

    def of(self, prefix: str) -> list[bytes]:
        """The files whose names begin so."""
        return [data for name, data in self.files.items() if name.startswith(prefix)]

    def leaf(self, index: int) -> Leaf:
        """A leaf of the range."""
        return Leaf.parse(self.entries[index - self.range["start"]])

    def _entries(self) -> list[bytes]:
        data, found = io.BytesIO(self.files["entries.bin"]), list[bytes]()
        while length := data.read(2):
            found.append(data.read(int.from_bytes(length, "big")))
        return found

    @staticmethod
    def _lines(data: bytes) -> list[dict[str, Any]]:
        assert data == b"" or data.endswith(b"\n")
        found = [decode(line) for line in data.split(b"\n")[:-1]]
        return [one for one in found if isinstance(one, dict)]

    def _check_files(self) -> None:
        places = [
            next(at for at, one in enumerate(ORDER) if name == one or (one.endswith("/") and name.startswith(one)))
            for name in self.files
        ]
        assert places == sorted(places)
        assert self.manifest["files"] == {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in self.files.items()
            if not name.startswith("manifest.json")
        }
        key = evidence.verify(self.files["proof/exports-key.tlog-proof"], self.policy).leaf
        assert (key.kind, key.facts["action"], key.facts["purpose"]) == ("key", "announced", "exports")
        signed = note.open(self.files["manifest.json.note"], [VerifyingKey.parse(str(key.facts["vkey"]))])
        digest = hashlib.sha256(self.files["manifest.json"]).hexdigest()
        assert signed.text == f"rescind-export/v1\n{self.manifest['export']}\n{digest}\n"

    def _check_range(self) -> None:
        checkpoint = self.policy.open(self.files["proof/checkpoint"])
        log = {"origin": checkpoint.origin, "root": checkpoint.root.hex(), "size": checkpoint.size}
        assert self.manifest["log"] == log
        proof = json.loads(self.files["proof/range.json"])
        assert (proof["start"], proof["end"]) == (self.range["start"], self.range["end"])
        hashes = [base64.b64decode(one) for one in proof["hashes"]]
        leaf_hashes = [merkle.leaf_hash(one) for one in self.entries]
        merkle.verify_range(leaf_hashes, proof["start"], checkpoint.size, hashes, checkpoint.root)
        entry = evidence.verify(self.files["proof/entry.tlog-proof"], self.policy)
        assert (entry.index, entry.leaf.kind, entry.leaf.id) == (self.range["entry"], "export", self.manifest["export"])
        assert self.manifest["asked"]["at"] == entry.leaf.logged_at
        for line in self._lines(self.files["proof/later.jsonl"]):
            assert line["index"] >= self.range["end"]
            hashes = [base64.b64decode(one) for one in line["proof"]]
            hashed = merkle.leaf_hash(base64.b64decode(line["entry"]))
            merkle.verify_inclusion(hashed, line["index"], checkpoint.size, hashes, checkpoint.root)

    def _check_openings(self) -> None:
        assert [one["index"] for one in self.payloads] == self.indexes == sorted(self.indexes)
        for event, payload, line in zip(
            self.events, self.payloads, self.files["events.jsonl"].split(b"\n")[:-1], strict=True
        ):
            leaf = self.leaf(event["index"])
            assert b',"leaf":' + leaf.encode() + b"," in line
            assert event["erased"] == (event["event"] is None) == (event["erased_by"] is not None)
            for label, one, opened in (("event", event, event["event"]), ("delivery", payload, payload["delivery"])):
                assert (opened is None) == (one["salt"] is None) == (one["erased_by"] is not None)
                if opened is not None:
                    data = json.dumps(opened, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
                    assert commitment(base64.b64decode(one["salt"]), label, data) == getattr(leaf, label)

    def _check_counts(self) -> None:
        counts, facts = self.manifest["counts"], [self.leaf(index).facts for index in self.indexes]
        assert counts["events"] == len(self.events)
        assert counts["entries"] == len(self.entries) == self.range["end"] - self.range["start"]
        assert counts["by_effect"] == Counter(one["effect"] or "none" for one in facts)
        assert counts["by_provider"] == Counter(one["provider"] for one in facts)
        assert counts["by_cross_check"] == Counter(one["stands"]["cross_check"] or "untold" for one in self.events)
        breaches = [cast("list[str]", one.get("breaches", [])) for one in facts]
        assert counts["by_breach"] == Counter(code for codes in breaches for code in codes)
        assert counts["erased"] == sum(one["erased"] for one in self.events)
        late = [index for index in self.indexes if self.leaf(index).logged_at >= self.manifest["period"]["until"]]
        assert counts["late"] == len(late)

    def table(self) -> list[dict[str, str]]:
        """The rows of `events.csv`, by Python's own reader; writing them again gives the same bytes."""
        text = self.files["events.csv"].decode()
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        again = io.StringIO(newline="")
        csv.writer(again).writerows(rows)
        assert again.getvalue() == text
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]

    @staticmethod
    def body(payload: dict[str, Any]) -> bytes:
        """The raw body in a line of the payloads."""
        return base64.b64decode(payload["delivery"]["body"])

    def later(self) -> list[dict[str, Any]]:
        """The lines of `proof/later.jsonl`."""
        return self._lines(self.files["proof/later.jsonl"])

    def check_consistency(self) -> None:
        """The log has only grown since the export before."""
        old = self.policy.open(self.files["proof/previous-checkpoint"])
        new = self.policy.open(self.files["proof/checkpoint"])
        proof = json.loads(self.files["proof/consistency.json"])
        assert (proof["old_size"], proof["new_size"]) == (old.size, new.size)
        hashes = [base64.b64decode(one) for one in proof["hashes"]]
        merkle.verify_consistency(old.size, old.root, new.size, new.root, hashes)
