"""Autoencoder, Boltzmann machine and deep belief network, on the digits that come with the install and on patterns
whose likelihood can be summed.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layerwise.api.configure import configure
from layerwise.api.train import train
from layerwise.core.console import Console
from layerwise.train.build import build


def trained(recipe: str, overrides: dict[str, Any]) -> tuple[dict[str, float], Any]:
    """Validation metrics after all stages, and the session."""
    session = build(configure(recipe, {"data": "digits", "batch_size": 32, **overrides}.items()).recipe)
    first_step = 0
    for index in range(len(session.stages())):
        trainer = session.trainer(index, first_step, ())
        trainer.fit()
        first_step += trainer.step
    with torch.no_grad():
        return session.evaluate("val", session.network.eval())[0], session


def test_a_small_autoencoder_beats_as_many_principal_components() -> None:
    found, _ = trained(
        "autoencoder_mnist", {"model.hidden_sizes": [128, 64], "model.code_size": 6, "epochs": 40, "batch_size": 64}
    )
    assert found["squared_error"] < 0.8 * found["pca_squared_error"]


def test_the_paper_s_stages_pre_train_each_machine_and_unroll() -> None:
    """Reconstruction of a code of 8 by four machines and no fine-tuning to speak of is far better than the mean."""
    stages = {f"stages.pretrain-{k}.epochs": 8 for k in (1, 2, 3, 4)}
    found, session = trained(
        "autoencoder_mnist_paper",
        {"model.hidden_sizes": [64, 48, 32], "model.code_size": 8, **stages, "stages.fine-tune.max_steps": 1},
    )
    images = session.splits.val.collate(torch.arange(len(session.splits.val)))["image"].double() / 255
    of_the_mean = float((images - images.mean(0)).square().sum() / len(images))
    assert found["squared_error"] < 0.75 * of_the_mean


def test_machines_that_saw_all_pictures_help_where_labels_are_few() -> None:
    """Five labels a class, 400 steps of fine-tuning."""
    small = {"model.hidden_sizes": [100, 100, 150], "stages.fine-tune.max_steps": 400, "stages.fine-tune.limit": 5}
    small |= {"model.dropout": 0.0, "model.input_dropout": 0.0}
    stages = {f"stages.pretrain-{k}.epochs": 20 for k in (1, 2, 3)}
    found, _ = trained("dbn_mnist_100", small | stages)
    scratch, _ = trained("dbn_mnist_100_scratch", small)
    assert found["accuracy"] > 0.7
    assert found["accuracy"] > scratch["accuracy"] + 0.1


def test_a_machine_learns_a_distribution_of_patterns(tmp_path: Path) -> None:
    """The 14 bars and stripes of 3 x 3 pixels (MacKay 2003), exact likelihood by summing over all 512 pictures: the
    best is log(1/14) = -2.64, independent fair pixels have -6.24.
    """
    lines = [np.array(bits, np.uint8)[:, None].repeat(3, 1) for bits in itertools.product((0, 1), repeat=3)]
    patterns = np.unique(np.stack([*lines, *(line.T for line in lines)]), axis=0)
    assert len(patterns) == 14
    np.savez(tmp_path / "bars.npz", x=255 * patterns.repeat(40, 0), y=np.arange(14).repeat(40))
    _, session = trained(
        "rbm_mnist",
        {
            "data": {"name": "npz", "root": str(tmp_path / "bars.npz")},
            "model.hidden_size": 16,
            "model.gibbs_steps": 2,
            "batch_size": 50,
            "max_steps": 2000,
            "epochs": 1000,
            "optimizer.lr": 0.5,
        },
    )
    rbm = session.network.double()
    everything = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)), dtype=torch.float64)
    with torch.no_grad():
        log_z = torch.logsumexp(-rbm.free_energy(everything), 0)
        likelihood = -rbm.free_energy(torch.from_numpy(patterns).double().flatten(1)) - log_z
    assert math.log(1 / 14) > float(likelihood.mean()) > -4.2


def test_time_goes_on_from_stage_to_stage(tmp_path: Path) -> None:
    overrides = {
        "data": "digits", "task.normalise": "unit", "model.hidden_sizes": [8, 8], "eval.every_epochs": None,
        "stages": [
            {"name": "below", "objective": {"name": "contrastive_divergence", "layer": 0}, "max_steps": 40},
            {"name": "above", "max_steps": 3},
        ],
    }  # fmt: skip
    run = train("dbn_mnist", overrides.items(), run=str(tmp_path / "run"), console=Console(quiet=True))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    times = [line["time_s"] for line in lines if "time_s" in line]
    assert times == sorted(times)
    assert lines[-1]["step"] == 43
    below = max(line["time_s"] for line in lines if line["step"] <= 40)
    assert json.loads((run.path / "report.json").read_text())["seconds"] > below
