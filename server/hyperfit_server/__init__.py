"""Generation server with citation blocking."""
