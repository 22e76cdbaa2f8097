"""Random RNN, LSTM and GRU nodes: minigrad gives what onnxruntime computes for them, now."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conformance.nodes import check, compute
from conformance.runtime import onnxruntime_values, random_node
from modes import each_mode

pytest.importorskip("onnx", reason="builds the nodes")
pytest.importorskip("onnxruntime", reason="computes their values")

# (T, N, I, H). The variants that minigrad's own cells compute go through all of them; the others
# keep I and H, so that a compiled mode has one kernel of each to compile.
SIZES = [(5, 3, 2, 3), (4, 1, 3, 2), (1, 2, 1, 3), (3, 4, 2, 1), (7, 5, 5, 7)]
OWN_SIZES = [(5, 3, 3, 2), (4, 1, 3, 2), (1, 2, 3, 2), (3, 7, 3, 2)]

PEEPHOLES = "peepholes"
VARIANTS: dict[tuple[str, str], dict[str, Any]] = {
    ("RNN", "tanh"): {},
    ("RNN", "relu"): {"activations": ["Relu"]},
    ("RNN", "clip"): {"clip": 0.6},
    ("RNN", "scaledtanh"): dict(
        activations=["ScaledTanh"], activation_alpha=[0.8], activation_beta=[1.3]
    ),
    ("RNN", "softsign"): {"activations": ["Softsign"]},
    ("LSTM", "plain"): {},
    ("LSTM", "peepholes"): {PEEPHOLES: True},
    ("LSTM", "clip"): {"clip": 0.5},
    ("LSTM", "input_forget"): {"input_forget": 1},
    ("LSTM", "all"): {PEEPHOLES: True, "clip": 0.7, "input_forget": 1},
    ("LSTM", "hardsigmoid"): {"activations": ["HardSigmoid", "Elu", "Softsign"], PEEPHOLES: True},
    ("LSTM", "leakyrelu"): dict(
        activations=["Sigmoid", "LeakyRelu", "Tanh"], activation_alpha=[0.3]
    ),
    ("GRU", "before"): {"linear_before_reset": 0},
    ("GRU", "after"): {"linear_before_reset": 1},
    ("GRU", "clip before"): {"clip": 0.5, "linear_before_reset": 0},
    ("GRU", "clip after"): {"clip": 0.5, "linear_before_reset": 1},
    ("GRU", "hardsigmoid"): dict(
        activations=["HardSigmoid", "Softplus"], activation_alpha=[0.3], activation_beta=[0.4]
    ),
}
STANDARD = {"tanh", "relu", "plain", "before", "after"}


def both_directions(attributes: dict[str, Any]) -> dict[str, Any]:
    """Activations are listed for each direction anew."""
    lists = {k: v * 2 for k, v in attributes.items() if k.startswith("activation")}
    return attributes | lists


def random_cases() -> Iterator[Any]:
    sizes = {True: itertools.cycle(SIZES), False: itertools.cycle(OWN_SIZES)}
    grid = list(itertools.product(("forward", "reverse", "bidirectional"), (True, False)))
    for (op, variant), attributes in VARIANTS.items():
        for i, (direction, ragged) in enumerate(grid * (2 if variant in STANDARD else 1)):
            initial = i % 4 != 3
            size = next(sizes[variant in STANDARD])
            name = f"{op}-{variant}-{direction}-{'x'.join(map(str, size))}"
            name += "-ragged" * ragged + "-state" * initial
            yield pytest.param(op, attributes, direction, size, ragged, initial, id=name)


@each_mode
@pytest.mark.parametrize(
    ("op", "attributes", "direction", "sizes", "ragged", "initial"), list(random_cases())
)
def test_node_gives_onnxruntimes_values(
    op: str,
    attributes: dict[str, Any],
    direction: str,
    sizes: tuple[int, int, int, int],
    ragged: bool,
    initial: bool,
    mode: str,
) -> None:
    seed = zlib.crc32(repr((op, attributes, direction, sizes, ragged)).encode())
    attributes = {**attributes, "direction": direction}
    if direction == "bidirectional":
        attributes = both_directions(attributes)
    peepholes = attributes.pop(PEEPHOLES, False)
    rng = np.random.default_rng(seed)
    node = random_node(op, attributes, sizes, rng, ragged, initial, peepholes)
    check(compute(node, mode), onnxruntime_values(node), rtol=1e-5, atol=1e-5)


@each_mode
def test_directions_may_have_activations_of_their_own(mode: str, rng: np.random.Generator) -> None:
    attributes = {"direction": "bidirectional"}
    names = ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Elu"]
    node = random_node("LSTM", attributes | {"activations": names}, OWN_SIZES[0], rng)
    check(compute(node, mode), onnxruntime_values(node), rtol=1e-5, atol=1e-5)
