"""What ships with the package: a small model and texts; `hyperfit demo` uses them (reproduce/demo.py)."""
