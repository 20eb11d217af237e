"""Amounts of money and points, as providers write them: read strictly, added exactly, written out in full.

An amount is a plain decimal, which is what JSON schemas call a "decimal string": digits, with a point between them if
need be, and a minus sign before them if it is below zero.

    500.00    -0.50    1000    0.000000000000000001

It travels as text, exactly as it was written, for how it is written tells something: `500.00` and `500` are the same
amount, but not the same answer. Where amounts have to be compared or added, `parse_amount` gives the number.

Python's `Decimal` reads more than that: `1e9`, `NaN`, `Infinity`, `1_000`, ` 7 `, `+7`, `.5`, `5.` and digits of other
scripts. And it computes with 28 digits, so that a sum may be rounded without a word. Nothing of this can happen here.
"""

import re
from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation

MAX_LENGTH = 256
"""Characters of an amount: more than any currency needs, and few enough that reading and adding cost nothing."""

_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

# MAX_LENGTH digits before the point, as many behind it, and 10^88 amounts: a sum is exact, or it raises.
_EXACT = Context(prec=600, traps=[Inexact, InvalidOperation])


def parse_amount(text: str) -> Decimal | None:
    """The number that `text` writes, with its scale (`1.50` has two fraction digits); None if it is no plain decimal.

    Zeros may lead or trail. None too for what has more than `MAX_LENGTH` characters, which is not even looked at.
    """
    if len(text) > MAX_LENGTH or _PLAIN.fullmatch(text) is None:
        return None
    return Decimal(text)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum of amounts that `parse_amount` gave, with the longest of their scales; 0 of none.

    Raises `decimal.Inexact` or `decimal.InvalidOperation` for other numbers that cannot be added exactly.
    """
    added = Decimal(0)
    for amount in amounts:
        added = _EXACT.add(added, amount)
    return added


def format_amount(amount: Decimal) -> str:
    """The amount as a plain decimal, with all digits of its scale and never an exponent: `1000.00`.

    `parse_amount` reads it as the same number again, if it is one that it or `total` gave and not longer than
    `MAX_LENGTH`.
    """
    return format(amount, "f")
