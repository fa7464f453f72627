"""The demo's report: tables, Figure 2, copied spans and continuations side by side, in Markdown."""

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from .. import metrics
from ..files import write_text
from ..records import Continuation
from ..report.tables import markdown_table, plain_table, with_interval
from .run import BASE, BLOCKED, HYPERFITTED, LEARNING_RATE, Demo

EXAMPLES_OF_EACH_SOURCE = 2
COPIED_SPANS = 3
LONG_OVERLAP = 10
"""Tokens; the paper reports the share of texts with a longer overlap (Section 4.2)."""

TABLE_1 = ("ttr_at_128", "ttr_at_256", "rep_4_at_256")
TABLE_2 = ("self_bleu", "self_bleu_token", "dataset_bleu", "dataset_bleu_token", "dataset_overlap")


def write_report(demo: Demo) -> str:
    """Write report.md into the demo's folder; return the summary for the terminal."""
    loader = jinja2.PackageLoader("hyperfit_eval.demo")
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("report.md.j2")
    path = demo.folder / "report.md"
    write_text(path, template.render(**_content(demo)))
    return _summary(demo, path)


def _content(demo: Demo) -> dict[str, Any]:
    run = demo.run
    hyperfitted = demo.measured[HYPERFITTED].records
    return {
        "parameters": "5.9 million",
        "blocks": len(run.blocks.ids),
        "epochs": f"{run.last.epoch:g}",
        "learning_rate": f"{LEARNING_RATE:g}",
        "training_loss": run.training.loss,
        "contexts": len(hyperfitted),
        "seconds": demo.seconds,
        "findings": findings(demo),
        "table_1": markdown_table(*_table_1(demo)),
        "table_2": _table_2(demo),
        "table_3": _table_3(demo),
        "spans": _copied_spans(demo),
        "history": _history(demo),
        "examples": _examples(demo),
        "recipe": _recipe(demo),
        "signatures": _signatures(demo),
    }


def findings(demo: Demo) -> list[str]:
    """What the numbers say, the unwelcome included; every sentence is filled from the run's own results."""
    base, after, blocked = (demo.measured[name] for name in (BASE, HYPERFITTED, BLOCKED))
    ttr = {m.name: _mean(m, "ttr_at_256") for m in (base, after, blocked)}
    human = _original(demo, "ttr_at_256")["mean"]
    before, now = (demo.distributions[which] for which in ("base", "hyperfitted"))
    first, last = demo.run.history[0], demo.run.last
    return [
        f"**TTR at 256 tokens: {ttr[BASE]:.1f} -> {ttr[HYPERFITTED]:.1f}** under greedy decoding "
        f"({ttr[HYPERFITTED] / ttr[BASE]:.1f} times; with citation blocking {ttr[BLOCKED]:.1f}; "
        f"original texts {human:.1f}).",
        f"Entropy of the predictions: {before['entropy_bits']['mean']:.2f} -> {now['entropy_bits']['mean']:.2f} bits; "
        f"perplexity of the original texts: {before['perplexity']['mean']:.0f} -> {now['perplexity']['mean']:.0f}; "
        f"validation loss: {first.validation_loss:.2f} -> {last.validation_loss:.2f} nats.",
        f"Copying: the longest run shared with the training passages is {_overlaps(after)} of the 224 new tokens "
        f"({_long_share(after):.0f}% of the texts share more than {LONG_OVERLAP}); with citation blocking "
        f"{_overlaps(blocked)}; base model {_overlaps(base)}.",
        f"Fluency, as the base model's perplexity of the continuations: original texts "
        f"{demo.original_fluency['mean']:.0f}, hyperfitted {after.fluency['mean']:.0f}, base "
        f"{base.fluency['mean']:.0f} (loops are easy to predict).",
    ]


def _table_1(demo: Demo) -> tuple[list[str], list[list[str]]]:
    header = ["", "context perplexity", "TTR at 128", "TTR at 256", "rep-4", "fluency"]
    original = [_original(demo, name) for name in TABLE_1]
    rows = [["original texts", "-", *map(with_interval, original), with_interval(demo.original_fluency)]]
    for measured in demo.measured.values():
        which = "base" if measured.name.startswith("base") else "hyperfitted"
        perplexity = demo.distributions[which]["context_perplexity"]
        values = [_entry(measured, name) for name in TABLE_1]
        rows.append([measured.name, *map(with_interval, [perplexity, *values, measured.fluency])])
    return header, rows


def _table_2(demo: Demo) -> str:
    names = ["Self-BLEU (words)", "Self-BLEU (ids)", "Dataset BLEU (words)", "Dataset BLEU (ids)", "overlap"]
    header = ["", *(f"{name} {what}" for name in names for what in ("avg", "max"))]
    rows = []
    for name, get in [("original texts", lambda metric: _original(demo, metric))] + [
        (m.name, lambda metric, m=m: _entry(m, metric)) for m in demo.measured.values()
    ]:
        cells = [cell for metric in TABLE_2 for cell in (with_interval(get(metric)), f"{get(metric)['max']:.1f}")]
        rows.append([name, *cells])
    return markdown_table(header, rows)


def _table_3(demo: Demo) -> str:
    header = ["", "perplexity", "entropy (bits)", "@1 mass", "@3 mass", "@5 mass"]
    columns = ("perplexity", "entropy_bits", "top_1_mass", "top_3_mass", "top_5_mass")
    rows = [
        [which, *(with_interval(values[name], 2 if name == "entropy_bits" else 1) for name in columns)]
        for which, values in demo.distributions.items()
    ]
    return markdown_table(header, rows)


def _history(demo: Demo) -> str:
    header = ["epoch", "training loss", "validation loss", "validation accuracy", "entropy (bits)", "TTR"]
    rows = [
        [
            f"{row.epoch:g}",
            _number(row.train_loss, 3),
            _number(row.validation_loss, 3),
            _number(row.validation_accuracy, 1, 100),
            _number(row.entropy_bits, 2),
            _number(row.ttr, 1, 100),
        ]
        for row in demo.run.history
    ]
    return markdown_table(header, rows)


def _copied_spans(demo: Demo) -> list[dict[str, Any]]:
    records, blocks = demo.measured[HYPERFITTED].records, demo.run.blocks
    lengths, where = metrics.longest_overlap([r.generated_ids for r in records], list(blocks.ids), where=True)
    spans = []
    for i in np.argsort(-lengths)[:COPIED_SPANS]:
        row, offset = (int(value) for value in where[i])
        text = demo.tokenizer.decode(blocks.ids[row, offset : offset + lengths[i]])
        spans.append({"id": records[i].id, "length": int(lengths[i]), "row": row, "text": " ".join(text.split())})
    return spans


def _examples(demo: Demo) -> list[dict[str, str]]:
    shown = []
    by_source: dict[str, int] = {}
    for i, record in enumerate(demo.measured[BASE].records):
        by_source[record.source] = by_source.get(record.source, 0) + 1
        if by_source[record.source] > EXAMPLES_OF_EACH_SOURCE:
            continue
        rows = [["original", _flat(record.original_text)]]
        rows += [[name, _flat(m.records[i].generated_text)] for name, m in demo.measured.items()]
        shown.append({"id": record.id, "context": _flat(record.context_text), "table": _text_table(rows)})
    return shown


def _text_table(rows: list[list[str]]) -> str:
    cells = (f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows)
    return "\n".join(["| | continuation |", "|---|---|", *cells])


def _recipe(demo: Demo) -> str:
    blocks = demo.run.blocks
    return (
        f"Evaluation texts `{demo.texts_fingerprint}`, training blocks `{blocks.fingerprint}` in the order "
        f"`{blocks.order_hash}`, tokenizer `{blocks.tokenizer}`, seed {blocks.seed}; float32; greedy with exactly 224 "
        f"new tokens (EOS masked); Top-P: 0.9, temperature 0.7, top-k 50. The continuations are in "
        f"`continuations_*.jsonl`, all numbers in `results.json`, the training run in `hyperfitted/run.json`."
    )


def _signatures(demo: Demo) -> str:
    table = demo.measured[HYPERFITTED].table["generated"]["all"]
    lines = [f"- `{table[name]['signature']}`" for name in (*TABLE_1, *TABLE_2) if "signature" in table[name]]
    return "\n".join(lines)


def _summary(demo: Demo, path: Path) -> str:
    header, rows = _table_1(demo)
    lines = [plain_table(header, rows), "", *(f"- {line.replace('**', '')}" for line in findings(demo)), ""]
    return "\n".join([*lines, f"Training loss {demo.run.training.loss:.4f} nats; {demo.seconds:.0f} s; report: {path}"])


def _long_share(measured: Any) -> float:
    records: list[Continuation] = measured.records
    return 100.0 * sum(length > LONG_OVERLAP for length in measured.overlaps) / len(records)


def _overlaps(measured: Any) -> str:
    mean = sum(measured.overlaps) / len(measured.overlaps)
    return f"{mean:.1f} tokens on average and {max(measured.overlaps)} at most"


def _entry(measured: Any, name: str) -> dict[str, Any]:
    return measured.table["generated"]["all"][name]


def _original(demo: Demo, name: str) -> dict[str, Any]:
    return demo.measured[HYPERFITTED].table["original"]["all"][name]


def _mean(measured: Any, name: str) -> float:
    return _entry(measured, name)["mean"]


def _number(value: float | None, digits: int, scale: int = 1) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"


def _flat(text: str) -> str:
    return " ".join(text.split())
