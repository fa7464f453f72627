"""Where the shipped model is; importable without torch."""

from pathlib import Path


def demo_model_dir() -> Path:
    """Folder of the small pretrained base model (safetensors, tokenizer, card)."""
    return Path(__file__).resolve().parent / "model"
