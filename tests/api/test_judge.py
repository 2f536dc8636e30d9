"""A judge named by a run or a recipe: trained once, the same bits, its fingerprint kept with what it judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import layerwise as lw
from layerwise.api import judge as api
from layerwise.api.configure import configure
from layerwise.api.infer import evaluate
from layerwise.api.report import rewrite_report
from layerwise.api.train import train
from layerwise.core.config import component, parse_component
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.track.run_directory import RunDirectory

QUIET = Console(quiet=True)
GAN = {
    "data": "digits", "model": "dcgan-tiny", "model.image_size": None, "model.in_channels": None, "epochs": None,
    "max_steps": 4, "batch_size": 16, "eval.every_epochs": None, "eval.every_steps": 2, "task.evaluated": 20,
    "task.judged": 30,
}  # fmt: skip


def train_judge(path: Path, seed: int = 0) -> str:
    small = {"model": "convnet-tiny", "epochs": None, "max_steps": 3, "eval.every_epochs": None, "seed": seed}
    train("lenet5", [("model", "convnet-tiny"), *list(small.items())[1:]], run=str(path), console=QUIET)
    return str(path)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_judge(tmp_path_factory.mktemp("judge") / "run")


def train_gan(run: Path, judge: str, **changes: Any) -> Any:
    return train("dcgan_fashion", {**GAN, "task.judge": judge, **changes}.items(), run=str(run), console=QUIET)


def test_a_run_judges_and_eval_gives_the_same(judge: str, tmp_path: Path) -> None:
    done = train_gan(tmp_path / "gan", judge)
    assert {"feature_distance", "precision", "recall", "nearest_ratio"} <= {k.split("/")[1] for k in done.metrics}
    tables = json.loads((done.path / "report.json").read_text())["tables"]
    assert (tables["judge"], tables["judged"]) == (judge, 30)
    assert RunDirectory(done.path).read_env()["choices"]["judge"] == tables["judge_fingerprint"]
    assert "nearest_training.png" in json.dumps(json.loads((done.path / "report.json").read_text())["pictures"])
    again = evaluate(done.path)
    assert again["metrics"] == pytest.approx(done.metrics, rel=1e-4)
    assert again["tables"]["judge_fingerprint"] == tables["judge_fingerprint"]


def test_a_run_goes_on_with_the_same_judge_only(judge: str, tmp_path: Path) -> None:
    other = train_judge(tmp_path / "judge", seed=1)
    train_gan(tmp_path / "gan", other)
    (tmp_path / "judge").rename(tmp_path / "away")
    Path(judge).rename(tmp_path / "judge")
    try:
        with pytest.raises(UnsupportedError, match="judge:"):
            train_gan(tmp_path / "gan", other, max_steps=6)
    finally:
        (tmp_path / "judge").rename(judge)


def test_samples_are_drawn_at_each_evaluation_and_go_on_where_a_run_goes_on(judge: str, tmp_path: Path) -> None:
    folder = train_gan(tmp_path / "gan", judge).path / "pictures"
    first = {path.name: path.read_bytes() for path in folder.glob("samples-*.png")}
    assert sorted(first) == ["samples-000000002.png", "samples-000000004.png"]
    train_gan(tmp_path / "gan", judge, max_steps=6)
    second = {path.name: path.read_bytes() for path in folder.glob("samples-*.png")}
    assert sorted(second) == [*sorted(first), "samples-000000006.png"]
    assert second.items() >= first.items()
    with Image.open(folder / "course.png") as moving:
        assert getattr(moving, "n_frames") == 3  # noqa: B009
        moving.seek(2)
        with Image.open(folder / "samples-000000006.png") as last:
            assert np.array_equal(np.asarray(moving.convert("L")), np.asarray(last))
    shown = [name for _, name in json.loads((folder.parent / "report.json").read_text())["course"]["pictures"]]
    assert shown == ["pictures/course.png", *(f"pictures/{name}" for name in sorted(second))]
    straight = train_gan(tmp_path / "straight", judge, max_steps=6).path / "pictures"
    assert {path.name: path.read_bytes() for path in straight.glob("samples-*.png")} == second


def test_the_report_of_an_unfinished_run_has_its_samples(judge: str, tmp_path: Path) -> None:
    run = train_gan(tmp_path / "gan", judge).path
    (run / "report.json").unlink()
    assert "Step 4" in rewrite_report(run).read_text()


def test_what_cannot_judge_is_named(tmp_path: Path, judge: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.judge=nowhere.*judge_fashion"):
        train_gan(tmp_path / "a", "nowhere")
    with pytest.raises(ConfigError, match=r"data=fashion_mnist, this run has data=digits.*task\.judge=null"):
        train_gan(tmp_path / "b", "judge_fashion")
    torch.save(lw.create_model("convnet-tiny").state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ConfigError, match=r"bare\.pth: .*save_pretrained\(lw\.from_pretrained\(.*, model=NAME\)"):
        train_gan(tmp_path / "e", str(tmp_path / "bare.pth"))
    gan = train_gan(tmp_path / "c", judge).path
    with pytest.raises(UnsupportedError, match="no picture classifier"):
        train_gan(tmp_path / "d", str(gan))


def test_a_recipe_is_trained_once_on_the_data_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: list[list[str]] = []

    def stand_in(recipe: str, overrides: list[str], run: Path, console: Console) -> int:
        asked.append([recipe, *overrides])
        train_judge(run)
        return 0

    monkeypatch.setattr(api, "_train", stand_in)
    data = parse_component("data", component("fashion_mnist", root=str(tmp_path)), "data")
    first = api.trained_judge("judge_fashion", data, QUIET)
    assert api.trained_judge("judge_fashion", data, QUIET) == first
    assert asked == [["judge_fashion", f"data.root={tmp_path.resolve()}"]]
    assert first.parent == tmp_path / "cache" / "layerwise" / "judges"


@pytest.mark.parametrize("code", [3, 75])
def test_what_was_begun_and_cannot_go_on_is_trained_anew_but_not_what_was_stopped(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = parse_component("data", component("fashion_mnist", root=str(tmp_path)), "data")

    def interrupted(recipe: str, overrides: list[str], run: Path, console: Console) -> int:
        train_judge(run)
        status = run / "status.json"
        status.write_text(json.dumps({**json.loads(status.read_text()), "status": "stopped"}))
        return 75

    monkeypatch.setattr(api, "_train", interrupted)
    with pytest.raises(UnsupportedError, match="code 75"):
        api.trained_judge("judge_fashion", data, QUIET)

    def refuses(recipe: str, overrides: list[str], run: Path, console: Console) -> int:
        if run.exists():
            return code
        train_judge(run)
        return 0

    monkeypatch.setattr(api, "_train", refuses)
    if code == 75:
        with pytest.raises(UnsupportedError, match="code 75"):
            api.trained_judge("judge_fashion", data, QUIET)
    else:
        assert (api.trained_judge("judge_fashion", data, QUIET) / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_training_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    missing = parse_component("data", component("fashion_mnist", root=str(tmp_path)), "data")
    with pytest.raises(UnsupportedError, match=r"task\.judge=judge_fashion: its training ended with code 2"):
        api.trained_judge("judge_fashion", missing, QUIET)


@pytest.mark.slow
def test_a_judge_has_the_same_weights_whoever_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and the environment of torch's launcher are not handed on."""
    for name, threads in (("a", "1"), ("b", "2")):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        api._train("lenet5", ["epochs=null", "max_steps=3"], tmp_path / name, QUIET)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert api._fingerprint(tmp_path / "a", {}) == api._fingerprint(tmp_path / "b", {})


def test_fingerprints_tell_weights_and_recipes_apart(judge: str, tmp_path: Path) -> None:
    other = train_judge(tmp_path / "other", seed=1)
    config = Path(other) / "config.yaml"
    found = {api._fingerprint(judge, {}), api._fingerprint(other, {})}
    config.write_text(config.read_text().replace("seed: 1", "seed: 2"))
    assert len(found | {api._fingerprint(other, {})}) == 3


@pytest.fixture(scope="module")
def inception(
    inception_of_2015: Callable[[], nn.Module], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, nn.Module]:
    """A file like that of the Frechet Inception distance, and the network it is of, which gives features."""
    with torch.device("meta"):
        network = inception_of_2015()
    network = network.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict(keep_vars=True).items():
        with torch.no_grad():
            if value.dim() > 1:
                value.normal_(0, (2 * value.shape[0] / value.numel()) ** 0.5, generator=generator)
            elif name.endswith(("weight", "running_var")):
                value.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("num_batches_tracked"):
                value.zero_()
            else:
                value.normal_(0, 0.1, generator=generator)
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(network.state_dict(), path)
    network.fc = nn.Identity()
    return path, network


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 40, 32), (1, 3, 400, 350)])
def test_bytes_become_the_features_that_the_distance_is_published_for(
    inception: tuple[Path, nn.Module], shape: tuple[int, ...]
) -> None:
    judge = api._open(str(inception[0]), inception[0], 0, 10)
    assert judge.published
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = (pictures / 255).expand(-1, 3, -1, -1)
    x = nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
    with torch.no_grad():
        wanted = inception[1](2 * x - 1)
    assert wanted.shape == (shape[0], 2048)
    assert float((judge.features(pictures) - wanted).norm() / wanted.norm()) <= 1e-5


@pytest.mark.slow
def test_a_run_and_an_evaluation_take_the_weights_of_the_frechet_inception_distance(
    inception: tuple[Path, nn.Module], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = {"task.evaluated": 5, "task.judged": 5, "task.judged_training": 4}
    done = train_gan(tmp_path / "gan", str(inception[0]), **few, **{"eval.every_steps": None})
    assert done.metrics["test/feature_distance"] > 0
    tables = json.loads((done.path / "report.json").read_text())["tables"]
    assert (tables["judge"], tables["judged"]) == (str(inception[0]), 5)
    plain = train_gan(tmp_path / "plain", None, **few, **{"eval.every_steps": None})  # pyright: ignore[reportArgumentType]
    assert "test/feature_distance" not in plain.metrics
    again = evaluate(plain.path, [("task.judge", str(inception[0]))])
    assert again["tables"]["judge_fingerprint"] == tables["judge_fingerprint"]
    assert again["metrics"] == pytest.approx(done.metrics, rel=1e-3)
    assert "feature_distance is the Frechet Inception distance" in capfd.readouterr().err


def test_the_same_weights_under_another_name_are_a_classifier_like_others(
    inception: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    """Saved with the size of pictures and the pools of torchvision: not the published measure."""
    network = lw.from_pretrained(inception[0], model="inception_v3", auxiliary=False)
    lw.save_pretrained(network, tmp_path / "out", "torchvision")
    assert not api._open("out", tmp_path / "out", 0, 10).published
    lw.save_pretrained(lw.from_pretrained(inception[0]), tmp_path / "kept", "pytorch-fid")
    assert api._open("kept", tmp_path / "kept", 0, 10).published


RECIPES = (
    "gan_fashion", "dcgan_fashion", "wgan_gp_fashion", "stylegan2_fashion", "vae_fashion", "vqvae_fashion",
    "ddpm_fashion", "flow_fashion", "dit_fashion",
)  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_generator_of_fashion_mnist_has_the_same_judge_and_number(recipe: str) -> None:
    options: Any = configure(recipe).recipe.task.config
    assert (options.judge, options.judged) == ("judge_fashion", 2000)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_generator_of_fashion_mnist_builds(
    recipe: str, datasets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerwise.train.build import build

    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    session = build(configure(recipe, [("data.limit", 64)]).recipe)
    assert getattr(session.task, "border") == (2 if recipe == "stylegan2_fashion" else 0)  # noqa: B009
