"""The one thread pool: every kernel that splits its work does so through it.

The pool itself is compiled (pool.py), so that a kernel starts a job in 1 us, without Python and
without the GIL. Its threads are libc's. Splitting work never changes arithmetic: results have the
same bits for any number of threads.

- Their number is what `set_num_threads` said, else $MINIGRAD_NUM_THREADS, else the number of CPUs
  that this process may use. Where there are no pthreads (Windows) it is 1.
- Any number of Python threads may call kernels at once: one gets the pool, the others run alone.
- Around os.fork the workers end and start again when needed, in the parent and in the child.
- When the interpreter exits, they end before it takes down what they run in.

`links()` has the addresses that kernels need: of the C functions parallel_for(f, arg, n) and
together(p, f, arg, n), and of the word that says how many threads there are.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import threading
from collections.abc import Sequence
from functools import cache, partial
from itertools import chain
from numbers import Integral
from typing import Any

from minigrad.errors import MinigradError
from minigrad.kernels import host, jit
from minigrad.kernels.compiler import build_from, takes
from minigrad.kernels.host import MOST_THREADS

# What pool.py calls.
_LIBC = (
    "pthread_create pthread_join pthread_sigmask sched_yield pthread_mutex_lock "
    "pthread_mutex_trylock pthread_mutex_unlock pthread_mutex_init pthread_cond_wait "
    "pthread_cond_broadcast pthread_cond_init"
)
# Signals that a thread gets for its own faults stay open: blocked, they would hide a crash.
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGPROF")
# Of pool.py, where there are threads and where there are none.
_POOL = {
    "parallel_for": takes(3), "together": takes(4), "each": takes(2),
    "worker": "int64(int64)", "hold": takes(1),
}  # fmt: skip
_ALONE = {"alone": takes(3), "alone_together": takes(4), "each": takes(2)}


class ThreadsError(MinigradError, ValueError):
    """A number of threads that makes no sense."""


@cache
def _memory() -> ctypes.Array[ctypes.c_int64]:
    """The pool's words and room to align them.

    One place as long as the process lives: the code, linked to it once, would use the old one
    where Ctrl-C stops the making of a pool and another is made.
    """
    from minigrad.kernels.pool import WORDS

    return jit.for_good((ctypes.c_int64 * (WORDS + 8))())


class _Pool:
    """The pool's words and functions; made for the first kernel that needs them."""

    def __init__(self, count: int) -> None:
        from minigrad.kernels import pool as layout

        self.layout = layout
        self.start = -(-ctypes.addressof(_memory()) // 64) * 64  # on a cache line
        self.words = (ctypes.c_int64 * layout.WORDS).from_address(self.start)
        libc = _libc()
        self.threaded = libc is not None
        self.words[layout.COUNT] = count if self.threaded else 1
        kernel = build_from("pool", "pool", _POOL if self.threaded else _ALONE)
        parallel_for, together, *_ = kernel.signatures  # as these kernels call them
        self.parallel_for = kernel.function(parallel_for)
        self.together = kernel.function(together)
        self.each = kernel["each"]
        self.links = {
            "minigrad_parallel_for": kernel[parallel_for],
            "minigrad_together": kernel[together],
            "minigrad_thread_count": self.at(layout.COUNT),
        }
        self.owner = os.getpid()
        if libc is None:
            return
        self.libc = libc
        word = ctypes.c_int64
        ctypes.CFUNCTYPE(None, word, word, word)(kernel[parallel_for])(0, self.start, -1)
        self.words[layout.WORKER] = kernel["worker"]
        # In one call of C each: Ctrl-C comes before or after.
        self.hold = partial(kernel.function("hold"), self.start)
        self.release = partial(libc.pthread_mutex_unlock, ctypes.c_void_p(self.at(layout.LOCK)))
        for number in signal.valid_signals() - {getattr(signal, name, None) for name in _FAULTS}:
            self.words[layout.SIGNALS + (number - 1) // 64] |= 1 << (number - 1) % 64
        self.forget()
        atexit.register(self.end)
        os.register_at_fork(
            before=self.hold, after_in_parent=self.release, after_in_child=self.renew
        )

    def at(self, word: int) -> int:
        """The address of a word."""
        return self.start + 8 * word

    def forget(self) -> None:
        """`release` in a forked child, where workers are gone without ending."""
        layout = self.layout
        for word in (layout.LEFT, layout.SLEEPING, layout.STARTED, layout.STOPPING):
            self.words[word] = 0
        for word in (layout.LOCK, layout.MUTEX):
            self.libc.pthread_mutex_init(ctypes.c_void_p(self.at(word)), None)
        self.libc.pthread_cond_init(ctypes.c_void_p(self.at(layout.CONDITION)), None)

    def resize(self, count: int) -> None:
        if self.threaded:
            self.hold()
            self.words[self.layout.COUNT] = count
            self.release()

    def renew(self) -> None:
        """In a forked child."""
        self.owner = os.getpid()
        self.forget()

    def end(self) -> None:
        """At exit: LLVM takes down the workers' code while the interpreter shuts down."""
        if os.getpid() == self.owner:  # else forked behind Python's back, with no workers
            self.resize(1)


def _libc() -> ctypes.CDLL | None:
    """The C library, or None where it lacks any of what the pool calls."""
    if os.name != "posix":
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, name) for name in _LIBC.split()) else None


_lock = threading.RLock()
_pool: _Pool | None = None
_asked: int | None = None  # by set_num_threads


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that the child does not have may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _made() -> _Pool:
    """The pool, made if there is none yet."""
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = _Pool(_wanted())
    return _pool


def links() -> dict[str, int]:
    """Addresses: of the C functions of the pool, and of the word with the number of threads."""
    return _made().links


def parallel_for(f: int, argument: int, count: int) -> None:
    """Calls the C function "void(i64, i64)" at f with (argument, i), i < count, on all threads."""
    _made().parallel_for(f, argument, count)


def together(f: int, argument: int, count: int) -> None:
    """Calls the C function "void(i64, i64)" at f with (argument, i), i < parts, at the same time.

    argument: the address of words, of which the first is set to parts: at most `count`, and 1 where
    the pool is busy. f may `meet` (pool.py) the other parts; the address for that is `pool_words`.
    """
    pool = _made()
    pool.together(pool.start, f, argument, count)


def side_by_side(jobs: Sequence[tuple[int, int, int]]) -> tuple[Any, Any]:
    """parallel_for of several jobs (f, argument, count) at once, which must not wait for others:
    the call that runs them, a function and its arguments, and what has to live as long.
    """
    return at_once([(f, argument, i) for f, argument, count in jobs for i in range(count)])


def at_once(calls: Sequence[tuple[int, int, int]]) -> tuple[Any, Any]:
    """The same of single calls f(a, b)."""
    words = (ctypes.c_int64 * (3 * len(calls)))(*chain.from_iterable(calls))
    return (parallel_for, (_made().each, ctypes.addressof(words), len(calls))), words


def pool_words() -> int:
    """The address of the pool's words."""
    return _made().start


def get_num_threads() -> int:
    """How many threads kernels use."""
    return _wanted() if _pool is None else _pool.words[_pool.layout.COUNT]


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
    if _libc() is None:
        return "1 thread: this platform has no pthreads"
    count = get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"
