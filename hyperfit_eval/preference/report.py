"""The results of a study as Markdown."""

from typing import Any

from ..report.tables import markdown_table, with_interval
from .consensus import BAD, GOOD, SPLIT
from .study import ALL, AVERAGE


def markdown(body: dict[str, Any], figures: dict[str, str]) -> str:
    """The whole of `preference.json` for readers.

    Args:
        body: from `analysis.analyse`.
        figures: files of the consensus figures, by "human" or the judge's name.
    """
    study, human = body["study"], body["human"]
    parts = [
        "# Human preference",
        f"{study['pairs']} pairs of {len(study['models'])} models, {study['annotations_per_pair']} annotations each "
        f"aimed at; side order from seed {study['seed']}. Percent of annotations in which the model's continuation was "
        "preferred to the original or judged equally good, with 95% intervals that resample contexts.",
    ]
    if human["all"] is None:
        parts.append("Nobody has annotated yet.")
    else:
        parts += _people(human, figures)
    for name, judge in body["judges"].items():
        parts += _judge(name, judge, figures)
    return "\n\n".join(parts) + "\n"


def preference_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the percentages by length (paper, Table 1)."""
    rows = [[model, *(with_interval(t["all"]) for t in lengths.values())] for model, lengths in _models(result)]
    return ["model", *(f"{length} Pref" for length in _lengths(result))], rows


def source_rows(result: dict[str, Any], length: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the percentages by source at one length (paper, Table 4)."""
    names = [name for name in next(iter(result["preference"].values()))[length] if name != ALL]
    header = [f"model, {length} tokens", *("mean of sources" if name == AVERAGE else name for name in names)]
    rows = [[model, *(with_interval(tables[length][name]) for name in names)] for model, tables in _models(result)]
    return header, rows


def _people(human: dict[str, Any], figures: dict[str, str]) -> list[str]:
    failed = [row for row in human["annotators"] if not row["attentive"]]
    percent = f"{100 * human['max_failed']:g}%"
    parts = [
        f"## People\n\n{len(human['annotators'])} annotators; {len(failed)} failed more than {percent} of their "
        "attention checks.",
        _annotators(human["annotators"]),
    ]
    if not failed:
        return parts + _tables(human["all"], figures.get("human"))
    parts.append(f"### Without those who failed ({_amount(human['attentive'])})")
    parts += _tables(human["attentive"], figures.get("human"))
    parts.append(f"### With them ({_amount(human['all'])})")
    return parts + _tables(human["all"], None)


def _judge(name: str, judge: dict[str, Any], figures: dict[str, str]) -> list[str]:
    counts, agreement = judge["counts"], judge["agreement_with_humans"]
    parts = [
        f"## Judge {name}",
        f"Not human. {counts['answers']} answers: {counts['verdict']} verdicts, {counts['unparsed']} that could not be "
        f"parsed ({counts['cut_off']} cut off at the limit of tokens), {counts['refused']} refusals. "
        f"{counts['pairs']} pairs have a verdict in both orders; on {counts['contradictory']} the two contradict each "
        f"other and count as equal. Of the verdicts that prefer a side, {_number(counts['first_position'])}% name the "
        f"first. It failed {judge['checks_failed']} of {judge['checks']} attention checks.",
    ]
    if agreement["pairs"]:
        parts.append(
            f"People judged {agreement['pairs']} of its pairs too. Agreement in percent: with their majority "
            f"{with_interval(agreement['with_majority'])}, on the {agreement['majority_pairs']} pairs that have one; "
            f"with a single annotation {with_interval(agreement['with_annotator'])}; between two people "
            f"{with_interval(agreement['between_annotators'])}."
        )
    return parts + _tables(judge, figures.get(name)) if judge["annotations"] else parts


def _tables(result: dict[str, Any], figure: str | None) -> list[str]:
    parts = [markdown_table(*preference_rows(result)), f"Signature: `{result['signature']}`."]
    parts += [markdown_table(*source_rows(result, length)) for length in _lengths(result)]
    agreement = [
        [label, with_interval(result.get(name), digits)]
        for label, name, digits in (
            ("Krippendorff's alpha, nominal", "krippendorff_alpha", 3),
            ("Fleiss' kappa, complete pairs", "fleiss_kappa", 3),
            ("first position preferred, %, 50 without a bias", "first_position", 1),
        )
        if name in result
    ]
    if agreement:
        parts.append(markdown_table(["agreement and side", "value [95%]"], agreement))
    rankings = {length: found for length, found in result["bradley_terry"].items() if "ranking" in found}
    if rankings:
        parts.append(f"Bradley-Terry ranking; ties: {next(iter(rankings.values()))['ties']}.")
        parts += [_ranking(length, ranking) for length, ranking in rankings.items()]
    tests = [_test(length, test) for length, tests in result["paired_tests"].items() for test in tests]
    if tests:
        parts.append(markdown_table(["A against B, same contexts", "length", "A - B [95%]", "p", "p (Holm)"], tests))
    groups = [
        [length, name, str(group["n"]), _mean(group), _number(group["lowest"]), _auc(consensus, name)]
        for length, consensus in result["ttr_consensus"].items()
        for name in (GOOD, SPLIT, BAD)
        if (group := consensus["groups"][name])["n"]
    ]
    if groups:
        header = ["length", "all annotators", "texts", "mean TTR [95%]", "lowest TTR", "good above bad, % [95%]"]
        table = markdown_table(header, groups)
        parts.append(table + (f"\n\n![TTR of texts in consensus]({figure})" if figure else ""))
    return parts


def _annotators(people: list[dict[str, Any]]) -> str:
    rows = [
        [
            str(row["annotator"]),
            str(row["annotations"]),
            f"{row['checks_failed']} of {row['checks']}",
            _number(row["first_position"]),
            _number(row["equal"]),
            _number(row["median_seconds"]),
        ]
        for row in people
    ]
    header = ["annotator", "annotations", "checks failed", "first preferred, %", "equal, %", "median seconds"]
    return markdown_table(header, rows)


def _ranking(length: str, ranking: dict[str, Any]) -> str:
    rows = [
        [
            item["name"],
            f"{item['rank']} [{item['rank_low']}, {item['rank_high']}]",
            f"{item['strength']:+.2f} [{item['low']:+.2f}, {item['high']:+.2f}]",
        ]
        for item in ranking["ranking"]
    ]
    name = "all lengths" if length == "all" else f"{length} tokens"
    return markdown_table([name, "rank [95%]", "strength [95%]"], rows)


def _test(length: str, test: dict[str, Any]) -> list[str]:
    names = f"{test['a']} / {test['b']}"
    if "unavailable" in test:
        return [names, length, "-", "-", "-"]
    gap = f"{test['difference']:+.1f} [{test['low']:+.1f}, {test['high']:+.1f}]"
    return [names, length, gap, f"{test['p_value']:.4f}", f"{test['p_holm']:.4f}"]


def _models(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(result["preference"].items())


def _lengths(result: dict[str, Any]) -> list[str]:
    return list(next(iter(result["preference"].values())))


def _amount(result: dict[str, Any]) -> str:
    return f"{result['annotations']} annotations by {result['annotators']}"


def _mean(group: dict[str, Any]) -> str:
    return with_interval(group) if group["low"] is not None else _number(group["mean"])


def _auc(consensus: dict[str, Any], name: str) -> str:
    return _mean(consensus["auc"]) if name == GOOD and consensus["auc"] else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
