"""Costs of full-parameter training on paper: parameters, arithmetic and memory of a Llama-shaped model.

The formulas count what transformers' Llama with SDPA attention keeps for the backward pass, uncompiled; compiling
recomputes cheap operations and needs less. They leave out what does not grow with the model: the CUDA context,
buffers of communication, fragmentation (together some GB).
"""

from dataclasses import dataclass
from typing import Any

ADAM_BYTES = 8
"""A parameter's two moments in float32."""


DENSE_BF16 = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""FLOP/s without sparsity, from NVIDIA's data sheets; of the names found in a device's, the first counts."""


def dense_bf16_rate(device: str) -> float | None:
    """A chip's dense bf16 FLOP/s by its data sheet; None for a chip that is not in the table."""
    return next((rate for name, rate in DENSE_BF16.items() if name in device), None)


@dataclass(frozen=True)
class Shape:
    """The dimensions of a decoder with gated MLP and grouped attention: Llama, Mistral, Qwen, DeepSeek LLM."""

    hidden: int
    intermediate: int
    layers: int
    key_value: int
    """Width of the keys: key-value heads x head size."""
    vocabulary: int
    tied: bool = False
    """One matrix is both embedding and output."""

    @property
    def layer_matrices(self) -> int:
        """Parameters of one layer that are multiplied: four attention projections, three of the MLP."""
        return 2 * self.hidden * (self.hidden + self.key_value) + 3 * self.hidden * self.intermediate

    @property
    def matrices(self) -> int:
        """Parameters that are multiplied with every token; the embedding is looked up."""
        return self.layers * self.layer_matrices + self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; a layer has two norms, the model one more."""
        embedding = 0 if self.tied else self.vocabulary * self.hidden
        return self.matrices + embedding + (2 * self.layers + 1) * self.hidden


def shape_of(config: Any) -> Shape:
    """The shape that a transformers configuration of a Llama-like model describes."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=config.num_hidden_layers,
        key_value=config.num_key_value_heads * head,
        vocabulary=config.vocab_size,
        tied=config.tie_word_embeddings,
    )


def training_flops(shape: Shape, blocks: int, tokens: int) -> int:
    """Floating-point operations of one update, as model FLOPs utilization counts them (PaLM, Appendix B).

    Two for each multiplied parameter and token, twice that backwards; attention over the full square of a
    block, though the upper half is masked (2% at 256 tokens and 1.1 billion parameters). Recomputing activations
    is not counted.

    Args:
        blocks: of one update.
        tokens: of one block.
    Example:
        A single 2 x 3 matrix and 4 tokens: 6 * 6 * 4 == 144.
    """
    return 6 * shape.matrices * blocks * tokens + 12 * shape.layers * shape.hidden * blocks * tokens * tokens


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the fullest moment of an update."""

    weights: float
    gradients: float
    adam: float
    copies: float
    """Weights gathered from other devices, or cast to bf16 by autocast."""
    activations: float
    """Kept for the backward pass."""
    logits: float
    """Over the vocabulary: the output and its gradient, beside what activations hold of them."""

    @property
    def states(self) -> float:
        """Memory that stays between updates, gradients included."""
        return self.weights + self.gradients + self.adam

    @property
    def total(self) -> float:
        """An upper bound: gradients are complete only when the activations are gone."""
        return self.states + self.copies + self.activations + self.logits

    @property
    def at_start_of_backward(self) -> float:
        """The peak of a run without gradient accumulation, as measured."""
        return self.total - self.gradients


def memory(
    shape: Shape,
    blocks: float,
    tokens: int,
    *,
    bf16: bool = True,
    checkpointing: bool = False,
    shards: int = 1,
    offload: bool = False,
) -> Memory:
    """Bytes on one device: float32 weights, gradients and Adam, with or without bf16 autocast.

    Args:
        blocks: in one forward pass of this device.
        tokens: of one block.
        checkpointing: keep each layer's input only, and one layer's activations while it is recomputed.
        shards: devices that weights, gradients and Adam are divided among (FSDP2, ZeRO-3).
        offload: weights, gradients and Adam are in host memory.
    """
    resident = 0.0 if offload else shape.parameters / shards
    if shards > 1 or offload:
        # FSDP2 gathers in the dtype of the arithmetic: the layer in use, the next one, embedding and output.
        outside = shape.parameters - shape.layers * shape.layer_matrices
        copies = (2 if bf16 else 4) * (2 * shape.layer_matrices + outside)
    else:
        copies = 2 * shape.matrices if bf16 else 0
    rows = blocks * tokens
    layer = layer_activation_bytes(shape, bf16)
    kept = layer + 4 * shape.hidden * (shape.layers - 1) if checkpointing else layer * shape.layers
    # The last norm's input and normed input, the head's input, and the log-probabilities in float32.
    end = (10 if bf16 else 12) * shape.hidden + 4 * shape.vocabulary
    # bf16: the logits, their float32 copy, its gradient.
    logits = (10 if bf16 else 8) * shape.vocabulary
    return Memory(
        weights=4 * resident,
        gradients=4 * resident,
        adam=ADAM_BYTES * resident,
        copies=copies,
        activations=rows * (kept + end),
        logits=rows * logits,
    )


def layer_activation_bytes(shape: Shape, bf16: bool) -> int:
    """Activations that one decoder layer keeps for the backward pass, in bytes a token.

    float32: input and normed input of both norms (4 hidden), the norms' outputs (2), queries and the attention's
    output (2), keys and values, and the MLP's gate, activated gate, up and product (4 intermediate). Under
    autocast the norms stay in float32, the rest has two bytes, and each of the projections that share an input
    keeps a cast of its own: three for attention, two for the MLP.
    """
    h, kv, f = shape.hidden, shape.key_value, shape.intermediate
    if bf16:
        return 4 * 4 * h + 2 * (7 * h + 2 * kv + 4 * f)
    return 4 * (8 * h + 2 * kv + 4 * f)
