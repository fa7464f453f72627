r"""Pretrain the small causal language model that ships in the package.

From nothing (tokenizer, then model), or from a model that exists already:

    python scripts/make_demo_model.py --output_dir runs/demo-model --steps 3000 \
        corpora/fiction.jsonl.xz corpora/wiki.jsonl:3 corpora/news.jsonl:4
    python scripts/make_demo_model.py --init runs/demo-model --output_dir runs/demo-model-2 \
        --steps 800 --learning_rate 6e-4 corpora/fiction_more.jsonl.xz

Each corpus is a JSON-lines file with a "text" field, plain or xz-packed; `:3` means three times
over. The last 1% of a corpus's texts is held out for validation. What ships is float16 on disk
(half the size) with `dtype: float32` in the config, so that it loads, trains and scores in float32;
the weights are rounded before the last validation, which therefore belongs to the shipped file.
"""

import argparse
import json
import lzma
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BLOCK = 256
END_OF_TEXT = "<|endoftext|>"


def parse_args() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", help="FILE or FILE:TIMES, JSON lines, .xz or plain")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="continue from this model and its tokenizer")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch_size", type=int, default=48, help="blocks of 256 tokens in a step")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="peak; cosine to a fiftieth of it")
    parser.add_argument("--warmup", type=int, default=60, help="steps")
    parser.add_argument("--weight_decay", type=float, default=0.1)
    parser.add_argument("--vocab_size", type=int, default=4096)
    parser.add_argument("--max_chars", type=int, default=60_000_000, help="characters read of each corpus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bf16", action="store_true", help="bf16 autocast: faster where the CPU has AMX, slower elsewhere"
    )
    parser.add_argument("--compile", action="store_true", help="compile the decoder; pays off from some 500 steps on")
    return parser.parse_args()


def read_corpus(spec: str, max_chars: int) -> tuple[str, int, list[str], list[str]]:
    """Return name, repetitions, training texts and validation texts of one FILE[:TIMES]."""
    path, _, times = spec.partition(":")
    opener = lzma.open if path.endswith(".xz") else open
    texts, chars = [], 0
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            texts.append(json.loads(line)["text"])
            chars += len(texts[-1])
            if chars > max_chars:
                break
    held_out = max(1, len(texts) // 100)
    return Path(path).name.split(".")[0], int(times or 1), texts[:-held_out], texts[-held_out:]


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with one special token that both begins and ends a text."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=vocab_size, special_tokens=[END_OF_TEXT], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=1024
    )


def to_blocks(texts: list[str], tokenizer) -> np.ndarray:
    """Join the texts, each opened by the end-of-text id, and cut into rows of 256 ids, dtype uint16."""
    ids = []
    for start in range(0, len(texts), 256):
        for row in tokenizer(texts[start : start + 256], verbose=False)["input_ids"]:
            ids.append(np.array([tokenizer.bos_token_id, *row], dtype=np.uint16))
    stream = np.concatenate(ids)
    return stream[: len(stream) // BLOCK * BLOCK].reshape(-1, BLOCK)


def new_model(tokenizer) -> LlamaForCausalLM:
    """A Llama of 5.9 million parameters: 16 MB is all that a package should carry."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=704, num_hidden_layers=6,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def loss_of(model, rows: np.ndarray, bf16: bool = False) -> torch.Tensor:
    """Mean next-token loss in nats over rows of 256 ids."""
    ids = torch.from_numpy(rows.astype(np.int64))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden)
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def validate(model, held_out: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean nats a token over at most 64 blocks of each corpus."""
    return {name: round(loss_of(model, rows[:64]).item(), 4) for name, rows in held_out.items()}


def main() -> None:
    """Train the model and write its folder."""
    args = parse_args()
    torch.manual_seed(args.seed)
    corpora = [read_corpus(spec, args.max_chars) for spec in args.corpora]
    if args.init:
        tokenizer = AutoTokenizer.from_pretrained(args.init)
        model = AutoModelForCausalLM.from_pretrained(args.init, dtype=torch.float32)
    else:
        tokenizer = train_tokenizer([text for _, _, texts, _ in corpora for text in texts], args.vocab_size)
        model = new_model(tokenizer)
    blocks = np.concatenate([np.repeat(to_blocks(train, tokenizer), times, axis=0) for _, times, train, _ in corpora])
    held_out = {name: to_blocks(texts, tokenizer) for name, _, _, texts in corpora}

    args.output_dir.mkdir(parents=True, exist_ok=True)
    log = (args.output_dir / "pretraining.log").open("w", encoding="utf-8")

    def note(line: str) -> None:
        print(line, flush=True)
        print(line, file=log, flush=True)

    note(f"{sum(p.numel() for p in model.parameters()):,} parameters, {blocks.size:,} training tokens, "
         f"{args.steps} steps of {args.batch_size} x {BLOCK}, init {args.init.name if args.init else 'random'}, "
         f"corpora {' '.join(Path(c).name for c in args.corpora)}, "
         f"peak lr {args.learning_rate:g}, seed {args.seed}, torch {torch.__version__}")  # fmt: skip
    note(f"step 0 validation {validate(model, held_out)}")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, betas=(0.9, 0.95), weight_decay=args.weight_decay, fused=True
    )
    if args.compile:
        model.model.compile()
    order = np.random.default_rng(args.seed)
    started = time.monotonic()
    pending = np.empty(0, dtype=np.int64)
    for step in range(1, args.steps + 1):
        while len(pending) < args.batch_size:
            pending = np.concatenate([pending, order.permutation(len(blocks))])
        rows, pending = blocks[pending[: args.batch_size]], pending[args.batch_size :]
        cosine = 0.02 + 0.49 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(step / args.warmup, cosine)
        loss = loss_of(model, rows, args.bf16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            rate = step * args.batch_size * BLOCK / (time.monotonic() - started)
            note(f"step {step} loss {loss.item():.3f} tokens/s {rate:,.0f}")
        if step % 200 == 0:
            note(f"step {step} validation {validate(model, held_out)}")

    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    note(f"shipped weights validation {validate(model, held_out)} seconds {time.monotonic() - started:,.0f}")
    model.half().save_pretrained(args.output_dir)
    config = json.loads((args.output_dir / "config.json").read_text())
    config["dtype"] = "float32"
    (args.output_dir / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(args.output_dir)
    if args.init and (args.init / "pretraining.log").exists():
        shutil.copy(args.init / "pretraining.log", args.output_dir / "pretraining_init.log")


if __name__ == "__main__":
    main()
