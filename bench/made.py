"""Made-up data sets that our side trains on, named as a person's own are: `data=bench.made:Pictures`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """Random bytes.

    Args:
        count: pictures.
        size: height and width.
        num_classes: one of them is drawn for every picture.
    """

    count: int = 16
    size: tuple[int, int] = (224, 224)
    num_classes: int = 1000


def made_pictures(config: PicturesConfig) -> tuple[Tensor, Tensor]:
    """uint8 [N, 3, H, W] and classes [N]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (config.count, 3, *config.size), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, config.num_classes, (config.count,), generator=generator)


class Pictures:
    """The pictures in memory; training and validation part are the same."""

    def __init__(self, config: PicturesConfig) -> None:
        self.config = config

    def splits(self) -> Any:
        from layerwise.data.examples import Splits, TensorExamples

        images, labels = made_pictures(self.config)
        part = TensorExamples({"image": images, "labels": labels})
        classes, (height, width) = self.config.num_classes, self.config.size
        facts = {"num_classes": classes, "in_channels": 3, "image_size": (height, width)}
        facts["in_features"] = 3 * height * width
        return Splits(train=part, val=part, facts=facts, class_names=[str(k) for k in range(classes)])


@dataclass(frozen=True, kw_only=True)
class TextsConfig:
    """Texts out of a small vocabulary, of two classes in turn.

    Args:
        lengths: tokens of every text, special ones included.
    """

    lengths: tuple[int, ...] = (128,)


WORDS = 1000


def made_texts(lengths: Sequence[int]) -> list[str]:
    """A text of each length, two tokens less: [CLS] and [SEP] are still to come."""
    generator = torch.Generator().manual_seed(0)
    numbers = [torch.randint(WORDS, (length - 2,), generator=generator).tolist() for length in lengths]
    return [" ".join(f"w{number}" for number in one) for one in numbers]


def made_labels(count: int) -> Tensor:
    """Classes of that many texts."""
    return torch.arange(count) % 2


class Texts:
    """The texts; training and validation part are the same."""

    def __init__(self, config: TextsConfig) -> None:
        self.config = config

    def splits(self) -> Any:
        from layerwise.data.examples import Splits
        from layerwise.data.texts import TextExamples

        lengths = self.config.lengths
        part = TextExamples(made_texts(lengths), {"labels": made_labels(len(lengths))})
        return Splits(train=part, val=part, facts={"num_classes": 2}, class_names=["no", "yes"])


def word_tokenizer() -> Any:
    """One token a word, with [CLS] and [SEP]."""
    from layerwise.data.subword import SubwordTokenizer

    every = " ".join(f"w{k}" for k in range(WORDS))
    return SubwordTokenizer.train([every] * 2, kind="wordpiece", vocab_size=4 * WORDS)
