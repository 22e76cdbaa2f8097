"""A whole process: import minigrad, one gradient of a layer (its cell is the argument), print it.

Also the seconds from the first use of the layer to the gradient, and how many kernels the cache
holds then, and after a second gradient with another number of steps and rows.
"""

import json
import sys
import time

import inputs
import minigrad_layers
import numpy as np

import minigrad as mg
from minigrad.kernels import cache

net, xs = minigrad_layers.make(sys.argv[1], **inputs.FIRST._asdict())
xs.requires_grad = True
start = time.perf_counter()
loss = (net(xs)[0] ** 2).sum()
loss.backward()
seconds = time.perf_counter() - start
gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
along = inputs.along(sys.argv[1], inputs.FIRST, gradients | {"xs": xs.grad.numpy()})
result = {"loss": loss.item(), "gradient": along, "seconds": seconds}
if "--more" in sys.argv:
    result["kernels"] = len(cache.kernels())
    batch, steps, features, _ = inputs.FIRST
    other = mg.tensor(np.ones((2 * steps + 1, batch + 3, features), np.float32), requires_grad=True)
    (net(other)[0] ** 2).sum().backward()
    result["kernels_later"] = len(cache.kernels())
print(json.dumps(result))
