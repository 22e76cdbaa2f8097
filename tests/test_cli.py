"""The command line: what it prints, what it refuses, and with which status."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import status

from minigrad import cli, data
from minigrad.cli.progress import Progress
from minigrad.flow.terminal import spark_blocks

TINY = ["--steps", "4", "--hidden", "3", "--batch", "2", "--train", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a refusal consists of."""
    assert status(*argv) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    return line


# -- flow


def test_flow_prints_a_table_and_writes_every_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("flow", *TINY, "--out", "result") == 0
    out = capsys.readouterr().out
    for cell in ("rnn", "lstm", "gru", "bilstm ->", "bilstm <-"):
        assert sum(line.startswith(cell + " ") for line in out.splitlines()) >= 2
    names = {path.name for path in (folder / "result").iterdir()}
    assert names == {f"{n}.svg" for n in ("rnn", "lstm", "gru", "bilstm", "comparison")} | {
        "flow.json",
        "flow.csv",
        "explorer.html",
    }
    for svg in (folder / "result").glob("*.svg"):
        assert ET.parse(svg).getroot().tag.endswith("svg")


def test_flow_takes_your_text_and_the_cells_you_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.txt").write_text("über alles naïve " * 40, "utf-8")
    assert status("flow", *TINY, "--text", "mine.txt", "--cells", "GRU", "gru", "--out", "r") == 0
    assert "mine.txt: 680 characters" in capsys.readouterr().out
    found = json.loads((folder / "r" / "flow.json").read_text())
    assert list(found["cells"]) == ["gru"]
    assert found["text"]["characters"] == 680


def test_without_out_the_next_free_folder_is_taken(folder: Path) -> None:
    for _ in range(2):
        assert status("flow", *TINY, "--cells", "rnn") == 0
    assert {p.name for p in folder.iterdir()} == {"minigrad-flow", "minigrad-flow-2"}


def test_an_earlier_result_stays_unless_it_is_to_be_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["flow", *TINY, "--cells", "rnn", "--out", "r"]
    assert status(*arguments) == 0
    before = (folder / "r" / "flow.json").read_text()
    capsys.readouterr()
    assert "holds an earlier result" in refused(capsys, *arguments)
    assert (folder / "r" / "flow.json").read_text() == before
    assert status(*arguments, "--replace", "--seed", "5") == 0
    assert (folder / "r" / "flow.json").read_text() != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--text", "missing.txt"], "text file missing.txt: no such file"),
        (["--text", "empty.txt"], "text file empty.txt: it is empty"),
        (["--text", "latin.txt"], "text file latin.txt: not UTF-8"),
        (["--text", "."], "this is a folder"),
        (["--text", "short.txt"], "the text has 50 characters; 100 steps need at least 2,020"),
        (["--steps", "1"], "argument --steps: must be at least 2, got 1"),
        (["--steps", "many"], "'many' is not a whole number"),
        (["--cells", "rnn", "transformer"], "'transformer'"),
        (["--cells"], "expected at least one argument"),
        (["--hidden", "0"], "argument --hidden: must be at least 1"),
        (["--steps", "1000001"], "argument --steps: must be at most 1,000,000, got 1000001"),
        (["--batch", "-3"], "argument --batch: must be at least 1"),
        (["--train", "-1"], "argument --train: must be at least 0"),
        (["--rate", "0"], "argument --rate: must be a finite number above 0"),
        (["--rate", "nan"], "argument --rate: must be a finite number above 0"),
        (["--rate", "x"], "'x' is not a number"),
        (["--out", "empty.txt"], "empty.txt: this is a file"),
        (["--out", "empty.txt/below"], "cannot write into"),
        (["--out", "full"], "full: this folder is not empty"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 1000)
    (folder / "short.txt").write_text("0123456789" * 5)
    (folder / "full").mkdir()
    (folder / "full" / "precious").touch()
    before = sorted(folder.rglob("*"))
    assert said in refused(capsys, "flow", *arguments)
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_told_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and real(path, mode))
    assert "cannot write into" in refused(capsys, "flow", "--out", "result")


def test_a_wrong_minigrad_dot_is_told_before_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGRAD_DOT", "no-such-dot")
    assert "$MINIGRAD_DOT is 'no-such-dot'" in refused(capsys, "flow", *TINY)


def test_an_interrupt_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("minigrad.flow.comparison.run", interrupted)
    assert status("flow", *TINY, "--out", "r") == 130
    assert "stopped; nothing was written" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_without_an_engine_drawings_are_text(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cli.flow", "flow.summary", "flow.engines"):
        monkeypatch.setattr(f"minigrad.{module}.find_engine", lambda: None)
    assert status("flow", *TINY, "--cells", "rnn", "--out", "r") == 0
    assert "pip install graphviz-pure" in capsys.readouterr().err
    assert (folder / "r" / "rnn.gv").read_text().startswith("digraph")


# -- progress


def test_progress_in_a_pipe_is_whole_lines_and_says_the_end() -> None:
    stream = io.StringIO()
    progress = Progress("lstm", 50, stream)
    for i in range(1, 51):
        progress(i, 3.0)
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    assert "50/50  3.00 bits/char" in stream.getvalue()


def test_progress_on_a_terminal_rewrites_its_line() -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    progress = Progress("lstm", 2, stream)
    progress(2, 3.0)
    assert stream.getvalue().startswith("\rlstm    [########################] 2/2")


def test_terminals_without_unicode_get_ascii_bars() -> None:
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert spark_blocks(latin).isascii()
    assert not spark_blocks(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")).isascii()


# -- draw


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "bilstm"])
@pytest.mark.parametrize("what", ["cell", "network"])
def test_draw_writes_a_picture_of_every_cell(what: str, cell: str, folder: Path) -> None:
    assert status("draw", what, "--cell", cell, "--hidden", "3", "--steps", "5") == 0
    assert ET.parse(folder / f"{what}-{cell}.svg").getroot().tag.endswith("svg")


def test_draw_takes_its_format_from_the_suffix(folder: Path) -> None:
    assert status("draw", "tape", "-o", "t.png") == 0
    assert (folder / "t.png").read_bytes().startswith(b"\x89PNG")
    assert status("draw", "cell", "-o", "c.png", "--dpi", "50", "--width", "4") == 0
    width = int.from_bytes((folder / "c.png").read_bytes()[16:20], "big")
    assert abs(width - 200) <= 2
    assert status("draw", "network", "--layers", "2", "-o", "n.gv") == 0
    assert "lstm_l1_fwd_h_t0" in (folder / "n.gv").read_text()


def test_draw_takes_a_view_steps_and_a_depth(folder: Path) -> None:
    assert status("draw", "network", "--view", "rolled", "--cell", "bilstm", "-o", "r.gv") == 0
    assert "half-life" in (folder / "r.gv").read_text()
    chosen = ("--steps", "100", "--show", "1", "50", "100", "--depth", "1")
    assert status("draw", "network", *chosen, "-o", "n.gv") == 0
    assert "× 48 steps" in (folder / "n.gv").read_text()
    assert status("draw", "network", "--way", "forward", "-o", "n.gv") == 0
    assert "h_t0 -> p0_lstm_l0_fwd_h_t1" in (folder / "n.gv").read_text()
    assert status("draw", "tape", "--depth", "1", "-o", "t.gv") == 0
    assert "operations" in (folder / "t.gv").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["house"], "invalid choice: 'house'"),
        ([], "the following arguments are required: what"),
        (["cell", "--cell", "elman"], "invalid choice: 'elman'"),
        (["network", "--steps", "0"], "must be at least 1"),
        (["network", "--layers", f"{2**63}"], "must be at most 1,000,000"),
        (["tape", "-o", "picture"], "has no suffix"),
        (["tape", "-o", "nowhere/t.svg"], "No such file or directory"),
        (["tape", "-o", "t.nonsense"], "failed"),
        (["network", "--layers", "60", "-o", "n.svg"], "max_nodes is 600"),
        (["network", "--show", "500"], "steps=[499], and lstm/l0/fwd has steps 0 to 19"),
        (["network", "--depth", "4"], "depth is one of 1 (a row a layer)"),
        (["network", "--dpi", "300"], "dpi= is for bitmaps such as .png"),
        (["cell", "--way", "forward"], "way= turns the arrows of an unrolled network"),
    ],
)
def test_draw_refuses_with_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert said in refused(capsys, "draw", *arguments)
    assert list(folder.iterdir()) == []


# -- the others


def test_bench_checks_and_times_every_part(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(f: Callable[[], object], budget: float = 0.0) -> float:
        f()
        return 1e-3

    monkeypatch.setattr("minigrad.cli.bench.seconds", once)
    assert status("bench", "--json", "bench.json") == 0
    out = capsys.readouterr().out
    found = json.loads((folder / "bench.json").read_text())
    assert found["machine"]["minigrad"]
    assert [row["what"] in out for row in found["rows"]] == [True] * len(found["rows"])
    assert {"ns/element", "GFLOP/s", "us", "ms"} == {row["unit"] for row in found["rows"]}


def test_a_closed_pipe_is_no_error() -> None:
    root = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        f"{sys.executable} -m minigrad info | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
        check=False,
    )
    assert done.stdout.startswith("minigrad ")
    assert done.stderr == ""


def test_an_unknown_or_missing_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "invalid choice: 'burn'" in refused(capsys, "cache", "burn")
    assert "required: command" in refused(capsys)


def test_the_module_runs_as_the_command() -> None:
    root = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "minigrad", "flow", "--steps", "1"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": root, "PATH": ""},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_play_that_ships_is_long_enough_for_the_default() -> None:
    assert len(data.shakespeare()) > 100_000
