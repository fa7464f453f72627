"""The annotation page of `hyperfit annotate`; the logic is in `hyperfit_eval.preference`."""
