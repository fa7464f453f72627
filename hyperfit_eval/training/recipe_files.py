"""Recipe files: the values of one setting of the paper, each with where it comes from.

A YAML mapping from argument to value. A value is plain, or `value` with one of
    paper: the section and its words,
    choice: why, where the paper leaves it open,
    changed: what it replaced, in the recipe that a run saves.
`title` says what the recipe is for. What a file does not name is as in paper.yaml.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from .. import files
from ..demo.location import demo_model_dir
from ..documents import MAX_YAML_BYTES, parse_yaml, read_regular
from ..errors import HyperfitError
from ..texts.contexts import demo_corpus_path

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
ORIGINS = ("paper", "choice", "changed")
PAPER = "paper"

_KEPT = object()
_QUANTITY = re.compile(r"quantity-(\d+)")


@dataclass(frozen=True)
class Setting:
    """One value of a recipe."""

    value: Any
    origin: str
    """"paper", "choice" or "changed"."""
    why: str
    """The paper's words with their section, our reason, or what was replaced."""

    default: Any = _KEPT
    """The recipe's value, where a run has another."""

    def to_json(self) -> dict[str, Any]:
        """The entry in run.json."""
        return {name: content for name, content in vars(self).items() if content is not _KEPT}


@dataclass(frozen=True)
class Recipe:
    """Content of a recipe file."""

    name: str
    title: str
    settings: dict[str, Setting]


def recipe_names() -> list[str]:
    """The recipes that ship with the package; any `quantity-N` is one, too."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by its name, or from a YAML file.

    Raises:
        HyperfitError: no such recipe, with the nearest name; or a file that is no recipe.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return _read(Path(name_or_path), Path(name_or_path).stem)
    if samples := _QUANTITY.fullmatch(name_or_path):
        recipe = _read(FOLDER / "quantity.yaml", name_or_path)
        number = replace(recipe.settings["num_train_samples"], value=int(samples[1]))
        return replace(recipe, settings=recipe.settings | {"num_train_samples": number})
    if name_or_path not in recipe_names():
        known = [*recipe_names(), "quantity-8"]
        raise HyperfitError(
            f"--recipe {name_or_path}: no such recipe{nearest(name_or_path, known)}; hyperfit train --list-recipes "
            f"shows them, and a file must end in .yaml"
        )
    recipe = _read(FOLDER / f"{name_or_path}.yaml", name_or_path)
    # "demo" stands for what ships beside the recipes.
    shipped = {"model": demo_model_dir, "corpus": demo_corpus_path}
    settings = {
        name: replace(setting, value=str(shipped[name]())) if name in shipped and setting.value == "demo" else setting
        for name, setting in recipe.settings.items()
    }
    return replace(recipe, settings=settings)


def write_recipe(path: str | Path, title: str, settings: Mapping[str, Setting]) -> None:
    """Write a resolved recipe (`recipe.resolved_recipe`) as a file that --recipe reads."""
    body = {
        name: {"value": setting.value, setting.origin: setting.why}
        for name, setting in settings.items()
        if setting.value is not None
    }
    text = yaml.safe_dump({"title": title, **body}, sort_keys=False, allow_unicode=True, width=110)
    files.write_text(path, text)


def nearest(name: str, known: list[str]) -> str:
    """The end of a message, ` (did you mean X?)`, or nothing where no name is near."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _read(path: Path, name: str) -> Recipe:
    document = parse_yaml(read_regular(path, MAX_YAML_BYTES, f"--recipe {path}"), str(path))
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise HyperfitError(f"{path}: not a recipe; lines such as 'learning_rate: 1e-5' were expected")
    title = document.pop("title", name)
    return Recipe(name, str(title), {key: _setting(path, key, value) for key, value in document.items()})


def _setting(path: Path, key: str, entry: Any) -> Setting:
    if not isinstance(entry, dict) or "value" not in entry:
        return Setting(_number(entry), "changed", f"by {path.name}")
    origins = [origin for origin in entry if origin != "value"]
    if len(origins) != 1 or origins[0] not in ORIGINS:
        raise HyperfitError(f"{path}: '{key}' has {origins} beside its value, expected one of {', '.join(ORIGINS)}")
    return Setting(_number(entry["value"]), origins[0], str(entry[origins[0]]).strip())


def _number(value: Any) -> Any:
    """YAML reads 1e-6, without a point, as text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?e[-+]?\d+", value):
        return float(value)
    return value
