"""The loop of a peer process: one request a line on stdin, one answer a line on stdout, both JSON.

An answer starts with MARK: lines without it are what some library printed.

    {"prepare": CASE, "args": {...}, "save": FILE}   runs the case once and saves what it computed
    {"calibrate": SECONDS}                           -> {"calls": n} that together take that long
    {"time": CALLS, "after": SECONDS}                -> {"seconds": per call}, after a run-in

A case is a function of its arguments that returns (run, collect): `run()` is what is timed, and
`collect(result)` turns what it returned into named arrays. Runs in any interpreter that has NumPy
and the peer itself.
"""

import json
import os
import sys
from time import perf_counter

import numpy as np

MARK = "answer: "


def threads():
    return int(os.environ["MINIGRAD_BENCH_THREADS"])


def serve(cases):
    peer = _Peer(cases)
    for line in sys.stdin:
        try:
            answer = peer.answer(**json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(MARK + json.dumps(answer), flush=True)


class _Peer:
    def __init__(self, cases):
        self.cases = cases
        self.run = None

    def answer(self, prepare=None, args=None, save=None, calibrate=None, time=None, after=0.0):
        if prepare is not None:
            self.run, collect = self.cases[prepare](**args)
            np.savez(save, **collect(self.run()))
            return {}
        if calibrate is not None:
            return {"calls": self.calibrate(calibrate)}
        return {"seconds": self.time(time, after)}

    def calibrate(self, seconds):
        """The smallest power of two of calls that takes long enough; warms up on the way."""
        calls = 1
        while self.time(calls) * calls < seconds:
            calls *= 2
        return calls

    def time(self, calls, after=0.0):
        run = self.run
        # Not timed: threads that slept may wake on one core (two took up to 10 ms to part on a
        # 2-core machine; on a slower one, steps of 6 ms took 10 all along).
        begin = perf_counter() + after
        for _ in range(max(1, calls // 2)):
            run()
        while perf_counter() < begin:
            run()
        start = perf_counter()
        for _ in range(calls):
            run()
        return (perf_counter() - start) / calls
