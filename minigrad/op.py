"""What an op is: declared once, in one place, and everything else derives from that.

    @elementwise
    def tanh(x):
        "y = tanh(x).  Slope 1 - y**2 <= 1: one source of vanishing gradients."
        return scalar.tanh(x)

    @tanh.vjp("x")
    def _(g, y):
        return g * (1 - y * y)

A rule names what it needs, and only that is kept for it: `g` (the gradient of the output), `y` (the
output), an input by its name, an input's shape or dtype as `x_shape`, `x_dtype`, or a parameter
such as `axis`. The rule of a variadic op, whose input is a list, returns a list of gradients.
Rules are expressions of registered ops: on arrays they compute, on Tensors they are recorded (that
is the second derivative), on scalar expressions they become one fused kernel.

There are four kinds. `elementwise` ops have a scalar body; `matmul`, `reduce` and `view` ops have a
body that takes and returns whole arrays, and may have parameters after their array inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from . import expr
from .errors import DeclarationError, DTypeError, ShapeError, describe
from .kernels import elementwise as kernels

Array = np.ndarray
REGISTRY: dict[str, Op] = {}

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_REQUIRED = inspect.Parameter.empty


class Sample(NamedTuple):
    """One call for the op's tests: the shapes of its inputs, and its parameters."""

    shapes: tuple[tuple[int, ...], ...]
    params: dict[str, Any]


def sample(*shapes: tuple[int, ...], **params: Any) -> Sample:
    """A sample input of a declaration: sample((3, 4), axis=0)."""
    return Sample(shapes, params)


class Pullback(NamedTuple):
    """How the gradient of one input is computed: `fn` called with the values it names."""

    input: int  # which one
    fn: Callable[..., Any]
    names: tuple[str, ...]  # what the rule asks for besides g, in its order
    facts: tuple[tuple[str, Any], ...] = ()  # where each of them is: ("saved", place), ...


class Plan(NamedTuple):
    """What a node keeps, and computes in the backward pass, when the inputs in `mask` need it."""

    needs: tuple[int, ...]  # the inputs that get a gradient
    saves: tuple[int, ...]  # what is kept: positions in the inputs; -1 is the output
    names: tuple[str, ...]  # the same by name
    pullbacks: tuple[Pullback, ...]
    fused: tuple[tuple[int, Callable[..., Array] | None], ...]  # elementwise: (input, kernel call)


NO_GRADIENT = Plan((), (), (), (), ())


def _kernel_call(source: expr.Source, saved_names: Sequence[str]) -> Callable[..., Array]:
    """(g, saved) -> the rule `source` on arrays, with each argument picked from its place."""
    picks = ["g" if n == "g" else f"saved[{saved_names.index(n)}]" for n in source.inputs]
    text = f"lambda g, saved: loops[g.dtype]({', '.join(picks)})"
    return eval(text, {"loops": Loops(source)})


class Loops(dict):
    """dtype -> compiled ufunc, made on first use."""

    def __init__(self, source: expr.Source):
        super().__init__()
        self.source = source

    def __missing__(self, dtype: np.dtype) -> Callable[..., Any]:
        if dtype not in _FLOATS and "f" in self.source.signature:
            raise KeyError(dtype)
        kernel_dtype = dtype if dtype in _FLOATS else _FLOATS[0]  # purely boolean: any will do
        loop = self[dtype] = kernels.loop(self.source.text, self.source.signature, kernel_dtype)
        return loop


class Plans(dict):
    """mask of the inputs that need a gradient -> Plan, made on first use."""

    def __init__(self, op: Op):
        super().__init__({0: NO_GRADIENT})
        self.op = op

    def __missing__(self, mask: int) -> Plan:
        plan = self[mask] = self.op.make_plan(mask)
        return plan


class Op:
    """A registered operation. Call it like a function; it works on Tensors, arrays and numbers."""

    kind = ""
    plain = False  # elementwise on floats only: apply() may take its short way
    loops: Loops

    def __init__(self, body: Callable[..., Any], options: dict[str, Any]):
        self.body = body
        self.name: str = options.pop("name", None) or body.__name__
        self.symbol: str = options.pop("symbol", None) or self.name
        self.method: bool = options.pop("method", True)
        self.differentiable: bool = options.pop("differentiable", True)
        # For the tests that run over all ops: where elementwise inputs are drawn from, calls that
        # must work and have a right gradient, and calls that must be refused with a given message.
        self.domain: tuple[float, float] = options.pop("domain", (-3.0, 3.0))
        self.samples: list[Sample] = options.pop("samples", [])
        self.errors: list[tuple[Sample, str]] = options.pop("errors", [])
        self.variadic: bool = options.pop("variadic", False)
        n_inputs = options.pop("inputs", None)
        if options:
            self._refuse(f"unknown option {sorted(options)[0]!r}")
        if not (body.__doc__ or "").strip():
            self._refuse("it has no docstring; state its equation on the first line")
        parameters = list(inspect.signature(body).parameters.values())
        if n_inputs is None:
            n_inputs = len(parameters) if self.kind == "elementwise" else 1
        self.inputs: tuple[str, ...] = tuple(p.name for p in parameters[:n_inputs])
        self.defaults = {p.name: p.default for p in parameters[n_inputs:]}
        self.optional = {k: v for k, v in self.defaults.items() if v is not _REQUIRED}
        self.required = tuple(k for k in self.defaults if k not in self.optional)
        self.input_defaults = [p.default for p in parameters[:n_inputs]]
        self.bools = tuple(p.name for p in parameters if p.annotation in (bool, "bool"))
        self.fixed = not (self.defaults or self.variadic) and all(
            d is _REQUIRED for d in self.input_defaults
        )  # no parameters and no defaults: a call needs no sorting out
        self.rules: dict[str, Callable[..., Any]] = {}
        self.plans = Plans(self)
        self.prepare: Callable[..., dict[str, Any]] | None = None
        self.__doc__, self.__name__, self.__qualname__ = body.__doc__, self.name, self.name
        self.__module__ = body.__module__
        self.__wrapped__ = body  # gives inspect.signature and doctest what they look for
        for reserved in ("g", "y"):
            if reserved in self.inputs:
                self._refuse(
                    f"an input may not be called {reserved!r}: in a rule that name is taken"
                )
        if self.name in REGISTRY:
            other = REGISTRY[self.name].__module__
            self._refuse(f"the name is taken by an op declared in {other}; names are unique")

    def __repr__(self) -> str:
        return f"<{self.kind} op {self.name}>"

    def _refuse(self, why: str) -> NoReturn:
        raise DeclarationError(f"op {getattr(self, 'name', '?')}: {why}")

    # -- declaration ---------------------------------------------------------------------------

    def vjp(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declares the gradient with respect to input `name`; see the module's docstring."""

        def declare(rule: Callable[..., Any]) -> Callable[..., Any]:
            if name not in self.inputs:
                self._refuse(f"vjp({name!r}): its inputs are {', '.join(self.inputs)}")
            if name in self.rules:
                self._refuse(f"vjp({name!r}) is declared twice")
            if not self.differentiable:
                self._refuse(f"vjp({name!r}): it was declared with differentiable=False")
            wants = list(inspect.signature(rule).parameters)
            known = {"g", "y", *self.inputs, *self.defaults}
            known |= {f"{i}_{what}" for i in self.inputs for what in ("shape", "dtype")}
            if not wants or wants[0] != "g":
                self._refuse(f"vjp({name!r}): the first parameter must be g, the output's gradient")
            for want in wants:
                if want not in known:
                    self._refuse(
                        f"vjp({name!r}) asks for {want!r}; it can have {', '.join(sorted(known))}"
                    )
            self.rules[name] = rule
            return rule

        return declare

    def check_params(self, prepare: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """Declares prepare(shapes, **params) -> params: checks them and makes them canonical."""
        self.prepare = prepare
        return prepare

    def validate(self) -> None:
        """Raises DeclarationError if a rule is missing or cannot be recorded."""
        for name in self.inputs:
            needs_rule = self.differentiable and name not in self.bools
            if needs_rule and name not in self.rules:
                self._refuse(f"no vjp({name!r}); declare one, or differentiable=False")
        for i, name in enumerate(self.inputs):
            if name in self.rules:
                self.make_plan(1 << i)

    # -- calling -------------------------------------------------------------------------------

    def __call__(self, *args: Any, **params: Any) -> Any:
        inputs, params = self.bind(args, params)
        for a in inputs:
            apply = getattr(type(a), "__apply__", None)
            if apply is not None:
                return apply(self, inputs, params)
        arrays, _ = self.arrays(inputs)
        return self.forward(arrays, self.prepared(arrays, params))

    def bind(self, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[Sequence[Any], dict]:
        """Splits a call into array inputs and parameters, with defaults filled in."""
        if not params and self.fixed and len(args) == len(self.inputs):
            return args, params
        if self.variadic:
            if not args or not isinstance(args[0], (list, tuple)) or not args[0]:
                came = describe(args[0]) if args else "nothing"
                raise ShapeError(f"{self.name}: takes a non-empty list of arrays; got {came}.")
            inputs: Sequence[Any] = tuple(args[0])
            extra = args[1:]
        else:
            n = len(self.inputs)
            if len(args) < n and params:
                given = {k: params.pop(k) for k in self.inputs[len(args) :] if k in params}
                args += tuple(given.get(k) for k in self.inputs[len(args) :]) if given else ()
            inputs, extra = args[:n], args[n:]
            if len(inputs) < n or any(a is None for a in inputs):
                inputs = self._fill(inputs)
        if not self.defaults:
            if extra or params:
                raise TypeError(f"{self.name}({', '.join(self.inputs)}) takes no other argument")
            return inputs, params
        if len(extra) > len(self.defaults):
            raise TypeError(f"{self.name}() takes at most {len(self.defaults)} parameters")
        bound = self.optional.copy()
        bound.update(zip(self.defaults, extra, strict=False))
        for key, value in params.items():
            if key not in self.defaults or key in tuple(self.defaults)[: len(extra)]:
                raise TypeError(f"{self.name}() got an unexpected or repeated argument {key!r}")
            bound[key] = value
        for key in self.required:
            if key not in bound:
                raise TypeError(f"{self.name}() is missing its argument {key!r}")
        return inputs, bound

    def _fill(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        filled = list(inputs) + [None] * (len(self.inputs) - len(inputs))
        for i, default in enumerate(self.input_defaults):
            if filled[i] is None:
                if default is _REQUIRED:
                    raise TypeError(
                        f"{self.name}() is missing its argument {self.inputs[i]!r}; "
                        f"it takes {', '.join(self.inputs)}"
                    )
                filled[i] = default
        return tuple(filled)

    def prepared(self, arrays: Sequence[Array], params: dict[str, Any]) -> dict[str, Any]:
        if self.prepare is None:
            return params
        return self.prepare([a.shape for a in arrays], **params)

    def arrays(self, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
        """The inputs as arrays of dtypes this op takes."""
        return [a if type(a) is np.ndarray else np.asarray(a) for a in inputs], None

    def forward(self, arrays: Sequence[Array], params: dict[str, Any]) -> Array:
        return self.body(arrays, **params) if self.variadic else self.body(*arrays, **params)

    # -- differentiating -------------------------------------------------------------------------

    def _pullbacks(self, mask: int) -> list[Pullback]:
        found = []
        for i, name in enumerate(self.inputs):
            if mask >> i & 1 or self.variadic:
                rule = self.rules.get(name)
                if rule is None:
                    self._refuse(f"no gradient is declared for its input {name!r}")
                found.append(Pullback(i, rule, tuple(inspect.signature(rule).parameters)[1:]))
        return found

    def _facts(self, names: tuple[str, ...], kept: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
        facts: list[tuple[str, Any]] = []
        for name in names:
            if name in kept:
                facts.append(("saved", kept.index(name)))
            elif name == "y" or name in self.inputs:
                facts.append(("unused", None))  # a formula need not use all that its rule names
            elif name in self.defaults:
                facts.append(("parameter", name))
            else:
                stem, _, what = name.rpartition("_")
                facts.append((f"{what}s" if self.variadic else what, self.inputs.index(stem)))
        return tuple(facts)

    def _made_plan(
        self,
        mask: int,
        kept: tuple[str, ...],
        pullbacks: Sequence[Pullback],
        fused: tuple[Any, ...],
    ) -> Plan:
        needs = tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
        positions = tuple(-1 if n == "y" else self.inputs.index(n) for n in kept)
        pullbacks = [p._replace(facts=self._facts(p.names, kept)) for p in pullbacks]
        return Plan(needs, positions, kept, tuple(pullbacks), fused)

    def make_plan(self, mask: int) -> Plan:
        """What to keep and compute when the inputs whose bits are set in `mask` need gradients."""
        pullbacks = self._pullbacks(mask)
        kept = dict.fromkeys(n for p in pullbacks for n in p.names if n == "y" or n in self.inputs)
        return self._made_plan(mask, tuple(kept), pullbacks, ())


class Elementwise(Op):
    """A scalar function, applied to every element with broadcasting."""

    kind = "elementwise"

    def __init__(self, body: Callable[..., Any], options: dict[str, Any]):
        super().__init__(body, options)
        recorded = expr.source(body, self.inputs, self.bools)
        if recorded is None or recorded.inputs != self.inputs:
            self._refuse("its body must compute something from every input")
        self.source = recorded
        self.plain = not self.bools
        self.short = self.plain and self.fixed
        self.loops = Loops(recorded)

    def __call__(self, *args: Any, **params: Any) -> Any:
        if self.short and not params and len(args) == len(self.inputs):
            for a in args:
                apply = getattr(type(a), "__apply__", None)
                if apply is not None:
                    return apply(self, args, params)
            dtype = getattr(args[0], "dtype", None)
            if dtype in _FLOATS and all(type(a) is np.ndarray and a.dtype is dtype for a in args):
                return self.forward(args, params)  # in the rules of other ops
        return super().__call__(*args, **params)

    def arrays(self, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
        """Arrays of one float dtype (by NumPy's rules; Python numbers are weak), and masks."""
        values = [a if isinstance(a, (np.ndarray, np.generic)) else None for a in inputs]
        floats = [v.dtype for v in values if v is not None and v.dtype.kind == "f"]
        if not self.differentiable:  # a comparison: integers are exact in float64
            floats += [
                np.dtype(np.float64) for v in values if v is not None and v.dtype.kind in "iu"
            ]
        dtype = np.result_type(*floats) if floats else np.dtype(np.float64)
        found = []
        for name, given, value in zip(self.inputs, inputs, values, strict=True):
            if name in self.bools:
                found.append(np.asarray(given, dtype=np.bool_))
            elif value is None and isinstance(given, (bool, int, float)):
                found.append(weak(given, dtype))
            else:
                array = np.asarray(given) if value is None else value
                if array.dtype != dtype or dtype not in _FLOATS:
                    array = self._convert(name, array, dtype)
                found.append(np.asarray(array))
        return found, dtype

    def _convert(self, name: str, array: Any, dtype: np.dtype) -> Array:
        if array.dtype.kind in "iub" and not self.differentiable:
            return np.asarray(array, dtype)
        if array.dtype.kind != "f":
            raise DTypeError(
                f"{self.name}: {name} is {describe(array)}; expected float32 or float64 and no "
                "mixing "
                f"with integers or booleans. Convert it first: {name}.astype(np.{dtype})."
            )
        if dtype not in _FLOATS:
            raise DTypeError(
                f"{self.name}: {name} is {describe(array)}; expected float32 or float64."
            )
        return array.astype(dtype)

    def forward(self, arrays: Sequence[Array], params: dict[str, Any]) -> Array:
        dtype = arrays[-1].dtype  # bool inputs come first by declaration
        try:
            y = self.loops[dtype](*arrays)
        except ValueError:
            check_broadcast(self.name, arrays)
            raise
        return y if type(y) is np.ndarray else np.asarray(y)

    def make_plan(self, mask: int) -> Plan:
        pullbacks = self._pullbacks(mask)
        sources = [expr.source(p.fn, ("g", *p.names), self.bools) for p in pullbacks]
        read = [() if s is None else s.inputs for s in sources]
        kept = tuple(dict.fromkeys(n for names in read for n in names if n != "g"))
        fused = tuple(
            (p.input, None if s is None else _kernel_call(s, kept))
            for p, s in zip(pullbacks, sources, strict=True)
        )
        return self._made_plan(mask, kept, pullbacks, fused)


class MatMul(Op):
    """A sum of products over an axis that disappears."""

    kind = "matmul"

    def arrays(self, inputs: Sequence[Any]) -> tuple[list[Array], np.dtype | None]:
        arrays = [a if type(a) is np.ndarray else np.asarray(a) for a in inputs]
        if arrays[0].dtype is arrays[1].dtype and arrays[0].dtype in _FLOATS:
            return arrays, None
        for name, a in zip(self.inputs, arrays, strict=True):
            if a.dtype not in _FLOATS:
                raise DTypeError(
                    f"{self.name}: {name} is {describe(a)}; expected float32 or float64. "
                    f"Convert it first: {name}.astype(np.float32)."
                )
        dtype = np.result_type(*arrays)
        return [a if a.dtype == dtype else a.astype(dtype) for a in arrays], dtype


class Reduce(Op):
    """Many elements into one, along axes."""

    kind = "reduce"


class View(Op):
    """Values moved, repeated or left out; none computed."""

    kind = "view"


def _decorator(cls: type[Op]) -> Callable[..., Any]:
    def declare(body: Callable[..., Any] | None = None, **options: Any) -> Any:
        if body is None:
            return lambda b: declare(b, **options)
        op = cls(body, options)
        REGISTRY[op.name] = op
        return op

    declare.__name__ = cls.kind
    declare.__doc__ = f"Declares an op of kind {cls.kind}; see the module's docstring."
    return declare


elementwise = _decorator(Elementwise)
matmul_kind = _decorator(MatMul)
reduce = _decorator(Reduce)
view = _decorator(View)

_weak_cache: dict[np.dtype, dict[float, Array]] = {d: {} for d in _FLOATS}


def weak(number: float, dtype: np.dtype) -> Array:
    """A Python number as a 0-d array of `dtype`; common ones are made once."""
    known = _weak_cache[dtype]
    found = known.get(number)
    if found is None:
        found = np.array(number, dtype)
        found.flags.writeable = False
        if number and len(known) < 4096:  # 0.0 and -0.0 are one key but not one number
            known[number] = found
    return found


def check_broadcast(name: str, arrays: Sequence[Array]) -> None:
    """Raises a ShapeError that says which shapes came and how broadcasting reads them."""
    try:
        np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        came = " and ".join(describe(a) for a in arrays)
        raise ShapeError(
            f"{name}: shapes do not broadcast: {came}. Counted from the right, two axes must "
            "be equal "
            f"or one of them 1; reshape, transpose or expand_dims one side."
        ) from None
