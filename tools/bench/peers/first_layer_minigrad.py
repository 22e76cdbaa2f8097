"""A whole process: import minigrad, one gradient of a layer (its cell is the argument), print it.

Also the seconds from the first use of the layer to the gradient, and how many kernels the cache
holds then, and after a second gradient with other numbers of steps, rows, inputs and units.
"""

import json
import sys
import time

import inputs
import minigrad_layers

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
    batch, steps, features, hidden = inputs.FIRST
    sizes = {"batch": batch + 3, "steps": 2 * steps + 1}
    for more in (0, 7):
        sizes |= {"inputs": features + more, "hidden": hidden + 2 * more}
        net, xs = minigrad_layers.make(sys.argv[1], **sizes)
        xs.requires_grad = True
        (net(xs)[0] ** 2).sum().backward()
    result["kernels_later"] = len(cache.kernels())
print(json.dumps(result))
