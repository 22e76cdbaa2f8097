"""tools/faults.py plants faults that these tests see, and says so where they do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modes import MODES

import minigrad as mg
from minigrad import nn

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("onnx", reason="the faults run against test_onnxruntime.py")
pytest.importorskip("onnxruntime", reason="the faults run against test_onnxruntime.py")


def plant(*names: str, mode: str = "tape") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / "faults.py", "--mode", mode, "--only", *names]
    command += ["--tests", "tests/conformance/test_onnxruntime.py"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """name -> fault: those of tools/known_faults.py."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from known_faults import FAULTS

    yield {fault.name: fault for fault in FAULTS}
    for name in ("known_faults", "planting"):
        del sys.modules[name]


@pytest.mark.parametrize(
    "name",
    [
        "LSTM gate order ofig",
        "LSTM recurrence dropped",
        "LSTM forget gate not applied",
        "LSTM no gradient through c",
        "h_0 ignored",
        "reverse runs forwards",
        "directions share weights",
    ],
)
def test_a_fault_is_in_effect_while_it_is_planted_and_no_longer(
    name: str, faults: dict[str, Any], rng: np.random.Generator
) -> None:
    """Also in a layer that has run before, whose trace is remembered; and as much in every mode."""
    layer = nn.LSTM(3, 2, bidirectional=True, dtype=np.float64)
    xs = mg.tensor(rng.normal(size=(4, 2, 3)), requires_grad=True)
    state = [mg.tensor(rng.normal(size=(2, 2, 2))) for _ in "hc"]

    def found(mode: str) -> np.ndarray:
        layer.mode = mode
        output, _ = layer(xs, state)
        return np.concatenate([output.numpy(), mg.grad(mg.square(output).sum(), xs).numpy()], -1)

    right = {mode: [found(mode) for _ in range(3)][-1] for mode in MODES}
    for _ in range(2):
        with faults[name].planted():
            wrong = {mode: [found(mode) for _ in range(3)] for mode in MODES}
        for mode in MODES:
            for values in wrong[mode]:
                assert np.abs(values - right[mode]).max() > 1e-3
                np.testing.assert_allclose(values, wrong["tape"][0], rtol=1e-11, atol=1e-13)
            np.testing.assert_array_equal(found(mode), right[mode])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "planted", ["tape", "fused"]
)  # not `mode`: tools/faults.py would run this itself
def test_random_nodes_see_faults_of_the_cell_and_of_the_loop(planted: str) -> None:
    names = ["order ogfi", "peephole of o", "reset before", "reverse not aligned"]
    done = plant(*names, mode=planted)
    assert "4 of 4 faults caught" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.long
@pytest.mark.slow
def test_a_fault_that_no_test_sees_is_a_failure() -> None:
    """These nodes have no GRU whose update gate writes."""
    done = plant("update gate keeps")
    assert "SURVIVED" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
