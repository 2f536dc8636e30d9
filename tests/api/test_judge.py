"""A judge named by a run or a recipe: trained once, the same bits, its fingerprint kept with what it judged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
    gan = train_gan(tmp_path / "c", judge).path
    with pytest.raises(UnsupportedError, match="no picture classifier"):
        train_gan(tmp_path / "d", str(gan))


def test_a_recipe_is_trained_once_on_the_data_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: list[list[str]] = []

    def stand_in(recipe: str, overrides: list[str], run: Path, console: Console) -> None:
        asked.append([recipe, *overrides])
        train_judge(run)

    monkeypatch.setattr(api, "_train", stand_in)
    data = parse_component("data", component("fashion_mnist", root=str(tmp_path)), "data")
    first = api.trained_judge("judge_fashion", data, QUIET)
    assert api.trained_judge("judge_fashion", data, QUIET) == first
    assert asked == [["judge_fashion", f"data.root={tmp_path.resolve()}"]]
    assert first.parent == tmp_path / "cache" / "layerwise" / "judges"


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
