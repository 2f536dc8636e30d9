"""ResNet-50 on 1 and on 16 pictures of 224 x 224: logits from float32 pictures in memory.

The same trained-like weights on every side. Ours is `infer.freeze`, as `predict` and `eval` use it; its bf16 form is
shown without a goal, since no peer has one. The peers are ONNX Runtime on the exported network and torchvision's
network by torch.compile with frozen weights, channels_last. The mean size of the logits tells whether all compute the
same.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.limits import by_products, counted_flops
from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace
from bench.peers import peer

SIDE, CLASSES = 224, 1000
CALLS = {1: 10, 16: 2}  # a window


def network() -> nn.Module:
    """Ours, with statistics as after a training; the others take its weights."""
    from layerwise.api.models import create_model

    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    made = create_model("resnet50")
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.9)
    return made.eval()


def _run(pace: Pace, batch: int, call: Callable[[Tensor], Tensor], note: str) -> None:
    images = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(batch))
    with torch.inference_mode():
        logits = call(images)
        pace.first()
        call(images)
        pace.ready(float(logits.abs().mean()), note)
        while True:
            for _ in range(CALLS[batch]):
                call(images)
            pace.window(CALLS[batch] * batch)


def _ours(pace: Pace, batch: int, dtype: torch.dtype) -> None:
    from layerwise.infer.freeze import freeze

    _run(pace, batch, freeze(network(), dtype), "bf16" if dtype == torch.bfloat16 else "fp32")


def _plain(pace: Pace, batch: int) -> None:
    _run(pace, batch, network(), "fp32, as trained")


def _onnx(pace: Pace, batch: int) -> None:
    runtime = peer("onnxruntime")
    peer("onnxscript")  # the exporter needs it
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "resnet50.onnx"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network(), (torch.zeros(batch, 3, SIDE, SIDE),), path, input_names=["images"])
        options = runtime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    _run(pace, batch, lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), "fp32")


def _compiled(pace: Pace, batch: int) -> None:
    import torch._inductor.config as inductor

    theirs = peer("torchvision.models").resnet50().eval()
    theirs.load_state_dict(network().state_dict())
    theirs = theirs.to(memory_format=torch.channels_last)
    inductor.freezing = True  # pyright: ignore[reportAttributeAccessIssue]
    compiled = torch.compile(theirs)
    _run(pace, batch, lambda x: compiled(x.contiguous(memory_format=torch.channels_last)), "fp32, frozen")


def ours_1(pace: Pace) -> None:
    _ours(pace, 1, torch.float32)


def ours_16(pace: Pace) -> None:
    _ours(pace, 16, torch.float32)


def ours_bf16_1(pace: Pace) -> None:
    _ours(pace, 1, torch.bfloat16)


def ours_bf16_16(pace: Pace) -> None:
    _ours(pace, 16, torch.bfloat16)


def plain_1(pace: Pace) -> None:
    _plain(pace, 1)


def plain_16(pace: Pace) -> None:
    _plain(pace, 16)


def onnx_1(pace: Pace) -> None:
    _onnx(pace, 1)


def onnx_16(pace: Pace) -> None:
    _onnx(pace, 16)


def compiled_1(pace: Pace) -> None:
    _compiled(pace, 1)


def compiled_16(pace: Pace) -> None:
    _compiled(pace, 16)


def picture_flops() -> float:
    """Of products and convolutions of one forward pass."""
    from layerwise.api.models import create_model

    return counted_flops(lambda: create_model("resnet50").eval()(torch.empty(1, 3, SIDE, SIDE)))


def _side(name: str, run: str, batch: int, precision: str = "fp32") -> Contender:
    limit = by_products(picture_flops, precision)
    return Contender(
        name=f"{name}, batch {batch}", run=f"{__name__}:{run}_{batch}", rate=("pictures/s", 1.0), limit=limit
    )


def _sides(batch: int) -> tuple[Contender, ...]:
    return (
        _side(OURS, "ours", batch),
        _side("ONNX Runtime", "onnx", batch),
        _side("torch.compile", "compiled", batch),
        _side(f"{OURS} bf16", "ours_bf16", batch, "bf16"),
        _side(f"{OURS}, not frozen", "plain", batch),
    )


_SIDES = {batch: _sides(batch) for batch in CALLS}
WORKLOAD = Workload(
    title=f"ResNet-50 inference at {SIDE} x {SIDE}, one picture and sixteen",
    unit="picture",
    launches=1,
    turns=6,
    contenders=_SIDES[1] + _SIDES[16],
    goals=(
        *(
            Goal(ours=sides[0].name, peers=(sides[1].name, sides[2].name), kind="speedup", value=1.0)
            for sides in _SIDES.values()
        ),
        *(Goal(ours=sides[0].name, peers=(sides[4].name,), kind="speedup") for sides in _SIDES.values()),
    ),
)
