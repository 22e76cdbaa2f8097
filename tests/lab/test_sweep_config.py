"""The grid of a sweep from TOML, and every way to write it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigrad.cli import main
from minigrad.lab.sweep import SweepError, parse, read
from minigrad.lab.sweep.config import EXAMPLE, difference, load
from minigrad.lab.sweep.coordinator import to_row
from minigrad.lab.sweep.folder import Folder

FIXED = {"task": "adding", "length": 10}


def test_the_grid_is_every_combination_with_the_last_key_fastest() -> None:
    config = parse({"grid": {"cell": ["rnn", "gru"], "seed": [0, 1, 2]}, "fixed": FIXED})
    points = [(r.parameters["cell"], r.parameters["seed"]) for r in config.runs()]
    assert points == [("rnn", 0), ("rnn", 1), ("rnn", 2), ("gru", 0), ("gru", 1), ("gru", 2)]
    assert len({r.key for r in config.runs()}) == 6


def test_a_default_written_out_is_the_same_run() -> None:
    (short,) = parse({"grid": {"seed": [3]}, "fixed": FIXED}).runs()
    (full,) = parse({"grid": {"seed": [3]}, "fixed": {**FIXED, "cell": "lstm"}}).runs()
    assert short.key == full.key


def test_the_example_is_a_sweep_of_twelve() -> None:
    assert len(read(EXAMPLE).runs()) == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gird": {}}, "key 'gird' is not known; did you mean 'grid'"),
        ({"cell": ["rnn"]}, r"key 'cell' is not known; .* Put cell under \[grid\] or \[fixed\]"),
        ({}, r"\[grid\] is empty; list what varies there"),
        ({"grid": {}}, r"\[grid\] is empty"),
        ({"grid": 3}, r"grid must be a section, \[grid\], got 3"),
        ({"grid": {"seed": []}}, "seed is an empty list"),
        ({"grid": {"seed": 1}}, r"seed must be a list, got 1; write seed = \[1\]"),
        ({"grid": {"seed": [1, 1]}}, "seed lists 1 twice"),
        ({"grid": {"seed": [[1]]}}, r"seed takes a number or a text, got a list: \[1\]"),
        ({"grid": {"lenght": [1]}}, r"\[grid\]: key 'lenght' is not known; did you mean 'length'"),
        ({"grid": {"size": [1]}}, "key 'size' is not known; did you mean 'hidden'"),
        ({"grid": {"cell": ["rnn", "lsmt"]}}, "cell 'lsmt' is not known; did you mean 'lstm'"),
        ({"grid": {"init": ["chronos"]}}, "init 'chronos' is not known; did you mean 'chrono'"),
        ({"grid": {"seed": [0, -1]}}, "seed is a whole number from 0 on, got -1"),
        ({"grid": {"seed": [0.5]}}, "seed is a whole number from 0 on, got 0.5"),
        ({"grid": {"seed": [True]}}, "seed is a whole number from 0 on, got True"),
        ({"grid": {"length": [1, 30]}}, "length 1 is too short"),
        ({"grid": {"max_norm": [float("nan")]}}, "max_norm takes a finite number, got nan"),
        ({"grid": {"seed": [0]}, "fixed": {"seed": 0}}, r"seed is in \[grid\] and in \[fixed\]"),
        ({"grid": {"seed": [0]}, "fixed": {"cell": ["rnn"]}}, r"cell is a list; move it to"),
        ({"grid": {"seed": [0]}, "function": "run"}, 'function must be "module:function"'),
        ({"grid": {k: list(range(1, 2001)) for k in ("seed", "hidden")}}, "at most 100,000"),
    ],
)
def test_a_wrong_config_is_one_line_that_names_the_key(content: dict, message: str) -> None:
    grid = content.get("grid")
    if isinstance(grid, dict):
        defaults = {"task": "adding"} if "length" in grid else FIXED
        content = {**content, "fixed": {**defaults, **content.get("fixed", {})}}
    with pytest.raises(SweepError, match=message) as caught:
        parse(content)
    assert "\n" not in str(caught.value)


def test_a_task_is_asked_for() -> None:
    with pytest.raises(SweepError, match="there is no task; put task"):
        parse({"grid": {"seed": [0]}})


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"[grid", "is not TOML"), (b"\xff", "is not UTF-8"), (None, "cannot be read")],
)
def test_a_bad_file_ends_the_command_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes | None, message: str
) -> None:
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_bytes(text)
    assert main(["sweep", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "c.toml" in line


def test_only_a_grown_grid_continues() -> None:
    def config(seeds: list[int], **fixed: object) -> object:
        return parse({"grid": {"seed": seeds}, "fixed": {**FIXED, **fixed}})

    assert difference(config([0]), config([0, 1])) is None  # type: ignore[arg-type]
    assert difference(config([0, 1]), config([0])) == "[grid]: seed does not list 1"  # type: ignore[arg-type]
    said = difference(config([0]), config([0], length=11))  # type: ignore[arg-type]
    assert said == "length was 10, now 11"
    assert difference(config([0]), config([0], cell="lstm")) is None  # type: ignore[arg-type]


def test_what_has_all_runs_of_a_sweep_continues_it_however_it_is_written() -> None:
    old = parse({"grid": {"seed": [0, 1]}, "fixed": {**FIXED, "max_norm": 1}})
    grid = {"seed": [1, 0], "max_norm": [0.5, 1.0], "length": [30, 10]}
    assert difference(old, parse({"grid": grid, "fixed": {"task": "adding"}})) is None
    other = parse({"grid": {"seed": [0, 1]}, "function": "builtins:dict"})
    assert difference(other, old) == (
        "function was builtins:dict, now minigrad.lab.sweep.trials:run"
    )
    more = parse({"grid": {"seed": [0, 1]}, "fixed": {"b": 2}, "function": "builtins:dict"})
    assert difference(other, more) == "b was absent"
    assert difference(more, other) == "b was 2, now absent"


def test_a_module_that_fails_when_it_is_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_runs.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SweepError, match=r"cannot be imported: ZeroDivisionError: division"):
        load("faulty_runs:run")


def test_dry_run_shows_what_is_done_and_refuses_another_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "c.toml", tmp_path / "out"
    path.write_text('function = "builtins:dict"\n[grid]\na = [1, 2]\n')
    config = read(path)
    with Folder(out, config, path.read_text()) as folder:
        folder.add(to_row(config.runs()[1], {"results": {}}, 1))
    assert main(["sweep", str(path), "--out", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["to do   a=1", "ok      a=2"]
    path.write_text('function = "builtins:dict"\n[grid]\na = [1, 3]\n')
    assert main(["sweep", str(path), "--out", str(out), "--dry-run"]) == 2
    assert "holds another sweep: [grid]: a does not list 2" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf" + EXAMPLE.read_bytes())
    assert read(tmp_path / "c.toml") == read(EXAMPLE)


def test_workers_of_this_machine_and_a_scheduler_exclude_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sweep", str(EXAMPLE), "--workers", "2", "--scheduler", "tcp://h:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--workers is for processes on this machine" in line


def test_dry_run_lists_the_runs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(EXAMPLE), "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "to do   cell=rnn length=10 seed=0"
    assert out[-1].startswith("12 runs, 12 to do. Fixed: task=adding")
    assert list(tmp_path.iterdir()) == []
