"""Bundles that hold, of every question that can be asked, and what they show."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.translog import bundles, exported
from tests.translog.bundles import Bundle, make
from tests.translog.exported import ENTRY, SIZE, UNTIL, VKEY, Log, at, question, story
from translog.bundle import BundleError, Verified, entries, verify
from translog.canonical import Value
from translog.policy import Policy

POLICY = Policy.of(VKEY)


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Bundle], Verified]:
    """A function that verifies a bundle, as a file."""

    def check(bundle: Bundle) -> Verified:
        path = tmp_path / "bundle.zip"
        path.write_bytes(bundle.zip())
        return verify(path, POLICY)

    return check


Check = Callable[[Bundle], Verified]


def test_what_a_bundle_shows(check: Check) -> None:
    """Its manifest, the checkpoint and the key that signed it; and that there is no Parquet file."""
    log = story()
    bundle = make(log)
    verified = check(bundle)

    assert verified.manifest.counts == bundle.manifest["counts"]
    assert verified.manifest.question.since == at(exported.SINCE)
    assert (verified.checkpoint.size, verified.checkpoint.root) == (SIZE, log.root(SIZE))
    assert verified.signed == log.checkpoint(SIZE)
    assert verified.exports_key == exported.EXPORTS_KEY.verifying_key()
    assert verified.tallies == json.loads(bundle.files["tallies.json"])
    assert verified.parquet is None


@pytest.mark.parametrize("basis", ["logged", "received", "occurred"])
@pytest.mark.parametrize("providers", [None, ["acme"], ["acme", "globex"], ["umbrella"]])
@pytest.mark.parametrize("tests", [False, True])
def test_every_question(check: Check, basis: str, providers: list[Value] | None, *, tests: bool) -> None:
    """On each basis, of all providers or some, with tests or without."""
    bundle = make(story(question(basis=basis, providers=providers, tests=tests)))
    manifest = check(bundle).manifest

    assert manifest.counts == bundle.manifest["counts"]
    assert manifest.exclusions == bundle.manifest["exclusions"]
    assert manifest.population == ("subset" if providers or basis == "occurred" else "complete")


@pytest.mark.parametrize("basis", ["logged", "received", "occurred"])
def test_every_edge(check: Check, basis: str) -> None:
    """A period may begin and end before, at, and after each entry."""
    edges = [minutes / 2 for minutes in range(-1, 2 * ENTRY + 1)]
    for since, until in pairwise(edges):
        for start, end in ((since, until), (since, ENTRY), (-1, until)):
            if start < end:
                bundle = make(story(question(at(start), at(end), basis)))
                assert check(bundle).manifest.counts == bundle.manifest["counts"]


def test_an_empty_period(check: Check) -> None:
    """It is a valid bundle, which shows that there was nothing: two neighbours, one before the period, one after it."""
    manifest = check(make(story(question(at(16.2), at(16.8))))).manifest

    assert manifest.counts["events"] == 0
    assert (manifest.start, manifest.first, manifest.end) == (16, 17, 18)


def test_a_period_before_the_log(check: Check) -> None:
    """The first entry of the log is enough to show that nothing was there before."""
    manifest = check(make(story(question(at(-100), at(-50))))).manifest

    assert manifest.counts["events"] == 0
    assert (manifest.start, manifest.first, manifest.end) == (0, 0, 1)


def test_a_period_up_to_the_export(check: Check) -> None:
    """The export's own entry may be the first after the period."""
    manifest = check(make(story(question(at(19.5), at(20))))).manifest

    assert (manifest.first, manifest.end, manifest.entry) == (20, 21, 20)


def test_late_arrivals(check: Check) -> None:
    """On the basis `received`, what was logged after the period comes last, and is counted."""
    bundle = make(story(question(basis="received")))
    rows = [json.loads(line) for line in bundle.files["events.jsonl"].splitlines()]

    assert check(bundle).manifest.counts["late"] == 1
    assert rows[-1]["index"] == UNTIL


def test_erased_events_stay(check: Check) -> None:
    """With their leaf and without what it opened to, whether the erasure is in the range, after it, or not covered."""
    bundle = make(story(question(basis="received")))
    rows = {row["index"]: row for row in map(json.loads, bundle.files["events.jsonl"].splitlines())}
    payloads = {row["index"]: row for row in map(json.loads, bundle.files["payloads/000000.jsonl"].splitlines())}

    assert check(bundle).manifest.counts["erased"] == 2
    assert [rows[index]["erased_by"] for index in (12, 13, 14)] == [15, None, 24]
    assert [payloads[index]["erased_by"] for index in (7, 12, 13, 14)] == [21, 15, 16, 24]
    assert "proof/erasures/24.tlog-proof" in bundle.files


@pytest.mark.parametrize("earlier", [None, 1, 12, SIZE])
def test_a_previous_export(check: Check, earlier: int | None) -> None:
    """The checkpoint of the one before is that of any size, or there is none."""
    previous = check(make(story(), earlier=earlier)).manifest.previous

    assert previous == (None if earlier is None else (earlier, story().root(earlier)))


@pytest.mark.parametrize("size", [ENTRY + 1, SIZE, 25])
def test_a_checkpoint_of_any_size(check: Check, size: int) -> None:
    """Any that covers the export's entry; what it does not cover any more counts only as an erasure."""
    assert check(make(story(), size=size)).checkpoint.size == size


@pytest.mark.parametrize("chunk", [1, 2, 4, 8])
@pytest.mark.parametrize("basis", ["logged", "received", "occurred"])
def test_chunks(check: Check, monkeypatch: pytest.MonkeyPatch, chunk: int, basis: str) -> None:
    """However few entries are checked together, it comes to the same."""
    bundle = make(story(question(basis=basis)))
    whole = check(bundle)
    monkeypatch.setattr(entries, "CHUNK", chunk)

    assert check(bundle) == whole


def test_many_files_of_payloads(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last are full, and events find their lines in any."""
    monkeypatch.setattr(bundles, "PER_FILE", 2)
    monkeypatch.setattr("translog.bundle.files.PER_FILE", 2)
    monkeypatch.setattr("translog.bundle.verification.PER_FILE", 2)
    monkeypatch.setattr(entries, "CHUNK", 4)
    bundle = make(story())

    assert check(bundle).manifest.counts["events"] == 6
    assert [name for name in bundle.files if name.startswith("payloads/")] == [
        f"payloads/{number:06d}.jsonl" for number in range(3)
    ]
    first, second = bundle.files["payloads/000000.jsonl"], bundle.files["payloads/000001.jsonl"]
    cut = second.index(b"\n") + 1
    bundle.files["payloads/000000.jsonl"], bundle.files["payloads/000001.jsonl"] = first + second[:cut], second[cut:]
    with pytest.raises(BundleError, match=r"^payloads/000000\.jsonl: all files of payloads but the last have 2 lines"):
        check(bundle.seal())


def test_a_log_of_many_entries(check: Check) -> None:
    """More than fit into one chunk, with a cross-check of each event far behind it."""
    log = Log()
    announced = {"action": "announced", "by": "command", "id": "exports", "purpose": "exports"}
    log.add("key", {**announced, "vkey": str(exported.EXPORTS_KEY.verifying_key())})
    for number in range(200):
        log.add("revocation", exported.facts(), event=exported.data(f"r{number}"), body=b"%d" % number)
    for number in range(0, 200, 3):
        told: dict[str, Value] = {"by": None, "late": False, "provider": "acme", "source": "s", "was": "pending"}
        log.add("cross_check", {**told, "first": exported.uuid(number + 1), "state": "none"}, event={})
    entry = log.add("export", question(at(10), at(150), "received"))
    bundle = make(log, entry, entry + 1, earlier=None, key=0)

    assert check(bundle).manifest.counts == bundle.manifest["counts"]


class TestParquet:
    """`events.parquet`, with `pyarrow` and without."""

    @pytest.fixture
    def bundle(self) -> Bundle:
        """One with the file."""
        pytest.importorskip("pyarrow")
        return make(story(question(parquet=True)))

    def test_compared_by_value(self, check: Check, bundle: Bundle) -> None:
        """Its rows are those of the events."""
        assert check(bundle).parquet is True

    def test_only_hashed(self, check: Check, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without `pyarrow` it is said that no value was compared."""
        monkeypatch.setattr("translog.bundle.parquet.available", lambda: False)

        assert check(bundle).parquet is False

    @pytest.mark.parametrize(
        ("number", "path", "place"),
        [
            (2, ("leaf", "facts", "provider"), "events.parquet row 3 (entry 7)"),
            (0, ("event", "amount"), "events.parquet row 1 (entry 4)"),
            (None, (), "events.parquet"),
        ],
    )
    def test_other_values(
        self, check: Check, bundle: Bundle, number: int | None, path: tuple[str, ...], place: str
    ) -> None:
        """A value that is not the event's is named by its row; a row less by the file."""
        rows: list[Any] = [json.loads(line) for line in bundle.files["events.jsonl"].splitlines()]
        if number is None:
            rows.pop()
        else:
            found = rows[number]
            for name in path[:-1]:
                found = found[name]
            found[path[-1]] = "another"
        bundle.files["events.parquet"] = bundles.parquet(rows)

        with pytest.raises(BundleError) as caught:
            check(bundle.seal())
        assert caught.value.place == place

    def test_what_is_no_parquet(self, check: Check, bundle: Bundle) -> None:
        """It is named, whatever `pyarrow` says of it."""
        bundle.files["events.parquet"] = b"PAR1" + bytes(60) + b"PAR1"

        with pytest.raises(BundleError, match=r"^events\.parquet: it cannot be read"):
            check(bundle.seal())

    def test_not_asked_for(self, check: Check) -> None:
        """A file that the log knows nothing of is refused."""
        bundle = make(story())
        files = list(bundle.files.items())
        bundle.files = dict([*files[:2], ("events.parquet", b""), *files[2:]])

        with pytest.raises(BundleError, match=r"^events\.parquet: it was not asked for"):
            check(bundle.seal())
