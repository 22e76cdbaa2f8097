"""Tensor: an array that remembers how it was computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import ops, versions
from .dtypes import supported
from .errors import DTypeError, GradientError, ShapeError, describe, suggest
from .kinds import weak
from .op import REGISTRY, Op
from .plan import FLOATS
from .tape import Node, check_finite, state, tick

Array = np.ndarray

_NO_PARAMS: dict[str, Any] = {}
# the operators below are called often enough for a module attribute to show
_add, _subtract, _multiply, _divide = ops.add, ops.subtract, ops.multiply, ops.divide
_negative, _abs, _matmul, _getitem = ops.negative, ops.abs, ops.matmul, ops.getitem


class Tensor:
    """A NumPy array on the tape. `tensor(data)` makes one, operations on Tensors the others.

    Attributes: `data` (the array), `grad` (a Tensor of the same shape, after backward, on leaves),
    `requires_grad`, `name` (shown by print(tape) and drawings).
    """

    __slots__ = ("__dict__", "__weakref__", "_data", "_node", "requires_grad")
    _data: Array
    _node: Node | None
    requires_grad: bool
    # leaves have these; the many tensors computed from them mostly do not, so they are no slots
    _grad: Tensor | None = None
    name: str = ""
    _trace: Any = None  # of a Tracer, in compile: a Tensor of a step that is being traced
    _hooks: list[Callable[..., Any]] | None = None

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False, name: str = ""):
        if isinstance(data, Tensor):
            data = data._data
        array = np.array(data, dtype=dtype)  # always a copy: the tape must own what it keeps
        if array.dtype not in FLOATS:
            array = array.astype(supported("tensor", array.dtype), copy=False)
        if requires_grad and array.dtype.kind != "f":
            raise DTypeError(
                f"tensor: requires_grad=True needs float32 or float64, got {describe(array)}; "
                f"pass dtype=np.float32."
            )
        self._data = array
        self._node = None
        if name:
            self.name = name
        self.requires_grad = requires_grad

    # -- data --------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array. Writing into it (`t.data -= step`, `t.data[0] = 1`) is seen by the tape."""
        return self._data.view(versions.EditedArray)

    @data.setter
    def data(self, value: Any) -> None:
        array = value._data if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != self.shape:
            raise ShapeError(
                f"data: this tensor is {describe(self)}, got {describe(array)}; assign the "
                "same shape, or "
                f"make a new tensor."
            )
        if isinstance(array, versions.EditedArray):
            array = array.view(np.ndarray)
            if np.may_share_memory(array, self._data):
                return  # the end of `t.data -= x`: already written, and already noted
        self._data = np.array(array, dtype=self._data.dtype)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward left, of this tensor's shape and dtype; None if none did.

        An array that is assigned is copied. Raises ShapeError and DTypeError for what is no
        gradient of this tensor.
        """
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is None:
            self._grad = None
            return
        g = as_tensor(value)
        if g.shape != self.shape:
            raise ShapeError(
                f"grad: {describe(g)} is no gradient of {describe(self)}; expected the same shape."
            )
        if g.dtype != self.dtype or g.dtype.kind != "f":
            raise DTypeError(
                f"grad: {describe(g)} is no gradient of {describe(self)}; expected the same dtype, "
                f"float32 or float64. Convert it first: .astype(np.{self.dtype})."
            )
        self._grad = g if g._data.flags.writeable else g * 1.0  # clipping writes into it

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def is_leaf(self) -> bool:
        """True for a tensor made by hand rather than computed from others that need a gradient."""
        return self._node is None or not self.requires_grad

    @property
    def T(self) -> Tensor:
        """All axes reversed, as in NumPy."""
        return ops.transpose(self)

    def numpy(self) -> Array:
        """The array, read-only: copy it, or edit through `t.data` so that the tape sees it."""
        array = self._data.view()
        array.flags.writeable = False
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy or (dtype is not None and np.dtype(dtype) != self.dtype):
            return np.array(self._data, dtype=dtype)
        return self.numpy()

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item: expected one element, this tensor is {describe(self)}.")
        return self._data.item()

    def tolist(self) -> Any:
        return self._data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"bool: {describe(self)} has no single truth value; use .data.any() or .data.all()."
            )
        return bool(self._data.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="tensor(")
        extra = "" if self._data.dtype == np.float64 else f", dtype={self._data.dtype}"
        if self._node is not None and self.requires_grad:
            extra += f", op={self._node.op.name}"
        elif self.requires_grad:
            extra += ", requires_grad=True"
        return f"tensor({text}{extra})"

    # -- the graph ---------------------------------------------------------------------------------

    def backward(
        self,
        grad: Any = None,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Adds d(self)/d(leaf) to `leaf.grad` for every leaf that requires a gradient.

        grad: the cotangent, of this tensor's shape; may be left out if it has one element.
        retain_graph: keep what was recorded, so that backward can run again.
        create_graph: record the backward pass too, so that it can be differentiated.
        """
        from .backward import run

        run(self, grad, retain_graph=retain_graph or create_graph, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same array, cut off from the graph. Shares memory; edits to it are seen."""
        return wrap(self._data, None, False)

    def copy(self) -> Tensor:
        """A leaf of its own with the same values."""
        return Tensor(self._data)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switches the gradient of a leaf on or off, and returns it."""
        if requires_grad and self.dtype.kind != "f":
            raise DTypeError(f"requires_grad_: needs float32 or float64, got {describe(self)}.")
        if self._node is not None and self.requires_grad:
            raise GradientError(
                "requires_grad_: only for leaves; use detach() on a computed tensor."
            )
        self.requires_grad, self._node = requires_grad, None
        return self

    def register_hook(self, hook: Callable[[Tensor], Any]) -> HookHandle:
        """Calls hook(grad) once this tensor's gradient is complete; what it returns replaces it."""
        if not self.requires_grad:
            raise GradientError(
                "register_hook: this tensor needs no gradient, none will ever arrive."
            )
        owner: Any = self if self._node is None else self._node
        attribute = "_hooks" if owner is self else "hooks"
        if getattr(owner, attribute) is None:
            setattr(owner, attribute, [])
        hooks = getattr(owner, attribute)
        hooks.append(hook)
        return HookHandle(hooks, hook)

    def retain_grad(self) -> Tensor:
        """Keeps the gradient of a computed tensor in `.grad`, as leaves do by themselves.

        It is what flows on, after the hooks, in memory of its own. Raises GradientError if no
        gradient will ever arrive.
        """
        if not self.requires_grad:
            raise GradientError(
                "retain_grad: this tensor needs no gradient, none will ever arrive."
            )
        node = self._node
        if node is not None and all(kept() is not self for kept in node.retained):
            node.retained = (*node.retained, weakref.ref(self))
        return self

    def zero_grad(self) -> None:
        self.grad = None

    # -- operations --------------------------------------------------------------------------------

    @staticmethod
    def __apply__(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Tensor:
        return apply(op, args, params)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        op = REGISTRY.get(
            {"true_divide": "divide", "absolute": "abs"}.get(ufunc.__name__, ufunc.__name__)
        )
        if op is None or method != "__call__" or kwargs:
            raise TypeError(
                f"np.{ufunc.__name__} has no gradient rule here; use a function of minigrad, or "
                f"np.{ufunc.__name__}(t.numpy()) for plain values."
            )
        return op(*inputs)

    def __getitem__(self, index: Any) -> Tensor:
        return apply(_getitem, (self,), {"index": index})

    def __setitem__(self, index: Any, value: Any) -> None:
        if state.recording and self.requires_grad:
            kind = "a leaf that requires a gradient" if self._node is None else "a computed tensor"
            raise GradientError(
                f"t[...] = value: this is {kind}; an edit in place would be lost to the tape. "
                f"Edit inside `with mg.no_grad():`, or build a new tensor with mg.where."
            )
        self._data[ops.plain_index(index)] = value._data if isinstance(value, Tensor) else value
        versions.edited(self._data)

    def reshape(self, *shape: Any) -> Tensor:
        """The same values in another shape: t.reshape(2, -1) or t.reshape((2, -1))."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Axes in another order: t.transpose(1, 0, 2), t.transpose((1, 0, 2)), or reversed."""
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def __matmul__(self, other: Any) -> Tensor:
        return apply(_matmul, (self, other), _NO_PARAMS)

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply(_matmul, (other, self), _NO_PARAMS)

    def __add__(self, other: Any) -> Tensor:
        return apply(_add, (self, other), _NO_PARAMS)

    def __radd__(self, other: Any) -> Tensor:
        return apply(_add, (other, self), _NO_PARAMS)

    def __sub__(self, other: Any) -> Tensor:
        return apply(_subtract, (self, other), _NO_PARAMS)

    def __rsub__(self, other: Any) -> Tensor:
        return apply(_subtract, (other, self), _NO_PARAMS)

    def __mul__(self, other: Any) -> Tensor:
        return apply(_multiply, (self, other), _NO_PARAMS)

    def __rmul__(self, other: Any) -> Tensor:
        return apply(_multiply, (other, self), _NO_PARAMS)

    def __truediv__(self, other: Any) -> Tensor:
        return apply(_divide, (self, other), _NO_PARAMS)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply(_divide, (other, self), _NO_PARAMS)

    def __pow__(self, other: Any) -> Tensor:
        return ops.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    def __neg__(self) -> Tensor:
        return apply(_negative, (self,), _NO_PARAMS)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return apply(_abs, (self,), _NO_PARAMS)

    def __lt__(self, other: Any) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Any) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return ops.greater_equal(self, other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other)

    def __and__(self, other: Any) -> Tensor:
        return ops.logical_and(self, other)

    def __or__(self, other: Any) -> Tensor:
        return ops.logical_or(self, other)

    def __invert__(self) -> Tensor:
        return ops.logical_not(self)

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        """Only for names that are nowhere: the methods of ops (t.tanh()) are set on the class."""
        if name.startswith("_"):  # a protocol asking around
            raise AttributeError(name)
        hint = suggest(name, [n for n in dir(Tensor) if n[0] != "_"])
        raise AttributeError(
            f"Tensor: no op or attribute {name!r}; {hint}minigrad.op says how an op is declared."
        )


class HookHandle:
    """What register_hook returns; `remove()` takes the hook off again."""

    def __init__(self, hooks: list[Callable[..., Any]], hook: Callable[..., Any]):
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


_new = Tensor.__new__
_new_node = Node.__new__


def wrap(array: Array, node: Node | None, requires_grad: bool) -> Tensor:
    """A Tensor around an array that is already ours: no copy, no check."""
    t = _new(Tensor)
    t._data = array
    t._node = node
    t.requires_grad = requires_grad
    return t


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str = "") -> Tensor:
    """A Tensor with a copy of `data`; the dtype follows NumPy's rules unless given.

    Raises DTypeError for dtypes other than float32, float64, integers and booleans.

    >>> tensor([1.0, 2.0], requires_grad=True)
    tensor([1., 2.], requires_grad=True)
    """
    return Tensor(data, dtype, requires_grad, name)


def as_tensor(value: Any) -> Tensor:
    """`value` itself if it is a Tensor, else a constant made from it."""
    return value if isinstance(value, Tensor) else Tensor(value)


# -- running an op ---------------------------------------------------------------------------------


def apply(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Tensor:
    """Runs `op` eagerly and, if anything needs a gradient or a Tape is active, records it.

    The first half is the common case, arithmetic on Tensors of one dtype and Python
    numbers, in as few steps as Python allows: at the sizes of recurrent nets this function is most
    of the cost.
    """
    arrays: list[Any] = []
    inputs: list[Any] = []  # what the Node will hold for each argument
    mask, bit, numbers = 0, 1, False
    dtype: Any = None
    y: Any = None
    if op.plain:
        for a in args:
            if isinstance(a, Tensor):
                x = a._data
                if dtype is None:
                    dtype = x.dtype
                elif x.dtype is not dtype:
                    break
                arrays.append(x)
                if a.requires_grad:
                    mask |= bit
                    inputs.append(a._node or a)
                else:
                    inputs.append(None)
            elif type(a) is float or type(a) is int:
                numbers = True
                arrays.append(a)
                inputs.append(a)
            else:
                break
            bit += bit
        else:
            try:
                if numbers:
                    arrays = [x if type(x) is np.ndarray else weak(x, dtype) for x in arrays]
                y = op.loops[dtype](*arrays)
            except KeyError:  # no kernel for this dtype; _prepare says so
                pass
            except ValueError:
                op.check_shapes(arrays)
                raise
    if y is None:
        for a in args:
            if isinstance(a, Tensor) and a._trace is not None:  # a step that is being compiled
                return a.__apply__(op, args, params)
        if getattr(params.get("index"), "_trace", None) is not None:
            return params["index"].tracer.__apply__(op, args, params)
        arrays, args, params = _prepare(op, args, params)
        y = op.forward(arrays, params)
        inputs, mask = _inputs(args)
    elif type(y) is not np.ndarray:
        y = np.asarray(y)
    mode = state.mode
    if mode == 2:
        return _apply_watched(op, args, params, arrays, y, inputs, mask)
    if mode and mask and y.dtype.kind == "f":  # masks and integers carry no gradient
        return _recorded(op, params, arrays, y, inputs, mask)
    return wrap(y, None, False)


def _inputs(args: Sequence[Any]) -> tuple[list[Any], int]:
    """What a Node holds for each argument, and which need a gradient, as a mask of bits."""
    inputs: list[Any] = []
    mask = 0
    for i, a in enumerate(args):
        if isinstance(a, Tensor) and a.requires_grad:
            mask |= 1 << i
            inputs.append(a._node or a)
        else:
            inputs.append(a if isinstance(a, (int, float)) else None)
    return inputs, mask


def _recorded(
    op: Op,
    params: dict[str, Any],
    arrays: Sequence[Array],
    y: Array,
    inputs: list[Any],
    mask: int,
) -> Tensor:
    """The Tensor around `y`, with the Node that says how it came to be."""
    node = _new_node(Node)
    node.op = op
    node.inputs = inputs
    node.params = params
    node.shape = shape = y.shape
    node.dtype = y.dtype
    node.position = tick()
    node.scope = state.scope
    node.in_shapes = None
    for x in arrays:
        if x.shape != shape:
            node.in_shapes = tuple([x.shape for x in arrays])
            break
    node.plan = plan = op.plans[mask]
    node.saved = tuple([y if i < 0 else arrays[i] for i in plan.saves]) if plan.saves else ()
    t = _new(Tensor)
    t._data = y
    t._node = node
    t.requires_grad = mask != 0
    return t


def _apply_watched(
    op: Op,
    args: Sequence[Any],
    params: dict[str, Any],
    arrays: Sequence[Array],
    y: Array,
    inputs: list[Any],
    mask: int,
) -> Tensor:
    """Under a Tape (everything is recorded, constants too) or detect_anomaly."""
    s = state
    if s.anomaly:
        scope = f", scope {s.scope}" if s.scope else ""
        names = op.inputs if len(op.inputs) == len(arrays) else range(len(arrays))
        read = [(f"the input {name!r}", a) for name, a in zip(names, arrays, strict=True)]
        check_finite(y, f"{op.name}{scope}", "the forward pass", read)
    if not s.recording or y.dtype.kind != "f":
        mask = 0
    if s.tape is None:
        return _recorded(op, params, arrays, y, inputs, mask) if mask else wrap(y, None, False)
    constants = [wrap(a, None, False) if isinstance(a, np.ndarray) else a for a in args]
    inputs = [a._node or a if isinstance(a, Tensor) else a for a in constants]
    t = _recorded(op, params, arrays, y, inputs, mask)
    if t._node is not None:
        s.tape.record(t._node, y)
    return t


def _prepare(
    op: Op, args: Sequence[Any], params: dict[str, Any]
) -> tuple[list[Array], Sequence[Any], dict[str, Any]]:
    """Arrays, NumPy scalars, masks and mixed precisions, and every kind of op but elementwise.

    A Tensor that must change dtype is cast on the tape, so that its gradient comes back in its own
    dtype.
    """
    given = [a._data if isinstance(a, Tensor) else a for a in args]
    arrays, dtype = op.arrays(given)
    if dtype is not None:
        args = [
            ops.astype(a, dtype)
            if isinstance(a, Tensor) and a.requires_grad and a.dtype != dtype
            else a
            for a in args
        ]
    return arrays, args, op.prepared(arrays, params)


def _install(name: str, function: Callable[..., Any]) -> None:
    def method(self: Tensor, *args: Any, **params: Any) -> Any:
        return function(self, *args, **params)

    method.__name__, method.__doc__ = name, function.__doc__
    setattr(Tensor, name, method)


for _op in REGISTRY.values():
    if _op.method and not _op.variadic and _op.name not in vars(Tensor):
        _install(_op.name, _op)
for _name, _function in ops.METHODS.items():
    _install(_name, _function)
