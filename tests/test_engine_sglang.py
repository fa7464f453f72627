"""SGLang's hook, on stand-ins with the shapes of its classes: SGLang itself is not run."""

from array import array
from types import SimpleNamespace

import citation_tokenizers as kinds
import pytest
import torch

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.engines import sglang
from hyperfit_eval.engines.environment import INDEX, BlockerSettings
from hyperfit_eval.engines.windows import WindowBlocker
from hyperfit_eval.errors import HyperfitError

INF = float("inf")


def request(output_ids, custom_params=None):
    return SimpleNamespace(
        output_ids=array("q", output_ids), sampling_params=SimpleNamespace(custom_params=custom_params)
    )


def test_rows_are_blocked_by_their_requests():
    tokenizer = kinds.byte_level()
    the, t, he, dog = tokenizer.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog"])
    hook = sglang.SamplerHook(BlockerSettings("index", None, False))
    logits = torch.zeros(5, len(tokenizer))
    requests = [
        request([9, the, t, he]),
        request([the, t, he], {"hyperfit_blocking": "off"}),
        request([]),
        request([the, t, he], {"hyperfit_blocking": True}),
        request([the, t, he], {"hyperfit_blocking": "a bad value must not end the others' requests"}),
    ]
    batch = SimpleNamespace(reqs=requests)
    info = SimpleNamespace(penalizer_orchestrator=SimpleNamespace(batch=batch))

    def original(sampler, logits, sampling_info):
        return logits

    with pytest.raises(HyperfitError, match="--disable-overlap-schedule"):  # its sampler was never started
        hook.preprocess(original, None, logits, info)
    hook._blocker = WindowBlocker(CitationIndex.build([[the, t, he, dog]], tokenizer, ngram=3))
    assert (hook.preprocess(original, None, logits, info) == -INF).nonzero().tolist() == [[0, dog], [3, dog], [4, dog]]
    # Overlap scheduling hands on a copy without its requests, speculation several rows for each.
    for shown in (None, SimpleNamespace(batch=None), SimpleNamespace(batch=SimpleNamespace(reqs=requests[:2]))):
        with pytest.raises(HyperfitError, match="which request each row is for"):
            hook.preprocess(original, None, logits, SimpleNamespace(penalizer_orchestrator=shown))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "add --disable-overlap-schedule"),
        ({"disable_overlap_schedule": True, "speculative_algorithm": "EAGLE"}, "--speculative-algorithm EAGLE: "),
        ({"disable_overlap_schedule": True, "enable_custom_logit_processor": True}, "pickled code out of requests"),
    ],
)
def test_refuses_what_goes_around(settings, message):
    with pytest.raises(HyperfitError, match=message):
        sglang.refuse_bypasses(settings)


def test_does_nothing_where_no_index_is_named(monkeypatch):
    monkeypatch.delenv(INDEX, raising=False)
    sglang.register()
