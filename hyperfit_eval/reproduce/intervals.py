"""Comparing two measured numbers by their intervals; one rule for all of the study's sentences."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 1, sign: str = "") -> str:
        """`73.1 [71.0, 75.2]`, with `sign="+"` also before positive numbers."""
        value, low, high = (f"{number:{sign}.{digits}f}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    @property
    def side(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, 0 where it holds 0."""
        return (self.low > 0) - (self.high < 0)


def interval_of(entry: Mapping[str, Any]) -> Interval:
    """Of a table's cell."""
    return Interval(entry["mean"], entry["low"], entry["high"])


def difference(one: Interval, other: Interval) -> Interval:
    """`one - other` with its interval, from the intervals of both (Zou and Donner, 2008).

    They are taken for independent. They are of the same texts, mostly correlated: too wide rather than too narrow.
    """
    middle = one.value - other.value
    down = math.hypot(one.value - one.low, other.high - other.value)
    up = math.hypot(one.high - one.value, other.value - other.low)
    return Interval(middle, middle - down, middle + up)


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Interval:
    """`after - before` of two cells of a table."""
    return difference(interval_of(after), interval_of(before))
