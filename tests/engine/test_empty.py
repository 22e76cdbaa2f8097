"""Arrays without elements and without axes, as NumPy has them, forward and backward."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.kinds import Elementwise
from minigrad.op import REGISTRY

SHAPES = [(), (0,), (1,), (0, 3), (3, 0), (2, 0, 3), (1, 0), (1, 1), (2, 1, 3), (0, 0)]
AXES = [None, 0, 1, -1, -2, 2, (0,), (0, 1), (0, -1), (1, 0), (), (0, 0)]


def softmax(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis, keepdims=True)


def logsumexp(x, axis=-1, keepdims=False):
    return np.log(np.exp(x).sum(axis, keepdims=keepdims))


REDUCES = {"sum": np.sum, "max": np.max, "min": np.min, "mean": np.mean, "var": np.var}
REDUCES |= {"std": np.std, "logsumexp": logsumexp}
OTHERS = {"softmax": softmax, "log_softmax": lambda x, axis: np.log(softmax(x, axis))}
OTHERS |= {"flip": np.flip, "squeeze": np.squeeze}
LENIENT = {"mean", "var", "std"}  # NumPy refuses axis 0 of a number for these, and for sum not


def agree(name, expected, got, *arrays):
    """got(*tensors) has NumPy's values or, where NumPy refuses, an error of ours."""
    tensors = [mg.tensor(a, requires_grad=True) for a in arrays]
    with np.errstate(all="ignore"):
        try:
            wanted = expected(*arrays)
        except (ValueError, TypeError, IndexError):
            if name in LENIENT and arrays[0].shape == ():
                return
            with pytest.raises(mg.MinigradError):
                got(*tensors)
            return
    found = got(*tensors)
    several = isinstance(wanted, list)
    for a, b in zip(wanted if several else [wanted], found if several else [found], strict=True):
        assert b.shape == np.shape(a)
        np.testing.assert_allclose(b.numpy(), a, rtol=1e-12, atol=1e-15)
        for create_graph in (False, True):
            for t in tensors:
                t.grad = None
            b.backward(np.ones(b.shape), retain_graph=True, create_graph=create_graph)
            for t in tensors:
                assert t.grad is None or t.grad.shape == t.shape


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", REDUCES)
def test_reductions_of_nothing_are_numpys(name, rng):
    for shape, axis, keepdims in itertools.product(SHAPES, AXES, (False, True)):
        agree(
            name,
            lambda x, a=axis, k=keepdims: REDUCES[name](x, axis=a, keepdims=k),
            lambda t, a=axis, k=keepdims: getattr(mg, name)(t, axis=a, keepdims=k),
            rng.uniform(0.2, 0.8, shape),
        )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_what_goes_along_an_axis_takes_an_empty_one(name, rng):
    for shape, axis in itertools.product(SHAPES, AXES):
        agree(
            name,
            lambda x, a=axis: OTHERS[name](x, axis=a),
            lambda t, a=axis: getattr(mg, name)(t, axis=a),
            rng.uniform(0.2, 0.8, shape),
        )


@pytest.mark.parametrize("op", [o for o in REGISTRY.values() if isinstance(o, Elementwise)],
                         ids=lambda op: op.name)  # fmt: skip
def test_elementwise_ops_broadcast_what_is_empty(op, rng):
    for first, second in itertools.product(SHAPES, SHAPES):
        shapes = [first, second, first][: len(op.inputs)]
        arrays = [
            rng.random(s) < 0.5 if name in op.bools else rng.uniform(0.2, 0.8, s)
            for name, s in zip(op.inputs, shapes, strict=True)
        ]
        tensors = [mg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            with pytest.raises(mg.ShapeError, match="do not broadcast"):
                op(*tensors)
            continue
        y = op(*tensors)
        assert y.shape == shape
        if y.requires_grad:
            for create_graph in (False, True):
                y.backward(np.ones(shape), retain_graph=True, create_graph=create_graph)
        for t in tensors:
            assert t.grad is None or t.grad.shape == t.shape


@pytest.mark.parametrize("shape", SHAPES)
def test_views_of_nothing_are_numpys(shape, rng):
    x = rng.normal(size=shape)
    for sections, axis in itertools.product((1, 2, 3, [], [0], [1, 1], [-1], [5]), (0, -1)):
        agree(
            "split",
            lambda a, s=sections, i=axis: np.split(a, s, i),
            lambda a, s=sections, i=axis: mg.split(a, s, i),
            x,
        )
    for width in (0, 1, (0, 2), ((1, 0),) * len(shape)):
        agree("pad", lambda a, w=width: np.pad(a, w), lambda a, w=width: mg.pad(a, w), x)
    for new in (-1, (0,), (0, -1), (3, -1), (), (0, 5), (-1, -1), 1):
        agree("reshape", lambda a, n=new: a.reshape(n), lambda a, n=new: mg.reshape(a, n), x)
    for new in ((0,), (2, 0), (1,), (), (0, 0), (3,)):
        agree(
            "broadcast_to",
            lambda a, n=new: np.broadcast_to(a, n),
            lambda a, n=new: mg.broadcast_to(a, n),
            x,
        )
    for index in (slice(0, 0), slice(None, None, -1), Ellipsis, None, [], np.zeros(shape, bool)):
        agree("getitem", lambda a, i=index: a[i], lambda a, i=index: a[i], x)
    for index in (np.zeros(0, int), np.zeros((2, 0), int)):
        agree("take", lambda a, i=index: np.take(a, i, 0), lambda a, i=index: mg.take(a, i, 0), x)
    for other, axis in itertools.product(SHAPES, (0, 1, -1, 2)):
        y = rng.normal(size=other)
        for name in ("concatenate", "stack"):
            agree(
                name,
                lambda a, b, n=name, i=axis: getattr(np, n)([a, b], i),
                lambda a, b, n=name, i=axis: getattr(mg, n)([a, b], i),
                x,
                y,
            )


def test_an_axis_is_an_integer_and_named_once():
    x = mg.tensor(np.ones((2, 1)))
    for call in (mg.sum, mg.max, mg.flip, mg.softmax, mg.mean):
        with pytest.raises(mg.ShapeError, match="names an axis twice"):
            call(x, axis=(0, -2))
    with pytest.raises(mg.ShapeError, match="names an axis twice"):
        mg.squeeze(x, axis=(1, -1))
    for call in (mg.sum, mg.cumsum, mg.logsumexp):
        with pytest.raises(mg.ShapeError, match="expected an integer, got True"):
            call(x, axis=True)
    with pytest.raises(mg.ShapeError, match="there are no axes"):
        mg.sum(mg.tensor(1.0), axis=1)
