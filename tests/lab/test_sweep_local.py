"""Sweeps on real processes of this machine, killed in every way."""

from __future__ import annotations

import csv
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from lab.sweeping import (
    PATIENCE_S,
    Start,
    alive,
    begun,
    command,
    config,
    finished,
    wait_for,
    workers,
)

from minigrad.cli import main
from minigrad.lab import sweep

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_sweep_killed_eight_times_has_every_run_once(tmp_path: Path, start: Start) -> None:
    chance, words = random.Random(7), command(tmp_path, "square", 40, sleep=0.02)
    for kill in range(8):
        before, first = finished(tmp_path), len(begun(tmp_path))
        process = start(words)
        more = chance.randint(0, 5)
        if kill % 4 == 3:  # at its very start, too
            time.sleep(chance.uniform(0.0, 0.4))
        else:
            wait_for(lambda: len(finished(tmp_path)) >= len(before) + more)  # noqa: B023
            time.sleep(chance.uniform(0.0, 0.03))
        process.kill()
        process.communicate()
        assert not set(before) & set(begun(tmp_path)[first:]), "a finished run was repeated"
        assert finished(tmp_path)[: len(before)] == before, "a finished run was lost"
    process = start(words)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert sorted(finished(tmp_path)) == list(range(40))
    assert "40 runs in" in out
    with open(tmp_path / "out" / "results.csv", encoding="utf-8") as table:
        assert [int(row["a"]) for row in csv.DictReader(table)] == list(range(40))


@pytest.mark.long
@pytest.mark.parametrize(
    "function",
    [
        "waits",
        pytest.param(
            "holds_the_interpreter",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="needs prctl(2)"),
        ),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="looks at processes by their id")
def test_workers_end_with_a_coordinator_that_was_killed(
    tmp_path: Path, start: Start, function: str
) -> None:
    process = start(command(tmp_path, function, 2))
    wait_for(lambda: len(begun(tmp_path)) == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, workers(tmp_path))))


def test_ctrl_c_says_how_to_go_on_and_leaves_nothing_behind(tmp_path: Path, start: Start) -> None:
    process = start(command(tmp_path, "waits", 3))
    wait_for(lambda: len(begun(tmp_path)) == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "stopped with 0 of 3 runs in" in err
    assert "minigrad sweep" in err.splitlines()[-1]
    assert "Traceback" not in err
    wait_for(lambda: not any(map(alive, workers(tmp_path))))


def test_a_second_sweep_in_one_folder_is_refused_while_the_first_lives(
    tmp_path: Path, start: Start
) -> None:
    words = command(tmp_path, "waits", 2)
    first = start(words)
    wait_for(lambda: len(begun(tmp_path)) == 2)
    second = start(words)
    _, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 2
    assert err.count("\n") == 1
    assert f"another sweep is writing here (process {first.pid})" in err
    assert len(begun(tmp_path)) == 2
    first.kill()
    first.communicate()
    (tmp_path / "begun").unlink()
    third = start(words)  # the lock has gone with its process
    wait_for(lambda: len(begun(tmp_path)) == 2)
    third.kill()
    third.communicate()


@pytest.mark.long
def test_a_sweep_whose_workers_are_killed_at_random_has_every_run_once(
    tmp_path: Path, start: Start
) -> None:
    chance, done, killed = random.Random(3), threading.Event(), Counter[int]()

    def kill_workers() -> None:
        while not done.wait(chance.uniform(0.1, 0.5)):
            path = tmp_path / "begun"
            if path.exists():
                pid = int(path.read_text().split()[-1])  # of the last run that was begun
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed[pid] += 1

    killer = threading.Thread(target=kill_workers)
    killer.start()
    try:
        report = sweep.run(
            config(tmp_path, "square", 40, sleep=0.05), tmp_path / "out", workers=2, retries=50
        )
    finally:
        done.set()
        killer.join()
    assert killed, "no worker was killed: the test tests nothing"
    assert report.failed == []
    assert sorted(finished(tmp_path)) == list(range(40))
    assert [row["results"]["square"] for row in report.rows.values()] == [a * a for a in range(40)]


def test_a_worker_that_dies_is_replaced_and_its_run_done_again(tmp_path: Path) -> None:
    report = sweep.run(config(tmp_path, "one_dies_once", 5), tmp_path / "out", workers=2)
    assert (report.total, report.done, report.failed) == (5, 5, [])
    assert Counter(begun(tmp_path)) == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1}
    assert {r["parameters"]["a"]: r["attempts"] for r in report.rows.values()}[1] == 2


@pytest.mark.long
def test_a_run_that_kills_every_worker_is_given_up_and_the_rest_is_done(tmp_path: Path) -> None:
    report = sweep.run(config(tmp_path, "one_always_dies", 4), tmp_path / "out", workers=1)
    (failed,) = report.failed
    assert failed["error"] == "worker died (signal 9, SIGKILL)"
    assert Counter(begun(tmp_path)) == {0: 1, 1: 3, 2: 1, 3: 1}


def test_a_run_that_raises_is_reported_and_done_again_on_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = command(tmp_path, "odd_fails", 4)[3:]
    assert main(words) == 1
    err = capfd.readouterr().err
    assert "failed: a=1: ArithmeticError: 1 is odd" in err
    assert "2 failed; tracebacks are in" in err
    rows = sweep.open_for_reading(tmp_path / "out")[1].values()
    trace = next(row["traceback"] for row in rows if row["parameters"]["a"] == 3)
    assert "sweep_runs.py" in trace
    assert main(words) == 1  # a failure is a result: it is not done again by itself
    assert Counter(begun(tmp_path)) == {0: 1, 1: 1, 2: 1, 3: 1}
    (tmp_path / "mended").touch()
    assert main([*words, "--retry-failed"]) == 0
    assert Counter(begun(tmp_path)) == {0: 1, 1: 2, 2: 1, 3: 2}
    capfd.readouterr()
    assert main(["sweep", "--show", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().out.splitlines()[2].split()[:5] == ["1", "1", "of", "1", "1"]


def test_without_retries_a_death_is_a_failure_at_once(tmp_path: Path) -> None:
    report = sweep.run(config(tmp_path, "leaves", 1), tmp_path / "out", workers=1, retries=0)
    (failed,) = report.failed
    assert (failed["error"], failed["attempts"]) == ("worker died (exit status 7)", 1)


def test_workers_that_cannot_start_end_the_sweep_and_no_run_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigrad.lab.sweep.local.START", "raise SystemExit('no such library')")
    with pytest.raises(sweep.SweepError, match=r"no worker starts: .*1\), it said 'no such libr"):
        sweep.run(config(tmp_path, "square", 5), tmp_path / "out", workers=2)
    assert finished(tmp_path) == []


def test_a_grown_grid_runs_what_is_new(tmp_path: Path) -> None:
    sweep.run(config(tmp_path, "square", 2), tmp_path / "out", workers=1)
    report = sweep.run(config(tmp_path, "square", 3), tmp_path / "out", workers=1)
    assert (report.total, report.done) == (3, 1)
    assert sorted(begun(tmp_path)) == [0, 1, 2]


def test_a_function_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(sweep.SweepError, match=r"'lab\.sweep_runs:cube' cannot be imported"):
        sweep.run(config(tmp_path, "cube", 2), tmp_path / "out")
