"""What may be done to a bundle: changes of its files and of its manifest, to be put together.

resigned("an event left out", "events.jsonl line 2 (entry 6)", lines("events.jsonl", lambda each: each.pop(1)))
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.translog.bundles import Bundle, make
from tests.translog.exported import question, story
from translog.canonical import decode, encode


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


def plain(name: str, place: str, change: Callable[[Bundle], None]) -> Tampered:
    """A bundle that is changed, and nothing signed again."""

    def zip_() -> bytes:
        bundle = good()
        change(bundle)
        return bundle.zip()

    return Tampered(name, place, zip_)


def resigned(name: str, place: str, change: Callable[[Bundle], None], basis: str = "logged") -> Tampered:
    """A bundle that is changed, counted and signed again."""

    def zip_() -> bytes:
        bundle = good(basis)
        change(bundle)
        return bundle.seal().zip()

    return Tampered(f"{name}, signed again", place, zip_)


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
