"""Predictions of a model along a given text: loss, entropy, top-k mass (paper, Section 5, Table 3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .batching import in_batches
from .continuing import input_device, require_ids, require_positions

TOP_K = (1, 3, 5)
# A batch's float32 logits are kept under this many numbers (1 GiB): vocabularies reach 256,000.
MAX_LOGITS = 2**28


@dataclass(frozen=True)
class TextScore:
    """Predictions for the tokens of one text, in order; T is the number of tokens scored."""

    nll: np.ndarray
    """Negative log-likelihood of the text's token, nats, shape (T,), float64."""
    entropy_bits: np.ndarray
    """Entropy of the predicted distribution, bits, shape (T,). Table 3's entropies are most likely bits."""
    top_mass: np.ndarray
    """Probability of the 1, 3 and 5 most probable tokens together, shape (T, 3)."""
    top1: np.ndarray
    """Id of the most probable token, shape (T,), int64."""
    rank: np.ndarray
    """Place of the text's token among all tokens by probability, 1 for the most probable, shape (T,), int64."""
    first_scored: int
    """Index in the text of the first token scored: 0 with a BOS before it, else 1."""

    def perplexity(self, tokens: int | None = None) -> float:
        """Exp of the mean loss over the scored ones of the text's first `tokens` tokens."""
        losses = self.context_nll(tokens) if tokens is not None else self.nll
        return math.exp(losses.mean())

    def context_nll(self, tokens: int) -> np.ndarray:
        """Losses of the scored ones of the text's first `tokens` tokens."""
        return self.nll[: tokens - self.first_scored]


def score_ids(
    model: Any,
    sequences: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int] = (),
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[TextScore]:
    """Score texts of equal length in one forward pass each, without padding.

    Args:
        model: a transformers causal LM, on its device, in eval mode.
        sequences: token ids without BOS, shape (N, T).
        prefix: ids read before each text and never scored: [BOS], or nothing where the tokenizer has
            no BOS; then the first token has no prediction and is left out.
        batch_size: largest batch; made smaller for large vocabularies and when memory runs out.
        progress: called with the number of texts just finished.
    Returns:
        One TextScore a text, computed in float32 from the model's logits.
    Raises:
        HyperfitError: more positions than the model has, or an id that it lacks.
    """
    if not sequences:
        return []
    length = len(prefix) + max(map(len, sequences))
    require_positions(model, length)
    require_ids(model, sequences)
    vocabulary = model.config.get_text_config().vocab_size
    batch_size = max(1, min(batch_size, MAX_LOGITS // (length * vocabulary)))
    first_scored = 0 if prefix else 1
    device = input_device(model)

    def run(batch: Sequence[Sequence[int]]) -> list[TextScore]:
        ids = torch.tensor([[*prefix, *sequence] for sequence in batch], device=device)
        start = len(prefix) + first_scored
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[:, start - 1 :].float()
        log_normalizer = torch.logsumexp(logits, dim=-1)
        target = logits.gather(-1, ids[:, start:, None]).squeeze(-1)
        nll = (log_normalizer - target).double().cpu().numpy()
        top = torch.topk(logits, max(TOP_K), dim=-1)
        mass = torch.exp(top.values - log_normalizer[..., None]).cumsum(-1)[..., [k - 1 for k in TOP_K]]
        # H = log Z - sum p * logit, in nats.
        expected_logit = (torch.softmax(logits, dim=-1) * logits).sum(-1)
        entropy = ((log_normalizer - expected_logit) / math.log(2)).clamp_min(0).double().cpu().numpy()
        rank = (logits > target[..., None]).sum(-1) + 1
        columns = (nll, entropy, mass.double().cpu().numpy(), top.indices[..., 0].cpu().numpy(), rank.cpu().numpy())
        return [TextScore(*rows, first_scored) for rows in zip(*columns, strict=True)]

    with torch.inference_mode():
        return in_batches(sequences, batch_size, run, progress)
