"""The judge of generated pictures: a classifier that is trained once, kept in the cache, and the same for every model.

What is kept lies in `~/.cache/layerwise/judges/RECIPE-HASH`, HASH being that of the resolved recipe: a run like any
other. It is trained in a process of its own with one thread, so that nothing of the run that asks for it has a say.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.configure import configure
from layerwise.core import discovery
from layerwise.core.config import Component
from layerwise.core.console import Console
from layerwise.core.errors import EXIT_CANNOT, EXIT_WRONG, ConfigError, UnsupportedError
from layerwise.data.download import alone, cache_folder
from layerwise.interop import frechet_inception
from layerwise.interop.layouts import recognise
from layerwise.track import files
from layerwise.track.run_directory import RunDirectory

if TYPE_CHECKING:
    from layerwise.tasks.judge import Judge
    from layerwise.train.build import Session

_SHOWN = 16  # hexadecimal digits of a fingerprint


def attach_judge(session: "Session", console: Console) -> None:
    """Give the session's task the judge that `task.judge` names, if any; its fingerprint is one of the choices that
    must be the same where a run goes on.

    Raises:
        ConfigError: there is no such recipe, run or checkpoint, or it was trained on other data.
        UnsupportedError: it is no picture classifier with features, or could not be trained.
    """
    from layerwise.tasks.image_generation import ImageGeneration

    task = session.task
    if not isinstance(task, ImageGeneration) or (asked := task.config.judge) is None:
        return
    if asked in discovery.recipe_modules():
        source = trained_judge(asked, session.recipe.data, console)
    else:
        source = Path(asked).expanduser() if Path(asked).expanduser().exists() else asked
    task.judge = _open(asked, source, task.border, task.config.judged_training)
    task.judge.network.to(session.device)
    session.choices["judge"] = task.judge.fingerprint
    measure = "; feature_distance is the Frechet Inception distance" if task.judge.published else ""
    console.info(f"task.judge={asked}: fingerprint {task.judge.fingerprint}{measure}")


def trained_judge(recipe: str, data: Component | None, console: Console) -> Path:
    """The run of a judge's recipe in the cache; trained first where it is not there or was left unfinished.

    Args:
        data: of the run that asks: its folder is taken, so that nothing is downloaded twice.

    Raises:
        ConfigError: the recipe is of other data.
        UnsupportedError: its training failed.
    """
    configured = configure(recipe)
    own = configured.recipe.data
    if own is None or data is None or own.name != data.name:
        raise ConfigError(
            f"task.judge={recipe} learns from data={own.name if own else None}, this run has data="
            f"{data.name if data else None}. Name a classifier of these pictures (task.judge=RUN), or leave the judge "
            "out: task.judge=null."
        )
    digest = hashlib.sha256(configured.yaml().encode()).hexdigest()[:_SHOWN]
    run = RunDirectory(cache_folder() / "judges" / f"{recipe}-{digest}")
    with files.storage_errors(run.path.parent):
        run.path.parent.mkdir(parents=True, exist_ok=True)
    with alone(run.path.with_name(run.path.name + ".lock")):
        if not _finished(run):
            console.info(f"task.judge={recipe}: trained first, in a few minutes, and kept in {run.path}")
            root = getattr(data.config, "root", None)
            overrides = [f"data.root={Path(root).expanduser().resolve()}"] if root else []
            begun = run.exists()
            code = _train(recipe, overrides, run.path, console)
            if begun and code in (EXIT_WRONG, EXIT_CANNOT):  # damaged, or begun by another version
                console.info(f"task.judge={recipe}: trained anew, what had been begun cannot go on.")
                shutil.rmtree(run.path)
                code = _train(recipe, overrides, run.path, console)
            if code:
                raise UnsupportedError(
                    f"task.judge={recipe}: its training ended with code {code}; see above, and {run.path}."
                )
            if not _finished(run):
                raise UnsupportedError(f"task.judge={recipe}: {run.path} holds no finished run.")
    return run.path


def _finished(run: RunDirectory) -> bool:
    return run.exists() and run.status()["status"] == "finished"


_CHILD = (
    "import sys; from layerwise.parallel.launch import die_with_parent; die_with_parent(); "
    "from layerwise.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def _train(recipe: str, overrides: Iterable[str], run: Path, console: Console) -> int:
    """Exit code of the training."""
    source = str(Path(__file__).resolve().parents[2])
    environment = {name: value for name, value in os.environ.items() if name not in _LAUNCHED}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [source, environment.get("PYTHONPATH", "")])),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    flags = ["--quiet"] if console.quiet else []
    command = [sys.executable, "-c", _CHILD, "train", recipe, *overrides, "--run", str(run), *flags]
    return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode


def _open(asked: str, source: str | Path, border: int, most_training: int) -> "Judge":
    import torch

    from layerwise.api.open import open_model
    from layerwise.interop.weights import identified
    from layerwise.tasks.judge import Judge
    from layerwise.tasks.pictures import PictureTask

    try:
        checkpoint = identified(recognise(source))
        if checkpoint.model is None:
            raise ConfigError(
                "a bare weights file does not say its architecture. Make a directory of it: lw.save_pretrained("
                f"lw.from_pretrained({asked!r}, model=NAME), DIRECTORY, 'torchvision')."
            )
        network, task, tree = open_model(source)
    except ConfigError as error:
        recipes = ", ".join(name for name in discovery.recipe_modules() if name.startswith("judge_"))
        raise ConfigError(f"task.judge={asked}: {error} Recipes of judges: {recipes}.") from error
    if not isinstance(task, PictureTask):
        raise UnsupportedError(f"task.judge={asked} is no picture classifier.")
    network.requires_grad_(False)
    published = checkpoint.layout is not None and checkpoint.layout.library == frechet_inception.LIBRARY
    if published:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fingerprint = _fingerprint(source, tree)
    return Judge(network, task, asked, fingerprint, border, published=published, most_training=most_training)


def _fingerprint(source: str | Path, tree: dict[str, Any]) -> str:
    """Hash of a judge's weights, of how it prepares pictures, and of the recipe that it was trained by."""
    digest = hashlib.sha256()
    for path in recognise(source).files:
        digest.update(path.read_bytes())
    digest.update(json.dumps(tree, sort_keys=True, default=str).encode())
    config = Path(source) / "config.yaml"
    if config.is_file():
        recipe = [line for line in config.read_bytes().splitlines() if not line.strip().startswith(b"root:")]
        digest.update(b"\n".join(recipe))
    return digest.hexdigest()[:_SHOWN]
