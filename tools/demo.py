"""Shows how the gradient flows back through time in RNN, LSTM, GRU and BiLSTM trained on real text.

    python3 tools/demo.py [arguments of `minigrad flow`]

Sets up its own environment, runs `minigrad flow` and says which pictures to open.
"""

import argparse
import sys
import time
from pathlib import Path

import _env


def demo():
    python = _env.ensure()
    started = time.time()
    status = _env.run([python, "-m", "minigrad", "flow", *sys.argv[1:]])
    pictures = drawn_since(started) if status == 0 else []
    if pictures:
        print("\nOpen in a browser:")
        print("\n".join(f"    {path}" for path in pictures))
    return status


def drawn_since(started):
    """The pictures that `minigrad flow` has written, the comparison first."""
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("--out", type=Path)
    out = arguments.parse_known_args()[0].out
    folders = [out] if out else Path.cwd().glob("minigrad-flow*")
    found = [path.resolve() for folder in folders for path in folder.glob("*.svg")]
    new = [path for path in found if path.stat().st_mtime >= started - 2]  # coarse file clocks
    return sorted(new, key=lambda path: (path.stem != "comparison", path.name))


if __name__ == "__main__":
    _env.main(demo)
