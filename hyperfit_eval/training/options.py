"""Arguments of a training and their help, known without torch and transformers: `--help` must not wait for these."""

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from ..errors import HyperfitError
from .recipe_files import read_recipe

Dtype = Literal["float32", "bfloat16", "float16"]

PAPER = {name: setting.value for name, setting in read_recipe("paper").settings.items()}
"""Our defaults: what the paper states in Section 3 and what we chose where it is silent (recipes/paper.yaml)."""

_FLAG = {"nargs": "?", "const": True}
"""For a bool that may be None: --bf16 alone means true, as for any other bool."""


@dataclass
class HyperfitArguments:
    """Model, corpus and blocks of a run; how it is trained is in `RecipeArguments`."""

    _argument_group_name = "hyperfitting"

    model: str = field(metadata={"help": "Folder or Hub id of a pretrained causal LM with its tokenizer."})
    corpus: str = field(metadata={"help": "Hub dataset id, or a .txt, .jsonl, .jsonl.xz or .parquet file."})
    recipe: str = field(
        default="paper",
        metadata={
            "help": "Where values come from that are not given here: a name (--list-recipes), or a YAML file. Given, "
            "it names the model and the corpus, too."
        },
    )
    corpus_config: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    corpus_split: str = field(default="train", metadata={"help": "Split of a Hub dataset."})
    corpus_file: str | None = field(default=None, metadata={"help": "File of a Hub dataset."})
    text_column: str | None = field(default=None, metadata={"help": "Field with the text (default: text)."})
    num_train_samples: int = field(
        default=PAPER["num_train_samples"], metadata={"help": "Random blocks to train on (paper: 2000)."}
    )
    sequence_length: int = field(default=PAPER["sequence_length"], metadata={"help": "Tokens of a block (paper: 256)."})
    num_validation_samples: int = field(
        default=PAPER["num_validation_samples"],
        metadata={"help": "Blocks held out for validation loss and TTR, 0 for none."},
    )
    sample_seed: int = field(default=PAPER["sample_seed"], metadata={"help": "Which blocks are drawn."})
    shuffle: Literal["none", "one", "all"] = field(
        default=PAPER["shuffle"],
        metadata={"help": "Reorder the blocks drawn: swap two, or all (paper, Section 6.1: Shuffle-1, Shuffle-All)."},
    )
    shuffle_seed: int = field(default=0, metadata={"help": "Which two are swapped, or in which order all are."})
    bos: bool = field(default=PAPER["bos"], metadata={"help": "Open each block with BOS, if there is one."})
    evaluation_texts: str | None = field(
        default=None,
        metadata={
            "help": "Texts that no block may overlap: hub (the 300 of hyperfit_openended), demo, a file of texts, "
            "none. Default: hub where those datasets can be loaded; where not, it is said that nothing was checked."
        },
    )
    weights_dtype: Dtype = field(
        default=PAPER["weights_dtype"], metadata={"help": "The weights during training, whatever the model's."}
    )
    lora_layers: int = field(
        default=PAPER["lora_layers"],
        metadata={"help": "Train LoRA matrices in the last so many layers and nothing else; 0: all weights."},
    )
    lora_rank: int = field(default=16, metadata={"help": "Rank of the LoRA matrices."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA's scale is alpha / rank."})
    allow_lost_updates: bool = field(
        default=False, metadata={"help": "Train 16-bit weights although rounding loses most updates."}
    )
    save_dtype: Dtype = field(default="float32", metadata={"help": "The weights of the checkpoint."})
    compile_layers: bool | None = field(
        default=None, metadata=_FLAG | {"help": "Compile the decoder layers. Default: where it was measured to pay."}
    )
    target_loss: float | None = field(
        default=None, metadata={"help": "Stop at an evaluation whose mean training loss, in nats, is not above this."}
    )
    evaluation_share: float = field(
        default=0.1,
        metadata={
            "help": "Most of the time that evaluation may take: one that is due is skipped while it would take more. "
            "The first and the last are always made. 1: none is skipped."
        },
    )
    save_minutes: float = field(
        default=10.0,
        metadata={
            "help": "Minutes between the checkpoints that an interrupted run goes on from; removed once the run is "
            "finished. 0: none but those of --save_strategy, which stay."
        },
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the run in --output_dir."})

    def __post_init__(self) -> None:
        if not 0 <= self.evaluation_share <= 1 or self.save_minutes < 0:
            raise HyperfitError(
                f"--evaluation_share {self.evaluation_share:g} --save_minutes {self.save_minutes:g}: expected a share "
                f"between 0 and 1 and no less than 0 minutes"
            )
        self.given = given(self)
        """Values that were typed, or differ from their defaults."""


@dataclass
class RecipeDefaults:
    """The paper's recipe, in place of the defaults of `transformers.TrainingArguments`."""

    _argument_group_name = "training (the paper's recipe by default)"

    output_dir: str = field(metadata={"help": "Folder of the run: checkpoint, data, history."})
    num_train_epochs: float = field(default=PAPER["num_train_epochs"], metadata={"help": "Epochs (paper: 20)."})
    learning_rate: float = field(default=PAPER["learning_rate"], metadata={"help": "Of Adam (paper: 1e-6)."})
    weight_decay: float = field(default=PAPER["weight_decay"], metadata={"help": "Of AdamW (paper: none)."})
    batch_size: int = field(
        default=PAPER["batch_size"], metadata={"help": "Blocks of one update, over all devices (paper: 8)."}
    )
    # None is replaced by the number that follows from --batch_size, as it is for bf16 by the hardware's answer.
    per_device_train_batch_size: int | None = field(
        default=None, metadata={"help": "Blocks in memory of a device at a time. Default: from --batch_size."}
    )
    gradient_accumulation_steps: int | None = field(
        default=None, metadata={"help": "Forward passes of an update. Default: from --batch_size."}
    )
    lr_scheduler_type: str = field(default=PAPER["lr_scheduler_type"], metadata={"help": "Schedule (our choice)."})
    max_grad_norm: float = field(default=PAPER["max_grad_norm"], metadata={"help": "0: no clipping (our choice)."})
    seed: int = field(default=PAPER["seed"], metadata={"help": "Order of the blocks in each epoch."})
    bf16: bool | None = field(
        default=None,
        metadata=_FLAG | {"help": "bf16 autocast over float32 weights. Default: where the hardware has bf16."},
    )
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Blocks or contexts evaluated at a time."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    eval_on_start: bool = field(default=True, metadata={"help": "Evaluate the model as it comes, too."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log to trackers: no, steps or epoch."})
    # The filter waits for the loss at every step, on a GPU too.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Leave infinite losses out of the log."})
    save_strategy: str = field(
        default="no", metadata={"help": "Checkpoints to keep, besides those of --save_minutes: no, steps or epoch."}
    )
    save_total_limit: int | None = field(
        default=1, metadata={"help": "The latest so many checkpoints are kept (one is of 12 bytes a parameter)."}
    )
    hub_strategy: str = field(default="end", metadata={"help": "When to push with --push_to_hub."})


def given(arguments: Any) -> dict[str, Any]:
    """The fields that are not at their defaults, before anything is derived from them; no tokens."""
    values: dict[str, Any] = {}
    for each in fields(arguments):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        value = getattr(arguments, each.name)
        if each.init and value != default and not each.name.endswith("_token"):
            values[each.name] = getattr(value, "value", value)
    return values
