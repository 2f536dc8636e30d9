"""T5's learned bias: rows of a table by distance."""

import torch

from layerwise.nn.relative_bias import RelativeBias
from layerwise.ops.attention import attention, plain_attention


def test_a_learned_bias_is_looked_up_by_bucket_and_gets_its_gradient() -> None:
    layer = RelativeBias(2, num_buckets=4, max_distance=4, both=False).double()
    table = layer.relative_attention_bias.weight
    bias = layer(3, 3)
    # Causal, four buckets: distance 0, 1, then 2 .. and 3 .. on the logarithmic scale.
    assert torch.equal(bias[:, 2, 2], table[0])
    assert torch.equal(bias[:, 2, 1], table[1])
    assert torch.equal(bias[:, 2, 0], table[2])
    q, k, v = (torch.randn(1, 2, 3, 4, dtype=torch.float64) for _ in range(3))
    grads = [
        torch.autograd.grad(path(q, k, v, bias=layer(3, 3), causal=True).square().sum(), table)[0]
        for path in (attention, lambda *a, **o: plain_attention(*a, **o)[0])
    ]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-10, rtol=0)
    assert bool(grads[0][:3].any())
