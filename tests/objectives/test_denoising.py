"""Denoising diffusion and flow matching against direct float64 computations, sample by sample, from the papers."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.models.generative.latent_diffusion import PRESETS as LATENT
from layerwise.models.generative.latent_diffusion import LatentDiffusion
from layerwise.models.generative.unet import PRESETS, UNet
from layerwise.objectives.base import Context, Objective
from layerwise.objectives.denoising import Denoising, DenoisingConfig
from layerwise.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from layerwise.ops.noise_schedules import NoiseProcess
from layerwise.ops.random import Draws

BATCH = 8
SPLITS = [[8], [3, 3, 2], [1, 7]]


@torch.no_grad()
def make_net() -> UNet:
    torch.manual_seed(0)
    net = UNet(PRESETS["ddpm-tiny"]).double()
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def make_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    labels = torch.randint(5, (BATCH,), generator=generator)
    return {"images": images, "labels": labels, "sample_ids": torch.randperm(1000, generator=generator)[:BATCH]}


def make_context(training: bool = True, step: int = 4) -> Context:
    return Context(step=step, epoch=0, phase="main", draws=Draws(3, "noise", step, "main"), training=training)


def loss_of_split(objective: Objective, net: torch.nn.Module, sizes: list[int], training: bool = True) -> Tensor:
    batch = make_batch()
    parts = [
        dict(zip(batch, values, strict=True)) for values in zip(*(v.split(sizes) for v in batch.values()), strict=True)
    ]
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for part in parts:
        ((name, term),) = objective(net, part, make_context(training)).items()
        assert term.count == objective.counts(part, "main")[name]
        total, count = total + term.sum, count + term.count
    return total / count


def direct_denoising(net: UNet, prediction: str, min_snr: float | None, dropout: float) -> Tensor:
    """Equation 14 of Ho et al. for each sample alone; min-SNR weights of Hang et al., section 3.4."""
    batch, draws, losses = make_batch(), make_context().draws, []
    ids, product, squared = batch["sample_ids"], 1.0, []
    for i in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
        squared.append(product)
    times = draws.integers(ids, (), "time", 1000)
    noise = draws.normal(ids, (1, 8, 8), "noise", torch.float64)
    left_out = draws.uniform(ids, (), "condition") < dropout
    for i in range(BATCH):
        a, s = math.sqrt(squared[times[i]]), math.sqrt(1 - squared[times[i]])
        label = torch.tensor([5 if left_out[i] else int(batch["labels"][i])])
        said = net((a * batch["images"][i] + s * noise[i])[None], times[i : i + 1].float(), label)[0]
        x, ratio = batch["images"][i], a**2 / s**2
        target = {"eps": noise[i], "x0": x, "v": a * noise[i] - s * x}[prediction]
        weight = 1.0
        if min_snr is not None:
            least = min(ratio, min_snr)
            weight = {"eps": least / ratio, "x0": least, "v": least / (ratio + 1)}[prediction]
        losses.append(weight * (said - target).square().mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
@pytest.mark.parametrize("min_snr", [None, 5.0])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_denoising_of_every_split_equals_the_direct_computation(
    prediction: Any, min_snr: float | None, sizes: list[int]
) -> None:
    net = make_net()
    config = DenoisingConfig(process=NoiseProcess(prediction=prediction), min_snr=min_snr, condition_dropout=0.4)
    objective = Denoising(config)
    objective.setup(net)
    found, wanted = loss_of_split(objective, net, sizes), direct_denoising(net, prediction, min_snr, 0.4)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    for got, direct in zip(
        torch.autograd.grad(found, list(net.parameters())),
        torch.autograd.grad(wanted, list(net.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(got, direct, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("times", ["uniform", "logit_normal"])
@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_flow_matching_of_every_split_equals_the_direct_computation(times: Any, sizes: list[int]) -> None:
    net, batch, draws = make_net(), make_batch(), make_context().draws
    objective = FlowMatching(FlowMatchingConfig(times=times, condition_dropout=0.4))
    objective.setup(net)
    ids, losses = batch["sample_ids"], []
    noise = draws.normal(ids, (1, 8, 8), "noise", torch.float64)
    left_out = draws.uniform(ids, (), "condition") < 0.4
    drawn = (draws.uniform if times == "uniform" else draws.normal)(ids, (), "time", torch.float64)
    for i in range(BATCH):
        t = float(drawn[i]) if times == "uniform" else 1 / (1 + math.exp(-float(drawn[i])))
        x, e = batch["images"][i], noise[i]
        label = torch.tensor([5 if left_out[i] else int(batch["labels"][i])])
        said = net(((1 - t) * x + t * e)[None], torch.tensor([1000 * t], dtype=torch.float32), label)[0]
        losses.append((said - (e - x)).square().mean())
    found = loss_of_split(objective, net, sizes)
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-6, atol=1e-9)  # times are float32


def test_conditions_are_left_out_while_training_only() -> None:
    net = make_net()
    always = Denoising(DenoisingConfig(condition_dropout=0.999))
    never = Denoising(DenoisingConfig(condition_dropout=0.0))
    trained = loss_of_split(always, net, [8])
    assert not torch.allclose(trained, loss_of_split(never, net, [8]))
    assert torch.equal(loss_of_split(always, net, [8], training=False), loss_of_split(never, net, [8], training=False))


def test_reflow_learns_the_lines_that_the_network_of_the_start_draws() -> None:
    """Pairs are (noise, its end after Euler's steps with the frozen network); the data is not looked at."""
    net = make_net()
    frozen, draws, batch = copy.deepcopy(net), make_context().draws, make_batch()
    objective = FlowMatching(FlowMatchingConfig(condition_dropout=0.0, reflow_steps=3))
    objective.setup(net)
    assert objective.teacher is not None
    assert not any(parameter.requires_grad for parameter in objective.teacher.parameters())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)  # training goes on; the pairs stay those of the start
    noise = draws.normal(batch["sample_ids"], (1, 8, 8), "noise", torch.float64)
    with torch.no_grad():
        x = noise
        for level in (1.0, 2 / 3, 1 / 3):
            x = x - frozen(x, torch.full((BATCH,), 1000 * level), batch["labels"]) / 3
        t = draws.uniform(batch["sample_ids"], (), "time", torch.float64)
        share = t[:, None, None, None]
        said = net((1 - share) * x + share * noise, t.float() * 1000, batch["labels"])
        wanted = (said - (noise - x)).square().mean()
    torch.testing.assert_close(loss_of_split(objective, net, [8]).detach(), wanted, rtol=1e-6, atol=1e-9)
    term = objective(net, {**batch, "images": torch.zeros_like(batch["images"])}, make_context())["flow_matching"]
    torch.testing.assert_close((term.sum / term.count).detach(), wanted, rtol=1e-6, atol=1e-9)


def test_latents_are_drawn_and_texts_are_left_out() -> None:
    torch.manual_seed(0)
    net = LatentDiffusion(LATENT["latent-diffusion-tiny"])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images, ids = torch.rand(4, 3, 16, 16) * 2 - 1, torch.arange(4)
    tokens, empty = torch.randint(1, 39, (4, 8)), torch.zeros(4, 8, dtype=torch.int64)
    batch = {"images": images, "sample_ids": ids, "tokens": tokens, "empty_tokens": empty}
    objective = Denoising(DenoisingConfig(condition_dropout=0.5))
    objective.setup(net)
    draws, context = make_context().draws, make_context()
    mean, log_variance = net.vae.encode(images)
    clean = (mean + (0.5 * log_variance).exp() * draws.normal(ids, (4, 8, 8), "latents")) * 0.18215
    times, noise = draws.integers(ids, (), "time", 1000), draws.normal(ids, (4, 8, 8), "noise")
    a, s = (level.float()[:, None, None, None] for level in NoiseProcess().levels(times))
    seen = torch.where((draws.uniform(ids, (), "condition") < 0.5)[:, None], empty, tokens)
    assert 0 < int((seen == 0).all(1).sum()) < 4
    said = net.unet(a * clean + s * noise, times.float(), net.text_encoder(seen).last_hidden_state)
    term = objective(net, batch, context)["denoising"]
    torch.testing.assert_close(term.sum / term.count, (said - noise).square().mean(), rtol=1e-4, atol=1e-6)
    term.sum.backward()
    assert all(parameter.grad is None for parameter in net.vae.parameters())  # latents are given, not learned
    assert net.text_encoder.text_model.embeddings.token_embedding.weight.grad is not None


def test_what_does_not_go_together_is_refused() -> None:
    rectified = NoiseProcess(schedule="rectified", prediction="velocity")
    with pytest.raises(ConfigError, match="flow_matching"):
        DenoisingConfig(process=rectified)
    with pytest.raises(ConfigError, match="denoising"):
        FlowMatchingConfig(process=NoiseProcess())
    with pytest.raises(UnsupportedError, match="sample_shape"):
        Denoising(DenoisingConfig()).setup(torch.nn.Linear(2, 2))
