"""The `hyperfit` command: each module parses and makes one call into the package."""
