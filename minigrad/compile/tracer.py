"""The Tracer: a Tensor of a step that is being traced, with a type and no values.

What a cell may ask of a Tensor it may ask of a Tracer, but for its values: then the answer is a
TraceError that says what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .. import ops
from ..border import plain
from ..errors import TraceError
from ..op import Op
from ..tape import state
from ..tensors import Tensor
from .program import Value

if TYPE_CHECKING:
    from .trace import Trace

Array = np.ndarray
Shape = tuple[int, ...]


class Abstract:
    """What stands in a Tracer for its array: it has a type and no values."""

    __slots__ = ("_trace", "ndim", "shape", "tracer")
    dtype = "abstract"  # equal to no dtype: the eager short way stops here

    def __init__(self, tracer: Tracer):
        self.tracer, self._trace = tracer, tracer._trace
        self.shape, self.ndim = tracer.shape, tracer.ndim

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.tracer._no_value("NumPy asked for its values", "use the functions of minigrad")


class Tracer(Tensor):
    """A Tensor of a step that is being traced: shape and dtype, no values."""

    __slots__ = ("_cut", "_trace", "_value")
    _trace: Trace

    def __init__(self, trace: Trace, value: Value, cut: bool = False):
        self._trace, self._value, self._cut = trace, value, cut
        self._node = None
        self.requires_grad = value.dtype.kind == "f" and not cut

    @property
    def _array(self) -> Any:  # type: ignore[override]
        return Abstract(self)

    @property
    def shape(self) -> Shape:
        return self._value.shape

    @property
    def ndim(self) -> int:
        return len(self._value.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self._value.shape, dtype=np.int64))

    @property
    def dtype(self) -> np.dtype:
        return self._value.dtype

    def detach(self) -> Tracer:
        return Tracer(self._trace, self._value, cut=True)

    def copy(self) -> Tracer:
        return self

    def __repr__(self) -> str:
        return f"Tracer({self._value.type()})"

    @property
    def tracer(self) -> Tracer:
        return self

    def all_steps(self) -> Array:
        """The values of a part of the input, (T, B, ...): they are there before the loop is."""
        if not self._value.from_x:
            self._no_value("a check asked for its values", "check before the scan")
        self._trace.reads = "it reads the values of its input"
        return plain(self._trace.whole(self._value))

    def of_all_steps(self, name: str, function: Callable[[Array], Array]) -> Tracer:
        """function of the values of a part of the input, (T, B, ...), as an input of its own."""
        if not self._value.from_x:
            self._no_value(f"{name} asked for its values", "pass the integers in xs")
        return self._trace.computed(name, function(self.all_steps()), self._value)

    @staticmethod
    def __apply__(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        return trace_of(args, params).apply(op, args, params)

    def __getitem__(self, index: Any) -> Any:
        return self._trace.apply(ops.getitem, (self,), {"index": index})

    def _no_value(self, what: str, instead: str) -> NoReturn:
        scope = f" (scope {state.scope})" if state.scope else ""
        raise TraceError(
            f"scan: {what}{scope}, but a step is traced on abstract values: {self!r} has a shape "
            f"and no values; {instead}, or run this cell with mode='tape'."
        )

    def __bool__(self) -> NoReturn:  # noqa: PLE0304
        self._no_value("a Python branch asked whether a value holds", "choose with mg.where")

    def item(self) -> Any:
        self._no_value("item() asked for its number", "compute with the Tensor itself")

    def numpy(self) -> Array:
        self._no_value("numpy() asked for its values", "use the functions of minigrad")

    def tolist(self) -> Any:
        self._no_value("tolist() asked for its values", "use the functions of minigrad")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        self._no_value("NumPy asked for its values", "use the functions of minigrad")

    def __iter__(self) -> Any:
        return (self[i] for i in range(self.shape[0]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._no_value("t[...] = value", "build a new tensor with mg.where or mg.concatenate")

    @property  # type: ignore[misc]
    def data(self) -> Any:
        self._no_value(".data asked for its values", "use the functions of minigrad")

    def backward(self, *args: Any, **kwargs: Any) -> None:
        self._no_value("backward()", "call backward on what scan returns")

    def register_hook(self, hook: Callable[..., Any]) -> Any:
        self._no_value("register_hook()", "mark the value with mg.tap and scan with record=")

    def requires_grad_(self, requires_grad: bool = True) -> Tracer:
        self._no_value("requires_grad_()", "say it of the Tensors that scan is given")


def _operator(op: Op, turned: bool) -> Callable[[Tracer, Any], Any]:
    if turned:
        return lambda self, other: self._trace.apply(op, (other, self), {})
    return lambda self, other: self._trace.apply(op, (self, other), {})


for _name, _op in {
    "add": ops.add, "sub": ops.subtract, "mul": ops.multiply, "truediv": ops.divide,
    "matmul": ops.matmul,
}.items():  # fmt: skip
    setattr(Tracer, f"__{_name}__", _operator(_op, False))
    setattr(Tracer, f"__r{_name}__", _operator(_op, True))


def trace_of(args: Iterable[Any], params: dict[str, Any]) -> Trace:
    """The trace that a call on these arguments belongs to."""
    found = {id(a._trace): a._trace for a in args if isinstance(a, Tracer)}
    for given in params.values():
        if isinstance(given, (Abstract, Tracer)):
            found[id(given._trace)] = given._trace
    if len(found) > 1:
        raise TraceError(
            "scan: a value of one scan's step is used in the step of another; pass it to the inner "
            "scan as part of its state or input."
        )
    return found.popitem()[1]
