"""A whole process: import minigrad, one gradient of an MLP, print it."""

import json

import inputs

import minigrad as mg

data = inputs.mlp()
names = ("w1", "b1", "w2", "b2")
w1, b1, w2, b2 = leaves = [mg.tensor(data[name], requires_grad=True) for name in names]
logits = mg.tanh(data["x"] @ w1 + b1) @ w2 + b2
loss = mg.nn.cross_entropy(logits, data["labels"])
loss.backward()
gradients = {name: leaf.grad.numpy().tolist() for name, leaf in zip(names, leaves, strict=True)}
print(json.dumps(gradients | {"loss": loss.item()}))
