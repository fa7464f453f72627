"""Model and texts that ship with the package; `hyperfit demo` uses them (reproduce/demo.py)."""
