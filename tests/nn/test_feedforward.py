"""Linear, Embedding, LayerNorm, Dropout, Sequential."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden.store import cases, gradients, weighted_loss

import minigrad as mg
from minigrad import nn

LAYERS = cases("layers")
F64: dict[str, Any] = {"dtype": np.float64}
BUILD: dict[str, Any] = {
    "linear": lambda: nn.Linear(3, 5, **F64),
    "linear-nobias": lambda: nn.Linear(1, 2, bias=False, **F64),
    "layernorm": lambda: nn.LayerNorm(5, **F64),
    "layernorm-2d": lambda: nn.LayerNorm((2, 3), eps=1e-3, **F64),
    "layernorm-plain": lambda: nn.LayerNorm(4, elementwise_affine=False, **F64),
    "embedding": lambda: nn.Embedding(5, 3, **F64),
    "embedding-padding": lambda: nn.Embedding(5, 3, padding_idx=2, **F64),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_torch(name: str) -> None:
    case = LAYERS[name]
    module = BUILD[name]()
    parameters = dict(module.named_parameters())
    module.load_state_dict({k: case.arrays[k] for k in parameters})
    inputs = dict(parameters)
    if "x" in case.arrays:
        inputs["x"] = mg.tensor(case.arrays["x"], requires_grad=True)
        y = module(inputs["x"])
    else:
        y = module(case.options["indices"])
    np.testing.assert_allclose(y.data, case.arrays["y"], rtol=1e-10, atol=1e-10)
    weighted_loss(case, {"y": y}).backward()
    for k, g in gradients(case).items():
        np.testing.assert_allclose(inputs[k].grad.data, g, rtol=1e-10, atol=1e-10, err_msg=k)


@pytest.mark.parametrize("lead", [(), (1,), (7,), (5, 3), (0, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_linear_layer_and_its_gradients_are_sums_over_all_rows(
    lead: Any, dtype: Any, rng: np.random.Generator
) -> None:
    layer = nn.Linear(3, 5, dtype=dtype)
    w, b = layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    for _ in range(3):
        x, g = rng.normal(size=(*lead, 3)), rng.normal(size=(*lead, 5))
        t = mg.tensor(x, dtype, requires_grad=True)
        layer.zero_grad()
        y = layer(t)
        y.backward(g.astype(dtype))
        tolerance = {"rtol": 2e-5, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-12}
        np.testing.assert_allclose(y.data, x @ w.T + b, **tolerance)
        np.testing.assert_allclose(t.grad.data, g @ w, **tolerance)
        rows, slopes = x.reshape(-1, 3), g.reshape(-1, 5)
        np.testing.assert_allclose(layer.weight.grad.data, slopes.T @ rows, **tolerance)
        np.testing.assert_allclose(layer.bias.grad.data, slopes.sum(0), **tolerance)
        assert layer.weight.grad.data.flags.c_contiguous


def test_a_linear_layer_of_two_precisions_gives_each_gradient_its_own() -> None:
    layer = nn.Linear(3, 2, dtype=np.float32)
    x = mg.tensor(np.ones((4, 3)), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, layer.weight.grad.dtype) == (np.float64, np.float64, np.float32)


@pytest.mark.parametrize("size", [(3,), (50, 33)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_embedding_adds_up_what_its_rows_receive(
    size: Any, dtype: Any, rng: np.random.Generator
) -> None:
    layer = nn.Embedding(9, 80, dtype=dtype)
    for _ in range(3):
        index, g = rng.integers(0, 9, size), rng.integers(-8, 9, (*size, 80)).astype(dtype)
        layer.zero_grad()
        y = layer(index)
        np.testing.assert_array_equal(y.data, layer.weight.numpy()[index])
        y.backward(g)
        expected = np.zeros((9, 80), dtype)
        np.add.at(expected, index, g)
        np.testing.assert_array_equal(layer.weight.grad.data, expected)


def test_parameters_start_in_torchs_range() -> None:
    mg.seed(0)
    layer = nn.Linear(100, 50)
    assert layer.weight.dtype == np.float32
    assert 0.09 < np.abs(layer.weight.data).max() <= 0.1  # 1 / sqrt(100)
    assert 0.05 < np.abs(layer.bias.data).max() <= 0.1
    embedding = nn.Embedding(200, 50, padding_idx=3)
    assert abs(embedding.weight.data.std() - 1) < 0.05
    assert not embedding.weight.data[3].any()


def test_dropout_scales_what_it_keeps_and_is_off_in_eval() -> None:
    layer = nn.Dropout(0.25, generator=np.random.default_rng(0))
    x = mg.tensor(np.ones((100, 101)), requires_grad=True)
    y = layer(x)
    values, counts = np.unique(y.data, return_counts=True)
    np.testing.assert_allclose(values, [0.0, 4 / 3])
    assert abs(counts[0] / y.size - 0.25) < 0.02
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)  # the same mask backwards
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).data.any()


def test_dropout_repeats_with_the_same_seed() -> None:
    def draw() -> Any:
        mg.seed(7)
        return nn.Dropout(0.5)(np.ones((4, 5), np.float32)).data

    np.testing.assert_array_equal(draw(), draw())
    assert draw().dtype == np.float32


def test_sequential_chains_functions_and_modules() -> None:
    net = nn.Sequential(nn.Linear(3, 4), mg.tanh, nn.Linear(4, 1))
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x = np.ones((2, 3), np.float32)
    expected = net[2](mg.tanh(net[0](x)))
    np.testing.assert_array_equal(net(x).data, expected.data)
    assert len(net) == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.Linear(3, 2)(np.ones((4, 5), np.float32)),
            mg.ShapeError,
            r"expected \(..., 3\)",
        ),
        (lambda: nn.LayerNorm(3)(np.ones((3, 4), np.float32)), mg.ShapeError, r"last axes \[3\]"),
        (lambda: nn.Embedding(3, 2)([0, 3]), mg.ShapeError, "from 0 to 2, got some from 0 to 3"),
        (lambda: nn.Embedding(3, 2)([-1]), mg.ShapeError, "from 0 to 2"),
        (lambda: nn.Embedding(3, 2)([0.5]), mg.DTypeError, "expected integers"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), mg.ShapeError, "padding_idx=3 is no row"),
        (lambda: nn.Dropout(1.5), ValueError, "from 0 to 1; got 1.5"),
        (lambda: nn.Dropout(0.5, generator=3)(np.ones(2)), TypeError, "numpy.random.Generator"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
