"""Gradients do not depend on how a batch is shared: two processes with uneven shares, a GAN with a lazy penalty."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from layerwise.data.examples import TensorExamples
from layerwise.data.feed import Feed
from layerwise.models.generative.dcgan import DCGAN
from layerwise.models.generative.dcgan import PRESETS as DCGANS
from layerwise.objectives.adversarial import Adversarial, AdversarialConfig
from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from layerwise.optim.groups import parameter_groups
from layerwise.optim.torch_optimizers import SGD, SGDConfig
from layerwise.parallel.distributed import World, init_world
from layerwise.train.loop import LoopSettings, PhasePlan, Trainer

# Sums in float64 in another order: rounding alone.
TOLERANCE = 1e-12


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def classify(world: World, count: int, micro: int | None, batch_norm: bool) -> Tensor:
    """Weights after three steps of SGD on `count` samples a step."""
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(6)] if batch_norm else []
    network = nn.Sequential(nn.Linear(4, 6), *middle, nn.Tanh(), nn.Linear(6, 3)).double()
    if batch_norm and world.size > 1:
        from layerwise.nn.batch_norm import synchronise_batch_norm

        synchronise_batch_norm(network, world.reduce_sum)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, features: Tensor) -> Tensor:
            return self.inner(features)

    generator = torch.Generator().manual_seed(1)
    examples = TensorExamples(
        {
            "features": torch.randn(3 * count, 4, generator=generator, dtype=torch.float64),
            "labels": torch.randint(0, 3, (3 * count,), generator=generator),
        }
    )
    net = Net()
    named = list(net.named_parameters())
    plan = PhasePlan(
        name="main",
        parameters=named,
        optimizer=SGD(SGDConfig(lr=0.5), parameter_groups(named, weight_decay=0.0)),
        schedule=lambda *_: 1.0,
    )
    feed = Feed(
        examples,
        lambda batch: batch,
        batch_size=count,
        micro_batch_size=micro,
        rank=world.rank,
        world_size=world.size,
    )
    objective = CrossEntropy(CrossEntropyConfig(class_weights=(1.0, 2.0, 0.5)))
    Trainer(net, objective, feed, [plan], LoopSettings(max_steps=3), world=world).fit()
    return flat(net)


CASES = [(31, 4, False), (31, None, False), (1, None, False), (31, None, True)]


def main(folder: Path) -> None:
    """One of two processes: every case, the weights saved by the first."""
    world = init_world(60.0, "cpu", init_method=f"file://{folder / 'meeting'}")
    found = [classify(world, *case) for case in CASES]
    if world.rank == 0:
        torch.save(found, folder / "found.pt")
    world.barrier()  # nobody leaves while another one still talks
    world.close()


def test_two_processes_with_uneven_shares_train_like_one(tmp_path: Path) -> None:
    processes = []
    for rank in range(2):
        env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        env["PYTHONPATH"] = str(Path(__file__).resolve().parents[2] / "src")
        command = [sys.executable, __file__, str(tmp_path)]
        processes.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for case, weights in zip(CASES, found, strict=True):
        count, _, batch_norm = case
        alone = classify(World(), count, None, batch_norm)
        assert torch.allclose(weights, alone, rtol=0, atol=TOLERANCE), case


def adversarial_step(micro: int | None, penalty: str) -> Tensor:
    """Weights of generator and discriminator after four steps, the lazy penalty in every second one."""
    torch.manual_seed(0)
    config = DCGANS["dcgan-tiny"]
    network = DCGAN(config).double()
    generator = torch.Generator().manual_seed(2)
    size = config.image_size if isinstance(config.image_size, tuple) else (28, 28)
    images = torch.rand(24, config.in_channels or 1, *size, generator=generator, dtype=torch.float64) * 2 - 1
    feed = Feed(TensorExamples({"images": images}), lambda batch: batch, batch_size=12, micro_batch_size=micro, seed=3)
    objective = Adversarial(AdversarialConfig(penalty=penalty, penalty_weight=0.3, penalty_every=2))  # pyright: ignore[reportArgumentType]
    objective.setup(network)
    assert objective.per_batch == ()
    plans = []
    for name in objective.phases:
        named = [(n, p) for n, p in network.named_parameters() if n.startswith(name)]
        optimizer = SGD(SGDConfig(lr=0.05), parameter_groups(named, weight_decay=0.0))
        plans.append(PhasePlan(name=name, parameters=named, optimizer=optimizer, schedule=lambda *_: 1.0))
    Trainer(network, objective, feed, plans, LoopSettings(max_steps=4)).fit()
    return flat(network)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
@pytest.mark.parametrize("micro", [4, 5, 1])
def test_a_gan_with_a_lazy_penalty_trains_alike_in_every_split(micro: int, penalty: str) -> None:
    whole = adversarial_step(None, penalty)
    assert torch.allclose(adversarial_step(micro, penalty), whole, rtol=0, atol=TOLERANCE)
    assert (adversarial_step(None, "none") - whole).abs().max() > 1e-6  # the penalty is there


if __name__ == "__main__":
    main(Path(sys.argv[1]))
