"""Rebuild the stored values of torch.nn and torch.optim that the tests compare with.

    python tools/golden_torch.py            write tests/golden/*.npz
    python tools/golden_torch.py --check    recompute and compare, write nothing

Needs torch (`pip install torch==2.13.0` from the CPU index); the tests themselves never import it.
Every case has a seed of its own, so adding one case leaves the others as they are. All values are
float64. A file holds one flat vector of values and a JSON index (case names, options, and the
shapes of the arrays in order): thousands of small arrays would cost more in zip headers than in
numbers. `tests/golden/store.py` reads them.
"""

import argparse
import itertools
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"

# (T, B, I, H): ones and odd numbers, where layouts and off-by-one mistakes show.
SIZES = [(5, 3, 2, 3), (4, 1, 3, 2), (1, 2, 1, 3), (3, 4, 2, 1), (6, 5, 1, 2)]


def seed_of(name):
    return zlib.crc32(name.encode())


def numpy_of(tensor):
    return tensor.detach().numpy().astype(np.float64)


def case(name, options, arrays):
    return {"name": name, "options": options, "arrays": arrays}


def with_gradients(inputs, outputs):
    """Arrays of a case: inputs, outputs, random loss weights, d loss / d inputs.

    loss = sum over outputs of sum(weight * output), so every output carries a gradient.
    """
    weights = {name: torch.randn_like(y) for name, y in outputs.items()}
    loss = sum((weights[name] * y).sum() for name, y in outputs.items())
    gradients = torch.autograd.grad(loss, list(inputs.values()))
    arrays = {name: numpy_of(x) for name, x in inputs.items()}
    arrays |= {name: numpy_of(y) for name, y in outputs.items()}
    arrays |= {f"loss_weight.{name}": numpy_of(w) for name, w in weights.items()}
    arrays |= {f"grad.{name}": numpy_of(g) for name, g in zip(inputs, gradients, strict=True)}
    return arrays


# ---------------------------------------------------------------------------- recurrent layers

LAYOUTS = ("time_major", "batch_first", "unbatched", "lengths", "lengths_batch_first")
KINDS = {
    "rnn_tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "lstm_proj": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
}


def recurrent_cases():
    for kind in KINDS:
        grid = itertools.product((1, 2), (False, True), LAYOUTS)
        for i, (num_layers, bidirectional, layout) in enumerate(grid):
            # Two cases a grid point: bias and initial state each once on and once off, and in
            # every combination over the grid.
            for bias, initial in [(True, i % 2 == 0), (False, i % 2 == 1)]:
                yield recurrent_case(kind, num_layers, bidirectional, layout, bias, initial)


def recurrent_case(kind, num_layers, bidirectional, layout, bias, initial):
    name = f"{kind}-l{num_layers}-{'bi' if bidirectional else 'uni'}-{layout}"
    name += ("-bias" if bias else "-nobias") + ("-state" if initial else "-nostate")
    seed = seed_of(name)
    torch.manual_seed(seed)
    time, batch, features, hidden = SIZES[seed % len(SIZES)]
    layer_type, extra = KINDS[kind]
    options = dict(num_layers=num_layers, bidirectional=bidirectional, bias=bias, **extra)
    options["batch_first"] = "batch_first" in layout
    if kind == "lstm_proj":
        hidden = max(hidden, 2)  # torch wants proj_size < hidden_size
        options["proj_size"] = 1 + seed // 7 % (hidden - 1)
    layer = layer_type(features, hidden, dtype=torch.float64, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=0.7)

    shape = [time, features] if layout == "unbatched" else [time, batch, features]
    if options["batch_first"]:
        shape[0], shape[1] = shape[1], shape[0]
    inputs = {"x": torch.randn(shape, dtype=torch.float64, requires_grad=True)}
    states = {"h_0": options.get("proj_size", hidden)}
    if kind.startswith("lstm"):
        states["c_0"] = hidden
    if initial:
        rows = [] if layout == "unbatched" else [batch]
        for state, size in states.items():
            shape = [num_layers * (1 + bidirectional), *rows, size]
            inputs[state] = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    state = tuple(inputs[s] for s in states) if initial else None
    if initial and not kind.startswith("lstm"):
        (state,) = state

    lengths = None
    if layout.startswith("lengths"):
        lengths = torch.randint(1, time + 1, (batch,))
        packed = pack_padded_sequence(
            inputs["x"], lengths, batch_first=options["batch_first"], enforce_sorted=False
        )
        output, final = layer(packed, state)
        output, _ = pad_packed_sequence(
            output, batch_first=options["batch_first"], total_length=time
        )
        lengths = lengths.tolist()
    else:
        output, final = layer(inputs["x"], state)

    outputs = {"output": output}
    outputs |= dict(zip(("h_n", "c_n"), final if isinstance(final, tuple) else (final,)))
    inputs |= dict(layer.named_parameters())
    options = dict(options, kind=kind, input_size=features, hidden_size=hidden, lengths=lengths)
    return case(name, options, with_gradients(inputs, outputs))


# ---------------------------------------------------------------------------------- cells


def cell_cases():
    kinds = {
        "rnn_tanh": (nn.RNNCell, {"nonlinearity": "tanh"}),
        "rnn_relu": (nn.RNNCell, {"nonlinearity": "relu"}),
        "lstm": (nn.LSTMCell, {}),
        "gru": (nn.GRUCell, {}),
    }
    for kind, bias, seed in itertools.product(kinds, (True, False), (0, 1, 2)):
        cell_type, extra = kinds[kind]
        name = f"{kind}-{'bias' if bias else 'nobias'}-seed{seed}"
        torch.manual_seed(seed_of(name))
        _, batch, features, hidden = SIZES[seed]
        cell = cell_type(features, hidden, bias=bias, dtype=torch.float64, **extra)
        inputs = {"x": torch.randn(batch, features, dtype=torch.float64, requires_grad=True)}
        for state in ("h", "c") if kind == "lstm" else ("h",):
            inputs[state] = torch.randn(batch, hidden, dtype=torch.float64, requires_grad=True)
        state = (inputs["h"], inputs["c"]) if kind == "lstm" else inputs["h"]
        new = cell(inputs["x"], state)
        outputs = dict(zip(("new_h", "new_c"), new if isinstance(new, tuple) else (new,)))
        inputs |= dict(cell.named_parameters())
        options = dict(kind=kind, input_size=features, hidden_size=hidden, bias=bias, **extra)
        yield case(name, options, with_gradients(inputs, outputs))


# --------------------------------------------------------------------- feed-forward layers


def layer_cases():
    modules = {
        "linear": (lambda: nn.Linear(3, 5, dtype=torch.float64), (4, 3)),
        "linear-nobias": (lambda: nn.Linear(1, 2, bias=False, dtype=torch.float64), (2, 3, 1)),
        "layernorm": (lambda: nn.LayerNorm(5, dtype=torch.float64), (3, 2, 5)),
        "layernorm-2d": (lambda: nn.LayerNorm((2, 3), eps=1e-3, dtype=torch.float64), (4, 2, 3)),
        "layernorm-plain": (
            lambda: nn.LayerNorm(4, elementwise_affine=False, dtype=torch.float64),
            (3, 4),
        ),
    }
    for name, (build, shape) in modules.items():
        torch.manual_seed(seed_of(name))
        module = build()
        with torch.no_grad():
            for p in module.parameters():
                p.normal_()
        inputs = {"x": torch.randn(shape, dtype=torch.float64, requires_grad=True)}
        inputs |= dict(module.named_parameters())
        yield case(name, {}, with_gradients(inputs, {"y": module(inputs["x"])}))
    for name, padding_idx in [("embedding", None), ("embedding-padding", 2)]:
        torch.manual_seed(seed_of(name))
        module = nn.Embedding(5, 3, padding_idx=padding_idx, dtype=torch.float64)
        with torch.no_grad():
            module.weight.normal_()
        indices = torch.tensor([[0, 2, 2], [4, 0, 1]])
        outputs = {"y": module(indices)}
        options = dict(padding_idx=padding_idx, indices=indices.tolist())
        yield case(name, options, with_gradients({"weight": module.weight}, outputs))


# --------------------------------------------------------------------------------- losses


def loss_cases():
    def emit(name, options, inputs, loss):
        return case(name, options, with_gradients(inputs, {"loss": loss}))

    for reduction, shape in itertools.product(("mean", "sum", "none"), ((4, 5), (1, 2), (7, 1))):
        options = {"reduction": reduction}
        tag = f"{reduction}-{shape[0]}x{shape[1]}"
        for function in ("cross_entropy", "nll_loss"):
            for ignore in (None, 0):
                name = f"{function}-{tag}" + ("" if ignore is None else "-ignore")
                torch.manual_seed(seed_of(name))
                x = (3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
                targets = torch.randint(0, shape[1], shape[:1])
                index = -100
                if ignore is not None:
                    index = int(targets[0]) if shape[0] > 1 and shape[1] > 1 else -1
                    targets[0] = index
                    if reduction == "mean" and bool((targets == index).all()):
                        continue  # torch answers NaN, minigrad refuses: tested on its own
                loss = getattr(F, function)(x, targets, ignore_index=index, reduction=reduction)
                more = dict(function=function, targets=targets.tolist(), ignore_index=index)
                yield emit(name, options | more, {"x": x}, loss)
        for function, extra in [
            ("mse_loss", {}),
            ("l1_loss", {}),
            ("huber_loss", {"delta": 1.0}),
            ("huber_loss", {"delta": 0.3}),
            ("binary_cross_entropy_with_logits", {}),
        ]:
            name = f"{function}-{tag}" + "".join(f"-{k}{v}" for k, v in extra.items())
            torch.manual_seed(seed_of(name))
            x = (3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
            y = torch.rand(shape, dtype=torch.float64, requires_grad=True)
            loss = getattr(F, function)(x, y, reduction=reduction, **extra)
            more = dict(function=function, **extra)
            yield emit(name, options | more, {"x": x, "y": y}, loss)


# ----------------------------------------------------------------------------- optimisers

OPTIMISERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    ("RMSprop", {"lr": 0.02}),
    ("RMSprop", {"lr": 0.02, "centered": True}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.9, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02, "momentum": 0.5, "centered": True, "eps": 1e-3}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}),
]
STEPS = 10


def optimiser_cases():
    for i, (kind, options) in enumerate(OPTIMISERS):
        name = f"{kind}-{i}"
        torch.manual_seed(seed_of(name))
        start = [torch.randn(shape, dtype=torch.float64) for shape in ((3, 2), (1,))]
        gradients = [torch.randn(STEPS, *p.shape, dtype=torch.float64) for p in start]
        params = [nn.Parameter(p.clone()) for p in start]
        optimiser = getattr(torch.optim, kind)(params, **options)
        paths = [[] for _ in params]
        for t in range(STEPS):
            for p, g in zip(params, gradients, strict=True):
                # The second parameter sits out step 3: its own step count must not advance.
                p.grad = None if t == 3 and p is params[1] else g[t].clone()
            optimiser.step()
            for p, path in zip(params, paths, strict=True):
                path.append(numpy_of(p))
        arrays = {f"start.{j}": numpy_of(p) for j, p in enumerate(start)}
        arrays |= {f"gradient.{j}": numpy_of(g) for j, g in enumerate(gradients)}
        arrays |= {f"path.{j}": np.stack(path) for j, path in enumerate(paths)}
        yield case(name, {"kind": kind, "arguments": options}, arrays)


def clipping_cases():
    arguments = [{"max_norm": m} for m in (0.5, 100.0)]
    arguments += [{"max_norm": 0.5, "norm_type": p} for p in (1.0, 3.0, float("inf"))]
    arguments += [{"clip_value": 0.4}]
    for i, options in enumerate(arguments):
        name = f"clip-{i}"
        torch.manual_seed(seed_of(name))
        params = [nn.Parameter(torch.zeros(s, dtype=torch.float64)) for s in ((3, 2), (1,))]
        for p in params:
            p.grad = torch.randn_like(p)
        arrays = {f"gradient.{j}": numpy_of(p.grad) for j, p in enumerate(params)}
        if "clip_value" in options:
            clip_grad_value_(params, options["clip_value"])
        else:
            arrays["norm"] = numpy_of(clip_grad_norm_(params, **options))
        arrays |= {f"clipped.{j}": numpy_of(p.grad) for j, p in enumerate(params)}
        yield case(name, {"kind": "clip", "arguments": options}, arrays)


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
    ("LinearLR", {"start_factor": 0.2, "total_iters": 5}),
]


def schedule_cases():
    for kind, options in SCHEDULES:
        optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
        schedule = getattr(torch.optim.lr_scheduler, kind)(optimiser, **options)
        rates = [optimiser.param_groups[0]["lr"]]
        for _ in range(8):
            optimiser.step()
            schedule.step()
            rates.append(optimiser.param_groups[0]["lr"])
        yield case(kind, {"kind": kind, "arguments": options}, {"lr": np.array(rates)})


# ------------------------------------------------------------------------------------- CTC

# (T, B, C, S): one frame, one label, no label, repeats, odd numbers, a labelling that is too long.
CTC_SIZES = [(1, 1, 2, 1), (5, 3, 4, 2), (9, 2, 3, 4), (12, 5, 6, 3), (4, 3, 3, 0), (40, 4, 7, 11)]


def ctc_cases():
    grid = itertools.product(CTC_SIZES, ("mean", "sum", "none"), (False, True))
    for (time, batch, classes, width), reduction, ragged in grid:
        name = f"ctc-{time}-{batch}-{classes}-{width}-{reduction}-{'ragged' if ragged else 'full'}"
        rng = np.random.default_rng(seed_of(name))
        torch.manual_seed(seed_of(name))
        blank = int(rng.integers(classes))
        targets = (blank + 1 + rng.integers(classes - 1, size=(batch, width))) % classes
        counts = rng.integers(0, width + 1, size=batch) if ragged else np.full(batch, width)
        repeats = [int((row[1:n] == row[: max(n - 1, 0)]).sum()) for row, n in zip(targets, counts)]
        needed = np.maximum(counts + repeats, 1)
        if (needed > time).any():  # too few frames: an infinite loss, and torch's gradient is nan
            counts = np.zeros_like(counts)
            needed = np.ones_like(counts)
        frames = rng.integers(needed, time + 1) if ragged else np.full(batch, time)
        x = torch.randn(time, batch, classes, dtype=torch.float64, requires_grad=True)
        lengths = [torch.tensor(n, dtype=torch.long) for n in (frames, counts)]
        y = torch.tensor(targets, dtype=torch.long)
        loss = F.ctc_loss(F.log_softmax(x, -1), y, *lengths, blank=blank, reduction=reduction)
        options = {"blank": blank, "reduction": reduction, "targets": targets.tolist()}
        options |= {"input_lengths": frames.tolist(), "target_lengths": counts.tolist()}
        yield case(name, options, with_gradients({"x": x}, {"loss": loss}))


# ------------------------------------------------------------------------------- the files

FILES = {
    "recurrent": [recurrent_cases],
    "cells": [cell_cases],
    "layers": [layer_cases],
    "losses": [loss_cases],
    "ctc": [ctc_cases],
    "optim": [optimiser_cases, clipping_cases, schedule_cases],
}


def pack(cases):
    index, values = [], []
    for c in cases:
        shapes = {name: list(a.shape) for name, a in c["arrays"].items()}
        index.append({"name": c["name"], "options": c["options"], "shapes": shapes})
        values += [a.ravel() for a in c["arrays"].values()]
    return json.dumps(index), np.concatenate(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    wrong = 0
    for stem, sources in FILES.items():
        path = GOLDEN / f"{stem}.npz"
        index, values = pack(c for source in sources for c in source())
        if check:
            stored = np.load(path)
            same = str(stored["index"]) == index
            same = same and np.allclose(stored["values"], values, rtol=1e-12, atol=1e-12)
            print(f"{path.name}: {'same' if same else 'DIFFERENT'}")
            wrong += not same
        else:
            np.savez_compressed(path, index=np.array(index), values=values)
            print(f"{path.name}: {len(json.loads(index))} cases, {path.stat().st_size:,} bytes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
