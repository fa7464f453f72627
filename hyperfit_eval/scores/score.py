"""One number of a table: its value, its interval and its recipe, or why there is none."""

import math
from dataclasses import dataclass
from typing import Self

from ..documents import Value
from ..metrics.statistics import Interval


@dataclass(frozen=True)
class Score:
    """A measured number.

    Attributes:
        metric: its name in tables, such as `ttr_at_256`.
        value: NaN where it is `unavailable`.
        unit: "%", "BLEU", "tokens", ...
        signature: the recipe (`scores.signature`); scores whose recipes differ cannot be compared.
        low, high: ends of the 95% interval, both or none.
        method: how the interval was made.
        n: texts, or questions.
        highest: the largest of the texts' values, where the score is their mean.
        unavailable: why there is no value.
    """

    metric: str
    value: float
    unit: str = ""
    signature: str = ""
    low: float | None = None
    high: float | None = None
    method: str | None = None
    n: int | None = None
    highest: float | None = None
    unavailable: str | None = None

    @classmethod
    def missing(cls, metric: str, why: str) -> Self:
        """A score that cannot be had."""
        return cls(metric, math.nan, unavailable=why)

    @classmethod
    def of(cls, metric: str, interval: Interval, unit: str, signature: str = "", highest: float | None = None) -> Self:
        """A mean with its interval."""
        return cls(
            metric, interval.mean, unit, signature, interval.low, interval.high, interval.method, interval.n, highest
        )

    @property
    def available(self) -> bool:
        """Whether there is a value."""
        return self.unavailable is None

    @property
    def has_interval(self) -> bool:
        """Whether there are both ends."""
        return self.low is not None and self.high is not None

    @property
    def ends(self) -> tuple[float, float]:
        """The interval; NaN twice where there is none."""
        return (math.nan, math.nan) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def side(self) -> int:
        """1 where the whole interval is above 0, -1 where it is below, 0 where it holds 0 or is not there."""
        low, high = self.ends
        return (low > 0) - (high < 0)

    def text(self, digits: int = 1, sign: str = "") -> str:
        """`73.1 [71.0, 75.2]`, the value alone without an interval, a dash without a value.

        Args:
            digits: after the point.
            sign: "+" to have it before positive numbers, too.
        """
        if not self.available:
            return "-"
        value, low, high = (f"{number:{sign}.{digits}f}" for number in (self.value, *self.ends))
        return f"{value} [{low}, {high}]" if self.has_interval else value

    def to_json(self) -> dict[str, object]:
        """The entry of a table (docs/formats.md); `from_json` reads it back."""
        if not self.available:
            return {"unavailable": self.unavailable}
        name = "mean" if self.has_interval else "value"
        entry = {
            name: self.value, "low": self.low, "high": self.high, "n": self.n, "method": self.method,
            "max": self.highest, "unit": self.unit or None, "signature": self.signature or None,
        }  # fmt: skip
        return {name: content for name, content in entry.items() if content is not None}

    @classmethod
    def from_json(cls, metric: str, entry: Value, unit: str | None = None) -> Self:
        """Read an entry of a table.

        Args:
            unit: in place of the entry's own.
        Raises:
            HyperfitError: it is damaged.
        """
        if why := entry.get("unavailable"):
            return cls.missing(metric, str(why.content))
        value = entry.get("mean") or entry["value"]
        low, high = (entry.optional(end, Value.number) for end in ("low", "high"))
        if low is None or high is None or low > high:
            low = high = None
        return cls(
            metric,
            value.number(),
            (entry.optional("unit", Value.text) or "") if unit is None else unit,
            entry.optional("signature", Value.text) or "",
            low,
            high,
            entry.optional("method", Value.text) if low is not None else None,
            entry.optional("n", Value.integer),
            entry.optional("max", Value.number),
        )


def difference(one: Score, other: Score) -> Score:
    """`one - other` with its interval, from the intervals of both (Zou and Donner, 2008).

    They are taken for independent. They are of the same texts, mostly correlated: too wide rather than too narrow.
    """
    middle = one.value - other.value
    if not (one.has_interval and other.has_interval):
        return Score(one.metric, middle, one.unit)
    (low, high), (other_low, other_high) = one.ends, other.ends
    down = math.hypot(one.value - low, other_high - other.value)
    up = math.hypot(high - one.value, other.value - other_low)
    return Score(one.metric, middle, one.unit, low=middle - down, high=middle + up)
