"""A local page that lets models continue a text side by side (docs/playground.md)."""
