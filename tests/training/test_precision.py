"""Updates that are lost to the rounding of 16-bit weights."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.training.fast import compile_layers, decoder_layers, plain
from hyperfit_eval.training.precision import lost_updates, refuse_lost_updates


def test_updates_by_hand():
    # bfloat16 next to 1: 1 - 2^-8 below, 1 + 2^-7 above. A step of 2^-9 is half of the smaller gap: a tie, and
    # ties go back to 1.
    one = torch.ones(1, dtype=torch.bfloat16)
    assert lost_updates([one], 2**-9) == 1
    assert lost_updates([one], 2**-8) == 0
    # The same step moves a weight of a half, whose gaps are half as wide.
    assert lost_updates([torch.tensor([1, 0.5], dtype=torch.bfloat16)], 2**-9) == 0.5
    assert lost_updates([torch.ones(1, dtype=torch.float16)], 2**-12) == 1
    assert lost_updates([torch.ones(1)], 2**-12) == 0


def test_sixteen_bits_at_the_papers_learning_rate_are_refused():
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64)
    refuse_lost_updates(layer, 1e-6)
    layer.to(torch.bfloat16)
    refuse_lost_updates(layer, 1e-2)
    with pytest.raises(
        HyperfitError, match=r"--learning_rate 1e-06: 99\.\d% of the bfloat16 weights .*--weights_dtype"
    ):
        refuse_lost_updates(layer, 1e-6)


def test_those_updates_are_lost_indeed():
    torch.manual_seed(0)
    for dtype, changed in ((torch.float32, True), (torch.bfloat16, False)):
        layer = torch.nn.Linear(64, 64, bias=False).to(dtype)
        before = layer.weight.detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-6)
        layer(torch.randn(8, 64, dtype=dtype)).square().sum().backward()
        optimizer.step()
        assert ((layer.weight != before).float().mean() > 0.9) == changed


def test_the_decoder_layers_are_found(tiny_model):
    assert decoder_layers(tiny_model) == list(tiny_model.model.layers)
    assert decoder_layers(torch.nn.Linear(2, 2)) == []


# Tracing provokes warnings, and means to hide them.
@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_give_the_same_under_the_same_names(tiny_checkpoint):
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    ids, names = torch.arange(10)[None], list(model.state_dict())
    expected = model(ids).logits
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    assert compile_layers(model, backend) == 2
    with plain(model):
        assert torch.equal(model(ids).logits, expected) and not compiled
    torch.testing.assert_close(model(ids).logits, expected)
    assert compiled and list(model.state_dict()) == names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_train_the_same(tiny_checkpoint):
    ids, losses = torch.randint(1, 50, (4, 24), generator=torch.Generator().manual_seed(0)), {}
    for compiled in (False, True):
        model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
        if compiled:
            assert compile_layers(model, "aot_eager") == 2
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses[compiled] = []
        for _ in range(5):
            loss = model(ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[compiled].append(loss.item())
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)


def test_plain_takes_autocast_and_gradients_away_and_gives_them_back(tiny_model):
    ids = torch.arange(10)[None]
    expected = tiny_model(ids).logits
    rounded = torch.autocast("cpu", dtype=torch.bfloat16)(tiny_model.forward)
    tiny_model.forward = rounded
    tiny_model.train()
    try:
        with plain(tiny_model):
            logits = tiny_model(ids).logits
        assert logits.dtype == torch.float32 and torch.equal(logits, expected) and not logits.requires_grad
        assert tiny_model.forward is rounded and tiny_model.training
    finally:
        del tiny_model.forward
        tiny_model.eval()
