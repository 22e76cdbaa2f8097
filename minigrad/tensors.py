"""Tensor: an array that remembers how it was computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from . import border, ops, othernames, versions
from .dtypes import supported
from .errors import DTypeError, GradientError, ShapeError, describe
from .kinds import weak
from .memory import is_lent, kept, lend, lent, private_params, readable
from .op import REGISTRY, Op
from .plan import FLOATS
from .tape import Node, check_finite, state, tick

Array = np.ndarray

_NO_PARAMS: dict[str, Any] = {}


def _operator(op: Op, turned: bool = False) -> Callable[[Any, Any], Tensor]:
    """The method that calls op(self, other); turned: op(other, self)."""

    def operator(self: Tensor, other: Any) -> Tensor:
        return apply(op, (self, other), _NO_PARAMS)

    def reflected(self: Tensor, other: Any) -> Tensor:
        return apply(op, (other, self), _NO_PARAMS)

    return reflected if turned else operator


class _Size(int):
    """A number, as in NumPy. Scripts for PyTorch call it."""

    def __call__(self, *axis: int) -> int:
        shape = f"t.shape[{axis[0]}]" if axis else "t.shape"
        raise TypeError(f"t.size is a number, how many elements there are; write {shape}.")


class Tensor:
    """A NumPy array on the tape. `tensor(data)` makes one, operations on Tensors the others.

    Attributes: `data` (the array), `grad` (a Tensor of the same shape, after backward, on leaves),
    `requires_grad`, `name` (shown by print(tape) and drawings).
    """

    __slots__ = ("__dict__", "__weakref__", "_array", "_node", "requires_grad")
    _array: Array  # not `_data`: of whatever has that, np.ma takes it, past NumPy's protocols
    _node: Node | None
    requires_grad: bool
    # leaves have these; the many tensors computed from them mostly do not, so they are no slots
    _grad: Any = None  # a Tensor, or a Pending
    name: str = ""
    by_hand: bool = False  # made by `tensor(...)` or as a Parameter, not by an op
    _trace: Any = None  # of a Tracer, in compile: a Tensor of a step that is being traced
    _hooks: list[Callable[..., Any]] | None = None

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False, name: str = ""):
        if isinstance(data, (Tensor, list, tuple)):
            data = _constant(type(self).__name__, data)
        elif state.jit is not None and isinstance(data, float):
            data = state.jit.number_as_array(data, dtype)
        if type(data) is not np.ndarray and isinstance(data, np.ndarray):
            border.refuse_masked(data, "tensor")
        array = np.array(data, dtype=dtype)  # always a copy: the tape must own what it keeps
        if array.dtype not in FLOATS:
            array = array.astype(supported("tensor", array.dtype), copy=False)
        if state.jit is not None:
            array = state.jit.copied(data, array)
        if requires_grad and array.dtype.kind != "f":
            raise DTypeError(
                f"tensor: requires_grad=True needs float32 or float64, got {describe(array)}; "
                f"pass dtype=np.float32."
            )
        self._array = array
        self._node = None
        self.by_hand = True
        if name:
            self.name = name
        self.requires_grad = requires_grad

    # -- data --------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array, to write into by any means of NumPy: `t.data -= step`, `t.data[0] = 1`.

        What was recorded before keeps the values that it had then, so that gradients are those of
        what was computed; Tensors that shared the memory (`t.detach()`, `t.reshape(...)`) keep
        theirs, too. That takes a copy; to read, `t.numpy()` takes none. Nothing is recorded.
        """
        if state.jit is not None:
            state.jit.reads(self, "t.data")
        return lend(self)

    @data.setter
    def data(self, value: Any) -> None:
        if state.jit is not None:
            state.jit.refuse("t.data = value: write t[...] = value inside mg.no_grad()")
        array = value._array if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != self.shape:
            raise ShapeError(
                f"data: this tensor is {describe(self)}, got {describe(array)}; assign the same "
                f"shape, or make a new tensor."
            )
        if is_lent(self, array):
            return  # the end of `t.data -= x`: already written
        self._array = np.array(array, dtype=self._array.dtype)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward left, of this tensor's shape and dtype; None if none did.

        An array that is assigned is copied. Raises ShapeError and DTypeError for what is no
        gradient of this tensor.
        """
        if state.jit is not None:
            state.jit.reads_gradient(self)
        g = self._grad
        if type(g) is Pending:
            g = self._grad = g.taken()
        return g

    @grad.setter
    def grad(self, value: Any) -> None:
        if state.jit is not None:
            state.jit.sets_gradient(self)
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
        self._grad = g if g._array.flags.writeable else g * 1.0  # clipping writes into it

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return _Size(self._array.size)

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def is_leaf(self) -> bool:
        """True for a tensor made by hand rather than computed from others that need a gradient."""
        return self._node is None or not self.requires_grad

    @property
    def T(self) -> Tensor:
        """All axes reversed, as in NumPy."""
        return ops.transpose(self)

    def numpy(self) -> Array:
        """The array, read-only: copy it, or write through `t.data`."""
        if state.jit is not None:
            state.jit.reads(self, "t.numpy()")
        return readable(kept(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return border.array(self, dtype, copy)

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item: expected one element, this tensor is {describe(self)}.")
        if state.jit is not None:
            state.jit.reads(self, "t.item()")
        return self._array.item()

    def tolist(self) -> Any:
        if state.jit is not None:
            state.jit.reads(self, "t.tolist()")
        return self._array.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"bool: {describe(self)} has no single truth value; use .data.any() or .data.all()."
            )
        if state.jit is not None:
            state.jit.reads(self, "a branch on a Tensor")
        return bool(self._array.item())

    def __index__(self) -> int:
        if self.ndim or self.dtype.kind not in "iu":
            raise TypeError(
                f"an index is one integer, this is {describe(self)}; use t.item() or t.astype(int)."
            )
        return int(self.item())

    def __round__(self, digits: int | None = None) -> Any:
        """Of one element a Python number, which is a read; of several what mg.round gives."""
        return round(self.item(), digits) if self.size == 1 else ops.round(self, digits or 0)

    def __format__(self, spec: str) -> str:
        """f"{loss:.4f}" of one element; with no format, what print shows."""
        if not spec:
            return str(self)
        if self.size != 1:
            raise TypeError(
                f"format {spec!r}: expected one element, this tensor is {describe(self)}; reduce "
                "it first, or format the elements of t.tolist()."
            )
        return format(self.item(), spec)

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self.numpy() == border.values(value)))

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __str__(self) -> str:
        if state.jit is not None:
            state.jit.reads(self, "printing a Tensor")
        return repr(self)

    def __repr__(self) -> str:
        text = np.array2string(self._array, separator=", ", prefix="tensor(")
        extra = "" if self._array.dtype == np.float64 else f", dtype={self._array.dtype}"
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
        """The same values, cut off from the graph; no copy, unless `.data` is being held."""
        return wrap(kept(self), None, False)

    def copy(self) -> Tensor:
        """The same values in memory of their own. Recorded: the gradient comes back unchanged.

        `t.detach().copy()` is a leaf with the values alone; copy.copy(t) is t.copy().
        """
        if self.requires_grad and state.recording:
            return ops.astype(self, self.dtype)
        return Tensor(self.detach())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf with the same values, name and `.grad`, and no part of the graph.

        A leaf's copy requires a gradient if it does, a Parameter's is a Parameter; a computed
        Tensor's is a constant. Hooks are not copied. So it is with pickle.
        """
        return border.deep_copy(self, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return border.reduced(self)

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
        self._expect_gradient("register_hook")
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
        self._expect_gradient("retain_grad")
        node = self._node
        if node is not None and all(kept() is not self for kept in node.retained):
            node.retained = (*node.retained, weakref.ref(self))
        return self

    def _expect_gradient(self, who: str) -> None:
        if not self.requires_grad:
            raise GradientError(f"{who}: this tensor needs no gradient, none will ever arrive.")

    def zero_grad(self) -> None:
        self.grad = None

    # -- operations --------------------------------------------------------------------------------

    @staticmethod
    def __apply__(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Tensor:
        return apply(op, args, params)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        found = border.ufunc(ufunc, method, inputs, kwargs)
        one = method == "__call__" and ufunc.nout == 1 and not kwargs
        return tensor(found) if one and not isinstance(found, Tensor) else found

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return border.function(function, args, kwargs)

    def __getitem__(self, index: Any) -> Tensor:
        return apply(ops.getitem, (self,), {"index": index})

    def __setitem__(self, index: Any, value: Any) -> None:
        if state.recording and self.requires_grad:
            kind = "a leaf that requires a gradient" if self._node is None else "a computed tensor"
            raise GradientError(
                f"t[...] = value: this is {kind}; an edit in place would be lost to the tape. "
                f"Edit inside `with mg.no_grad():`, or build a new tensor with mg.where."
            )
        if state.recording and border.needs_gradient(value):
            raise GradientError(
                f"t[...] = value: the value requires a gradient and this tensor, "
                f"{describe(self)}, is a constant, where the gradient would be lost. Collect the "
                f"parts in a list and join them with mg.stack or mg.concatenate, or choose with "
                f"mg.where; value.detach() writes the values alone."
            )
        array = versions.writable(self)
        if state.jit is not None:
            state.jit.edits(self, index, value)
            return
        array[ops.plain_index(index)] = border.values(value)

    def reshape(self, *shape: Any) -> Tensor:
        """The same values in another shape: t.reshape(2, -1) or t.reshape((2, -1))."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Axes in another order: t.transpose(1, 0, 2), t.transpose((1, 0, 2)), or reversed."""
        return ops.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    __add__, __radd__ = _operator(ops.add), _operator(ops.add, turned=True)
    __sub__, __rsub__ = _operator(ops.subtract), _operator(ops.subtract, turned=True)
    __mul__, __rmul__ = _operator(ops.multiply), _operator(ops.multiply, turned=True)
    __truediv__, __rtruediv__ = _operator(ops.divide), _operator(ops.divide, turned=True)
    __matmul__, __rmatmul__ = _operator(ops.matmul), _operator(ops.matmul, turned=True)
    __lt__, __le__ = _operator(ops.less), _operator(ops.less_equal)
    __gt__, __ge__ = _operator(ops.greater), _operator(ops.greater_equal)
    __eq__ = _operator(ops.equal)  # type: ignore[assignment]
    __ne__ = _operator(ops.not_equal)  # type: ignore[assignment]
    __hash__ = object.__hash__

    def __pow__(self, other: Any) -> Tensor:
        return ops.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.power(other, self)

    def __neg__(self) -> Tensor:
        return apply(ops.negative, (self,), _NO_PARAMS)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return apply(ops.abs, (self,), _NO_PARAMS)

    def __invert__(self) -> Tensor:
        return self.__array_ufunc__(np.invert, "__call__", self)

    def __getattr__(self, name: str) -> Any:
        """Only for names that are nowhere: the methods of ops (t.tanh()) are set on the class."""
        if name.startswith("_"):  # a protocol asking around
            raise AttributeError(name)
        told = othernames.missing(
            "Tensor", name, [n for n in dir(Tensor) if n[0] != "_"], othernames.TENSOR
        )
        raise othernames.absence(f"{told} (minigrad.op says how an op is declared.)", name)


# -- operators by their ufunc, and in place --------------------------------------------------------


def _by_ufunc(name: str, turned: bool) -> Callable[..., Any]:
    ufunc = getattr(np, name)

    def operator(self: Tensor, other: Any) -> Any:
        inputs = (other, self) if turned else (self, other)
        return self.__array_ufunc__(ufunc, "__call__", *inputs)

    return operator


def _in_place(name: str, out_of_place: Callable[..., Any]) -> Callable[..., Any]:
    sign = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}.get(name, name)

    def operator(self: Tensor, other: Any) -> Tensor:
        """Inside no_grad a Tensor made by hand is edited; otherwise it is a new Tensor's name."""
        value = out_of_place(self, other)
        if not self.by_hand:
            return value
        if not state.recording:
            if value.shape != self.shape:
                raise ShapeError(
                    f"t {sign}= value: t is {describe(self)} and would become {describe(value)}; "
                    f"in place it keeps its shape. Write t = t {sign} value for a new tensor."
                )
            self[...] = value
            return self
        if self.requires_grad:
            raise GradientError(
                f"t {sign}= value: t, {describe(self)}, is a leaf that requires a gradient, and "
                f"an edit in place would be lost to the tape. Write `with mg.no_grad():` around "
                f"a step of training, or t = t {sign} value for a new tensor."
            )
        return value

    return operator


for _name, _ufunc in {
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "left_shift",
    "rshift": "right_shift", "floordiv": "floor_divide", "mod": "remainder", "divmod": "divmod",
}.items():  # fmt: skip
    setattr(Tensor, f"__{_name}__", _by_ufunc(_ufunc, False))
    setattr(Tensor, f"__r{_name}__", _by_ufunc(_ufunc, True))
for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "xor"):
    setattr(Tensor, f"__i{_name}__", _in_place(_name, getattr(Tensor, f"__{_name}__")))


class HookHandle:
    """What register_hook returns; `remove()` takes the hook off again."""

    def __init__(self, hooks: list[Callable[..., Any]], hook: Callable[..., Any]):
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


_shape_of = attrgetter("shape")
_new = Tensor.__new__
_new_node = Node.__new__


def wrap(array: Array, node: Node | None, requires_grad: bool) -> Tensor:
    """A Tensor around an array that is already ours: no copy, no check."""
    t = _new(Tensor)
    t._array = array
    t._node = node
    t.requires_grad = requires_grad
    return t


def in_place_of(t: Tensor, array: Array) -> Tensor:
    """A Tensor with t's place in the graph and the values of `array`, which is ours.

    For the values that t had once, or for memory that it does not share.
    """
    if t._node is not None or not t.requires_grad:
        return wrap(array, t._node, t.requires_grad)
    return _recorded(ops.reshape, {"shape": array.shape}, (array,), array, [t], 1)  # of a leaf


def viewed(op: Op, t: Tensor, params: dict[str, Any], array: Array) -> Tensor:
    """op(t, **params), a view whose values are known to be `array`."""
    if state.mode == 2 or t._trace is not None or lent:
        return apply(op, (t,), params)
    if state.mode and t.requires_grad:
        return _recorded(op, params, (t._array,), array, [t._node or t], 1)
    return wrap(array, None, False)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str = "") -> Tensor:
    """A Tensor with a copy of `data`; the dtype follows NumPy's rules unless given.

    Of a Tensor, or a list of Tensors, that require a gradient it is a copy that is recorded; asked
    for a leaf (requires_grad=True) it raises GradientError, as that would be cut off from them.
    Raises DTypeError for dtypes other than float32, float64, integers and booleans.

    >>> tensor([1.0, 2.0], requires_grad=True)
    tensor([1., 2.], requires_grad=True)
    """
    if isinstance(data, (Tensor, list)):
        data = border.joined(data, "tensor")
        tracked = isinstance(data, Tensor) and data.requires_grad and state.recording
        if tracked and not requires_grad:
            made = ops.astype(data, data.dtype if dtype is None else dtype)
            if name:
                made.name = name
            return made
    return Tensor(data, dtype, requires_grad, name)


def as_tensor(value: Any, who: str = "") -> Tensor:
    """`value` itself if it is a Tensor, a list of Tensors stacked, else a constant made from it.

    who: takes it, for the message. Raises ShapeError for a tuple of Tensors.
    """
    if isinstance(value, Tensor):
        return value
    if state.jit is not None and isinstance(value, np.ndarray):
        return state.jit.as_tensor(value)
    value = border.joined(value, who)
    return value if isinstance(value, Tensor) else Tensor(value)


class Pending:
    """A gradient in memory that the next call of a jitted step writes to: copied when it is read.

    Nobody looks at most gradients of a training loop, so most are never copied.
    """

    __slots__ = ("_array",)

    def __init__(self, data: Array):
        self._array = data  # what clipping and an optimiser work on, as with a Tensor

    def taken(self) -> Tensor:
        return wrap(self._array.copy(), None, False)


def _constant(who: str, data: Any) -> Any:
    """What is copied to make a leaf. Raises GradientError where the copy would cut a graph."""
    joined = border.joined(data, who.lower())
    if not isinstance(joined, Tensor):
        return joined
    if joined.requires_grad and state.recording:
        raise GradientError(
            f"{who.lower()}: the data is a Tensor that requires a gradient, {describe(joined)}, "
            f"and its copy would be cut off from it. Use it as it is, or t.copy(), which is "
            f"recorded; t.detach() gives the values alone."
        )
    return joined._array


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
    if op.plain and not (lent and _any_lent(args)):
        for a in args:
            if isinstance(a, Tensor):
                x = a._array
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
            if isinstance(a, Tensor):
                if a._trace is not None:  # a step that is being compiled
                    return a.__apply__(op, args, params)
            elif isinstance(a, (list, tuple)):
                args = [border.joined(a, op.name) for a in args]
                if not any(isinstance(a, (list, tuple)) for a in args):
                    return apply(op, args, params)
                break
        if getattr(params.get("index"), "_trace", None) is not None:
            return params["index"].tracer.__apply__(op, args, params)
        arrays, args, params = _prepare(op, args, params)
        y = op.forward(arrays, params)
        inputs, mask = _inputs(args)
        if mask + 1 != 1 << len(args) and mask and state.mode and y.dtype.kind == "f":
            arrays = _ours(args, arrays, op.plans[mask].saves)
    elif type(y) is not np.ndarray:
        y = np.asarray(y)
    mode = state.mode
    if mode == 2:
        return _apply_watched(op, args, params, arrays, y, inputs, mask)
    if mode and mask and y.dtype.kind == "f":  # masks and integers carry no gradient
        return _recorded(op, params, arrays, y, inputs, mask)
    return wrap(y, None, False)


def _any_lent(args: Sequence[Any]) -> bool:
    """Is somebody holding the `.data` of an argument? Then its array is not to be kept as it is."""
    return any(isinstance(a, Tensor) and id(a._array) in lent for a in args)


def _ours(args: Sequence[Any], arrays: Sequence[Array], saves: Sequence[int]) -> list[Array]:
    """The arrays, those copied that will be kept and that the caller may write into."""
    if state.jit is not None:
        return list(arrays)
    return [
        x.copy() if i in saves and not isinstance(a, (Tensor, int, float)) else x
        for i, (a, x) in enumerate(zip(args, arrays, strict=True))
    ]


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
            node.in_shapes = tuple(map(_shape_of, arrays))
            break
    node.plan = plan = op.plans[mask]
    node._saved = plan.keep(arrays, y)
    t = _new(Tensor)
    t._array = y
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
    if s.jit is not None:
        s.jit.op(op, args, params, arrays, y)
    if s.anomaly:
        scope = f", scope {s.scope}" if s.scope else ""
        names = op.inputs if len(op.inputs) == len(arrays) else range(len(arrays))
        read = [(f"the input {name!r}", a) for name, a in zip(names, arrays, strict=True)]
        check_finite(y, f"{op.name}{scope}", "the forward pass", read)
    if not s.recording or y.dtype.kind != "f":
        mask = 0
    if s.tape is None:
        t = _recorded(op, params, arrays, y, inputs, mask) if mask else wrap(y, None, False)
        if s.jit is not None:
            s.jit.made(t)
        return t
    constants = [wrap(a.copy(), None, False) if isinstance(a, np.ndarray) else a for a in args]
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
    if state.jit is not None:
        args = state.jit.as_arrays(op, args)
    if lent and state.jit is None:
        given = [kept(a) if isinstance(a, Tensor) else a for a in args]
    else:
        given = [a._array if isinstance(a, Tensor) else a for a in args]
    for a in given:
        if type(a) is not np.ndarray and isinstance(a, np.ndarray):
            border.refuse_masked(a, op.name)
    arrays, dtype = op.arrays(given)
    if state.jit is not None:
        arrays, args = _cast_again(arrays, args)
    elif dtype is not None:
        args = [
            ops.astype(a, dtype)
            if isinstance(a, Tensor) and a.requires_grad and a.dtype != dtype
            else a
            for a in args
        ]
    params = op.prepared(arrays, params)
    if state.jit is not None:  # it owns the memory of its arguments: nobody else writes there
        return arrays, args, state.jit.read_by_ops(params)
    return arrays, args, private_params(params)


def _cast_again(arrays: Sequence[Array], args: Sequence[Any]) -> tuple[list[Array], Sequence[Any]]:
    """What changed its dtype, by an op: a jitted step changes it in every replay."""
    cast = list(args)
    for i, (a, x) in enumerate(zip(args, arrays, strict=True)):
        if isinstance(a, (Tensor, np.ndarray)) and a.dtype != x.dtype:
            cast[i] = ops.astype(as_tensor(a), x.dtype)
    return [c._array if c is not a else x for a, c, x in zip(args, cast, arrays, strict=True)], cast


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
