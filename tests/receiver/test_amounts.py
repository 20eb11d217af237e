"""Amounts: what is one, and that sums are exact."""

from decimal import Decimal, Inexact, InvalidOperation, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.amounts import MAX_LENGTH, format_amount, parse_amount, total

plain_decimals = st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", fullmatch=True)


def added(*texts: str) -> str:
    """The sum of amounts, from text to text."""
    return format_amount(total(amount for text in texts if (amount := parse_amount(text)) is not None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0, (0,), 0)),
        ("7", (0, (7,), 0)),
        ("500.00", (0, (5, 0, 0, 0, 0), -2)),
        ("-0.50", (1, (5, 0), -2)),
        ("007.10", (0, (7, 1, 0), -2)),
        ("0.000000000000000001", (0, (1,), -18)),
        ("-0", (1, (0,), 0)),
    ],
)
def test_a_plain_decimal_is_read_digit_by_digit(text: str, expected: tuple[int, tuple[int, ...], int]) -> None:
    """Sign, digits and scale are as written."""
    amount = parse_amount(text)

    assert amount is not None
    assert expected == amount.as_tuple()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "-.",
        "+7",
        "--7",
        "7-",
        ".5",
        "5.",
        "1.2.3",
        "1e9",
        "1E9",
        "1e-9",
        "0x10",
        "NaN",
        "sNaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "1_000",
        "1,000.00",
        "1 000",
        " 7",
        "7 ",
        "7\n",
        "\t7",
        "7\0",
        "$7",
        "\N{FULLWIDTH DIGIT SEVEN}",
        "٣",
        "1.٣",
        "\N{MINUS SIGN}7",
        "7\N{ZERO WIDTH SPACE}",
        "\ud800",
    ],
)
def test_all_else_is_no_amount(text: str) -> None:
    """Though Python's own reader takes many of these."""
    assert parse_amount(text) is None


def test_the_length_is_bounded() -> None:
    """The longest amount is still read; one character more is not, whatever it says."""
    assert parse_amount("9" * MAX_LENGTH) == Decimal("9" * MAX_LENGTH)
    assert parse_amount("9" * (MAX_LENGTH + 1)) is None
    assert parse_amount("0" * 10_000_000) is None


@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        ("0", []),
        ("1000.00", ["500.00", "500.00"]),
        ("1.50", ["1", "0.50"]),
        ("0.3", ["0.1", "0.2"]),
        ("0.00", ["1.50", "-1.5"]),
        ("-0.25", ["0.25", "-0.50"]),
        ("0", ["-0"]),
        ("0.0000000", ["0.0000000"]),
        ("10000000000000000000000000000.000000000000000001", ["1" + "0" * 28, "0." + "0" * 17 + "1"]),
    ],
)
def test_sums_are_written_in_full(expected: str, texts: list[str]) -> None:
    """With the longest scale there is, and without an exponent."""
    assert expected == added(*texts)


def test_the_farthest_apart_amounts_add_up_exactly() -> None:
    """No digit of either is lost; nor in a thousand of the largest."""
    large, small = "9" * MAX_LENGTH, "0." + "0" * (MAX_LENGTH - 3) + "1"

    assert f"{large}.{small[2:]}" == added(large, small)
    assert str(int(large) * 1000) == added(*[large] * 1000)


def test_the_caller_s_own_precision_is_of_no_account() -> None:
    """A sum is exact even where decimals are computed with three digits."""
    with localcontext(prec=3):
        assert added("1234.56", "0.01") == "1234.57"


@pytest.mark.parametrize(("amount", "error"), [("1E+700", Inexact), ("sNaN", InvalidOperation)])
def test_what_cannot_be_added_exactly_raises(amount: str, error: type[Exception]) -> None:
    """Rather than a rounded sum: numbers that are no amounts."""
    with pytest.raises(error):
        total([Decimal(amount), Decimal(1)])


@given(plain_decimals)
def test_what_is_written_out_is_read_as_the_same(text: str) -> None:
    """Sign, digits and scale."""
    amount = parse_amount(text)
    assert amount is not None

    again = parse_amount(format_amount(amount))

    assert again is not None
    assert amount.as_tuple() == again.as_tuple()


@given(st.lists(plain_decimals, max_size=8))
def test_a_sum_is_what_it_is_in_whole_units(texts: list[str]) -> None:
    """Counted in the smallest unit there can be, as Python's integers add."""

    def units(text: str) -> int:
        whole, _, fraction = text.lstrip("-").partition(".")
        return (-1 if text[0] == "-" else 1) * int(whole + fraction.ljust(40, "0"))

    assert sum(map(units, texts)) == units(added(*texts))


@given(st.text(max_size=12))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    """It is an amount of ASCII characters, or none."""
    assert parse_amount(text) is None or text.isascii()
