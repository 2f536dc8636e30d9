"""From uint8 to what a network takes."""

import torch

from layerwise.tasks.preprocessing import Normalise


def test_values_are_the_formulas_in_either_layout() -> None:
    image = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
    wanted = (image.double() / 255 - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std)[:, None, None]
    normalise = Normalise(mean, std)
    first, last = normalise(image), normalise(image.contiguous(memory_format=torch.channels_last))
    assert torch.equal(first, last)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert float((first - wanted).abs().max()) < 1e-5  # float32
