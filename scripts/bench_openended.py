"""Costs of the task beside the bare work: one table, from one run on one machine.

    python scripts/bench_openended.py --model $(hyperfit demo-model)
    cd FOLDER_WITH_DATASETS && HF_HUB_OFFLINE=1 python .../bench_openended.py --task hyperfit_openended

"Bare" is `model.generate` over the same contexts in the same batches plus one forward pass over the
original texts that takes their loss. "Task" is lm-eval's `simple_evaluate` from building the requests
to the finished table, selection of the texts included. The two take turns, and the medians are compared.
"""

import argparse
import statistics
import time

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.generation import cut_passages
from hyperfit_eval.harness.location import tasks_dir
from hyperfit_eval.texts.contexts import demo_texts, select_texts
from hyperfit_eval.tokenizers import bos_ids


def parse_args() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(demo_model_dir()))
    parser.add_argument("--task", default="hyperfit_openended_demo")
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def bare(model, prompts: list[list[int]], texts: list[list[int]], batch_size: int) -> None:
    """The same tokens, generated and scored with nothing around them."""
    with torch.inference_mode():
        for start in range(0, len(prompts), batch_size):
            ids = torch.tensor(prompts[start : start + batch_size], device=model.device)
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=224, min_new_tokens=224
            )
        for start in range(0, len(texts), batch_size):
            ids = torch.tensor(texts[start : start + batch_size], device=model.device)
            model(input_ids=ids, labels=ids, use_cache=False).loss.item()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lm = HFLM(pretrained=args.model, batch_size=args.batch_size, device=device)
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    passages = (demo_texts() if args.task.endswith("_demo") else select_texts()).passages
    bos, cuts = bos_ids(lm.tokenizer), cut_passages(lm.tokenizer, passages)
    prompts = [bos + context for context, _ in cuts]
    texts = [bos + context + original for context, original in cuts]
    seconds: dict[str, list[float]] = {"bare": [], "task": []}
    for _ in range(args.rounds):
        started = time.perf_counter()
        bare(lm.model, prompts, texts, args.batch_size)
        seconds["bare"].append(time.perf_counter() - started)
        started = time.perf_counter()
        simple_evaluate(model=lm, tasks=[args.task], task_manager=manager, bootstrap_iters=2)
        seconds["task"].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{len(passages)} contexts in batches of {args.batch_size}, {torch.get_num_threads()} threads")
    print(f"| {'':4} | median s | ratio | all s |")
    print("|---|---|---|---|")
    for name, median in medians.items():
        times = ", ".join(f"{value:.1f}" for value in seconds[name])
        print(f"| {name} | {median:.1f} | {median / medians['bare']:.2f} | {times} |")


if __name__ == "__main__":
    main()
