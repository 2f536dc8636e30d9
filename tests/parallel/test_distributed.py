"""Collective operations between real gloo processes.

This file is also the program that each process runs: `python FILE FOLDER`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.core.errors import UnsupportedError
from layerwise.nn.batch_norm import synchronise_batch_norm
from layerwise.parallel import distributed
from layerwise.parallel.distributed import World, init_world

SIZE = 2


def start(arguments: list[str], output: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(distributed.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    own = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, __file__, *arguments], env=own, text=True, stdout=output, stderr=subprocess.STDOUT
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    """What each process computed: (tensors, JSON values)."""
    folder = tmp_path_factory.mktemp("processes")
    places = [{"RANK": str(rank), "WORLD_SIZE": str(SIZE), "LOCAL_RANK": str(rank)} for rank in range(SIZE)]
    workers = [start([str(folder)], subprocess.PIPE, **place) for place in places]
    try:
        outputs = [worker.communicate(timeout=90)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * SIZE, "\n".join(outputs)
    return [
        (load_file(folder / f"{rank}.safetensors"), json.loads((folder / f"{rank}.json").read_text()))
        for rank in range(SIZE)
    ]


Found = list[tuple[dict[str, Tensor], dict[str, Any]]]

# ------------------------------------------------------------------------------------------- what each process computes


def make_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).double()


def data() -> Tensor:
    return torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def contrastive(network: nn.Module, x: Tensor, world: World) -> Tensor:
    """Own rows against everybody's: a sum over own rows."""
    z = network(x)
    everybody = world.gather(z)
    ids = torch.arange(5) if len(z) == 5 else (torch.arange(3), torch.arange(3, 5))[world.rank]
    return F.cross_entropy(z @ everybody.T, ids, reduction="sum")


def gradients(world: World, out: dict[str, Tensor], notes: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(world.rank)
    shapes = [(3, 4, 2, 2), (5,), (), (2, 2), (2,)]
    parameters = [
        nn.Parameter(torch.zeros(s, dtype=torch.float32 if i < 3 else torch.float64)) for i, s in enumerate(shapes)
    ]
    for i, p in enumerate(parameters):
        value = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        out[f"own gradient {i}"] = value.clone()
        p.grad = value.contiguous(memory_format=torch.channels_last) if p.ndim == 4 else value
    parameters[1].grad = None if world.rank == 1 else parameters[1].grad
    parameters[4].grad = None
    kept = parameters[0].grad
    for bucket_bytes in (10, distributed._BUCKET_BYTES):  # one parameter a bucket, then all together
        distributed._BUCKET_BYTES = bucket_bytes
        world.reduce_gradients(parameters)
        out |= {f"gradient {i} {bucket_bytes > 10}": p.grad.clone() for i, p in enumerate(parameters[:4])}
    notes["in place"] = parameters[0].grad is kept
    notes["missing everywhere stays missing"] = parameters[4].grad is None


def training(world: World, out: dict[str, Tensor], notes: dict[str, Any]) -> None:
    torch.manual_seed(world.rank)  # on purpose: other weights in each process
    network = make_network()
    network[0].to(memory_format=torch.channels_last)
    with torch.no_grad():
        network[1].running_mean.fill_(world.rank)
    world.broadcast_module(network)
    out |= {f"broadcast {name}": value.clone().contiguous() for name, value in network.state_dict().items()}
    synchronise_batch_norm(network, world.reduce_sum)
    contrastive(network, data().split([3, 2])[world.rank], world).backward()
    world.reduce_gradients(network.parameters())
    out |= {f"trained {name}": p.grad.contiguous() for name, p in network.named_parameters()}


def collections(world: World, out: dict[str, Tensor], notes: dict[str, Any]) -> None:
    notes["counts"] = world.sum_counts({"b": 0.1 * (world.rank + 1), "a": 2**40 + world.rank})
    notes["any"] = [world.any_process(world.rank == 1), world.any_process(False)]
    try:
        world.sum_counts({"a": 1.0} if world.rank else {"b": 1.0, "c": 2.0})
    except RuntimeError as error:
        notes["other names"] = str(error)
    own = torch.arange(3 * world.rank, dtype=torch.int64).view(-1, 3)
    notes["ragged"] = [t.tolist() for t in world.all_gather_tensors(own)]
    x = torch.full((world.rank, 2), 3.0, requires_grad=True)  # nothing in process 0
    gathered = world.gather(x)
    (gathered.sum() * (world.rank + 1)).backward()
    notes["gathered"], notes["gathered gradient"] = gathered.tolist(), x.grad.tolist()
    state = {"flag": torch.tensor(True), "scores": torch.full((2, world.rank + 1), 0.5, dtype=torch.bfloat16)}
    if world.rank == 1:
        state |= {"only here": torch.tensor([1.5], dtype=torch.float64), "none": torch.zeros(0, 4)}
    states = world.gather_states(state)
    notes["states"] = [
        {n: [str(t.dtype), list(t.shape), t.double().flatten().tolist()] for n, t in s.items()} for s in states
    ]


def worker(folder: Path) -> None:
    torch.set_num_threads(1)
    world = init_world(30.0, "cpu", init_method=f"file://{folder}/meet")
    out: dict[str, Tensor] = {}
    notes: dict[str, Any] = {"world": [world.rank, world.size, world.local_rank, str(world.device), world.is_main]}
    for work in (gradients, training, collections):
        work(world, out, notes)
    world.barrier()
    world.close()
    save_file({name: value.contiguous() for name, value in out.items()}, folder / f"{world.rank}.safetensors")
    (folder / f"{world.rank}.json").write_text(json.dumps(notes))


# ---------------------------------------------------------------------------------------------------------------- tests


def test_each_process_knows_its_place(found: Found) -> None:
    assert [notes["world"] for _, notes in found] == [[0, 2, 0, "cpu", True], [1, 2, 1, "cpu", False]]


def test_gradients_are_summed_in_place_and_missing_ones_count_as_zeros(found: Found) -> None:
    (first, notes), (second, _) = found
    for i in range(4):
        a, b = first[f"own gradient {i}"], second[f"own gradient {i}"]
        expected = a if i == 1 else a + b
        for out in (first, second):
            assert torch.equal(out[f"gradient {i} False"], expected)
            # Reduced once more: now every process has the sum.
            assert torch.equal(out[f"gradient {i} True"], 2 * expected)
    assert notes["in place"]
    assert notes["missing everywhere stays missing"]


def test_broadcast_gives_everybody_the_first_ones_weights_and_buffers(found: Found) -> None:
    torch.manual_seed(0)
    expected = make_network().state_dict()
    for out, _ in found:
        assert all(torch.equal(out[f"broadcast {name}"], value) for name, value in expected.items())


def test_contrastive_gradients_with_synchronised_batch_norm_equal_one_process(found: Found) -> None:
    torch.manual_seed(0)
    network = make_network()
    contrastive(network, data(), World()).backward()
    for name, p in network.named_parameters():
        for out, _ in found:
            torch.testing.assert_close(out[f"trained {name}"], p.grad, rtol=1e-12, atol=1e-12)  # float64, 3 + 2 of 5


def test_counts_are_summed_in_float64(found: Found) -> None:
    for _, notes in found:
        assert notes["counts"] == {"a": 2**41 + 1, "b": 0.1 + 0.2}
        assert notes["any"] == [True, False]


def test_counting_different_things_is_an_error_in_every_process(found: Found) -> None:
    assert ["['b', 'c']" in found[0][1]["other names"], "['a']" in found[1][1]["other names"]] == [True, True]


def test_ragged_tensors_are_gathered_in_order_of_rank(found: Found) -> None:
    for _, notes in found:
        assert notes["ragged"] == [[], [[0, 1, 2]]]
        assert notes["gathered"] == [[3.0, 3.0]]


def test_gradient_of_a_gather_is_summed_over_processes(found: Found) -> None:
    assert [notes["gathered gradient"] for _, notes in found] == [[], [[3.0, 3.0]]]


def test_states_may_differ_in_names_shapes_and_types(found: Found) -> None:
    flag = ["torch.bool", [], [1.0]]
    for _, notes in found:
        assert notes["states"] == [
            {"flag": flag, "scores": ["torch.bfloat16", [2, 1], [0.5] * 2]},
            {
                "flag": flag, "scores": ["torch.bfloat16", [2, 2], [0.5] * 4],
                "only here": ["torch.float64", [1], [1.5]], "none": ["torch.float32", [0, 4], []],
            },
        ]  # fmt: skip


def test_one_process_gets_back_what_it_gave() -> None:
    world, x, state, counts = init_world(device="cpu"), torch.ones(2), {"a": torch.ones(1)}, {"a": 1.0}
    assert world == World()
    p = nn.Parameter(torch.ones(1))
    world.reduce_gradients([p])
    world.broadcast_module(nn.Linear(1, 1))
    world.barrier()
    world.close()
    assert p.grad is None
    assert world.gather(x) is x
    assert world.reduce_sum(x) is x
    assert world.all_gather_tensors(x)[0] is x
    assert world.gather_states(state)[0] is state
    assert world.sum_counts(counts) is counts
    assert world.any_process(True)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="device=cuda"):
        init_world(device="cuda")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is asked for on Linux only")
def test_a_worker_dies_with_its_launcher(tmp_path: Path) -> None:
    launcher = start(["--launch", str(tmp_path)])
    try:
        pid_file, deadline = tmp_path / "ready", time.monotonic() + 60
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        pid = int(pid_file.read_text())
        os.kill(launcher.pid, signal.SIGKILL)
        launcher.wait()
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(pid)
    finally:
        launcher.kill()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def launch_and_wait(folder: str) -> None:
    alone = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}  # it waits for a peer that never comes
    start(["--linger", folder], **alone).wait()


def linger(folder: Path) -> None:
    from torch import distributed as dist

    original = dist.init_process_group

    def announce(*args: Any, **kwargs: Any) -> None:
        (folder / "pid").write_text(str(os.getpid()))
        (folder / "pid").rename(folder / "ready")
        original(*args, **kwargs)

    dist.init_process_group = announce
    init_world(50.0, "cpu", init_method=f"file://{folder}/meet")


if __name__ == "__main__":
    if sys.argv[1] == "--launch":
        launch_and_wait(sys.argv[2])
    elif sys.argv[1] == "--linger":
        linger(Path(sys.argv[2]))
    else:
        worker(Path(sys.argv[1]))
