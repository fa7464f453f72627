"""The citation blocker on tensors: one class that bans, and the logits processor of transformers around it."""

from .transformers import CitationBlocker
from .windows import WindowBlocker

__all__ = ["CitationBlocker", "WindowBlocker"]
