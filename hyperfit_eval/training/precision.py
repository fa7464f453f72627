"""Weights in a precision that would lose the updates of a small learning rate.

A step of Adam moves a weight by about the learning rate. bfloat16 keeps 8 significant bits: a step below
|w| * 2^-9 is always rounded away, one above |w| * 2^-8 never. So the paper's 1e-6 needs |w| < 0.0005, and
the median weight of a pretrained model is 0.01 to 0.05: of the demo model's, 99.2% would stay as they are,
the loss flat, and nothing else would tell. float32, with 24 bits, loses none. Autocast is no danger: it
rounds the copies that are multiplied, never the weights.
"""

from collections.abc import Iterable

import torch

from ..errors import HyperfitError

MOST_LOST = 0.5
"""The largest share of lost updates that is trained without being asked for."""


def lost_updates(weights: Iterable[torch.Tensor], learning_rate: float) -> float:
    """Share of the weights that stay what they are when moved by the learning rate, in either direction.

    Args:
        weights: tensors in the precision they are trained in.
    Returns:
        Fraction in [0, 1].
    """
    lost = total = 0
    for weight in weights:
        weight = weight.detach()
        lost += int(((weight + learning_rate == weight) & (weight - learning_rate == weight)).sum())
        total += weight.numel()
    return lost / total


def refuse_lost_updates(model: torch.nn.Module, learning_rate: float) -> None:
    """Raise when more than half of the trained weights would lose an update to rounding.

    Raises:
        HyperfitError: with the share, the precision and the learning rate.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    share = lost_updates(weights, learning_rate)
    if share > MOST_LOST:
        dtype = str(weights[0].dtype).removeprefix("torch.")
        raise HyperfitError(
            f"--learning_rate {learning_rate:g}: {100 * share:.1f}% of the {dtype} weights are too large to be changed "
            f"by a step of that size; train in float32 (--weights_dtype float32), or add --allow_lost_updates"
        )
