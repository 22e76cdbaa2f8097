"""PyTorch's time_sequence_prediction: two LSTMs learn sine waves, and go on by themselves.

After time_sequence_prediction (pytorch/examples).
"""

import numpy as np

import minigrad as mg
from minigrad import nn, optim


class Sequence(nn.Module):
    def __init__(self, hidden_size=51):
        self.lstm = nn.LSTM(1, hidden_size, num_layers=2, dtype=np.float64)
        self.linear = nn.Linear(hidden_size, 1, dtype=np.float64)

    def forward(self, waves, future=0):  # (T, B, 1) -> (T + future, B, 1)
        hidden, state = self.lstm(waves)
        outputs = [self.linear(hidden)]
        for _ in range(future):  # each prediction is the next input
            hidden, state = self.lstm(outputs[-1][-1:], state)
            outputs.append(self.linear(hidden))
        return mg.concatenate(outputs)


def sine_waves(number=100, length=1000, period=20):
    """(length, number, 1): sin(t / period), each wave with a phase of its own."""
    phases = np.random.default_rng(2).integers(-4 * period, 4 * period, number)
    return np.sin((np.arange(length)[:, None] + phases) / period)[:, :, None]


def main(steps=300, length=400, future=400, number=35, hidden_size=51):
    mg.seed(0)
    waves = sine_waves(number, length)
    past, following = waves[:-1], waves[1:]  # the first three waves are not trained on
    seq = Sequence(hidden_size)
    optimizer = optim.Adam(seq.parameters())
    schedule = optim.OneCycleLR(optimizer, 3e-2, steps)
    for step in range(steps):
        loss = nn.mse_loss(seq(past[:, 3:]), following[:, 3:])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(seq.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            with mg.no_grad():
                test = nn.mse_loss(seq(past[:, :3]), following[:, :3])
            print(f"step {step + 1}: loss {loss.item():.2e}, test loss {test.item():.2e}")

    with mg.no_grad():
        predicted = seq(past[:, :3], future).numpy()
    np.savetxt("predicted.csv", predicted[:, :, 0], delimiter=",", header="wave 0,wave 1,wave 2")
    true = sine_waves(number, length + future)[1:, :3]
    error = (predicted - true)[len(past) :] ** 2
    return test.item(), float(error.mean())


if __name__ == "__main__":
    print("mean squared error one step ahead {:.1e}, of 400 steps alone {:.1e}".format(*main()))
