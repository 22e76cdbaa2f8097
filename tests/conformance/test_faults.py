"""tools/faults.py plants faults that these tests see, and says so where they do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("onnx", reason="the faults run against test_onnxruntime.py")
pytest.importorskip("onnxruntime", reason="the faults run against test_onnxruntime.py")


def plant(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / "faults.py", "--only", *names]
    command += ["--tests", "tests/conformance/test_onnxruntime.py"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.mark.slow
def test_random_nodes_see_faults_of_the_cell_and_of_the_loop() -> None:
    names = ["order ogfi", "peephole of o", "reset before", "reverse not aligned"]
    done = plant(*names)
    assert "4 of 4 faults caught" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_a_fault_that_no_test_sees_is_a_failure() -> None:
    """These nodes have no GRU whose update gate writes."""
    done = plant("update gate keeps")
    assert "SURVIVED" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
