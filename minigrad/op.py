"""What an op is: declared once, in one place, and everything else derives from that.

    @elementwise
    def tanh(x):
        "y = tanh(x).  Slope 1 - y**2 <= 1: one source of vanishing gradients."
        return scalar.tanh(x)

    tanh.vjp(x=lambda g, y: g * (1 - y * y))

A rule, which may also be a function below @tanh.vjp("x"), names what it needs, and only that is
kept for it: `g` (the gradient of the output), `y` (the output), an input by its name, an input's
shape or dtype as `x_shape`, `x_dtype`, or a parameter such as `axis`. The rule of a variadic op,
whose input is a list, returns a list of gradients. Rules are expressions of registered ops: on
arrays they compute, on Tensors they are recorded (that is the second derivative), on scalar
expressions they become one fused kernel. Those of minigrad's own ops are in ops/gradients.py.

There are four kinds. `elementwise` ops have a scalar body; `matmul`, `reduce` and `view` ops have a
body that takes and returns whole arrays, and may have parameters after their array inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .border import tensors_in
from .dtypes import supported
from .errors import DeclarationError, DTypeError, ShapeError, describe
from .othernames import torch_option
from .plan import Plan, Plans, Pullback, keeper, rule_call
from .switches import state

Array = np.ndarray
REGISTRY: dict[str, Op] = {}

_OUTPUTS = frozenset(map(np.dtype, ("f4", "f8", "?", "i8", "i4", "i2", "i1", "u1")))  # the usual
_REQUIRED = inspect.Parameter.empty


class Sample(NamedTuple):
    """One call for the op's tests: the shapes of its inputs, and its parameters."""

    shapes: tuple[tuple[int, ...], ...]
    params: dict[str, Any]


def sample(*shapes: tuple[int, ...], **params: Any) -> Sample:
    """A sample input of a declaration: sample((3, 4), axis=0)."""
    return Sample(shapes, params)


class MixesRows(Exception):
    """Raised by a batch rule: the op would mix the rows of a batch. Its text says how."""


def mixes(why: str) -> NoReturn:
    """For batch rules: `mixes("it turns the batch axis round")`."""
    raise MixesRows(why)


class Op:
    """A registered operation. Call it like a function; it works on Tensors, arrays and numbers."""

    kind = ""
    cheap = False
    plain = False  # takes arrays of one float dtype and no parameters: apply() has a short way
    loops: dict[np.dtype, Callable[..., Any]]  # for that: dtype -> what computes it
    joins: Callable[..., None] | None = None  # (node, g, next node, its g): may run both at once

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
        # What the compiler of a step asks of an op:
        self.cheap = options.pop("cheap", self.cheap)  # computed again rather than kept for BPTT
        self.fold: Op | None = options.pop("fold", None)  # joins two parts of a reduction
        self.identity: float | None = options.pop("identity", None)  # the reduction of nothing
        self.assembles: bool = options.pop("assembles", False)  # a view with memory of its own
        self.broadcasts: bool = options.pop("broadcasts", self.kind == "elementwise")
        self.shaped: str = options.pop("shaped", "")  # the parameter that is the shape of y
        self.notation: str = options.pop("notation", "")  # "{0} + {1}": what to call y
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
        self.batch_rule: Callable[..., Any] | None = None
        self.time_rule: Callable[..., dict[str, Any]] | None = None
        self.expansion: Callable[..., Any] | None = None
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

    def vjp(self, name: str = "", /, **rules: Callable[..., Any]) -> Callable[..., Any]:
        """Declares the gradient with respect to input `name`; see the module's docstring.

        Either of the function that it decorates, @op.vjp("x"), or op.vjp(x=rule, ...).
        """
        for given, rule in rules.items():
            self._declare(given, rule)
        return lambda rule: self._declare(name, rule)

    def _declare(self, name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
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

    def check_params(self, prepare: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """Declares prepare(shapes, **params) -> params: checks them and makes them canonical."""
        self.prepare = prepare
        return prepare

    def batch(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Declares where the axis of the batch goes, so that a view compiles in a step of `scan`.

        rule(...) -> its place in the output, or (place, size / rows) where it is not only rows. It
        names what it needs: `at`, its place in the input; `many`, its size / `rows` there; the
        shape of the input, such as `x_shape`; or a parameter. Where rows would meet it calls
        `mixes(why)`.
        """
        self.batch_rule = rule
        return rule

    def over_time(self, rule: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """Declares the parameters that change where all inputs have an axis of time in front.

        rule(...) -> the changed ones by name; it may ask for `steps`, the size of that axis.
        """
        self.time_rule = rule
        return rule

    def expand(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Declares the op, in a step of `scan`, as an expression of other ops.

        rule(inputs, parameters) -> what it computes; None: for these parameters as it is.
        """
        self.expansion = rule
        return rule

    def asked(self, rule: Callable[..., Any], **known: Any) -> list[Any]:
        """What a rule of `batch` or `over_time` names, out of what is known."""
        names = inspect.signature(rule).parameters
        for name in names:
            if name not in known:
                self._refuse(f"a rule asks for {name!r}; it can have {', '.join(sorted(known))}")
        return [known[name] for name in names]

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
            if apply is None and type(a) is not np.ndarray and isinstance(a, (list, tuple)):
                apply = next((t.__apply__ for t in tensors_in(a)), None)
            if apply is not None:
                return apply(self, inputs, params)
        if state.jit is not None:
            return state.jit.on_arrays(self, inputs, params)
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
            if len(inputs) < n or type(None) in map(type, inputs):
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
                torch_option(self.name, key)
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
        arrays = [a if type(a) is np.ndarray else np.asarray(a) for a in inputs]
        for i, a in enumerate(arrays):
            if a.dtype not in _OUTPUTS:
                arrays[i] = a.astype(supported(self.name, a.dtype))
        return arrays, None

    def check_shapes(self, arrays: Sequence[Array]) -> None:
        """Raises ShapeError, if that is what is wrong with the arrays."""

    def forward(self, arrays: Sequence[Array], params: dict[str, Any]) -> Array:
        y = self.body(arrays, **params) if self.variadic else self.body(*arrays, **params)
        return y if type(y) is np.ndarray and y.dtype in _OUTPUTS else self._as_output(y)

    def _as_output(self, y: Any) -> Array:
        """What a body returned, as an array a Tensor can hold. Raises DeclarationError."""
        if isinstance(y, np.generic) or type(y) in (bool, int, float):
            y = np.asarray(y)
        if not isinstance(y, np.ndarray):
            self._refuse(f"its body returned {describe(y)}; expected an array")
        try:
            return np.asarray(y, supported(self.name, y.dtype))
        except DTypeError as error:
            self._refuse(f"its body returned {describe(y)}: {error}")

    def pull(self, node: Any, g: Any, recorded: bool) -> list[tuple[int, Any]]:
        """(input, its gradient), for an op that is more than its rules (kind "scan")."""
        self._refuse("it has rules, and no way of its own to run backwards")

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

    def facts(self, rule: Callable[..., Any]) -> list[tuple[str, Any]]:
        """What a vjp rule asks for besides g, as (kind, key), in its order: ("y", None), ("input",
        i), ("parameter", name), ("shape", i), ("dtype", i), or of a list of inputs ("shapes", 0).
        """
        found: list[tuple[str, Any]] = []
        for name in list(inspect.signature(rule).parameters)[1:]:
            if name == "y":
                found.append(("y", None))
            elif name in self.inputs:
                found.append(("input", self.inputs.index(name)))
            elif name in self.defaults:
                found.append(("parameter", name))
            else:
                stem, _, what = name.rpartition("_")
                found.append((f"{what}s" if self.variadic else what, self.inputs.index(stem)))
        return found

    def _kept_facts(self, p: Pullback, kept: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
        """The same where values are read from what a node keeps."""
        found: list[tuple[str, Any]] = []
        for name, (kind, key) in zip(p.names, self.facts(p.fn), strict=True):
            if kind not in ("y", "input"):
                found.append((kind, key))
            elif name in kept:
                found.append(("saved", kept.index(name)))
            else:  # a formula need not use all that its rule names
                found.append(("unused", None))
        return tuple(found)

    def _made_plan(
        self,
        mask: int,
        kept: tuple[str, ...],
        pullbacks: Sequence[Pullback],
        calls: tuple[Any, ...] | None = None,
    ) -> Plan:
        needs = tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
        positions = tuple(-1 if n == "y" else self.inputs.index(n) for n in kept)
        made = tuple(
            [p._replace(call=rule_call(p.fn, self._kept_facts(p, kept))) for p in pullbacks]
        )
        if calls is None:
            calls = tuple([(p.input, p.call) for p in made]) if self.plain else ()
        return Plan(needs, positions, kept, made, calls, keeper(positions))

    def make_plan(self, mask: int) -> Plan:
        """What to keep and compute when the inputs whose bits are set in `mask` need gradients."""
        pullbacks = self._pullbacks(mask)
        kept = dict.fromkeys(n for p in pullbacks for n in p.names if n == "y" or n in self.inputs)
        return self._made_plan(mask, tuple(kept), pullbacks)
