"""tools/reach.py: its table has every cell, and its sentences are counted from the table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from minigrad import nn
from minigrad.flow import judge

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reach_tool", ROOT / "tools" / "reach.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_cell_of_nn_is_in_the_table_of_the_docs(tool: ModuleType) -> None:
    rng, size = np.random.default_rng(0), tool.Size(2, 3, 5, 1, 1)
    kinds = {type(make(size, rng)) for make in tool.CELLS.values()}
    every = {kind for name in nn.__all__ if isinstance(kind := getattr(nn, name), type)}
    assert kinds == {k for k in every if issubclass(k, nn.Cell)} - {nn.Cell, nn.GatedCell}
    page = tool.PAGE.read_text("utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[1:] == list(tool.CELLS)


def test_what_is_said_is_counted_from_the_table(tool: ModuleType) -> None:
    size = tool.Size(steps=100, nets=3)

    def nets(*factors: float) -> list[Any]:
        return [judge(f ** np.arange(100)) for f in factors]

    found = {
        "LSTM": nets(0.5, 0.9, 0.8), "coRNN": nets(0.99, 0.99, 0.1), "CfC": nets(0.5, 0.6, 0.4),
        "RNN, relu": nets(1.2, 1.2, 1.2),
    }  # fmt: skip
    assert "| LSTM | 31 | 10 to 66 | 2.5e-10 | vanishing | - |" in tool.table(found, size)
    assert tool.sentences(found, size) == [
        "- Beyond the 100 steps that were run reach: coRNN; RNN, relu.",
        "- A thousandth or less is left after 20 steps in: CfC.",
        "- A gradient grows by 1000 or more in: RNN, relu.",
        "- Farther than the LSTM reach, of the cells designed for gradient flow: coRNN.",
        "- No farther than the LSTM reach, of these: CfC.",
    ]


def test_only_the_whole_table_goes_into_the_docs(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv, said in ((["--write", "--quick"], "whole table"), (["foo"], "there are RNN, tanh")):
        with pytest.raises(SystemExit):
            tool.main(argv)
        assert said in capsys.readouterr().err
