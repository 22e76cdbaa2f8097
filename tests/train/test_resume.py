"""A run that is resumed goes on or starts anew, whatever of its log and checkpoint is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import nn, optim
from minigrad.train import TrainingError, fit
from minigrad.train.checkpoint import CheckpointError
from minigrad.train.log import LogWarning

X = np.ones((4, 1), np.float32)


class Killed(BaseException):
    pass


def run(folder: Path, die: int = 0, epochs: int = 2) -> tuple[Any, list[float]]:
    """Five steps an epoch and a checkpoint after each; `die`: the step after which it is killed."""
    net = nn.Linear(1, 1, generator=np.random.default_rng(0))

    def kill(state: Any) -> None:
        if state.step == die:
            raise Killed

    fitted = fit(
        net, lambda model, batch: (model(batch) ** 2).mean(), [X] * 5,
        optim.SGD(net.parameters(), 0.1), epochs=epochs, checkpoint=folder / "a.ckpt",
        resume=True, log=folder / "a.jsonl", callbacks=[kill], progress=False,
    )  # fmt: skip
    return fitted, [net.weight.item(), net.bias.item()]


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The parameters of a run that nothing interrupted."""
    return run(tmp_path_factory.mktemp("whole"))[1]


@pytest.mark.parametrize("torn", ["", '{"step": 4, "lo', "\0" * 40])
@pytest.mark.parametrize("die", [1, 3])
def test_a_run_killed_before_its_first_checkpoint_starts_anew_and_keeps_its_log(
    tmp_path: Path, whole: list[float], die: int, torn: str
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, die)
    with pytest.raises(Killed), pytest.warns(LogWarning, match=r"kept as .*a-2\.jsonl"):
        run(tmp_path, die)
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write(torn)
    with pytest.warns(LogWarning, match=r"no checkpoint, so the run starts anew.*a-3\.jsonl"):
        fitted, found = run(tmp_path)
    assert found == whole
    assert fitted.steps == 10
    assert steps(tmp_path / "a.jsonl") == list(range(1, 11))
    assert steps(tmp_path / "a-2.jsonl") == list(range(1, die + 1))
    assert (tmp_path / "a-3.jsonl").read_text().endswith(torn)


@pytest.mark.parametrize("content", [None, ""])
def test_an_empty_log_is_no_obstacle(
    tmp_path: Path, whole: list[float], content: str | None
) -> None:
    if content is not None:
        (tmp_path / "a.jsonl").write_text(content)
    assert run(tmp_path)[1] == whole
    assert steps(tmp_path / "a.jsonl") == list(range(1, 11))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "a.jsonl"]


@pytest.mark.parametrize("content", ['{"st', "\0", "a note of mine"])
@pytest.mark.parametrize("die", [0, 7])
def test_a_line_that_may_be_anything_is_kept_elsewhere(
    tmp_path: Path, whole: list[float], content: str, die: int
) -> None:
    if die:
        with pytest.raises(Killed):
            run(tmp_path, die)
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.warns(LogWarning, match=r"kept as .*a-2\.jsonl") as told:
        assert run(tmp_path)[1] == whole
    assert len(told) == 1
    assert (tmp_path / "a-2.jsonl").read_text() == content
    assert steps(tmp_path / "a.jsonl") == list(range(6 if die else 1, 11))


@pytest.mark.parametrize("torn", ["", '{"step": 8, "lo'])
def test_steps_after_the_checkpoint_are_logged_once(
    tmp_path: Path, whole: list[float], torn: str
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, 7)
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write(torn)
    assert run(tmp_path)[1] == whole
    assert steps(tmp_path / "a.jsonl") == list(range(1, 11))


@pytest.mark.parametrize(("kept", "missing"), [(None, "1 to 5"), (0, "1 to 5"), (3, "4 to 5")])
def test_steps_that_the_log_has_lost_are_said(
    tmp_path: Path, whole: list[float], kept: int | None, missing: str
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, 7)
    log = tmp_path / "a.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.unlink() if kept is None else log.write_text("".join(lines[:kept]))
    with pytest.warns(LogWarning, match=f"no lines of steps {missing}"):
        assert run(tmp_path)[1] == whole
    assert steps(log) == [*range(1, (kept or 0) + 1), *range(6, 11)]


def test_what_is_no_log_and_what_is_no_checkpoint_is_refused_and_kept(tmp_path: Path) -> None:
    log, checkpoint = tmp_path / "a.jsonl", tmp_path / "a.ckpt"
    log.write_text("my notes\nof today\n")
    with pytest.raises(TrainingError, match="line 1 is not JSON"):
        run(tmp_path)
    assert log.read_text() == "my notes\nof today\n"
    log.unlink()
    checkpoint.touch()
    with pytest.raises(CheckpointError, match="no minigrad checkpoint"):
        run(tmp_path)
    assert checkpoint.read_bytes() == b""
    assert not log.exists()
