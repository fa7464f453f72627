"""Human preference (paper, Section 4): pairs, the annotators' answers, an LLM judge, and what follows from them."""
