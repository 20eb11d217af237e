"""How many refusals and deliveries are let through in a minute, and whose address counts. No service is needed."""

import pytest

from receiver.intake import admission
from receiver.intake.admission import MINUTE, Limiter, Proxies

HEADER = b"x-forwarded-for"


def test_so_many_a_minute_and_no_more() -> None:
    """Those within the limit wait for nothing; those beyond it, until the minute is over."""
    limiter = Limiter(3)

    assert [limiter.count("a", now) for now in (100.0, 100.0, 110.0)] == [0, 0, 0]
    assert limiter.count("a", 120.0) in {40, 41}
    assert limiter.count("a", 159.5) == 1


def test_the_next_minute_begins_with_the_next_one() -> None:
    """A minute is counted from the first of its kind, not from the clock's."""
    limiter = Limiter(1)
    assert [limiter.count("a", 100.0), limiter.count("a", 159.9) > 0] == [0, True]

    assert limiter.count("a", 160.0) == 0
    assert limiter.count("a", 161.0) > 0


def test_a_minute_without_anything_is_forgotten() -> None:
    """However much was too much before."""
    limiter = Limiter(1)
    for _ in range(10):
        limiter.count("a", 100.0)

    assert limiter.count("a", 100.0 + MINUTE) == 0


def test_each_key_is_counted_by_itself() -> None:
    """One that is over its limit costs another nothing."""
    limiter = Limiter(1)

    assert [limiter.count(key, 100.0) for key in "abab"] == [0, 0, pytest.approx(60, abs=1), pytest.approx(60, abs=1)]


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many keys the one whose window is oldest is given up, and no other."""
    monkeypatch.setattr(admission, "MAX_ADDRESSES", 3)
    limiter = Limiter(1)
    for now, key in enumerate("abc"):
        limiter.count(key, float(now))
    limiter.count("d", 3.0)

    assert [bool(limiter.count(key, 4.0)) for key in "bcd"] == [True, True, True]
    assert limiter.count("a", 4.0) == 0


def test_a_key_that_comes_again_is_not_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its window is a new one."""
    monkeypatch.setattr(admission, "MAX_ADDRESSES", 2)
    limiter = Limiter(1)
    limiter.count("a", 0.0)
    limiter.count("b", 1.0)
    limiter.count("a", 60.5)  # its second window
    limiter.count("c", 60.6)

    assert limiter.count("a", 60.7) > 0


@pytest.mark.parametrize(
    ("trusted", "peer", "values", "address"),
    [
        ("", "192.0.2.1", ["203.0.113.1"], "192.0.2.1"),
        ("10.0.0.1", "192.0.2.1", ["203.0.113.1"], "192.0.2.1"),
        ("10.0.0.1", "10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", "10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1", ["1.1.1.1, 203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", "10.0.0.1", ["1.1.1.1", "203.0.113.1"], "203.0.113.1"),
        ("10.0.0.0/8", "10.9.9.9", ["1.1.1.1, 203.0.113.1, 10.0.0.7"], "203.0.113.1"),
        ("10.0.0.0/8, 192.0.2.9", "192.0.2.9", ["203.0.113.1 ,10.0.0.7"], "203.0.113.1"),
        ("10.0.0.7/8", "10.1.1.1", ["10.0.0.1, 10.0.0.2"], "10.1.1.1"),
        ("10.0.0.1", "::ffff:10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("::1", "::1", ["2001:db8::1"], "2001:db8::1"),
        ("fd00::/8", "fd00::5", ["2001:db8::1,fd00::6"], "2001:db8::1"),
        ("10.0.0.1", "10.0.0.1", ["1.1.1.1, unknown"], "unknown"),
        ("10.0.0.1", "10.0.0.1", ["1.1.1.1, "], ""),
        ("10.0.0.1", "", ["203.0.113.1"], ""),
        ("10.0.0.1", "10.0.0.1", ["x" * 9000], "x" * 64),
    ],
)
def test_the_address_behind_proxies(trusted: str, peer: str, values: list[str], address: str) -> None:
    """The last one that no trusted proxy added; what stands before it may be the sender's invention."""
    headers = [(b"accept", b"*/*"), *((HEADER, value.encode()) for value in values)]

    assert Proxies(trusted).address(peer, headers) == address


@pytest.mark.parametrize("trusted", ["proxy.example", "10.0.0.0/33", "10.0.0.1;10.0.0.2", "10.0.0.1 10.0.0.2", "*"])
def test_what_is_no_address_is_refused(trusted: str) -> None:
    """A name, a bad mask, another separator."""
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        Proxies(trusted)


def test_empty_places_in_the_list_are_passed_over() -> None:
    """So a list may end with a comma."""
    assert Proxies(" 10.0.0.1 ,, ").address("10.0.0.1", [(HEADER, b"1.1.1.1")]) == "1.1.1.1"
