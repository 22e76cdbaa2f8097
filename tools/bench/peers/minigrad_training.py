"""Training a character model, and streaming, as users write it; how much Python is in a step."""

import sys

import inputs
import minigrad_layers
import numpy as np

import minigrad as mg


class Model(mg.nn.Module):
    """(T, B) tokens -> (T, B, V) logits."""

    def __init__(self, cell, hidden):
        self.embed = mg.nn.Embedding(inputs.VOCABULARY, hidden)
        self.layer = minigrad_layers.LAYERS[cell](hidden, hidden)
        self.head = mg.nn.Linear(hidden, inputs.VOCABULARY)

    def forward(self, tokens):
        return self.head(self.layer(self.embed(tokens))[0])


def training(cell, jitted=False, **sizes):
    """One step of it; collected are the losses of the first ones."""
    tokens, weights = inputs.characters(cell, **sizes)
    model = Model(cell, sizes["hidden"])
    model.load_state_dict(weights)
    parameters = list(model.parameters())
    optimizer = mg.optim.Adam(parameters, lr=inputs.RATE)

    def step(xs, targets):
        optimizer.zero_grad()
        loss = mg.nn.cross_entropy(model(xs), targets)
        loss.backward()
        mg.optim.clip_grad_norm_(parameters, inputs.LIMIT)
        optimizer.step()
        return loss

    if jitted:
        step = mg.jit(step)
    xs, targets = tokens[:-1], tokens[1:]

    def run():
        return step(xs, targets)

    def collect(loss):
        losses = [loss.item()]
        losses += [run().item() for _ in range(inputs.STEPS - 1)]
        return {"losses": np.array(losses)}

    return run, collect


def stream(cell, forward=True, **sizes):
    """One step of a stream of vectors through an LSTM; collected is the layer's output."""
    net, xs = minigrad_layers.make(cell, **sizes)
    xs = xs.numpy()
    streaming = net.stream(sizes["batch"])

    def run():
        with mg.no_grad():
            return streaming(xs[0])

    def collect(y):
        ys = [y.numpy().copy()]
        for x in xs[1:]:
            with mg.no_grad():
                ys.append(streaming(x).numpy().copy())
        return {"loss": np.square(ys).sum()}

    return run, collect


def calls(what, **args):
    """Python functions that are called in a step, once it has run a few times."""
    steps = {"layer": minigrad_layers.layer, "training": training, "stream": stream}
    run, _ = steps[what](**args)

    def count():
        seen = 0

        def saw(frame, event, argument):
            nonlocal seen
            seen += event == "call"

        for _ in range(3):
            run()
        sys.setprofile(saw)
        run()
        sys.setprofile(None)
        return seen

    return count, lambda seen: {"calls": np.array(seen - 1)}  # but `run` itself


def can(what):
    """Whether this minigrad has it."""
    there = {"jit": hasattr(mg, "jit"), "stream": hasattr(mg.nn.LSTM, "stream")}[what]
    return lambda: None, lambda _: {"can": np.array(there)}
