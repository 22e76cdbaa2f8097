"""What a PyTorch model's recurrent layers read, gave and got back, by hooks on its modules.

Of each call of nn.RNN, nn.LSTM, nn.GRU and of their cells: the weights (one copy for all calls that
read the same), the inputs, the first state and, when `backward` comes by, the gradients of what the
call gave. That is all it takes to run the same layer again in minigrad (twins_torch.py).

    out.grad_fn  <- marked: this is output 0 of that call     (graph_torch.py reads the marks)
    out          <- a hook: dL/d(out) is added up

The steps of a cell in a loop are one call, as long as each reads the state that the one before
gave. The loop then reads that state itself, and everybody else an alias of it: the gradient of the
alias is what came from outside of the loop.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from .base import need
from .calls_torch import (
    OWN,
    Call,
    Layer,
    bound,
    copied,
    made_with,
    nbytes,
    parts,
    path_of,
    versions,
    weights_of,
)
from .graph_torch import End, mark, way_to


class _Tag(NamedTuple):
    """On a state that a loop gave: which one, after how many steps; own: itself, of an alias."""

    call: Callable[[], Call | None]
    leaf: int
    t: int
    own: Any

    def __reduce__(self) -> Any:
        return type(None), ()  # a state that is saved leaves it behind


class Capture:
    """Hears the recurrent modules of models, by (prefix of their names, model).

    twins: id of a module that is called as torch's cells are -> minigrad's cell that is the same.
    changed: called when more is known. memory: bytes to keep; beyond it the oldest calls are let go
    of. gaps: what could not be heard, and why. dropped: name of a layer -> calls let go of.
    """

    def __init__(
        self,
        models: list[tuple[str, Any]],
        twins: dict[int, Any],
        changed: Callable[[], None],
        memory: int | None,
    ):
        self.torch = need("torch", "bench", "mg.flow.record_torch")
        self.models, self.twins, self.changed, self.memory = models, twins, changed, memory
        self.calls: list[Call] = []
        self.gaps: dict[str, None] = {}
        self.dropped: Counter[str] = Counter()
        self._layers: dict[int, Layer] = {}  # id of a module -> what is kept of it
        self._weights: dict[int, tuple[int, int, Any]] = {}  # id -> (address, version, copy)
        self._at_door: dict[int, Any] = {}  # id of a module that runs -> what was found before
        functorch = getattr(self.torch._C, "_functorch", None)
        self._wrapped = getattr(functorch, "is_functorch_wrapped_tensor", lambda t: False)
        self._key = object()
        self._handles: list[Any] = []
        self._stance: Any = None
        self._bytes = 0

    # -- beginning and end

    def begin(self) -> None:
        for name, module in self._found():
            made = (
                made_with(self.torch, module) if id(module) not in self.twins else (OWN, True, {})
            )
            layer = Layer(name, *made, twin=self.twins.get(id(module)))
            self._layers[id(module)] = layer
            enters = self._cell_enters if layer.cell else self._enters
            left = self._cell_left if layer.cell else self._left
            before, after = partial(self._safely, layer, enters), partial(self._safely, layer, left)
            self._handles += [
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after, prepend=True, with_kwargs=True),
            ]
        if "torch._dynamo" in sys.modules and hasattr(self.torch.compiler, "set_stance"):
            self._stance = self.torch.compiler.set_stance("force_eager")  # else none calls hooks
            self._stance.__enter__()

    def end(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None
        heard = {id(call.layer) for call in self.calls}
        for layer in self._layers.values():
            if id(layer) not in heard and not any(gap.startswith(layer.name) for gap in self.gaps):
                self._gap(
                    f"{layer.name} was not heard: it did not run in the block, or was called past "
                    f"its hooks, as .forward(x) is"
                )
        self._layers.clear()
        self._at_door.clear()
        self._weights.clear()
        self.models = []

    def _found(self) -> Iterator[tuple[str, Any]]:
        nn, scripted = self.torch.nn, self.torch.jit.ScriptModule
        seen = set()
        for prefix, model in self.models:
            for path, module in model.named_modules():
                name = path_of(prefix, path) or type(module).__name__.lower()
                kind = getattr(nn, getattr(module, "original_name", ""), None)
                own = id(module) in self.twins
                if isinstance(module, scripted) and not own:
                    if isinstance(kind, type) and issubclass(kind, (nn.RNNBase, nn.RNNCellBase)):
                        self._gap(
                            f"{name} was compiled by torch.jit, and calls no hooks; record the "
                            f"module that it was made of"
                        )
                elif id(module) not in seen and (
                    own or isinstance(module, (nn.RNNBase, nn.RNNCellBase))
                ):
                    seen.add(id(module))
                    yield name, module

    def _safely(self, layer: Layer, hook: Callable[..., Any], *given: Any) -> Any:
        """What goes wrong here is said, and does not disturb the model."""
        try:
            return hook(layer, *given)
        except Exception as error:
            self._gap(f"{layer.name}: a call could not be recorded ({error})")
            return None

    def _gap(self, text: str) -> None:
        self.gaps[text] = None

    # -- whole layers

    def _enters(self, layer: Layer, module: Any, args: Any, kwargs: Any) -> None:
        if module.training and module.dropout and module.num_layers > 1:
            self._at_door[id(module)] = self.torch.get_rng_state()

    def _left(self, layer: Layer, module: Any, args: Any, kwargs: Any, given: Any) -> None:
        drawn = self._at_door.pop(id(module), None)
        x, state = bound(*args, **kwargs)
        out, final = given
        packed = None
        if isinstance(x, self.torch.nn.utils.rnn.PackedSequence):
            packed, x, out = tuple(x[1:]), x.data, out.data
        named = zip(module._flat_weights_names, module._flat_weights, strict=False)
        call = self._call(layer, named, out.requires_grad, state)
        call.packed, call.drawn = packed, drawn
        self._reads(call, 0, None, x)
        call.xs.append(copied(x))
        for leaf, t in enumerate([out, *parts(final)]):
            self._gives(call, leaf, None, t)
        call.finals = [(s.detach(), s._version) for s in parts(final)]
        self._heard(call)

    # -- cells in loops

    def _cell_enters(self, layer: Layer, module: Any, args: Any, kwargs: Any) -> Any:
        """A step that goes on from the last one reads the state itself, not its alias."""
        x, state = bound(*args, **kwargs)
        states = parts(state)
        tags = [tag for s in states if (tag := getattr(s, "_minigrad", None)) is not None]
        call = tags[0].call() if tags and len(tags) == len(states) else None
        if call is None or call.layer is not layer or not self._reads_same(call, module, x):
            return None
        last = len(call.xs)
        if any((t.call(), t.leaf, t.t) != (call, leaf, last) for leaf, t in enumerate(tags)):
            return None
        self._at_door[id(module)] = call
        own = [s if tag.own is None else tag.own for s, tag in zip(states, tags, strict=True)]
        return (x, tuple(own) if isinstance(state, tuple) else own[0]), {}

    def _cell_left(self, layer: Layer, module: Any, args: Any, kwargs: Any, given: Any) -> Any:
        call = self._at_door.pop(id(module), None)
        x, state = bound(*args, **kwargs)
        states = parts(given)
        wants = any(s.requires_grad for s in states)
        if call is None or call.wants != wants:
            call = self._call(layer, weights_of(layer, module), wants, state)
            ends = [(way, end.call()) for way in call.ways.values() for end in way.ends]
            if any(c and c.layer is layer and len(c.xs) == 1 and not w.direct for w, c in ends):
                layer.joined = False
            call.versions = versions(module)
            self._reads(call, 0, 0, x)
            call.xs.append(copied(x))
            self._heard(call)
        else:
            self._reads(call, 0, len(call.xs), x)
            call.xs.append(copied(x))
            self._bytes += nbytes(x)
        call.finals = [(s.detach(), s._version) for s in states]
        if layer.kind == OWN:
            call.states.append([copied(s) for s in states])
        aliases = [self._alias(call, leaf + 1, len(call.xs), s) for leaf, s in enumerate(states)]
        return tuple(aliases) if isinstance(given, tuple) else aliases[0]

    def _alias(self, call: Call, leaf: int, steps: int, s: Any) -> Any:
        alias = s
        if s.requires_grad:
            alias = s.view_as(s)
            self._gives(call, leaf, steps - 1, alias)
        alias._minigrad = _Tag(call.ref, leaf - 1, steps, None if alias is s else s)
        return alias

    def _reads_same(self, call: Call, module: Any, x: Any) -> bool:
        """Whether a step is like those of the call: the same weights, inputs of the same kind."""
        if (call.xs[0].shape, call.xs[0].dtype) != (x.shape, x.dtype):
            return False
        return call.versions == versions(module)

    # -- what both do

    def _call(self, layer: Layer, named: Any, wants: bool, state: Any) -> Call:
        weights = {name: self._copied(p) for name, p in named if p is not None}
        init = None if state is None else [copied(s) for s in parts(state)]
        call = Call(layer, weights, wants, [], init)
        for leaf, s in enumerate(parts(state)):
            self._reads(call, leaf + 1, None, s)
        return call

    def _heard(self, call: Call) -> None:
        self.calls.append(call)
        self._bytes += call.nbytes
        while self.memory is not None and self._bytes > self.memory and len(self.calls) > 1:
            oldest = self.calls.pop(0)
            self._bytes -= oldest.nbytes
            self.dropped[oldest.layer.name] += 1
        self.changed()

    def _reads(self, call: Call, leaf: int, t: int | None, tensor: Any) -> None:
        self._check(tensor)
        if tensor.requires_grad and (way := way_to(self._key, tensor)) is not None:
            call.ways[leaf, t] = way

    def _gives(self, call: Call, leaf: int, t: int | None, tensor: Any) -> None:
        if tensor.grad_fn is None:
            return
        mark(self._key, tensor, End(call.ref, leaf, t))

        def arrived(g: Any) -> None:  # backward passes add up, as they do in .grad
            g = g.detach().clone() if g.requires_grad else g
            known = call.gradients.get((leaf, t))
            self._bytes += nbytes(g) if known is None else 0
            call.gradients[leaf, t] = g if known is None else known + g
            self.changed()

        tensor.register_hook(arrived)

    def _known(self, p: Any) -> Any:
        """The copy of a weight that still has the same values, as far as its version tells."""
        address, version, copy = self._weights.get(id(p), (0, 0, None))
        return copy if p is not None and (address, version) == (p.data_ptr(), p._version) else None

    def _check(self, tensor: Any) -> None:
        if self._wrapped(tensor):
            raise TypeError("it ran inside torch.func, whose tensors cannot be kept")

    def _copied(self, p: Any) -> Any:
        self._check(p)
        known = self._known(p)
        # its version does not tell of edits through .data: a weight within reach is looked at
        if known is None or (p.is_cpu and not self.torch.equal(known, p)):
            known = copied(p)
            self._weights[id(p)] = p.data_ptr(), p._version, known
            self._bytes += nbytes(known)
        return known
