"""From metrics to tables, Markdown and pictures."""
