"""The exact linear algebra of a recurrent network: how long its Jacobians and exponents take."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import numpy as np
from harness import PEERS, Options, Row, Timing, must_agree, run_process

SCRIPT = str(PEERS / "laboratory.py")
# what -> (its name, the sizes it is measured at, those of --quick, the most seconds it may take)
CASES = {
    "jacobians": ("all Jacobians of an LSTM (B, T, I, H) =", (1, 100, 64, 64), (1, 5, 2, 3), 0.5),
    "lyapunov": ("Lyapunov exponents, tanh network (N, T, k) =", (100, 600, 100), (5, 20, 5), 1.0),
}


def rows(options: Options) -> Iterator[Row]:
    for what, (name, full, small, limit) in CASES.items():
        size = small if options.quick else full
        command = [sys.executable, SCRIPT, what, str(options.rounds), *map(str, size)]
        _, output = run_process(command)  # one thread: its many small QRs gain nothing from two
        answer = json.loads(output)
        got = {"sample": np.asarray(answer["got"])}
        must_agree(what, got, {"sample": np.asarray(answer["expected"])}, answer["tolerance"])
        times = Timing(answer["seconds"])
        yield Row(
            "laboratory",
            f"{name} {size}",
            times.median * 1e3,
            "ms",
            spread=times.spread(1e3),
            limit=None if options.quick else limit * 1e3,
        )
