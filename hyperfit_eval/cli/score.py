"""`hyperfit score` and `hyperfit compare`: metrics of continuation records, with intervals."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import HyperfitError

Corpus = Annotated[
    Path | None, typer.Option("--corpus", help="Training blocks, for Dataset BLEU, overlap and novelty.")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write everything, by source and with signatures, here.")]


def score(
    records: Annotated[Path, typer.Argument(help="A continuations file, or samples_*.jsonl of lm-eval.")],
    corpus: Corpus = None,
    json: Json = None,
) -> None:
    """Score the continuations in a file, and the original ones beside them.

    Example: `hyperfit score runs/demo/continuations_base_greedy.jsonl --corpus
    runs/demo/hyperfitted/training_blocks.jsonl --json scores.json`
    """
    from ..publish.result_files import recorded_model
    from ..records import read_continuations
    from ..report.tables import plain_table, with_interval
    from ..scores import score_records
    from ..scores.training_set import read_training_set

    generation, continuations = read_continuations(records)
    training = read_training_set(corpus) if corpus else None
    with _Progress() as report:
        tables = score_records(generation, continuations, training=training, report=report)
    generated, original = (tables[side]["all"] for side in ("generated", "original"))
    rows = [
        [name, with_interval(generated[name], 2), _highest(generated[name]), with_interval(original.get(name), 2)]
        for name in generated
        if "values" not in generated[name]
    ]
    print(plain_table([f"{tables['contexts']} contexts", "mean [95%]", "max", "original texts"], rows))
    # Of which model, wherever this file goes: nobody follows the path of the records.
    model = recorded_model(generation.model, records.resolve().parent)
    _write(json, "scores", {"records": str(records), "model": model, "called": generation.model, **tables})


def compare(
    run_a: Annotated[Path, typer.Argument(help="A continuations file.")],
    run_b: Annotated[Path, typer.Argument(help="Another, on the same contexts.")],
    corpus: Corpus = None,
    json: Json = None,
) -> None:
    """Compare two models on the same contexts: paired differences, A minus B, with tests.

    Example: `hyperfit compare runs/demo/continuations_hyperfitted_greedy.jsonl
    runs/demo/continuations_base_greedy.jsonl`
    """
    from ..records import read_continuations
    from ..report.tables import plain_table
    from ..scores import compare_records
    from ..scores.training_set import read_training_set

    runs = read_continuations(run_a), read_continuations(run_b)
    training = read_training_set(corpus) if corpus else None
    with _Progress() as report:
        tables = compare_records(*runs, training=training, report=report)
    rows = []
    for name, entry in tables["all"].items():
        if "unavailable" in entry:
            rows.append([name, "-", "-", entry["unavailable"], "", ""])
            continue
        interval = f" [{entry['low']:+.2f}, {entry['high']:+.2f}]" if "low" in entry else ""
        gap = f"{entry['difference']:+.2f}{interval}"
        p_values = [f"{entry[key]:.4f}" if key in entry else "-" for key in ("p_value", "p_holm")]
        rows.append([name, f"{entry['a']:.2f}", f"{entry['b']:.2f}", gap, *p_values])
    print(plain_table([f"{tables['contexts']} contexts", "A", "B", "A - B [95%]", "p", "p (Holm)"], rows))
    _write(json, "comparison", {"run_a": str(run_a), "run_b": str(run_b), **tables})


class _Progress:
    """A bar for whatever takes longer than a second; `with` gives the function to report to."""

    def __enter__(self) -> Callable[[str, int, int], None]:
        from ..terminal import bar

        self.bar = bar(None, "Scoring", "step", unit_scale=True)
        return self._report

    def _report(self, what: str, done: int, total: int) -> None:
        self.bar.set_description(what, refresh=False)
        self.bar.total, self.bar.n = total, done
        self.bar.update(0)

    def __exit__(self, *_: Any) -> None:
        self.bar.close()


def _highest(entry: dict[str, Any]) -> str:
    return f"{entry['max']:.1f}" if "max" in entry else "-"


def _write(path: Path | None, kind: str, body: dict[str, Any]) -> None:
    from ..files import write_json

    if path is None:
        return
    if path.is_dir():
        raise HyperfitError(f"{path}: a folder; give a file, such as {path / 'scores.json'}")
    write_json(path, kind, 1, body)
    print(f"written to {path}")
