"""Damaged files end in a documented error: no traceback, no endless wait, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("limits the memory of a process as Linux does", allow_module_level=True)
for package in ("h5py", "onnx", "safetensors"):
    pytest.importorskip(package, reason="files of this kind are damaged here")

HERE = Path(__file__).parent
KINDS = (
    "safetensors", "pt", "weights.h5", "onnx", "checkpoint", "training", "model", "run.json", "log",
    "log, continued", "monitor", "recording", "sweep.toml", "results.jsonl", "wave", "mo", "tokens",
)  # fmt: skip
FEW, MANY = 30, 600


def read_damaged(kinds: str, count: int) -> subprocess.CompletedProcess[str]:
    """What worker.py says; without compiled code, whose memory is another matter."""
    return subprocess.run(
        [sys.executable, str(HERE / "worker.py"), kinds, str(count)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(HERE.parents[1])},
    )


def assert_read(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{done.stdout[-4000:]}\nlast: {done.stderr[-500:]}"


@pytest.mark.slow
def test_a_few_damaged_files_of_every_kind_are_read_or_refused(
    request: pytest.FixtureRequest,
) -> None:
    if request.config.getoption("--wide"):
        pytest.skip("each kind is damaged more often below")
    assert_read(read_damaged(";".join(KINDS), FEW))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_damaged_files_are_read_or_refused(kind: str) -> None:
    assert_read(read_damaged(kind, MANY))


@pytest.mark.parametrize("planted", ["traceback", "memory", "lines", "changed"])
def test_what_a_reader_must_not_do_is_noticed(planted: str, tmp_path: Path) -> None:
    text = f"""
import sys
sys.path.insert(0, {str(HERE.parent)!r})
from fuzz import worker, kinds
def read(path):
    if {planted!r} == "traceback":
        raise KeyError("step")
    if {planted!r} == "memory":
        b"x" * (2 << 30)
    if {planted!r} == "lines":
        raise kinds.F("two\\nlines")
    if {planted!r} == "changed":
        kinds.Run._take = lambda self, tree: setattr(self, "step", 9) or 1 / 0
        kinds.Run.load = lambda self, tree: self._take(tree)
        kinds.read_training(path)
whole = kinds.KINDS["training"]
kinds.KINDS["planted"] = kinds.Kind(whole.make, lambda rng, data: data, read, (kinds.F,))
sys.exit(worker.main("planted", 1))
"""
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(HERE.parents[1])},
    )
    assert done.returncode == 1, done.stderr
    said = {"traceback": "KeyError", "memory": "MemoryError", "lines": "several lines"}
    assert said.get(planted, "ZeroDivisionError") in done.stdout
