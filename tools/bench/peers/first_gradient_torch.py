"""A whole process: import torch, one gradient of an MLP, print it."""

import json

import inputs
import torch

data = {name: torch.from_numpy(array) for name, array in inputs.mlp().items()}
names = ("w1", "b1", "w2", "b2")
w1, b1, w2, b2 = leaves = [data[name].requires_grad_() for name in names]
logits = torch.tanh(data["x"] @ w1 + b1) @ w2 + b2
loss = torch.nn.functional.cross_entropy(logits, data["labels"])
loss.backward()
gradients = {name: leaf.grad.tolist() for name, leaf in zip(names, leaves)}
print(json.dumps(gradients | {"loss": loss.item()}))
