"""What is kept of the recurrent modules of a PyTorch model, and of each of their calls."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from .graph_torch import Way

OWN = "own"  # the kind of a cell with a twin of the user's
CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
Place = tuple[int, int | None]  # (leaf, step of a loop)


@dataclass(eq=False)
class Layer:
    """One recurrent module of a model: its name and what it was made with, not the module itself.

    kind: "RNN", "LSTM", "GRU". cell: whether it is one step. joined: whether each step has read the
    very state that the one before gave; not where the loop does something to it in between.
    """

    name: str
    kind: str
    cell: bool
    options: dict[str, Any]
    joined: bool = True
    twin: Any = None


@dataclass(eq=False)
class Call:
    """One call of a layer, or a loop of calls of a cell; tensors of PyTorch.

    xs: what was read, one tensor, or one for each step. init: the leaves of the first state, None
    where none was given. gradients: (leaf, step) -> dL/d(what it gave): leaf 0 is the output, 1, 2
    are those of the last state; of a loop 1, 2 are those of the state after a step, all that came
    there together. ways: (0, step) or (leaf, None) -> where that part of the input came from.
    packed: of a PackedSequence, how its rows lie. drawn: the generator's state before the masks
    between layers were drawn. states: the last state, or that after each step of a loop, each leaf
    with the version that it had, and the node that made it. open: whether those of a loop are still
    the tensors of the graph, which keep their .grad. marked: how many are marked on the graph.
    """

    layer: Layer
    weights: dict[str, Any]
    wants: bool
    xs: list[Any]
    init: list[Any] | None
    packed: tuple[Any, ...] | None = None
    drawn: Any = None
    states: list[list[tuple[Any, int, Any]]] = field(default_factory=list)
    gradients: dict[Place, Any] = field(default_factory=dict)
    ways: dict[Place, Way] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)  # of the weights of a cell
    open: bool = False
    marked: int = 0
    step_bytes: int = 0  # of a loop
    lowered: str = ""  # what autocast computed in
    tag: Any = None  # what is on its states

    def __post_init__(self) -> None:
        self.ref = weakref.ref(self)  # what is written on the graph does not hold it

    @property
    def nbytes(self) -> int:
        held = self.xs[:1] + (self.init or []) + list(self.gradients.values())
        if self.step_bytes:  # a loop
            held = self.init or []
        ways = sum(way.nbytes for way in self.ways.values())
        return sum(map(nbytes, held)) + ways + self.step_bytes * len(self.states)

    def state_after(self, step: int) -> list[Any] | None:
        """The leaves of a state; None where somebody has written into them since."""
        parts = self.states[step]
        return [s for s, *_ in parts] if all(version(s) == n for s, n, _ in parts) else None


def made_with(torch: Any, module: Any) -> tuple[str, bool, dict[str, Any]]:
    """(kind, whether it is a cell, the options of minigrad's layer or cell that is the same)."""
    options = {name: getattr(module, name) for name in ("input_size", "hidden_size", "bias")}
    kinds = {"RNN": torch.nn.RNNCell, "LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}
    cell = isinstance(module, torch.nn.RNNCellBase)
    if cell:
        kind = next((kind for kind, known in kinds.items() if isinstance(module, known)), "")
        nonlinearity = getattr(module, "nonlinearity", "")
    else:
        kind, _, nonlinearity = module.mode.partition("_")
        names = ("num_layers", "batch_first", "dropout", "bidirectional")
        options |= {name: getattr(module, name) for name in names}
        options |= {"proj_size": module.proj_size} if module.proj_size else {}
    if kind == "RNN":
        options["nonlinearity"] = nonlinearity.lower()
    return kind, cell, options


def bound(input: Any, hx: Any = None) -> tuple[Any, Any]:
    """The arguments of a recurrent module, by the names that torch.nn gives them."""
    return input, hx


def weights_of(layer: Layer, cell: Any) -> list[tuple[str, Any]]:
    """The weights of a cell by name."""
    if layer.kind == OWN:
        return list(cell.named_parameters())
    # parametrised weights are computed when they are read: not to be drawn or iterated once more
    computed: Any = getattr(cell, "parametrizations", None)
    training = computed is not None and computed.training
    if training:
        computed.eval()
    found = [(name, getattr(cell, name, None)) for name in CELL_WEIGHTS]
    if training:
        computed.train()
    return [(name, p) for name, p in found if p is not None]


def version(t: Any) -> int:
    """How often a tensor was edited in place; 0 where torch does not count, in inference mode."""
    return 0 if t.is_inference() else t._version


def versions(cell: Any) -> list[int]:
    """How often each weight of a cell was edited."""
    own = cell.parameters() if cell._modules else cell._parameters.values()
    return [version(p) for p in own if p is not None]


def parts(state: Any) -> list[Any]:
    """The leaves of a state, one tensor or several."""
    if state is None:
        return []
    return list(state) if isinstance(state, (tuple, list)) else [state]


def copied(t: Any) -> Any:
    """Its values by themselves."""
    return t.detach().clone() if t.requires_grad else t.clone()


def nbytes(t: Any) -> int:
    """Of a tensor."""
    return int(t.element_size() * t.numel())


def path_of(prefix: str, path: str) -> str:
    """`blocks.0.rnn` as minigrad's paths are written: `blocks.0/rnn`.

    >>> path_of("", "blocks.0.rnn"), path_of("encoder", "_orig_mod.rnn")
    ('blocks.0/rnn', 'encoder/rnn')
    """
    found = [prefix] if prefix else []
    for part in path.split(".") if path else ():
        if part.isdecimal() and found:
            found[-1] += f".{part}"
        elif part != "_orig_mod":  # of torch.compile
            found.append(part)
    return "/".join(found)
