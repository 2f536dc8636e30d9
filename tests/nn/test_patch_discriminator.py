"""The discriminator of patches: what each logit sees, and nothing of batch mates."""

import pytest
import torch

from layerwise.nn.patch_discriminator import PatchDiscriminator


@pytest.mark.parametrize(("levels", "seen"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch_of_the_size_in_the_paper(levels: int, seen: int) -> None:
    """Isola et al., appendix 6.1.2: 16 x 16, 70 x 70; by the gradient of one logit in the middle. Norms, which look at
    the whole map, are left out.
    """
    torch.manual_seed(0)
    net = PatchDiscriminator(3, width=4, num_levels=levels, num_groups=2).double()
    net.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in net.norms)
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = net(images)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
    touched = gradient[0].abs().sum(0) > 0
    assert int(touched.any(0).sum()) == seen
    assert int(touched.any(1).sum()) == seen


def test_logits_do_not_depend_on_batch_mates() -> None:
    net = PatchDiscriminator(1, width=8, num_levels=2, num_groups=4).double()
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(images)[1:2], net(images[1:2]), rtol=1e-10, atol=1e-12)


def test_maps_have_the_channels_and_strides_that_are_said() -> None:
    net = PatchDiscriminator(3, width=4, num_levels=2, num_groups=2)
    maps = net.forward_pyramid(torch.zeros(1, 3, 64, 64))
    assert tuple(m.shape[1] for m in maps) == net.pyramid_channels == (4, 8, 16)
    assert [round(64 / m.shape[-1]) for m in maps] == list(net.pyramid_strides) == [2, 4, 4]
