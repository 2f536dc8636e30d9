"""Networks with packed matrices equal the networks that they were made of."""

from typing import Any

import pytest
import torch
from torch import nn

from layerwise.api.models import create_model
from layerwise.core.errors import UnsupportedError
from layerwise.infer.pack_linear import PackedLinear, pack_linears
from layerwise.nn.beam_search import BeamSearch, beam_search

SIZES: dict[str, dict[str, Any]] = {
    "transformer-small": {"d_model": 32, "num_heads": 4, "d_ff": 48},
    "seq2seq": {"d_model": 32, "hidden_size": 24},
    "seq2seq-bahdanau": {"d_model": 32, "hidden_size": 24},
}


def _made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, vocab_size=71, **SIZES[name]).eval()


@pytest.mark.parametrize("name", SIZES)
def test_forward_is_equal_up_to_rounding(name: str) -> None:
    network = _made(name)
    packed = pack_linears(network)
    tokens = torch.randint(71, (3, 9)), torch.randint(71, (3, 5)), torch.arange(9) < torch.tensor([[9], [4], [7]])
    expected = network(*tokens)
    assert (packed(*tokens) - expected).norm() <= 1e-5 * expected.norm()  # float32, another order of sums
    assert any(isinstance(module, PackedLinear) for module in packed.modules())


@pytest.mark.parametrize("name", SIZES)
def test_beams_find_the_same(name: str) -> None:
    network = _made(name)
    source, mask = torch.randint(71, (3, 9)), torch.arange(9) < torch.tensor([[9], [4], [7]])
    search = BeamSearch(start_token=1, stop_token=2, beams=4, max_new_tokens=12)
    expected = beam_search(network, source, mask, search)
    found = beam_search(pack_linears(network), source, mask, search)
    assert [h.tokens.tolist() for each in found for h in each] == [h.tokens.tolist() for each in expected for h in each]


def test_the_network_stays_as_it_is() -> None:
    network = _made("transformer-small")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    packed = pack_linears(network)
    with torch.no_grad():
        network.get_parameter("shared.weight").zero_()
    tokens = torch.ones(1, 3, dtype=torch.int64)
    assert packed(tokens, tokens).abs().sum() > 0
    assert network.state_dict().keys() == before.keys()
    assert not any(isinstance(module, PackedLinear) for module in network.modules())


def test_bf16_is_near() -> None:
    network = _made("transformer-small")
    tokens = torch.randint(71, (3, 9)), torch.randint(71, (3, 5))
    expected = network(*tokens)
    found = pack_linears(network, torch.bfloat16)(*tokens)
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() <= 2e-2 * expected.norm()


def test_training_and_other_types_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="eval"):
        pack_linears(_made("transformer-small").train())
    with pytest.raises(UnsupportedError, match="float32"):
        pack_linears(_made("transformer-small").double())
