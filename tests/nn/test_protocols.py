"""Protocols tell what a network offers."""

import pytest
import torch
from torch import nn

from layerwise.core.errors import UnsupportedError
from layerwise.models.language.gpt import GPT, GPTConfig
from layerwise.nn.protocols import ActorCritic, Cached, EnergyModel, Features, GenerativeAdversarial, require


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator, self.latent_size = nn.Linear(2, 4), nn.Linear(4, 1), 2


def test_a_decoder_offers_features_and_cache() -> None:
    gpt = GPT(GPTConfig(vocab_size=5, max_seq_len=4, d_model=8, num_layers=1, num_heads=2))
    assert isinstance(gpt, Features)
    assert isinstance(gpt, Cached)
    assert not isinstance(gpt, EnergyModel)


def test_a_pair_of_networks_is_adversarial() -> None:
    assert isinstance(Pair(), GenerativeAdversarial)
    assert not isinstance(nn.Linear(2, 4), GenerativeAdversarial)


def test_require_gives_the_network_back() -> None:
    pair = Pair()
    assert require(pair, GenerativeAdversarial, "a test") is pair
    assert require(nn.Linear(2, 2), ActorCritic, "a test")(torch.zeros(1, 2)).shape == (1, 2)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UnsupportedError, match="generate needs a model with init_cache, max_seq_len; Linear has none"):
        require(nn.Linear(2, 2), Cached, "generate")
    with pytest.raises(UnsupportedError, match="discriminator, generator, latent_size"):
        require(nn.Linear(2, 2), GenerativeAdversarial, "adversarial")
