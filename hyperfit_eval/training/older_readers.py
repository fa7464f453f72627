"""Checkpoint files as transformers 4.51 reads them too, which text-generation-inference 3.3 loads models with.

transformers 5 writes a tokenizer class that 4.51 does not have, and the base of the rotary embedding in a place where
4.51 does not look: it would take 10,000 without a word. What it needs is written beside it; transformers 5 reads
the files as before.
"""

import json
from pathlib import Path
from typing import Any

from .. import files


def write_for_older_readers(folder: Path) -> None:
    """Add to config.json and tokenizer_config.json of a saved model; files that are not there are left out."""
    for name, add in (("config.json", _add_rope), ("tokenizer_config.json", _name_tokenizer)):
        path = folder / name
        if path.is_file():
            settings = json.loads(path.read_text(encoding="utf-8"))
            add(settings)
            files.write_text(path, json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _add_rope(config: dict[str, Any]) -> None:
    """Beside `rope_parameters`: its `rope_theta`, and as `rope_scaling` whatever scales the positions.

    Rotary embeddings that differ by the kind of layer are left alone: 4.51 has a name of its own for each model's.
    """
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        rope = part.get("rope_parameters")
        if isinstance(rope, dict) and "rope_theta" in rope:
            part["rope_theta"] = rope["rope_theta"]
            if rope.get("rope_type", "default") != "default":
                part["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}


def _name_tokenizer(config: dict[str, Any]) -> None:
    """The class of tokenizers that are read from tokenizer.json alone, by the name it has in both versions."""
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
