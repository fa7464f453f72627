"""Needs of every server of this package: patience with an end, an orderly stop, no visits from other web sites."""
