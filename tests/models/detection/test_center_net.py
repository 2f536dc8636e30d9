"""CenterNet: what its heads start from, and how detections are read off its output."""

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.detection.center_net import CenterNet, CenterNetConfig, CenterNetOutput

TINY = CenterNetConfig(num_classes=3, in_channels=3, channels=(8, 8, 16), num_blocks=1, groups=4)


class Planted(CenterNet):
    """Gives a fixed output whatever the picture."""

    def __init__(self, heatmap: Tensor, boxes: Tensor) -> None:
        super().__init__(TINY)
        self.planted = CenterNetOutput(heatmap, boxes)

    def forward(self, images: Tensor) -> CenterNetOutput:
        return self.planted


def planted(peaks: list[tuple[int, int, int, int, float]], box: tuple[float, ...] = (1.0, 2.0, 9.0, 8.0)) -> Planted:
    """Two pictures of 4 x 4 cells; peaks are (picture, class, row, column, probability)."""
    heatmap = torch.full((2, 3, 4, 4), -20.0)
    for i, k, row, column, probability in peaks:
        heatmap[i, k, row, column] = float(torch.logit(torch.tensor(probability, dtype=torch.float64)))
    boxes = torch.tensor(box)[None, :, None, None].expand(2, 4, 4, 4) + torch.arange(4)[None, None, None, :] * 10.0
    return Planted(heatmap, boxes.contiguous())


def test_it_starts_at_the_prior_and_at_small_boxes_around_the_cells() -> None:
    torch.manual_seed(0)
    net = CenterNet(CenterNetConfig(num_classes=3, in_channels=3, prior=0.02))
    with torch.no_grad():
        output = net(torch.randn(2, 3, 64, 64))
    # The last weights are small (deviation 0.01), not zero: the mean is near the prior.
    assert float(output.heatmap.sigmoid().mean()) == pytest.approx(0.02, rel=0.2)
    centre = (output.boxes[:, :2] + output.boxes[:, 2:]) / 2
    assert centre[0, 0, 5, 7].item() == pytest.approx(7.5 * 4, abs=1.0)
    assert centre[0, 1, 5, 7].item() == pytest.approx(5.5 * 4, abs=1.0)
    assert float((output.boxes[:, 2:] - output.boxes[:, :2]).mean()) == pytest.approx(8.0, rel=0.1)


def test_boxes_are_centres_and_distances_to_the_edges() -> None:
    net = CenterNet(TINY).double()
    with torch.no_grad():
        net.box_head[1].weight.zero_()  # pyright: ignore[reportCallIssue, reportArgumentType]
        net.box_head[1].bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).log())  # pyright: ignore[reportCallIssue, reportArgumentType]
        boxes = net(torch.zeros(1, 3, 16, 24, dtype=torch.float64)).boxes
    # cell in row 1, column 2: centre at (10, 6); distances 4, 8, 12, 16 pixels
    torch.testing.assert_close(boxes[0, :, 1, 2], torch.tensor([6.0, -2.0, 22.0, 22.0], dtype=torch.float64))


def test_peaks_become_detections_by_falling_score() -> None:
    found = planted([(0, 2, 1, 1, 0.6), (0, 0, 3, 3, 0.9), (1, 1, 0, 2, 0.8)]).detect(torch.zeros(2, 3, 64, 64))
    assert [one["labels"].tolist() for one in found] == [[0, 2], [1]]
    assert found[0]["scores"].tolist() == pytest.approx([0.9, 0.6])
    assert found[0]["boxes"].tolist() == [[31.0, 32.0, 39.0, 38.0], [11.0, 12.0, 19.0, 18.0]]


def test_only_the_largest_of_a_neighbourhood_is_a_peak() -> None:
    net = planted([(0, 1, 1, 1, 0.9), (0, 1, 2, 2, 0.8), (0, 2, 2, 2, 0.7)])
    assert net.detect(torch.zeros(2, 3, 64, 64))[0]["labels"].tolist() == [1, 2]


def test_threshold_and_number_of_detections_are_kept() -> None:
    net = planted([(0, 0, 0, 0, 0.9), (0, 0, 3, 3, 0.5), (0, 1, 0, 3, 0.2)])
    images = torch.zeros(2, 3, 64, 64)
    assert len(net.detect(images, score_threshold=0.4)[0]["scores"]) == 2
    assert len(net.detect(images, score_threshold=0.1, max_detections=1)[0]["scores"]) == 1
    assert len(net.detect(images)[1]["scores"]) == 0


def test_boxes_are_cut_to_the_picture() -> None:
    found = planted([(0, 0, 0, 3, 0.9)], box=(-5.0, -5.0, 3.0, 90.0)).detect(torch.zeros(2, 3, 48, 32))
    assert found[0]["boxes"].tolist() == [[25.0, 25.0, 32.0, 48.0]]


def test_suppression_drops_the_weaker_of_two_equal_boxes_of_a_class() -> None:
    net = planted([(0, 0, 0, 0, 0.9), (0, 0, 3, 0, 0.8), (0, 1, 3, 0, 0.7)])
    images = torch.zeros(2, 3, 64, 64)
    assert net.detect(images)[0]["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert net.detect(images, nms_threshold=0.5)[0]["scores"].tolist() == pytest.approx([0.9, 0.7])


def test_sides_must_be_multiples_of_eight() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        CenterNet(TINY)(torch.zeros(1, 3, 20, 32))


def test_widths_must_be_multiples_of_the_groups() -> None:
    with pytest.raises(ConfigError, match="groups=8"):
        CenterNetConfig(channels=(12, 32, 64))
