"""What a Monitor watches: the parameters of a model of minigrad, or of PyTorch where it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..errors import FlowError
from ..interop.pytorch import as_array
from ..nn.cells import GRUCell, LSTMCell
from ..nn.module import Module
from ..optim.clip import clip_grad_norm_
from .measuring import STACKED, Gates, gates_of
from .probes import record

Array = np.ndarray


class Watched(NamedTuple):
    """parameters: by name, with shape, numpy() and grad. clip: (parameters, max_norm, options) ->
    the norm before. recorder: (states, thresholds) -> what records the layers' gradients. gates:
    name of a parameter -> the gates whose weights are stacked in it.
    """

    parameters: dict[str, Any]
    clip: Callable[..., float]
    recorder: Callable[..., Any]
    gates: dict[str, Gates]


class TorchParameter:
    """A parameter of PyTorch, read as one of minigrad."""

    def __init__(self, name: str, tensor: Any):
        self.name, self.tensor = name, tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def grad(self) -> TorchParameter | None:
        return None if self.tensor.grad is None else TorchParameter(self.name, self.tensor.grad)

    def numpy(self) -> Array:
        return as_array(self.name, self.tensor)


def watch(module: Any) -> Watched:
    """Raises FlowError for what is no model."""
    if isinstance(module, Module):
        named = dict(module.named_parameters())
        return Watched(named, clip_grad_norm_, record, gates_of(module))
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(module, torch.nn.Module):
        raise FlowError(
            f"Monitor: expected a Module to watch, got {type(module).__name__}; pass the model."
        )

    def clip(parameters: Iterable[Any], max_norm: float, **options: Any) -> float:
        chosen = [getattr(p, "tensor", p) for p in parameters]
        return float(torch.nn.utils.clip_grad_norm_(chosen, max_norm, **options))

    def recorder(states: Any, thresholds: Any) -> Any:
        from .recorded_torch import record_torch

        return record_torch(module, states=states, thresholds=thresholds)

    parameters = {name: TorchParameter(name, p) for name, p in module.named_parameters()}
    return Watched(parameters, clip, recorder, _torch_gates(torch, module))


def _torch_gates(torch: Any, module: Any) -> dict[str, Gates]:
    """They lie as in minigrad's layers, whose names and order of gates are torch.nn's."""
    kinds = {"LSTM": LSTMCell.gates, "GRU": GRUCell.gates}
    found = {}
    for path, part in module.named_modules():
        is_cell = isinstance(part, (torch.nn.LSTMCell, torch.nn.GRUCell))
        kind = part.mode if isinstance(part, torch.nn.RNNBase) else ""
        if is_cell:
            kind = "LSTM" if isinstance(part, torch.nn.LSTMCell) else "GRU"
        for name, p in part.named_parameters(recurse=False):
            if kind in kinds and p.numel() and name.startswith(STACKED):
                found[f"{path}.{name}" if path else name] = tuple(kinds[kind])
    return found
