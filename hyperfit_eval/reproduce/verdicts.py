"""What agrees with the paper and what does not: one rule for each of its claims, applied to the measured intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..scores.score import Score, difference
from .section import Section

AGREES, DISAGREES, UNCLEAR = "agrees", "disagrees", "cannot be told"

FREE_POINTS = 2.0
"""Points of TTR: blocking that costs less counts as costing none; in the paper it costs at most 0.1."""
LARGEST_AVERAGE_OVERLAP = 5.8
LARGEST_SHARE = 2.0
DIFFERING_ORDERS = (20.0, 40.0)
"""Percent: what counts as "approximately 30%"."""
TOO_FEW_SAMPLES = 8
"""With them the paper's model is drastically worse, too (Section 6.3)."""
LARGEST_MMLU_DROP = 7.0
"""Points; the paper's largest is 6.8."""
MMLU_GUESSING = 25.0
GLUE_POINTS = 5.0
"""Mean change over the tasks, points, that counts as little; in the paper 1.3 and 4.1 with examples."""
GLUE_GUESSING = {"cola_mcc": 0.0, "mnli_acc": 1 / 3, "qnli_acc": 0.5, "rte_acc": 0.5, "sst2_acc": 0.5}


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper beside what was measured here."""

    claim: str
    where: str
    """Table or figure of the paper."""
    section: str
    """The report's section with the numbers."""
    verdict: str
    because: str


class NotMeasured(Exception):
    """A rule needs a number that the study does not have."""


@dataclass(frozen=True)
class Measurements:
    """The sections of a study, for the rules to read."""

    sections: Mapping[str, Section]
    skipped: Mapping[str, str]

    def rows(self, section: str) -> list[tuple[str, str, dict[str, Score]]]:
        """Label, group and cells of all rows of a section's tables."""
        if section not in self.sections:
            raise NotMeasured(self.skipped.get(section, f"{section} was not run"))
        return [(row.label, row.group, row.cells) for table in self.sections[section].tables for row in table.rows]

    def cell(self, section: str, group: str, column: str) -> Score:
        """The score of the first row of a group that has it with an interval."""
        column_name, alone = column.replace("_", " "), False
        for _, of, cells in self.rows(section):
            if of == group and column in cells:
                if cells[column].has_interval:
                    return cells[column]
                alone |= cells[column].available
        raise NotMeasured(f"{section} has {'no interval of' if alone else 'no'} {column_name} of {group}")


Outcome = tuple[str, str]
Rule = Callable[[Measurements], Outcome]


def verdicts(sections: Sequence[Section], skipped: Mapping[str, str]) -> list[Verdict]:
    """Every claim with its verdict; what was not measured cannot be told.

    Args:
        sections: of the report.
        skipped: why experiments are not in it, by name.
    """
    measured, found = Measurements({section.name: section for section in sections}, skipped), []
    for claim, where, section, rule in CLAIMS:
        try:
            verdict, because = rule(measured)
        except NotMeasured as reason:
            verdict, because = UNCLEAR, f"Not measured: {reason}."
        found.append(Verdict(claim, where, section, verdict, because))
    return found


def _moves(section: str, column: str, up: bool, groups: tuple[str, str] = ("base", "hyperfitted")) -> Rule:
    """A number is higher (or lower) in the second group than in the first."""

    def rule(measured: Measurements) -> Outcome:
        first, second = (measured.cell(section, group, column) for group in groups)
        digits = 2 if max(first.value, second.value) < 10 else 1
        return _sign(difference(second, first), up), f"{first.text(digits)} -> {second.text(digits)}."

    return rule


def _sign(found: Score, up: bool) -> str:
    if found.side == 0:
        return UNCLEAR
    return AGREES if (found.side > 0) == up else DISAGREES


def _preferred(measured: Measurements) -> Outcome:
    try:
        return _moves("table1", "preference_at_256", up=True)(measured)
    except NotMeasured as reason:
        if "table1" not in measured.sections:
            raise
        raise NotMeasured("nobody was asked (`hyperfit pairs` and `annotate` do that)") from reason


def _mass(measured: Measurements) -> Outcome:
    verdicts_, parts = [], []
    for k in (1, 3, 5):
        before, after = (measured.cell("table3", model, f"top_{k}_mass") for model in ("base", "hyperfitted"))
        verdicts_.append(_sign(difference(after, before), up=True))
        parts.append(f"top {k}: {before.value:.1f} -> {after.value:.1f}%")
    return _all(verdicts_), f"{', '.join(parts)}."


def _all(found: Sequence[str]) -> str:
    """All parts of a claim must hold; one that does not is enough against it."""
    if DISAGREES in found:
        return DISAGREES
    return UNCLEAR if UNCLEAR in found else AGREES


def _at_most(found: Score, bound: float) -> str:
    low, high = found.ends
    return AGREES if high <= bound else DISAGREES if low > bound else UNCLEAR


def _blocking(measured: Measurements) -> Outcome:
    free, blocked = (measured.cell("table1", group, "ttr_at_256") for group in ("hyperfitted", "blocked"))
    cost = difference(free, blocked)
    return _at_most(cost, FREE_POINTS), f"It costs {cost.text()} points; up to {FREE_POINTS:g} count as none."


def _overlap(measured: Measurements) -> Outcome:
    found = measured.cell("table2", "hyperfitted", "dataset_overlap_avg")
    return _at_most(found, LARGEST_AVERAGE_OVERLAP), f"{found.text()} tokens."


def _long_overlaps(measured: Measurements) -> Outcome:
    share = measured.cell("figure3", "hyperfitted", "share_above_10_tokens")
    short = measured.cell("figure3", "hyperfitted", "share_above_10_tokens_at_128")
    found = _at_most(short, LARGEST_SHARE), _at_most(share, LARGEST_SHARE)
    # The paper does not say whether of 96 or of 224 tokens.
    verdict = found[0] if found[0] == found[1] else UNCLEAR
    return verdict, f"{short.text()}% within 96 tokens, {share.text()}% within 224, of {share.n} texts."


def _slower_fall(measured: Measurements) -> Outcome:
    changes = {
        model: difference(*(measured.cell("table1", model, f"ttr_at_{length}") for length in (256, 128)))
        for model in ("base", "hyperfitted")
    }
    before, after = (found.text(sign="+") for found in changes.values())
    because = f"From 128 to 256 tokens it changes by {before} points before and {after} after."
    return _sign(difference(changes["hyperfitted"], changes["base"]), up=True), because


def _orders(measured: Measurements) -> Outcome:
    rows = [(label, cells) for label, _, cells in measured.rows("figure5_left")]
    pairs = {
        frozenset((label, name)): entry
        for label, cells in rows
        for name, entry in ((column.removeprefix("agreement_"), entry) for column, entry in cells.items())
        if name != label and entry.has_interval
    }
    low, high = DIFFERING_ORDERS
    found = []
    for same in pairs.values():
        fewest, most = (100 - end for end in reversed(same.ends))
        inside, outside = low <= fewest and most <= high, most < low or fewest > high
        found.append(AGREES if inside else DISAGREES if outside else UNCLEAR)
    if not found:
        raise NotMeasured("figure5_left has no such number")
    differing = sorted(100 - same.value for same in pairs.values())
    return _all(found), f"{differing[0]:.1f} to {differing[-1]:.1f}%; {low:g} to {high:g}% count as about 30%."


def _fewer_samples(measured: Measurements) -> Outcome:
    rows = measured.rows("figure5_right")
    by_number = {int(label.split()[0]): cells["ttr_at_128"] for label, of, cells in rows if of == "hyperfitted"}
    base = measured.cell("figure5_right", "base", "ttr_at_128")
    fewer = [number for number in sorted(by_number)[:-1] if number > TOO_FEW_SAMPLES]
    if not fewer:
        raise NotMeasured(f"no number of samples between {TOO_FEW_SAMPLES} and the largest")
    found = [_sign(difference(by_number[number], base), up=True) for number in fewer]
    texts = [f"{by_number[number].value:.1f} with {number}" for number in fewer]
    return _all(found), f"{', '.join(texts)}; base model {base.value:.1f}."


def _mmlu(measured: Measurements) -> Outcome:
    before, after = (measured.cell("table7", model, "mmlu_5_shot") for model in ("base", "hyperfitted"))
    if before.ends[0] <= MMLU_GUESSING:
        return UNCLEAR, f"The base model guesses: {before.text()}%, and {after.text()}% after hyperfitting."
    drop = difference(before, after)
    because = f"It drops by {drop.text()} points with 5 examples; up to {LARGEST_MMLU_DROP:g} count as a few."
    return _at_most(drop, LARGEST_MMLU_DROP), because


def _glue(measured: Measurements) -> Outcome:
    by_group = {group: cells for _, group, cells in reversed(measured.rows("table8"))}
    before, after = (by_group.get(f"{model} FS", {}) for model in ("base", "hyperfitted"))
    columns = [name for name in before.keys() & after.keys() if before[name].has_interval and after[name].has_interval]
    if not columns:
        raise NotMeasured("table8 has no few-shot numbers")
    if not any(before[name].ends[0] > level for name, level in GLUE_GUESSING.items() if name in columns):
        return UNCLEAR, "The base model guesses: none of its accuracies is surely above chance."
    mean = _task_mean({name: difference(after[name], before[name]) for name in columns})
    low, high = mean.ends
    inside, outside = max(-low, high) <= GLUE_POINTS, max(-high, low) > GLUE_POINTS
    verdict = AGREES if inside else DISAGREES if outside else UNCLEAR
    because = f"{mean.text(sign='+')} points on average over the tasks, with examples; up to {GLUE_POINTS:g} count as"
    return verdict, f"{because} little."


def _task_mean(changes: Mapping[str, Score]) -> Score:
    """Mean over GLUE's tasks, points.

    The two metrics of one task are of the same questions and are averaged as if they were one number; the tasks are
    independent.
    """
    tasks: dict[str, list[Score]] = {}
    for name, found in changes.items():
        tasks.setdefault(name.partition("_")[0], []).append(found)
    middles = [sum(one.value for one in found) / len(found) for found in tasks.values()]
    halves = [sum(one.ends[1] - one.ends[0] for one in found) / (2 * len(found)) for found in tasks.values()]
    middle, half = 100 * sum(middles) / len(tasks), 100 * math.hypot(*halves) / len(tasks)
    return Score("glue", middle, "points", low=middle - half, high=middle + half)


CLAIMS: tuple[tuple[str, str, str, Rule], ...] = (
    ("Greedy text repeats itself less: TTR rises", "Table 1", "table1", _moves("table1", "ttr_at_256", up=True)),
    (
        "Greedy text of the hyperfitted model is more varied than Top-P samples of the base model",
        "Table 1", "table1", _moves("table1", "ttr_at_256", up=True, groups=("top_p", "hyperfitted")),
    ),
    ("TTR falls more slowly with the length of the text", "Figure 9, right", "table1", _slower_fall),
    ("People prefer it", "Table 1", "table1", _preferred),
    ("Citation blocking costs no TTR", "Table 1", "table1", _blocking),
    ("Continuations are less alike: Self-BLEU falls", "Table 2", "table2", _moves("table2", "self_bleu_avg", up=False)),
    ("It copies little: the longest run is 5.8 tokens or less on average", "Table 2", "table2", _overlap),
    ("Fewer than 2% of the texts copy more than 10 tokens in a row", "Figure 3", "figure3", _long_overlaps),
    ("Perplexity of the original texts rises", "Table 3", "table3", _moves("table3", "perplexity", up=True)),
    ("Entropy of the predictions falls", "Table 3", "table3", _moves("table3", "entropy_bits", up=False)),
    ("The most probable tokens get more mass", "Table 3", "table3", _mass),
    (
        "The same samples in another order give another most probable token at about 30% of the places",
        "Figure 5, left", "figure5_left", _orders,
    ),
    ("With fewer samples, down to 16, TTR still rises", "Figure 5, right", "figure5_right", _fewer_samples),
    (
        "From contexts of fiction more texts share over 5 tokens in a row with the training set",
        "Table 5", "table5", _moves("table5", "overlap_rate_fiction", up=True),
    ),
    (
        "An instruct model repeats itself less, too",
        "Table 6", "table6", _moves("table6", "ttr_at_256", up=True, groups=("instruct", "instruct-hyperfitted")),
    ),
    ("MMLU drops by a few points at most", "Table 7", "table7", _mmlu),
    ("GLUE changes little", "Table 8", "table8", _glue),
    (
        "Images completed greedily repeat themselves less",
        "Figures 6 and 11", "pictures", _moves("pictures", "repeated", up=False),
    ),
)  # fmt: skip
"""Claim, where the paper makes it, the section that measures it, and the rule; in the order of the paper."""
