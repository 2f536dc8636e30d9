"""How pictures were prepared for a checkpoint, read from and written to other libraries' files. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.data.fit import Fit, Interpolation

Tree = dict[str, Any]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From a picture file to model input: `fit`, then `(x / 255 - mean) / std` per channel."""

    fit: Fit
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def resized(self) -> tuple[int, int]:
        """Height and width that the picture covers (or is squashed to) before its centre is cut out."""
        return self.fit.resize or self.fit.size


def imagenet(height: int, width: int) -> Preprocessing:
    """What torchvision's reference training evaluates with: seven eighths of the shorter side, bilinear."""
    resize = (round(height * 256 / 224), round(width * 256 / 224))
    return Preprocessing(fit=Fit(size=(height, width), resize=resize), mean=IMAGENET_MEAN, std=IMAGENET_STD)


# --------------------------------------------------------------------------------------------------------------- timm


def from_timm(cfg: Mapping[str, Any], where: str) -> Preprocessing | None:
    """`pretrained_cfg` of timm; None where it does not say the size.

    Raises:
        CheckpointError: a value that is not understood or would change the picture in a way that is not implemented.
    """
    size = cfg.get("input_size")
    if size is None:
        return None
    if not (isinstance(size, list | tuple) and len(size) == 3 and all(isinstance(v, int) and v > 0 for v in size)):
        raise CheckpointError(f"{where}: input_size={size!r} should be [channels, height, width].")
    mode = cfg.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise CheckpointError(f"{where}: crop_mode={mode!r} is not implemented; 'center' and 'squash' are.")
    share = _number(cfg.get("crop_pct") or 0.875, "crop_pct", where)
    if not 0 < share <= 1:
        raise CheckpointError(f"{where}: crop_pct={share!r} must be above 0 and at most 1.")
    channels, height, width = size
    fit = Fit(
        size=(height, width),
        resize=(math.floor(height / share), math.floor(width / share)),
        interpolation=_interpolation(cfg.get("interpolation") or "bilinear", where),
        mode="squash" if mode == "squash" else "crop",
    )
    mean = _values(cfg.get("mean") or IMAGENET_MEAN, channels, "mean", where)
    return Preprocessing(fit=fit, mean=mean, std=_values(cfg.get("std") or IMAGENET_STD, channels, "std", where))


def to_timm(preprocessing: Preprocessing) -> Tree:
    """The entries of `pretrained_cfg`."""
    fit = preprocessing.fit
    return {
        "input_size": [len(preprocessing.mean), *fit.size],
        "interpolation": fit.interpolation,
        "crop_pct": _crop_share(fit.size, preprocessing.resized()),
        "crop_mode": "squash" if fit.mode == "squash" else "center",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


# ------------------------------------------------------------------------------------------------------- transformers


def from_transformers(tree: Mapping[str, Any], where: str) -> Preprocessing:
    """`preprocessor_config.json` of transformers.

    Raises:
        CheckpointError: a value that is not understood or would change the picture in a way that is not implemented.
    """
    if tree.get("do_rescale", True) is not True or abs(float(tree.get("rescale_factor", 1 / 255)) - 1 / 255) > 1e-9:
        raise CheckpointError(f"{where}: do_rescale and rescale_factor must bring pixels to [0, 1].")
    number = tree.get("resample", 2)
    if not isinstance(number, int) or not 0 <= number < len(_PILLOW):
        raise CheckpointError(f"{where}: resample={number!r} is none of Pillow's numbers, 0 to {len(_PILLOW) - 1}.")
    fit = _transformers_fit(tree, _interpolation(_PILLOW[number], where), where)
    if not tree.get("do_normalize", True):
        return Preprocessing(fit=fit, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    mean = tree.get("image_mean") or (0.5, 0.5, 0.5)
    channels = len(mean) if isinstance(mean, list | tuple) else 3
    std = tree.get("image_std") or (0.5,) * channels
    return Preprocessing(
        fit=fit, mean=_values(mean, channels, "image_mean", where), std=_values(std, channels, "image_std", where)
    )


def _transformers_fit(tree: Mapping[str, Any], interpolation: Interpolation, where: str) -> Fit:
    if not tree.get("do_resize", True):
        raise CheckpointError(f"{where}: do_resize=false leaves pictures of all sizes, which is not implemented.")
    kind = str(tree.get("image_processor_type") or tree.get("feature_extractor_type") or "")
    size, shortest = _sides(tree.get("size", 224), "size", where)
    if kind.startswith("ConvNext") or ("crop_pct" in tree and shortest):
        if size[0] >= 384:
            return Fit(size=size, interpolation=interpolation, mode="squash")
        share = _number(tree.get("crop_pct") or 224 / 256, "crop_pct", where)
        resize = (int(size[0] / share), int(size[1] / share))
        return Fit(size=size, resize=resize, interpolation=interpolation)
    if tree.get("do_center_crop"):
        cut, _ = _sides(tree.get("crop_size", size[0]), "crop_size", where)
        return Fit(size=cut, resize=size, interpolation=interpolation, mode="crop" if shortest else "squash")
    if shortest:
        raise CheckpointError(f"{where}: size={tree['size']!r} without a crop leaves pictures of several shapes.")
    return Fit(size=size, interpolation=interpolation, mode="squash")


def _sides(value: Any, name: str, where: str) -> tuple[tuple[int, int], bool]:
    """(height, width) and whether it is the shorter side of a picture that keeps its proportions."""
    if isinstance(value, int):
        return (value, value), False
    if isinstance(value, Mapping) and isinstance(value.get("shortest_edge"), int):
        return (value["shortest_edge"], value["shortest_edge"]), True
    if isinstance(value, Mapping) and isinstance(value.get("height"), int) and isinstance(value.get("width"), int):
        return (value["height"], value["width"]), False
    raise CheckpointError(f"{where}: {name}={value!r} should be a number, a height and width, or a shortest_edge.")


def to_transformers(preprocessing: Preprocessing) -> Tree:
    """`preprocessor_config.json`.

    Raises:
        UnsupportedError: no image processor does it.
    """
    fit, resized = preprocessing.fit, preprocessing.resized()
    tree: Tree = {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "resample": _PILLOW.index(fit.interpolation),
    }
    if fit.mode == "squash" and resized == fit.size:
        size = {"height": fit.size[0], "width": fit.size[1]}
        return {"image_processor_type": "ViTImageProcessor", **tree, "size": size}
    if fit.mode == "squash" or resized[0] != resized[1]:
        raise UnsupportedError(
            f"format=transformers: no image processor there resizes to {resized} and cuts {fit.size} out ({fit.mode})."
        )
    cut = {"height": fit.size[0], "width": fit.size[1]}
    return {
        "image_processor_type": "CLIPImageProcessor",
        **tree,
        "do_convert_rgb": len(preprocessing.mean) == 3,
        "size": {"shortest_edge": resized[0]},
        "do_center_crop": True,
        "crop_size": cut,
    }


# ------------------------------------------------------------------------------------------------- our own and shared


def to_tree(preprocessing: Preprocessing) -> Tree:
    """Plain values, read back by `from_tree`."""
    fit = preprocessing.fit
    return {
        "size": list(fit.size),
        "resize": list(preprocessing.resized()),
        "interpolation": fit.interpolation,
        "mode": fit.mode,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def from_tree(tree: Mapping[str, Any], where: str) -> Preprocessing:
    """What `to_tree` gave."""
    try:
        fit = Fit(
            size=_sides_of(tree["size"]),
            resize=None if tree.get("resize") is None else _sides_of(tree["resize"]),
            interpolation=_interpolation(tree["interpolation"], where),
            mode="squash" if tree["mode"] == "squash" else "crop",
        )
        return Preprocessing(fit=fit, mean=tuple(map(float, tree["mean"])), std=tuple(map(float, tree["std"])))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: its preprocessing is damaged: {error}.") from error


def _sides_of(value: Any) -> tuple[int, int]:
    height, width = value
    return int(height), int(width)


def _crop_share(size: tuple[int, int], resized: tuple[int, int]) -> float:
    """A share whose `floor(side / share)` is the resized side again, with as few digits as that takes."""
    for digits in range(3, 17):
        share = math.floor(size[0] / resized[0] * 10**digits) / 10**digits
        if 0 < share <= 1 and all(math.floor(a / share) == b for a, b in zip(size, resized, strict=True)):
            return share
    raise UnsupportedError(f"format=timm: no crop_pct cuts {size} out of {resized}.")


def _interpolation(name: Any, where: str) -> Interpolation:
    if name not in get_args(Interpolation):
        raise CheckpointError(f"{where}: interpolation={name!r} is none of {', '.join(get_args(Interpolation))}.")
    return name


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CheckpointError(f"{where}: {name}={value!r} should be a number.")
    return float(value)


def _values(value: Any, channels: int, name: str, where: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != channels:
        raise CheckpointError(f"{where}: {name}={value!r} should have one number a channel, {channels}.")
    return tuple(_number(v, name, where) for v in value)
