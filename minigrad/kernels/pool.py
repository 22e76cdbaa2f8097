"""Numba side: the thread pool. Executed only to be compiled; threads.py allocates and manages it.

    parallel_for(f, arg, n)   f(arg, i), a "void(ptr, i64)", for all i < n, on all threads
    thread_count()            how many threads that is, the caller's included
    hold(), release()         end the workers and let none start; let them start again
    forget()                  `release` in a forked child, where workers are gone without ending

SIG_BLOCK and the libc functions named below come from there. All state is a block of words, the
symbol `minigrad_pool`. Workers start with the first job and live until `hold`. After a job they
spin for some 10 us, as the next often follows at once, then sleep on a condition variable, where
they cost nothing.

A job is published by one store to TICKET: (number of the job << 32) + next index. Threads, the
caller too, take an index by compare-and-swap. What the job is (FUNCTION, ARGUMENT, COUNT) changes
only between the store that closes TICKET (index LAST) and the one that publishes, so who took an
index has read the right job, however late it woke up. Then the caller waits until DONE says that
all taken indices are finished. If the pool is busy (a job starts another job, a second Python
thread calls), the caller runs its job alone, without waiting.
"""

# mypy: ignore-errors

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minigrad.kernels.memory import address, address_of, external, invoke, ptr

# Words that threads write often lie on cache lines of their own.
TICKET, DONE, LOCK, SLEEPING = 0, 8, 16, 24
FUNCTION, ARGUMENT, COUNT, THREADS, STARTED, STOPPING = range(32, 38)
MUTEX, CONDITION, SIGNALS, WORKERS = 40, 56, 72, 88  # libc's own, 128 bytes each; thread ids

LAST = 0xFFFFFFFF
SPINS = 2000  # pauses: 10 us on Zen 4, more where a pause is longer

I64 = ir.IntType(64)
NOTHING = ir.FunctionType(ir.VoidType(), [])
WORD_POINTER = types.CPointer(types.int64)


create_thread = external("pthread_create", "i32(ptr, ptr, ptr, ptr)")
join_thread = external("pthread_join", "i32(i64, ptr)")
mask_signals = external("pthread_sigmask", "i32(i32, ptr, ptr)")
lock_mutex = external("pthread_mutex_lock", "i32(ptr)")
unlock_mutex = external("pthread_mutex_unlock", "i32(ptr)")
init_mutex = external("pthread_mutex_init", "i32(ptr, ptr)")
wait_condition = external("pthread_cond_wait", "i32(ptr, ptr)")
wake_condition = external("pthread_cond_broadcast", "i32(ptr)")
init_condition = external("pthread_cond_init", "i32(ptr, ptr)")
sched_yield = external("sched_yield", "i32()")
run_work = external("minigrad_work", "void(i64)")  # these two are exports of this build
run_wake = external("minigrad_wake", "void()")


@intrinsic
def pool(typing):
    """The block of words."""

    def generate(context, builder, signature, args):
        module, name = builder.module, "minigrad_pool"
        kind = ir.ArrayType(I64, 8)
        block = module.globals.get(name) or cgutils.add_global_variable(module, kind, name)
        return builder.bitcast(block, I64.as_pointer())

    return WORD_POINTER(), generate


@intrinsic
def at(typing, p, word):
    """The address of a word, for libc."""

    def generate(context, builder, signature, args):
        return builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())

    return types.voidptr(WORD_POINTER, types.int64), generate


@intrinsic
def get(typing, p, word):
    """Read a word that others may write."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.int64(WORD_POINTER, types.int64), generate


@intrinsic
def put(typing, p, word, value):
    """Write a word that others may read; all writes before it are seen before it."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(WORD_POINTER, types.int64, types.int64), generate


@intrinsic
def add(typing, p, word, value):
    """Add to a word."""

    def generate(context, builder, signature, args):
        builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")
        return context.get_dummy_value()

    return types.void(WORD_POINTER, types.int64, types.int64), generate


@intrinsic
def change(typing, p, word, expected, value):
    """Write a word if it holds what is expected; returns whether it did."""

    def generate(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]])
        result = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(WORD_POINTER, *[types.int64] * 3), generate


@intrinsic
def pause(typing):
    """Tell the CPU that this is a loop that waits."""
    x86 = platform.machine() in ("x86_64", "AMD64", "i386", "i686")
    arm = platform.machine() in ("arm64", "aarch64")

    def generate(context, builder, signature, args):
        if x86:
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), NOTHING), [])
        if arm:
            hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            function = builder.module.declare_intrinsic("llvm.aarch64.hint", (), hint)
            builder.call(function, [ir.IntType(32)(1)])  # 1: yield
        return context.get_dummy_value()

    return types.void(), generate


def parallel_for(f, arg, n):
    p = pool()
    if n < 2 or get(p, THREADS) < 2 or not change(p, LOCK, 0, 1):
        for i in range(n):
            invoke(f, "void(ptr, i64)", arg, i)
        return
    last_job = get(p, TICKET) >> 32
    started = get(p, STARTED)
    while started < get(p, THREADS) - 1:
        if create_thread(at(p, WORKERS + started), ptr(0), address_of("worker"), ptr(last_job)):
            put(p, THREADS, started + 1)  # the system gives no more; go on with these
        else:
            started += 1
    put(p, STARTED, started)
    put(p, FUNCTION, address(f))
    put(p, ARGUMENT, address(arg))
    put(p, COUNT, n)
    put(p, DONE, 0)
    job = (last_job + 1) & 0x7FFFFFFF
    put(p, TICKET, job << 32)
    if get(p, SLEEPING) > 0:
        run_wake()
    run_work(job)
    spins = 0
    while get(p, DONE) < n:
        spins += 1
        if spins < SPINS:
            pause()
        else:  # a worker has lost its CPU to some other process
            sched_yield()
    put(p, TICKET, (job << 32) + LAST)
    put(p, LOCK, 0)


def work(job):
    p = pool()
    while True:
        ticket = get(p, TICKET)
        f, arg, count = get(p, FUNCTION), get(p, ARGUMENT), get(p, COUNT)
        index = ticket & LAST
        if ticket >> 32 != job or index >= count:
            return
        if change(p, TICKET, ticket, ticket + 1):
            invoke(ptr(f), "void(ptr, i64)", ptr(arg), index)
            add(p, DONE, 1)


def worker(job_seen):
    p = pool()
    mask_signals(SIG_BLOCK, at(p, SIGNALS), ptr(0))  # Ctrl-C is for threads that run Python
    seen = address(job_seen)
    while True:
        spins = 0
        while get(p, TICKET) >> 32 == seen and get(p, STOPPING) == 0 and spins < SPINS:
            pause()
            spins += 1
        if spins == SPINS:
            lock_mutex(at(p, MUTEX))
            add(p, SLEEPING, 1)
            while get(p, TICKET) >> 32 == seen and get(p, STOPPING) == 0:
                wait_condition(at(p, CONDITION), at(p, MUTEX))
            add(p, SLEEPING, -1)
            unlock_mutex(at(p, MUTEX))
        if get(p, STOPPING) != 0:
            return ptr(0)
        seen = get(p, TICKET) >> 32
        run_work(seen)


def wake():
    p = pool()
    # With the mutex, so that a worker is either before its look at TICKET or in its wait.
    lock_mutex(at(p, MUTEX))
    wake_condition(at(p, CONDITION))
    unlock_mutex(at(p, MUTEX))


def thread_count():
    return get(pool(), THREADS)


def hold():
    p = pool()
    while not change(p, LOCK, 0, 1):
        sched_yield()
    put(p, STOPPING, 1)
    run_wake()
    for i in range(get(p, STARTED)):
        join_thread(get(p, WORKERS + i), ptr(0))
    put(p, STARTED, 0)
    put(p, STOPPING, 0)


def release():
    put(pool(), LOCK, 0)


def forget():
    p = pool()
    for word in (STARTED, STOPPING, SLEEPING):
        put(p, word, 0)
    put(p, TICKET, LAST)
    init_mutex(at(p, MUTEX), ptr(0))
    init_condition(at(p, CONDITION), ptr(0))
    put(p, LOCK, 0)
