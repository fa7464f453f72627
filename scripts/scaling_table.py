"""The tables of docs/scaling.md: memory, hardware and time on paper for the paper's models.

    python scripts/scaling_table.py

Nothing is loaded or downloaded; the formulas are hyperfit_eval/training/costs.py.
"""

from hyperfit_eval.report.tables import markdown_table
from hyperfit_eval.training.costs import DENSE_BF16, Shape, memory, training_flops

SHAPES = {
    "1.1B (TinyLlama)": Shape(2048, 5632, 22, 256, 32000),
    "7B (DeepSeek LLM)": Shape(4096, 11008, 30, 4096, 102400),
    "8B (Llama 3.1)": Shape(4096, 14336, 32, 1024, 128256),
    "70B (Llama 3.1)": Shape(8192, 28672, 80, 1024, 128256),
}
"""Dimensions from the configurations on the Hub."""

BLOCKS, TOKENS, UPDATES = 8, 256, 5000
"""The paper's recipe: 2000 blocks x 20 epochs / 8."""

UTILIZATION = 0.45
"""The share of a chip's dense bf16 rate that is assumed."""


def gb(value: float) -> str:
    """Decimal gigabytes; three figures."""
    return f"{value / 1e9:.3g}" if value < 1e12 else f"{value / 1e9:.0f}"


def one_device() -> str:
    """Memory that one device would have to hold."""
    header = ["GB", "parameters", "weights", "gradients", "Adam", "bf16 copies", "activations", "checkpointed"]
    header += ["logits", "total", "total, checkpointed"]
    rows = []
    for name, shape in SHAPES.items():
        plain = memory(shape, BLOCKS, TOKENS)
        saving = memory(shape, BLOCKS, TOKENS, checkpointing=True)
        parts = [plain.weights, plain.gradients, plain.adam, plain.copies, plain.activations, saving.activations]
        parts += [plain.logits, plain.total, saving.total]
        rows.append([name, f"{shape.parameters:,}", *map(gb, parts)])
    return markdown_table(header, rows)


def devices() -> str:
    """GB a device under FSDP2; the global batch of 8 blocks is divided, so there are at most 8 devices."""
    header = ["GB a device", "1", "2", "4", "8", "8, states in host memory", "host memory"]
    rows = []
    for name, shape in SHAPES.items():
        cells = [gb(memory(shape, BLOCKS / n, TOKENS, checkpointing=True, shards=n).total) for n in (1, 2, 4, 8)]
        offloaded = memory(shape, BLOCKS / 8, TOKENS, checkpointing=True, shards=8, offload=True)
        rows.append([name, *cells, gb(offloaded.total), gb(16 * shape.parameters)])
    return markdown_table(header, rows)


def deviations() -> str:
    """States of cheaper ways to train, which are not the paper's."""
    header = ["GB of states", "the recipe", "8-bit Adam", "bf16 weights, 8-bit Adam", "LoRA, last 5 layers, rank 16"]
    rows = []
    for name, shape in SHAPES.items():
        n, adapters = shape.parameters, 5 * lora_parameters(shape, 16)
        rows.append([name, gb(16 * n), gb(10 * n), gb(6 * n), gb(2 * n + 16 * adapters)])
    return markdown_table(header, rows)


def lora_parameters(shape: Shape, rank: int) -> int:
    """Adapter parameters of one layer: each of its seven matrices gets rank x (inputs + outputs)."""
    h, kv, f = shape.hidden, shape.key_value, shape.intermediate
    return rank * (2 * (h + h) + 2 * (h + kv) + 3 * (h + f))


def time() -> str:
    """Arithmetic of the whole recipe, and the hours it takes one H100 at the assumed share of its rate."""
    header = ["", "FLOPs an update", "FLOPs of the recipe", "H100 hours at 45%"]
    rows = []
    for name, shape in SHAPES.items():
        flops = training_flops(shape, BLOCKS, TOKENS)
        hours = UPDATES * flops / (DENSE_BF16["H100"] * UTILIZATION) / 3600
        rows.append([name, f"{flops:.3g}", f"{UPDATES * flops:.3g}", f"{hours:.2g}"])
    return markdown_table(header, rows)


def main() -> None:
    """Measure and print."""
    print("\n\n".join([one_device(), devices(), deviations(), time()]))


if __name__ == "__main__":
    main()
