"""What is on disk of a sweep: torn lines, a full disk, strangers, two at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minigrad.files import beside
from minigrad.lab.sweep import SweepError, folder, parse
from minigrad.lab.sweep.coordinator import to_row, to_toml

CONFIG = parse({"grid": {"a": [1, 2, 3]}, "function": "lab.sweep_runs:square"})
RUNS = CONFIG.runs()


def opened(path: Path) -> folder.Folder:
    return folder.Folder(path, CONFIG, to_toml(CONFIG))


def test_a_row_is_there_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as first:
        first.add(to_row(RUNS[1], {"results": {"x": float("inf")}}, 1))
    with opened(tmp_path / "out") as again:
        assert again.rows[RUNS[1].key]["results"]["x"] == "inf"
        again.write_csv(RUNS)
    head, row = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert head == "a,status,x,seconds,attempts,error"
    assert row == "2,ok,inf,0.0,1,"


def test_a_line_torn_at_any_byte_costs_that_run_only(tmp_path: Path) -> None:
    with opened(tmp_path) as table:
        for run in RUNS[:2]:
            table.add(to_row(run, {"results": {"x": 1}}, 1))
    path = tmp_path / folder.RESULTS
    content = path.read_bytes()
    whole = content.index(b"\n") + 1
    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        with opened(tmp_path) as table:
            assert list(table.rows) == [RUNS[0].key]
            assert path.read_bytes() == content[:whole]


def test_a_line_that_is_no_run_is_named_and_kept(tmp_path: Path) -> None:
    opened(tmp_path).__exit__()
    (tmp_path / folder.RESULTS).write_text("{}\n")
    with pytest.raises(SweepError, match="line 1 is not a run; delete that line"):
        opened(tmp_path)
    assert (tmp_path / folder.RESULTS).read_text() == "{}\n"


def test_a_full_disk_leaves_the_table_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as table:
        table.add(to_row(RUNS[0], {"results": {"x": 1}}, 1))
        before = (tmp_path / folder.RESULTS).read_bytes()
        write = folder._write
        monkeypatch.setattr(folder, "_write", lambda file, line: write(file, line[:7]))
        with pytest.raises(SweepError, match=r"disk is full\. The runs before it \(1\) are"):
            table.add(to_row(RUNS[1], {"results": {"x": 1}}, 1))
    assert (tmp_path / folder.RESULTS).read_bytes() == before


def test_two_sweeps_in_one_folder_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(SweepError, match=r"another sweep is writing here \(proc"):
        opened(tmp_path)
    opened(tmp_path).__exit__()


def test_a_folder_that_is_no_sweep_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SweepError, match="not empty and holds no sweep"):
        opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(SweepError, match="this is a file"):
        opened(tmp_path / "thesis.tex")


def test_another_sweep_is_refused_with_what_differs(tmp_path: Path) -> None:
    opened(tmp_path).__exit__()
    other = parse({"grid": {"a": [1, 2]}, "function": "lab.sweep_runs:square"})
    with pytest.raises(SweepError, match=r"holds another sweep: \[grid\]: a does not list 3"):
        folder.Folder(tmp_path, other, to_toml(other))


def test_a_start_that_was_killed_before_it_wrote_its_config_is_ours(tmp_path: Path) -> None:
    (tmp_path / folder.LOCK).touch()
    beside(tmp_path / folder.CONFIG).write_text("[gr")
    with opened(tmp_path) as table:
        assert table.rows == {}


def test_a_line_of_results_is_strict_json(tmp_path: Path) -> None:
    with opened(tmp_path) as table:
        table.add(to_row(RUNS[0], {"results": {"x": float("nan")}}, 1))

    def no(name: str) -> None:
        raise AssertionError(name)

    json.loads((tmp_path / folder.RESULTS).read_text(), parse_constant=no)


def test_a_result_called_like_another_column_has_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as table:
        table.add(to_row(RUNS[0], {"results": {"a": 7, "status": "fine", "seconds": 1}}, 1))
        table.write_csv(RUNS)
    head, row = (tmp_path / "results.csv").read_text().splitlines()
    assert head == "a,status,results.a,results.status,seconds,attempts,error"
    assert row == "1,ok,7,fine,1,1,"


def test_text_that_utf8_cannot_say_is_no_trouble(tmp_path: Path) -> None:
    with opened(tmp_path) as table:
        table.add(to_row(RUNS[0], {"results": {"x": "\udc80 and\nmore"}}, 1))
        table.write_csv(RUNS)
    assert "\\udc80 and" in (tmp_path / "results.csv").read_text()


def test_the_folder_of_a_grown_grid_takes_its_config(tmp_path: Path) -> None:
    opened(tmp_path).__exit__()
    larger = parse({"grid": {"a": [0, 1, 2, 3]}, "function": "lab.sweep_runs:square"})
    with folder.Folder(tmp_path, larger, to_toml(larger)) as table:
        assert table.added
    assert folder.open_for_reading(tmp_path)[0] == larger
