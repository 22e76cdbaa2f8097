"""Shows how the gradient flows back through time in RNN, LSTM, GRU and BiLSTM trained on real text.

    python3 tools/demo.py [arguments of `minigrad flow`]

Sets up its own environment, runs `minigrad flow` and says which pictures to open.
"""

import sys

import _env


def demo():
    python = _env.ensure()
    return _env.run([python, "-m", "minigrad", "flow", *sys.argv[1:]])


if __name__ == "__main__":
    _env.main(demo)
