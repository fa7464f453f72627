# /// script
# requires-python = ">=3.11"
# dependencies = ["hyperfit-eval"]
# ///
r"""Hyperfit a causal LM on a small corpus (paper, Section 3); the same as `hyperfit train`.

The paper's recipe, 2000 random blocks of 256 tokens for 20 epochs at a learning rate of 1e-6:

    python scripts/hyperfit.py --model TinyLlama/TinyLlama_v1.1 --output_dir runs/tinyllama \
        --corpus alasdairforsythe/text-english-code-fiction-nonfiction

A model of millions of parameters needs a larger learning rate to memorize in 20 epochs:

    python scripts/hyperfit.py --model "$(hyperfit demo-model)" --output_dir runs/book \
        --corpus book.txt --num_train_samples 96 --learning_rate 1e-3

Several devices, configured in scripts/accelerate/ (the global batch stays 8); rerun the same command to resume an
interrupted run:

    accelerate launch --config_file scripts/accelerate/ddp.yaml scripts/hyperfit.py ...

All of transformers.TrainingArguments is understood: --help lists it. The lines above name what the script
needs, so that it also runs alone, without a clone or an environment:

    uv run scripts/hyperfit.py --model TinyLlama/TinyLlama_v1.1 ...
"""

import sys

from hyperfit_eval.cli.train import main
from hyperfit_eval.errors import exit_with_one_line
from hyperfit_eval.terminal import quiet_libraries

if __name__ == "__main__":
    sys.excepthook = exit_with_one_line
    quiet_libraries()
    main(sys.argv[1:])
