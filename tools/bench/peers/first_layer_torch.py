"""A whole process: import torch, one gradient of a layer (its cell is the argument), print it."""

import json
import sys

import inputs
import torch

cell = sys.argv[1]
xs, weights = inputs.sequence(cell, *inputs.FIRST)
net = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](inputs.FIRST.inputs, inputs.FIRST.hidden)
net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
xs = torch.from_numpy(xs).requires_grad_()
loss = (net(xs)[0] ** 2).sum()
loss.backward()
gradients = {name: p.grad.numpy() for name, p in net.named_parameters()}
along = inputs.along(cell, inputs.FIRST, gradients | {"xs": xs.grad.numpy()})
print(json.dumps({"loss": loss.item(), "gradient": along}))
