"""PyTorch's side, in any interpreter that has torch and NumPy."""

import inputs
import numpy as np
import torch
import worker

WARM_UPS = 3  # torch.jit.script watches the first calls, then compiles


def chain(op):
    x, factor, offset, weight, g = (torch.from_numpy(array) for array in inputs.chain())
    leaves = [x.requires_grad_(), factor.requires_grad_(), offset, weight.requires_grad_()]
    leaves[2].requires_grad_()
    step = {
        "tanh": lambda y: torch.tanh(y),
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

    return run, lambda y: {"y": y.detach().numpy(), "dx": x.grad.numpy()}


def layer(cell, forward=False, script=False, bidirectional=False, **sizes):
    """A training step of a layer, or its forward pass alone."""
    xs, weights = inputs.sequence(cell, **sizes, bidirectional=bidirectional)
    xs = torch.from_numpy(xs)
    weights = {name: torch.from_numpy(array) for name, array in weights.items()}
    if cell == "peephole":
        import torch_cells

        # To torch.nn's layout; the gradients go back.
        weights = {n: a.T.contiguous() if a.ndim == 2 else a for n, a in weights.items()}
        parameters = {name: torch.nn.Parameter(array) for name, array in weights.items()}
        function = torch_cells.scripted_peephole if script else torch_cells.peephole

        def output():
            return function(xs, **parameters)

    else:
        net = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
        net = net(sizes["inputs"], sizes["hidden"], bidirectional=bidirectional)
        net.load_state_dict(weights)
        parameters = dict(net.named_parameters())

        def output():
            return net(xs)[0]

    if forward:

        @torch.no_grad()
        def run():
            return output()

        def collect(ys):
            return {"loss": (ys**2).sum().numpy()}

    else:
        xs.requires_grad_()

        def run():
            for leaf in (xs, *parameters.values()):
                leaf.grad = None
            loss = (output() ** 2).sum()
            loss.backward()
            return loss

        def collect(loss):
            gradients = {name: p.grad.numpy() for name, p in parameters.items()}
            if cell == "peephole":
                gradients = {name: g.T for name, g in gradients.items()}
            return gradients | {"xs": xs.grad.numpy(), "loss": loss.detach().numpy()}

    for _ in range(WARM_UPS if script else 0):
        run()
    return run, collect


class Model(torch.nn.Module):
    """(T, B) tokens -> (T, B, V) logits."""

    def __init__(self, cell, hidden):
        super().__init__()
        self.embed = torch.nn.Embedding(inputs.VOCABULARY, hidden)
        self.layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](hidden, hidden)
        self.head = torch.nn.Linear(hidden, inputs.VOCABULARY)

    def forward(self, tokens):
        return self.head(self.layer(self.embed(tokens))[0])


def training(cell, **sizes):
    """A step of training a character model; collected are the losses of the first ones."""
    tokens, weights = inputs.characters(cell, **sizes)
    tokens = torch.from_numpy(tokens)
    model = Model(cell, sizes["hidden"])
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=inputs.RATE)
    xs, targets = tokens[:-1], tokens[1:].reshape(-1)

    def run():
        optimizer.zero_grad()
        logits = model(xs)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, inputs.VOCABULARY), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, inputs.LIMIT)
        optimizer.step()
        return loss

    def collect(loss):
        losses = [loss.item()] + [run().item() for _ in range(inputs.STEPS - 1)]
        return {"losses": np.array(losses)}

    return run, collect


def stream(cell, forward=True, **sizes):
    """One step of a stream of vectors through an LSTM; collected is the layer's output."""
    xs, weights = inputs.sequence(cell, **sizes)
    xs = torch.from_numpy(xs)
    net = torch.nn.LSTM(sizes["inputs"], sizes["hidden"])
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    state = None

    @torch.no_grad()
    def step(x):
        nonlocal state
        y, state = net(x[None], state)
        return y

    def collect(y):
        ys = torch.stack([y, *(step(x) for x in xs[1:])])
        return {"loss": (ys**2).sum().numpy()}

    return lambda: step(xs[0]), collect


if __name__ == "__main__":
    torch.set_num_threads(worker.threads())
    worker.serve({"chain": chain, "layer": layer, "training": training, "stream": stream})
