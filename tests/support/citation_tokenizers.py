"""Small real tokenizers of every kind, trained where a test needs them."""

import json
from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = "The quick brown foxes don't jump over the dog's well known tail in the barn, said Anna. The end. "
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>"]


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@cache
def byte_level(vocab_size: int = 330, text: str = TEXT) -> PreTrainedTokenizerFast:
    """As GPT-2, Llama 3 and Qwen. Characters beyond ASCII are cut into bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text] * 5, trainer)
    return _fast(tokenizer)


@cache
def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2 and Gemma: '▁' by a normalizer, unknown characters as byte pieces <0x..>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        [word for word in TEXT.split()], trainers.BpeTrainer(special_tokens=SPECIAL + pieces, show_progress=False)
    )
    # The trainer can add the byte pieces only as special tokens; in such models they are ordinary ones.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    return _fast(Tokenizer.from_str(json.dumps(state)))


@cache
def unigram() -> PreTrainedTokenizerFast:
    """As T5 and XLM-R: Metaspace."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([TEXT, "0123456789", "人工智能", "สวัสดี"], trainer)
    return _fast(tokenizer)


@cache
def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT: '##' inside words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([TEXT, "1984 人工智能 สวัสดี"], trainer)
    return _fast(tokenizer)


@cache
def suffixed() -> PreTrainedTokenizerFast:
    """As CLIP and GPT-1: '</w>' at the end of words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    return _fast(tokenizer)


@cache
def word_level() -> PreTrainedTokenizerFast:
    """One piece for each word or punctuation mark."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([TEXT], trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))
    return _fast(tokenizer)


@cache
def characters() -> PreTrainedTokenizerFast:
    """One piece for each character, spaces among them, and no pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=40, special_tokens=SPECIAL, show_progress=False)
    )
    return _fast(tokenizer)


@cache
def unmarked() -> PreTrainedTokenizerFast:
    """Spaces are dropped and nothing says where they were: no such rule can be read from these pieces."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False)
    )
    return _fast(tokenizer)
