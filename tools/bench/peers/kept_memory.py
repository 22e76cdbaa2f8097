"""A whole process: the bytes of arrays that a layer's forward pass leaves alive, and its peak.

The arguments are the cell and B, T, I, H. NumPy reports its arrays to tracemalloc in a domain of
their own, so Python's objects are not among them.
"""

import gc
import json
import sys
import tracemalloc

import inputs
import minigrad_layers
import numpy as np

import minigrad as mg

ARRAYS = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)


def alive():
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([ARRAYS])
    return sum(trace.size for trace in snapshot.traces)


def gradient():
    net.zero_grad()
    xs.grad = None
    loss = (net(xs)[0] ** 2).sum()
    at = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    loss.backward()
    return loss, tracemalloc.get_traced_memory()[1] - at


cell, *numbers = sys.argv[1:]
sizes = inputs.Sizes(*map(int, numbers))
net, xs = minigrad_layers.make(cell, **sizes._asdict())
# Compiles all kernels. On small arrays: what a layer might set aside for later has to count.
small = mg.tensor(np.ones((2, 1, sizes.inputs), np.float32), requires_grad=True)
(net(small)[0] ** 2).sum().backward()
net.zero_grad()
xs.requires_grad = True

tracemalloc.start()
before = alive()
ys, final = net(xs)
states = final if isinstance(final, tuple) else (final,)
kept = alive() - before - sum(array.numpy().nbytes for array in (ys, *states))
del ys, final, states
gradient()
loss, backward = gradient()
gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
along = inputs.along(cell, sizes, gradients | {"xs": xs.grad.numpy()})
print(json.dumps({"loss": loss.item(), "gradient": along, "kept": kept, "backward": backward}))
