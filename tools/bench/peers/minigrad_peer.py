"""minigrad's side."""

import fma
import inputs
import minigrad_layers
import minigrad_training
import numpy as np
import worker

import minigrad as mg
from minigrad.kernels import elementwise as elementwise_kernels
from minigrad.kernels import multiplying as matmul_kernels


def elementwise(function, dtype, size):
    x = inputs.vector(function, dtype, size)
    out = np.empty_like(x)
    source = f"def element(x):\n    return {function}(x)\n"
    loop = elementwise_kernels.loop(source, "f->f", np.dtype(dtype))
    return lambda: loop(x, out=out), lambda y: {"y": out}


def matmul(m, k, n, dtype):
    a, b = inputs.matrices(m, k, n, dtype)
    return lambda: matmul_kernels.matmul(a, b), lambda y: {"y": y}


def chain(op):
    x, factor, offset, weight = (
        mg.tensor(array, requires_grad=True) for array in inputs.chain()[:4]
    )
    leaves, g = (x, factor, offset, weight), mg.tensor(inputs.chain()[4])
    step = {
        "tanh": lambda y: mg.tanh(y),
        "add": lambda y: y + offset,
        "multiply": lambda y: y * factor,
        "matmul": lambda y: y @ weight,
    }[op]

    def run():
        for leaf in leaves:
            leaf.grad = None
        y = x
        for _ in range(inputs.CHAIN):
            y = step(y)
        y.backward(g)
        return y

    return run, lambda y: {"y": y.numpy(), "dx": x.grad.numpy()}


if __name__ == "__main__":
    mg.set_num_threads(worker.threads())
    worker.serve(
        {
            "elementwise": elementwise,
            "matmul": matmul,
            "chain": chain,
            "layer": minigrad_layers.layer,
            "training": minigrad_training.training,
            "stream": minigrad_training.stream,
            "calls": minigrad_training.calls,
            "can": minigrad_training.can,
            "fma": fma.peak,
        }
    )
