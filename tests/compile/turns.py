"""Threads that share the units of a step, without JIT: one part runs at a time, in a given order.

A meeting too few shows: what one part reads too early, or writes too soon, depends on the order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.compile import kernel, nest, prepared
from minigrad.kernels.steps import array


@contextmanager
def in_turns(order: Sequence[int]) -> Iterator[list[int]]:
    """Divided kernels run as so many parts, between two meetings in this order; memory is NaN until
    somebody writes there.

    Gives a list with the number of meetings of each kernel that ran.
    """
    real, line, empty, met = kernel.Variant.call, nest.LINE, prepared.empty, list[int]()

    def call(self: Any, words: int, parts: int) -> Any:
        if not self.divided:
            return real(self, words, parts)
        return (lambda: met.append(_turns(self.built.module, words, order))), ()

    def blank(shape: Any, dtype: Any) -> Any:
        array = empty(shape, dtype)
        array.reshape(-1).view(np.uint8).fill(255)
        return array

    kernel.Variant.call, nest.LINE, prepared.empty = call, 1, blank
    try:
        yield met
    finally:
        kernel.Variant.call, nest.LINE, prepared.empty = real, line, empty


def _turns(module: Any, words: int, order: Sequence[int]) -> int:
    """Runs all parts of a kernel; how often they met."""
    array(words, 1, "int64")[0] = len(order)
    go = {i: threading.Semaphore(0) for i in order}
    back = threading.Semaphore(0)
    meetings = dict.fromkeys(order, 0)
    running = dict.fromkeys(order, True)
    errors: list[BaseException] = []
    mine = threading.local()

    def meet(pool: int, parts: int, met: int) -> int:
        assert parts == len(order)
        meetings[mine.index] += 1
        back.release()
        go[mine.index].acquire()
        return met + parts

    def work(index: int) -> None:
        go[index].acquire()
        mine.index = index
        try:
            with np.errstate(all="ignore"):
                module.part(words, index)
        except BaseException as error:
            errors.append(error)
        running[index] = False
        back.release()

    real: Callable[..., int] | None = getattr(module, "meet", None)
    module.meet = meet
    workers = [threading.Thread(target=work, args=(i,)) for i in order]
    for worker in workers:
        worker.start()
    while any(running.values()):
        for i in order:
            if running[i]:
                go[i].release()
                back.acquire()
        counts = set(meetings.values())
        if not errors:
            assert len(counts) == 1, f"parts met {meetings} times"
    for worker in workers:
        worker.join()
    module.meet = real
    if errors:
        raise errors[0]
    return meetings[order[0]]
