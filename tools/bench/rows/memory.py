"""What an LSTM keeps for its backward pass, beyond its inputs and outputs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import numpy as np
import oracle
from harness import PEERS, Options, Row, run_process
from sequences import SIZES, sizes

SCRIPT = str(PEERS / "kept_memory.py")


def rows(options: Options) -> Iterator[Row]:
    size = sizes(options, SIZES[3:4])[0]
    _, output = run_process([sys.executable, SCRIPT, "lstm", *map(str, size)], threads=2)
    answer = json.loads(output)
    got = {name: np.asarray(answer[name]) for name in ("loss", "gradient")}
    oracle.check("minigrad", got, "lstm", size)
    states = 4 * size.steps * size.batch * size.hidden  # bytes of a float for each t, b, h
    yield Row(
        "memory",
        f"kept for BPTT, LSTM {tuple(size)}",
        answer["kept"] / states,
        "floats",
        limit=7.0,
        note=f"for each step, row and unit; the backward pass itself takes "
        f"{answer['backward'] / states:.2g} more at its peak",
    )
