"""Pictures of which source tokens each target token was written from. PNG files."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor


def draw_alignment(weights: Tensor, source: Sequence[str], target: Sequence[str], path: Path) -> Path:
    """A square for each pair of tokens, the darker the larger the weight.

    Args:
        weights: [T, S], from 0 to 1.
        source, target: the tokens' texts.
        path: of the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (1.5 + 0.32 * len(source), 1.2 + 0.28 * len(target))
    figure = Figure(figsize=size, dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # no window, whatever MPLBACKEND says
    axes = figure.subplots()
    axes.imshow(weights.float().cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), [_plain(text) for text in source], rotation=60, ha="left")
    axes.set_yticks(range(len(target)), [_plain(text) for text in target])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return path


def _plain(text: str) -> str:
    """Matplotlib reads what stands between two dollars as a formula."""
    return text.replace("$", r"\$")
