"""Attributions against closed forms, naive loops and their axioms."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.explain import attribution
from layerwise.models.vision.vit import ViT, ViTConfig

METHODS: list[Callable[..., Tensor]] = [attribution.saliency, attribution.integrated_gradients]


def linear(features: int = 12, scores: int = 3) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(features, scores).double(), torch.randn(5, features).double(), torch.tensor([0, 2, 1, 1, 0])


def smooth() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return net, torch.randn(4, 6).double(), torch.tensor([0, 1, 2, 0])


def test_saliency_of_a_linear_model_is_its_weights() -> None:
    net, x, target = linear()
    torch.testing.assert_close(attribution.saliency(net, x, target), net.weight.detach()[target])


def test_saliency_is_the_finite_difference() -> None:
    net, x, target = smooth()
    found = attribution.saliency(net, x, target)
    step = 1e-6
    for sample in range(len(x)):
        for place in range(x.shape[1]):
            up, down = x.clone(), x.clone()
            up[sample, place] += step
            down[sample, place] -= step
            with torch.no_grad():
                slope = (net(up) - net(down))[sample, target[sample]] / (2 * step)
            assert float(found[sample, place]) == pytest.approx(float(slope), abs=1e-8)


def test_smoothed_saliency_is_the_mean_over_noisy_copies() -> None:
    net, x, target = smooth()
    found = attribution.saliency(net, x, target, samples=3, noise=0.2, generator=torch.Generator().manual_seed(7))
    draws = torch.Generator().manual_seed(7)
    expected = torch.zeros_like(x)
    for _ in range(3):
        noisy = x + 0.2 * (x.amax(1) - x.amin(1))[:, None] * torch.randn(x.shape, generator=draws, dtype=x.dtype)
        expected += attribution.input_gradient(net, noisy, target) / 3
    torch.testing.assert_close(found, expected)


def test_integrated_gradients_of_a_linear_model_are_weight_times_change() -> None:
    net, x, target = linear()
    baseline = torch.linspace(-1, 1, x.shape[1]).double()[None]
    found = attribution.integrated_gradients(net, x, target, baseline=baseline, steps=2)
    torch.testing.assert_close(found, net.weight.detach()[target] * (x - baseline))


def test_integrated_gradients_of_a_square_are_exact() -> None:
    """f(x) = sum x_i^2 / 2: the integral of x_i * a x_i is x_i^2 / 2, and middles of steps are exact for it."""

    def square(x: Tensor) -> Tensor:
        return (x.square() / 2).sum(1, keepdim=True)

    x = torch.randn(3, 4, dtype=torch.float64)
    found = attribution.integrated_gradients(square, x, torch.zeros(3, dtype=torch.int64), steps=4)
    torch.testing.assert_close(found, x.square() / 2)


def test_integrated_gradients_add_up_to_the_change_of_the_score() -> None:
    net, x, target = smooth()
    baseline = torch.full((1, 6), 0.3, dtype=torch.float64)
    gaps = []
    for steps in (8, 64, 512):
        found = attribution.integrated_gradients(net, x, target, baseline=baseline, steps=steps)
        gap = attribution.completeness_gap(net, x, target, found, baseline=baseline)
        with torch.no_grad():
            change = net(x).gather(1, target[:, None])[:, 0] - net(baseline)[0, target]
        torch.testing.assert_close(gap, found.sum(1) - change)
        gaps.append(float(gap.abs().max()))
    assert gaps[1] < 1e-3
    assert gaps[2] < gaps[0] / 100  # the error of middles falls with the square of the step


def test_values_that_the_score_does_not_see_get_nothing() -> None:
    net, x, target = smooth()
    with torch.no_grad():
        net.get_parameter("0.weight")[:, 2] = 0
    for method in METHODS:
        found = method(net, x, target)
        assert torch.equal(found[:, 2], torch.zeros(4, dtype=torch.float64))
        assert (found[:, [0, 1, 3, 4, 5]] != 0).all()


class OnePatch(nn.Module):
    """The scores are sums over one 4 x 4 patch, twice and once."""

    def forward(self, x: Tensor) -> Tensor:
        patch = x[:, :, 4:8, 8:12].sum((1, 2, 3))
        return torch.stack([2 * patch, patch], 1)


def test_occlusion_finds_the_only_patch_that_counts() -> None:
    x = torch.rand(2, 3, 16, 16) + 0.1
    target = torch.tensor([0, 1])
    found = attribution.occlusion(OnePatch(), x, target, window=4, stride=4)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:8, 8:12] = True
    patch = x[:, :, 4:8, 8:12].sum((1, 2, 3))
    assert found[:, ~inside].abs().max() == 0
    torch.testing.assert_close(found[:, inside], (patch * torch.tensor([2.0, 1.0]))[:, None].expand(2, 16))


def test_occlusion_is_the_naive_loop_over_windows() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 5 * 8, 2)).double()
    x, target = torch.randn(1, 2, 7, 10).double(), torch.tensor([1])
    baseline = torch.full((1, 2, 1, 1), 0.5).double()
    found = attribution.occlusion(net, x, target, window=3, stride=2, baseline=baseline)
    total, times = torch.zeros(7, 10).double(), torch.zeros(7, 10).double()
    rows, columns = [0, 2, 4], [0, 2, 4, 6, 8]  # 3 windows fit the height; 5 reach over the width by one, at its end
    for top in rows:
        for left in columns:
            covered = x.clone()
            part = (slice(None), slice(None), slice(top, top + 3), slice(left, left + 3))
            covered[part] = 0.5
            with torch.no_grad():
                fall = float(net(x)[0, 1] - net(covered)[0, 1])
            total[part[2], part[3]] += fall
            times[part[2], part[3]] += 1
    torch.testing.assert_close(found[0], total / times)


def test_occlusion_refuses_strides_that_leave_gaps() -> None:
    with pytest.raises(ConfigError, match="stride=5"):
        attribution.occlusion(OnePatch(), torch.rand(1, 3, 16, 16), torch.tensor([0]), window=4, stride=5)


class TwoConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x).flatten(1))

    def maps(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class Blocks(nn.Module):
    """The same with blocks, so that the maps are blocks' outputs."""

    def __init__(self, inner: TwoConvs) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(inner.conv1, nn.ReLU()), nn.Sequential(inner.conv2, nn.ReLU())])
        self.head = inner.head

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(1))


def test_grad_cam_is_the_definition() -> None:
    inner = TwoConvs().double()
    net, x, target = Blocks(inner), torch.randn(2, 1, 8, 8).double(), torch.tensor([2, 0])
    found = attribution.grad_cam(net, net, x, target)
    maps = inner.maps(x).detach()
    for sample in range(2):
        cam = torch.zeros(4, 4).double()
        for channel in range(5):  # the head is linear, so the gradient is its weights
            gradient = inner.head.weight.detach()[target[sample]].view(5, 4, 4)[channel]
            cam += gradient.mean() * maps[sample, channel]
        torch.testing.assert_close(found[sample], cam.clamp(min=0))
    assert attribution.grad_cam(net, net, x, target, layer="blocks.0").shape == (2, 6, 6)


def test_grad_cam_names_the_layers_there_are() -> None:
    net, x, target = Blocks(TwoConvs()), torch.randn(1, 1, 8, 8), torch.tensor([0])
    with pytest.raises(ConfigError, match=r"layers with maps are blocks.0, blocks.1"):
        attribution.grad_cam(net, net, x, target, layer="conv9")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(UnsupportedError, match="Sequential has none"):
        attribution.grad_cam(flat, flat, x, target)


def test_parameters_take_gradients_again_afterwards() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    with attribution.without_parameter_gradients(net):
        assert not net.weight.requires_grad
        assert attribution.saliency(net, torch.ones(1, 2), torch.tensor([0])).shape == (1, 2)
    assert net.weight.requires_grad
    assert not net.bias.requires_grad


# ------------------------------------------------------------------------------------------------- attention roll-out


def naive_roll_out(maps: Tensor) -> list[list[list[float]]]:
    """Section 3 of Abnar and Zuidema 2020 number by number: A = mean of heads, A = (A + I) / 2 with rows made to sum to
    one, R_1 = A_1, R_l = A_l R_{l-1}.
    """
    layers, pictures, heads, tokens, _ = maps.shape
    found = []
    for b in range(pictures):
        rolled: list[list[float]] = []
        for layer in range(layers):
            mixed = []
            for i in range(tokens):
                row = [sum(float(maps[layer, b, a, i, j]) for a in range(heads)) / heads for j in range(tokens)]
                row = [0.5 * value + 0.5 * (i == j) for j, value in enumerate(row)]
                mixed.append([value / sum(row) for value in row])
            rolled = mixed if layer == 0 else [
                [sum(mixed[i][k] * rolled[k][j] for k in range(tokens)) for j in range(tokens)] for i in range(tokens)
            ]  # fmt: skip
        found.append(rolled)
    return found


def test_roll_out_is_the_paper_s_equation() -> None:
    torch.manual_seed(0)
    maps = (3 * torch.randn(3, 2, 4, 5, 5, dtype=torch.float64)).softmax(-1)
    wanted = torch.tensor(naive_roll_out(maps), dtype=torch.float64)
    torch.testing.assert_close(attribution.roll_out(maps), wanted, rtol=1e-12, atol=1e-12)


def test_roll_out_of_a_vit_is_the_class_token_s_row_on_the_grid_of_patches() -> None:
    torch.manual_seed(0)
    config = ViTConfig(
        num_classes=3, in_channels=1, image_size=(16, 24), patch_size=8, d_model=8, num_layers=3, num_heads=2
    )
    net = ViT(config).double().eval()
    for parameter in net.parameters():  # sharp attention
        nn.init.normal_(parameter)
    for size in ((16, 24), (32, 16)):
        images = torch.randn(2, 1, *size, dtype=torch.float64)
        found = attribution.attention_rollout(net, images)
        assert found.shape == (2, size[0] // 8, size[1] // 8)
        wanted = torch.tensor(naive_roll_out(net.attention_maps(images).detach()), dtype=torch.float64)[:, 0, 1:]
        torch.testing.assert_close(found.flatten(1), wanted, rtol=1e-12, atol=1e-12)
        assert float(found.std()) > 1e-3


def test_a_network_without_attention_has_no_roll_out() -> None:
    with pytest.raises(UnsupportedError, match="attention_maps, a ViT; Linear has none"):
        attribution.attention_rollout(nn.Linear(2, 2), torch.zeros(1, 1, 8, 8))
