"""Times training steps of a PyTorch model with and without record_torch, in turns.

python recording_torch.py layer|stack|cell ROUNDS B T I H

A step is forward, backward and Adam; the loss reads all outputs. One line of JSON: seconds of both
by round, and sums of squares of the last gradients, which must agree. What is recorded is not read
in the time that is taken: that is done when somebody asks, not in training.
"""

import json
import sys
import time

import torch

import minigrad as mg


class Loop(torch.nn.Module):
    """An LSTMCell over time, as one writes it in Python."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.cell = torch.nn.LSTMCell(inputs, hidden)

    def forward(self, x):
        state, outputs = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs), state


class Training:
    def __init__(self, what, batch, steps, inputs, hidden):
        torch.manual_seed(0)
        layers = 2 if what == "stack" else 1
        whole = torch.nn.LSTM(inputs, hidden, layers)
        self.net = Loop(inputs, hidden) if what == "cell" else whole
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4)
        self.xs = torch.randn(steps, batch, inputs)
        self.weight = torch.randn(batch, hidden)

    def step(self):
        self.optimizer.zero_grad()
        (self.net(self.xs)[0] * self.weight).mean().backward()
        self.optimizer.step()

    def squares(self):
        return [float(p.grad.double().square().sum()) for p in self.net.parameters()]


def main():
    what, rounds, *size = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(2)
    plain, recorded = (Training(what, *size) for _ in range(2))

    def recording():
        with mg.flow.record_torch(recorded.net) as rec:
            recorded.step()
        return rec

    seconds = {"plain": [], "recorded": []}
    for round_ in range(rounds + 1):
        for name, step in (("plain", plain.step), ("recorded", recording)):
            start = time.perf_counter()
            step()
            if round_:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    squares = {"plain": plain.squares(), "recorded": recorded.squares()}
    print(json.dumps({"seconds": seconds} | squares))


if __name__ == "__main__":
    main()
