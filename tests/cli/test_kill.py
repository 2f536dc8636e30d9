"""SIGKILL at random moments, saves included: the resumed run ends bit for bit like the uninterrupted one.

`LAYERWISE_KILLS=13 make test-kill` kills every recipe 13 times; the default is 2. Each run saves a state every few
steps, so that many of the
kills fall into a save.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
KILLS = int(os.environ.get("LAYERWISE_KILLS", "2"))

# recipe -> (folder of the data set it needs, overrides that make it short)
CASES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "lenet5": (None, ("max_steps=400", "batch_size=16", "eval.every_steps=50", "keep.every_steps=7")),
    **{
        recipe: (
            "images/fashion-mnist",
            ("max_steps=60", "batch_size=16", "eval.every_steps=40", "keep.every_steps=3", "task.judge=null", *small),
        )
        for recipe, small in {"dcgan_fashion": (), "gan_fashion": ("model.hidden_sizes=32,64",)}.items()
    },
    **{
        recipe: (
            "images/fashion-mnist",
            (
                f"model={model}",
                "data.limit=30",
                "task.evaluated=8",
                "task.judge=null",
                "task.sampler.steps=2",
                "max_steps=60",
                "batch_size=16",
                "eval.every_steps=40",
                "keep.every_steps=3",
            ),
        )
        for recipe, model in {
            "ddpm_fashion": "ddpm-tiny",
            "flow_fashion": "ddpm-tiny",
            "dit_fashion": "dit-tiny",
        }.items()
    },
    "latent_openmoji": (
        "image-text/openmoji",
        (
            "data.size=16",
            "data.limit=3",
            "model.vae={name: autoencoder-kl-tiny, latent_channels: 4}",
            "model.unet=latent-unet-tiny",
            "model.text_encoder={name: clip-text-tiny, vocab_size: null, max_seq_len: 32}",
            "task.judge=null",
            "task.sampler.steps=2",
            "stages.autoencoder.epochs=2",
            "stages.diffusion.epochs=4",
            "keep.every_steps=3",
        ),
    ),
    "moco_fashion": (
        "images/fashion-mnist",
        ("max_steps=60", "batch_size=32", "eval.every_steps=40", "keep.every_steps=3"),
    ),
    "resnet_cifar_fashion": (
        "images/fashion-mnist",
        ("max_steps=60", "data.limit=100", "batch_size=16", "eval.every_steps=40", "keep.every_steps=3"),
    ),
    # Dropout, auxiliary heads and weights that a schedule has moved, of every family of picture classifiers.
    **{
        recipe: (
            "images/cifar10-subset",
            (
                "max_steps=30",
                "data.limit=40",
                "batch_size=16",
                "eval.every_epochs=null",
                "eval.every_steps=20",
                "keep.every_steps=3",
                *small,
            ),
        )
        for recipe, small in {
            "alexnet_cifar": ("model.hidden=16",),
            "vgg_cifar": ("model.widths=8,8,16,16,16", "model.hidden=16"),
            "googlenet_cifar": (),
            "efficientnet_cifar": ("model.drop_path=0.2",),
            "vit_cifar": ("model.num_layers=2", "model.drop_path=0.2"),
        }.items()
    },
    "bert_tiny_wikipedia": (
        "text/enwiki-sample",
        ("max_steps=40", "task.vocab_size=400", "task.max_tokens=32", "eval.every_steps=20", "keep.every_steps=3"),
    ),
    "adding_lstm": (
        None,
        ("max_steps=40", "batch_size=8", "eval.every_epochs=null", "eval.every_steps=20", "keep.every_steps=3"),
    ),
    "reinforce_cartpole": (None, ("max_steps=40", "eval.every_steps=20", "keep.every_steps=2")),
    "perceptron": (None, ("keep.every_steps=11",)),
    "backprop_xor": (None, ("keep.every_steps=9",)),
    "gpt_shakespeare": (
        "text/tinyshakespeare",
        ("max_steps=60", "batch_size=8", "eval.every_steps=50", "keep.every_steps=3"),
    ),
    # A pass has 31 steps: kills fall inside passes, and states are carried over the end of one.
    "lstm_shakespeare": (
        "text/tinyshakespeare",
        (
            "max_steps=45",
            "batch_size=128",
            "task.seq_len=256",
            "model.hidden_size=16",
            "eval.every_steps=25",
            "keep.every_steps=3",
        ),
    ),
    "gpt_text": (
        "text/enwiki-sample",
        (
            "data=wikipedia_sample",
            "task.seq_len=64",
            "task.vocab_size=400",
            "max_steps=60",
            "batch_size=8",
            "eval.every_steps=50",
            "keep.every_steps=3",
        ),
    ),
    "transformer_multi30k": (
        "text/multi30k",
        (
            "max_steps=40",
            "model=transformer-tiny",
            "model.vocab_size=null",
            "model.max_seq_len=100",
            "data.limit=300",
            "task.vocab_size=400",
            "task.beams=1",
            "task.max_tokens=30",
            "batch_size=16",
            "keep.every_steps=3",
            "eval.every_steps=30",
        ),
    ),
    "seq2seq_multi30k": (
        "text/multi30k",
        (
            "max_steps=40",
            "model.d_model=16",
            "model.hidden_size=16",
            "data.limit=300",
            "task.vocab_size=400",
            "task.beams=1",
            "task.max_tokens=30",
            "batch_size=16",
            "keep.every_steps=3",
            "eval.every_steps=30",
        ),
    ),
    "fasttext_sst": ("text/sst", ("max_steps=150", "eval.every_steps=40", "keep.every_steps=3")),
    "text_fine_tuning": (
        "text/sst",
        (
            "data=sst",
            "model=bert-tiny",
            "model.max_seq_len=64",
            "task.max_tokens=64",
            "task.tokenizer=wordpiece",
            "task.vocab_size=500",
            "max_steps=100",
            "eval.every_steps=40",
            "keep.every_steps=3",
        ),
    ),
    "adult_mlp": ("tabular/adult", ("max_steps=150", "eval.every_steps=50", "keep.every_steps=5")),
    "adult_resnet": ("tabular/adult", ("max_steps=100", "eval.every_steps=50", "keep.every_steps=5")),
    "gcn_cora": ("graphs/planetoid", ("max_steps=200", "eval.every_steps=20", "keep.every_steps=3")),
    "detector_shapes": (None, ("max_steps=50", "batch_size=8", "eval.every_steps=40", "keep.every_steps=3")),
    "rbm_mnist": (
        "images/mnist",
        ("data.limit=100", "max_steps=60", "model.gibbs_steps=2", "keep.every_steps=3", "eval.every_steps=50"),
    ),
    "dbn_mnist": (
        "images/mnist",
        ("data.limit=100", "max_steps=30", "keep.every_steps=2", "eval.every_steps=50"),
    ),
    "autoencoder_mnist": (
        "images/mnist",
        ("data.limit=100", "max_steps=60", "batch_size=32", "keep.every_steps=3", "eval.every_steps=40"),
    ),
    "stylegan2_fashion": (
        "images/fashion-mnist",
        (
            "max_steps=40",
            "data.limit=30",
            "batch_size=8",
            "model.channel_base=128",
            "model.channel_max=16",
            "objective.augment=[translation]",
            "task.judge=null",
            "eval.every_steps=30",
            "keep.every_steps=3",
        ),
    ),
    "wgan_gp_fashion": (
        "images/fashion-mnist",
        (
            "max_steps=20",
            "data.limit=100",
            "batch_size=16",
            "eval.every_steps=15",
            "keep.every_steps=2",
            "task.judge=null",
        ),
    ),
    "vae_mnist": (
        "images/mnist",
        ("data.limit=100", "task.samples=3", "max_steps=60", "keep.every_steps=3", "eval.every_steps=40"),
    ),
    "vqvae_fashion": (
        "images/fashion-mnist",
        (
            "data.limit=30",
            "batch_size=16",
            "stages.codes.epochs=2",
            "stages.prior.epochs=1",
            "keep.every_steps=3",
            "objective.revive_below=0.9",
            "task.judge=null",
        ),
    ),
    "vae_fashion": (
        "images/fashion-mnist",
        (
            "epochs=null",
            "max_steps=60",
            "data.limit=100",
            "batch_size=16",
            "eval.every_epochs=null",
            "eval.every_steps=25",
            "eval.monitor=feature_distance",
            "keep.every_steps=3",
            "task.evaluated=50",
        ),
    ),
    "transfer_pictures": ("images/cifar10-subset", ("max_steps=60", "keep.every_steps=3", "eval.every_steps=40")),
}

# recipe -> (the option that names a run which comes before, that run's recipe, overrides that make it short)
BEFORE: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "transfer_pictures": ("init", "transfer_pictures_source", ("max_steps=5", "data.limit=20", "batch_size=32")),
    "vae_fashion": ("task.judge", "judge_fashion", ("max_steps=5", "data.limit=100", "batch_size=32")),
}


def start(recipe: str, overrides: tuple[str, ...], run: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "LAYERWISE_OFFLINE": "1"}
    command = [sys.executable, "-m", "layerwise", "train", recipe, *overrides, "--run", str(run), "--quiet"]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors.decode()


def newest(run: Path) -> str:
    return max((path.name for path in (run / "state").glob("step-*")), default="")


def reproducible(run: Path) -> list[dict[str, Any]]:
    """Lines of metrics without the timed fields."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("time", "samples_per_s"))} for line in lines]


@pytest.mark.kill
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", list(CASES))
def test_a_killed_run_ends_like_an_uninterrupted_one(recipe: str, tmp_path: Path) -> None:
    needs, overrides = CASES[recipe]
    root = os.environ.get("LAYERWISE_DATA") or str(SOURCE.parent.parent / "shared" / "data")
    if needs is not None and not (Path(root) / needs).exists():
        pytest.skip(f"{needs} is not beside the repository")
    os.environ["LAYERWISE_DATA"] = root
    if recipe in BEFORE:
        option, *first = BEFORE[recipe]
        finish(start(*first, tmp_path / "before"))
        overrides = (f"{option}={tmp_path / 'before'}", *overrides)
    straight = tmp_path / "straight"
    finish(start(recipe, overrides, straight))
    chance = random.Random(f"{recipe}{KILLS}")
    killed = attempt = 0
    while killed < KILLS:
        attempt += 1
        run = tmp_path / f"killed-{attempt}"
        while killed < KILLS:
            before = newest(run)
            process = start(recipe, overrides, run)
            while newest(run) == before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.25))
            if process.poll() is not None:
                finish(process)
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        finish(start(recipe, overrides, run))
        assert (run / "model" / "model.safetensors").read_bytes() == (
            straight / "model" / "model.safetensors"
        ).read_bytes()
        assert json.dumps(reproducible(run)) == json.dumps(reproducible(straight))
