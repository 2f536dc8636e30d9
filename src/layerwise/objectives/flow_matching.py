"""Flow matching: the network learns the velocity of straight lines from pictures to noise.

Papers: Y. Lipman et al., "Flow matching for generative modeling", 2022, https://arxiv.org/abs/2210.02747 (equation 23
with sigma_min = 0); X. Liu, C. Gong, Q. Liu, "Flow straight and fast: learning to generate and transfer data with
rectified flow", 2022, https://arxiv.org/abs/2209.03003 (algorithm 1; reflow); P. Esser et al., "Scaling rectified flow
transformers for high-resolution image synthesis", 2024, https://arxiv.org/abs/2403.03206 (times from a logistic of a
normal number, section 3.1).

Shapes: B batch, C channels, H W height and width of pictures; Z h w of what is denoised.
"""

import copy
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import Denoiser, require
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.objectives.denoising import clean_samples, kept_condition, mean_square
from layerwise.ops.noise_schedules import NoiseProcess
from layerwise.ops.samplers import SamplerConfig, make_sampler, walk


@dataclass(frozen=True, kw_only=True)
class FlowMatchingConfig:
    """Options of flow matching.

    Args:
        process: straight lines; the network is told t * num_timesteps.
        times: how t in (0, 1) is drawn: "uniform", or "logit_normal", which favours the middle.
        condition_dropout: share of samples whose class or text is left out.
        reflow_steps: pairs of noise and picture are not drawn independently, but made by so many steps of the network
            as it was at the start of the stage (reflow), so that lines cross less and few steps suffice; None draws
            them independently.
    """

    process: NoiseProcess = NoiseProcess(schedule="rectified", prediction="velocity")
    times: Literal["uniform", "logit_normal"] = "uniform"
    condition_dropout: Probability = 0.1
    reflow_steps: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.process.schedule != "rectified":
            raise ConfigError(
                f"objective=flow_matching: process.schedule={self.process.schedule} is what objective=denoising is for."
            )


class FlowMatching(Objective):
    """Mean over samples of `|e - x - f((1 - t) x + t e, t, c)|^2 / dims`.

    t, the noise e and which conditions are left out are hashed from step and sample id. With reflow x is what the
    network of the stage's start makes of e under the same condition; no picture of the data is looked at.

    Shape:
        images: float [B, C, H, W] in [-1, 1]; labels int64 [B], or tokens and empty_tokens int64 [B, T], optional; the
        network offers what `Denoiser` names.
    """

    def __init__(self, config: FlowMatchingConfig) -> None:
        super().__init__()
        self.config, self.process = config, config.process
        self.teacher: nn.Module | None = None

    def setup(self, network: nn.Module) -> None:
        require(network, Denoiser, "objective=flow_matching")
        if self.config.reflow_steps is not None:
            self.teacher = copy.deepcopy(network).eval().requires_grad_(False)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"flow_matching": float(len(batch["sample_ids"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        denoiser, ids, draws = cast(Denoiser, network), batch["sample_ids"], context.draws
        clean = clean_samples(denoiser, batch, context)
        noise = draws.normal(ids, tuple(clean.shape[1:]), "noise", clean.dtype).to(clean.device)
        condition = kept_condition(denoiser, batch, context, self.config.condition_dropout)
        if self.teacher is not None:
            clean = self._made_of(noise, condition)
        if self.config.times == "uniform":
            t = draws.uniform(ids, (), "time", clean.dtype)
        else:
            t = torch.sigmoid(draws.normal(ids, (), "time", clean.dtype))
        t = t.to(clean.device)
        share = t[:, None, None, None]
        said = denoiser((1 - share) * clean + share * noise, t.float() * self.process.num_timesteps, condition)
        losses = mean_square(said, noise - clean)
        return {"flow_matching": Term(losses.sum(), float(len(losses)))}

    @torch.no_grad()
    def _made_of(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """What the network of the stage's start makes of the noise."""
        teacher, steps = cast(Denoiser, self.teacher), self.config.reflow_steps or 1
        walk_config = SamplerConfig(name="flow_euler", steps=steps, spacing="trailing")
        sampler = make_sampler(self.process, walk_config)
        return walk(lambda x, times: teacher(x, times, condition), sampler, noise, lambda _: torch.zeros_like(noise))


OBJECTIVES = {"flow_matching": FlowMatchingConfig()}
