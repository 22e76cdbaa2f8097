"""What a Keras 3 model's recurrent layers read and gave, and dL/d(what they gave).

The model runs as it is, on any backend: while it does, zeros are added to what each recurrent layer
gives, and the gradients of the loss by these zeros are those of the outputs. Nothing that the model
keeps is changed, the states of stateful layers included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .backends_keras import Mark, gradients
from .base import Array, ConversionError, need
from .twins_keras import twin_of

MERGES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul"}


class Source(NamedTuple):
    """Where an array came from: runs of layers, and how their outputs were merged.

    leaf: of the last state; None for the outputs. turned: whether time runs backwards in it, beside
    the order in which the first of these layers has its inputs here.
    """

    runs: tuple[int, ...]
    leaf: int | None
    merge: str
    turned: bool


@dataclass
class Ran:
    """One call of a recurrent layer, time first, in the order of time of what the model was given.

    cell: minigrad's, with the weights of the layer; None where there is none, as `gap` says. xs (T,
    B, ...) and init, the leaves of the first state, and where they came from, if from other runs.
    reverse: whether it ran from T-1 to 0. mask: (T, B) of bool. grad_ys, grad_final: dL/d(outputs),
    and of the leaves of the last state; None where none arrived. ys: the outputs, to compare.
    """

    name: str
    cell: Any
    gap: str
    xs: Array
    init: list[Array]
    reverse: bool
    mask: Array | None
    ys: Array
    every: bool
    grad_ys: Array | None = None
    grad_final: list[Any] = field(default_factory=list)
    reads: Source | None = None
    begins: list[Source | None] = field(default_factory=list)
    followed: bool = True


@dataclass
class _Call:
    """A call while the model runs: tensors of the backend."""

    layer: Any
    sequences: Any
    states: list[Any]
    mask: Any
    given: list[Any]
    reads: Source | None
    begins: list[Source | None]

    @property
    def reverse(self) -> bool:
        return bool(self.layer.go_backwards) != bool(self.reads and self.reads.turned)


class _Run:
    """One run of the model: what its recurrent layers read, in order, and what they gave."""

    def __init__(self, keras: Any, mark: Mark):
        self.keras, self.mark = keras, mark
        self.calls: list[_Call] = []
        self.sources: dict[int, Source] = {}
        self._kept: list[Any] = []  # whose ids are in use

    def recurrent(self, layer: Any, call: Any) -> Any:
        def wrapped(sequences: Any, *args: Any, **kwargs: Any) -> Any:
            named = dict(zip(("initial_state", "mask", "training"), args, strict=False)) | kwargs
            tree = self.keras.tree
            states = named.get("initial_state")
            if states is None:
                batch = self.keras.ops.shape(sequences)[0]
                states = layer.states if layer.stateful else layer.get_initial_state(batch)
            states = [self.keras.ops.convert_to_tensor(s) for s in tree.flatten(states)]
            given = [self.mark(t) for t in tree.flatten(call(sequences, *args, **kwargs))]
            reads = self.sources.get(id(sequences))
            begins = [self.sources.get(id(s)) for s in states]
            mask = tree.flatten(named.get("mask"))[0]
            made = _Call(layer, sequences, states, mask, given, reads, begins)
            self.calls.append(made)
            self._gave(given, (len(self.calls) - 1,), made.reverse, layer.return_sequences, "")
            return given[0] if len(given) == 1 else tuple(given)

        return wrapped

    def bidirectional(self, layer: Any, call: Any) -> Any:
        def wrapped(sequences: Any, *args: Any, **kwargs: Any) -> Any:
            given = call(sequences, *args, **kwargs)
            ran = [
                max(i for i, c in enumerate(self.calls) if c.layer is one)
                for one in (layer.forward_layer, layer.backward_layer)
            ]
            merge = MERGES.get(layer.merge_mode, "")
            if merge and layer.return_sequences:
                flat = self.keras.tree.flatten(given)
                turned = self.calls[ran[0]].reverse
                self._gave(flat[:1], tuple(ran), turned, True, merge)
            return given

        return wrapped

    def _gave(
        self, given: list[Any], runs: tuple[int, ...], turned: bool, every: bool, merge: str
    ) -> None:
        self._kept += given
        for k, t in enumerate(given):
            if k or every:
                self.sources[id(t)] = Source(runs, k - 1 if k else None, merge, turned)


def record(
    model: Any, x: Any, y: Any, loss: Any, training: bool, cells: Mapping[str, Any]
) -> list[Ran]:
    """The recurrent layers of the model in order, as they ran with this loss."""
    keras = need("keras", "", "recordings of Keras models")
    if not isinstance(model, keras.layers.Layer):
        raise ConversionError(
            f"record_keras: expected a Keras 3 model or layer, got {type(model).__name__}."
        )
    if not all(layer.built for layer in _layers(model)):
        model(x)
        for layer in _layers(model):
            if isinstance(layer, keras.layers.RNN) and layer.stateful:
                layer.reset_state()
    named = dict(_named(keras, model))
    if unknown := set(cells) - set(named.values()):
        raise ConversionError(
            f"record_keras: cells has {sorted(unknown)[0]!r}; the recurrent layers are "
            f"{', '.join(named.values()) or 'none'}."
        )

    runs: list[_Run] = []
    known = [(v, v.value) for v in model.variables]  # regularizers ask the scope for them

    def function(mark: Mark) -> tuple[Any, Any]:
        run = _Run(keras, mark)
        runs.append(run)
        with keras.StatelessScope(state_mapping=known), _heard(keras, model, run):
            value = _loss(keras, model, loss, x, y, model(x, training=training))
        return value, [[c.sequences, c.states, c.mask, c.given] for c in run.calls]

    arrived, values = gradients(keras, function)
    rest = iter(arrived)
    counted: dict[str, int] = {}
    result = []
    origins: set[int] = set()  # what layers before have read and is no output of theirs
    for call, read in zip(runs[-1].calls, values, strict=True):
        name = named[id(call.layer)]
        counted[name] = counted.get(name, 0) + 1
        path = name if counted[name] == 1 else f"{name}#{counted[name]}"
        own = [_array(keras, next(rest)) for _ in call.given]
        read = keras.tree.map_structure(lambda t: _array(keras, t), read)
        twin = twin_of(keras, call.layer, name, training, cells)
        result.append(_as_ran(path, call, read, own, twin))
        if call.reads is None:
            result[-1].followed = not origins or id(call.sequences) in origins
            origins.add(id(call.sequences))
    return result


def _as_ran(name: str, call: _Call, read: Any, arrived: list[Any], twin: tuple[Any, str]) -> Ran:
    """In minigrad's order of axes, and time as the model was given it."""
    layer, (xs, init, mask, given) = call.layer, read
    turned = bool(call.reads and call.reads.turned)
    there = slice(None, None, -1 if turned else 1)  # the order of what it read
    ran = slice(None, None, -1 if call.reverse else 1)  # the order of what it gave
    xs = np.swapaxes(xs, 0, 1)[there]
    steps, rows = xs.shape[:2]
    real = None
    if mask is not None:
        mask = mask.astype(bool).reshape(rows, steps, -1).any(axis=2)
        real = mask.T[there]
    every, g = layer.return_sequences, arrived[0]
    ys = np.swapaxes(given[0], 0, 1)[ran] if every else given[0]
    if g is not None:
        in_order = np.zeros((steps, rows, *g.shape[1 + every :]), g.dtype)
        if every:
            in_order[:] = np.swapaxes(g, 0, 1)
        else:
            in_order[-1] = g
        if real is not None:
            in_order = _folded(in_order, real[ran], layer.zero_output_for_mask)
        g = in_order[ran]
    return Ran(
        name, *twin, xs, init, call.reverse, real, ys, every, g, arrived[1:], call.reads,
        call.begins,
    )  # fmt: skip


def _folded(g: Array, real: Array, zeros: bool) -> Array:
    """dL/dy at real steps: in the padding Keras gives the y before it again, or 0.

    Both in order of computation. What comes before the first real step reads no step.
    """
    if zeros:
        return np.where(real.reshape(*real.shape, *(1,) * (g.ndim - 2)), g, 0)
    found, waiting = np.zeros_like(g), np.zeros_like(g[0])
    for k in reversed(range(len(g))):
        waiting = waiting + g[k]
        found[k, real[k]] = waiting[real[k]]
        waiting[real[k]] = 0
    return found


# -- the model and its layers


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())


def _named(keras: Any, model: Any) -> Iterator[tuple[int, str]]:
    """(id of a recurrent layer, its path) of all: those in a Bidirectional are its fwd and rev."""
    taken: dict[str, int] = {}
    ways: dict[int, str] = {}
    for layer in _layers(model):
        both = isinstance(layer, keras.layers.Bidirectional)
        if not both and (not isinstance(layer, keras.layers.RNN) or id(layer) in ways):
            continue
        taken[layer.name] = n = taken.get(layer.name, 0) + 1
        name = layer.name if n == 1 else f"{layer.name}-{n}"
        if both:
            ways[id(layer.forward_layer)] = f"{name}/fwd"
            ways[id(layer.backward_layer)] = f"{name}/rev"
        else:
            ways[id(layer)] = name
    yield from ways.items()


@contextmanager
def _heard(keras: Any, model: Any, run: _Run) -> Iterator[None]:
    """The recurrent layers of the model tell of their calls."""
    with ExitStack() as stack:
        for layer in _layers(model):
            hear = (
                run.recurrent if isinstance(layer, keras.layers.RNN)
                else run.bidirectional if isinstance(layer, keras.layers.Bidirectional) else None
            )  # fmt: skip
            if hear is not None and "call" not in vars(layer):
                vars(layer)["call"] = hear(layer, layer.call)
                stack.callback(vars(layer).pop, "call")
        yield


def _loss(keras: Any, model: Any, loss: Any, x: Any, y: Any, out: Any) -> Any:
    """A number, by a loss of Keras, its name, a function (y, output), or the compiled one."""
    if y is not None:
        y = keras.tree.map_structure(keras.ops.convert_to_tensor, y)
    if loss is None:
        if not getattr(model, "compiled", False):
            raise ConversionError(
                "record_keras: the model was not compiled with a loss; pass loss, a loss of Keras, "
                "its name, or a function (y, output) -> number."
            )
        return model.compute_loss(x=x, y=y, y_pred=out, training=False)
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return keras.ops.mean(loss(y, out))


def _array(keras: Any, t: Any) -> Any:
    """A tensor as an array; what is shorter than float32 widened, None as it is."""
    if t is None:
        return None
    if "float16" in keras.backend.standardize_dtype(t.dtype):
        t = keras.ops.cast(t, "float32")
    return np.asarray(keras.ops.convert_to_numpy(t))
