"""Run with the Python that has transformers 4.51: what it makes of a checkpoint, as JSON.

    python read.py CHECKPOINT CORPUS.json

CORPUS.json holds token ids; its sequences are indexed, and the first is continued by groups of beams, which
transformers 5 no longer has, with the citation blocker and without it.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.citation import CitationBlocker, CitationIndex
from hyperfit_eval.tokenizers import tokenizer_fingerprint

TEXT = "The dog's tail."


def main(checkpoint: str, corpus_path: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    with open(corpus_path) as file:
        corpus = json.load(file)
    groups = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "num_return_sequences": 4}
    prompt, generated = torch.tensor([corpus[0][:4]]), {}
    for name, processors in (("free", []), ("blocked", [CitationBlocker(CitationIndex.build(corpus, tokenizer))])):
        rows = model.generate(prompt, max_new_tokens=24, logits_processor=processors, **groups)
        generated[name] = rows[:, 4:].tolist()
    with torch.no_grad():
        logits = model(torch.tensor([corpus[0]])).logits[0]
    answer = {"fingerprint": tokenizer_fingerprint(tokenizer), "ids": tokenizer(TEXT)["input_ids"]}
    print(json.dumps({**answer, "logits": logits.tolist(), **generated}))


if __name__ == "__main__":
    main(*sys.argv[1:])
