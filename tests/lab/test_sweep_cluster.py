"""Sweeps on dask.distributed: a LocalCluster, and a scheduler and workers of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab.sweeping import (
    PATIENCE_S,
    TESTS,
    Start,
    begun,
    command,
    config,
    finished,
    wait_for,
)

from minigrad.cli import main
from minigrad.lab import sweep
from minigrad.lab.sweep import Config

distributed = pytest.importorskip("distributed", reason='needs pip install "minigrad-bptt[test]"')
pytestmark = [
    pytest.mark.slow,
    # Sockets and loops that tornado and distributed leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:(distributed|tornado|dask)"),
]

SETTINGS = {"MINIGRAD_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dask(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    with open(folder / "dask.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words], stdout=log, stderr=log, cwd=folder,
            env={**os.environ, **SETTINGS, "PYTHONPATH": path},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def scheduling(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    with dask(folder, "scheduler", *words) as process:
        wait_for(lambda: answers(port))
        yield f"tcp://127.0.0.1:{port}", process


def working(folder: Path, address: str, *more: str) -> AbstractContextManager[Any]:
    words = ["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *(more or ["--no-nanny"])]
    return dask(folder, "worker", address, *words)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("dask")
    # A nanny each: it starts a worker that was killed again.
    with scheduling(folder) as (address, _), working(folder, address, "--nworkers", "2"):
        yield address


def on_cluster(words: list[str], address: str) -> list[str]:
    place = words.index("--workers")
    return [*words[:place], *words[place + 2 :], "--scheduler", address]


def test_a_sweep_runs_on_a_local_cluster(tmp_path: Path) -> None:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None,
        host="127.0.0.1", protocol="tcp",
    ) as cluster:  # fmt: skip
        report = sweep.run(
            config(tmp_path, "odd_fails", 5), tmp_path / "out", scheduler=cluster.scheduler_address
        )
    assert report.done == 5
    assert sorted(row["parameters"]["a"] for row in report.failed) == [1, 3]
    assert {row["error"] for row in report.failed} == {
        "ArithmeticError: 1 is odd", "ArithmeticError: 3 is odd",
    }  # fmt: skip


@pytest.mark.long
def test_a_sweep_runs_on_a_scheduler_and_workers_of_their_own(
    tmp_path: Path, scheduler: str
) -> None:
    out = tmp_path / "out"
    sweep.run(config(tmp_path, "square", 4), out, scheduler=scheduler)
    report = sweep.run(config(tmp_path, "square", 7), out, scheduler=scheduler)
    assert report.done == 3  # it goes on where it was
    assert Counter(begun(tmp_path)) == dict.fromkeys(range(7), 1)
    assert [row["results"]["square"] for row in report.rows.values()] == [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.long
def test_a_run_whose_worker_was_killed_goes_to_another(tmp_path: Path, scheduler: str) -> None:
    report = sweep.run(config(tmp_path, "one_dies_once", 3), tmp_path / "out", scheduler=scheduler)
    assert report.failed == []
    assert Counter(begun(tmp_path))[1] == 2


@pytest.mark.long
def test_a_run_that_kills_every_worker_is_given_up(tmp_path: Path, scheduler: str) -> None:
    report = sweep.run(
        config(tmp_path, "one_always_dies", 3), tmp_path / "out", scheduler=scheduler
    )
    (failed,) = report.failed
    assert failed["error"] == "worker died (4 times)"
    assert report.done == 3


@pytest.mark.long
def test_a_sweep_on_a_cluster_killed_twice_has_every_run_once(
    tmp_path: Path, start: Start, scheduler: str
) -> None:
    words = on_cluster(command(tmp_path, "square", 20, sleep=0.1), scheduler)
    for _ in range(2):
        before, first = finished(tmp_path), len(begun(tmp_path))
        process = start(words)
        wait_for(lambda: len(finished(tmp_path)) >= len(before) + 3)  # noqa: B023
        process.kill()
        process.communicate()
        assert not set(before) & set(begun(tmp_path)[first:]), "a finished run was repeated"
        assert finished(tmp_path)[: len(before)] == before, "a finished run was lost"
    process = start(words)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert sorted(finished(tmp_path)) == list(range(20))


@pytest.mark.long
def test_ctrl_c_gives_the_cluster_back_and_says_how_to_go_on(
    tmp_path: Path, start: Start, scheduler: str
) -> None:
    words = on_cluster(command(tmp_path, "square", 200, sleep=0.1), scheduler)
    process = start(words)
    wait_for(lambda: len(finished(tmp_path)) >= 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith(f"--scheduler {scheduler}")
    with distributed.Client(scheduler, set_as_default=False, timeout=PATIENCE_S) as client:
        wait_for(lambda: not any(client.processing().values()))


@pytest.mark.long
def test_a_sweep_waits_for_workers_and_ends_in_order_when_the_scheduler_is_lost(
    tmp_path: Path,
    start: Start,
) -> None:
    with scheduling(tmp_path) as (address, process):
        sweeping = start(on_cluster(command(tmp_path, "square", 500, sleep=0.1), address))
        assert sweeping.stderr is not None
        said = sweeping.stderr.readline()
        assert f"no workers yet: start some with `dask worker {address}`" in said
        with working(tmp_path, address):
            wait_for(lambda: len(finished(tmp_path)) >= 2)
            process.kill()
            _, err = sweeping.communicate(timeout=PATIENCE_S)
    assert sweeping.returncode == 2
    assert "Traceback" not in err
    assert "the connection was lost; what is finished is safe" in err.splitlines()[-1]
    assert 2 <= len(finished(tmp_path)) < 500


def test_workers_that_lack_the_function_are_named_before_any_run_is_blamed(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def run(values):\n    return {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    wanted = Config({"a": (1, 2)}, {}, "only_here:run")
    with pytest.raises(
        sweep.ClusterError, match=r"worker tcp://.*: cannot import only_here \(ModuleNotFound"
    ):
        sweep.run(wanted, tmp_path / "out", scheduler=scheduler)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b""


def test_workers_that_join_late_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def run(values):\n    return {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    wanted = Config({"a": (1, 2)}, {}, "only_here:run")
    (tmp_path / "there").mkdir()
    # The worker takes a second to start, and the sweep does not wait for it.
    with (
        scheduling(tmp_path / "there") as (address, _),
        working(tmp_path / "there", address),
        pytest.raises(sweep.ClusterError, match="cannot import only_here"),
    ):
        sweep.run(wanted, tmp_path / "out", scheduler=address)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b""


def test_workers_of_another_version_are_refused(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigrad.lab.sweep.cluster._version", lambda: "99.0")
    with pytest.raises(sweep.ClusterError, match=r"has minigrad .*, here it is 99\.0; install"):
        sweep.run(config(tmp_path, "square", 1), tmp_path / "out", scheduler=scheduler)


def test_without_distributed_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(sweep.ClusterError, match=r'pip install "minigrad-bptt\[cluster\]"'):
        sweep.run(config(tmp_path, "square", 1), tmp_path / "out", scheduler="tcp://h:1")


def test_an_address_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(sweep.ClusterError, match=r"'nonsense': is no address .*tcp://HOST:8786"):
        sweep.run(config(tmp_path, "square", 1), tmp_path / "out", scheduler="nonsense")


def test_a_scheduler_that_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigrad.lab.sweep.cluster.TIMEOUT_S", 1.0)
    path = tmp_path / "c.toml"
    path.write_text('function = "lab.sweep_runs:square"\n[grid]\na = [1]\n')
    address = f"tcp://127.0.0.1:{free_port()}"
    words = ["sweep", str(path), "--out", str(tmp_path / "out"), "--scheduler", address]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"scheduler {address}: no answer within 1 s" in line
