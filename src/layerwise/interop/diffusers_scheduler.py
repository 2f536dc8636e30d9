"""diffusers' `scheduler_config.json`: the noise process a network was trained on, and the walk back."""

import math
from typing import TYPE_CHECKING, Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs, write_pairs

if TYPE_CHECKING:
    from layerwise.ops.noise_schedules import NoiseProcess
    from layerwise.ops.samplers import SamplerConfig

Tree = dict[str, Any]
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
NAMES = {
    "DDPMScheduler": "ddpm", "DDIMScheduler": "ddim", "PNDMScheduler": "plms", "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a", "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpm++2m",
}  # fmt: skip
FLOW = "FlowMatchEulerDiscreteScheduler"
KARRAS, WITH_KARRAS = "_karras", ("euler", "heun", "dpm++2m")  # what `use_karras_sigmas` adds to a name
LEADING = ("ddpm", "ddim", "plms")  # the usual spacing of their times; that of the others is linspace


def _from(table: dict[str, str]) -> Any:
    def load(value: Any) -> str:
        if value not in table:
            raise ValueError(value)
        return table[value]

    return load


def _back(table: dict[str, str]) -> Any:
    turned = {ours: theirs for theirs, ours in table.items()}
    return lambda value: turned[value]


PROCESS = (
    Pair("num_train_timesteps", "num_timesteps", 1000),
    Pair("beta_start", "beta_start", 0.0001),
    Pair("beta_end", "beta_end", 0.02),
    Pair("beta_schedule", "schedule", "linear", _from(SCHEDULES), _back(SCHEDULES)),
    Pair("prediction_type", "prediction", "epsilon", _from(PREDICTIONS), _back(PREDICTIONS)),
    Pair("rescale_betas_zero_snr", "zero_terminal_snr", False),
)
REQUIRED = {
    "trained_betas": (None,),
    "thresholding": (False,),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False,),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
    "variance_type": ("fixed_small", "fixed_large", "learned", "learned_range", None),
    "skip_prk_steps": (True,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
    "algorithm_type": ("dpmsolver++",),
    "solver_type": ("midpoint",),
    "solver_order": (2,),
    "lower_order_final": (True,),
    "lambda_min_clipped": (-math.inf,),
    "euler_at_final": (False,),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "invert_sigmas": (False,),
    "shift_terminal": (None,),
    "stochastic_sampling": (False,),
}
WALK = ("use_karras_sigmas", "timestep_spacing", "steps_offset", "set_alpha_to_one", "clip_sample", "clip_sample_range")
IGNORED = (
    *WALK, "dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type",
    "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "shift",
)  # fmt: skip


def read_scheduler(config: Tree, where: str) -> "tuple[NoiseProcess, SamplerConfig]":
    """The noise process, and the walk with its usual number of steps.

    Raises:
        CheckpointError: a scheduler or a value that is not implemented.
    """
    from layerwise.core.config import parse
    from layerwise.ops.noise_schedules import NoiseProcess
    from layerwise.ops.samplers import SamplerConfig

    kind = config.get("_class_name")
    if kind == FLOW:
        options = read_pairs(config, where, PROCESS[:1], REQUIRED, IGNORED)
        process = {**options, "schedule": "rectified", "prediction": "velocity"}
        walk = {"name": "flow_euler", "spacing": "linspace", "shift": config.get("shift", 1.0)}
        return parse(NoiseProcess, process), parse(SamplerConfig, walk)
    if kind not in NAMES:
        known = ", ".join((*NAMES, FLOW))
        raise CheckpointError(f"{where}: the scheduler {kind!r} is not implemented here; {known} are.")
    name = NAMES[str(kind)]
    if name == "heun":  # its own usual values
        config = {"beta_start": 0.00085, "beta_end": 0.012, **config}
    required = REQUIRED if name in WITH_KARRAS else {**REQUIRED, "use_karras_sigmas": (False, None)}
    process = read_pairs(config, where, PROCESS, required, IGNORED)
    clips = config.get("clip_sample", name in ("ddpm", "ddim")) and name in ("ddpm", "ddim", "heun")
    first = name in ("ddim", "plms") and not config.get("set_alpha_to_one", name == "ddim")
    walk = {
        "name": name + KARRAS * bool(config.get("use_karras_sigmas")),
        "spacing": config.get("timestep_spacing", "leading" if name in LEADING else "linspace"),
        "steps_offset": config.get("steps_offset", 0),
        "final_signal": "first" if first else "one",
        "clip": float(config.get("clip_sample_range", 1.0)) if clips else None,
        "variance": "large" if config.get("variance_type") == "fixed_large" else "small",
    }
    return parse(NoiseProcess, process), parse(SamplerConfig, walk)


def write_scheduler(process: "NoiseProcess", sampler: "SamplerConfig") -> Tree:
    """`scheduler_config.json`."""
    if sampler.name == "flow_euler":
        return {"_class_name": FLOW, "num_train_timesteps": process.num_timesteps, "shift": sampler.shift}
    name = sampler.name.removesuffix(KARRAS)
    kind = {ours: theirs for theirs, ours in NAMES.items()}[name]
    tree = {
        "_class_name": kind, **write_pairs(process, PROCESS), "timestep_spacing": sampler.spacing,
        "steps_offset": sampler.steps_offset,
    }  # fmt: skip
    if name in ("plms", "heun"):
        tree.pop("rescale_betas_zero_snr")
    if name in WITH_KARRAS:
        tree["use_karras_sigmas"] = sampler.name != name
    if name in ("ddpm", "ddim", "heun"):
        tree |= {"clip_sample": sampler.clip is not None, "clip_sample_range": sampler.clip or 1.0}
    if name in ("ddim", "plms"):
        tree["set_alpha_to_one"] = sampler.final_signal == "one"
    if name == "plms":
        tree["skip_prk_steps"] = True
    if name == "ddpm":
        tree["variance_type"] = f"fixed_{sampler.variance}"
    return tree
