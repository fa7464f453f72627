"""Whether the numbers of a model card hold: each measured again and compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..checkpoints import CheckpointError
from ..documents import Value
from ..errors import HyperfitError
from ..scores.score import Score
from . import card
from .results import FILE, Evaluation, read_published
from .staging import CARD

EQUAL, WITHIN, DIFFERS, UNCHECKED = "equal", "within the interval", "DIFFERS", "not checked"
ORIGINALS = "original texts"
_ROUNDING = 0.51 * 10.0**-card.DIGITS


@dataclass(frozen=True)
class Checked:
    """One number of a card, and the same measured now."""

    evaluation: str
    metric: str
    card: float | None
    low: float | None
    high: float | None
    again: float | None
    verdict: str
    why: str = ""


def verify(
    source: str,
    *,
    revision: str | None = None,
    titles: Sequence[str] = (),
    device: str | None = None,
    batch_size: int = 32,
    say: Callable[[str], None] = print,
) -> list[Checked]:
    """Download a published model if need be, repeat its evaluations, and compare every number of its card.

    A number holds if it is equal to the precision of the card, or if the new value lies in the card's
    interval; where the card has none, if the card's value lies in the interval of the new one. A number
    that the card's parts disagree on does not hold.

    Args:
        source: a folder that `hyperfit push` wrote, or a repository on the Hub.
        titles: of the evaluations to repeat; all by default.
        say: prints a line.
    Raises:
        HyperfitError: no such model, one without the files of `hyperfit push`, or a file of it that is damaged.
    """
    from .rerun import Rerun

    folder = _folder(source, revision)
    if not (folder / FILE).exists():
        raise HyperfitError(f"{source}: no {FILE}; only what `hyperfit push` published with results can be verified")
    evaluations = read_published(folder / FILE)
    unknown = [title for title in titles if title not in {evaluation.title for evaluation in evaluations}]
    if unknown:
        known = ", ".join(evaluation.title for evaluation in evaluations)
        raise HyperfitError(f"{source}: no evaluation '{unknown[0]}'; it has {known}")
    stated, checked = _stated(folder / CARD, evaluations)
    rerun = Rerun(folder, device, batch_size)
    originals_seen = False
    for evaluation in evaluations:
        if titles and evaluation.title not in titles:
            checked += [_unchecked(evaluation, number, "not asked for") for number in evaluation.numbers]
            continue
        say(f"Repeating {evaluation.title} ({evaluation.count} texts or questions)")
        try:
            again = rerun.repeat(evaluation)
        except CheckpointError:
            raise
        except (HyperfitError, OSError) as error:
            why = str(error).strip().splitlines()[0]
            checked += [_unchecked(evaluation, number, why) for number in evaluation.numbers]
            continue
        for number in evaluation.numbers:
            shown = stated.get((evaluation.title, card.metric_name(number.metric)))
            checked.append(_compared(evaluation.title, number, shown, again.get(number.metric)))
        if evaluation.originals and not originals_seen:
            now = {number.metric: number for number in again.originals}
            for number in evaluation.originals:
                checked.append(_compared(ORIGINALS, number, number.value, now.get(number.metric)))
            originals_seen = True
    return checked


def holds(checked: Sequence[Checked]) -> bool:
    """Whether no number differs, and at least one was checked."""
    return status(checked) == 0


def status(checked: Sequence[Checked]) -> int:
    """Exit status: 0 where the card holds, 1 where a number differs, 3 where none could be checked.

    2 is that of errors, a damaged folder among them.
    """
    verdicts = {row.verdict for row in checked}
    if DIFFERS in verdicts:
        return 1
    return 0 if verdicts & {EQUAL, WITHIN} else 3


def as_json(source: str, checked: Sequence[Checked]) -> dict[str, object]:
    """The same, ready for JSON."""
    return {"source": source, "holds": holds(checked), "numbers": [asdict(row) for row in checked]}


def _folder(source: str, revision: str | None) -> Path:
    if Path(source).is_dir():
        if revision:
            raise HyperfitError(f"--revision {revision}: {source} is a folder; leave it out")
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision))
    except HFValidationError as error:
        raise HyperfitError(f"{source}: neither a folder nor a Hub repository id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HyperfitError(
            f"{source}: cannot be downloaded ({str(error).strip().splitlines()[0].rstrip('.')}); give a folder or the "
            "id of a repository that you may read"
        ) from error


def _stated(path: Path, evaluations: list[Evaluation]) -> tuple[dict[tuple[str, str], float], list[Checked]]:
    """The numbers in the card's metadata, and the places where the card contradicts results.json."""
    if not path.exists():
        raise HyperfitError(f"{path}: no model card")
    loaded = card.load(path)
    stated = {}
    for entry in loaded.data.eval_results or []:
        stated_value = Value(entry.metric_value, path.name, "model-index")
        name = entry.metric_name or card.metric_name(str(entry.metric_type))
        stated[str(entry.dataset_config), str(name)] = stated_value.number()
    measured = {(e.title, card.metric_name(n.metric)): n.value for e in evaluations for n in e.numbers}
    wrong = []
    for (title, metric), value in stated.items():
        if (title, metric) not in measured:
            why = f"{FILE} does not say how it was made"
            wrong.append(Checked(title, metric, value, None, None, None, DIFFERS, why))
    for name, text in card.sections(evaluations).items():
        if text and text not in loaded.text:
            why = f"the card's part on {name} is not what {FILE} gives"
            wrong.append(Checked("the card's text", name, None, None, None, None, DIFFERS, why))
    return stated, wrong


def _compared(title: str, number: Score, stated: float | None, again: Score | None) -> Checked:
    def row(verdict: str, why: str = "") -> Checked:
        shown = number.value if stated is None else stated
        now = None if again is None else again.value
        return Checked(title, number.metric, shown, number.low, number.high, now, verdict, why)

    if stated is None:
        return row(DIFFERS, "the card's metadata lacks it")
    if not math.isclose(stated, number.value, rel_tol=0, abs_tol=_ROUNDING):
        return row(DIFFERS, f"{FILE} says {number.value:.{card.DIGITS}f}")
    if again is None:
        return row(UNCHECKED, "could not be measured again, without what was not published")
    if math.isclose(stated, again.value, rel_tol=1e-6, abs_tol=_ROUNDING):
        return row(EQUAL)
    low, high, value = number.low, number.high, again.value
    if low is None or high is None:
        low, high, value = again.low, again.high, stated
    if low is None or high is None:
        return row(DIFFERS, "it has no interval")
    return row(WITHIN if low <= value <= high else DIFFERS)


def _unchecked(evaluation: Evaluation, number: Score, why: str) -> Checked:
    return Checked(evaluation.title, number.metric, number.value, number.low, number.high, None, UNCHECKED, why)
