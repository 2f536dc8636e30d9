"""Vector quantisation: an autoencoder whose code is a grid of entries of a codebook, and a prior over such grids.

Papers: A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017,
https://arxiv.org/abs/1711.00937 (equation 3; the codebook by moving averages: appendix A.1); A. Razavi, A. van den
Oord, O. Vinyals, "Generating diverse high-fidelity images with VQ-VAE-2", 2019, https://arxiv.org/abs/1906.00446; A.
Lancucki et al., "Robust training of vector quantized bottleneck models", 2020, https://arxiv.org/abs/2005.08520
(entries that nobody uses start anew from the data).

Differs from the paper: averages of an entry that has not been used for long would divide by nearly nothing; such an
entry takes the place of a vector of the batch instead.

Shapes: B batch, C H W pictures, T positions, D width of an entry, K entries.
"""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, NonNegativeFloat
from layerwise.nn.protocols import require
from layerwise.objectives.base import Batch, Context, Objective, Term, gather_rows


@runtime_checkable
class Quantised(Protocol):
    """An autoencoder with a codebook."""

    codebook: Tensor  # [K, D], a buffer

    def encode_vectors(self, images: Tensor, /) -> Tensor:
        """Vectors [B, T, D] before they are quantised."""
        ...

    def quantise(self, vectors: Tensor, /) -> tuple[Tensor, Tensor]:
        """The nearest entries with the vectors' gradient [B, T, D], and their numbers [B, T]."""
        ...

    def decode_vectors(self, vectors: Tensor, /) -> Tensor:
        """Logits of the pixels [B, C, H, W]."""
        ...


@runtime_checkable
class CodeModel(Protocol):
    """Has a distribution over grids of codes."""

    def encode(self, images: Tensor, /) -> Tensor:
        """Codes int64 [B, T]."""
        ...

    def code_logits(self, codes: Tensor, /) -> Tensor:
        """Logits [B, T, K] of each code given those before it."""
        ...


@dataclass(frozen=True, kw_only=True)
class VectorQuantisationConfig:
    """Options of vector quantisation.

    Args:
        commitment: factor beta of the distance between a vector and its entry.
        decay: share of the averages kept a step.
        revive_below: an entry that fewer vectors a step fall to, on average, starts anew at a vector of the batch; 0
            never.
    """

    commitment: NonNegativeFloat = 0.25
    decay: Fraction = 0.99
    revive_below: NonNegativeFloat = 0.1


class VectorQuantisation(Objective):
    """Mean over pictures of `|x - r|^2 + beta sum_t |z_e,t - sg(e_t)|^2` with r decoded from the nearest entries e_t.

    After each step the entries follow the vectors that fell to them,

        N_k <- decay N_k + (1 - decay) n_k,    m_k <- decay m_k + (1 - decay) sum of its vectors,    e_k = m_k / N_k,

    and entries with `N_k < revive_below` move to vectors of the batch, chosen by a hash of the step. Averages are
    buffers of the objective: training state.

    `perplexity`, exp of the entropy of how often entries are used in a micro-batch, is shown and not trained on.

    Shape:
        images: float [B, C, H, W] in [0, 1]; the network is `Quantised`.

    References:
        van den Oord et al., equation 3 and appendix A.1.
    """

    per_batch = ("perplexity",)
    counted: Tensor
    summed: Tensor

    def __init__(self, config: VectorQuantisationConfig) -> None:
        super().__init__()
        self.config = config
        # (sample ids, vectors, codes) of this step's micro-batches, until after_step
        self._fresh: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, network: nn.Module) -> None:
        codebook = require(network, Quantised, "objective=vector_quantisation").codebook
        exact = torch.promote_types(codebook.dtype, torch.float32)
        self.register_buffer("counted", torch.ones(len(codebook), dtype=exact, device=codebook.device))
        self.register_buffer("summed", codebook.detach().to(exact).clone())

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return dict.fromkeys(("squared_error", "commitment"), float(len(batch["sample_ids"])))

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        model, images = cast(Quantised, network), batch["images"]
        vectors = model.encode_vectors(images)
        quantised, codes = model.quantise(vectors)
        wide = vectors.to(self.summed.dtype)
        entries = model.codebook.to(wide.dtype)[codes]
        made = torch.sigmoid(model.decode_vectors(quantised).to(wide.dtype))
        if context.training:
            self._fresh.append((batch["sample_ids"], wide.detach(), codes))
        count, used = float(len(images)), torch.bincount(codes.flatten(), minlength=len(model.codebook))
        commitment = (wide - entries).square().sum()
        return {
            "squared_error": Term((images.to(wide.dtype) - made).square().sum(), count),
            "commitment": Term(commitment, count, weight=self.config.commitment),
            "perplexity": Term(perplexity_of(used), 1.0, minimised=False),
        }

    @torch.no_grad()
    def after_step(self, network: nn.Module, context: Context) -> None:
        codebook = cast(Quantised, network).codebook
        fresh, self._fresh = self._fresh, []
        vectors, codes = (part.flatten(0, 1) for part in gather_rows(context, fresh))
        config, size = self.config, len(codebook)
        used = torch.zeros_like(self.counted).index_add_(0, codes, torch.ones_like(codes, dtype=vectors.dtype))
        total = torch.zeros_like(self.summed).index_add_(0, codes, vectors)
        self.counted.lerp_(used, 1.0 - config.decay)
        self.summed.lerp_(total, 1.0 - config.decay)
        dead = self.counted < config.revive_below
        if len(vectors) and bool(dead.any()):
            chosen = context.draws.integers(torch.arange(size), (), "revive", len(vectors)).to(vectors.device)
            self.summed.copy_(torch.where(dead[:, None], vectors[chosen], self.summed))
            self.counted.masked_fill_(dead, 1.0)
        codebook.copy_(self.summed / self.counted.clamp(min=1e-12)[:, None])


def perplexity_of(used: Tensor) -> Tensor:
    """`exp(-sum_k p_k log p_k)` with p_k the share of entry k, float64: K where all are used alike.

    Args:
        used: how often each entry is used, [K].
    """
    counts = used.double()
    return torch.special.entr(counts / counts.sum().clamp(min=1.0)).sum().exp()


@dataclass(frozen=True, kw_only=True)
class CodePriorConfig:
    """Learning a prior over codes has no options."""


class CodePrior(Objective):
    """`-log p(codes of x)`, mean over positions, in nats: the autoencoder gives the codes and does not learn.

    Shape:
        images: float [B, C, H, W]; the network is a `CodeModel`.
    """

    def __init__(self, config: CodePriorConfig) -> None:
        super().__init__()
        self.config = config

    def setup(self, network: nn.Module) -> None:
        require(network, CodeModel, "objective=code_prior")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"nll": float(len(batch["sample_ids"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        model = cast(CodeModel, network)
        with torch.no_grad():
            codes = model.encode(batch["images"])
        logits = model.code_logits(codes)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))  # the loss is float32 on purpose
        total = F.cross_entropy(wide.flatten(0, 1), codes.flatten(), reduction="sum")
        return {"nll": Term(total / codes.shape[1], float(len(codes)))}


OBJECTIVES = {"vector_quantisation": VectorQuantisationConfig(), "code_prior": CodePriorConfig()}
