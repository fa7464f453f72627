# /// script
# requires-python = ">=3.11"
# dependencies = ["hyperfit-eval[reports]"]
# ///
r"""Hyperfit a causal LM on a small corpus (paper, Section 3); `hyperfit train` is the same.

The paper's recipe, 2000 random blocks of 256 tokens for 20 epochs at a learning rate of 1e-6:

    python scripts/hyperfit.py --model TinyLlama/TinyLlama_v1.1 --output_dir runs/tinyllama \
        --corpus alasdairforsythe/text-english-code-fiction-nonfiction

A model of millions of parameters needs a larger learning rate to memorize in 20 epochs:

    python scripts/hyperfit.py --model "$(hyperfit demo-model)" --output_dir runs/book \
        --corpus book.txt --num_train_samples 96 --learning_rate 1e-3

Several devices, configured in scripts/accelerate/ (the global batch stays 8); rerun the same command to resume an
interrupted run:

    accelerate launch --config_file scripts/accelerate/ddp.yaml scripts/hyperfit.py ...

All of transformers.TrainingArguments is understood: --help_all lists it. The lines above name what the script
needs, so that it also runs alone, without a clone or an environment:

    uv run scripts/hyperfit.py --model TinyLlama/TinyLlama_v1.1 ...
"""

import sys

from hyperfit_eval.cli.train import push_afterwards, read_arguments
from hyperfit_eval.errors import exit_with_one_line
from hyperfit_eval.terminal import quiet_libraries


def main(argv: list[str]) -> None:
    """Read the arguments, and run the four acts."""
    arguments = read_arguments(argv)
    if arguments is None:  # --help or --list-recipes
        return
    # torch and transformers take seconds to import.
    from hyperfit_eval.training.run import Run

    push = push_afterwards(*arguments)  # what --push_to_hub cannot publish is refused before training
    with Run(*arguments) as run:
        # The model and its tokenizer; the corpus, cut into blocks of token ids; the citation index of these blocks.
        run.load()
        # transformers.Trainer with the recipe, in the run's folder, where an interrupted run goes on.
        run.build()
        # Cross-entropy until the loss is near zero, with the history of the paper's Figure 2.
        run.train()
        # Weights, results and cost.
        run.save()
    push()


if __name__ == "__main__":
    sys.excepthook = exit_with_one_line
    quiet_libraries()
    main(sys.argv[1:])
