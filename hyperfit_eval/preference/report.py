"""The results of a study as Markdown."""

from collections.abc import Mapping, Sequence

from ..report.tables import markdown_table
from .annotators import AnnotatorRow
from .consensus import BAD, GOOD, SPLIT, Consensus
from .ranking import TIES, Ranking
from .results import Estimates, HumanResults, JudgeResults, PairedTest, PreferenceResults
from .study import ALL, AVERAGE


def markdown(results: PreferenceResults, figures: Mapping[str, str]) -> str:
    """The whole of `preference.json` for readers.

    Args:
        results: from `analysis.analyze`.
        figures: files of the consensus figures, by "human" or the judge's name.
    """
    study, human = results.study, results.human
    parts = [
        "# Human preference",
        f"{study.count(checks=False)} pairs of {len(study.models)} models, {study.annotations} annotations each "
        f"aimed at; side order from seed {study.seed}. Percent of annotations in which the model's continuation was "
        "preferred to the original or judged equally good, with 95% intervals that resample contexts.",
    ]
    parts += _people(human, figures)
    for name, judge in results.judges.items():
        parts += _judge(name, judge, figures)
    return "\n\n".join(parts) + "\n"


def preference_rows(estimates: Estimates) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the percentages by length (paper, Table 1)."""
    rows = [
        [model, *(table[ALL].text() for table in by_length.values())]
        for model, by_length in estimates.preference.items()
    ]
    return ["model", *(f"{length} Pref" for length in estimates.lengths)], rows


def source_rows(estimates: Estimates, length: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the percentages by source at one length (paper, Table 4)."""
    tables = {model: by_length[length] for model, by_length in estimates.preference.items()}
    names = [name for name in next(iter(tables.values())) if name != ALL]
    header = [f"model, {length} tokens", *("mean of sources" if name == AVERAGE else name for name in names)]
    return header, [[model, *(table[name].text() for name in names)] for model, table in tables.items()]


def _people(human: HumanResults, figures: Mapping[str, str]) -> list[str]:
    if human.all is None or human.attentive is None:
        return ["Nobody has annotated yet."]
    failed = [row for row in human.annotators if not row.attentive]
    parts = [
        f"## People\n\n{len(human.annotators)} annotators; {len(failed)} failed more than "
        f"{100 * human.max_failed:g}% of their attention checks.",
        _annotators(human.annotators),
    ]
    if not failed:
        return parts + _tables(human.all, figures.get("human"))
    parts.append(f"### Without those who failed ({_amount(human.attentive)})")
    parts += _tables(human.attentive, figures.get("human"))
    parts.append(f"### With them ({_amount(human.all)})")
    return parts + _tables(human.all, None)


def _judge(name: str, judge: JudgeResults, figures: Mapping[str, str]) -> list[str]:
    counts, agreement = judge.counts, judge.agreement_with_humans
    parts = [
        f"## Judge {name}",
        f"Not human. {counts.answers} answers: {counts.verdict} verdicts, {counts.unparsed} that could not be "
        f"parsed ({counts.cut_off} cut off at the limit of tokens), {counts.refused} refusals. "
        f"{counts.pairs} pairs have a verdict in both orders; on {counts.contradictory} the two contradict each "
        f"other and count as equal. Of the verdicts that prefer a side, {_number(counts.first_position)}% name the "
        f"first. It failed {judge.checks_failed} of {judge.checks} attention checks.",
    ]
    if agreement.pairs:
        parts.append(
            f"People judged {agreement.pairs} of its pairs too. Agreement in percent: with their majority "
            f"{agreement.with_majority.text()}, on the {agreement.majority_pairs} pairs that have one; "
            f"with a single annotation {agreement.with_annotator.text()}; between two people "
            f"{agreement.between_annotators.text()}."
        )
    return parts + _tables(judge.estimates, figures.get(name)) if judge.estimates.annotations else parts


def _tables(estimates: Estimates, figure: str | None) -> list[str]:
    parts = [markdown_table(*preference_rows(estimates)), f"Signature: `{estimates.signature}`."]
    parts += [markdown_table(*source_rows(estimates, length)) for length in estimates.lengths]
    agreement = [
        [label, estimates.agreement[name].text(digits)]
        for label, name, digits in (
            ("Krippendorff's alpha, nominal", "krippendorff_alpha", 3),
            ("Fleiss' kappa, complete pairs", "fleiss_kappa", 3),
            ("first position preferred, %, 50 without a bias", "first_position", 1),
        )
        if name in estimates.agreement
    ]
    if agreement:
        parts.append(markdown_table(["agreement and side", "value [95%]"], agreement))
    rankings = {length: ranking for length, ranking in estimates.bradley_terry.items() if ranking.rows}
    if rankings:
        parts.append(f"Bradley-Terry ranking; ties: {TIES}.")
        parts += [_ranking(length, ranking) for length, ranking in rankings.items()]
    tests = [_test(length, test) for length, tests in estimates.paired_tests.items() for test in tests]
    if tests:
        parts.append(markdown_table(["A against B, same contexts", "length", "A - B [95%]", "p", "p (Holm)"], tests))
    groups = [
        [length, name, str(group.n), group.score.text(), _number(group.lowest), _auc(consensus, name)]
        for length, consensus in estimates.ttr_consensus.items()
        for name in (GOOD, SPLIT, BAD)
        if (group := consensus.groups[name]).n
    ]
    if groups:
        header = ["length", "all annotators", "texts", "mean TTR [95%]", "lowest TTR", "good above bad, % [95%]"]
        table = markdown_table(header, groups)
        parts.append(table + (f"\n\n![TTR of texts in consensus]({figure})" if figure else ""))
    return parts


def _annotators(annotators: Sequence[AnnotatorRow]) -> str:
    rows = [
        [
            str(row.annotator),
            str(row.annotations),
            f"{row.checks_failed} of {row.checks}",
            _number(row.first_position),
            _number(row.equal),
            _number(row.median_seconds),
        ]
        for row in annotators
    ]
    header = ["annotator", "annotations", "checks failed", "first preferred, %", "equal, %", "median seconds"]
    return markdown_table(header, rows)


def _ranking(length: str, ranking: Ranking) -> str:
    rows = [
        [
            row.name,
            f"{row.rank} [{row.rank_low}, {row.rank_high}]",
            f"{row.strength:+.2f} [{row.low:+.2f}, {row.high:+.2f}]",
        ]
        for row in ranking.rows
    ]
    name = "all lengths" if length == "all" else f"{length} tokens"
    return markdown_table([name, "rank [95%]", "strength [95%]"], rows)


def _test(length: str, test: PairedTest) -> list[str]:
    names, result = f"{test.a} / {test.b}", test.result
    if result is None:
        return [names, length, "-", "-", "-"]
    difference = f"{result.difference:+.1f} [{result.low:+.1f}, {result.high:+.1f}]"
    return [names, length, difference, f"{result.p_value:.4f}", f"{test.p_holm:.4f}"]


def _amount(estimates: Estimates) -> str:
    return f"{estimates.annotations} annotations by {estimates.annotators}"


def _auc(consensus: Consensus, name: str) -> str:
    return consensus.auc.score.text() if name == GOOD and consensus.auc else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
