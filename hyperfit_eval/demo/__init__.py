"""What ships with the package: a small model, texts, and the demonstration that uses them."""
