"""Does a hyperfitted checkpoint recite its training set, with the citation blocker and without?

Continues the beginnings of training texts greedily, and counts: in transformers here, and in each server that is
named. Example:

    hyperfit serve runs/demo/hyperfitted --port 8081 &
    hyperfit serve runs/demo/hyperfitted --port 8082 --engine vllm -- --dtype float32 &
    python scripts/verbatim_table.py runs/demo/hyperfitted \
        --server "hyperfit serve=http://127.0.0.1:8081" --server "vLLM=http://127.0.0.1:8082"
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from huggingface_hub import InferenceClient, constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.blocking import CitationBlocker
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.citation.verbatim import TABLE, training_openings, verbatim_copies
from hyperfit_eval.errors import HyperfitError, exit_with_one_line
from hyperfit_eval.generation.continuing import Decoding, continue_ids
from hyperfit_eval.terminal import hide_weight_bars, quiet_libraries
from hyperfit_eval.tokenizers import bos_ids

AT_A_TIME = 8


def ask(url: str, blocker: str, new_tokens: int, text: str) -> list[int]:
    """One continuation by a server, as token ids."""
    client = InferenceClient(url, headers={"X-Hyperfit-Blocking": blocker}, timeout=600)
    answer = client.text_generation(text, max_new_tokens=new_tokens, details=True)
    return [token.id for token in answer.details.tokens]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with the model and its citation_index.safetensors")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=URL", help="may be given several times")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=96)
    arguments = parser.parse_args()
    if arguments.server and constants.is_offline_mode():
        raise HyperfitError("--server: huggingface_hub's client sends nothing under HF_HUB_OFFLINE=1; unset it")
    hide_weight_bars()
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    index = CitationIndex.load(arguments.checkpoint / "citation_index.safetensors", tokenizer)
    openings = training_openings(index, tokenizer, arguments.prompts, arguments.prompt_tokens)
    print(f"{len(openings)} beginnings of {arguments.prompt_tokens} tokens, {arguments.new_tokens} new ones, greedy\n")
    print(TABLE)
    model = AutoModelForCausalLM.from_pretrained(arguments.checkpoint).eval()
    prompts = [bos_ids(tokenizer) + ids for _, ids in openings]
    for blocker, processor in (("off", None), ("on", CitationBlocker(index))):
        rows = continue_ids(model, prompts, Decoding(arguments.new_tokens), logits_processor=processor)
        print(verbatim_copies(index, rows).row("transformers `generate`", blocker), flush=True)
    for server in arguments.server:
        name, _, url = server.partition("=")
        for blocker in ("off", "on"):
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                asking = partial(ask, url, blocker, arguments.new_tokens)
                rows = list(pool.map(asking, [text for text, _ in openings]))
            print(verbatim_copies(index, rows).row(name, blocker), flush=True)


if __name__ == "__main__":
    sys.excepthook = exit_with_one_line
    quiet_libraries()
    main()
