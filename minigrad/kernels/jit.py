"""How kernels run in this process, and where they are built: undisturbed, one at a time.

compiler.py compiles them. This file keeps Numba whole while it does: a Numba that was half
imported, or stopped while it fills its tables, fails for good.
"""

from __future__ import annotations

import _thread
import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from minigrad.errors import MinigradError


class KernelError(MinigradError, RuntimeError):
    """A kernel that can't be built."""


@cache
def mode() -> str:
    """How kernels run in this process: "native", "checked" or "plain".

    "checked" with NUMBA_BOUNDSCHECK=1, "plain" (as Python) with NUMBA_DISABLE_JIT=1.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "plain"
    return "checked" if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0") else "native"


_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A fork waits for the kernel that another thread builds: the child, which has no such thread,
    # would wait for ever for what it held, this lock, Numba's, LLVM's or an import's. Numba logs,
    # and a fork holds the lock of logging: to be taken after this one, logging registers before it.
    import logging  # noqa: F401

    _taken: list[bool] = []  # the lock, for the time of a fork
    _late: list[bool] = []  # Ctrl-C that came while a fork waited

    def _before_fork() -> None:
        """Takes the lock, whatever comes: after an error in here Python forks all the same."""
        while not (_taken and _lock._is_owned()):  # type: ignore[attr-defined]
            try:
                _taken.extend(map(_lock.acquire, (True,)))  # both or neither, for a handler
            except KeyboardInterrupt:
                _late.append(True)

    def _after_fork() -> None:
        _late.clear()
        if _taken and _lock._is_owned():  # type: ignore[attr-defined]
            _taken.clear()
            _lock.release()

    def _after_fork_here() -> None:
        late = bool(_late)
        _after_fork()
        if late:
            # Behind this function, in which Python would swallow it.
            threading.Timer(0.02, _thread.interrupt_main).start()

    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork
    )


_STACK = 16 << 20  # for LLVM, whatever a program has set for threads of its own


def undisturbed(work: Callable[[], object]) -> None:
    """work() under the lock, cut short by no handler of a signal: they run in the main thread only.

    A Numba that was half imported, or stopped while it fills its tables, fails for good. So work
    that the main thread asks for is done in another one. Ctrl-C ends the waiting at once; the work
    goes on to its end, and what needs it next, a fork or the end of the process too, waits for it.
    """
    here = threading.current_thread() is not threading.main_thread()
    if here or _lock._is_owned():  # type: ignore[attr-defined]  # else it would wait for this thread
        with _lock:
            work()
        return
    done, errors = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            with _lock:
                work()
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    before = threading.stack_size(_STACK)
    try:
        threading.Thread(target=run, name="minigrad build").start()
    finally:
        threading.stack_size(before)
    done.wait()  # not join: interrupted, that takes the thread for ended
    if errors:
        raise errors.pop()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Numba makes a million objects that stay: a seventh of its time went into looking at them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def for_good(made: Any) -> Any:
    """The object, which now outlasts the interpreter: a daemon thread may be in a kernel to the
    end, and run code or read words that would be freed with the modules that hold them.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    return made
