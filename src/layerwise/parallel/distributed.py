"""Several processes that train one network: who they are, and the few collective operations that the loop needs.

A thin layer over torch.distributed without wrappers around modules and without pickle. With one process every
operation returns at once. All processes must call the same operations in the same order.
"""

# torch's operators on lists of tensors are public by use and private by name.
# pyright: reportPrivateImportUsage=false

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.parallel.launch import die_with_parent

_BUCKET_BYTES = 32 * 2**20  # gradients are sent in flat pieces of at least one parameter and about this size
_COUNT_SLOTS = (
    64  # counts travel in multiples of this, so that processes that count different things find out instead of hanging
)


@dataclass(frozen=True)
class World:
    """The processes of a training and this one's place among them.

    Args:
        rank: number of this process, 0 to size - 1.
        size: number of processes.
        local_rank: number of this process on its machine.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the terminal."""
        return self.rank == 0

    def reduce_sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums over processes.

        They travel flat, in the order given, so that the sum is the same in every run. A missing gradient counts as
        zeros; it stays missing only where every process misses it.
        """
        if self.size == 1:
            return
        for bucket in _buckets(parameters):
            self._reduce_bucket(bucket)

    def _reduce_bucket(self, bucket: Sequence[nn.Parameter]) -> None:
        first = bucket[0]
        sizes = [p.numel() for p in bucket]
        flat = torch.zeros(sum(sizes) + len(bucket), dtype=first.dtype, device=first.device)
        *views, present = flat.split([*sizes, len(bucket)])
        shaped = [view.view(p.shape) for view, p in zip(views, bucket, strict=True)]
        here = [(view, p.grad) for view, p in zip(shaped, bucket, strict=True) if p.grad is not None]
        if here:
            torch._foreach_copy_([view for view, _ in here], [gradient for _, gradient in here])
        present.copy_(torch.tensor([float(p.grad is not None) for p in bucket]))
        dist.all_reduce(flat)
        if here:
            torch._foreach_copy_([gradient for _, gradient in here], [view for view, _ in here])
        if len(here) < len(bucket):
            for parameter, view, anywhere in zip(bucket, shaped, present.tolist(), strict=True):
                if parameter.grad is None and anywhere:
                    parameter.grad = torch.empty_like(parameter, requires_grad=False).copy_(view)

    def sum_counts(self, counts: dict[str, float]) -> dict[str, float]:
        """Sums of named numbers over processes, in float64. Every process must give the same names.

        Raises:
            RuntimeError: names differ between processes.
        """
        if self.size == 1:
            return counts
        names = sorted(counts)
        digest = float(int.from_bytes(hashlib.blake2b("\0".join(names).encode(), digest_size=5).digest(), "little"))
        values = [digest, *(float(counts[name]) for name in names)]
        values += [0.0] * (-len(values) % _COUNT_SLOTS)
        sums = self.reduce_sum(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()
        if sums[0] != digest * self.size:
            raise RuntimeError(f"processes count different things; process {self.rank} has {names}")
        return dict(zip(names, sums[1:], strict=False))

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in at least one process."""
        return self.sum_counts({"flag": float(flag)})["flag"] > 0

    def gather(self, x: Tensor) -> Tensor:
        """Concatenate along the first dimension over processes, in order of rank, with gradient.

        The backward pass is the exact adjoint: gradients that all processes have for a part are summed in the process
            that owns it. Reducing
        parameter gradients by sums afterwards gives the gradient of the sum of the losses of all processes, whatever
        each one computed.

        Args:
            x: (N, ...); N may differ between processes, also be 0; the other sizes must not.
        """
        if self.size == 1:
            return x
        return cast(Tensor, _Gather.apply(x, self))

    def all_gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, in order of rank. Shapes and types may differ. No gradient."""
        if self.size == 1:
            return [tensor]
        return [state["tensor"] for state in self.gather_states({"tensor": tensor})]

    def gather_states(self, state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The named tensors of all processes, in order of rank. Names, shapes and types may differ.

        Tensors travel as bytes behind a JSON header.
        """
        if self.size == 1:
            return [state]
        entries = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        header = json.dumps(
            [[n, str(v.dtype).removeprefix("torch."), list(v.shape)] for n, v in entries.items()]
        ).encode()
        parts = [torch.frombuffer(bytearray(header), dtype=torch.uint8), *(_to_bytes(v) for v in entries.values())]
        payloads = self._gather_bytes(torch.cat(parts), len(header))
        devices = {name: value.device for name, value in state.items()}
        return [_read_state(payload, length, devices, self.device) for payload, length in payloads]

    def _gather_bytes(self, payload: Tensor, header_length: int) -> list[tuple[Tensor, int]]:
        """Payloads of all processes (uint8, on the CPU) with their header lengths."""
        own = torch.tensor([payload.numel(), header_length], device=self.device)
        sizes = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(sizes, own)
        lengths = [(int(total), int(header)) for total, header in (size.tolist() for size in sizes)]
        padded = torch.zeros(max(total for total, _ in lengths), dtype=torch.uint8, device=self.device)
        padded[: payload.numel()] = payload.to(self.device)
        received = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(received, padded)
        return [(data[:total].cpu(), header) for data, (total, header) in zip(received, lengths, strict=True)]

    def broadcast_module(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers of process 0."""
        if self.size == 1:
            return
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                packed = tensor.detach().contiguous()
                dist.broadcast(packed, src=0)
                if packed.data_ptr() != tensor.data_ptr():
                    tensor.copy_(packed)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group of processes."""
        if self.size > 1:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """Concatenation over processes; its adjoint sums gradients over processes and takes the own part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        parts = world.all_gather_tensors(x)
        sizes = [len(part) for part in parts]
        ctx.world, ctx.start, ctx.length = world, sum(sizes[: world.rank]), sizes[world.rank]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = ctx.world.reduce_sum(gradients[0].contiguous().clone())
        return total.narrow(0, ctx.start, ctx.length), None


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in the order given, cut where type or device changes and at about `_BUCKET_BYTES`."""
    bucket: list[nn.Parameter] = []
    size = 0
    for p in parameters:
        if bucket and (p.dtype != bucket[0].dtype or p.device != bucket[0].device or size + p.nbytes > _BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(p)
        size += p.nbytes
    if bucket:
        yield bucket


def _to_bytes(value: Tensor) -> Tensor:
    return value.reshape(-1).view(torch.uint8)


def _read_state(
    payload: Tensor, header: int, devices: dict[str, torch.device], other: torch.device
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    start = header
    for name, type_name, shape in json.loads(bytes(payload[:header].tolist())):
        dtype: torch.dtype = getattr(torch, type_name)
        length = torch.Size(shape).numel() * dtype.itemsize
        own_memory = payload[start : start + length].clone()  # aligned for any type
        found[name] = own_memory.view(dtype).reshape(shape).to(devices.get(name, other))
        start += length
    return found


def init_world(timeout_s: float = 300.0, device: str = "auto", *, init_method: str = "env://") -> World:
    """Join the processes that torch's launcher started; one process where there is no launcher.

    Reads RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them. Processes talk by gloo on CPUs and NCCL on GPUs, and
    die with their launcher.

    Args:
        timeout_s: how long an operation waits for the others before it fails.
        device: "auto" is a GPU where there is one for each process of this machine; "cuda" insists; all else is the
            CPU.
        init_method: how processes find each other, for torch.distributed.

    Raises:
        UnsupportedError: a GPU was asked for and there is none, or torch was built without distributed support.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and gpus < local_size:
        raise UnsupportedError(
            f"device=cuda: {local_size} processes and {gpus} GPUs on this machine. Use device=cpu or fewer processes."
        )
    on_gpu = device in ("auto", "cuda") and 0 < local_size <= gpus
    place = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if size == 1:
        return World(device=place)
    if not dist.is_available():
        raise UnsupportedError("Several processes: this build of torch has no torch.distributed. Use one process.")
    die_with_parent()
    if on_gpu:
        torch.cuda.set_device(place)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=init_method, rank=rank, world_size=size,
        timeout=timedelta(seconds=timeout_s), device_id=place if on_gpu else None,
    )  # fmt: skip
    return World(rank, size, local_rank, place)
