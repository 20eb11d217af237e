"""Bundles that somebody tampered with, and the place that a verifier must name for each.

    for one in TAMPERED:
        one.name, one.place, one.zip()

`PLAIN` are changed by somebody without a key; `RESIGNED` are counted and signed again by an insider who has the exports
key; `RELOGGED` by one who has the log's key as well. All are of `exported.story()`, and of some other question to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from tests.translog import bundles, exported
from tests.translog.bundles import Bundle, make
from tests.translog.exported import OTHER_KEY, SIZE, Log, at, question, story
from translog import merkle, note
from translog.canonical import decode, encode, to_base64
from translog.checkpoint import Checkpoint
from translog.evidence import Delivery, Opening
from translog.note import SigningKey

EVENTS, CSV, PAYLOADS, ENTRIES = "events.jsonl", "events.csv", "payloads/000000.jsonl", "entries.bin"
LATER = "proof/later.jsonl"


@dataclass(frozen=True)
class Tampered:
    """One tampering: what it is, where it is wrong first, and the file."""

    name: str
    place: str
    zip: Callable[[], bytes]


@cache
def _good(basis: str = "logged", providers: tuple[str, ...] | None = None) -> Bundle:
    return make(story(question(basis=basis, providers=None if providers is None else [*providers])))


def good(basis: str = "logged", providers: tuple[str, ...] | None = None) -> Bundle:
    """A bundle that verifies, to be changed."""
    return _good(basis, providers).copy()


def _plain(name: str, place: str, change: Callable[[Bundle], None]) -> Tampered:
    def zip_() -> bytes:
        bundle = good()
        change(bundle)
        return bundle.zip()

    return Tampered(name, place, zip_)


def _resigned(name: str, place: str, change: Callable[[Bundle], None], basis: str = "logged") -> Tampered:
    def zip_() -> bytes:
        bundle = good(basis)
        change(bundle)
        return bundle.seal().zip()

    return Tampered(f"{name}, signed again", place, zip_)


# ---- what is changed ------------------------------------------------------------------------------------------------


def flip(name: str, position: int | None = None) -> Callable[[Bundle], None]:
    """One bit of a file, in its middle."""

    def change(bundle: Bundle) -> None:
        files = bundle.sealed if name in bundle.sealed else bundle.files
        data = bytearray(files[name])
        data[len(data) // 2 if position is None else position] ^= 1
        files[name] = bytes(data)

    return change


def lines(name: str, change: Callable[[list[bytes]], object]) -> Callable[[Bundle], None]:
    """The lines of a file."""

    def changed(bundle: Bundle) -> None:
        each = bundle.files[name].splitlines(keepends=True)
        change(each)
        bundle.files[name] = b"".join(each)

    return changed


def line(name: str, number: int, change: Callable[[Any], object]) -> Callable[[Bundle], None]:
    """The value of one line of a file, from 0 on."""

    def edit(each: list[bytes]) -> None:
        value = decode(each[number][:-1])
        change(value)
        each[number] = encode(value) + b"\n"

    return lines(name, edit)


def json_of(name: str, change: Callable[[Any], object]) -> Callable[[Bundle], None]:
    """The value of a JSON file."""

    def changed(bundle: Bundle) -> None:
        value = decode(bundle.files[name])
        change(value)
        bundle.files[name] = encode(value)

    return changed


def manifest(*path: str, value: Any) -> Callable[[Bundle], None]:
    """A member of the manifest."""

    def change(bundle: Bundle) -> None:
        found: Any = bundle.manifest
        for name in path[:-1]:
            found = found[name]
        found[path[-1]] = value

    return change


def both(*changes: Callable[[Bundle], None]) -> Callable[[Bundle], None]:
    """One after another."""

    def change(bundle: Bundle) -> None:
        for one in changes:
            one(bundle)

    return change


def replace(name: str, old: bytes, new: bytes) -> Callable[[Bundle], None]:
    """A piece of a file."""

    def change(bundle: Bundle) -> None:
        assert old in bundle.files[name]
        bundle.files[name] = bundle.files[name].replace(old, new, 1)

    return change


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
    *(_plain(f"a bit of {name}", name, flip(name)) for name in [*good().sealed, *good().files]),
    _plain("an event left out", EVENTS, lines(EVENTS, _drop(1))),
    _plain("an event added", EVENTS, lines(EVENTS, _insert(3, _event_line(8)))),
    _plain("two events swapped", EVENTS, lines(EVENTS, _swap(0, 1))),
    _plain("a body changed", PAYLOADS, line(PAYLOADS, 0, _another_body)),
    _plain("an erased body put back", PAYLOADS, lines(PAYLOADS, lambda each: each.__setitem__(4, _payload_line(13)))),
    _plain("an entry left out", ENTRIES, lambda b: b.files.update({ENTRIES: b.files[ENTRIES][:-10]})),
    _plain("a checkpoint of another log", "proof/checkpoint", _of_other_log),
    _plain("a file left out", "README.txt", _without("README.txt")),
    _plain("a file added", "EXTRA.txt", _extra("EXTRA.txt", "README.txt")),
    _plain("files in another order", "events.csv", _out_of_order),
    _plain("a manifest signed by a stranger", "manifest.json.note", _sealed_by(OTHER_KEY)),
    _plain("a manifest signed by the log", "manifest.json.note", _sealed_by(exported.KEY)),
    Tampered("a manifest of another export", "manifest.json export", _of_another_export),
]

RESIGNED = [
    _resigned(
        "an event left out",
        f"{EVENTS} line 2 (entry 6)",
        both(lines(EVENTS, _drop(1)), lines(PAYLOADS, _drop(1)), manifest("counts", "events", value=5)),
    ),
    _resigned("the last event left out", f"{EVENTS} line 6 (entry 14)", lines(EVENTS, _drop(5))),
    _resigned(
        "an event added",
        f"{EVENTS} line 4 (entry 12)",
        both(lines(EVENTS, _insert(3, _event_line(8))), lines(PAYLOADS, _insert(3, _payload_line(8)))),
    ),
    _resigned("an event added at the end", f"{EVENTS} line 7 (entry 17)", lines(EVENTS, _insert(6, _event_line(17)))),
    _resigned("two events swapped", f"{EVENTS} line 1 (entry 4)", lines(EVENTS, _swap(0, 1))),
    _resigned("an event twice", f"{EVENTS} line 2 (entry 6)", lines(EVENTS, lambda each: each.insert(0, each[0]))),
    _resigned(
        "an event changed", f"{EVENTS} line 2 (entry 6)", line(EVENTS, 1, _set("event", "amount", value="-6,00"))
    ),
    _resigned("a leaf changed in a line", f"{EVENTS} line 2 (entry 6)", replace(EVENTS, b"globex", b"umbrel")),
    _resigned("a leaf changed everywhere", ENTRIES, _other_leaf),
    _resigned("another spelling", f"{EVENTS} line 1 (entry 4)", replace(EVENTS, b'"erased":false', b'"erased": false')),
    _resigned("a member more", f"{EVENTS} line 1 (entry 4)", replace(EVENTS, b'"stands":', b'"see":1,"stands":')),
    _resigned("no newline", f"{EVENTS} line 6", lambda b: b.files.update({EVENTS: b.files[EVENTS][:-1]})),
    _resigned("an empty line", f"{EVENTS} line 7", lambda b: b.files.update({EVENTS: b.files[EVENTS] + b"\n"})),
    _resigned("a body changed", f"{PAYLOADS} line 1 (entry 4)", line(PAYLOADS, 0, _another_body)),
    _resigned("a payload left out", f"{PAYLOADS} line 2 (entry 6)", lines(PAYLOADS, _drop(1))),
    _resigned("the last payload left out", f"{PAYLOADS} line 6 (entry 14)", lines(PAYLOADS, _drop(5))),
    _resigned("a payload more", f"{PAYLOADS} line 7 (entry 17)", lines(PAYLOADS, _insert(6, _payload_line(17)))),
    _resigned("payloads swapped", f"{PAYLOADS} line 2 (entry 6)", lines(PAYLOADS, _swap(1, 2))),
    _resigned(
        "an erased body put back",
        f"{PAYLOADS} line 5 (entry 13)",
        lines(PAYLOADS, lambda each: each.__setitem__(4, _payload_line(13))),
    ),
    _resigned(
        "an erased event put back",
        f"{EVENTS} line 4 (entry 12)",
        lines(EVENTS, lambda each: each.__setitem__(3, _event_line(12))),
    ),
    _resigned(
        "an event erased by an entry of another",
        f"{EVENTS} line 4 (entry 12)",
        line(EVENTS, 3, _set("erased_by", value=16)),
    ),
    _resigned(
        "an event said to be erased",
        f"{EVENTS} line 1 (entry 4)",
        line(EVENTS, 0, lambda value: value.update(erased=True, erased_by=15, event=None, salt=None)),
    ),
    _resigned(
        "a payload said to be erased",
        f"{PAYLOADS} line 1 (entry 4)",
        line(PAYLOADS, 0, lambda value: value.update(delivery=None, erased_by=16, salt=None)),
    ),
    _resigned("an erasure unproven", f"{EVENTS} line 6 (entry 14)", _without("proof/erasures/24.tlog-proof")),
    _resigned(
        "an earlier cross-check", f"{EVENTS} line 1 (entry 4)", line(EVENTS, 0, _set("stands", "entry", value=3))
    ),
    _resigned(
        "another cross-check",
        f"{EVENTS} line 1 (entry 4)",
        line(EVENTS, 0, _set("stands", "cross_check", value="absent")),
    ),
    _resigned(
        "a cross-check hidden",
        f"{EVENTS} line 1 (entry 4)",
        line(EVENTS, 0, _set("stands", value={"cross_check": None, "entry": None})),
    ),
    _resigned(
        "a late cross-check that nothing names",
        f"{LATER} line 3 (entry 22)",
        lines(LATER, _insert(2, encode(bundles.later_line(story(), 22, SIZE)) + b"\n")),
    ),
    _resigned(
        "a late entry changed",
        f"{LATER} line 1 (entry 18)",
        line(LATER, 0, _set("entry", value=to_base64(story().entries[19].data))),
    ),
    _resigned("late entries swapped", f"{LATER} line 2 (entry 18)", lines(LATER, _swap(0, 1))),
    _resigned("a cell changed", f"{CSV} row 2 (entry 6)", replace(CSV, b"globex", b"umbrel")),
    _resigned("a formula let loose", f"{CSV} row 2 (entry 6)", replace(CSV, b",'=6,", b",=6,")),
    _resigned("a row more", f"{CSV} row 7", lambda b: b.files.update({CSV: b.files[CSV] + b"\r\n"})),
    _resigned("a row less", f"{CSV} row 6 (entry 14)", lines(CSV, _drop(7))),
    _resigned("another header", f"{CSV} header", replace(CSV, b"index,", b"place,")),
    *(
        _resigned(f"{name} changed", f"manifest.json counts.{name}", manifest("counts", name, value={"x": 1}))
        for name in ("by_breach", "by_cross_check", "by_effect", "by_provider")
    ),
    *(
        _resigned(f"{name} changed", f"manifest.json counts.{name}", manifest("counts", name, value=7))
        for name in ("entries", "erased", "events", "late")
    ),
    *(
        _resigned(f"excluded {name} changed", f"manifest.json exclusions.{name}", manifest("exclusions", name, value=9))
        for name in ("mismatches", "other_providers", "outside", "quarantined", "tests")
    ),
    _resigned("the range cut short at its start", "manifest.json range.start", _range(4, 18, 4)),
    _resigned(
        "the range cut shorter at its start",
        "manifest.json range.first",
        both(
            _range(4, 18, 5),
            *(lines(name, _drop(0)) for name in (EVENTS, PAYLOADS)),
            manifest("counts", "events", value=5),
        ),
    ),
    _resigned("the range cut short at its end", "manifest.json range.end", _range(3, 17, 4)),
    _resigned("the range longer at its end", "manifest.json range.end", _range(3, 19, 4)),
    _resigned(
        "the range cut short on the basis received", "manifest.json range.end", _range(3, 20, 4), basis="received"
    ),
    _resigned(
        "a range proof changed", "proof/range.json hashes", json_of("proof/range.json", lambda v: v["hashes"].pop())
    ),
    _resigned("the period shifted", "manifest.json period.since", manifest("period", "since", value=at(3.5))),
    _resigned("the period longer", "manifest.json period.until", manifest("period", "until", value=at(18))),
    _resigned("another basis", "manifest.json period.basis", manifest("period", "basis", value="received")),
    _resigned("other providers", "manifest.json query.providers", manifest("query", "providers", value=["acme"])),
    _resigned("with tests", "manifest.json query.tests", manifest("query", "tests", value=True)),
    _resigned("asked by another", "manifest.json asked.by", manifest("asked", "by", value="somebody")),
    _resigned("asked at another time", "manifest.json asked.at", manifest("asked", "at", value=at(19))),
    _resigned("a complete one called a subset", "manifest.json population", manifest("population", value="subset")),
    _resigned(
        "a subset passed off as complete",
        "manifest.json population",
        manifest("population", value="complete"),
        basis="occurred",
    ),
    _resigned(
        "other indexes", "proof/indexes.json", json_of("proof/indexes.json", lambda v: v.pop()), basis="occurred"
    ),
    _resigned("another size", "manifest.json log.size", manifest("log", "size", value=24)),
    _resigned("another root", "manifest.json log.root", manifest("log", "root", value="00" * 32)),
    _resigned("another origin", "manifest.json log.origin", manifest("log", "origin", value="example.com")),
    _resigned("another export's id", "manifest.json export", manifest("export", value=exported.uuid(19))),
    _resigned("another entry", "manifest.json range.entry", manifest("range", "entry", value=19)),
    _resigned("another previous", "manifest.json previous", manifest("previous", "size", value=11)),
    _resigned(
        "a growth that was not",
        "proof/consistency.json",
        json_of("proof/consistency.json", lambda v: v["hashes"].reverse()),
    ),
    _resigned(
        "a day of tallies changed",
        "tallies.json days[0]",
        json_of("tallies.json", lambda v: v["days"][0].update(recorded=4)),
    ),
    _resigned("a gap hidden", "tallies.json gaps[0]", json_of("tallies.json", lambda v: v["gaps"].pop())),
    _resigned(
        "what is cut off changed",
        "tallies.json cut_off.events.after",
        json_of("tallies.json", lambda v: v["cut_off"]["events"].update(after=0)),
    ),
    _resigned("a file of payloads more", "payloads/000001.jsonl", _extra("payloads/000001.jsonl", PAYLOADS)),
    _resigned("a file added", "EXTRA.txt", _extra("EXTRA.txt", "README.txt")),
    _resigned("a file left out", "tallies.json", _without("tallies.json")),
]


# ---- by one who has the log's key as well ---------------------------------------------------------------------------


def _relogged(name: str, place: str, log: Callable[[], Log], **how: Any) -> Tampered:
    return Tampered(f"{name}, logged so", place, lambda: make(log(), **how).zip())


def _with(index: int, old: bytes, new: bytes) -> Callable[[], Log]:
    """The log with an entry that is otherwise."""

    def log() -> Log:
        log = story()
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
    _relogged("a tally that does not add up", f"{ENTRIES} entry 5", _with(5, b'"deliveries":6', b'"deliveries":7')),
    _relogged("a cross-check of no known state", f"{ENTRIES} entry 11", _with(11, b'"confirmed"', b'"certified"')),
    _relogged("a period that was not over", "manifest.json period.until", lambda: story(question(until=at(20.5)))),
    _relogged("a key for something else", "proof/exports-key.tlog-proof", _with(2, b'"exports"', b'"reports"')),
    _relogged("a key of another name", "proof/exports-key.tlog-proof", _with(2, b"acme/exports+", b"acme/reports+")),
    Tampered("a previous checkpoint of another history, signed so", "proof/consistency.json", _another_history),
    Tampered("a delivery in another spelling, logged so", f"{PAYLOADS} line 1 (entry 4)", _loose_payload),
]

TAMPERED = [*PLAIN, *RESIGNED, *RELOGGED]
