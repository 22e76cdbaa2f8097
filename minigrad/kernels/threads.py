"""The one thread pool: every kernel that splits its work does so through it.

The pool itself is compiled (pool.py), so that a kernel starts a job in 1 us, without Python and
without the GIL. Its threads are libc's. Splitting work never changes arithmetic: results have the
same bits for any number of threads.

- Their number is what `set_num_threads` said, else $MINIGRAD_NUM_THREADS, else the number of CPUs
  that this process may use. Where there are no pthreads (Windows) it is 1.
- Any number of Python threads may call kernels at once: one gets the pool, the others run alone.
- Around os.fork the workers end and start again when needed, in the parent and in the child.
- When the interpreter exits, they end before it takes down what they run in.

A source declares what it needs of `links()`:

    parallel_for = external("minigrad_parallel_for", "void(ptr, ptr, i64)")  # from memory.py
    thread_count = external("minigrad_thread_count", "i64()")
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import threading
from functools import cache
from numbers import Integral
from pathlib import Path

from minigrad.errors import MinigradError
from minigrad.kernels import host, jit

MOST_THREADS = 512

_EXPORTS = {
    "parallel_for": "void(ptr, ptr, i64)",
    "thread_count": "i64()",
    "work": "void(i64)",
    "worker": "ptr(ptr)",
    "wake": "void()",
    "hold": "void()",
    "release": "void()",
    "forget": "void()",
}
_THREADS, _SIGNALS, _WORKERS = 35, 72, 88  # places in pool.py
_LIBC = (
    "pthread_create pthread_join pthread_sigmask sched_yield "
    "pthread_mutex_lock pthread_mutex_unlock pthread_mutex_init "
    "pthread_cond_wait pthread_cond_broadcast pthread_cond_init"
)
# Signals that a thread gets for its own faults stay open: blocked, they would hide a crash.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGPROF")


class ThreadsError(MinigradError, ValueError):
    """A number of threads that makes no sense."""


@cache
def _memory() -> ctypes.Array[ctypes.c_int64]:
    """The pool's words and room to align them.

    One place as long as the process lives: the code, linked to it once, would use the old one
    where Ctrl-C stops the making of a pool and another is made.
    """
    return (ctypes.c_int64 * (_WORKERS + MOST_THREADS + 8))()


class _Pool:
    """The pool's words and functions; made for the first kernel that needs them."""

    def __init__(self, count: int) -> None:
        words = _WORKERS + MOST_THREADS
        start = -(-ctypes.addressof(_memory()) // 64) * 64  # on a cache line
        self.words = (ctypes.c_int64 * words).from_address(start)
        functions = _libc_functions()
        self.threaded = functions is not None
        if functions is None:  # never called: one thread
            functions = dict.fromkeys(_LIBC.split(), start)
        path = Path(__file__).with_name("pool.py")
        text = jit.source(path, SIG_BLOCK=int(getattr(signal, "SIG_BLOCK", 0)))
        kernel = jit.build("pool", text, _EXPORTS, {"minigrad_pool": start, **functions})
        self.links = {f"minigrad_{name}": kernel[name] for name in ("parallel_for", "thread_count")}
        self.parallel_for = kernel.function("parallel_for")
        self.hold, self.release, self.forget = map(kernel.function, ("hold", "release", "forget"))
        self.words[_THREADS] = count if self.threaded else 1
        self.owner = os.getpid()
        if not self.threaded:
            return
        for number in signal.valid_signals() - {getattr(signal, name, None) for name in _FAULTS}:
            self.words[_SIGNALS + (number - 1) // 64] |= 1 << (number - 1) % 64
        self.forget()
        atexit.register(self.end)
        os.register_at_fork(
            before=self.hold, after_in_parent=self.release, after_in_child=self.renew
        )

    def resize(self, count: int) -> None:
        if self.threaded:
            self.hold()
            self.words[_THREADS] = count
            self.release()

    def renew(self) -> None:
        """In a forked child."""
        self.owner = os.getpid()
        self.forget()

    def end(self) -> None:
        """At exit: LLVM takes down the workers' code while the interpreter shuts down."""
        if os.getpid() == self.owner:  # else forked behind Python's back, with no workers
            self.resize(1)


def _libc_functions() -> dict[str, int] | None:
    """Addresses of what the pool calls, or None where the platform lacks any of it."""
    if os.name != "posix":
        return None
    libc = ctypes.CDLL(None)
    try:
        functions = {name: getattr(libc, name) for name in _LIBC.split()}
    except AttributeError:
        return None
    pointer = ctypes.c_void_p
    return {name: ctypes.cast(f, pointer).value or 0 for name, f in functions.items()}


_lock = threading.RLock()
_pool: _Pool | None = None
_asked: int | None = None  # by set_num_threads


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that the child does not have may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def links() -> dict[str, int]:
    """Addresses of `minigrad_parallel_for` and `minigrad_thread_count`, for jit.build(links=)."""
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = _Pool(_wanted())
    return _pool.links


def parallel_for(f: int, argument: int, count: int) -> None:
    """Calls the C function "void(i64, i64)" at f with (argument, i), i < count, on all threads."""
    links()
    assert _pool is not None
    _pool.parallel_for(f, argument, count)


def get_num_threads() -> int:
    """How many threads kernels use."""
    return _wanted() if _pool is None else _pool.words[_THREADS]


def set_num_threads(n: int) -> None:
    """Use n threads, the calling one included; results keep their bits.

    Raises ThreadsError (a ValueError) unless n is a whole number from 1 to 512.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _asked
    if isinstance(n, bool) or not isinstance(n, Integral) or not 1 <= n <= MOST_THREADS:
        raise ThreadsError(
            f"set_num_threads: expected a whole number from 1 to {MOST_THREADS}, came {n!r}."
        )
    with _lock:
        _asked = int(n)
        if _pool is not None:
            _pool.resize(_asked)


def _wanted() -> int:
    if _asked is not None:
        return _asked
    text = os.environ.get("MINIGRAD_NUM_THREADS", "").strip()
    if not text:
        return min(host.default_threads(), MOST_THREADS)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_THREADS:
        raise ThreadsError(
            f"$MINIGRAD_NUM_THREADS: expected a whole number from 1 to {MOST_THREADS}, "
            f"came {text!r}; set it right or unset it."
        )
    return int(text)


def describe() -> str:
    """One line for `minigrad info`: how many threads, and why only one."""
    if jit.mode() == "plain":
        return "1 thread: NUMBA_DISABLE_JIT=1, kernels run on NumPy"
    if _libc_functions() is None:
        return "1 thread: this platform has no pthreads"
    count = get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"
