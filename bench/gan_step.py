"""Steps of DCGAN at 64 x 64, batches of 64: a step of the discriminator and one of the generator.

The networks of the DCGAN tutorial of PyTorch (512, 256, 128 and 64 maps, 100 latents, batch norm in both), Adam at
2e-4. Ours is the recipe `dcgan_fashion` with these networks and without penalty and averaged weights: precision and
memory format as chosen. The peers are that tutorial's script in a plain loop on pictures in memory: real and generated
pictures are judged and pulled back one after the other, the generator's step judges the same pictures again; as it
comes (float32, contiguous, the default Adam) and tuned (bf16 autocast, channels_last, the fused Adam). Ours has a bias
in layers without a norm and makes other pictures for the generator's step; the number of parameters tells whether all
train the same networks.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.limits import sides
from bench.made import PicturesConfig, made_pictures
from bench.measure import OURS, Goal, Workload
from bench.pace import Pace
from bench.paced_recipe import train_paced
from bench.plain_loop import autocast

BATCH, SIDE, LATENTS, PICTURES = 64, 64, 100, 256
WIDTHS = (512, 256, 128, 64)
RATE, BETAS = 2e-4, (0.5, 0.999)
WARM_UP, WINDOW = 2, 1  # steps


def _parameters(network: nn.Module) -> float:
    return float(sum(each.numel() for each in network.parameters()))


def ours(pace: Pace) -> None:
    adam = {"name": "Adam", "lr": RATE, "beta1": BETAS[0], "beta2": BETAS[1]}
    overrides: dict[str, Any] = {
        "data": {"name": "bench.made:Pictures", "count": PICTURES, "size": (SIDE, SIDE)},
        "model": {"name": "dcgan-2015", "widths": WIDTHS, "latent_size": LATENTS},
        "objective": "adversarial",
        "phases.discriminator.optimizer": adam,
        "phases.generator.optimizer": adam,
        "task.judge": None,
        "ema": None,
        "batch_size": BATCH,
    }
    train_paced(pace, "dcgan_fashion", overrides, warm_up=WARM_UP, window=WINDOW, check=_parameters)


def _generator() -> nn.Sequential:
    """The tutorial's."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(LATENTS, WIDTHS[0], 4, 1, 0, bias=False)]
    for inner, outer in itertools.pairwise(WIDTHS):
        layers += [nn.BatchNorm2d(inner), nn.ReLU(True), nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(WIDTHS[-1]), nn.ReLU(True), nn.ConvTranspose2d(WIDTHS[-1], 3, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Tanh())


def _discriminator() -> nn.Sequential:
    """The tutorial's; logits, as its loss with logits wants them."""
    widths = WIDTHS[::-1]
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Conv2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0))


def _loop(pace: Pace, *, tuned: bool) -> None:
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    generator, discriminator = _generator(), _discriminator()
    layout = torch.channels_last if tuned else torch.contiguous_format
    for network in (generator, discriminator):
        network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
    images, _ = made_pictures(PicturesConfig(count=PICTURES, size=(SIDE, SIDE)))
    pictures = images.float() / 127.5 - 1
    judge, make = (
        torch.optim.Adam(network.parameters(), lr=RATE, betas=BETAS, fused=True if tuned else None)
        for network in (discriminator, generator)
    )

    def judged(shown: Tensor, real: bool) -> Tensor:
        logits = discriminator(shown.contiguous(memory_format=layout)).float()
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def losses() -> Iterator[float]:
        while True:
            discriminator.zero_grad(set_to_none=True)
            with autocast(tuned):
                loss = judged(pictures[torch.randint(PICTURES, (BATCH,))], True)
            loss.backward()
            with autocast(tuned):
                fakes = generator(torch.randn(BATCH, LATENTS, 1, 1))
                loss = judged(fakes.detach(), False)
            loss.backward()
            judge.step()
            generator.zero_grad(set_to_none=True)
            with autocast(tuned):
                loss = judged(fakes, True)
            loss.backward()
            make.step()
            yield loss.item()

    check = _parameters(generator) + _parameters(discriminator)
    note = "bf16, channels_last, fused Adam" if tuned else "fp32"
    pace.steps(losses(), note, warm_up=WARM_UP, window=WINDOW, check=check)


def plain(pace: Pace) -> None:
    _loop(pace, tuned=False)


def tuned(pace: Pace) -> None:
    _loop(pace, tuned=True)


def step_flops() -> float:
    """Of the products of the script's step: the discriminator three times forward, twice backward by its weights and
    by its pictures and once by these alone, the generator once forward and backward. 2 x positions x 16 taps x maps.
    """
    sides = [SIDE // 2 ** (k + 1) for k in range(len(WIDTHS))]  # of the discriminator's maps
    channels = (3, *WIDTHS[::-1])
    network = sum(2 * side**2 * 16 * a * b for side, a, b in zip(sides, channels, channels[1:], strict=False))
    first = 2 * sides[0] ** 2 * 16 * channels[0] * channels[1]  # whose pictures' gradient only the generator wants
    discriminator = 3 * network + 2 * (2 * network - first) + network
    return float(BATCH * (discriminator + 3 * network))


_side = sides(__name__, ("pictures/s", BATCH), step_flops)
PLAIN, TUNED = "torch script", "torch script tuned"

WORKLOAD = Workload(
    title=f"DCGAN at {SIDE} x {SIDE}, batches of {BATCH}: a step of both networks, Adam",
    unit="step",
    launches=1,
    turns=5,
    contenders=(_side(OURS, "ours", "bf16"), _side(PLAIN, "plain", "fp32"), _side(TUNED, "tuned", "bf16")),
    goals=(Goal(peers=(PLAIN,), kind="speedup", value=1.5), Goal(peers=(TUNED,), kind="speedup")),
)
