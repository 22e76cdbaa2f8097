"""The names of NumPy and torch that people type first: they compute, or say what ours is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import othernames

X = np.array([[1.3, -0.4, 2.5], [0.0, 3.7, -1.5]])


def leaf(data: Any = X, dtype: Any = None) -> mg.Tensor:
    return mg.tensor(data, dtype, requires_grad=True)


CALLS: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda t: mg.outer(t[0], t), lambda a: np.outer(a[0], a)),
    (lambda t: t.norm(), lambda a: np.linalg.norm(a)),
    (lambda t: mg.norm(t, 1, axis=0), lambda a: np.abs(a).sum(0)),
    (lambda t: t.norm(np.inf, axis=1, keepdims=True), lambda a: np.abs(a).max(1, keepdims=True)),
    (lambda t: t.norm(3.0), lambda a: (np.abs(a) ** 3).sum() ** (1 / 3)),
    (lambda t: t.prod(), np.prod),
    (lambda t: t.prod(axis=(0, 1), keepdims=True), lambda a: np.prod(a, (0, 1), keepdims=True)),
    (lambda t: mg.prod(t[:, 1:], axis=-1), lambda a: a[:, 1:].prod(-1)),
    (lambda t: t.repeat(2, axis=1), lambda a: np.repeat(a, 2, 1)),
    (lambda t: mg.repeat(t, [2, 0], 0), lambda a: np.repeat(a, [2, 0], 0)),
    (lambda t: mg.repeat(t, 3), lambda a: np.repeat(a, 3)),
    (lambda t: t.tile(2), lambda a: np.tile(a, 2)),
    (lambda t: t.tile((2, 1, 3)), lambda a: np.tile(a, (2, 1, 3))),
    (lambda t: mg.log2(t * t + 1.0), lambda a: np.log2(a * a + 1)),
    (lambda t: t.flatten(), np.ravel),
    (lambda t: mg.flatten(t.reshape(1, 2, 3), 1), lambda a: a.reshape(1, 6)),
    (lambda t: t.reshape(1, 2, 3).flatten(0, 1), lambda a: a),
    (lambda t: t.clone() * 2.0, lambda a: a * 2),
    (lambda t: t % 0.7, lambda a: a % 0.7),
    (lambda t: 2.0 % (t + 5.0), lambda a: 2 % (a + 5)),
    (lambda t: divmod(t, 0.7)[1], lambda a: a % 0.7),
    (lambda t: t // 0.7 + t, lambda a: a // 0.7 + a),
    (lambda t: mg.floor(t + 0.2) + t, lambda a: np.floor(a + 0.2) + a),
    (lambda t: t.round(1) + t, lambda a: np.round(a, 1) + a),
    (lambda t: mg.round(t - 0.2) + t, lambda a: np.round(a - 0.2) + a),
]


@pytest.mark.parametrize(("ours", "numpys"), CALLS)
def test_they_compute_what_numpy_does_and_have_its_gradient(ours: Any, numpys: Any) -> None:
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5)):
        y = ours(leaf(X, dtype))
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy(), numpys(X), tolerance, tolerance)
    mg.gradcheck(ours, X + 0.03, full=True)
    mg.gradcheck(lambda t: mg.grad(mg.sin(ours(t)).sum(), t, create_graph=True), X + 0.03)


EQUATIONS = {
    "ij,jk->ik": [(2, 3), (3, 4)], "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)], "ii->i": [(3, 3)],
    "ii": [(3, 3)], "i,j": [(2,), (3,)], "ijk,ikl,lm->jm": [(2, 3, 4), (2, 4, 5), (5, 2)],
    "...ij,...jk": [(2, 1, 3, 4), (5, 4, 2)], "ij->ji": [(2, 3)], "ba": [(2, 3)],
    "bh,bh->b": [(2, 3), (2, 3)], "ab,cd,ef->fb": [(2, 3), (1, 2), (2, 2)], ",i->i": [(), (3,)],
    "i...,i->...": [(3, 2, 2), (3,)], "iij,j->i": [(3, 3, 2), (2,)], "a,b,a->b": [(2,), (3,), (2,)],
    "ij,jk": [(2, 0), (0, 3)], "ij,ij->": [(0, 2), (0, 2)], "ij,j->i": [(2, 3), (1,)],
}  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS.items())
def test_einsum_is_numpys(equation: str, shapes: list[tuple[int, ...]], rng: Any) -> None:
    arrays = [rng.normal(size=s) for s in shapes]
    wanted = np.einsum(equation, *arrays)
    np.testing.assert_allclose(mg.einsum(equation, *arrays), wanted, 1e-12, 1e-12)
    if all(a.size for a in arrays):
        mg.gradcheck(lambda *t: mg.einsum(equation, *t), *arrays)
        np.testing.assert_allclose(np.einsum(equation, *map(leaf, arrays)).numpy(), wanted, 1e-12)


def test_a_mask_in_einsum_is_a_constant(rng: Any) -> None:
    x, mask = rng.normal(size=(2, 3, 4)).astype(np.float32), np.array([[True, True, False]] * 2)
    y = mg.einsum("bth,bt->bh", leaf(x), mask)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), x[:, :2].sum(1), 1e-6)


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk", [(2, 3), (4, 3)], r"'j' is an axis of 3 and of 4"),
        ("ij,jk->iq", [(2, 3), (3, 3)], r"'iq' names an axis twice, or one that no"),
        ("ij->ii", [(2, 2)], r"'ii' names an axis twice"),
        ("ij", [(2, 3), (3,)], r"has 1 operands, and 2 came"),
        ("ijk", [(2, 3)], r"'ijk' does not name the axes of \[2, 3\]"),
        ("i.j", [(2, 3)], r"does not name the axes"),
    ],
)
def test_einsum_says_what_does_not_fit(equation: str, shapes: Any, message: str) -> None:
    with pytest.raises(mg.ShapeError, match=message):
        mg.einsum(equation, *map(np.ones, shapes))


def test_places_and_masks_are_integers_and_booleans() -> None:
    t = leaf()
    assert (t.argmax().item(), t.argmin().item()) == (4, 5)
    assert t.argmax(axis=1).tolist() == [2, 1]
    assert mg.argmin(t, axis=0, keepdims=True).tolist() == [[1, 0, 1]]
    with pytest.raises(mg.ShapeError, match="there is no argmin over an empty axis"):
        mg.argmin(np.ones((2, 0)), axis=1)
    assert t[0][t.argmax(axis=1)].tolist() == [2.5, -0.4]
    assert ((t > 5).any().item(), (t > -2).all().item(), t.all().item()) == (False, True, False)
    assert (t > 2).any(axis=1).tolist() == [True, True]
    assert mg.tensor(np.ones((0, 2))).all(axis=0).tolist() == [True, True]
    assert mg.tensor(np.ones((0, 2))).prod(axis=0).tolist() == [1.0, 1.0]
    assert mg.tensor([2, 3, 7]).prod().item() == 42


def test_zeros_do_not_spoil_the_gradients_of_products_and_norms() -> None:
    t = leaf([0.0, 2.0, 3.0])
    assert mg.grad(t.prod(), t).tolist() == [6.0, 0.0, 0.0]
    assert mg.hessian(mg.prod, [0.0, 2.0, 0.0]).tolist() == [[0, 0, 2], [0, 0, 0], [2, 0, 0]]
    zero = leaf(np.zeros(3))
    assert mg.grad(zero.norm(), zero).tolist() == [0.0] * 3
    for size in (1e30, 1e-30):
        big = leaf(np.full(2, size), np.float32)
        assert big.norm().item() == pytest.approx(size * 2**0.5, rel=1e-6)
        assert mg.grad(big.norm(), big).tolist() == pytest.approx([0.5**0.5] * 2)
    assert leaf([np.inf, 1.0]).norm().item() == np.inf
    assert np.isnan(leaf([np.nan, 1.0]).norm().item())


def test_rounding_and_remainders_are_numpys_at_their_edges() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e20, 0.49999999999999994, 2.0**52 - 0.5])
    np.testing.assert_array_equal(mg.round(x), np.round(x))
    a, b = np.meshgrid([1.0, -1.0, 7.5, 0.0, 1e10, 0.3, np.inf, np.nan],
                       [0.1, -0.1, 3.0, -np.inf, np.inf, 0.0])  # fmt: skip
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(mg.remainder(a, b), np.remainder(a, b))
        np.testing.assert_array_equal(mg.floor_divide(a, b), np.floor_divide(a, b))
    powers = np.arange(-1000.0, 1000.0)
    np.testing.assert_array_equal(mg.log2(2.0**powers), powers)
    assert round(leaf()).tolist() == np.round(X).tolist()
    assert round(leaf(2.567), 1) == 2.6
    assert mg.round(mg.tensor([1, 2])).dtype == np.int64
    with pytest.raises(mg.ShapeError, match=r"tile: reps 2\.5"):
        mg.tile(leaf(), 2.5)


def test_a_name_of_another_library_says_what_is_ours() -> None:
    t = leaf()
    with pytest.raises(AttributeError, match=r"'view' is another library's.* t\.reshape\(shape\)"):
        t.view(3, 2)
    with pytest.raises(AttributeError, match=r"'cat' is another.* mg\.concatenate"):
        mg.cat  # noqa: B018
    for near in (lambda: mg.rond, lambda: t.rond()):
        with pytest.raises(AttributeError, match="did you mean 'round'") as caught:
            near()
        assert (caught.value.name, caught.value.obj) == ("rond", None)  # Python says it no more
    for call in (lambda: t.sum(dim=1), lambda: mg.mean(t, dim=1), lambda: t.argmax(dim=1)):
        with pytest.raises(TypeError, match="takes no 'dim': write axis="):
            call()
    with pytest.raises(TypeError, match=r"axis=\.\.\..*t\.tile\(\(2, 1\)\)"):
        t.repeat(2, 1)
    assert (t.size, t.size * 2) == (X.size, 2 * X.size)
    for size, shape in ((lambda: t.size(0), r"t\.shape\[0\]"), (lambda: t.size(), r"t\.shape\.")):
        with pytest.raises(TypeError, match=f"a number.*write {shape}"):
            size()


def test_a_module_and_the_other_packages_say_it_too() -> None:
    for net in (mg.nn.Sequential(mg.nn.Linear(2, 2)), mg.nn.LSTM(2, 2)):
        with pytest.raises(AttributeError, match=r"'double' is another.*module\.to\(np\.float64\)"):
            net.double()
        with pytest.raises(AttributeError, match="no attribute 'paramters'"):
            net.paramters  # noqa: B018
        with pytest.raises(mg.DTypeError, match="no devices here"):
            net.to("cuda:0")
    assert getattr(mg.nn.GRU(2, 2), "draw", None) is None

    class Net(mg.nn.Module):
        @property
        def width(self) -> Any:
            return self.heads  # what is missing is heads, and not width

    with pytest.raises(AttributeError, match="'Net' object has no attribute 'heads'"):
        Net().width  # noqa: B018
    for package, name in (
        (mg.data, "DataLoader"),
        (mg.train, "EarlyStopping"),
        (mg.nn.init, "ones_"),
    ):
        with pytest.raises(AttributeError, match=f"'{name}' is another library's name; write mg"):
            getattr(package, name)
    with pytest.raises(ValueError, match=r"in \(-bound, bound\): bound must be >= 0.*got -0\.1"):
        mg.nn.init.uniform_(mg.nn.Parameter([1.0]), -0.1, 0.1)


def test_what_they_are_told_to_write_exists() -> None:
    assert not [n for n in othernames.TENSOR if hasattr(mg.Tensor, n)]
    assert not [n for n in othernames.PACKAGE if n in mg.__all__]
    assert not [n for n in othernames.OPTIM if n in mg.optim.__all__]
    assert not [n for n in othernames.NN if n in mg.nn.__all__]
    assert not [n for n in othernames.MODULE if hasattr(mg.nn.LSTM(1, 1), n)]
    assert not [n for n in othernames.INIT if n in vars(mg.nn.init)]
    assert not [n for n in othernames.DATA if n in mg.data.__all__]
    assert not [n for n in othernames.TRAIN if n in mg.train.__all__]
    tables = (
        othernames.TENSOR, othernames.PACKAGE, othernames.OPTIM, othernames.NN, othernames.MODULE,
        othernames.INIT, othernames.DATA, othernames.TRAIN,
    )  # fmt: skip
    for told in (text for table in tables for text in table.values()):
        for owner, path in re.findall(r"\b(mg|np|t)\.([\w.]*\w)", told):
            found: Any = {"mg": mg, "np": np, "t": leaf()}[owner]
            for name in path.split("."):
                found = getattr(found, name)


def test_in_a_compiled_step_they_are_what_they_are_without(rng: Any) -> None:
    w, ones = leaf(rng.normal(size=(3, 3))), np.array([1, 2, 3])
    h0, xs = mg.tensor(np.zeros((2, 3))), leaf(rng.normal(size=(4, 2, 3)))
    mask, ids = rng.random((4, 2, 1)) < 0.6, rng.integers(0, 5, (4, 2, 1))

    def cell(h: Any, x: Any) -> Any:
        x, m, i = x
        y = mg.einsum("bh,ho->bo", h, w) + x.norm(axis=1, keepdims=True) + mg.log2(x * x + 1.0)
        y = y + i * 0.25 * x + (i + 1) * x + x / (i + 1) + ones * x + mg.where(m, i, x)
        y = y + x // 0.3 + x % 0.7 + x.round(1) + mg.floor(x) + mg.prod(x, axis=1, keepdims=True)
        h = mg.tanh(0.1 * y) * (x > 0) + x * m
        return h, h

    y = mg.scan(cell, h0, (xs, mask, ids)).ys
    h, hs = h0, []
    for t in range(4):
        h, _ = cell(h, (xs[t], mg.tensor(mask[t]), mg.tensor(ids[t])))
        hs.append(h)
    looped = mg.stack(hs)
    np.testing.assert_allclose(y.numpy(), looped.numpy(), 1e-12)
    pairs = zip(mg.grad((y * y).sum(), [w, xs]), mg.grad((looped * looped).sum(), [w, xs]))
    for got, wanted in pairs:
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), 1e-10, 1e-12)


def test_in_a_jitted_step_integers_and_masks_are_those_of_each_call(rng: Any) -> None:
    v = leaf(rng.normal(size=(2, 3)), np.float32)

    def step(x: Any, m: Any, i: Any) -> Any:
        y = (v * m + i * v) * (v > 0) / (mg.tensor(m).sum() + 1) + v ** mg.tensor(i)
        y = y + (v % 0.3).prod() + mg.norm(v * x)
        return mg.grad((y * mg.argmax(v * m, axis=1, keepdims=True)).sum(), v), y

    jitted = mg.jit(step)
    for _ in range(4):
        x, m = rng.normal(size=(2, 3)).astype(np.float32), rng.random((2, 3)) < 0.5
        i = rng.integers(0, 4, (2, 3))
        for got, wanted in zip(jitted(x, m, i), step(x, m, i)):
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got.numpy(), wanted.numpy())
