"""What PyTorch, Keras and NumPy call things, and what they are called here.

A name that is not ours gives an error that says which is, and so does torch's `dim=`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from .errors import suggest

TENSOR = {
    "view": "t.reshape(shape)", "view_as": "t.reshape(other.shape)", "ravel": "t.flatten()",
    "permute": "t.transpose(axes)", "moveaxis": "t.transpose(axes)", "t": "t.T",
    "mT": "t.swapaxes(-1, -2)", "unsqueeze": "t.expand_dims(axis)",
    "expand": "t.broadcast_to(shape)", "expand_as": "t.broadcast_to(other.shape)",
    "contiguous": "t: the memory is no matter here", "chunk": "t.split(sections, axis)",
    "unbind": "list(t)", "narrow": "t[start:stop]", "select": "mg.take(t, index, axis)",
    "index_select": "mg.take(t, indices, axis)", "gather": "mg.take_along_axis(t, indices, axis)",
    "masked_select": "t[mask]", "masked_fill": "mg.where(mask, value, t)",
    "repeat_interleave": "t.repeat(n, axis=axis)", "dim": "t.ndim", "numel": "t.size",
    "mm": "a @ b", "bmm": "a @ b", "mv": "a @ b", "mul": "a * b", "sub": "a - b", "div": "a / b",
    "neg": "-t", "pow": "t ** p", "eq": "a == b", "ne": "a != b", "lt": "a < b", "le": "a <= b",
    "gt": "a > b", "ge": "a >= b", "clamp": "t.clip(low, high)", "reciprocal": "1.0 / t",
    "rsqrt": "1.0 / t.sqrt()", "amax": "t.max(axis)", "amin": "t.min(axis)", "isnan": "t != t",
    "to": "t.astype(dtype)", "type": "t.astype(dtype)", "float": "t.astype(np.float32)",
    "double": "t.astype(np.float64)", "long": "t.astype(np.int64)", "int": "t.astype(np.int32)",
    "bool": "t.astype(bool)", "cpu": "t: all is in main memory", "cuda": "t: there are no devices",
    "device": "t: there are no devices", "topk": "np.argsort(t.numpy())",
    "sort": "np.sort(t.numpy())", "argsort": "np.argsort(t.numpy())", "detach_": "t.detach()",
    "zero_": "t.data[...] = 0.0", "fill_": "t.data[...] = value", "copy_": "t.data[...] = values",
    "add_": "t.data += values", "sub_": "t.data -= values", "mul_": "t.data *= values",
    "new_zeros": "mg.tensor(np.zeros(shape), t.dtype)", "multinomial": "mg.nn.sample(logits)",
    "new_ones": "mg.tensor(np.ones(shape), t.dtype)",
}  # fmt: skip

PACKAGE = {
    "cat": "mg.concatenate(arrays, axis)", "concat": "mg.concatenate(arrays, axis)",
    "hstack": "mg.concatenate(arrays, -1)", "vstack": "mg.concatenate(arrays, 0)",
    "view": "mg.reshape(x, shape)", "ravel": "mg.flatten(x)", "numel": "x.size",
    "permute": "mg.transpose(x, axes)", "moveaxis": "mg.transpose(x, axes)",
    "unsqueeze": "mg.expand_dims(x, axis)", "chunk": "mg.split(x, sections, axis)",
    "mm": "mg.matmul(a, b)", "bmm": "mg.matmul(a, b)", "tensordot": "mg.einsum(subscripts, a, b)",
    "mul": "mg.multiply(a, b)", "div": "mg.divide(a, b)", "sub": "mg.subtract(a, b)",
    "neg": "mg.negative(x)", "absolute": "mg.abs(x)", "eq": "mg.equal(a, b)",
    "clamp": "mg.clip(x, low, high)", "isnan": "mg.not_equal(x, x)",
    "gather": "mg.take_along_axis(x, indices, axis)", "index_select": "mg.take(x, indices, axis)",
    "masked_fill": "mg.where(mask, value, x)", "repeat_interleave": "mg.repeat(x, n, axis)",
    "amax": "mg.max(x, axis)", "amin": "mg.min(x, axis)",
    "from_numpy": "mg.tensor(array)", "as_tensor": "mg.tensor(data)", "array": "mg.tensor(data)",
    "FloatTensor": "mg.tensor(data, np.float32)", "LongTensor": "mg.tensor(data, np.int64)",
    "float32": "np.float32", "float64": "np.float64", "float": "np.float32", "long": "np.int64",
    "double": "np.float64", "int64": "np.int64", "bool": "bool", "manual_seed": "mg.seed(number)",
    "device": "nothing: there are no devices", "cuda": "nothing: there are no devices",
    "inference_mode": "mg.no_grad()", "autograd": "mg.grad(output, inputs)",
    "compile": "mg.jit(step)", "save": "mg.train.save(path, contents)",
    "load": "mg.train.load(path)", "rand": "mg.tensor(np.random.default_rng().random(shape))",
    "randn": "mg.tensor(np.random.default_rng().normal(size=shape))",
    "randint": "mg.tensor(np.random.default_rng().integers(high, size=shape))",
    "randperm": "np.random.default_rng().permutation(n)", "Variable": "mg.tensor(data)",
    "topk": "np.argsort(x.numpy())", "multinomial": "mg.nn.sample(logits)",
    "is_tensor": "isinstance(x, mg.Tensor)", "functional": "mg.relu: ops are here, losses in mg.nn",
    "set_default_dtype": "dtype= where layers and tensors are made", "utils": "mg.data.Batches",
    "set_default_device": "nothing: there are no devices", "onnx": "mg.interop.export_onnx",
    "accelerator": "nothing: there are no devices", "layers": "mg.nn: the layers are in it",
} | {
    name: f"mg.tensor(np.{name}(...))"
    for name in (
        "arange", "eye", "full", "full_like", "linspace", "ones", "ones_like", "zeros", "zeros_like"
    )
}  # fmt: skip

OPTIM = {
    "lr_scheduler": "mg.optim.StepLR(optimizer, step_size): the schedules are here",
    "LinearLR": "mg.optim.LinearWarmup(optimizer, steps, start)",
    "SequentialLR": "mg.optim.LinearWarmup(optimizer, steps, then=schedule)",
    "MultiStepLR": "mg.optim.LambdaLR(optimizer, function)",
    "MultiplicativeLR": "mg.optim.LambdaLR(optimizer, function)",
    "LRScheduler": "mg.optim.Schedule",
    "LBFGS": "mg.optim.Adam(parameters) with a schedule, as mg.optim.OneCycleLR",
}

NN = {
    "CrossEntropyLoss": "mg.nn.cross_entropy(logits, targets)",
    "NLLLoss": "mg.nn.nll_loss(log_probabilities, targets)",
    "MSELoss": "mg.nn.mse_loss(prediction, target)", "L1Loss": "mg.nn.mae_loss(prediction, target)",
    "l1_loss": "mg.nn.mae_loss(prediction, target)",
    "HuberLoss": "mg.nn.huber_loss(prediction, target)",
    "SmoothL1Loss": "mg.nn.huber_loss(prediction, target)",
    "BCEWithLogitsLoss": "mg.nn.bce_with_logits(logits, target)",
    "binary_cross_entropy_with_logits": "mg.nn.bce_with_logits(logits, target)",
    "BCELoss": "mg.nn.bce_with_logits(logits, target), of what comes before the sigmoid",
    "CTCLoss": "mg.nn.ctc_loss", "functional": "mg.nn: losses are functions in it, ops are mg.relu",
    "ReLU": "mg.relu", "Tanh": "mg.tanh", "Sigmoid": "mg.sigmoid", "GELU": "mg.gelu",
    "Softmax": "mg.softmax", "LogSoftmax": "mg.log_softmax", "Flatten": "mg.flatten",
    "utils": "mg.optim.clip_grad_norm_(parameters, max_norm)",
    "pad_sequence": "mg.data.pad(sequences)", "PackedSequence": "lengths= where a layer is called",
    "Dense": "mg.nn.Linear(inputs, outputs), and the activation as an op behind it",
    "SimpleRNN": "mg.nn.RNN(inputs, units)", "Bidirectional": "mg.nn.LSTM(..., bidirectional=True)",
    "Masking": "mask= where a layer is called", "Identity": "a function: lambda x: x",
    "TimeDistributed": "mg.nn.Linear as it is: it acts on the last axis of (T, B, features)",
    "Input": "nothing: a forward takes what it is called with",
} | dict.fromkeys(
    ("Conv1d", "Conv2d", "BatchNorm1d", "MultiheadAttention", "Transformer"),
    "nothing: the layers here are recurrent ones and what stands around them",
)  # fmt: skip

INIT = {
    "zeros_": "mg.nn.init.constant_(p, 0.0)", "ones_": "mg.nn.init.constant_(p, 1.0)",
    "eye_": "mg.nn.init.identity_(p)", "kaiming_uniform_": "mg.nn.init.he_uniform_(p)",
    "kaiming_normal_": "mg.nn.init.he_normal_(p)",
}  # fmt: skip

DATA = {
    "DataLoader": "mg.data.Batches(xs, ys, batch=32)",
    "Dataset": "mg.data.Batches of any object with rows (x, y)",
    "TensorDataset": "mg.data.Batches(xs, ys)",
    "random_split": "mg.data.split_at_random(n, shares)",
    "pad_sequence": "mg.data.pad(sequences)", "pad_sequences": "mg.data.pad(sequences, left=True)",
    "timeseries_dataset_from_array": "mg.data.forecasting(values, past, ahead)",
}  # fmt: skip

TRAIN = {
    "EarlyStopping": "mg.train.fit(..., validate=function, patience=5)",
    "ModelCheckpoint": "mg.train.fit(..., checkpoint=path)",
    "Trainer": "mg.train.fit(model, ...)",
}

MODULE = {
    "cuda": "nothing: there are no devices", "cpu": "nothing: there are no devices",
    "float": "module.to(np.float32)", "double": "module.to(np.float64)",
    "half": "module.to(np.float32): there is no float16", "children": "module.members()",
    "named_children": "module.members()", "named_modules": "module.modules()",
    "add_module": "module.name = part", "register_buffer": "module.name = array",
    "register_parameter": "module.name = mg.nn.Parameter(data)",
    "requires_grad_": "p.requires_grad_(False) for p in module.parameters()",
    "flatten_parameters": "nothing: there is nothing to flatten",
    "fit": "mg.train.fit(module, loss, batches, optimizer)", "compile": "mg.jit(step)",
    "predict": "module(x) in mg.no_grad()", "evaluate": "your metric of module(x), in mg.no_grad()",
    "get_weights": "module.state_dict()", "set_weights": "module.load_state_dict(state)",
    "save": "mg.train.save(path, module.state_dict())",
    "save_weights": "mg.train.save(path, module.state_dict())",
    "load_weights": "module.load_state_dict(mg.train.load(path))",
}  # fmt: skip

_OPTIONS = {"dim": "axis", "keepdim": "keepdims", "dims": "axis"}


def missing(who: str, name: str, names: Iterable[str], theirs: Mapping[str, str]) -> str:
    """The message for a name that is nowhere: what it is called here, or what is near."""
    if name in theirs:
        return f"{who}: {name!r} is another library's name; write {theirs[name]}."
    return f"{who}: no op or attribute {name!r}; {suggest(name, names)}".rstrip("; ")


def absence(told: str, name: str) -> AttributeError:
    """The error of a message that says what is near. With a name but no object Python, which would
    say it once more, does not look for one.
    """
    return AttributeError(told, name=name)


def of_module(module: Any, name: str) -> AttributeError:
    """The error for an attribute that a Module does not have, or whose property failed."""
    if name in MODULE and not hasattr(type(module), name):
        return absence(missing(type(module).__name__, name, (), MODULE), name)
    try:
        object.__getattribute__(module, name)  # Python's own words; a property's, if it is one
    except AttributeError as error:
        return error
    return AttributeError(name)


def absent(
    who: str,
    names: Iterable[str],
    theirs: Mapping[str, str],
    later: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[str], Any]:
    """A module's `__getattr__`.

    later: the names that are imported when they are first asked for, each with the submodule that
    has it; "" says that the name is a submodule itself.
    """

    def __getattr__(name: str) -> Any:
        if name in later:
            module = import_module(f"{who}.{later[name] or name}")
            found = getattr(module, name) if later[name] else module
            vars(sys.modules[who])[name] = found  # from now on Python finds it by itself
            return found
        if name.startswith("__"):  # a protocol asking around
            raise AttributeError(f"module {who!r} has no attribute {name!r}")
        raise absence(missing(who, name, names, theirs), name)

    return __getattr__


def torch_option(who: str, name: str) -> None:
    """Raises TypeError for an argument that has another name here."""
    if name in _OPTIONS:
        raise TypeError(f"{who}() takes no {name!r}: write {_OPTIONS[name]}=.")
