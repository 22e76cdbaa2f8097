"""`minigrad explain`: what it prints, for every cell, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minigrad import cli, nn
from minigrad.cli.explain import CELLS, run_scan
from minigrad.compile.pipeline import PASSES

TINY = ["--input", "2", "--hidden", "3", "--steps", "4", "--batch", "2"]


def sections(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, str]:
    """What a run prints, by the title of the section."""
    assert cli.main(["explain", *argv, *TINY]) == 0
    parts = capsys.readouterr().out.split("-- ")[1:]
    return {p.split(" --")[0]: p.partition("\n")[2].strip() for p in parts if " --" in p}


def test_explain_prints_both_programs_and_what_ran(capsys: pytest.CaptureFixture[str]) -> None:
    found = sections(capsys, "lstm")
    assert list(found) == ["The step", "Its backward step", "What ran"]
    head, h, c, *_ = found["The step"].splitlines()
    assert head == "step:"
    assert h.split() == ["carry", "%0", "h", "float32[B,", "3]"]
    assert c.split() == ["carry", "%1", "c", "float32[B,", "3]"]
    assert found["Its backward step"].startswith("backward step:")
    # A program that a layer of this size compiled before has the names of that layer.
    assert re.search(r"weight_hh(_l0)?\.T", found["Its backward step"].splitlines()[-1])
    ran = found["What ran"]
    assert ran.startswith("scan of lstmcell: 4 steps of 2 rows")
    for word in ("hoisted", "stored", "sunk", "kernel"):
        assert word in ran


@pytest.mark.slow
@pytest.mark.parametrize("cell", list(CELLS))
def test_every_cell_is_explained(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "return carry" in sections(capsys, cell, "--passes")["The step"]


def test_source_prints_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    found = sections(capsys, "rnn", "--source")
    assert found["The kernels"].count("def shard(d, index):") == 2


def test_passes_are_listed_in_order_with_what_each_did(capsys: pytest.CaptureFixture[str]) -> None:
    found = sections(capsys, "gru", "--passes")
    lines = [line.split() for line in found["The passes"].splitlines()[::2]]
    listed = [
        (on, p.name) for on in ("step", "forward", "bptt", "backward") for p in PASSES if on in p.on
    ]
    assert [(on, name) for on, name, *_ in lines] == listed
    says = [line.strip() for line in found["The passes"].splitlines()[1::2]]
    assert set(says) == {p.says for p in PASSES}
    assert "getitem" in found["forward, after push_slices"]
    assert found["step, after prune"] == "changes nothing"
    assert found["bptt, after recompute"].startswith("backward step:")
    assert "stored: %" in found["forward, after keep"]


def test_the_last_programs_of_the_passes_are_those_that_ran() -> None:
    ran = run_scan(nn.GRUCell(2, 3, generator=np.random.default_rng(0)), 2, 4, 2, 0)
    last = {done.on: done.after for done in ran.passes}
    assert last["step"] is ran.program
    assert last["forward"] is ran._forward.program
    assert last["backward"] is ran.backward_program


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: CELL"),
        (["transformer"], "invalid choice: 'transformer'"),
        (["lstm", "--hidden", "0"], "must be at least 1"),
        (["gru", "--input", f"{10**21}"], "--input/--input-size: must be at most 1,000,000, got 1"),
        (["lstm", "--input-size", "x"], "'x' is not a whole number"),
    ],
)
def test_explain_refuses_with_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        cli.main(["explain", *arguments])
    assert leave.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_sizes_can_be_named_as_the_cells_name_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "rnn", "--input-size", "2", "--hidden-size", "7"]) == 0
    assert "float32[B, 7]" in capsys.readouterr().out
