"""What a PyTorch model's recurrent layers read, gave and got back, by hooks on its modules.

Of each call of nn.RNN, nn.LSTM, nn.GRU and of their cells: the weights (one copy for all calls that
read the same), the inputs, the first state and, when `backward` comes by, the gradients of what the
call gave. That is all it takes to run the same layer again in minigrad (twins_torch.py).

    out.grad_fn  <- marked: this is output 0 of that call     (graph_torch.py reads the marks)
                 <- a hook: what goes on into the layer is added up

The steps of a cell in a loop are one call, as long as each reads the state that the one before
gave. Calls back into Python would cost more than a small step has, so the states are asked to keep
their .grad (retain_grad), and what of it came from outside of the loop is found out afterwards
(flow/loops.py). That takes the tensors themselves, and so their graph, until the call is let go of:
at the end of the block, or when the cell begins another loop.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

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
    version,
    versions,
    weights_of,
)
from .graph_torch import End, behind_views, mark, spent, way_to

OPEN = 3  # loops of a cell whose states may be held


class _Of:
    """On a state that a loop gave: whose it is."""

    __slots__ = ("call",)

    def __init__(self, call: Call):
        self.call = weakref.ref(call)

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
        self._drawn: dict[int, Any] = {}  # id of a module that runs -> the generator's state before
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
            left = self._safely(layer, self._cell_left if layer.cell else self._left)
            self._handles.append(module.register_forward_hook(left, prepend=True, with_kwargs=True))
            if layer.options.get("dropout") and layer.options["num_layers"] > 1:
                self._handles.append(module.register_forward_pre_hook(self._enters))
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
        for call in self.calls:
            self._let_go(call)
        self._layers.clear()
        self._drawn.clear()
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

    def _safely(self, layer: Layer, hook: Callable[..., None]) -> Callable[..., None]:
        """What goes wrong here is said, and does not disturb the model."""

        def hears(module: Any, args: Any, kwargs: Any, given: Any) -> None:
            try:
                hook(layer, module, args, kwargs, given)
            except Exception as error:
                self._gap(f"{layer.name}: a call could not be recorded ({error})")

        return hears

    def _gap(self, text: str) -> None:
        self.gaps[text] = None

    # -- whole layers

    def _enters(self, module: Any, args: Any) -> None:
        if module.training:
            self._drawn[id(module)] = self.torch.get_rng_state()

    def _left(self, layer: Layer, module: Any, args: Any, kwargs: Any, given: Any) -> None:
        drawn = self._drawn.pop(id(module), None)
        x, state = bound(*args, **kwargs)
        out, final = given
        packed = None
        if isinstance(x, self.torch.nn.utils.rnn.PackedSequence):
            packed, x, out = tuple(x[1:]), x.data, out.data
        if not x.numel():
            raise ValueError("its input is empty")
        named = zip(module._flat_weights_names, module._flat_weights, strict=False)
        call = self._call(layer, named, out.requires_grad, state)
        call.packed, call.drawn = packed, drawn
        self._reads(call, 0, None, x)
        call.xs.append(copied(x))
        for leaf, t in enumerate([out, *parts(final)]):
            self._gives(call, leaf, t)
        call.states = [[(s.detach(), version(s), None) for s in parts(final)]]
        self._heard(call)

    # -- cells in loops

    def _cell_left(self, layer: Layer, module: Any, args: Any, kwargs: Any, given: Any) -> None:
        x, state = bound(*args, **kwargs)
        states = parts(given)
        call = self._goes_on(layer, module, x, parts(state), states)
        begins = call is None
        if call is None:
            call = self._loop(layer, module, x, state, states)
        t, kept = len(call.xs), []
        if x.requires_grad:
            self._reads(call, 0, t, x)
        call.xs.append(copied(x))
        for s in states:
            made_by = s.grad_fn
            if made_by is not None:
                s.retain_grad()
            kept.append((s, version(s), made_by))
        states[0]._minigrad = call.tag
        call.states.append(kept)
        if begins:
            self._heard(call)
        else:
            self._bytes += call.step_bytes
            self.changed()

    def _goes_on(
        self, layer: Layer, module: Any, x: Any, before: list[Any], after: list[Any]
    ) -> Call | None:
        """The call that a step goes on with: it has read the very states that the last one gave,
        and inputs of the same kind. Of weights that were edited in between it is found out later,
        where gradients came (flow/loops.py); only of others it is to be told here.
        """
        tag = getattr(before[0], "_minigrad", None) if before else None
        call = None if tag is None else tag.call()
        if call is None or call.layer is not layer or not call.open or len(before) != len(after):
            return None
        for s, new, (own, number, _) in zip(before, after, call.states[-1], strict=True):
            if s is not own or version(s) != number or s.requires_grad != new.requires_grad:
                return None
        first = call.xs[0]
        if first.shape != x.shape or first.dtype != x.dtype:
            return None
        return call if call.wants or call.versions == versions(module) else None

    def _loop(self, layer: Layer, module: Any, x: Any, state: Any, states: list[Any]) -> Call:
        """A loop begins."""
        mine = [call for call in self.calls if call.open and call.layer is layer]
        for i, call in enumerate(mine):
            if self._look(call) or call.gradients or i < len(mine) - OPEN + 1:
                self._let_go(call)
        wants = any(s.requires_grad for s in states)
        call = self._call(layer, weights_of(layer, module), wants, state)
        ends = [(way, end.call()) for way in call.ways.values() for end in way.ends]
        if any(c and c.layer is layer and len(c.xs) == 1 and not w.direct for w, c in ends):
            layer.joined = False
        call.versions, call.open, call.tag = versions(module), True, _Of(call)
        call.step_bytes = nbytes(x) + sum(map(nbytes, states)) * (1 + wants)
        return call

    def _look(self, call: Call) -> bool:
        """Takes over what came to the states of an open loop; says whether any of it was new."""
        known, found = call.gradients, False
        for t, states in enumerate(call.states if call.open else ()):
            for leaf, (s, number, made_by) in enumerate(states, 1):
                if made_by is None:
                    continue
                if s._backward_hooks:
                    self._gap(
                        f"{call.layer.name}: hooks of yours on its states may change gradients on "
                        f"their way; what they change counts as coming from outside of the loop"
                    )
                if s._version != number and s.grad_fn is not made_by:
                    call.layer.joined = False  # edited in place, and its gradient is one after it
                g = s.grad
                if g is not None and known.get((leaf, t)) is not g and self._tells(call, g):
                    known[leaf, t], found = g, True
        return found

    def _mark(self) -> None:
        """The states of open loops are marked on the graph, as somebody is going to look there."""
        for call in self.calls:
            if call.open:
                for t in range(call.marked, len(call.states)):
                    for leaf, (s, _, made_by) in enumerate(call.states[t], 1):
                        if made_by is not None:
                            mark(self._key, made_by, s.output_nr, End(call.ref, leaf, t))
                call.marked = len(call.states)

    def _let_go(self, call: Call) -> None:
        """Holds the states of a loop no longer; what may still come to them is heard by hooks."""
        if not call.open:
            return
        self._look(call)
        nodes = [made_by for *_, made_by in call.states[0] if made_by is not None]
        later = bool(nodes) and not all(map(spent, nodes))
        if later:
            self._mark()
        call.open = False
        for t, states in enumerate(call.states):
            for leaf, (s, number, made_by) in enumerate(states):
                if later and made_by is not None:
                    made_by.register_prehook(
                        partial(self._arrived, call, leaf + 1, t, s.output_nr, None)
                    )
                states[leaf] = s.detach(), number, None
        for place, g in call.gradients.items():
            if g.requires_grad:
                call.gradients[place] = g.detach()

    def news(self) -> bool:
        """Whether more has come to loops than was read."""
        return sum(map(self._look, self.calls)) > 0  # all of them are looked at

    # -- what both do

    def _call(self, layer: Layer, named: Any, wants: bool, state: Any) -> Call:
        named = [(name, p) for name, p in named if p is not None]
        weights = {name: self._copied(p) for name, p in named}
        init = None if state is None else [copied(s) for s in parts(state)]
        call = Call(layer, weights, wants, [], init, lowered=self._lowered([p for _, p in named]))
        for leaf, s in enumerate(parts(state)):
            self._reads(call, leaf + 1, None, s)
        return call

    def _lowered(self, weights: list[Any]) -> str:
        """What autocast computes in where it is on."""
        torch = self.torch
        device = weights[0].device.type if weights else "cpu"
        on = torch.is_autocast_enabled(device) and all(p.dtype == torch.float32 for p in weights)
        return str(torch.get_autocast_dtype(device)) if on else ""

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
        if not tensor.requires_grad:
            return
        self._mark()
        if (way := way_to(self._key, tensor)) is not None:
            call.ways[leaf, t] = way

    def _gives(self, call: Call, leaf: int, tensor: Any) -> None:
        if tensor.grad_fn is None:
            return
        whole, back = behind_views(tensor)
        for t in {id(t): t for t in (tensor, whole)}.values():
            mark(self._key, t.grad_fn, t.output_nr, End(call.ref, leaf))
        # of the node, not of the tensor: after the hooks of others, and whatever is edited in place
        whole.grad_fn.register_prehook(
            partial(self._arrived, call, leaf, None, whole.output_nr, back)
        )

    def _arrived(
        self, call: Call, leaf: int, t: int | None, nr: int, back: Any, gradients: Any
    ) -> None:
        g = gradients[nr]
        if g is None or not self._tells(call, g, self.torch.is_grad_enabled()):
            return
        g = g.detach() if back is None else back(g.detach())
        known = call.gradients.get((leaf, t))
        self._bytes += nbytes(g) if known is None and t is None else 0
        # backward passes add up, as they do in .grad
        call.gradients[leaf, t] = g if known is None else known + g
        self.changed()

    def _tells(self, call: Call, g: Any, twice: bool = False) -> bool:
        """Whether a gradient is one that can be kept; what else it is, is said."""
        try:
            self._check(g)
            g.data_ptr()
        except (TypeError, RuntimeError):
            self._gap(f"{call.layer.name}: gradients by vmap (is_grads_batched) are left out")
            return False
        if g.requires_grad or twice:
            self._gap(
                f"{call.layer.name}: a gradient was taken with create_graph; what arrives at the "
                f"layer is added up, and what a second derivative brings inside of it is not known"
            )
        return True

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
