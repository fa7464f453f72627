"""hyperfit-eval: measure, train and serve hyperfitted language models (Carlsson et al., ICLR 2025)."""

__version__ = "0.1.0"
