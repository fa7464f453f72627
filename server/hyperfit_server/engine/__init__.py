"""Many generations at a time on one transformers model, each with its own settings, each with the citation blocker."""
