"""One run in a worker, and the process around it on this machine.

A worker reads one JSON request per line from its standard input and answers each with a line on
what was its standard output; what a run prints goes to standard error, a log. When its input
closes, which is also what happens when the coordinator is killed, the worker ends at once, in the
middle of a run if need be.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ...flow.results import to_line
from .config import load

READY = {"ready": True}  # said once, before the first request is read
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_one_at_a_time = threading.Lock()  # a dask worker may have threads; a run wants its process


def call(function: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Runs `function` on one point; what it returns or raises comes back as a dictionary.

    >>> call("builtins:len", {})["error"]
    'TypeError: len: expected a dictionary of results, got int'
    """
    with _one_at_a_time:
        started = time.perf_counter()
        try:
            results = plain(load(function)(dict(parameters)), function)
        except Exception as error:
            kind, text = type(error).__name__, " ".join(str(error).split())
            outcome: dict[str, Any] = {
                "error": f"{kind}: {text}" if text else kind,
                "traceback": traceback.format_exc(),
            }
        else:
            outcome = {"results": results}
        return {**outcome, "seconds": round(time.perf_counter() - started, 3)}


def plain(results: Any, function: str) -> dict[str, Any]:
    """Results as a table takes them: numbers, texts, truth values. Raises TypeError for others."""
    name = function.partition(":")[2]
    if not isinstance(results, Mapping):
        got = type(results).__name__
        raise TypeError(f"{name}: expected a dictionary of results, got {got}")
    out = {}
    for key, value in results.items():
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(value, (str, int, float, bool, type(None))):
            got = type(value).__name__
            raise TypeError(f"{name}: result {key!r} is a {got}; expected a number or a text")
        out[str(key)] = value
    return out


def main() -> None:
    """The loop of a worker process."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what runs print must not look like an answer
    faulthandler.enable()
    _die_with_parent()
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    answers.write(to_line(READY))
    answers.flush()
    while True:
        request = json.loads(requests.get())
        answer = call(request["function"], request["parameters"])
        sys.stdout.flush()
        answers.write(to_line(answer))
        answers.flush()


def _listen(requests: queue.Queue[bytes]) -> None:
    with open(0, "rb", closefd=False) as lines:
        for line in lines:
            requests.put(line)
    os._exit(0)


def _die_with_parent() -> None:
    """Has Linux kill this process when its coordinator dies, even while a run holds the GIL and
    `_listen` cannot hear of it.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
