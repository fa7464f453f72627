"""lm-eval side: the open-ended task, the requests it makes, and a runner for the whole suite."""
