"""`minigrad prescribe`: what it prints, from where it goes on, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import status

TINY = ["--updates", "1", "--seeds", "1", "--seconds", "100"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_lab_task_is_tried_with_the_remedies_one_names(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    names = ["clip", "forget-bias", "Larger-Rate"]
    options = ["--cell", "rnn", "--hidden", "3", "--length", "6", "--remedies", *names]
    assert status("prescribe", "latch", *TINY, *options) == 0
    out = capsys.readouterr().out
    assert "latch, 6 steps; rnn, 3 units; Adam at 0.001." in out
    for name in ("as it is", "clip", "larger rate"):
        assert sum(line.startswith(name + " ") for line in out.splitlines()) == 1
    assert "Not offered: forget bias (no cell has a forget gate with a bias)." in out
    assert "With 1 seed it cannot be told what helps" in out
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_run_of_train_is_taken_where_it_stands(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    train = ["train", "vowels", "--quick", "--epochs", "1", "--hidden", "4", "--out", "r"]
    assert status(*train) == 0
    before = {path.name: path.read_bytes() for path in (folder / "r").iterdir()}
    capsys.readouterr()
    assert status("prescribe", "vowels", "--from", "r", *TINY, "--remedies", "smaller-rate") == 0
    out = capsys.readouterr().out
    assert "4 units; the run in r after " in out
    assert "smaller rate" in out
    assert {path.name: path.read_bytes() for path in (folder / "r").iterdir()} == before


def test_without_a_task_tasks_and_remedies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("prescribe") == 0
    out = capsys.readouterr().out
    assert "Tasks: adding, copy, latch, order, digits" in out
    assert "loss-at-more-steps" in out


def test_what_is_known_is_shown_with_the_command_that_made_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status("prescribe", "--known") == 0
    assert "Made by `python tools/prescriptions.py`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lacth"], "there is no task 'lacth'; did you mean 'latch'"),
        (["latch", "--cell", "lsmt"], "cell 'lsmt' is not known; did you mean 'lstm'"),
        (["latch", "--length", "0"], "argument --length: must be at least 1"),
        (["order", "--length", "3"], "length 3 is too short; at least 10"),
        (["latch", "--quick"], "--quick is of the tasks of `minigrad train`"),
        (["latch", "--from", "x"], "--from is of the tasks of `minigrad train`"),
        (["latch", "--remedies", "forgetbias"], "there is no remedy 'forgetbias'"),
        (["latch", "--remedies"], "expected at least one argument"),
        (["latch", "--seeds", "0"], "argument --seeds: must be at least 1"),
        (["latch", "--seconds", "0"], "argument --seconds: must be a finite number above 0"),
        (["latch", "--seconds", "nan"], "argument --seconds: must be a finite number above 0"),
        (["latch", "--updates", "x"], "'x' is not a whole number"),
        (["latch", "--rate", "-1"], "argument --rate: must be a finite number above 0"),
        (["vowels", "--length", "5"], "--length is of adding, copy, latch and order"),
        (["vowels", "--cell", "mlp"], "no --cell mlp"),
        (["vowels", "--from", "nowhere"], "there is no run to resume in it"),
        (["vowels", "--from", "half"], "there is no such file"),
        (["vowels", "--from", "broken"], "is no minigrad checkpoint"),
        (["vowels", "--from", "other"], "holds a run of 'digits'"),
        (["digits", *TINY, "--quick"], "nothing was tapped"),  # an MLP
        (["latch", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = '{"task": "%s", "settings": {"cell": "gru", "hidden": 3, "epochs": 1}}'
    for name, task in (("half", "vowels"), ("broken", "vowels"), ("other", "digits")):
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(settings % task)
    (folder / "broken" / "training.ckpt").write_bytes(b"no zip")
    assert status("prescribe", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert line.startswith("minigrad")
