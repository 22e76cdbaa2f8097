"""The thread pool's compiled part; threads.py makes and manages it.

    parallel_for(f, arg, n)   f(arg, i), a C function "void(int64, int64)", for all i < n, on all
                              threads
    together(p, f, arg, n)    f(arg, i) for all i < parts at the same time, each on a thread of its
                              own. parts is n, or fewer: the first word at arg then says how many
    alone, alone_together     the same, where there are no threads
    each(d, i)                f(arg, k), these three being the words of row i at d: a job of jobs
    meet(p, parts, met)       in such an f: waits until all parts have come here as often
    worker(p)                 what a thread of the pool runs
    hold(p)                   ends the workers and lets none start, until LOCK is unlocked

All state is a block of words, at p. Workers start with the first job and live until they are told
to stop. After a job they spin for some 10 us, as the next often follows at once, then sleep on a
condition variable, where they cost nothing.

A job is published by one store to LEFT: how many indices nobody has taken. Threads, the caller too,
take one by subtracting 1, and what they get is theirs if it was above 0. FUNCTION and ARGUMENT are
written before LEFT, and not again until DONE says that all indices are finished, so who took one
reads the right job, however late it woke up. If the pool is busy (a job starts another job, a
second Python thread calls), the caller runs its job alone, without waiting.

Who waits for another part of its job must know that somebody runs it. So `together` counts, with
the pool in hand, the threads that there are, and makes as many parts: each thread takes one, as
none has any other work to end first.

The threads are libc's: Numba's own pools end the process when two Python threads enter them, or a
forked child.
"""

# mypy: ignore-errors

from __future__ import annotations

import platform
import signal

from llvmlite import ir
from numba import int64, njit, types
from numba.extending import intrinsic

from minigrad.kernels.host import MOST_THREADS
from minigrad.kernels.intrinsics import array, call, declared, external, inner, static, within

# Words that threads write often lie on cache lines of their own.
LEFT, DONE, SLEEPING = 0, 8, 16
FUNCTION, ARGUMENT, COUNT, STARTED, STOPPING, WORKER = range(24, 30)
LOCK, MUTEX, CONDITION, SIGNALS = 32, 48, 64, 80  # libc's own, 128 bytes each
ARRIVED = 96  # how often a part of the job has come to a meeting
WORKERS, WORDS = 104, 104 + MOST_THREADS  # thread ids

SPINS = 2000  # pauses of a worker without a job: 10 us on Zen 4, more where a pause is longer
PATIENCE = 50  # ... of one that waits for another, which may have lost its CPU, perhaps to it
SIG_BLOCK = int(getattr(signal, "SIG_BLOCK", 0))

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_int, _word = types.int32, types.int64

create_thread = external("pthread_create", _int, _word, _word, _word, _word)
join_thread = external("pthread_join", _int, _word, _word)
mask_signals = external("pthread_sigmask", _int, _int, _word, _word)
try_lock = external("pthread_mutex_trylock", _int, _word)
lock = external("pthread_mutex_lock", _int, _word)
unlock = external("pthread_mutex_unlock", _int, _word)
wait = external("pthread_cond_wait", _int, _word, _word)
wake_all = external("pthread_cond_broadcast", _int, _word)
sched_yield = external("sched_yield", _int)


def _place(builder, p, word):
    address = builder.add(p, builder.mul(word, _I64(8)))
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic
def get(typing, p, word):
    """Read a word that others may write."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_place(builder, *args), "seq_cst", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put(typing, p, word, value):
    """Write a word that others may read; all writes before it are seen before it."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], _place(builder, *args[:2]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def add(typing, p, word, value):
    """Add to a word; returns what it was before."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", _place(builder, *args[:2]), args[2], "seq_cst")

    return types.int64(*[types.int64] * 3), generate


@intrinsic
def pause(typing):
    """Tell the CPU that this is a loop that waits."""
    x86 = platform.machine() in ("x86_64", "AMD64", "i386", "i686")
    arm = platform.machine() in ("arm64", "aarch64")

    def generate(context, builder, signature, args):
        kinds, values = ([_I32], [_I32(1)]) if arm else ([], [])
        if x86 or arm:
            name = "llvm.x86.sse2.pause" if x86 else "llvm.aarch64.hint"  # 1: yield
            builder.call(declared(builder, name, ir.VoidType(), *kinds), values)
        return context.get_dummy_value()

    return types.void(), generate


@njit(**inner)
def work(p):
    """Take indices of the job and run them until there are none."""
    while True:
        left = add(p, LEFT, -1)
        if left <= 0:
            return
        call(get(p, FUNCTION), get(p, ARGUMENT), left - 1)
        add(p, DONE, 1)


@njit(**inner)
def wake(p):
    """Wake sleeping workers."""
    # With the mutex, so that a worker is either before its look at LEFT or in its wait.
    lock(p + 8 * MUTEX)
    wake_all(p + 8 * CONDITION)
    unlock(p + 8 * MUTEX)


@njit(**inner)
def threads_for(p, n):
    """How many threads this one may have now, itself included, of n; above 1, it holds LOCK."""
    if n < 2 or get(p, COUNT) < 2 or try_lock(p + 8 * LOCK) != 0:
        return 1
    started = get(p, STARTED)
    while started < get(p, COUNT) - 1:
        if create_thread(p + 8 * (WORKERS + started), 0, get(p, WORKER), p) != 0:
            put(p, COUNT, started + 1)  # the system gives no more; go on with these
        else:
            started += 1
    put(p, STARTED, started)
    if started == 0:
        unlock(p + 8 * LOCK)
    return min(n, started + 1)


@njit(**inner)
def share(p, f, arg, n):
    """Runs a job on the threads of the pool, whose LOCK is held until it is done."""
    put(p, FUNCTION, f)
    put(p, ARGUMENT, arg)
    put(p, DONE, 0)
    put(p, LEFT, n)
    if get(p, SLEEPING) > 0:
        wake(p)
    work(p)
    spins = 0
    while get(p, DONE) < n:
        spins = patient(spins)
    unlock(p + 8 * LOCK)


@njit(**inner)
def patient(spins):
    """One turn of a loop that waits for another thread; returns how many there were."""
    if spins < PATIENCE:
        pause()
    else:
        sched_yield()
    return spins + 1


@within
def parallel_for(f, arg, n):
    kept = array(static(), 1, int64)
    if n < 0:
        kept[0] = arg
        return
    p = kept[0]  # as it was told, by n = -1
    if threads_for(p, n) > 1:
        share(p, f, arg, n)
    else:
        alone(f, arg, n)


@within
def together(p, f, arg, n):
    parts = threads_for(p, n)
    array(arg, 1, int64)[0] = parts
    if parts > 1:
        put(p, ARRIVED, 0)
        share(p, f, arg, parts)
    else:
        call(f, arg, 0)


@within
def each(d, i):
    job = array(d + 24 * i, 3, int64)
    call(job[0], job[1], job[2])


@njit(**inner)
def meet(p, parts, met):
    """Waits until all parts have come here; what they wrote before is seen behind.

    met: what the last meeting returned, 0 before the first.
    """
    if parts > 1:
        met += parts
        add(p, ARRIVED, 1)
        spins = 0
        while get(p, ARRIVED) < met:
            spins = patient(spins)
    return met


@within
def alone(f, arg, n):
    for i in range(n):
        call(f, arg, i)


@within
def alone_together(p, f, arg, n):
    array(arg, 1, int64)[0] = 1
    call(f, arg, 0)


@within
def hold(p):
    lock(p + 8 * LOCK)
    put(p, STOPPING, 1)
    wake(p)
    for i in range(get(p, STARTED)):
        join_thread(get(p, WORKERS + i), 0)
    put(p, STARTED, 0)
    put(p, STOPPING, 0)


@within
def worker(p):
    mask_signals(SIG_BLOCK, p + 8 * SIGNALS, 0)  # Ctrl-C is for threads that run Python
    while True:
        spins = 0
        while get(p, LEFT) <= 0 and get(p, STOPPING) == 0 and spins < SPINS:
            pause()
            spins += 1
        if spins == SPINS:
            lock(p + 8 * MUTEX)
            add(p, SLEEPING, 1)
            while get(p, LEFT) <= 0 and get(p, STOPPING) == 0:
                wait(p + 8 * CONDITION, p + 8 * MUTEX)
            add(p, SLEEPING, -1)
            unlock(p + 8 * MUTEX)
        if get(p, STOPPING) != 0:
            return 0
        work(p)
