"""Results on disk appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from minigrad.flow.results import (
    MARK,
    OutputError,
    check_destination,
    free_name,
    new_folder,
    to_csv,
    to_json,
)


def earlier_result(path: Path) -> Path:
    path.mkdir()
    (path / MARK).write_text("old")
    (path / "rnn.svg").write_text("old")
    return path


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep"
    with new_folder(out) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
    assert (out / "a").read_text() == "1"
    assert [p.name for p in out.parent.iterdir()] == ["deep"]


def test_after_an_exception_nothing_is_left(tmp_path: Path) -> None:
    def write() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_an_earlier_result_as_it_was(tmp_path: Path) -> None:
    out = earlier_result(tmp_path / "out")

    def write() -> None:
        with new_folder(out, replace=True) as folder:
            (folder / MARK).write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert (out / MARK).read_text() == "old"
    assert (out / "rnn.svg").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failing_rename_leaves_an_earlier_result_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = earlier_result(tmp_path / "out")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == out and (self / MARK).read_text() == "new":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputError, match="No space left"), new_folder(out, replace=True) as folder:
        (folder / MARK).write_text("new")
    assert (out / MARK).read_text() == "old"


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = earlier_result(tmp_path / "out")
    with new_folder(out, replace=True) as folder:
        (folder / MARK).write_text("new")
    assert [p.name for p in out.iterdir()] == [MARK]
    assert (out / MARK).read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_earlier_result_is_not_replaced_unasked(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds an earlier result"):
        check_destination(earlier_result(tmp_path / "out"))


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    for replace in (False, True):
        with pytest.raises(OutputError, match="this folder is not empty"):
            check_destination(tmp_path, replace)


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with new_folder(out) as folder:
        (folder / "a").write_text("1")
    assert (out / "a").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(OutputError, match="this is a file"):
        check_destination(path)
    with pytest.raises(OutputError, match="cannot write into"):
        check_destination(path / "below")


def test_a_folder_that_cannot_be_written_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match=f"cannot write into {tmp_path}"):
        check_destination(tmp_path / "a" / "b")


def test_the_next_free_name_is_numbered(tmp_path: Path) -> None:
    out = tmp_path / "flow"
    assert free_name(out) == out
    out.mkdir()
    (tmp_path / "flow-2").mkdir()
    assert free_name(out) == tmp_path / "flow-3"


def test_json_is_strict_and_keeps_every_number() -> None:
    text = to_json({"a": np.float64(0.1), "b": [np.inf, -np.inf, np.nan], 3: np.arange(2), "c": ()})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": 0.1,
        "b": ["inf", "-inf", "nan"],
        "3": [0, 1],
        "c": [],
    }


def test_csv_keeps_every_digit() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(("cell", "norm"), [("a,b", 1 / 3), ("c", 1e-300)]))))
    assert rows[0] == ["cell", "norm"]
    assert rows[1][0] == "a,b"
    assert [float(row[1]) for row in rows[1:]] == [1 / 3, 1e-300]
