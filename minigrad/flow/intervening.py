"""intervene(): a state, a gate or a gradient is changed, and the net goes on with that.

What an epidemiologist does with a drug and a gradient table cannot: a cause is tested by changing
it. An intervention is an op of the cell, at its tap, so a compiled layer stays compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compile.intervened import Edit, Intervened, Place, changed, named
from ..compile.looking import Seen, look
from ..compile.padding import unwrapped
from ..compile.taps import bare
from ..errors import FlowError, JitError, describe
from ..nn.module import Module
from ..switches import Switch
from ..tape import state as switches
from ..tensors import Tensor, as_tensor, wrap
from ..tree import leaves
from . import edits
from .places import STEP, at_step, join

Array = np.ndarray
_KEPT = 8  # operands for so many kinds of calls


class intervene(Switch):
    """v = edit(v) wherever the forward pass inside the block says v = mg.tap(name, v).

        with mg.flow.intervene("f", clamp=(1, 1)):                    # the forget gate open
        with mg.flow.intervene("c", patch=0.0, steps=20):             # c_20 = 0
        with mg.flow.intervene("h", patch=h_other[20:21], steps=20):  # h_20 of another run
        with mg.flow.intervene("h", clip_norm=1.0):                   # |dL/dh_t| <= 1 in every row
        with mg.flow.intervene("h", of="gradient", scale=0.5, units=[0, 3]):

    name: of a tap, a state ("h") or a gate ("f"); where a step has several of one name all of them,
        or one as a recording calls it ("upper/h", "h#2").
    One of these says what is done, with numbers, or arrays that broadcast to (steps, rows, units):
    clamp: (low, high), one of which may be None. The gradient goes on where v is between them.
    patch: v is this value, whatever the step computed; no gradient goes on.
    scale: v times this.    noise: v plus normal numbers of this standard deviation, from `seed`.
    detach: True: v as it is; no gradient goes on.
    clip_norm: dL/dv scaled to this norm in each row where it is longer (always of="gradient").
    of: "value", or "gradient" to clamp or scale dL/dv, or add noise to it, when BPTT arrives there.
    steps: the t (of a scan or layer from its first to its last, in reverse ones too; negative ones
        count from the end), rows of the batch, units: numbers, a slice or a mask; None for all.
    layer: None for all, a Module (the layer, or a model that has it), or a path as in a recording,
        or the beginning of one: "encoder", "lstm/l1", "lstm/l0/rev".

    Several are entered one after the other (`with a, b:`), and act in that order: values from the
    first on, and so do gradients. A recording hears values and gradients as they are changed; cuts
    have what comes to a state from later steps, before the state's own gradient is changed. In a
    compiled layer it is part of the loop, with equal results; other steps, rows and numbers are
    inputs of it and compile nothing. What is put into the step in the forward pass acts in BPTT,
    wherever backward() is called. In loops by hand, steps= needs scopes `t=...`.

    met: path -> the taps that were changed there. Raises FlowError for what makes no sense, for a
    tap whose result the step does not use, and on leaving the block if nothing was changed;
    ShapeError and DTypeError for what does not fit; JitError in or around a jitted step.

    >>> import minigrad as mg
    >>> rnn = mg.nn.RNN(1, 2, dtype=np.float64, generator=np.random.default_rng(0))
    >>> with mg.flow.intervene("h", patch=[0.5, -0.5], steps=2) as done:
    ...     ys, _ = rnn(np.ones((4, 1, 1)))
    >>> ys.numpy()[2].tolist(), done.met
    ([[0.5, -0.5]], {'rnn/l0/fwd': ['h']})
    """

    def __init__(
        self,
        name: str,
        *,
        clamp: Any = None,
        patch: Any = None,
        scale: Any = None,
        noise: Any = None,
        detach: bool = False,
        clip_norm: Any = None,
        of: str | None = None,
        steps: Any = None,
        rows: Any = None,
        units: Any = None,
        layer: Module | str | None = None,
        seed: int = 0,
    ):
        if not isinstance(name, str) or not name:
            raise FlowError(f"intervene: name is that of a tap, such as 'h'; got {name!r}.")
        self.name, self.who = name, f"intervene({name!r})"
        given = {
            "clamp": clamp, "patch": patch, "scale": scale, "noise": noise,
            "detach": True if detach else None, "clip_norm": clip_norm,
        }  # fmt: skip
        hows = [how for how, value in given.items() if value is not None]
        if len(hows) != 1:
            raise FlowError(
                f"{self.who}: say one thing that is done, {', '.join(given)}; got "
                f"{' and '.join(hows) or 'none'}. Enter several blocks for several."
            )
        self.edit = Edit(hows[0], _of(self.who, hows[0], of))
        self.numbers = edits.checked(self.who, *self.edit, given[hows[0]])
        self.chosen = edits.Chosen(*(
            edits.as_indices(f"{self.who}: {what}", value)
            for what, value in (("steps", steps), ("rows", rows), ("units", units))
        ))  # fmt: skip
        if layer is not None and not isinstance(layer, (str, Module)):
            raise FlowError(f"{self.who}: layer is a Module or a path, got {layer!r}.")
        if isinstance(layer, str) and "#" in layer:
            raise FlowError(
                f"{self.who}: {layer!r} is one call of a layer; enter the block around that call."
            )
        self.layer = layer
        self._modules = list(layer.modules()) if isinstance(layer, Module) else []
        self._rng = np.random.default_rng(seed)
        self._kept: dict[Any, tuple[tuple[Tensor, ...], Array]] = {}
        self.met: dict[str, list[str]] = {}
        self.heard: dict[str, list[str]] = {}  # all taps, for the error

    # -- the block

    def switches(self) -> dict[str, Any]:
        before = switches.intervening
        if before is not None and not isinstance(before, _Hand):
            raise FlowError(f"{self.who}: entered in the step of a scan; enter it around the scan.")
        if switches.jit is not None:
            raise JitError(
                f"{self.who}: entered in a jitted step, whose replay would keep it; call the "
                f"function itself, step.function(...), inside of the block."
            )
        active = () if before is None else before.active
        if self in active:
            raise FlowError(f"{self.who}: is entered already.")
        return {"intervening": _Hand((*active, self))}

    def __enter__(self) -> intervene:
        super().__enter__()
        self.met, self.heard = {}, {}
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        if exc[:1] != (None,) or self.met:
            return
        place = "" if self.layer is None else f" in {_called(self.layer)}"
        there = "; ".join(f"{p or 'the network'}: {', '.join(t)}" for p, t in self.heard.items())
        raise FlowError(
            f"{self.who}: nothing was tapped by that name{place}. Tapped inside the block was "
            f"{there or 'nothing'}.{_unknown(self.layer)}"
        )

    # -- where it acts

    def chooses(self, place: Place, path: str, cell: Any) -> bool:
        """Whether it is of this tap of what runs at `path`; cell: of a scan."""
        label = named(place)
        self.heard.setdefault(path, [])
        if label not in self.heard[path]:
            self.heard[path].append(label)
        if self.name not in (bare(label), place[1], label) or not self._is_at(path, cell):
            return False
        self.met.setdefault(path, [])
        if label not in self.met[path]:
            self.met[path].append(label)
        return True

    def _is_at(self, path: str, cell: Any) -> bool:
        if self.layer is None:
            return True
        if isinstance(self.layer, str):
            return path == self.layer or path.startswith(f"{self.layer}/")
        return any(module is cell for module in self._modules)

    def operands(
        self, shape: tuple[int, ...], dtype: Any, where: str
    ) -> tuple[tuple[Tensor, ...], Array]:
        """Its operands for a tap of `shape` (T, B, ...), and the steps that it changes."""
        if dtype.kind != "f":
            raise FlowError(f"{where} is {dtype}{list(shape[1:])}; floats can be changed.")
        key = shape, dtype
        if key in self._kept:
            return self._kept[key]
        made, touched = edits.operands(
            self.edit.how, self.numbers, self.chosen, shape, dtype, self._rng, where
        )
        found = tuple(wrap(a, None, False) for a in made), touched
        if self.edit.how != "noise":
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = found
        return found

    def at(self, t: int | None, v: Tensor, where: str) -> list[Tensor] | None:
        """Its operands at one step of a loop by hand; None where it does nothing."""
        k, count = t or 0, None
        if self.chosen.steps is not None:
            if t is None:
                raise FlowError(
                    f"{where} was tapped outside of a scope `t=...`, so its step is not known; "
                    f"write `with mg.scope(f't={{t}}'):` around each step."
                )
            place = edits.place_of(f"{where}: steps", self.chosen.steps, t)
            if place is None:
                return None
            k, count = place
        if v.ndim == 0 or v.dtype.kind != "f":
            raise FlowError(f"{where} is {describe(v)}; floats (B, ...) can be changed.")
        numbers = tuple(edits.of_step(where, x, k, count, v.ndim) for x in self.numbers)
        made, _ = edits.operands(
            self.edit.how, numbers, self.chosen._replace(steps=None), (1, *v.shape), v.dtype,
            self._rng, where,
        )  # fmt: skip
        return [as_tensor(a[0]) for a in made]


def _of(who: str, how: str, of: str | None) -> str:
    if of not in (None, "value", "gradient"):
        raise FlowError(f"{who}: of must be 'value' or 'gradient', got {of!r}.")
    if how == "clip_norm" and of == "value":
        raise FlowError(f"{who}: clip_norm is of gradients; clamp or scale the value.")
    if how == "patch" and of == "gradient":
        raise FlowError(
            f"{who}: a gradient is not patched, as none may arrive; scale, clamp or detach it, or "
            f"add noise."
        )
    return "gradient" if how in ("clip_norm", "detach") else of or "value"


def _called(layer: Module | str) -> str:
    return repr(layer) if isinstance(layer, str) else f"this {type(layer).__name__}"


def _unknown(layer: Module | str | None) -> str:
    if not isinstance(layer, Module):
        return ""
    return (
        " Of a loop by hand it is not known which module runs, nor of a scan whose cell is a "
        "function; name the path."
    )


class _Hand:
    """All interventions of the blocks that are open, the first that was entered first."""

    def __init__(self, active: tuple[intervene, ...]):
        self.active = active
        # of loops by hand: the step of the last tap of a name, what it was given and what it gave
        self._last: dict[str, tuple[int | None, Any, Any]] = {}

    def around(self, cell: Any, init: Any, xs: Any, mode: str) -> tuple[Any, Any, str]:
        """A scan, with the interventions as part of its step."""
        known = unwrapped(cell)
        if any(isinstance(kind, tuple) for kind in known.kinds):  # the scan of a window, say
            return cell, xs, mode
        path = _path(switches.scope)
        steps = leaves(xs)[0].shape[0]
        plan, operands = [], []
        touched: dict[str, Array] = {}
        for seen in look(cell, init, xs):
            chosen = [i for i in self.active if i.chooses(seen.place, path, known.own)]
            if not chosen:
                continue
            label = named(seen.place)
            where = f"{chosen[0].who}: {label} of {path or 'the scan'}"
            self._check(seen, leaves(xs)[0].shape[1], label, where)
            given = [i.operands((steps, *seen.shape), seen.dtype, where) for i in chosen]
            plan.append((seen.place, tuple(i.edit for i in chosen)))
            operands.append(tuple(ts for ts, _ in given))
            touched[label] = np.any([at for _, at in given], axis=0)
        if not plan:
            return cell, xs, mode
        return Intervened(cell, tuple(plan), touched), (xs, tuple(operands)), mode

    @staticmethod
    def _check(seen: Seen, rows: int, label: str, where: str) -> None:
        if not seen.shape or seen.shape[0] != rows:
            raise FlowError(
                f"{where} is {seen.dtype}{list(seen.shape)}, without a row (axis 0) for each of "
                f"the batch."
            )
        if not seen.used:
            raise FlowError(
                f"{where}: the step does not use what the tap returns; write "
                f"`v = mg.tap({seen.place[1]!r}, v)`, and go on with v."
            )

    def tap(self, name: str, tensor: Any) -> Any:
        """A tap outside of any scan."""
        around, t, below = at_step(switches.scope)
        at, given, gave = self._last.get(name, (-1, None, None))
        if at == t and (tensor is given or tensor is gave):  # once more, by a cell around this one
            return gave
        path = _path(around)
        chosen = []
        for i in self.active:
            if i.chooses((below, name), path, None):
                where = f"{i.who}: {join(below, name)} of {path or 'the loop'}"
                if (operands := i.at(t, tensor, where)) is not None:
                    chosen.append((i.edit, operands))
        result = changed(name, tensor, chosen)
        self._last[name] = t, tensor, result
        return result


def _path(scope: str) -> str:
    """Where a layer runs, in words: its scope without the steps of loops around it."""
    return "/".join(p for p in scope.split("/") if not p.startswith(STEP))
