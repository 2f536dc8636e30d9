"""What a user waits for: `import layerwise`, `layerwise --help` and a first step of LeNet-5, in fresh processes.

The floors stand beside them: an interpreter that does nothing, one that imports torch, one that takes a step with torch
alone. `first step` is `layerwise train lenet5 --dry-run`: configuration, data, network, one step, and the end of the
process.
"""

import subprocess
import sys
from collections.abc import Sequence

from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace

# What any training pays: torch loads its compiler's front when the first optimiser is made.
_TORCH_STEP = """
import torch
layer = torch.nn.Linear(10, 10)
optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
layer(torch.ones(1, 10)).sum().backward()
optimizer.step()
"""


def _run(pace: Pace, command: Sequence[str], note: str = "") -> None:
    def once() -> None:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")

    once()
    pace.ready(note=note or " ".join(command).removeprefix("-m "))
    while True:
        once()
        pace.window(1)


def interpreter(pace: Pace) -> None:
    _run(pace, ["-c", "pass"])


def import_torch(pace: Pace) -> None:
    _run(pace, ["-c", "import torch"])


def torch_step(pace: Pace) -> None:
    _run(pace, ["-c", _TORCH_STEP], "one linear layer, one step")


def import_package(pace: Pace) -> None:
    _run(pace, ["-c", "import layerwise"])


def show_help(pace: Pace) -> None:
    _run(pace, ["-m", "layerwise", "--help"])


def first_step(pace: Pace) -> None:
    _run(pace, ["-m", "layerwise", "train", "lenet5", "--dry-run"])


HELP, FIRST, TORCH, STEP = f"{OURS} --help", "first step of lenet5", "import torch", "first step of torch"
WORKLOAD = Workload(
    title="fresh processes",
    unit="start",
    launches=1,
    turns=9,
    contenders=(
        Contender(name="python -c pass", run="bench.startup:interpreter"),
        Contender(name="import layerwise", run="bench.startup:import_package"),
        Contender(name=HELP, run="bench.startup:show_help"),
        Contender(name=TORCH, run="bench.startup:import_torch"),
        Contender(name=STEP, run="bench.startup:torch_step"),
        Contender(name=FIRST, run="bench.startup:first_step"),
    ),
    goals=(Goal(ours=FIRST, peers=(STEP,), kind="overhead"),),
    limits={HELP: 0.5},
)
