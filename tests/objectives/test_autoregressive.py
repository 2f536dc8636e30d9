"""Next-token cross-entropy against sums written out in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.compress.lora import LoRALinear
from layerwise.models.language.gpt import GPT, GPTConfig
from layerwise.objectives import autoregressive
from layerwise.objectives.autoregressive import Autoregressive, AutoregressiveConfig
from layerwise.objectives.base import Context
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


class Table(nn.Module):
    """Logits of the next token from a table of the current one."""

    def __init__(self, vocab_size: int = 5, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Parameter(torch.randn(vocab_size, vocab_size, dtype=dtype))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[tokens]


def batch(rows: int = 3, length: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, (rows, length), generator=generator)
    labels = torch.randint(5, (rows, length), generator=generator)
    labels[1, 2:] = -100
    return {"tokens": tokens, "labels": labels, "sample_ids": torch.arange(rows)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sum_and_count_are_those_of_the_targets(smoothing: float) -> None:
    network, data = Table(), batch()
    expected = 0.0
    for row, targets in zip(data["tokens"].tolist(), data["labels"].tolist(), strict=True):
        for token, target in zip(row, targets, strict=True):
            if target != -100:
                logits = network.logits[token].tolist()
                log_sum = math.log(sum(math.exp(x) for x in logits))
                expected += (1 - smoothing) * (log_sum - logits[target])
                expected += smoothing * sum(log_sum - x for x in logits) / 5
    objective = Autoregressive(AutoregressiveConfig(label_smoothing=smoothing))
    term = objective(network, data, CONTEXT)["nll"]
    assert float(term.sum.detach()) == pytest.approx(expected, abs=1e-10)
    assert term.count == 10 == objective.counts(data, "main")["nll"]


def test_gradients_do_not_depend_on_the_split() -> None:
    objective, data = Autoregressive(AutoregressiveConfig()), batch()
    grads: list[Tensor] = []
    for sizes in ([3], [1, 2], [1, 1, 1]):
        network = Table()
        parts = [
            dict(zip(data, values, strict=True))
            for values in zip(*(v.split(sizes) for v in data.values()), strict=True)
        ]
        count = sum(objective.counts(part, "main")["nll"] for part in parts)
        for part in parts:
            (objective(network, part, CONTEXT)["nll"].sum / count).backward()
        assert network.logits.grad is not None
        grads.append(network.logits.grad)
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0], atol=1e-12, rtol=0)


def test_a_batch_without_targets_counts_nothing_and_has_no_gradient() -> None:
    network, data = Table(), batch()
    data["labels"].fill_(-100)
    term = Autoregressive(AutoregressiveConfig())(network, data, CONTEXT)["nll"]
    term.sum.backward()
    assert (term.count, float(term.sum.detach())) == (0, 0)
    assert network.logits.grad is not None
    assert not bool(network.logits.grad.any())


def test_the_loss_of_bf16_logits_is_float32() -> None:
    network = Table(dtype=torch.bfloat16)
    assert Autoregressive(AutoregressiveConfig())(network, batch(), CONTEXT)["nll"].sum.dtype == torch.float32


class Headed(nn.Module):
    """A table of features and a linear layer with a bias: what `VocabularyHead` asks for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(5, 3, dtype=torch.float64), nn.Linear(3, 5, dtype=torch.float64)
        self.calls = 0

    @property
    def output_embedding(self) -> nn.Module:
        return self.head

    def forward_features(self, tokens: Tensor) -> Tensor:
        return self.table(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.forward_features(tokens))


def _gpt() -> nn.Module:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=5, max_seq_len=8, d_model=8, num_layers=2, num_heads=2, dropout=0.0)
    return GPT(config).double()


@pytest.mark.parametrize("build", [Headed, _gpt])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_logits_taken_in_parts_give_the_loss_and_gradients_of_all_at_once(
    build: type[nn.Module], smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, data = Autoregressive(AutoregressiveConfig(label_smoothing=smoothing)), batch()
    found: list[list[Tensor]] = []
    for most in (1 << 24, 7):  # of this batch's 60 logits
        monkeypatch.setattr(autoregressive, "chunk_size", lambda weight, most=most: most)
        network = build()
        total = objective(network, data, CONTEXT)["nll"].sum
        found.append([total, *torch.autograd.grad(total, list(network.parameters()))])
        assert getattr(network, "calls", 0) in (0, int(most > 60))
    for parts, whole in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-12, rtol=1e-12)


def test_a_head_that_was_changed_from_outside_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoregressive, "chunk_size", lambda weight: 1)
    network = Headed()
    network.head.__class__ = LoRALinear
    network.head.lora_a, network.head.lora_b = (nn.Parameter(torch.ones(s).double()) for s in ((2, 3), (5, 2)))
    network.head.lora_scale, network.head.lora_dropout = 1.0, 0.0
    total = Autoregressive(AutoregressiveConfig())(network, batch(), CONTEXT)["nll"].sum
    assert network.calls == 1
    assert bool(torch.autograd.grad(total, network.head.lora_a)[0].any())
