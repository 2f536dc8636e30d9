"""A run on disk: names, lock, metrics log, summaries."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from layerwise.core.errors import CheckpointError, ConfigError, LockedError, StorageError
from layerwise.track.run_directory import MetricsLog, RunDirectory, diff_runs, environment, list_runs

CONFIG = "task:\n  name: image_classification\nmodel:\n  name: lenet5\n  channels: [6, 16]\ndata: digits\nepochs: 30\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def python(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=ENVIRONMENT, **options,
    )  # fmt: skip


def begun(path, config=CONFIG):
    run = RunDirectory(path)
    run.create(config)
    return run


# --------------------------------------------------------------------------------------------------------- making


def test_runs_are_made_without_torch(tmp_path):
    code = """
        import sys
        from layerwise.track import report, run_directory, files, tensorboard, store
        run = run_directory.RunDirectory.next(sys.argv[1], "lenet5")
        with run.lock():
            run.create("epochs: 1\\n")
            run.metrics_log().append({"step": 1})
            run.set_status("running", 1)
        report.write_report(run, report.ReportData(title="t", summary="s"))
        print(run.path.name, "torch" in sys.modules, "numpy" in sys.modules)
    """
    process = python(code, tmp_path)
    assert process.communicate()[0].split() == ["lenet5-1", "False", "False"]


def test_numbers_go_up_and_names_are_safe(tmp_path):
    assert RunDirectory.next(tmp_path, "lenet5").path == tmp_path / "lenet5-1"
    (tmp_path / "lenet5-9").mkdir()
    (tmp_path / "lenet5-x").mkdir()
    (tmp_path / "lenet5-99-copy").mkdir()
    assert RunDirectory.next(tmp_path, "lenet5").path.name == "lenet5-10"
    assert RunDirectory.next(tmp_path, "../my recipes/a.yaml").path == tmp_path / "my-recipes-a.yaml-1"


def test_no_two_processes_get_one_name(tmp_path):
    code = """
        import sys
        from layerwise.track.run_directory import RunDirectory
        sys.stdin.readline()
        print(*(RunDirectory.next(sys.argv[1], "r").path.name for _ in range(25)))
    """
    processes = [python(code, tmp_path) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert sorted(names) == sorted(f"r-{n}" for n in range(1, 101))


def test_create_writes_config_and_environment_once(tmp_path):
    run = begun(tmp_path / "a" / "b")
    assert run.read_config() == CONFIG
    assert run.exists()
    with pytest.raises(ConfigError, match=f"already holds a run.*layerwise train {run.path}"):
        run.create(CONFIG)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ConfigError, match=r"not a run \(it has 'photo.jpg'\)"):
        RunDirectory(tmp_path).create(CONFIG)
    assert os.listdir(tmp_path) == ["photo.jpg"]


def test_reading_no_run_is_plain(tmp_path):
    with pytest.raises(ConfigError, match="is not a run"):
        RunDirectory(tmp_path / "absent").read_config()


def test_environment_names_what_is_installed():
    import torch

    env = environment()
    assert env["versions"]["torch"] == torch.__version__
    assert env["machine"]["cores"] >= 1
    assert env["machine"]["memory_bytes"] > 1 << 28
    json.dumps(env, allow_nan=False)


def test_commit_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert environment()["git"] is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run(["git", "add", "a"], check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "one"], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert environment()["git"] == {"commit": commit, "changed": False}
    (tmp_path / "a").write_text("2")
    assert environment()["git"] == {"commit": commit, "changed": True}


def test_choices_are_added_to_the_environment(tmp_path):
    run = begun(tmp_path / "r")
    run.update_env({"device": "cpu", "threads": 2})
    run.update_env({"threads": 1})
    assert run.read_env()["choices"] == {"device": "cpu", "threads": 1}
    assert "versions" in run.read_env()
    run.env.unlink()
    run.update_env({"device": "cpu"})
    assert "versions" in run.read_env()


def test_crash_log_keeps_earlier_crashes(tmp_path):
    run = begun(tmp_path / "r")
    run.write_crash("Traceback one\n")
    run.write_crash("Traceback two")
    text = run.crash.read_text()
    assert text.index("Traceback one") < text.index("Traceback two")


# ----------------------------------------------------------------------------------------------------------- lock

HOLD = """
    import sys
    from layerwise.track.run_directory import RunDirectory
    with RunDirectory(sys.argv[1]).lock():
        print("held", flush=True)
        sys.stdin.readline()
"""


def test_second_writer_is_refused_and_the_first_named(tmp_path):
    run = begun(tmp_path / "r")
    with python(HOLD, run.path) as process:
        assert process.stdout.readline() == "held\n"
        assert run.is_locked()
        with pytest.raises(LockedError, match=f"process {process.pid} on ") as caught, run.lock():
            pass
        assert caught.value.exit_code == 3
        process.communicate("\n")
    assert not run.is_locked()
    with run.lock():
        assert run.is_locked()


def test_lock_dies_with_its_process(tmp_path):
    run = begun(tmp_path / "r")
    with python(HOLD, run.path) as process:
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
    with run.lock():
        pass


def test_forked_and_started_children_do_not_hold_the_lock(tmp_path):
    code = """
        import os, subprocess, sys, time
        from layerwise.track.run_directory import RunDirectory
        with RunDirectory(sys.argv[1]).lock():
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            other = subprocess.Popen(["sleep", "30"], stdout=subprocess.DEVNULL)
            time.sleep(0.1)
            print(child, other.pid, flush=True)
            sys.stdin.readline()
    """
    run = begun(tmp_path / "r")
    with python(code, run.path) as process:
        children = [int(pid) for pid in process.stdout.readline().split()]
        try:
            assert run.is_locked()
            process.send_signal(signal.SIGKILL)
            process.wait()
            for child in children:
                os.kill(child, 0)
            with run.lock():
                pass
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_lock_is_released_after_an_error_inside(tmp_path):
    run = begun(tmp_path / "r")
    with pytest.raises(ZeroDivisionError), run.lock():
        _ = 1 / 0
    assert not run.is_locked()


def test_directory_that_cannot_be_written_is_plain(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(StorageError, match="read-only"), RunDirectory(tmp_path / "r").lock():
        pass
    with pytest.raises(StorageError, match="read-only"):
        RunDirectory.next(tmp_path, "r")


# -------------------------------------------------------------------------------------------------------- metrics


def test_lines_come_back_with_numbers_that_json_lacks(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    lines = [{"step": 1, "train/loss": 0.1 + 0.2, "stage": "one"}, {"step": 2, "train/loss": math.inf, "b": -math.inf}]
    for line in lines:
        log.append(line)
    log.append({"step": 3, "train/loss": math.nan})
    found = log.read()
    assert found[:2] == lines
    assert math.isnan(found[2]["train/loss"])
    for text in (tmp_path / "m.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=pytest.fail)


def test_lines_wait_for_a_block(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl", flush_lines=3, flush_s=1e9)
    log.append({"step": 1})
    log.append({"step": 2})
    assert not (tmp_path / "m.jsonl").exists()
    log.append({"step": 3})
    assert (tmp_path / "m.jsonl").read_text().count("\n") == 3
    slow = MetricsLog(tmp_path / "n.jsonl", flush_lines=1000, flush_s=0.0)
    slow.append({"step": 1})
    assert (tmp_path / "n.jsonl").read_text() == '{"step": 1}\n'


def test_cut_gives_the_file_that_an_uninterrupted_run_would_have(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append({"step": 1})
    log.append({"step": 2})
    offset = log.offset()
    assert offset == (tmp_path / "m.jsonl").stat().st_size
    log.append({"step": 3})
    log.flush()
    log.append({"step": 4})
    log.close()
    again = MetricsLog(tmp_path / "m.jsonl")
    again.append({"step": "waits and must be forgotten"})
    again.cut(offset)
    again.append({"step": 3})
    assert [line["step"] for line in again.read()] == [1, 2, 3]
    again.cut(0)
    assert again.read() == []


def test_offset_is_durable(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_size), fsync(handle)))
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append({"step": 1})
    assert log.offset() == synced[-1] > 0


@pytest.mark.parametrize("offset", [5, 10_000])
def test_cut_where_no_line_ends_is_damage(tmp_path, offset):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append({"step": 1})
    log.flush()
    with pytest.raises(CheckpointError, match=r"m\.jsonl is damaged"):
        log.cut(offset)


def test_torn_last_line_is_left_out_and_not_built_upon(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "train/lo')
    log = MetricsLog(path)
    assert [line["step"] for line in log.read()] == [1, 2]
    log.append({"step": 3})
    assert [line["step"] for line in log.read()] == [1, 2, 3]
    path.write_text("x" * 10_000)
    torn = MetricsLog(path)
    torn.append({"step": 1})
    assert torn.read() == [{"step": 1}]


def test_damage_inside_is_named_by_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"m\.jsonl, line 2: damaged"):
        MetricsLog(path).read()


def test_last_values_come_from_the_end_of_a_long_log(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    for step in range(2000):
        log.append({"step": step, "train/loss": step / 7, **({"val/accuracy": step / 2000} if step % 100 == 0 else {})})
    assert log.last(tail_bytes=8192) == {"step": 1999, "train/loss": 1999 / 7, "val/accuracy": 0.95}


def test_full_disk_while_logging_is_plain(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append({"step": 1})

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageError, match=r"m\.jsonl: the disk is full"):
        log.flush()


# ------------------------------------------------------------------------------------------------------ many runs


def test_status_tells_running_from_killed(tmp_path):
    run = begun(tmp_path / "r")
    run.set_status("running", 7)
    assert run.status()["status"] == "killed"
    with run.lock():
        assert run.status() == {"status": "running", "step": 7, "reason": ""}
    run.set_status("failed", 8, "loss is NaN")
    assert run.status() == {"status": "failed", "step": 8, "reason": "loss is NaN"}


def test_runs_are_listed_with_what_they_reached(tmp_path):
    one, two = begun(tmp_path / "one"), begun(tmp_path / "two", "model: mlp\nepochs: 1\n")
    for run, started in ((one, "2024-02-01"), (two, "2024-01-01")):
        env = run.read_env()
        run.env.write_text(json.dumps({**env, "started": started}))
    log = one.metrics_log()
    log.append({"step": 10, "train/loss": 1.0, "val/accuracy": 0.5})
    log.append({"step": 20, "val/accuracy": 0.75})
    log.close()
    one.set_status("finished", 20)
    (tmp_path / "not-a-run").mkdir()
    (tmp_path / "file").touch()
    found = list_runs(tmp_path)
    assert [summary.run.path.name for summary in found] == ["two", "one"]
    assert (found[1].status, found[1].step, found[1].model, found[1].data) == ("finished", 20, "lenet5", "digits")
    assert found[1].metrics == {"val/accuracy": 0.75}
    assert found[0].model == "mlp"
    assert list_runs(tmp_path / "absent") == []


def test_differences_are_named_by_dotted_key(tmp_path):
    a = begun(tmp_path / "a")
    b = begun(tmp_path / "b", CONFIG.replace("[6, 16]", "[6, 32]").replace("epochs: 30", "epochs: 3\nseed: 1"))
    for run, value in ((a, 0.5), (b, 0.75)):
        log = run.metrics_log()
        log.append({"step": 1, "val/accuracy": value, "val/loss": 1.0})
        log.close()
    a.update_env({"threads": 1})
    b.update_env({"threads": 2})
    assert diff_runs(a, b) == {
        "config": {"model.channels.1": ("16", "32"), "epochs": ("30", "3"), "seed": (None, "1")},
        "metrics": {"val/accuracy": (0.5, 0.75)},
        "environment": {"choices.threads": (1, 2)},
    }
