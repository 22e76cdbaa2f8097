"""The thread pool: who runs what, from several Python threads, after a fork, at exit."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from minigrad.kernels import threads
from minigrad.kernels.compiler import build
from minigrad.kernels.multiplying import matmul

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

SOURCE = """
from numba import int64
from minigrad.kernels.intrinsics import array, call, caller, words
from minigrad.kernels.pool import meet
from numba import types

parallel_for = caller(types.void, types.int64, types.int64, types.int64)

def count(d, i):
    array(d, i + 1, int64)[i] += 1

def nested(job_, i):
    job = array(job_, i + 4, int64)
    parallel_for(job[0], job[1], job[i + 3], 10)

def run(pool, f, d, n):
    parallel_for(pool, f, d, n)

def part(d, index):
    parts, pool, times, missed = words(d, 4)
    seen, met = array(d + 32, 64, int64), 0
    for k in range(times):
        seen[index] = k + 1
        met = meet(pool, parts, met)
        for other in range(parts):
            if seen[other] != k + 1:
                array(d, 4, int64)[3] += 1
        met = meet(pool, parts, met)
"""
EXPORTS = {
    "count": "void(int64, int64)",
    "nested": "void(int64, int64)",
    "run": "void(int64, int64, int64, int64)",
    "part": "void(int64, int64)",
}


class Counting:
    """`run(words, n)` adds 1 to each of n words, on the pool."""

    def __init__(self):
        self.kernel = build("counting", SOURCE, EXPORTS)
        self.pool = threads.links()["minigrad_parallel_for"]

    def run(self, words, n):
        self.kernel.function("run")(self.pool, self.kernel["count"], words, n)

    def run_nested(self, words):
        """The same for each row of an array, in a job of jobs."""
        job = np.array([self.pool, self.kernel["count"], 0, *(w.ctypes.data for w in words)])
        self.kernel.function("run")(self.pool, self.kernel["nested"], job.ctypes.data, len(words))

    def meet(self, times, count):
        """(in how many parts a job ran that met so often, how often one was not where it should)"""
        words = np.zeros(4 + 64, np.int64)
        words[:3] = 0, threads.pool_words(), times
        threads.together(self.kernel["part"], words.ctypes.data, count)
        assert (words[4 : 4 + words[0]] == times).all()
        return int(words[0]), int(words[3])


@pytest.fixture
def kernel():
    return Counting()


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def system_threads() -> int:
    """Threads of this process, workers and others; one that has ended is listed a little longer."""
    time.sleep(0.05)
    return len(os.listdir("/proc/self/task"))


@pytest.mark.needs_jit
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_index_runs_once(kernel, count):
    threads.set_num_threads(count)
    assert ctypes.c_int64.from_address(threads.links()["minigrad_thread_count"]).value == count
    run = kernel.run
    for n in (0, 1, 2, 3, 1000):
        words = np.zeros(n + 1, np.int64)
        for _ in range(50):
            run(words.ctypes.data, n)
        np.testing.assert_array_equal(words, [50] * n + [0])


@pytest.mark.needs_jit
def test_a_job_may_start_jobs(kernel):
    threads.set_num_threads(3)
    words = np.zeros((7, 10), np.int64)
    kernel.run_nested(words)
    assert (words == 1).all()


@pytest.mark.needs_jit
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_parts_of_a_job_wait_for_one_another(kernel, count):
    threads.set_num_threads(count)
    for times in (0, 1, 2, 100):
        for wanted in (1, 2, count, count + 3):
            assert kernel.meet(times, wanted) == (min(wanted, count), 0)


@pytest.mark.needs_jit
def test_python_threads_may_all_start_jobs_that_meet(kernel):
    """Who finds the pool busy does all alone; nobody waits for a thread that there is not."""
    threads.set_num_threads(3)
    found = []

    def work():
        for _ in range(100):
            found.append(kernel.meet(3, 3))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 600
    assert set(found) <= {(1, 0), (3, 0)}


@pytest.mark.needs_jit
def test_python_threads_may_all_start_jobs(kernel):
    threads.set_num_threads(2)
    run, words = kernel.run, np.zeros((8, 300), np.int64)

    def work(row):
        for _ in range(200):
            run(row.ctypes.data, 300)

    workers = [threading.Thread(target=work, args=(row,)) for row in words]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (words == 200).all()


def test_python_threads_may_all_multiply(rng):
    threads.set_num_threads(2)
    a, b = rng.normal(size=(150, 130)), rng.normal(size=(130, 170))
    expected, results = matmul(a, b), [None] * 8

    def work(i):
        for _ in range(5):
            results[i] = matmul(a, b)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


@needs_fork
def test_a_forked_child_computes_the_same_bits(rng):
    threads.set_num_threads(2)
    a = rng.normal(size=(300, 300))
    expected = matmul(a, a)
    with warnings.catch_warnings():
        # From Python 3.12 on, where BLAS has threads of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            same = (matmul(a, a) == expected).all()
            threads.set_num_threads(3)
            status = 0 if same and (matmul(a, a) == expected).all() else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(matmul(a, a), expected)


@needs_fork
@pytest.mark.needs_jit
def test_a_fork_while_jobs_run_waits_for_them(kernel):
    threads.set_num_threads(2)
    run, stop = kernel.run, threading.Event()
    theirs, ours = np.zeros(5000, np.int64), np.zeros(100, np.int64)

    def work():
        while not stop.is_set():
            run(theirs.ctypes.data, 5000)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(20):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                run(ours.ctypes.data, 100)
                os._exit(0 if (ours == 1).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        worker.join()
    assert len(set(theirs)) == 1


@pytest.mark.needs_jit
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_workers_start_with_the_first_job_and_follow_the_number(kernel):
    run, words = kernel.run, np.zeros(10, np.int64)
    threads.set_num_threads(1)
    alone = system_threads()
    threads.set_num_threads(4)
    assert system_threads() == alone
    run(words.ctypes.data, 10)
    assert system_threads() == alone + 3
    threads.set_num_threads(2)
    run(words.ctypes.data, 10)
    assert system_threads() == alone + 1


@pytest.mark.needs_jit
def test_an_idle_pool_takes_no_time(kernel):
    threads.set_num_threads(4)
    words = np.zeros(10, np.int64)
    kernel.run(words.ctypes.data, 10)
    time.sleep(0.05)  # workers spin a little after a job
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.02


@pytest.mark.needs_jit
def test_a_thread_may_multiply_while_another_makes_the_product():
    code = """
import threading, numpy as np
from minigrad.kernels import multiplying, threads
threads.set_num_threads(2)
a, done = np.ones((200, 200), np.float32), threading.Event()
def multiply():
    while not done.is_set():
        assert multiplying.matmul(a, a)[0, 0] == 200
multiplying.matmul(a, a)
workers = [threading.Thread(target=multiply) for _ in range(2)]
for worker in workers:
    worker.start()
for _ in range(200):
    multiplying._table.cache_clear()
    multiplying._gufunc(a.dtype)
done.set()
for worker in workers:
    worker.join()
print("done")
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("n", [0, -1, 513, 1.5, 2.0, "2", None, True])
def test_numbers_of_threads_that_make_no_sense_are_refused(n):
    before = threads.get_num_threads()
    with pytest.raises(ValueError, match="expected a whole number from 1 to 512, came"):
        threads.set_num_threads(n)
    assert threads.get_num_threads() == before


def test_the_number_is_a_whole_number_of_any_type():
    threads.set_num_threads(np.int32(2))
    assert threads.get_num_threads() == 2
    assert threads.describe().startswith(("2 threads", "1 thread: "))


def test_the_environment_says_how_many_unless_the_program_does():
    code = "from minigrad.kernels import threads as t; print(t.get_num_threads()); "
    code += "t.set_num_threads(2); print(t.get_num_threads())"
    assert run_python(code, MINIGRAD_NUM_THREADS="3").stdout.split() == ["3", "2"]
    refused = run_python(code, MINIGRAD_NUM_THREADS="many")
    assert "$MINIGRAD_NUM_THREADS: expected a whole number from 1 to 512" in refused.stderr


@pytest.mark.needs_jit
def test_a_program_ends_at_once_whatever_its_threads_do():
    code = """
import threading, time, numpy as np
from minigrad.kernels import threads
from minigrad.kernels.multiplying import matmul
threads.set_num_threads(2)
a = np.ones((400, 400), np.float32)
def work():
    while True:
        matmul(a, a)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
matmul(a, a)
time.sleep(0.2)
"""
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_reaches_python():
    code = """
import numpy as np
from minigrad.kernels import threads
from minigrad.kernels.multiplying import matmul
threads.set_num_threads(2)
a = np.ones((400, 400), np.float32)
matmul(a, a)
print("ready", flush=True)
while True:
    matmul(a, a)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=30)[1]
    assert b"KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


@pytest.mark.needs_jit
def test_without_pthreads_there_is_one_thread():
    code = """
import numpy as np
from minigrad.kernels import threads
from minigrad.kernels.multiplying import matmul
threads._libc = lambda: None
a = np.ones((300, 300), np.float32)
threads.set_num_threads(3)
print((matmul(a, a) == 300).all(), threads.get_num_threads(), threads.describe())
threads.set_num_threads(2)
print((matmul(a, a) == 300).all(), threads.get_num_threads())
"""
    lines = run_python(code).stdout.splitlines()
    assert lines == ["True 1 1 thread: this platform has no pthreads", "True 1"]
