"""Generation engines: thin adapters between a library that generates and the citation matcher."""
