"""What needs a gradient never leaves the tape without a word.

The calls are made from NumPy's own list of functions, methods and ufuncs. Each is made on a Tensor
that requires a gradient, and once more on its plain array: where NumPy can, the Tensor's result has
the same values and the gradient that differences of NumPy's function give; or the call is refused
by an error of minigrad's; or it is a read, whose result holds no floats.
"""

from __future__ import annotations

import copy
import math
import operator
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.border import tensors_in

MASK = np.array([[True, False, True], [False, True, True], [True, True, False]])


def other() -> np.ndarray:
    return np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6], [0.2, 0.9, 1.3]])


# functions that set something, open something or print; none takes an array
SKIPPED = {
    "set_printoptions", "setbufsize", "seterr", "seterrcall", "show_config", "show_runtime", "test",
    "info", "printoptions", "get_include",
    # they say what they take themselves, or read by float(t), as documented
    "frombuffer", "from_dlpack", "fromiter", "tri",
}  # fmt: skip

CALLS: list[Callable[[Any, Any], Any]] = [
    lambda f, t: f(t),
    lambda f, t: f(t, t),
    lambda f, t: f([t, t]),
    lambda f, t: f((t, t), 1),
    lambda f, t: f(t, 1),
    lambda f, t: f(t, 0, 1),
    lambda f, t: f(t, 1, 0),
    lambda f, t: f(t, (9,)),
    lambda f, t: f(t, (3, 3)),
    lambda f, t: f(t, [0, 2]),
    lambda f, t: f(t, axis=0),
    lambda f, t: f(t, axis=(0, 1), keepdims=True),
    lambda f, t: f(other(), t),
    lambda f, t: f(t, other()),
    lambda f, t: f(MASK, t),
    lambda f, t: f(MASK, t, other()),
    lambda f, t: f(t, -0.5, 0.8),
    lambda f, t: f(t, np.array([[0], [1], [1]]), 1),
    lambda f, t: f("ij,jk->ik", t, other()),
    lambda f, t: f(3, t),
    lambda f, t: f(other(), 0, t),
    lambda f, t: f(other(), MASK, t),
    lambda f, t: f(other(), t, where=MASK),
    lambda f, t: f(t, where=MASK),
    lambda f, t: f(t, dtype=np.float32),
    lambda f, t: f(other(), t, other()),
]


def _public(module: Any) -> list[tuple[str, Callable[..., Any]]]:
    names = [n for n in dir(module) if n[0] != "_" and n not in SKIPPED]
    found = [(f"{module.__name__}.{n}", getattr(module, n)) for n in names]
    return [(n, f) for n, f in found if callable(f) and not isinstance(f, type)]


FUNCTIONS = dict(_public(np) + _public(np.linalg) + _public(np.fft))
UFUNCS = {
    f"{name}.{method}": getattr(f, method)
    for name, f in FUNCTIONS.items()
    if isinstance(f, np.ufunc)
    for method in ("reduce", "accumulate", "outer", "reduceat", "at")
}


def _floats(result: Any) -> list[Any]:
    """The floating point numbers and arrays in a result that are no Tensors."""
    if isinstance(result, mg.Tensor):
        return []
    if isinstance(result, (list, tuple)):
        return [x for r in result for x in _floats(r)]
    kind = getattr(getattr(result, "dtype", None), "kind", "")
    return [result] if kind in ("f", "c", "O") or isinstance(result, (float, complex)) else []


def _attempt(call: Callable[..., Any], f: Callable[..., Any], x: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return call(f, x)


def _total(result: Any) -> float:
    """A weighted sum of all floats in a result."""
    parts = [np.asarray(r) for r in _floats(result)]
    parts = [p for p in parts if p.dtype.kind == "f"]
    with np.errstate(invalid="ignore"):  # Inf - Inf
        return sum(float(np.sum(p * np.cos(np.arange(p.size)).reshape(p.shape))) for p in parts)


def _explained(error: Exception, what: str) -> None:
    """Does an error say what to write? Those of shapes and dtypes say so in their own tests."""
    words = ("numpy()", "no_grad", "minigrad")
    clear = isinstance(error, (mg.ShapeError, mg.DTypeError)) or any(w in str(error) for w in words)
    assert clear, f"{what}: {type(error).__name__} {error}"


# x % x is where these jump, and differences across a jump are no slope
JUMPS = {f"numpy.{n}" for n in ("around", "round", "divmod", "floor_divide", "mod", "remainder")}


def check(name: str, f: Callable[..., Any], data: np.ndarray) -> None:
    # one number in another place than the first may be an option, which is read by float(t)
    for number, call in enumerate(CALLS if data.ndim else CALLS[:12]):
        x = mg.tensor(data, requires_grad=True)
        what = f"{name}, call {number}, on {list(data.shape)}"
        try:
            plain = _attempt(call, f, data.copy())
        except Exception:
            plain = None
        try:
            result = _attempt(call, f, x)
        except Exception as error:
            if plain is not None:
                _explained(error, what)
            continue
        if _floats(result):  # of other arguments, or of the shape and dtype alone?
            again = _attempt(call, f, mg.tensor(data + 0.01, requires_grad=True))
            same = np.array_equal(_total(again), _total(result), equal_nan=True)
            assert same or "empty" in name, f"{what}: lost"
            continue
        assert np.array_equal(x.numpy(), data), f"{what}: wrote into the tensor"
        recorded = [t for t in tensors_in(result) if t.dtype.kind == "f"]
        if plain is None or not recorded or not np.isfinite(_total(plain)):
            continue
        if not any(t.requires_grad for t in recorded):  # a choice by a condition is flat
            up = _attempt(call, f, data + 1e-6)
            assert _total(up) == _total(plain), f"{what}: no gradient"
            continue
        found = [np.asarray(p) for p in _floats(plain)]
        for t, p in zip(recorded, found, strict=True):
            np.testing.assert_allclose(t.numpy(), p, rtol=1e-12, atol=1e-12, err_msg=what)
        if name.removesuffix(".outer") in JUMPS:
            continue
        weights = [np.cos(np.arange(t.size)).reshape(t.shape) for t in recorded]
        loss = sum(((t * w).sum() for t, w in zip(recorded, weights, strict=True)), start=0.0)
        (g,) = mg.grad(loss, [x])
        v = np.sin(1.0 + np.arange(data.size)).reshape(data.shape)
        eps = 1e-6
        up, down = (_total(_attempt(call, f, data + s * eps * v)) for s in (1, -1))
        expected = (up - down) / (2 * eps)
        np.testing.assert_allclose(
            np.sum(g.numpy() * v), expected, rtol=1e-6, atol=1e-7, err_msg=what
        )


DATA = [
    np.array([[0.9, -0.4, 0.6], [0.25, 0.7, -0.8], [-0.3, 0.1, 0.55]]),
    np.array([0.95, 0.45, 0.65]),
    np.array(0.35),
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_numpy_records_or_refuses_or_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # np.save and its kin take any text for the name of a file
    for data in DATA:
        if name != "numpy.std" or data.ndim:  # the slope of std at 0 is a matter of its own
            check(name, FUNCTIONS[name], data)


@pytest.mark.parametrize("name", UFUNCS)
def test_every_ufunc_method_records_or_refuses_or_reads(name: str) -> None:
    for data in DATA:
        check(name, UFUNCS[name], data)


METHODS = [n for n in dir(np.ndarray) if callable(getattr(np.ndarray, n)) and n[:2] != "__"]
READS = {"item", "tolist"}
OTHERWISE = {"cumsum"}  # documented to run along the last axis, where NumPy's runs over the flat


@pytest.mark.parametrize("name", [n for n in METHODS if n not in READS | {"tofile", "dump"}])
def test_every_method_of_an_array_records_or_is_missing_or_refuses(name: str) -> None:
    def method(t: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(t, name)(*args, **kwargs)

    for data in DATA:
        for call in CALLS:
            x = mg.tensor(data, requires_grad=True)
            try:
                result = _attempt(call, method, x)
            except Exception:
                continue
            if _floats(result):
                again = _attempt(call, method, mg.tensor(data + 0.01, requires_grad=True))
                same = np.array_equal(_total(again), _total(result), equal_nan=True)
                assert same, f"{name} of {list(data.shape)}"
                continue
            try:
                plain = _attempt(call, method, data.copy())
            except Exception:
                continue
            if isinstance(result, mg.Tensor) and name not in OTHERWISE:
                assert result.requires_grad or result.dtype.kind != "f"
                np.testing.assert_allclose(result.numpy(), plain, rtol=1e-12, err_msg=name)


def test_arrays_refuse_a_tensor_that_needs_a_gradient() -> None:
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    a = np.arange(3.0)
    for write in (
        lambda: np.asarray(x), lambda: np.array([x, x]), lambda: a.dot(x), lambda: np.full(3, x),
        lambda: a.__setitem__(slice(None), x), lambda: operator.iadd(a, x),
        lambda: operator.imul(a, x), lambda: np.add(a, a, out=x), lambda: np.copyto(a, x),
        lambda: np.add.at(a, [0], x[:1]), lambda: a.put([0, 1, 2], x),
        lambda: np.array([list(x)]), lambda: np.array(x, dtype=object),
    ):  # fmt: skip
        with pytest.raises(mg.GradientError, match=r"numpy\(\)|no_grad"):
            write()
    assert a.tolist() == [0.0, 1.0, 2.0]


def test_numpy_computes_with_constants_and_never_writes_into_them() -> None:
    x = mg.tensor([4.0, 9.0])
    a = np.ones(2)
    a += x
    assert a.tolist() == [5.0, 10.0]
    assert np.linalg.norm(x) == np.linalg.norm([4.0, 9.0])
    assert np.floor(mg.tensor([1.5])).tolist() == [1.0]
    assert np.array([x, x]).shape == (2, 2)
    for write in (
        lambda: np.copyto(x, 0.0),
        lambda: np.put(x, 0, 1.0),
        lambda: np.place(x, x > 0, 1),
    ):
        with pytest.raises((ValueError, mg.GradientError)):
            write()
    assert x.tolist() == [4.0, 9.0]


def test_arguments_that_a_rule_does_not_take_are_named() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"np\.sum of a Tensor takes .*axis=None.*'initial'"):
        np.sum(x, initial=3.0)
    with pytest.raises(mg.GradientError, match=r"np\.exp with dtype=.*astype"):
        np.exp(x, dtype=np.float32)
    with pytest.raises(mg.GradientError, match=r"np\.linalg\.det has no gradient rule here"):
        np.linalg.det(x)
    with pytest.raises(mg.GradientError, match=r"norm of a matrix with ord=2 has no .*'fro'"):
        np.linalg.norm(x.reshape(1, 2), 2)


# -- lists -----------------------------------------------------------------------------------------


def _leaves() -> tuple[mg.Tensor, mg.Tensor]:
    return mg.tensor(2.0, requires_grad=True), mg.tensor(5.0, requires_grad=True)


@pytest.mark.parametrize(
    "take",
    [
        lambda parts: mg.tensor([1.0, 1.0]) + parts,
        lambda parts: parts + mg.tensor([1.0, 1.0]),
        lambda parts: np.ones(2) * mg.tensor(parts),
        lambda parts: mg.tensor(parts),
        lambda parts: mg.sum(parts),
        lambda parts: mg.mean(parts) * 2.0,
        lambda parts: mg.add(np.zeros(2), parts),
        lambda parts: mg.maximum(parts, -100.0),
        lambda parts: mg.where([True, True], parts, 0.0),
        lambda parts: mg.matmul(np.eye(2), parts),
        lambda parts: mg.dot(parts, [1.0, 1.0]),
        lambda parts: mg.reshape(parts, (2, 1)),
        lambda parts: mg.stack([parts, np.zeros(2)]),
        lambda parts: mg.concatenate([parts, [0.0]]),
        lambda parts: mg.take(parts, [0, 1]),
        lambda parts: mg.power(parts, 1),
        lambda parts: mg.split(parts, 1)[0],
        lambda parts: np.stack(parts),
        lambda parts: np.add(np.zeros(2), mg.tensor(parts)),
        lambda parts: nn.mse_loss(parts, mg.tensor(parts).detach() - 0.5, reduction="sum"),
        lambda parts: nn.mae_loss(parts, np.full(2, -100.0), reduction="sum"),
    ],
)
def test_a_list_of_tensors_is_stacked_and_recorded(take: Callable[[Any], Any]) -> None:
    a, b = _leaves()
    take([a * 3.0, b * 5.0]).sum().backward()
    assert (a.grad.item(), b.grad.item()) == (3.0, 5.0)


def test_numbers_in_a_list_of_tensors_take_their_dtype_and_lists_nest() -> None:
    a = mg.tensor(2.0, dtype=np.float32, requires_grad=True)
    y = mg.tensor([[a, 1], [a * 2.0, 0.5]])
    assert y.dtype == np.float32
    assert y.tolist() == [[2.0, 1.0], [4.0, 0.5]]
    y.sum().backward()
    assert a.grad.item() == 3.0


def test_layers_and_scans_take_lists_of_tensors() -> None:
    w = mg.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    steps = [w * float(k) for k in range(4)]
    for layer in (nn.Linear(3, 2), nn.LayerNorm(3), nn.Dropout(0.5)):
        assert layer(steps).requires_grad
    output, _ = nn.GRU(3, 5, mode="tape")(steps)
    assert output.shape == (4, 2, 5)
    mg.grad(output.sum(), w)


def test_a_tuple_of_tensors_is_no_array() -> None:
    a, b = _leaves()
    pair = (a * 1.0, b)
    for take in (
        lambda: mg.sum(pair), lambda: mg.tensor(pair), lambda: a + pair, lambda: mg.exp(pair),
        lambda: nn.Linear(1, 1)(pair), lambda: nn.mse_loss(pair, [1.0, 2.0]),
        lambda: mg.reshape(pair, (2,)), lambda: mg.sum((a.detach(), b.detach())),
        lambda: nn.LSTM(1, 1)(pair), lambda: nn.Dropout()(pair),
    ):  # fmt: skip
        with pytest.raises(mg.ShapeError, match=r"got a tuple .*\(output, state\).*mg\.stack"):
            take()
    assert mg.stack(pair).requires_grad


def test_a_recurrent_layer_in_front_of_a_linear_one_is_refused_at_every_length() -> None:
    net = nn.Sequential(nn.GRU(4, 5, mode="tape"), nn.Linear(5, 2))
    for time in (1, 3):
        with pytest.raises(mg.ShapeError, match=r"Linear: expected an array.*output, state = "):
            net(np.ones((time, 2, 4), np.float32))
        with mg.no_grad(), pytest.raises(mg.ShapeError, match=r"Linear: expected an array"):
            net(np.ones((time, 2, 4), np.float32))


def test_a_leaf_is_not_made_from_what_needs_a_gradient() -> None:
    a, _ = _leaves()
    for make in (lambda t: mg.tensor(t, requires_grad=True), mg.Tensor, nn.Parameter):
        with pytest.raises(mg.GradientError, match=r"cut off from it.*t\.copy\(\)"):
            make(a * 2.0)
        with mg.no_grad():
            assert make(a).tolist() == 2.0
    y = mg.tensor(a * 3.0, dtype=np.float32)
    y.backward()
    assert (y.dtype, a.grad.item()) == (np.float32, 3.0)


# -- assignment ------------------------------------------------------------------------------------


def test_writing_what_needs_a_gradient_into_a_constant_is_refused() -> None:
    a, b = _leaves()
    y = mg.tensor(np.zeros((2, 2)))
    for index, value in ((0, a), ((0, 0), a * 2.0), (slice(None), [a, b]), (..., a), (y > 0, a)):
        with pytest.raises(mg.GradientError, match=r"mg\.stack or mg\.concatenate.*mg\.where"):
            y[index] = value
    with pytest.raises(mg.GradientError, match=r"mg\.stack"):
        y[0] += a
    y[0] = a.detach()
    with mg.no_grad():
        y[1] = [a, b]
    assert y.tolist() == [[2.0, 2.0], [2.0, 5.0]]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (operator.iadd, [3.0, 4.0]), (operator.isub, [-1.0, 0.0]), (operator.imul, [2.0, 4.0]),
        (operator.itruediv, [0.5, 1.0]), (operator.ipow, [1.0, 4.0]),
    ],
)  # fmt: skip
def test_an_augmented_assignment_inside_no_grad_edits_a_leaf(
    edit: Callable[[Any, Any], Any], expected: list[float]
) -> None:
    for p in (mg.tensor([1.0, 2.0], requires_grad=True), nn.Parameter([1.0, 2.0])):
        with mg.no_grad():
            q = edit(p, 2.0)
        assert q is p
        assert p.tolist() == expected
        assert p.requires_grad
    buffer = mg.tensor([1.0, 2.0])
    with mg.no_grad():
        assert edit(buffer, 2.0) is buffer


def test_an_augmented_assignment_is_seen_by_the_tape() -> None:
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    y = (p * p).sum()
    with mg.no_grad():
        p -= 0.5
    with pytest.raises(mg.GradientError, match="edited in place since"):
        y.backward()


def test_an_augmented_assignment_makes_a_new_tensor_of_what_was_computed() -> None:
    start = mg.tensor(np.zeros(2))
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    h = start
    for _ in range(3):
        h += w * w
    h.sum().backward()
    assert start.tolist() == [0.0, 0.0]
    assert w.grad.tolist() == [6.0, 12.0]
    with mg.no_grad():
        computed = kept = w * 1.0
        computed += 1.0
    assert kept.tolist() == [1.0, 2.0]
    assert computed.tolist() == [2.0, 3.0]


def test_a_training_step_that_forgot_no_grad_is_refused() -> None:
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(mg.GradientError, match=r"t -= value.*no_grad"):
        p -= 0.1
    with mg.no_grad(), pytest.raises(mg.ShapeError, match=r"would become float64\[3, 2\]"):
        p += np.ones((3, 2))


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [lambda t: t.copy(), copy.copy, np.copy])
def test_a_copy_is_recorded(duplicate: Callable[[Any], Any]) -> None:
    x = mg.tensor([1.0, -0.0], requires_grad=True)
    y = duplicate(x)
    (y * 2.0 + x).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    assert np.signbit(y.numpy()).tolist() == [False, True]
    assert not np.shares_memory(y.numpy(), x.numpy())
    constant = mg.tensor([1, 2]).copy()
    assert (constant.dtype.kind, constant.requires_grad) == ("i", False)


def _pickled(t: Any) -> Any:
    return pickle.loads(pickle.dumps(t))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled])
def test_deep_copies_of_computed_tensors_are_constants(duplicate: Callable[[Any], Any]) -> None:
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    y = x
    for _ in range(3000):
        y = y * 1.0
    y = duplicate(y[np.array([0, 0])])
    assert y.tolist() == [2.0, 2.0]
    assert not y.requires_grad
    assert y.is_leaf


@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled])
def test_deep_copies_of_leaves_are_leaves_of_their_class(duplicate: Callable[[Any], Any]) -> None:
    x = mg.tensor([2.0], dtype=np.float32, requires_grad=True, name="x")
    x.grad = mg.tensor([7.0], dtype=np.float32)
    twin = duplicate(x)
    assert (twin.name, twin.dtype, twin.requires_grad) == ("x", np.float32, True)
    assert twin.grad.tolist() == [7.0]
    assert twin.grad is not x.grad
    (twin * twin).sum().backward()
    assert x.grad.tolist() == [7.0]
    with mg.no_grad():
        twin -= 1.0
    assert (twin.tolist(), x.tolist()) == ([1.0], [2.0])
    cell = nn.LSTMCell(3, 4)
    other = duplicate(cell)
    assert all(type(p) is nn.Parameter and p.requires_grad for p in other.parameters())
    for a, b in zip(cell.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    shared = duplicate([x, x])
    assert shared[0] is shared[1]


# -- Python's protocols ----------------------------------------------------------------------------


def test_a_tensor_of_one_element_formats_rounds_and_counts_like_a_number() -> None:
    loss = mg.tensor(1.23456, requires_grad=True)
    assert f"{loss:.4f} {loss:8.2e} {mg.tensor([0.5]):.0%}" == "1.2346 1.23e+00 50%"
    assert f"{loss}" == str(loss)
    assert (round(loss, 2), round(loss), math.floor(loss)) == (1.23, 1, 1)
    assert np.isfinite(loss)
    n = mg.tensor(2)
    assert (list(range(n)), [5, 6, 7][n]) == ([0, 1], 7)
    assert mg.tensor([1.0, 2.0, 3.0])[:n].tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match=r"expected one element, this tensor is float64\[2\]"):
        f"{mg.tensor([1.0, 2.0]):.2f}"
    for bad in (mg.tensor(1.0), mg.tensor([1]), mg.tensor(True)):
        with pytest.raises(TypeError, match=r"an index is one integer.*t\.item\(\)"):
            range(bad)


def test_in_asks_whether_a_value_is_there() -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert 3.0 in x
    assert 5.0 not in x
    assert mg.tensor(4.0) in x


@pytest.mark.parametrize(
    "f",
    [
        operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift,
        operator.floordiv, operator.mod, operator.eq, operator.lt, operator.ge,
    ],
)  # fmt: skip
def test_operators_on_integers_are_numpys(f: Callable[[Any, Any], Any]) -> None:
    a, b = np.array([6, -7, 2**62, 2**53 + 1]), np.array([3, 2, 5, 2**53])
    for right in (b, 3):
        for got in (f(mg.tensor(a), right), f(mg.tensor(a), mg.tensor(right))):
            np.testing.assert_array_equal(got.numpy(), f(a, right))
            assert got.numpy().dtype == f(a, right).dtype
    np.testing.assert_array_equal(f(a, mg.tensor(b)).numpy(), f(a, b))
    np.testing.assert_array_equal(f(7, mg.tensor(b[:3])).numpy(), f(7, b[:3]))


def test_bits_of_masks_are_logic_and_of_floats_refused() -> None:
    p, q = np.array([True, True, False]), np.array([True, False, False])
    for f in (operator.and_, operator.or_, operator.xor):
        for got in (f(mg.tensor(p), mg.tensor(q)), f(p, mg.tensor(q)), f(mg.tensor(p), q)):
            np.testing.assert_array_equal(got.numpy(), f(p, q))
    assert (~mg.tensor(p)).tolist() == [False, False, True]
    assert (~mg.tensor([2, 3])).tolist() == [-3, -4]
    with pytest.raises(mg.DTypeError, match="bitwise_and"):
        mg.tensor([1.0]) & 1
    with pytest.raises(mg.GradientError, match="no gradient rule"):
        np.fmod(mg.tensor([1.0], requires_grad=True), 2)


def test_integers_compare_exactly() -> None:
    values = [0, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
    for a in values:
        for b in [*values, 2**64, -(2**70)]:
            for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
                f = getattr(operator, {"equal": "eq", "not_equal": "ne", "less": "lt",
                                       "less_equal": "le", "greater": "gt",
                                       "greater_equal": "ge"}[name])  # fmt: skip
                assert getattr(mg, name)(mg.tensor([a]), b).tolist() == [f(a, b)]
    big = mg.tensor(np.array([2**64 - 1], np.uint64))
    assert (big == mg.tensor([-1])).tolist() == [False]
    with mg.Tape():
        assert (mg.tensor([1, 2]) == 2).tolist() == [False, True]


# -- NumPy's names with NumPy's meaning ------------------------------------------------------------


SHAPES = [
    ((), ()), ((), (3,)), ((3,), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)),
    ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)), ((6, 2, 3), (5, 3, 4)), ((2, 0), (0, 4)), ((0, 3), (3, 1)),
    ((1, 1), (1, 1)), ((2, 3), (4, 1, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_dot_is_numpys_for_all_ranks(left: Any, right: Any, rng: np.random.Generator) -> None:
    a, b = rng.normal(size=left), rng.normal(size=right)
    got = mg.tensor(a).dot(mg.tensor(b))
    assert got.shape == np.dot(a, b).shape
    np.testing.assert_allclose(got.numpy(), np.dot(a, b), rtol=1e-12, atol=1e-14)
    if a.size and b.size:
        mg.gradcheck(mg.dot, a, b, full=True)


def test_dot_refuses_what_numpy_refuses() -> None:
    for left, right in (((3,), (1,)), ((2, 3), (2,)), ((2, 3), (4, 2, 3))):
        with pytest.raises(ValueError, match="not aligned"):
            np.dot(np.ones(left), np.ones(right))
        with pytest.raises(mg.ShapeError, match="the last axis of a"):
            mg.dot(np.ones(left), mg.tensor(np.ones(right)))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 0), (0, 4)), ((2, 3, 0), (0,)), ((3, 0), (0, 4)), ((0,), (0,)), ((0,), (0, 4)),
        ((3, 0), (0,)), ((5, 2, 0), (5, 0, 3)), ((0,), (5, 0, 3)), ((0, 3), (3, 4)),
        ((0, 2, 3), (3, 4)), ((2, 0, 3), (3,)), ((2, 3), (3, 0)), ((1, 2, 0), (7, 0, 1)),
    ],
)  # fmt: skip
def test_products_over_empty_axes_are_zeros_and_so_are_their_gradients(
    left: Any, right: Any
) -> None:
    a, b = (mg.tensor(np.ones(s), requires_grad=True) for s in (left, right))
    y = a @ b
    np.testing.assert_array_equal(y.numpy(), np.ones(left) @ np.ones(right))
    y.sum().backward()
    assert (a.grad.shape, b.grad.shape) == (left, right)
    assert not a.grad.numpy().any()
    assert not b.grad.numpy().any()


@pytest.mark.parametrize(
    ("shape", "indices", "axis"),
    [
        ((3, 4), [[1]], 1), ((3, 4), [[1, -1, 0, 2]], 0), ((3, 4), [[2], [0], [1]], 1),
        ((4,), [3, 3], 0),
        ((2, 3, 4), [[[1]], [[3]]], -1), ((1, 4), [[0], [3], [1]], 1), ((3, 4), [[0, 1, 2, 0]], 0),
        ((3, 0), np.zeros((3, 0), int), 1),
    ],
)  # fmt: skip
def test_take_along_axis_broadcasts_as_numpys(shape: Any, indices: Any, axis: int) -> None:
    x, index = np.arange(float(math.prod(shape))).reshape(shape), np.array(indices)
    expected = np.take_along_axis(x, index, axis)
    np.testing.assert_array_equal(mg.take_along_axis(mg.tensor(x), index, axis).numpy(), expected)
    np.testing.assert_array_equal(
        mg.take_along_axis(mg.tensor(x), mg.tensor(index), axis).numpy(), expected
    )
    if x.size:
        mg.gradcheck(lambda t: mg.take_along_axis(t, index, axis), x, full=True)


def test_take_along_axis_refuses_rows_that_do_not_fit() -> None:
    with pytest.raises(mg.ShapeError, match="all axes but axis 1 must be equal, or 1"):
        mg.take_along_axis(mg.tensor(np.ones((3, 4))), np.array([[0], [1]]), 1)
    with pytest.raises(mg.DTypeError, match="expected integers"):
        mg.take_along_axis(mg.tensor(np.ones((3, 4))), np.ones((3, 1)), 1)


def test_the_dtype_of_a_power_is_numpys_whatever_the_exponent() -> None:
    x = np.array([1.0, 2.0], np.float32)
    for p in (0.0, 1.0, 2.0, 3.0, 0.5, -1.0, 2.5):
        for exponent in (p, np.float64(p), np.float32(p), np.array([p, p])):
            got = mg.tensor(x) ** exponent
            assert got.dtype == (x**exponent).dtype
            np.testing.assert_allclose(got.numpy(), x**exponent, rtol=1e-6)
        np.testing.assert_allclose(
            (np.float64(p) ** mg.tensor(x[:1] + 1)).numpy(), p ** (x[:1] + 1)
        )
    t = mg.tensor(x.astype(float), requires_grad=True)
    assert mg.grad(np.power(t, 3).sum(), t).tolist() == [3.0, 12.0]
    assert (np.array([2.0, 3.0]) ** t).tolist() == [2.0, 9.0]


OF_MASKED_ARRAYS: list[Callable[[Any], Any]] = [
    np.ma.exp, np.ma.sum, np.ma.mean, np.ma.array, np.ma.asarray, np.ma.getdata,
    np.ma.masked_invalid,
    lambda t: np.ma.add(t, 1.0), lambda t: np.ma.multiply(t, t.detach()),
    lambda t: np.ma.array([1.0, 2.0], mask=[False, True]) * t,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(OF_MASKED_ARRAYS)))
def test_masked_arrays_of_numpy_are_a_way_out_too(number: int) -> None:
    function = OF_MASKED_ARRAYS[number]
    with pytest.raises(mg.GradientError, match="leave the tape"):
        function(mg.tensor([1.0, 2.0], requires_grad=True))
    function(mg.tensor([1.0, 2.0]))


def test_what_is_masked_is_no_number() -> None:
    masked, t = np.ma.array([1.0, 2.0], mask=[False, True]), mg.tensor([1.0, 2.0])
    layer = mg.nn.RNN(2, 3, dtype=np.float64)
    ways: list[Callable[[Any], Any]] = [
        mg.tensor, lambda m: t * m, lambda m: np.add(m, t), lambda m: mg.stack([t, m]),
        lambda m: layer(m[None, None]), lambda m: mg.nn.mse_loss(t, m),
    ]  # fmt: skip
    for way in ways:
        with pytest.raises(mg.DTypeError, match=r"1 elements are masked.*x.filled\(0.0\)"):
            way(masked)
        way(np.ma.array([1.0, 2.0]))
