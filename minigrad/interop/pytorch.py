"""PyTorch: a `state_dict` in and out, without importing torch.

    load_torch(model, torch_model.state_dict())
    load_torch(model, "last.ckpt", prefix="model.")
    torch_model.load_state_dict(to_torch_state_dict(model, tensors=True))

minigrad's layers have torch.nn's names and shapes; what is done here is to make sure that the layer
computes what torch's does, and to refuse what torch.nn has no layer for. torch_files.py reads the
files, torch_names.py takes off what wraps a model in torch.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from .. import nn
from ..errors import StateDictError
from ..nn.module import LoadReport, Module, Parameter
from ..untrusted import cause
from .base import Array, ConversionError, as_dtype, check_alike, named, need, walk
from .gates import flip_update, kind_of
from .torch_files import read_weights
from .torch_names import folded, refuse_parts, renaming, unwrapped
from .torch_tree import entry_of, state_dicts

CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)
SAME = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.Dropout, nn.Sequential, *CELLS)
GATED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


State = Mapping[str, Any] | str | os.PathLike[str]


def from_torch_state_dict(
    state: State,
    prefix: str = "",
    rename: Mapping[str, str] | None = None,
    entry: str | None = None,
) -> dict[str, Array]:
    """name -> array, from anything with .items() that holds torch Tensors or arrays, or a file.

    state: also the path of a .pt, .pth, .bin or .ckpt file (see `read_torch_file`), of safetensors,
        or of the .index.json of a model in parts.
    prefix: only names below it are taken, without it: "model." of a Lightning checkpoint.
    rename: torch's name of a module -> minigrad's, {"encoder.rnn": "lstm"}; the longest that fits
        is taken, parts of a name are not.
    entry: where in a checkpoint the weights are, "state_dict". It can be left out if they are in
        one place only.
    The names are those inside DataParallel ("module.") and torch.compile; weight_norm,
    spectral_norm and pruning are folded into the weight. float16 and bfloat16 are widened to
    float32, which is exact.
    Raises ConversionError for values that are no arrays and for two names that become one,
    FormatError for other files.

    >>> from_torch_state_dict({"net.rnn.bias": [1.0]}, prefix="net.", rename={"rnn": "lstm"})
    {'lstm.bias': array([1.])}
    """
    return _arrays("from_torch_state_dict", state, prefix, rename, entry)


def load_torch(
    module: Module,
    state: State,
    prefix: str = "",
    rename: Mapping[str, str] | None = None,
    strict: bool = True,
    entry: str | None = None,
) -> LoadReport:
    """Loads torch's weights into a minigrad module, so that both compute the same function.

    state, prefix, rename, entry: as in `from_torch_state_dict`. strict: as in
    `Module.load_state_dict`. A GRU with update="write" gets the rows of its update gate negated.
    Raises ConversionError for modules that torch.nn lacks or computes otherwise, and where a value
    would be rounded; StateDictError for names and shapes that do not fit, naming the prefix or the
    renaming that would. Nothing is written then.
    """
    dtypes = {name: p.dtype for name, p in module.all_parameters()}
    arrays = _arrays("load_torch", state, prefix, rename, entry, dtypes)
    refuse_parts(arrays, dtypes)
    for path, part in walk(module):
        refuse_what_torch_lacks(path, part)
    for name in [name for name in arrays if name in dtypes]:
        arrays[name] = as_dtype(f"load_torch: {name}", arrays[name], dtypes[name])
    for name in _writing(module):
        if name in arrays and len(arrays[name]) % 3 == 0:  # else load_state_dict names the shape
            arrays[name] = flip_update(arrays[name])
    try:
        return module.load_state_dict(arrays, strict)
    except StateDictError as error:
        shapes = {name: p.shape for name, p in module.all_parameters()}
        names = {} if rename or "prefix=" in str(error) else renaming(shapes, arrays)
        if not names:
            raise
        raise StateDictError(
            f"{error} Of the same parameters and shapes: rename={names}."
        ) from None


def _arrays(
    who: str,
    state: State,
    prefix: str,
    rename: Mapping[str, str] | None,
    entry: str | None,
    own: Collection[str] = (),
) -> dict[str, Array]:
    """The arrays below the prefix; own: the names of the module that they are for."""
    given = _weights(who, state, entry)
    plain = unwrapped(given, [*own, *(rename or {})])
    if prefix and not any(name.startswith(prefix) for name in plain):
        plain = {str(name): value for name, value in given.items()}  # prefix="module.rnn."
    found: dict[str, Array] = {}
    for name, value in plain.items():
        if not name.startswith(prefix):
            continue
        new = _renamed(name[len(prefix) :], rename or {})
        if new in found:
            raise ConversionError(f"{who}: two entries would be called {new!r}.")
        found[new] = as_array(name, value)
    if prefix and not found:
        raise ConversionError(f"{who}: no name begins with {prefix!r}.")
    return folded(found, own)


def _weights(who: str, state: State, entry: str | None) -> Mapping[str, Any]:
    """The mapping of names to tensors in a state_dict, a checkpoint or a file."""
    found: Any = state
    if isinstance(state, (str, os.PathLike)):
        found = read_weights(state, entry)
    elif entry:
        try:
            found = entry_of(state, entry)
        except KeyError:
            raise ConversionError(
                f"{who}: there is no entry {entry!r}; there are "
                f"{', '.join(map(repr, list(state)[:5]))}."
            ) from None
    if not hasattr(found, "items"):
        raise ConversionError(
            f"{who}: expected a state_dict or the path of a file, got {type(found).__name__}."
        )
    inside = dict(state_dicts(found))
    if len(inside) > 1:
        raise ConversionError(
            f"{who}: there are weights in {', '.join(map(repr, inside))}; say which are meant: "
            f"entry={next(iter(inside))!r}."
        )
    mapping: Mapping[str, Any] = next(iter(inside.values()), found)
    return mapping


def to_torch_state_dict(
    module: Module,
    prefix: str = "",
    rename: Mapping[str, str] | None = None,
    tensors: bool = False,
) -> dict[str, Any]:
    """The state_dict under torch's names: arrays, or with tensors=True torch Tensors.

    prefix is put before every name. rename: minigrad's name of a module -> torch's.
    Raises ConversionError for what torch.nn cannot compute: a GRU with reset_after=False, a merge
    other than "concat", the cells of other papers.

    >>> {name: w.shape for name, w in to_torch_state_dict(nn.GRU(3, 2, bias=False)).items()}
    {'weight_ih_l0': (6, 3), 'weight_hh_l0': (6, 2)}
    """
    for path, part in walk(module):
        refuse_what_torch_lacks(path, part)
    arrays = module.state_dict()
    for name in _writing(module):
        arrays[name] = flip_update(arrays[name])
    found: dict[str, Any] = {}
    for name, w in arrays.items():
        new = prefix + _renamed(name, rename or {})
        if new in found:
            raise ConversionError(f"to_torch_state_dict: two entries would be called {new!r}.")
        found[new] = w
    if tensors:
        torch = need("torch", "bench", "torch Tensors")
        return {name: torch.from_numpy(w) for name, w in found.items()}
    return found


def torch_arguments(layer: Module) -> tuple[str, dict[str, Any]]:
    """The class in torch.nn that computes the same, and its arguments.

    >>> torch_arguments(nn.LSTM(3, 5, bidirectional=True))[1]["bidirectional"]
    True
    """
    refuse_what_torch_lacks("", layer)
    if isinstance(layer, nn.Recurrent):
        cell = layer.cells[0]
        if layer.weight_dropout or any(getattr(c, "recurrent_dropout", 0) for c in layer.cells):
            raise ConversionError(
                f"torch_arguments: {type(layer).__name__} drops out inside of the recurrence, as "
                f"no layer of torch.nn does; its weights go there by to_torch_state_dict."
            )
        arguments = dict(input_size=layer.input_size, hidden_size=cell.hidden_size)
        arguments |= {name: getattr(layer, name) for name in ("num_layers", "batch_first")}
        arguments |= dict(dropout=layer.dropout, bidirectional=layer.bidirectional)
        arguments |= _cell_arguments(cell)
        return kind_of(cell) or "", arguments
    if isinstance(layer, CELLS):
        sizes = dict(input_size=layer.input_size, hidden_size=layer.hidden_size)
        return type(layer).__name__, sizes | _cell_arguments(layer)
    if isinstance(layer, nn.Linear):
        sizes = dict(in_features=layer.in_features, out_features=layer.out_features)
        return "Linear", sizes | dict(bias=layer.bias is not None)
    if isinstance(layer, nn.Embedding):
        names = ("num_embeddings", "embedding_dim", "padding_idx")
        return "Embedding", {name: getattr(layer, name) for name in names}
    raise ConversionError(
        f"torch_arguments: expected a recurrent layer, a cell, Linear or Embedding, got "
        f"{type(layer).__name__}."
    )


def _cell_arguments(cell: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(bias=cell.bias_ih is not None)
    if kind_of(cell) == "RNN":
        found["nonlinearity"] = cell.nonlinearity
    if kind_of(cell) == "LSTM" and cell.weight_hr is not None:
        found["proj_size"] = cell.output_size
    return found


def refuse_what_torch_lacks(path: str, part: Module) -> None:
    """Raises ConversionError for a module of minigrad that torch.nn has no equal of.

    A class of your own is carried name by name: that torch has its equal is for you to see to.
    """
    what = named(path, part)
    if isinstance(part, nn.Recurrent):
        if part.bidirectional and part.merge != "concat":
            raise ConversionError(
                f"{what}: merge={part.merge!r} is minigrad's; torch.nn only concatenates the "
                f"directions. Make the layer merge='concat' and merge its halves afterwards."
            )
        for suffix, cell in part.members():
            _refuse_cell(f"{what} {suffix}", cell)
        check_alike(what, part)
        if len({cell.nonlinearity for cell in part.cells if hasattr(cell, "nonlinearity")}) > 1:
            raise ConversionError(f"{what}: torch.nn's RNN has one nonlinearity for all layers.")
        return
    if isinstance(part, nn.Cell):
        _refuse_cell(what, part)
        if getattr(part, "weight_hr", None) is not None:
            raise ConversionError(
                f"{what}: torch.nn.LSTMCell has no proj_size; torch.nn.LSTM has, so use nn.LSTM."
            )
    elif type(part) not in SAME and type(part).__module__.startswith("minigrad."):
        own = [name for name, member in part.members() if isinstance(member, Parameter)]
        if own:
            raise ConversionError(f"{what}: torch.nn has no {type(part).__name__}.")


def _refuse_cell(what: str, cell: Any) -> None:
    if kind_of(cell) is None:
        raise ConversionError(
            f"{what}: torch.nn has no {type(cell).__name__}; it has RNN, LSTM and GRU."
        )
    if kind_of(cell) == "GRU" and not cell.reset_after:
        raise ConversionError(
            f"{what}: torch.nn's GRU resets after the product with W_hn and this one before "
            f"(reset_after=False); the two cannot be converted into each other."
        )


def _writing(module: Module) -> Iterator[str]:
    """The names of all parameters of GRUs with update="write"."""
    for path, part in walk(module):
        dot = f"{path}." if path else ""
        members = part.members() if isinstance(part, nn.Recurrent) else [("", part)]
        for suffix, cell in members:
            if isinstance(cell, nn.GRUCell) and cell.update == "write":
                for name in GATED:
                    if getattr(cell, name) is not None:
                        yield f"{dot}{name}{f'_{suffix}' if suffix else ''}"


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    fits = [old for old in rename if name == old or name.startswith(f"{old}.") or not old]
    if not fits:
        return name
    old = max(fits, key=len)
    rest = name[len(old) :].removeprefix(".")
    return ".".join(part for part in (rename[old], rest) if part)


def as_array(name: str, value: Any) -> Array:
    """A NumPy array of a torch Tensor, a minigrad Tensor or an array."""
    try:
        if hasattr(value, "detach"):
            value = value.detach()
        if hasattr(value, "cpu"):
            value = value.cpu()
        if str(getattr(value, "dtype", "")) in ("torch.bfloat16", "torch.float16"):
            value = value.float()  # NumPy has no bfloat16
        array = np.array(value.numpy() if hasattr(value, "numpy") else value)
    except Exception as error:  # sparse, quantised and meta Tensors; lists of lists of all lengths
        raise ConversionError(f"state_dict: {name!r} is no array ({cause(error)}).") from error
    if array.dtype.kind not in "fiub":
        inside = f" If the weights are in it, hand over state[{name!r}]."
        raise ConversionError(
            f"state_dict: {name!r} is {type(value).__name__}, no array."
            f"{inside if isinstance(value, Mapping) else ''}"
        )
    return array.astype(np.float32) if array.dtype == np.float16 else array
