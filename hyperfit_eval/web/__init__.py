"""What every server of this package needs: patience with an end, an orderly stop, no visits from other web sites."""
