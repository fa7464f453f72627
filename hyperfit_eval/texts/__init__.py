"""The text room: evaluation contexts, training corpora and the blocks cut from them. Nothing here imports torch."""
