"""What each library does with a recurrent net, tried: python tools/features.py [LIBRARY ...].

Runs in an environment that has them (`pip install torch keras jax equinox mygrad tinygrad` beside
minigrad); of one that is missing nothing is asked. Each function asks one library one question of
the table in tools/docs/source/features.md, and the answer has to be the one that stands there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

T, B, I, H = 5, 2, 3, 4
X = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)

# The rows of the table.
LAYERS = "RNN, LSTM and GRU in layers and directions"
LOOP = "a cell of one's own as one compiled loop, however long"
LENGTHS = "rows of different length"
C = "c of every step from the LSTM layer, in a loss"
GRADIENT = "gradient at h of every step, with what came through time"  # of the layer; by hand
SECOND = "second derivatives through the layer"
HALF = "float16 or bfloat16"

ASKED: dict[str, list[tuple[str, bool, Callable[[], bool]]]] = {}


def asked(library: str, question: str, answer: bool) -> Callable[[Any], Any]:
    """Notes a function that tells whether `library` does what `question` names."""

    def note(function: Callable[[], bool]) -> Callable[[], bool]:
        ASKED.setdefault(library, []).append((question, answer, function))
        return function

    return note


# -- minigrad


@asked("minigrad", LAYERS, True)
def _() -> bool:
    import minigrad as mg

    return mg.nn.LSTM(I, H, num_layers=2, bidirectional=True)(X)[0].shape == (T, B, 2 * H)


@asked("minigrad", LOOP, True)
def _() -> bool:
    import minigrad as mg

    w = mg.tensor(np.eye(I, dtype=np.float32), requires_grad=True)
    cell = lambda h, x: (mg.tanh(h @ w + x),) * 2  # noqa: E731
    kernels = [mg.scan(cell, np.zeros((B, I), np.float32), X[:t]).source for t in (3, 5)]
    return kernels[0] == kernels[1]


@asked("minigrad", LENGTHS, True)
def _() -> bool:
    import minigrad as mg

    return not mg.nn.GRU(I, H)(X, lengths=[2, 5])[0].numpy()[2:, 0].any()


@asked("minigrad", C, True)
def _() -> bool:
    import minigrad as mg

    _, _, (_, c) = mg.nn.LSTM(I, H, return_states=True)(X)
    return c.shape == (1, T, B, H) and c.requires_grad


@asked("minigrad", GRADIENT, True)
def _() -> bool:
    import minigrad as mg

    with mg.flow.record() as rec:
        mg.nn.LSTM(I, H)(X)[0][-1].sum().backward()
    return bool((rec["lstm/l0/fwd"].norms["h"] > 0).all())


@asked("minigrad", SECOND, True)
def _() -> bool:
    import minigrad as mg

    x = mg.tensor(X, requires_grad=True)
    first = mg.grad((mg.nn.LSTM(I, H)(x)[0] ** 2).sum(), x, create_graph=True)
    return bool(mg.grad((first**2).sum(), x).numpy().any())


@asked("minigrad", HALF, False)
def _() -> bool:
    import minigrad as mg

    try:
        return mg.nn.LSTM(I, H, dtype=np.float16) is not None
    except mg.DTypeError:
        return False


# -- PyTorch


@asked("torch", LAYERS, True)
def _() -> bool:
    import torch

    layer = torch.nn.LSTM(I, H, num_layers=2, bidirectional=True)
    return layer(torch.from_numpy(X))[0].shape == (T, B, 2 * H)


@asked("torch", LOOP, False)
def _() -> bool:
    import torch

    sizes = []

    def backend(graph: Any, inputs: Any) -> Any:
        sizes.append(len(graph.graph.nodes))
        return graph.forward

    def run(xs: Any) -> Any:
        h = torch.zeros(B, I)
        for x in xs:
            h = torch.tanh(h + x)
        return h

    for t in (3, 5):
        torch._dynamo.reset()
        torch.compile(run, backend=backend, dynamic=False)(torch.from_numpy(X[:t]))
    return sizes[0] == sizes[1]


@asked("torch", LENGTHS, True)
def _() -> bool:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    packed = pack_padded_sequence(torch.from_numpy(X), torch.tensor([2, 5]), enforce_sorted=False)
    return not pad_packed_sequence(torch.nn.GRU(I, H)(packed)[0])[0].detach().numpy()[2:, 0].any()


@asked("torch", C, False)
def _() -> bool:
    import torch

    _, (_, c) = torch.nn.LSTM(I, H)(torch.from_numpy(X))
    return c.shape[-3] == T


@asked("torch", GRADIENT, False)
def _() -> bool:
    import torch

    ys, _ = torch.nn.LSTM(I, H)(torch.from_numpy(X))
    ys.retain_grad()
    ys[-1].sum().backward()
    return bool(ys.grad[:-1].any())  # what came through the states is not in it


@asked("torch", GRADIENT, True)
def _() -> bool:
    import torch

    cell, hs = torch.nn.GRUCell(I, H), [torch.zeros(B, H)]
    for x in torch.from_numpy(X):
        hs.append(cell(x, hs[-1]))
        hs[-1].retain_grad()
    hs[-1].sum().backward()
    return all(bool(h.grad.any()) for h in hs[1:])


@asked("torch", SECOND, True)
def _() -> bool:
    import torch

    x = torch.from_numpy(X).requires_grad_()
    loss = (torch.nn.LSTM(I, H)(x)[0] ** 2).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    return bool(torch.autograd.grad((first**2).sum(), x)[0].any())


@asked("torch", HALF, True)
def _() -> bool:
    import torch

    return torch.nn.LSTM(I, H, dtype=torch.bfloat16).weight_hh_l0.dtype == torch.bfloat16


# -- Keras, on JAX


@asked("keras", LAYERS, True)
def _() -> bool:
    import keras

    layer = keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True))
    return layer(X).shape == (T, B, 2 * H)


@asked("keras", LOOP, True)
def _() -> bool:
    import jax
    import keras

    class Cell(keras.layers.Layer):
        state_size = output_size = I

        def call(self, x: Any, states: Any) -> Any:
            h = keras.ops.tanh(states[0] + x)
            return h, [h]

    layer = keras.layers.RNN(Cell())
    return " scan[" in str(jax.make_jaxpr(lambda x: layer(x))(X))


@asked("keras", LENGTHS, True)
def _() -> bool:
    import keras

    layer = keras.layers.GRU(H, return_sequences=True, zero_output_for_mask=True)
    mask = np.arange(B) < np.array([1, 2, 2, 2, 2])[:, None]
    return not np.asarray(layer(X, mask=mask))[0, 1:].any()


@asked("keras", C, False)
def _() -> bool:
    import keras

    _, _, c = keras.layers.LSTM(H, return_sequences=True, return_state=True)(X)
    return len(c.shape) == 3


@asked("keras", HALF, True)
def _() -> bool:
    import keras

    return keras.layers.LSTM(H, dtype="mixed_bfloat16")(X).dtype == "bfloat16"


# -- JAX and Equinox


def _loop(w: Any, x: Any, bumps: Any) -> Any:
    """The last state of h = tanh(w h + x + bump); the gradient at a bump is that at h."""
    import jax

    def cell(h: Any, given: Any) -> Any:
        x, bump = given
        h = jax.numpy.tanh(h @ w + x) + bump
        return h, h

    return jax.lax.scan(cell, jax.numpy.zeros((B, I)), (x, bumps))


@asked("equinox", LAYERS, False)
def _() -> bool:
    import equinox

    return any(hasattr(equinox.nn, name) for name in ("RNN", "LSTM", "GRU"))


@asked("equinox", LOOP, True)
def _() -> bool:
    import jax

    return str(jax.make_jaxpr(_loop)(np.eye(I), X, 0 * X)).count(" scan[") == 1


@asked("equinox", C, True)
def _() -> bool:
    return _loop(np.eye(I), X, 0 * X)[1].shape == (T, B, I)


@asked("equinox", GRADIENT, True)
def _() -> bool:
    import jax

    found = jax.grad(lambda bumps: _loop(np.eye(I), X, bumps)[0].sum())(0 * X)
    return bool((abs(found).sum((1, 2)) > 0).all())


@asked("equinox", SECOND, True)
def _() -> bool:
    import jax

    return bool(jax.hessian(lambda w: _loop(w, X, 0 * X)[0].sum())(np.eye(I)).any())


@asked("equinox", HALF, True)
def _() -> bool:
    import jax

    return jax.numpy.tanh(jax.numpy.asarray(X, "bfloat16")).dtype == "bfloat16"


# -- MyGrad


@asked("mygrad", LAYERS, False)
def _() -> bool:
    from mygrad.nnet import layers

    assert callable(layers.gru), "one layer of one kind"
    return hasattr(layers, "lstm")


@asked("mygrad", GRADIENT, True)
def _() -> bool:
    import mygrad

    hs = [mygrad.tensor(X[0])]
    for x in X:
        hs.append(mygrad.tanh(hs[-1] + x))
    hs[-1].sum().backward()
    return all(bool(h.grad.any()) for h in hs)


@asked("mygrad", SECOND, False)
def _() -> bool:
    import mygrad

    x = mygrad.tensor([1.0, 2.0])
    (x**3).sum().backward()
    return not isinstance(x.grad, np.ndarray)


@asked("mygrad", HALF, True)
def _() -> bool:
    import mygrad

    return mygrad.tanh(mygrad.tensor(X.astype(np.float16))).dtype == np.float16


# -- tinygrad


@asked("tinygrad", LAYERS, False)
def _() -> bool:
    from tinygrad import nn

    assert callable(nn.LSTMCell), "one cell"
    return any(hasattr(nn, name) for name in ("RNN", "LSTM", "GRU", "GRUCell"))


@asked("tinygrad", LOOP, False)
def _() -> bool:
    from tinygrad import Tensor

    sizes = []
    for t in (3, 5):
        h = Tensor.zeros(B, I)
        for x in X[:t].tolist():
            h = (h + Tensor(x)).tanh()
        sizes.append(len(h.uop.toposort()))
    return sizes[0] == sizes[1]


@asked("tinygrad", GRADIENT, True)
def _() -> bool:
    from tinygrad import Tensor

    hs = [Tensor(X[0].tolist())]
    for x in X[:2].tolist():
        hs.append((hs[-1] + Tensor(x)).tanh())
    return all(bool(np.any(g.tolist())) for g in hs[-1].square().sum().gradient(*hs))


@asked("tinygrad", SECOND, True)
def _() -> bool:
    from tinygrad import Tensor, nn

    x, cell = Tensor(X[0].tolist()), nn.LSTMCell(I, H)
    (first,) = cell(x)[0].square().sum().gradient(x)
    return bool(np.any(first.square().sum().gradient(x)[0].tolist()))


@asked("tinygrad", HALF, True)
def _() -> bool:
    from tinygrad import Tensor, dtypes

    return Tensor(X[0].tolist(), dtype=dtypes.half).tanh().dtype == dtypes.half


def main(wanted: list[str]) -> int:
    """How many answers are not those of the table."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("DEV", "PYTHON")  # tinygrad's other devices need a C compiler or a GPU
    wrong = 0
    for library in wanted or list(ASKED):
        try:
            name = "minigrad-bptt" if library == "minigrad" else library
            print(f"{library} {version(name)}")
        except PackageNotFoundError:
            print(f"{library}: not installed as a package")
        for question, answer, function in ASKED[library]:
            try:
                found = bool(function())
            except ImportError as missing:
                print(f"  {question:57} not asked: {missing}")
                continue
            wrong += found != answer
            print(f"  {question:57} {'yes' if found else 'no'}" + "  NOT SO" * (found != answer))
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
