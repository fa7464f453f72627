"""Table 4: the corpus that a model is hyperfitted on, and how it does on each kind of text (paper, Section 6.2)."""

import re
from dataclasses import replace
from pathlib import Path

from ...errors import HyperfitError
from ...generation import Decoding
from ...scores.score import Score
from ...training.recipe_files import PAPER, read_recipe
from ..cells import metrics_step, read_metrics
from ..judgements import as_inputs, check_continuations, judged_columns
from ..models import Model, continuation_step, hyperfitted
from ..plan import Plan
from ..section import Row, Section, Table
from ..setting import StudySetting
from ..steps import Skipped, Step, StepContext

MEASURES = {"preference": "preferred", "ttr_at_256": "TTR at 256", "dataset_overlap": "overlap"}

OF_A_CORPUS = ("corpus_config", "corpus_split", "corpus_file", "text_column")


def table4(plan: Plan, preference: Path | None = None) -> Step:
    """Continuations by models that were hyperfitted on different corpora, source by source.

    Args:
        preference: results of `hyperfit preference`, for the paper's own columns.
    """
    setting = plan.setting
    models = {name: _on(plan, name, corpus) for name, corpus in setting.corpora.items()}
    written = {name: continuation_step(model, f"corpus-{name}", Decoding()) for name, model in models.items()}
    steps = {"base": plan.metrics["base"], "hyperfitted": plan.metrics["hyperfitted"]}
    steps |= {name: metrics_step(written[name], model) for name, model in models.items()}
    judged_steps = {name: plan.continuations[name] for name in ("base", "hyperfitted")}
    judged_steps |= {f"corpus-{name}": step for name, step in written.items()}
    own = own_name(setting)
    groups = {"base": "base", "hyperfitted": f"hyperfitted on {own}"}
    groups |= {name: f"hyperfitted on {name}" for name in models}
    judged = judged_columns(preference, list(judged_steps)) if preference else {}

    def make(context: StepContext) -> None:
        if not models:
            raise Skipped("the setting names one corpus")
        check_continuations(context, preference, judged_steps)
        tables = {name: read_metrics(context, step).generated for name, step in steps.items()}
        sources = [source for source in tables["base"] if source != "all"]
        rows = []
        for name, table in tables.items():
            cells: dict[str, Score] = dict(judged.get(f"corpus-{name}" if name in models else name, {}))
            for measure in ("ttr_at_256", "dataset_overlap"):
                cells |= {
                    f"{measure}_{source}": table[source][measure] for source in sources if measure in table[source]
                }
            rows.append(Row(groups[name], cells, groups[name]))
        columns = {
            f"{measure}_{source}": f"{title}, {source}"
            for measure, title in MEASURES.items()
            for source in [*sources, *(["average"] if measure == "preference" else [])]
            if any(f"{measure}_{source}" in row.cells for row in rows)
        }
        ttr = {row.label: [row.cells[f"ttr_at_256_{source}"].value for source in sources] for row in rows}
        best = max(list(ttr)[1:], key=lambda label: sum(ttr[label]))
        Section(
            "table4",
            "The hyperfitting corpus",
            "Section 6.2, Table 4",
            [
                f"Of the hyperfitted models the most varied over all sources is the one {best} (TTR at 256 "
                f"{', '.join(f'{value:.1f} on {source}' for value, source in zip(ttr[best], sources, strict=True))}). "
                "The paper compares human preference, which "
                + ("stands in the first columns." if judged else "nobody was asked for.")
            ],
            [Table(columns, rows, "Overlap is with the model's own training set.", "table4")],
        ).write(context.folder)

    inputs = {"corpora": dict(setting.corpora), "preference": as_inputs(judged)}
    needs = (*steps.values(), *(judged_steps.values() if preference and models else ()))
    return Step("table4", make, inputs, needs)


def own_name(setting: StudySetting) -> str:
    """The name of the main corpus in its rows."""
    fiction = setting.corpus == read_recipe(PAPER).settings["corpus"].value
    return "fiction" if fiction else setting.corpus_name.removesuffix(Path(setting.corpus).suffix)


def check_corpora(setting: StudySetting) -> None:
    """Refuse names of other corpora that would hide a row or leave the study's folder.

    Raises:
        HyperfitError: such a name.
    """
    for name in setting.corpora:
        if name in ("base", "hyperfitted", own_name(setting)):
            raise HyperfitError(f"--corpora {name}=...: that is a row of its own in Table 4; give it another name")
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise HyperfitError(f"--corpora {name}=...: expected a name of letters, digits, '.', '_' and '-'")


def _on(plan: Plan, name: str, corpus: str) -> Model:
    """A model hyperfitted on another corpus: by that corpus's recipe, or on a file or Hub id."""
    seed = plan.setting.seeds[0]
    # How the main corpus is read says nothing about the others.
    training = {key: value for key, value in plan.setting.training.items() if key not in OF_A_CORPUS}
    setting = replace(plan.setting, training=training)
    if corpus.startswith("recipe:"):
        settings = read_recipe(corpus.removeprefix("recipe:")).settings
        arguments = {key: settings[key].value for key in settings if key.startswith("corpus") or key == "text_column"}
        return _skipping(hyperfitted(setting, f"on-{name}", seed=seed, **arguments), corpus)
    return hyperfitted(setting, f"on-{name}", seed=seed, corpus=corpus)


def _skipping(model: Model, corpus: str) -> Model:
    """The same model, but a corpus of the defaults that cannot be used is no failure; Table 4 is left out."""
    assert model.trained is not None
    make = model.trained.make

    def attempt(context: StepContext) -> None:
        try:
            make(context)
        except HyperfitError as error:
            raise Skipped(f"{corpus} cannot be used: {error}") from error

    return replace(model, trained=replace(model.trained, make=attempt))
