"""Vector quantisation against loops written from the paper, in float64; state, revival, splits of a batch."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.models.generative.vq_vae import PRESETS, VQVAE
from layerwise.objectives.base import Context
from layerwise.objectives.vector_quantisation import (
    CodePrior,
    CodePriorConfig,
    VectorQuantisation,
    VectorQuantisationConfig,
    perplexity_of,
)
from layerwise.ops.random import Draws


def make_vq_vae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(PRESETS["vq-vae-tiny"]).double()


def make_batch(count: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64),
        "sample_ids": torch.randperm(1000, generator=generator)[:count],
    }


def make_context(step: int = 0, training: bool = True) -> Context:
    return Context(step=step, epoch=0, phase="main", draws=Draws(3, "noise", step), training=training)


def make_objective(net: VQVAE, **options: float) -> VectorQuantisation:
    objective = VectorQuantisation(VectorQuantisationConfig(**options))  # type: ignore[arg-type]
    objective.setup(net)
    return objective


def test_terms_are_the_papers_sums() -> None:
    net, batch = make_vq_vae(), make_batch()
    terms = make_objective(net, commitment=0.3)(net, batch, make_context())
    error = commitment = 0.0
    for image in batch["images"]:
        vectors = net.encode_vectors(image[None])[0].detach()
        codes = [min(range(6), key=lambda k: float((v - net.codebook[k]).square().sum())) for v in vectors]
        error += float((net.decode(torch.tensor([codes])).sigmoid() - image).detach().square().sum())
        commitment += sum(float((v - net.codebook[k]).square().sum()) for v, k in zip(vectors, codes, strict=True))
    assert terms["squared_error"].sum.item() == pytest.approx(error, rel=1e-10)
    assert terms["commitment"].sum.item() == pytest.approx(commitment, rel=1e-10)
    assert (terms["commitment"].weight, terms["commitment"].count) == (0.3, 12.0)


def test_commitment_moves_the_encoder_and_never_the_codebook() -> None:
    net, batch = make_vq_vae(), make_batch()
    before = net.codebook.clone()
    make_objective(net)(net, batch, make_context())["commitment"].sum.backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in net.encoder.parameters())
    assert all(p.grad is None for p in net.decoder.parameters())
    assert torch.equal(net.codebook, before)


def test_entries_follow_the_averages_of_their_vectors() -> None:
    """Two steps against the recursion of appendix A.1, one vector at a time."""
    net, batch = make_vq_vae(), make_batch()
    objective = make_objective(net, decay=0.8, revive_below=0.0)
    counts, sums = [1.0] * 6, [row.clone() for row in net.codebook]
    for step in range(2):
        objective(net, batch, make_context(step))
        with torch.no_grad():
            vectors = net.encode_vectors(batch["images"]).flatten(0, 1)
            codes = net.encode(batch["images"]).flatten().tolist()
        for k in range(6):
            own = [v for v, code in zip(vectors, codes, strict=True) if code == k]
            counts[k] = 0.8 * counts[k] + 0.2 * len(own)
            sums[k] = 0.8 * sums[k] + 0.2 * sum(own, torch.zeros(3, dtype=torch.float64))
        objective.after_step(net, make_context(step))
        wanted = torch.stack([total / count for total, count in zip(sums, counts, strict=True)])
        torch.testing.assert_close(net.codebook, wanted, rtol=1e-10, atol=1e-12)


def test_dead_entries_move_to_vectors_of_the_batch_the_same_way_every_time() -> None:
    found = []
    for _ in range(2):
        net, batch = make_vq_vae(), make_batch()
        net.codebook[4:] = 100.0  # nothing is near
        objective = make_objective(net, decay=0.5, revive_below=0.6)
        objective(net, batch, make_context())
        with torch.no_grad():
            vectors = net.encode_vectors(batch["images"]).flatten(0, 1)
        objective.after_step(net, make_context())
        found.append(net.codebook.clone())
        for entry in net.codebook[4:]:
            assert float((vectors - entry).square().sum(1).min()) < 1e-20
    assert torch.equal(found[0], found[1])


def test_without_revival_dead_entries_stay() -> None:
    net, batch = make_vq_vae(), make_batch()
    net.codebook[4:] = 100.0
    objective = make_objective(net, decay=0.5, revive_below=0.0)
    for step in range(3):
        objective(net, batch, make_context(step))
        objective.after_step(net, make_context(step))
    torch.testing.assert_close(net.codebook[4:], torch.full((2, 3), 100.0, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 5, 2], [1, 11], [0, 12]], ids=str)
def test_gradient_and_codebook_of_every_split_equal_those_of_the_whole_batch(sizes: list[int]) -> None:
    batch = make_batch()

    def step(parts: list[dict[str, Tensor]]) -> list[Tensor]:
        net = make_vq_vae()
        net.codebook[5] = 100.0
        objective = make_objective(net, revive_below=0.995)
        total = torch.zeros((), dtype=torch.float64)
        for part in parts:
            for term in objective(net, part, make_context()).values():
                if term.minimised:
                    total = total + term.weight * term.sum / 12
        learned = [*net.encoder.parameters(), *net.decoder.parameters()]
        gradients = list(torch.autograd.grad(total, learned))
        objective.after_step(net, make_context())
        return [*gradients, net.codebook, objective.counted, objective.summed]

    pieces = zip(*(value.split(sizes) for value in batch.values()), strict=True)
    split = step([dict(zip(batch, values, strict=True)) for values in pieces])
    for a, b in zip(split, step([batch]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_micro_batch_that_was_run_again_counts_once() -> None:
    once, twice = make_vq_vae(), make_vq_vae()
    batch = make_batch()
    for net, times in ((once, 1), (twice, 2)):
        objective = make_objective(net)
        for _ in range(times):
            objective(net, batch, make_context())
        objective.after_step(net, make_context())
    assert torch.equal(once.codebook, twice.codebook)


def test_held_out_data_leave_the_averages_alone() -> None:
    net, objective = make_vq_vae(), None
    objective = make_objective(net)
    objective(net, make_batch(), make_context(training=False))
    assert objective._fresh == []


def test_averages_are_training_state() -> None:
    net = make_vq_vae()
    assert set(make_objective(net).state_dict()) == {"counted", "summed"}


def test_perplexity_is_the_number_of_entries_used_alike() -> None:
    assert perplexity_of(torch.tensor([7, 7, 0, 7])).item() == pytest.approx(3.0)
    wanted = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert perplexity_of(torch.tensor([3, 1])).item() == pytest.approx(wanted)


def test_prior_is_judged_by_the_likelihood_of_the_encoders_codes() -> None:
    net, batch = make_vq_vae().eval(), make_batch()
    objective = CodePrior(CodePriorConfig())
    objective.setup(net)
    term = objective(net, batch, make_context())["nll"]
    codes = net.encode(batch["images"])
    log_p = net.code_logits(codes).log_softmax(2).detach()
    wanted = -sum(float(log_p[b, t, codes[b, t]]) for b in range(12) for t in range(4)) / 4
    assert term.sum.item() == pytest.approx(wanted, rel=1e-10)
    term.sum.backward()
    assert all(p.grad is None for p in net.encoder.parameters())
    assert all(p.grad is not None for p in net.prior.parameters())


def test_other_networks_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="codebook"):
        VectorQuantisation(VectorQuantisationConfig()).setup(nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="code_logits"):
        CodePrior(CodePriorConfig()).setup(nn.Linear(2, 2))
