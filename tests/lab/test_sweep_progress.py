"""What a sweep says while it goes on, and its table at the end."""

from __future__ import annotations

import io

import pytest

from minigrad.lab.sweep import parse
from minigrad.lab.sweep.coordinator import to_row
from minigrad.lab.sweep.local import shares
from minigrad.lab.sweep.outcome import summary
from minigrad.lab.sweep.progress import CLEAR, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_shows_one_line_and_what_failed_above_it() -> None:
    stream = Terminal()
    progress = Progress(2, stream=stream)
    progress.finished("a=1", "ValueError: no", "", running=1)
    progress.finished("a=2", None, "loss 0.5", running=0)
    progress.close()
    lines = stream.getvalue().split("\n")
    assert lines[0] == CLEAR + "failed: a=1: ValueError: no"
    assert lines[-2].endswith("[####################] 2/2  1 failed  in 0:00  a=2: loss 0.5")
    assert lines[-1] == ""


def test_a_pipe_gets_plain_lines_the_first_and_the_last_for_certain() -> None:
    stream = io.StringIO()
    progress = Progress(50, stream=stream)
    for i in range(50):
        progress.finished(f"a={i}", None, "", running=1)
    first, last = stream.getvalue().splitlines()
    assert first.startswith("[--------------------] 1/50  1 running")
    assert last == "[####################] 50/50  in 0:00  a=49"
    assert "\x1b" not in stream.getvalue()


def test_a_long_line_is_cut_to_the_terminal() -> None:
    stream = Terminal()  # which has no width of its own: 80
    Progress(1, stream=stream).finished("a=" + "x" * 200, None, "", running=0)
    assert len(stream.getvalue().removeprefix(CLEAR)) == 79


def test_quiet_says_only_what_failed() -> None:
    stream = Terminal()
    progress = Progress(2, quiet=True, stream=stream)
    progress.finished("a=1", None, "", running=1)
    progress.finished("a=2", "ValueError: no", "", running=0)
    progress.close()
    assert stream.getvalue() == "failed: a=2: ValueError: no\n"


def test_a_reader_that_has_gone_does_not_end_the_sweep() -> None:
    progress = Progress(1, stream=Closed())
    progress.finished("a=1", "ValueError: no", "", running=0)
    progress.close()


def test_what_is_left_is_judged_by_the_runs_of_this_session() -> None:
    progress = Progress(30, done=10, stream=io.StringIO())
    progress.done += 5
    line = progress.line(2, progress.started + 10.0)
    assert line == "[##########----------] 15/30  2 running  0:30 left"


@pytest.mark.parametrize(
    ("cpus", "variable", "workers", "runs", "expected"),
    [
        (8, "", None, 100, (8, 1)),
        (8, "", 2, 100, (2, 4)),
        (8, "", 3, 100, (3, 2)),
        (8, "", None, 2, (2, 4)),
        (8, "4", None, 100, (2, 4)),
        (8, "1", 2, 100, (2, 1)),
        (8, "nonsense", None, 100, (8, 1)),
        (2, "4", None, 100, (1, 4)),
        (1, "", None, 1, (1, 1)),
        (2, "", 5, 100, (5, 1)),
    ],
)
def test_workers_times_threads_is_the_number_of_cpus(
    monkeypatch: pytest.MonkeyPatch,
    cpus: int,
    variable: str,
    workers: int | None,
    runs: int,
    expected: tuple[int, int],
) -> None:
    monkeypatch.setattr("minigrad.lab.sweep.local.default_threads", lambda: cpus)
    monkeypatch.setenv("MINIGRAD_NUM_THREADS", variable)
    assert shares(workers, runs) == expected


def test_the_table_groups_over_seeds() -> None:
    config = parse({"grid": {"a": [1, 2], "seed": [0, 1, 2]}, "function": "builtins:dict"})
    runs = config.runs()
    answers = [
        {"results": {"loss": 1.0, "solved": True, "word": "x", "seconds": 1.0}},
        {"results": {"loss": 3.0, "solved": False, "word": "y", "seconds": 1.0}},
        {"error": "ValueError: no"},
        {"results": {"loss": float("nan"), "solved": False, "seconds": 1.0}},
    ]
    rows = {run.key: to_row(run, answer, 1) for run, answer in zip(runs, answers)}
    lines = [line.split() for line in summary(config, rows).splitlines()]
    assert lines == [
        ["a", "runs", "loss", "solved", "seconds"],
        ["1", "2", "of", "3", "2", "±", "1.4", "1", "of", "2", "1", "±", "0"],
        ["2", "1", "of", "3", "nan", "0", "of", "1", "1"],
    ]
