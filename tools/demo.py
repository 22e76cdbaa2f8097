"""Shows how the gradient flows back through time in RNN, LSTM, GRU and BiLSTM trained on real text.

    python3 tools/demo.py [arguments of `minigrad flow`]

Sets up its own environment, runs `minigrad flow` and says what to open: a page that walks through
it step by step, and pictures.
"""

import argparse
import sys
from pathlib import Path

import _env


def demo():
    python = _env.ensure()
    before = pictures()
    status = _env.run([python, "-m", "minigrad", "flow", *sys.argv[1:]])
    drawn = [path for path, time in pictures().items() if before.get(path) != time]
    if drawn and status == 0:
        print("\nOpen in a browser:")
        first = ["explorer.html", "comparison.svg"]
        for path in sorted(
            drawn, key=lambda path: (path.name not in first, path.suffix, path.name)
        ):
            print(f"    {path}")
    return status


def pictures():
    """path -> time of writing, of all pages and pictures where `minigrad flow` may put its own."""
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("--out", type=Path)
    out = arguments.parse_known_args()[0].out
    folders = [out] if out else Path.cwd().glob("minigrad-flow*")
    kinds = ("*.html", "*.svg")
    found = [path.resolve() for folder in folders for kind in kinds for path in folder.glob(kind)]
    return {path: path.stat().st_mtime_ns for path in found}


if __name__ == "__main__":
    _env.main(demo)
