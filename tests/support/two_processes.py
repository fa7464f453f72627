"""Run by torch.distributed.run with two CPU processes: the task's values are gathered by lm-eval.

On a CPU lm-eval's HFLM never takes part in more than one process (it looks for GPUs), so rank, world
size and accelerator are given to it here; the evaluator, its sharding and its gathering are the real ones.
"""

import json
import sys
from pathlib import Path

from accelerate import Accelerator
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.harness.location import tasks_dir

TASK = "hyperfit_openended_demo"


def main() -> None:
    checkpoint, output = sys.argv[1:]
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    lm = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(checkpoint).eval(), tokenizer=tokenizer, batch_size=2)
    lm.accelerator, lm._rank, lm._world_size = accelerator, accelerator.process_index, 2
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    results = simple_evaluate(
        model=lm, tasks=[TASK], limit=6, task_manager=manager, log_samples=True, bootstrap_iters=2
    )
    if accelerator.is_main_process:
        ids = sorted(sample["texts"]["id"] for sample in results["samples"][TASK])
        Path(output).write_text(json.dumps({"results": results["results"][TASK], "ids": ids}))
    accelerator.end_training()


if __name__ == "__main__":
    main()
