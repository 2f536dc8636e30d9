"""How far back in a sequence the loss is felt: norms of its gradient by the states of a recurrent network, and their
picture. PNG files.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.nn.recurrent import cell_name, cell_weights, empty_state
from layerwise.ops.recurrent import CELLS, unroll

_FRESH_SEED = 0
_LEAST = 1e-30  # of what a logarithmic axis shows


def gradient_norms(
    network: nn.Module, layers: nn.RNN | nn.LSTM | nn.GRU, batch: Mapping[str, Tensor]
) -> list[dict[str, list[float]]]:
    """|dL/dh_t| for t = 1 .. T, of an LSTM also |dL/dc_t|, mean over sequences: of a copy of the network whose weights
    are drawn afresh, and of the network itself.

    L is a sequence's squared error; the whole gradient counts, with what comes back through later steps.

    Args:
        network: has `head`, a linear layer that reads the last hidden state, and `reset_parameters`.
        layers: the network's recurrent layers.
        batch: `features` [B, T, F] and `labels` [B, K].
    """
    fresh = copy.deepcopy(network)
    kept = torch.get_rng_state()
    torch.manual_seed(_FRESH_SEED)
    fresh.reset_parameters()  # pyright: ignore[reportCallIssue]
    torch.set_rng_state(kept)
    place = next(name for name, module in network.named_modules() if module is layers)
    found: list[dict[str, list[float]]] = []
    for each in (fresh, network):
        own = each.get_submodule(place)
        assert isinstance(own, nn.RNN | nn.LSTM | nn.GRU)
        found.append(_norms(each, own, batch))
    return found


def _norms(
    network: nn.Module, layers: nn.RNN | nn.LSTM | nn.GRU, batch: Mapping[str, Tensor]
) -> dict[str, list[float]]:
    features = batch["features"]
    with torch.enable_grad():
        cell = CELLS[cell_name(layers)]
        # Every state is asked for its gradient, so it must have a history: the first one's is made here.
        state = tuple(part.requires_grad_() for part in empty_state(layers, len(features)))
        hidden, course = unroll(cell, cell_weights(layers), features, state)
        head = network.get_submodule("head")
        loss = F.mse_loss(head(hidden[:, -1]), batch["labels"], reduction="sum")
        top = [states[-1] for states in course]
        gradients = torch.autograd.grad(loss, [part for step in top for part in step], allow_unused=True)
    found: dict[str, list[float]] = {}
    parts = len(top[0])
    for k, name in enumerate(("hidden state", "cell")[:parts]):
        own = gradients[k::parts]
        found[name] = [0.0 if g is None else float(g.double().norm(dim=1).mean()) for g in own]
    return found


def draw_gradients(courses: Sequence[Mapping[str, Sequence[float]]], path: Path) -> Path:
    """Norms by step on a logarithmic axis: at the start dashed, after training solid.

    Args:
        courses: of fresh and of trained weights, name of the state -> norms by step.
        path: of the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # no window, whatever MPLBACKEND says
    axes = figure.subplots()
    for course, style, when in zip(courses, ("--", "-"), ("at the start", "after training"), strict=True):
        for place, (name, norms) in enumerate(course.items()):
            steps = range(1, len(norms) + 1)
            shown = [max(norm, _LEAST) for norm in norms]
            axes.plot(steps, shown, style, color=f"C{place}", linewidth=1.5, label=f"{name}, {when}")
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="norm of the gradient")
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return path
