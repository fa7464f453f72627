"""Hyperfitting: corpus -> blocks -> training -> checkpoint with its citation index (paper, Section 3)."""
