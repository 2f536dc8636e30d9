"""Image generation: latents in, pictures out, compared with pictures held back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, NonNegativeInt, PositiveInt, parse, to_tree
from layerwise.core.errors import ConfigError, DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Examples, Splits
from layerwise.data.fit import Fit
from layerwise.data.pictures import decode_image
from layerwise.nn.protocols import (
    Denoiser,
    GenerativeAdversarial,
    LatentVariable,
    PictureSampler,
    TiledPictures,
    Truncating,
    require,
)
from layerwise.objectives.base import Objective
from layerwise.ops.noise_schedules import NoiseProcess
from layerwise.ops.random import Draws
from layerwise.ops.sample_measures import frechet_distance, nearest_points
from layerwise.ops.samplers import SamplerConfig
from layerwise.tasks.base import Accumulator, Batch, Task
from layerwise.tasks.captions import Captions
from layerwise.tasks.denoising import Conditions, DrawsBetween, PictureOptions, latent_noise, take_noise_away
from layerwise.tasks.judge import Judge, JudgedMetrics, draw_distances
from layerwise.tasks.picture_grids import animate, chosen_evenly, enlarged, save_grid
from layerwise.tasks.preprocessing import Normalise
from layerwise.tasks.prompts import PromptMetrics, Prompts, choose_prompts, save_captioned

_MOST_VALUES = 1024  # values of a picture that the Frechet distance looks at before its principal components
_CHUNK = 16  # pictures made at once, always as many: a picture's bits do not depend on how many are asked for
_MOST_TOGETHER = 12_288  # numbers of a sample that is made with others at once: 3 x 64 x 64
_STRENGTH = 0.8  # share of a given picture's walk, where a person names none
_GRID = 64  # pictures of the report's grids
_CAPTIONED = 40  # pictures of a grid with captions
_SNAPSHOT, _SNAPSHOT_COLUMNS = 32, 8  # pictures that are drawn as training goes
_MOST_SNAPSHOTS = 6  # in the report, beside the animation of all
_PAIRS, _PAIRS_A_ROW = 24, 6  # of a sample and the training picture nearest to it
_ROWS, _POINTS = 6, 10  # of the report's picture of walks from noise to picture
Draw = Callable[[nn.Module, Tensor, Draws, Tensor, Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class ImageGenerationConfig:
    """Options of image generation.

    Args:
        components: principal components of the real pictures that the Frechet distance is measured in.
        seed: of the latents that are evaluated and shown in the report, fixed through a run.
        normalise: range of the model's pictures: "symmetric" is [-1, 1], "unit" is [0, 1].
        condition: what pictures are made to show: nothing in particular, a class, or what a text says.
        sampler: how a model that takes noise away goes about it, in evaluations and where nothing else is asked for.
        guidance: how strongly the condition counts then: 1 is the model's own prediction under it.
        evaluated: pictures made in an evaluation, by each process; None makes as many as there are real ones.
        judge: a classifier in whose features pictures are compared too: the name of a recipe (`judge_fashion`), which
            is trained where it has not been yet, or a run or checkpoint of your own; with the weights of the Frechet
            Inception distance `feature_distance` is that distance. None: no network judges.
        judged: pictures that it compares with as many real ones, at most. The last evaluation of a run makes no fewer.
        judged_training: training pictures that it looks for copies among after the last step, evenly spaced; 0: none.
        prompts: training captions whose pictures the judge is asked about in that evaluation, where captions have
            kinds that it knows.
    """

    components: PositiveInt = 64
    seed: NonNegativeInt = 0
    normalise: Literal["symmetric", "unit"] = "symmetric"
    condition: Literal["none", "class", "caption"] = "none"
    sampler: SamplerConfig = SamplerConfig()
    guidance: NonNegativeFloat = 1.0
    evaluated: PositiveInt | None = None
    judge: str | None = None
    judged: PositiveInt = 2000
    judged_training: NonNegativeInt = 100_000
    prompts: PositiveInt = 300


class GenerationMetrics(Accumulator):
    """Frechet distance and diversity of as many generated pictures as there are real ones.

    Pictures in [0, 1], averaged down to at most 1,024 values, are projected on the leading principal components of the
    real pictures of this very evaluation; the distance is taken there. No network judges, so the figure is
    deterministic and its space can be looked at: it sees shapes and brightness, not fine texture, and is not comparable
    with the Frechet Inception distance, which is `feature_distance` by that network (`task.judge`).
    Moments are all that is kept: they add up over batches and processes.

    `diversity` is the generated pictures' total variance over that of the real ones: 1 is as varied, near 0 is
    collapse.

    Args:
        components: at most so many principal components.
        seed: of the latents, hashed with the real picture's sample id.
        lowest: value of a black pixel, -1 or 0; a white one is 1.
        draw: makes pictures (network, sample ids, draws, tensor of their device and type, batch with the conditions).
        most: pictures to make; None makes one for each real one.
        judged: measures in a classifier's features, of the same pictures.
    """

    def __init__(
        self,
        components: int,
        seed: int,
        lowest: float = -1.0,
        draw: "Draw | None" = None,
        most: int | None = None,
        judged: JudgedMetrics | None = None,
    ) -> None:
        self.components, self.draws, self.lowest = components, Draws(seed, "image_generation", "evaluation"), lowest
        self.draw: Draw = draw or (lambda network, ids, draws, like, batch: draw_pictures(network, ids, draws, like))
        self.left = math.inf if most is None else most
        self.judged = judged
        self.newest: tuple[Batch, Tensor] = ({}, torch.empty(0))  # a batch's pictures, with what they were asked for
        self.moments: dict[str, Tensor] = {}

    def update(self, network: nn.Module, batch: Batch) -> None:
        images, count = batch["images"], int(min(len(batch["images"]), self.left))
        self.left -= count
        chosen = {name: column[:count] for name, column in batch.items()}
        fakes = images[:0]
        if count:
            fakes = self.draw(network, chosen["sample_ids"], self.draws, images, chosen)
        if fakes.shape[1:] != images.shape[1:]:
            raise ConfigError(
                f"The model makes pictures of {tuple(fakes.shape[1:])}, the data has {tuple(images.shape[1:])}."
            )
        self.newest = (chosen, fakes)
        self.update_from(images, fakes)

    def update_from(self, images: Tensor, fakes: Tensor) -> None:
        """Take in real and generated pictures [B, C, H, W] in [lowest, 1] directly."""
        if self.judged is not None:
            self.judged.update_from(_to_bytes(images, self.lowest), _to_bytes(fakes, self.lowest))
        for name, pictures in (("real", images), ("fake", fakes)):
            if len(pictures) == 0:
                continue
            x = _values(pictures, self.lowest)
            fresh = {
                f"{name}_count": torch.tensor(float(len(x)), dtype=torch.float64),
                f"{name}_sum": x.sum(0),
                f"{name}_products": x.T @ x,
            }
            self.moments |= {
                key: self.moments[key] + value if key in self.moments else value for key, value in fresh.items()
            }

    def state(self) -> dict[str, Tensor]:
        judged = {} if self.judged is None else self.judged.state()
        return {**self.moments, **{f"judged/{name}": value for name, value in judged.items()}}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        if self.judged is not None:
            prefix = "judged/"
            self.judged.merge(
                [{k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} for state in states]
            )
        present = [{k: v for k, v in state.items() if not k.startswith("judged/")} for state in states if state]
        self.moments = (
            {name: torch.stack([state[name] for state in present]).sum(0) for name in present[0]} if present else {}
        )

    def compute(self) -> dict[str, float]:
        if not self.moments:
            return {}
        (mean_1, covariance_1), (mean_2, covariance_2) = self._normal("real"), self._normal("fake")
        basis = torch.linalg.eigh(covariance_1).eigenvectors[:, -self.components :]
        distance = frechet_distance(
            basis.T @ mean_1, basis.T @ covariance_1 @ basis, basis.T @ mean_2, basis.T @ covariance_2 @ basis
        )
        return {
            **({} if self.judged is None else self.judged.compute()),
            "frechet_distance": distance,
            "diversity": float(covariance_2.trace() / covariance_1.trace().clamp(min=1e-12)),
        }

    def _normal(self, name: str) -> tuple[Tensor, Tensor]:
        count, total, products = (self.moments[f"{name}_{part}"] for part in ("count", "sum", "products"))
        mean = total / count
        return mean, products / count - torch.outer(mean, mean)

    def table(self) -> dict[str, Any]:
        if not self.moments:
            return {}
        covariance = self._normal("real")[1]
        kept = torch.linalg.eigvalsh(covariance)[-self.components :].sum() / covariance.trace().clamp(min=1e-12)
        return {
            "count": int(self.moments["real_count"]),
            "made": int(self.moments["fake_count"]),
            "components": self.components,
            "variance_in_components": float(kept),
            **({} if self.judged is None else self.judged.table()),
        }


def _values(pictures: Tensor, lowest: float) -> Tensor:
    """Pictures [B, C, H, W] in [lowest, 1] as rows of at most `_MOST_VALUES` values in [0, 1], float64 on the CPU."""
    channels, height, width = pictures.shape[1:]
    shrink = math.ceil(max(1.0, math.sqrt(channels * height * width / _MOST_VALUES)))
    size = (max(1, height // shrink), max(1, width // shrink))
    x = pictures.detach().double().cpu()
    return (F.adaptive_avg_pool2d(x, size) if size != (height, width) else x).flatten(1).sub(lowest).div(1 - lowest)


class ImageGeneration(Task):
    """Raw `image` uint8 [B, C, H, W] to model input `images` float [B, C, H, W] in [-1, 1] or [0, 1], at the size that
    the data has."""

    monitor = ("frechet_distance", "min")

    def __init__(self, config: ImageGenerationConfig) -> None:
        self.config = config
        if config.judge is not None:
            self.monitor = ("feature_distance", "min")
        self.judge: Judge | None = None  # set by whoever can train or open one
        self.border = 0  # pixels of padding on every side
        self._training: Examples | None = None
        self._judged: JudgedMetrics | None = None  # of the newest evaluation
        self.image_size: list[int] = []
        self.channels = 0
        self.class_names: list[str] = []
        self.captions: Captions | None = None
        self.kinds: list[str] = []  # of what captions ask for, where the data says them
        self.process: NoiseProcess | None = None
        self._prompts: Prompts | None = None  # training captions
        self._preprocessing: Normalise | None = None

    def bind(self, splits: Splits) -> None:
        part = next(split for split in (splits.train, splits.val, splits.test) if split is not None)
        first = part.collate(torch.tensor([0]))
        if "image" not in first:
            raise DataError(f"task=image_generation needs pictures; the data has columns {sorted(first)}.")
        if self.config.condition == "class":
            if "labels" not in first or not splits.facts.get("num_classes"):
                raise DataError("task.condition=class: the data has no classes. task.condition=none does without.")
            count = int(splits.facts["num_classes"])
            self.class_names = list(splits.class_names or map(str, range(count)))
        if self.config.condition == "caption":
            self.captions = Captions.learn(part)
            self.kinds = list(splits.class_names or ())
            self._prompts = choose_prompts(part, self.config.prompts, self.config.seed) if self.kinds else None
        self.channels, *self.image_size = first["image"].shape[1:]
        self.border, self._training = int(splits.extras.get("pad", 0)), splits.train
        mean, std = (0.5, 0.5) if self.config.normalise == "symmetric" else (0.0, 1.0)
        self._preprocessing = Normalise([mean] * self.channels, [std] * self.channels)

    def bind_objective(self, objective: Any) -> None:
        process = getattr(objective, "process", None)  # of a class read from source
        self.process = None if process is None else parse(NoiseProcess, to_tree(process), "process")

    def state(self) -> dict[str, Any]:
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "preprocessing": self.preprocessing().config(),
            "class_names": self.class_names,
            "captions": None if self.captions is None else self.captions.state(),
            "process": None if self.process is None else to_tree(self.process),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.image_size, self.channels = state["image_size"], state["channels"]
        self._preprocessing = Normalise(state["preprocessing"]["mean"], state["preprocessing"]["std"])
        self.class_names = list(state.get("class_names") or [])
        self.captions = Captions.from_state(state["captions"]) if state.get("captions") else None
        self.process = parse(NoiseProcess, state["process"], "process") if state.get("process") else None

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"in_channels": self.channels, "image_size": tuple(self.image_size)}
        facts["num_classes"] = len(self.class_names)  # 0: none, whether the data has classes or not
        return facts if self.captions is None else {**facts, "vocab_size": self.captions.tokenizer.vocab_size}

    def preprocessing(self) -> Normalise:
        if self._preprocessing is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._preprocessing

    def inputs(self, batch: Batch) -> Batch:
        found = {"images": self.preprocessing()(batch["image"]), "sample_ids": batch["sample_ids"]}
        if self.config.condition == "class":
            found["labels"] = batch["labels"]
        if self.captions is not None:
            found |= self.captions.inputs(batch)
            if self._prompts is not None:
                found["kinds"] = batch["labels"]
        return found

    def accumulator(self) -> Accumulator:
        """Metrics of as many pictures as `evaluated` says, and of the last evaluation as many as are judged.

        Raises:
            RuntimeError: a judge was asked for and nobody has set `judge`.
        """
        config, most = self.config, self.config.evaluated
        if config.judge is not None:
            if self.judge is None:
                raise RuntimeError(f"task.judge={config.judge} is opened before pictures are evaluated")
            looks_for_copies = self.concludes and config.judged_training > 0
            self._judged = JudgedMetrics(self.judge, config.judged, self._training if looks_for_copies else None)
            if most is not None and self.concludes:
                most = max(most, config.judged)
        made = GenerationMetrics(config.components, config.seed, self._lowest, self._draw_like, most, self._judged)
        if self.judge is None or self._prompts is None or not self.concludes:
            return made
        return PromptMetrics(
            made, self.judge, self.kinds, self._prompts, self._draw_prompts, lambda x: _to_bytes(x, self._lowest)
        )

    @property
    def _lowest(self) -> float:
        return -1.0 if self.config.normalise == "symmetric" else 0.0

    # ---------------------------------------------------------------------------------------------------------- drawing

    def _draw_like(self, network: nn.Module, sample_ids: Tensor, draws: Draws, like: Tensor, batch: Batch) -> Tensor:
        """Pictures under the conditions that the batch's real ones have."""
        wanted = batch.get("labels", batch.get("tokens"))
        return self._draw(network, sample_ids, draws, like, self._conditions(wanted, None), PictureOptions())

    def _draw_prompts(self, network: nn.Module, prompts: Prompts) -> Tensor:
        """uint8 [N, C, H, W] of captions; each depends on its sample id and the seed alone."""
        assert self.captions is not None
        like, draws = _like(network), Draws(self.config.seed, "image_generation", "prompts")
        tokens = self.captions.encode(prompts.texts).to(like.device)
        conditions = self._conditions(tokens, None)
        return _to_bytes(self._draw(network, prompts.ids, draws, like, conditions, PictureOptions()), self._lowest)

    def _draw(
        self,
        network: nn.Module,
        sample_ids: Tensor,
        draws: Draws,
        like: Tensor,
        conditions: Conditions | None,
        options: PictureOptions,
        *,
        last: int | None = None,
        watch: Callable[[Tensor, int], None] | None = None,
    ) -> Tensor:
        """Pictures [B, C, H, W] by whichever way the network has."""
        if not isinstance(network, Denoiser):
            drawn = DrawsBetween(draws, last) if last else draws
            return self._draw_at_once(network, sample_ids, drawn, like, conditions, options)
        if self.process is None:
            raise ConfigError("The model takes noise away, but nothing says how noise was added when it was trained.")
        ids, (height, width) = sample_ids.to(like.device), options.size or self.image_size
        shape = network.sample_shape(height, width)
        start = made_anew = None
        if options.image is not None:
            start = network.to_samples(self._read(options.image, height, width, like)).expand(len(ids), *shape)
        if options.mask is not None:
            white = self._read(options.mask, height, width, like).mean(1, keepdim=True) > 0
            made_anew = F.interpolate(white.float(), shape[1:], mode="nearest")
        samples = take_noise_away(
            network,
            latent_noise(draws, ids, shape, like, last=last),
            lambda step: draws.normal(ids, shape, f"noise-{step}").to(like.device, like.dtype),
            process=self.process,
            walk_config=options.walk(self.config.sampler),
            conditions=conditions,
            start=start,
            strength=1.0 if made_anew is not None else options.strength or _STRENGTH,
            made_anew=made_anew,
            watch=watch,
        )
        if options.tile is None:
            return network.to_images(samples)
        return require(network, TiledPictures, "--tile").to_images_in_tiles(samples, options.tile)

    def _draw_at_once(
        self,
        network: nn.Module,
        sample_ids: Tensor,
        draws: Draws,
        like: Tensor,
        conditions: Conditions | None,
        options: PictureOptions,
    ) -> Tensor:
        """Pictures of a model that takes no noise away step by step."""
        if options.truncation is not None:
            styled = require(network, Truncating, f"--truncation {options.truncation:g}")
            return styled.sample_truncated(sample_ids.to(like.device), draws, options.truncation)
        if conditions is None:
            return draw_pictures(network, sample_ids, draws, like)
        if not isinstance(network, LatentVariable) or not network.num_classes:
            raise ConfigError(f"{type(network).__name__} is told no class: task.condition=none, and no --prompt.")
        code = draws.normal(sample_ids.to(like.device), (network.code_size,), "code", like.dtype)
        return network.decode_pictures(code, conditions.wanted).clamp(0, 1)

    def _read(self, path: Path, height: int, width: int, like: Tensor) -> Tensor:
        """A picture file as model input [1, C, H, W]."""
        raw = decode_image(path, Fit(size=(height, width), interpolation="bicubic"), channels=self.channels)
        return self.preprocessing()(raw[None]).to(like.device, like.dtype)

    def _conditions(self, wanted: Tensor | None, options: PictureOptions | None) -> Conditions | None:
        """Conditions for tokens or classes of each sample; without any, none."""
        if wanted is None:
            return None
        guidance = self.config.guidance if options is None or options.guidance is None else options.guidance
        if self.captions is not None:
            text = options.negative if options is not None and options.negative is not None else ""
            unwanted = self.captions.encode([text]).to(wanted.device).expand(len(wanted), -1)
        else:
            unwanted = torch.full_like(wanted, len(self.class_names))
        return Conditions(wanted=wanted, unwanted=unwanted, guidance=guidance)

    def _asked(self, prompt: str | None, sample_ids: Tensor, options: PictureOptions) -> Conditions | None:
        """What a prompt asks for: a text, or the name of a class; without one every class in turn, or no text.

        Raises:
            ConfigError: the model knows no prompts, or no such class, or nothing to lead away from.
        """
        if options.negative is not None and self.captions is None:
            raise ConfigError("--negative is a text to lead away from; this model was not trained with texts.")
        if self.captions is not None:
            tokens = self.captions.encode([prompt or ""]).expand(len(sample_ids), -1)
            return self._conditions(tokens.to(sample_ids.device), options)
        if not self.class_names:
            for flag, given in (("--prompt", prompt), ("--guidance", options.guidance)):
                if given is not None:
                    raise ConfigError(f"This model generates from noise alone: leave {flag} out.")
            return None
        if prompt is None:
            return self._conditions(sample_ids % len(self.class_names), options)
        return self._conditions(torch.full_like(sample_ids, class_asked(prompt, self.class_names)), options)

    def make(
        self,
        network: nn.Module,
        count: int,
        seed: int,
        prompt: str | None = None,
        options: PictureOptions | None = None,
    ) -> Tensor:
        """uint8 [count, C, H, W] on the CPU; picture i is the same for every count."""
        options, last = options or PictureOptions(), None
        if options.interpolate:
            last = count - 1
        with torch.no_grad():
            return make_pictures(
                network,
                count,
                seed,
                self._lowest,
                lambda ids, draws, like: self._draw(
                    network, ids, draws, like, self._asked(prompt, ids.to(like.device), options), options, last=last
                ),
                self._together(network, options),
            )

    def _together(self, network: nn.Module, options: PictureOptions) -> int:
        """Pictures made at once: large ones one by one."""
        if not isinstance(network, Denoiser):
            return _CHUNK
        return _CHUNK if math.prod(network.sample_shape(*(options.size or self.image_size))) <= _MOST_TOGETHER else 1

    # ---------------------------------------------------------------------------------------------------------- showing

    def snapshot(self, network: nn.Module, folder: Path, step: int) -> None:
        """A grid of samples on the latents of `seed`, a column a class where there are classes."""
        columns = len(self.class_names) or _SNAPSHOT_COLUMNS
        count = columns * max(1, _SNAPSHOT // columns)
        made = self.make(network, count, self.config.seed)
        save_grid(enlarged(made), folder / f"samples-{step:09d}.png", columns=columns)

    def course(
        self, network: nn.Module, splits: Splits | None, objective: Objective, folder: Path
    ) -> tuple[list[str], list[tuple[str, Path]]]:
        """The snapshots, as an animation and some of them side by side."""
        frames = sorted(folder.glob("samples-*.png"))
        if len(frames) < 2:
            return [], []
        caption = f"The same latents at {len(frames)} evaluations, one after the other"
        found = [(caption, animate(frames, folder / "course.png"))]
        shown = chosen_evenly(frames, _MOST_SNAPSHOTS)
        return [], [*found, *((f"Step {int(frame.stem.split('-')[1]):,}", frame) for frame in shown)]

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """A grid of samples on fixed latents, how noise turns into pictures, and, with data, a grid of real ones."""
        found = [("Generated pictures, from the same latents at every evaluation", folder / "generated.png")]
        columns = len(self.class_names) or None  # a column a class
        count = _GRID if columns is None else columns * max(1, _GRID // columns)
        made = self.make(network, count, self.config.seed)
        save_grid(enlarged(made), found[0][1], columns=columns)
        if isinstance(network, Denoiser):
            caption = "From noise to picture: points of the walk, brought to the deviation of pictures"
            found.append((caption, folder / "walk.png"))
            save_grid(enlarged(self._trajectory(network)), found[-1][1], columns=_POINTS)
        real = splits and (splits.val or splits.train)
        if real:
            chosen = torch.linspace(0, len(real) - 1, min(_GRID, len(real))).long()
            found.append(("Real pictures of the validation part", folder / "real.png"))
            save_grid(enlarged(real.collate(chosen)["image"]), found[-1][1])
        found += self._pictures_of_captions(network, splits, folder)
        return [*found, *self._pictures_of_copies(made, splits, folder)]

    @torch.no_grad()
    def _pictures_of_captions(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Grids of captions and the pictures made of them: some of the training part, some that were held back."""
        found: list[tuple[str, Path]] = []
        if self.captions is None or splits is None:
            return found
        parts = (("training", splits.train), ("held-out", splits.test or splits.val))
        for name, examples in parts:
            if examples is None or examples.texts is None:
                continue
            chosen = torch.linspace(0, len(examples) - 1, min(_CAPTIONED, len(examples))).long()
            prompts = Prompts([str(examples.texts[i]) for i in chosen.tolist()], chosen, chosen)
            found.append((f"Pictures of {name} captions", folder / f"captions_{name}.png"))
            mode = network.training
            save_captioned(self._draw_prompts(network.eval(), prompts), prompts.texts, found[-1][1])
            network.train(mode)
        return found

    def _pictures_of_copies(self, made: Tensor, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Samples beside the training pictures nearest to them in the judge's features, and how near they are."""
        train = splits and splits.train
        if self.judge is None or not train or self.config.judged_training == 0:
            return []
        distances, places = nearest_points(self.judge.features(made), self.judge.training_features(train))
        first = distances.argsort(stable=True)[:_PAIRS]
        near = train.collate(self.judge.training_places(train)[places[first]])["image"]
        pairs, path = torch.stack([made[first], near], dim=1).flatten(0, 1), folder / "nearest_training.png"
        save_grid(enlarged(pairs), path, columns=_PAIRS_A_ROW * 2)
        caption = (
            f"Of the {len(made)} samples the {len(first)} nearest to training pictures in the judge's features, each "
            "with that training picture to its right"
        )
        found = [(caption, path)]
        if self._judged is not None and (both := self._judged.nearest()) is not None:
            caption = "How far generated and real pictures are from training pictures: a copy would be at 0"
            found.append((caption, draw_distances(*both, folder / "nearest_distances.png")))
        return found

    @torch.no_grad()
    def _trajectory(self, network: nn.Module) -> Tensor:
        """uint8 [rows * _POINTS, C, H, W]: each row one picture coming out of noise."""
        assert isinstance(network, Denoiser)
        like, ids = _like(network), torch.arange(_ROWS)
        points: list[Tensor] = []
        draws, options = Draws(self.config.seed, "image_generation", "generate"), PictureOptions()
        conditions = self._asked(None, ids.to(like.device), options)
        self._draw(network, ids, draws, like, conditions, options, watch=lambda x, _: points.append(x))
        chosen = [points[round(i * (len(points) - 1) / (_POINTS - 1))] for i in range(_POINTS)]
        shown = [network.to_images(x / x.std().clamp(min=1.0)) for x in chosen]
        rows = torch.stack([_to_bytes(images, self._lowest) for images in shown], dim=1)
        return rows.flatten(0, 1)

    def generate(
        self,
        network: nn.Module,
        *,
        prompt: str | None,
        count: int,
        seed: int,
        out: Path | None,
        options: PictureOptions | None = None,
    ) -> list[dict[str, Any]]:
        """`count` pictures: one PNG with all of them in a grid, or, where `out` is no file name, a folder with a PNG
        each.

        Picture i depends on seed and i alone. Without `out` the grid is generated.png in the current folder.

        Args:
            prompt: a text or the name of a class, where the model was trained with such.
            options: how the walk from noise to picture goes; of models that take noise away.

        Raises:
            ConfigError: a prompt or an option that the model knows nothing of, or another kind of file.
        """
        if options is not None and not isinstance(network, Denoiser):
            if of_no_use := options.beyond("interpolate", "truncation"):
                raise ConfigError(
                    f"{', '.join(of_no_use)}: for models that take noise away step by step; this one makes a picture "
                    "at once."
                )
        elif options is not None and options.truncation is not None:
            raise ConfigError("--truncation is of styles; this model takes noise away and has none.")
        out = out or Path("generated.png")
        if out.suffix not in ("", ".png"):
            raise ConfigError(f"-o {out}: must be a file that ends in .png, or a folder.")
        made = self.make(network, count, seed, prompt, options)
        if out.suffix:
            save_grid(made, out)
            return [{"file": str(out), "count": count, "seed": seed}]
        rows = [{"index": i, "file": str(out / f"{i:05d}.png"), "seed": seed} for i in range(count)]
        for row, picture in zip(rows, made, strict=True):
            save_grid(picture[None], Path(row["file"]), gap=0)
        return rows


def class_asked(prompt: str, class_names: Sequence[str]) -> int:
    """The class that a prompt names, in any case of letters.

    Raises:
        ConfigError: there is none of that name.
    """
    folded = [name.casefold() for name in class_names]
    if prompt.casefold() not in folded:
        near = did_you_mean(prompt, class_names) or f" The classes are {', '.join(class_names[:12])}."
        raise ConfigError(f"--prompt {prompt!r} is no class that the model was trained on.{near}")
    return folded.index(prompt.casefold())


def draw_pictures(network: nn.Module, sample_ids: Tensor, draws: Draws, like: Tensor) -> Tensor:
    """Pictures [B, C, H, W] by a model's own procedure, or from normal latents by a generator.

    Args:
        sample_ids: int64 [B]; a picture depends on its own and the draws alone.
        like: gives device and dtype.
    """
    if isinstance(network, PictureSampler):
        return network.sample_pictures(sample_ids.to(like.device), draws)
    gan = require(network, GenerativeAdversarial, "task=image_generation")
    latents = draws.normal(sample_ids, (gan.latent_size,), "latents").to(like.device, like.dtype)
    return gan.generator(latents)


@torch.no_grad()
def make_pictures(
    network: nn.Module,
    count: int,
    seed: int,
    lowest: float = -1.0,
    draw: Callable[[Tensor, Draws, Tensor], Tensor] | None = None,
    chunk: int = _CHUNK,
) -> Tensor:
    """uint8 [count, C, H, W] on the CPU; picture i is the same for every count. The network's mode is put back.

    Args:
        lowest: what the model gives for a black pixel; a white one is 1.
        draw: makes pictures (sample ids, draws, tensor of their device and type); None: `draw_pictures`.
        chunk: pictures made at once, always as many, so that no picture's bits depend on `count`.
    """
    like, draws, mode = _like(network), Draws(seed, "image_generation", "generate"), network.training
    network.eval()
    parts = []
    for start in range(0, count, chunk):
        ids = torch.arange(start, start + chunk)
        made = draw_pictures(network, ids, draws, like) if draw is None else draw(ids, draws, like)
        parts.append(_to_bytes(made, lowest))
    network.train(mode)
    return torch.cat(parts)[:count]


def _like(network: nn.Module) -> Tensor:
    """A tensor of the device and type that a network's inputs have; one whose layers are all packed has no parameters
    and is a float32 one on the CPU.
    """
    return next(network.parameters(), torch.empty(0))


def _to_bytes(pictures: Tensor, lowest: float) -> Tensor:
    scaled = (pictures.float() - lowest) * (255 / (1 - lowest))
    return scaled.round().clamp(0, 255).to(torch.uint8).cpu()


TASKS = {"image_generation": ImageGenerationConfig()}
