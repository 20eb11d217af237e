"""Bundles that somebody tampered with, and the place that a verifier must name for each.

    for one in TAMPERED:
        one.name, one.place, one.zip()

`PLAIN` are changed by somebody without a key; `RESIGNED` are counted and signed again by an insider who has the exports
key; `RELOGGED` by one who has the log's key as well. All are of `exported.story()`, and of some other question to it.
"""

import hashlib
from collections.abc import Callable
from typing import Any, cast

from tests.translog import bundles, exported
from tests.translog.bundles import Bundle, make
from tests.translog.changes import (
    Tampered,
    both,
    flip,
    good,
    json_of,
    line,
    lines,
    manifest,
    plain,
    replace,
    resigned,
)
from tests.translog.exported import OTHER_KEY, SIZE, Log, at, question, story
from translog import merkle, note
from translog.canonical import Value, decode, encode, to_base64
from translog.checkpoint import Checkpoint
from translog.evidence import Delivery, Opening
from translog.note import SigningKey

EVENTS, CSV, PAYLOADS, ENTRIES = "events.jsonl", "events.csv", "payloads/000000.jsonl", "entries.bin"
LATER, RANGE, CONSISTENCY = "proof/later.jsonl", "proof/range.json", "proof/consistency.json"


def _swap(one: int, other: int) -> Callable[[list[bytes]], object]:
    def swap(each: list[bytes]) -> None:
        each[one], each[other] = each[other], each[one]

    return swap


def _drop(number: int) -> Callable[[list[bytes]], object]:
    return lambda each: each.pop(number)


def _insert(number: int, data: bytes) -> Callable[[list[bytes]], object]:
    return lambda each: each.insert(number, data)


def _opened(index: int) -> tuple[Opening, Opening]:
    entry = story().entries[index]
    assert entry.event is not None
    assert entry.delivery is not None
    return entry.event, entry.delivery


def _event_line(index: int) -> bytes:
    opening, data = _opened(index)[0], story().entries[index].data
    value = {"erased": False, "erased_by": None, "event": decode(opening.data), "index": index, "leaf": decode(data)}
    value |= {"salt": to_base64(opening.salt), "stands": {"cross_check": None, "entry": None}}
    return encode(value) + b"\n"


def _payload_line(index: int) -> bytes:
    opening = _opened(index)[1]
    value = {"delivery": decode(opening.data), "erased_by": None, "index": index, "salt": to_base64(opening.salt)}
    return encode(value) + b"\n"


def _set(*path: str, value: Any) -> Callable[[Any], object]:
    def change(found: Any) -> None:
        for name in path[:-1]:
            found = found[name]
        found[path[-1]] = value

    return change


def _another_body(value: Any) -> None:
    value["delivery"]["body"] = to_base64(b'{"r":5}')


def _cut(size: int) -> Callable[[Bundle], None]:
    """So many bytes less of the entries."""
    return lambda bundle: bundle.files.update({ENTRIES: bundle.files[ENTRIES][:-size]})


def _range(start: int, end: int, first: int) -> Callable[[Bundle], None]:
    """Other entries than those of the period, with a proof that is right."""

    def change(bundle: Bundle) -> None:
        log = story()
        proof = merkle.range_proof(start, end, SIZE, log.read)
        bundle.files[ENTRIES] = bundles.entries_bin(log.entries[start:end])
        bundle.files["proof/range.json"] = encode({"end": end, "hashes": [*map(to_base64, proof)], "start": start})
        for name, value in (("start", start), ("end", end), ("first", first)):
            manifest("range", name, value=value)(bundle)
        manifest("counts", "entries", value=end - start)(bundle)

    return change


def _other_leaf(bundle: Bundle) -> None:
    """Another provider, in the leaf and wherever it is repeated."""
    for name in (ENTRIES, EVENTS, CSV):
        bundle.files[name] = bundle.files[name].replace(b"initech", b"umbrell")


def _of_other_log(bundle: Bundle) -> None:
    bundle.files["proof/checkpoint"] = Log(story().entries, OTHER_KEY).checkpoint(SIZE)


def _extra(name: str, after: str) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        files = list(bundle.files.items())
        place = list(bundle.files).index(after) + 1
        bundle.files = dict([*files[:place], (name, b"{}"), *files[place:]])

    return change


def _without(name: str) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        del bundle.files[name]

    return change


def _left_out(index: int) -> Callable[[], bytes]:
    """An erased event is missing, and counted as one that occurred outside the period."""
    return lambda: make(story(question(basis="occurred")), left_out=[index]).zip()


def _at_the_beginning() -> Bundle:
    """A period before the log, so that its range is the first entry; and a previous export that saw only that."""
    return make(story(question(at(-100), at(-50))), earlier=1)


def _early(change: Callable[[Bundle], None]) -> Callable[[], bytes]:
    def zip_() -> bytes:
        bundle = _at_the_beginning()
        change(bundle)
        return bundle.seal().zip()

    return zip_


def _listed(name: str) -> Callable[[], bytes]:
    """A manifest that names one file more."""

    def zip_() -> bytes:
        bundle = good()
        said: Any = decode(bundle.sealed["manifest.json"])
        said["files"][name] = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
        return bundle.sign(encode(said)).zip()

    return zip_


def _out_of_order(bundle: Bundle) -> None:
    bundle.files["events.csv"] = bundle.files.pop("events.csv")


def _of_another_export() -> bytes:
    """Everything of one export, with the manifest and the note of another."""
    log = story()
    log.add("export", question(at(10), at(20)))
    one, other = make(log, size=26), make(log, entry=25, size=26)
    one.sealed = other.sealed
    return one.zip()


def _sealed_by(key: SigningKey) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        bundle.key = key
        bundle.seal()

    return change


PLAIN = [
    *(plain(f"a bit of {name}", name, flip(name)) for name in [*good().sealed, *good().files]),
    plain("an event left out", EVENTS, lines(EVENTS, _drop(1))),
    plain("an event added", EVENTS, lines(EVENTS, _insert(3, _event_line(8)))),
    plain("two events swapped", EVENTS, lines(EVENTS, _swap(0, 1))),
    plain("a body changed", PAYLOADS, line(PAYLOADS, 0, _another_body)),
    plain("an erased body put back", PAYLOADS, lines(PAYLOADS, lambda each: each.__setitem__(4, _payload_line(13)))),
    plain("an entry left out", ENTRIES, lambda b: b.files.update({ENTRIES: b.files[ENTRIES][:-10]})),
    plain("a checkpoint of another log", "proof/checkpoint", _of_other_log),
    plain("a file left out", "README.txt", _without("README.txt")),
    plain("a file added", "EXTRA.txt", _extra("EXTRA.txt", "README.txt")),
    plain("files in another order", "events.csv", _out_of_order),
    plain("a manifest signed by a stranger", "manifest.json.note", _sealed_by(OTHER_KEY)),
    plain("a manifest signed by the log", "manifest.json.note", _sealed_by(exported.KEY)),
    Tampered("a manifest of another export", "manifest.json export", _of_another_export),
]

RESIGNED = [
    resigned(
        "an event left out",
        f"{EVENTS} line 2 (entry 6)",
        both(lines(EVENTS, _drop(1)), lines(PAYLOADS, _drop(1)), manifest("counts", "events", value=5)),
    ),
    resigned("the last event left out", f"{EVENTS} line 6 (entry 14)", lines(EVENTS, _drop(5))),
    resigned(
        "an event added",
        f"{EVENTS} line 4 (entry 12)",
        both(lines(EVENTS, _insert(3, _event_line(8))), lines(PAYLOADS, _insert(3, _payload_line(8)))),
    ),
    resigned("an event added at the end", f"{EVENTS} line 7 (entry 17)", lines(EVENTS, _insert(6, _event_line(17)))),
    resigned("two events swapped", f"{EVENTS} line 1 (entry 4)", lines(EVENTS, _swap(0, 1))),
    resigned("an event twice", f"{EVENTS} line 2 (entry 6)", lines(EVENTS, lambda each: each.insert(0, each[0]))),
    resigned("an event changed", f"{EVENTS} line 2 (entry 6)", line(EVENTS, 1, _set("event", "amount", value="-6,00"))),
    resigned("a leaf changed in a line", f"{EVENTS} line 2 (entry 6)", replace(EVENTS, b"globex", b"umbrel")),
    resigned("a leaf changed everywhere", ENTRIES, _other_leaf),
    resigned("another spelling", f"{EVENTS} line 1 (entry 4)", replace(EVENTS, b'"erased":false', b'"erased": false')),
    resigned("a member more", f"{EVENTS} line 1 (entry 4)", replace(EVENTS, b'"stands":', b'"see":1,"stands":')),
    resigned("no newline", f"{EVENTS} line 6", lambda b: b.files.update({EVENTS: b.files[EVENTS][:-1]})),
    resigned("an empty line", f"{EVENTS} line 7", lambda b: b.files.update({EVENTS: b.files[EVENTS] + b"\n"})),
    resigned("a body changed", f"{PAYLOADS} line 1 (entry 4)", line(PAYLOADS, 0, _another_body)),
    resigned("a payload left out", f"{PAYLOADS} line 2 (entry 6)", lines(PAYLOADS, _drop(1))),
    resigned("the last payload left out", f"{PAYLOADS} line 6 (entry 14)", lines(PAYLOADS, _drop(5))),
    resigned("a payload more", f"{PAYLOADS} line 7 (entry 17)", lines(PAYLOADS, _insert(6, _payload_line(17)))),
    resigned("payloads swapped", f"{PAYLOADS} line 2 (entry 6)", lines(PAYLOADS, _swap(1, 2))),
    resigned(
        "an erased body put back",
        f"{PAYLOADS} line 5 (entry 13)",
        lines(PAYLOADS, lambda each: each.__setitem__(4, _payload_line(13))),
    ),
    resigned(
        "an erased event put back",
        f"{EVENTS} line 4 (entry 12)",
        lines(EVENTS, lambda each: each.__setitem__(3, _event_line(12))),
    ),
    resigned(
        "an event erased by an entry of another",
        f"{EVENTS} line 4 (entry 12)",
        line(EVENTS, 3, _set("erased_by", value=16)),
    ),
    resigned(
        "an event said to be erased",
        f"{EVENTS} line 1 (entry 4)",
        line(EVENTS, 0, lambda value: value.update(erased=True, erased_by=15, event=None, salt=None)),
    ),
    resigned(
        "a payload said to be erased",
        f"{PAYLOADS} line 1 (entry 4)",
        line(PAYLOADS, 0, lambda value: value.update(delivery=None, erased_by=16, salt=None)),
    ),
    resigned("an erasure unproven", f"{EVENTS} line 6 (entry 14)", _without("proof/erasures/24.tlog-proof")),
    resigned("an earlier cross-check", f"{EVENTS} line 1 (entry 4)", line(EVENTS, 0, _set("stands", "entry", value=3))),
    resigned(
        "another cross-check",
        f"{EVENTS} line 1 (entry 4)",
        line(EVENTS, 0, _set("stands", "cross_check", value="absent")),
    ),
    resigned(
        "a cross-check hidden",
        f"{EVENTS} line 1 (entry 4)",
        line(EVENTS, 0, _set("stands", value={"cross_check": None, "entry": None})),
    ),
    resigned(
        "a late cross-check that nothing names",
        f"{LATER} line 3 (entry 22)",
        lines(LATER, _insert(2, encode(bundles.later_line(story(), 22, SIZE)) + b"\n")),
    ),
    resigned(
        "a late entry changed",
        f"{LATER} line 1 (entry 18)",
        line(LATER, 0, _set("entry", value=to_base64(story().entries[19].data))),
    ),
    resigned("late entries swapped", f"{LATER} line 2 (entry 18)", lines(LATER, _swap(0, 1))),
    resigned("a cell changed", f"{CSV} row 2 (entry 6)", replace(CSV, b"globex", b"umbrel")),
    resigned("a formula let loose", f"{CSV} row 2 (entry 6)", replace(CSV, b",'=6,", b",=6,")),
    resigned("a row more", f"{CSV} row 7", lambda b: b.files.update({CSV: b.files[CSV] + b"\r\n"})),
    resigned("a row less", f"{CSV} row 6 (entry 14)", lines(CSV, _drop(7))),
    resigned("another header", f"{CSV} header", replace(CSV, b"index,", b"place,")),
    *(
        resigned(f"{name} changed", f"manifest.json counts.{name}", manifest("counts", name, value={"x": 1}))
        for name in ("by_breach", "by_cross_check", "by_effect", "by_provider")
    ),
    *(
        resigned(f"{name} changed", f"manifest.json counts.{name}", manifest("counts", name, value=7))
        for name in ("entries", "erased", "events", "late")
    ),
    *(
        resigned(f"excluded {name} changed", f"manifest.json exclusions.{name}", manifest("exclusions", name, value=9))
        for name in ("mismatches", "other_providers", "outside", "quarantined", "tests")
    ),
    resigned("the range cut short at its start", "manifest.json range.start", _range(4, 18, 4)),
    resigned(
        "the range cut shorter at its start",
        "manifest.json range.first",
        both(
            _range(4, 18, 5),
            *(lines(name, _drop(0)) for name in (EVENTS, PAYLOADS)),
            manifest("counts", "events", value=5),
        ),
    ),
    resigned("the range cut short at its end", "manifest.json range.end", _range(3, 17, 4)),
    resigned("the range longer at its end", "manifest.json range.end", _range(3, 19, 4)),
    resigned(
        "the range cut short on the basis received", "manifest.json range.end", _range(3, 20, 4), basis="received"
    ),
    resigned(
        "a range proof changed", "proof/range.json hashes", json_of("proof/range.json", lambda v: v["hashes"].pop())
    ),
    resigned("the period shifted", "manifest.json period.since", manifest("period", "since", value=at(3.5))),
    resigned("the period longer", "manifest.json period.until", manifest("period", "until", value=at(18))),
    resigned("another basis", "manifest.json period.basis", manifest("period", "basis", value="received")),
    resigned("other providers", "manifest.json query.providers", manifest("query", "providers", value=["acme"])),
    resigned("with tests", "manifest.json query.tests", manifest("query", "tests", value=True)),
    resigned("asked by another", "manifest.json asked.by", manifest("asked", "by", value="somebody")),
    resigned("asked at another time", "manifest.json asked.at", manifest("asked", "at", value=at(19))),
    resigned("a complete one called a subset", "manifest.json population", manifest("population", value="subset")),
    resigned(
        "a subset passed off as complete",
        "manifest.json population",
        manifest("population", value="complete"),
        basis="occurred",
    ),
    resigned("other indexes", "proof/indexes.json", json_of("proof/indexes.json", lambda v: v.pop()), basis="occurred"),
    resigned("another size", "manifest.json log.size", manifest("log", "size", value=24)),
    resigned("another root", "manifest.json log.root", manifest("log", "root", value="00" * 32)),
    resigned("another origin", "manifest.json log.origin", manifest("log", "origin", value="example.com")),
    resigned("another export's id", "manifest.json export", manifest("export", value=exported.uuid(19))),
    resigned("another entry", "manifest.json range.entry", manifest("range", "entry", value=19)),
    resigned("another previous", "manifest.json previous", manifest("previous", "size", value=11)),
    resigned(
        "a growth that was not",
        "proof/consistency.json",
        json_of("proof/consistency.json", lambda v: v["hashes"].reverse()),
    ),
    resigned(
        "a day of tallies changed",
        "tallies.json days[0]",
        json_of("tallies.json", lambda v: v["days"][0].update(recorded=4)),
    ),
    resigned("a gap hidden", "tallies.json gaps[0]", json_of("tallies.json", lambda v: v["gaps"].pop())),
    resigned(
        "what is cut off changed",
        "tallies.json cut_off.events.after",
        json_of("tallies.json", lambda v: v["cut_off"]["events"].update(after=0)),
    ),
    resigned("other software", "manifest.json software", manifest("software", value="sesame 0.6")),
    resigned("software of no version", "manifest.json software", manifest("software", value="rescind of old")),
    *(
        resigned(f"{value} events", "manifest.json counts.events", manifest("counts", "events", value=value))
        for value in (10**12, -1, True)
    ),
    *(
        resigned(f"a range from {value}", "manifest.json range.first", manifest("range", "first", value=value))
        for value in (-3, False)
    ),
    resigned("a previous of nothing", "manifest.json previous", manifest("previous", value=[])),
    resigned("a text for hashes", f"{RANGE} hashes", json_of(RANGE, _set("hashes", value=""))),
    resigned("an object for hashes", f"{RANGE} hashes", json_of(RANGE, lambda v: v.update(hashes={}))),
    resigned("entries cut short in one", f"{ENTRIES} entry 17", _cut(10)),
    resigned("entries cut short in a length", f"{ENTRIES} entry 17", _cut(len(story().entries[17].data) + 1)),
    resigned("entries cut short after one", f"{ENTRIES} entry 17", _cut(len(story().entries[17].data) + 2)),
    *(
        resigned(f"an index of {value.decode()}", f"{EVENTS} line 1 (entry 4)", replace(EVENTS, b'"index":4', value))
        for value in (b'"index":%b' % one for one in (b"1e999", b"-1e999", b"NaN", b"4.0", b'"4"', b"[]"))
    ),
    resigned("a line nested too deep", f"{EVENTS} line 1 (entry 4)", lines(EVENTS, _insert(0, b"[" * 100_000 + b"\n"))),
    *(
        resigned(f"{name} nested too deep", name, lambda bundle, name=name: bundle.files.update({name: b"[" * 100_000}))
        for name in ("tallies.json", RANGE, CONSISTENCY)
    ),
    resigned("a file of payloads more", "payloads/000001.jsonl", _extra("payloads/000001.jsonl", PAYLOADS)),
    resigned("a file added", "EXTRA.txt", _extra("EXTRA.txt", "README.txt")),
    resigned("a file left out", "tallies.json", _without("tallies.json")),
    *(
        Tampered(f"an erased event, {index}, left out, signed again", f"{EVENTS} (entry {index})", _left_out(index))
        for index in (12, 14)
    ),
    *(
        Tampered(f"{name} of {value}, signed again", f"{file} {name}", _early(json_of(file, _set(name, value=value))))
        for file, name, value in ((RANGE, "start", False), (RANGE, "end", True), (CONSISTENCY, "old_size", True))
    ),
    Tampered(
        "a start of false, signed again", "manifest.json range.start", _early(manifest("range", "start", value=False))
    ),
    *(
        Tampered(f"a manifest of {name}, signed again", f"manifest.json files.{name}", _listed(name))
        for name in ("manifest.json", "manifest.json.note")
    ),
]


# ---- by one who has the log's key as well ---------------------------------------------------------------------------


def _relogged(name: str, place: str, log: Callable[[], Log], **how: Any) -> Tampered:
    return Tampered(f"{name}, logged so", place, lambda: make(log(), **how).zip())


def _with(index: int, old: bytes, new: bytes, asked: dict[str, Value] | None = None) -> Callable[[], Log]:
    """The log with an entry that is otherwise."""

    def log() -> Log:
        log = story(asked)
        assert old in log.entries[index].data
        log.entries[index].data = log.entries[index].data.replace(old, new)
        return log

    return log


def _another_history() -> bytes:
    """The previous export's checkpoint is of a log that is another one from the start."""
    bundle = good()
    bundle.files["proof/previous-checkpoint"] = note.sign(Checkpoint(exported.ORIGIN, 12, bytes(32)).text, exported.KEY)
    cast("dict[str, Any]", bundle.manifest["previous"])["root"] = "00" * 32
    return bundle.seal().zip()


def _spelled_otherwise() -> Log:
    """A body whose delivery was committed to in another spelling than the canonical one."""
    log = story()
    entry = log.entries[4]
    assert entry.delivery is not None
    loose = Delivery((("b", "1"), ("a", "2")), b"{}").encode().replace(b'"a":"2","b":"1"', b'"b":"1","a":"2"')
    leaf = entry.leaf
    entry.delivery = Opening(loose, entry.delivery.salt)
    entry.data = entry.data.replace(str(leaf.delivery).encode(), entry.delivery.commitment("delivery").encode())
    return log


def _loose_payload() -> bytes:
    bundle = make(_spelled_otherwise())
    lines(PAYLOADS, lambda each: each.__setitem__(0, each[0].replace(b'"a":"2","b":"1"', b'"b":"1","a":"2"')))(bundle)
    return bundle.seal().zip()


RELOGGED = [
    _relogged("a time that falls", f"{ENTRIES} entry 10", _with(10, at(10).encode(), at(8.5).encode())),
    _relogged(
        "a time that falls after the range", f"{LATER} line 2 (entry 21)", _with(21, at(21).encode(), at(5).encode())
    ),
    _relogged(
        "an export asked for before the range's end",
        "proof/entry.tlog-proof",
        _with(20, at(20).encode(), at(16.7).encode(), question(until=at(16.5))),
    ),
    _relogged("a tally that does not add up", f"{ENTRIES} entry 5", _with(5, b'"deliveries":6', b'"deliveries":7')),
    _relogged("a cross-check of no known state", f"{ENTRIES} entry 11", _with(11, b'"confirmed"', b'"certified"')),
    _relogged("a period that was not over", "manifest.json period.until", lambda: story(question(until=at(20.5)))),
    _relogged("a key for something else", "proof/exports-key.tlog-proof", _with(2, b'"exports"', b'"reports"')),
    _relogged("a key of another name", "proof/exports-key.tlog-proof", _with(2, b"acme/exports+", b"acme/reports+")),
    Tampered("a previous checkpoint of another history, signed so", "proof/consistency.json", _another_history),
    Tampered("a delivery in another spelling, logged so", f"{PAYLOADS} line 1 (entry 4)", _loose_payload),
]

TAMPERED = [*PLAIN, *RESIGNED, *RELOGGED]
