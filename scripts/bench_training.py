"""Training speed, peak memory and losses, side by side on the same model, blocks and machine.

    python scripts/bench_training.py                 # the shipped model, as far as the CPU goes
    python scripts/bench_training.py --gpu           # a 1.1B Llama with random weights: share of the chip's rate
    python scripts/bench_training.py --gpu --shape tiny --steps 8       # the same, dry, on any machine

Paths, each in a process of its own so that its peak memory is its own:

- ours: what `hyperfit train` does, with compiled layers;
- loop: a plain training loop, float32 and eager, AdamW as torch makes it, the loss read at every step;
- trainer: transformers.Trainer with nothing set but the recipe's numbers;
- products: the matrix products of an update alone, with nothing around them: no float32 path can be faster.

All train the same blocks in the same order by the same recipe, and take turns of a few updates, so that what else
the machine does falls on all of them; medians are compared. Updates before a path is warm (compiling) are apart.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH, WARM = 8, 2
RECIPE_UPDATES = 5000
"""2000 blocks x 20 epochs / 8."""
LOSS_TOLERANCE = {False: 1e-3, True: 2e-2}
"""Relative, of the loss after training; with bf16 autocast the arithmetic itself differs."""
SHAPES = {
    "1.1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
             "num_key_value_heads": 4, "vocab_size": 32000},
    "tiny": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 4096},
}  # fmt: skip


def parse_args() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub id; default: the shipped model")
    parser.add_argument("--corpus", help="default: the shipped training passages")
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256, help="of a block")
    parser.add_argument("--steps", type=int, default=32, help="updates that are timed")
    parser.add_argument("--turn", type=int, default=4, help="updates of a turn")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--paths", nargs="+", choices=PATHS, help="default: all; with --gpu: ours")
    parser.add_argument("--no_compile", action="store_true", help="our path uncompiled")
    parser.add_argument(
        "--gpu", action="store_true", help="random weights of --shape, and the share of the chip's rate"
    )
    parser.add_argument("--shape", choices=SHAPES, default="1.1b", help="of the model that --gpu makes")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--child", nargs=2, metavar=("PATH", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


class Turns:
    """A child's side of taking turns: answers each line of stdin with the time of `turn` updates."""

    def __init__(self, turn: int) -> None:
        self.turn, self.started, self.done = turn, time.perf_counter(), 0

    def update_done(self, *_: Any) -> None:
        """Called after each update; waits where a turn ends."""
        self.done += 1
        if self.done >= WARM and (self.done - WARM) % self.turn == 0:
            print(json.dumps({"memory": self._peak(), "seconds": time.perf_counter() - self.started}), flush=True)
            if not sys.stdin.readline():
                raise SystemExit("error: the benchmark that started this is gone")
            self.started = time.perf_counter()

    def _peak(self) -> int:
        """The most bytes so far; on a GPU once its work is done."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated()
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(settings: dict[str, Any], rows: np.ndarray, turns: Turns, folder: Path) -> float:
    """The package's own run, through the same arguments as at the command line."""
    from hyperfit_eval.training.recipe import HyperfitArguments, RecipeArguments
    from hyperfit_eval.training.run import hyperfit

    options = HyperfitArguments(
        model=settings["model"], corpus=settings["corpus"], evaluation_texts="none",
        num_train_samples=settings["blocks"], sequence_length=settings["tokens"], num_validation_samples=0,
        compile_layers=settings["compile"],
    )  # fmt: skip
    training = RecipeArguments(
        output_dir=str(folder / "ours"), learning_rate=settings["learning_rate"], max_steps=settings["updates"],
        train_sampling_strategy="sequential", eval_strategy="no", eval_on_start=False, logging_strategy="no",
        disable_tqdm=True, report_to="none",
    )  # fmt: skip
    return hyperfit(options, training, progress=turns.update_done, say=lambda line: None).training.loss


def loop(settings: dict[str, Any], rows: np.ndarray, turns: Turns, folder: Path) -> float:
    """Loop that people write first: float32, eager, a padding mask of ones, the loss fetched at each step."""
    import torch

    model = _plain_model(settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=0.0)
    running = 0.0
    for update in range(settings["updates"]):
        start = update * BATCH % len(rows)
        ids = torch.from_numpy(rows[start : start + BATCH]).to(model.device)
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
        turns.update_done()
    return _loss(model, rows)


def trainer(settings: dict[str, Any], rows: np.ndarray, turns: Turns, folder: Path) -> float:
    """transformers.Trainer; learning rate, schedule, decay and clipping are the recipe's, the rest its defaults."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Callback(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            turns.update_done()

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), per_device_train_batch_size=BATCH, max_steps=settings["updates"],
        learning_rate=settings["learning_rate"], lr_scheduler_type="constant", max_grad_norm=0.0,
        train_sampling_strategy="sequential", use_cpu=not torch.cuda.is_available(), report_to="none",
        disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    dataset = [{"input_ids": row, "labels": row} for row in torch.from_numpy(rows)]
    model = _plain_model(settings)
    Trainer(model, arguments, train_dataset=dataset, callbacks=[Callback()]).train()
    return _loss(model, rows)


def products(settings: dict[str, Any], rows: np.ndarray, turns: Turns, folder: Path) -> None:
    """The matrix products of forward and backward pass, into memory that is there already."""
    import torch
    from transformers import AutoConfig

    from hyperfit_eval.training.costs import shape_of

    shape = shape_of(AutoConfig.from_pretrained(settings["model"]))
    h, kv, f, n = shape.hidden, shape.key_value, shape.intermediate, BATCH * rows.shape[1]
    layer = [(h, h), (h, kv), (h, kv), (h, h), (h, f), (h, f), (f, h)]
    sets = []
    for inputs, outputs in [*layer * shape.layers, (h, shape.vocabulary)]:
        x, w, y = torch.randn(n, inputs), torch.randn(outputs, inputs), torch.randn(n, outputs)
        sets.append((x, w, y, torch.empty_like(x), torch.empty_like(w)))
    for _ in range(settings["updates"]):
        for x, w, y, dx, dw in sets:
            torch.mm(x, w.T, out=y)
            torch.mm(y, w, out=dx)
            torch.mm(y.T, x, out=dw)
        turns.update_done()


PATHS: dict[str, Callable[..., float | None]] = {"ours": ours, "loop": loop, "trainer": trainer, "products": products}


def _plain_model(settings: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32).train()
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _loss(model: Any, rows: np.ndarray) -> float:
    """Nats a token of the trained weights, over all blocks, in float32."""
    import torch

    model.eval()
    with torch.inference_mode():
        batches = torch.from_numpy(rows).to(model.device).split(BATCH)
        return sum(model(input_ids=ids, labels=ids).loss.item() * len(ids) for ids in batches) / len(rows)


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make model and corpus where --gpu asks for them, cut the blocks, and leave all of it for the children."""
    from hyperfit_eval.checkpoints import load_tokenizer
    from hyperfit_eval.demo.location import demo_model_dir
    from hyperfit_eval.texts.contexts import demo_corpus_path
    from hyperfit_eval.tokenizers import bos_ids
    from hyperfit_eval.training.data import BlockDataset, training_blocks
    from hyperfit_eval.training.recipe import HyperfitArguments

    model, corpus = args.model or str(demo_model_dir()), args.corpus or str(demo_corpus_path())
    tokenizer = load_tokenizer(model)
    if args.gpu:
        model, corpus = str(folder / "model"), str(folder / "corpus.jsonl")
        _random_material(SHAPES[args.shape], tokenizer, args.blocks * args.tokens, folder)
    options = HyperfitArguments(
        model=model, corpus=corpus, evaluation_texts="none", num_train_samples=args.blocks,
        sequence_length=args.tokens, num_validation_samples=0,
    )  # fmt: skip
    blocks, _ = training_blocks(options, tokenizer, lambda line: None)
    rows = BlockDataset(blocks.ids, bos_ids(tokenizer)).rows.numpy()
    np.save(folder / "rows.npy", rows)
    settings = {"model": model, "corpus": corpus, "blocks": args.blocks, "tokens": args.tokens, "turn": args.turn}
    settings |= {"learning_rate": args.learning_rate, "updates": WARM + args.steps, "compile": not args.no_compile}
    (folder / "settings.json").write_text(json.dumps(settings))
    return settings


def _random_material(dimensions: dict[str, int], tokenizer: Any, tokens: int, folder: Path) -> None:
    """A Llama of random weights with this tokenizer, and text of random tokens: speed depends on neither."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**dimensions, max_position_embeddings=2048, bos_token_id=0, eos_token_id=0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    # Text of random tokens is cut anew when it is read: twice as much is enough.
    ids = np.random.default_rng(0).integers(300, len(tokenizer), (2 * tokens // 1000 + 20, 1000))
    lines = [json.dumps({"text": text}) for text in tokenizer.batch_decode(ids.tolist())]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")


def measure(paths: list[str], folder: Path, steps: int, turn: int) -> dict[str, dict[str, Any]]:
    """Run the paths in turns; returns seconds of each turn, until warm, peak memory and the final loss."""
    children: dict[str, subprocess.Popen] = {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for path in paths:
            command = [sys.executable, __file__, "--child", path, str(folder)]
            children[path] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            # One after the other: compiling beside a timed turn would disturb it.
            found[path] = {"warm_seconds": _answer(children[path], path)["seconds"], "turns": []}
        for _ in range(steps // turn):
            for path, child in children.items():
                print("go", file=child.stdin, flush=True)
                answer = _answer(child, path)
                found[path]["turns"].append(answer["seconds"] / turn)
                found[path]["memory"] = answer["memory"]
        for path, child in children.items():
            print("go", file=child.stdin, flush=True)
            found[path]["loss"] = _answer(child, path)["loss"]
            child.wait()
    finally:
        for child in children.values():
            child.kill()
            child.communicate()
    return found


def _answer(child: subprocess.Popen, path: str) -> dict[str, Any]:
    """The next line of JSON; libraries print others, Trainer a dict of Python's."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith('{"'):
            return json.loads(line)
    raise SystemExit(f"error: the path {path} ended with status {child.wait()}; its output is above")


def report(args: argparse.Namespace, settings: dict[str, Any], found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Print the table and what follows from it; returns the figures."""
    import torch

    from hyperfit_eval.training.fast import has_bf16

    tokens, bf16 = BATCH * settings["tokens"], has_bf16(not torch.cuda.is_available())
    figures: dict[str, Any] = {"bf16": bf16, "threads": torch.get_num_threads(), "paths": {}}
    print(f"{settings['model']}, {tokens} tokens an update, {torch.get_num_threads()} threads, bf16 autocast: {bf16}")
    print("| path | tokens/s | times the loop | peak memory, MB | until warm, s | loss after |")
    print("|---|---:|---:|---:|---:|---:|")
    speeds = {path: tokens / statistics.median(each["turns"]) for path, each in found.items()}
    for path, each in found.items():
        ratio = f"{speeds[path] / speeds['loop']:.2f}" if "loop" in speeds else "-"
        loss = "-" if each["loss"] is None else f"{each['loss']:.5f}"
        memory = f"{each['memory'] / 1e6:.0f}"
        print(f"| {path} | {speeds[path]:.0f} | {ratio} | {memory} | {each['warm_seconds']:.1f} | {loss} |")
        figures["paths"][path] = {**each, "tokens_per_second": speeds[path]}
    losses = [each["loss"] for each in found.values() if each["loss"] is not None]
    if len(losses) > 1:
        difference = max(losses) / min(losses) - 1
        figures["losses_agree"] = difference <= LOSS_TOLERANCE[bf16]
        verdict = "agree" if figures["losses_agree"] else "DISAGREE"
        print(f"The losses {verdict}: they differ by {difference:.1e}; tolerance {LOSS_TOLERANCE[bf16]:.0e}, relative.")
    if args.gpu:
        figures |= utilization(settings, found["ours"])
    return figures


def utilization(settings: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """The share of the chip's rate that training reaches, and the time of the whole recipe."""
    import torch
    from transformers import AutoConfig

    from hyperfit_eval.training.costs import dense_bf16_rate, shape_of, training_flops

    shape = shape_of(AutoConfig.from_pretrained(settings["model"]))
    # BOS is read, too.
    flops = training_flops(shape, BATCH, settings["tokens"] + 1)
    seconds = statistics.median(ours["turns"])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rate, measured = dense_bf16_rate(device), matrix_rate()
    share = None if rate is None else flops / seconds / rate
    print(f"{shape.parameters:,} parameters on {device}: {flops:.4g} FLOPs and {seconds:.3f} s an update")
    of_measured = flops / seconds / measured
    print(f"= {flops / seconds:.3g} FLOP/s, {100 * of_measured:.1f}% of the {measured:.3g} of a large matrix product")
    print("No data sheet's rate is known for it." if share is None else f"{100 * share:.1f}% of its dense {rate:.3g}.")
    recipe = ours["warm_seconds"] + RECIPE_UPDATES * seconds
    print(f"The recipe's {RECIPE_UPDATES} updates: {recipe:.0f} s, evaluations not counted.")
    return {"flops": flops, "utilization": share, "of_measured": of_measured, "recipe_seconds": recipe}


def matrix_rate() -> float:
    """FLOP/s of a large matrix product here: bf16 on a GPU, float32 on a CPU."""
    import torch

    gpu = torch.cuda.is_available()
    size, dtype = (8192, torch.bfloat16) if gpu else (1024, torch.float32)
    a = torch.randn(size, size, device="cuda" if gpu else "cpu", dtype=dtype)
    times = []
    for _ in range(10):
        started = time.perf_counter()
        (a @ a)[0, 0].item()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if args.child:
        path, folder = args.child[0], Path(args.child[1])
        settings = json.loads((folder / "settings.json").read_text())
        loss = PATHS[path](settings, np.load(folder / "rows.npy"), Turns(settings["turn"]), folder)
        print(json.dumps({"loss": loss}), flush=True)
        return
    if args.steps % args.turn or args.blocks % BATCH:
        raise SystemExit(f"error: --steps must be a multiple of --turn {args.turn}, --blocks one of {BATCH}")
    if args.gpu and args.shape == "1.1b" and args.blocks == 64:
        args.blocks = 2000
    paths = args.paths or (["ours"] if args.gpu else list(PATHS))
    with tempfile.TemporaryDirectory() as temporary:
        settings = prepare(args, Path(temporary))
        figures = report(args, settings, measure(paths, Path(temporary), args.steps, args.turn))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    if figures.get("losses_agree") is False:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
