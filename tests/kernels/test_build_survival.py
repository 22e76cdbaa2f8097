"""What building a kernel survives: forks, Python threads and Ctrl-C at a bad moment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from minigrad.kernels import compiler

pytestmark = pytest.mark.needs_jit
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

TIMES = """
import os, signal, sys, threading, time
from minigrad.kernels import cache, compiler, jit

def works(factor):
    name = f"times_{factor}"
    text = f"def {name}(x): return {factor}.0 * x"
    kernel = compiler.build(name, text, {name: "float64(float64)"})
    return kernel.function(name)(2.0) == 2.0 * factor
"""

# The thread is stopped where it holds a lock, until the fork has been asked for.
FORK = """
began = threading.Event()

def pause(module, name):
    original = getattr(module, name)
    def paused(*args, **options):
        began.set()
        time.sleep(0.3)
        setattr(module, name, original)
        return original(*args, **options)
    setattr(module, name, paused)

WHERE

thread = threading.Thread(target=works, args=(3,))
thread.start()
began.wait(30)
signal.alarm(20)  # ends a process that waits for ever
child = os.fork()
if child == 0:
    import gc
    signal.alarm(20)
    os._exit(0 if works(5) and works(3) and gc.isenabled() else 1)
thread.join()
assert os.waitpid(child, 0)[1] == 0
assert works(3) and works(5) and works(7)
# And a fork by the thread that builds waits for nobody.
with jit._lock:
    child = os.fork()
    if child == 0:
        os._exit(0 if works(9) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
PLACES = {
    "Numba is imported": """
class Finder:
    def find_spec(self, name, *args):
        if name == "numba.core.compiler":
            began.set()
            time.sleep(0.3)

sys.meta_path.insert(0, Finder())
""",
    "Numba compiles": "from numba.core import byteflow\npause(byteflow, 'TraceRunner')",
    "LLVM optimises": "import numba; from llvmlite.binding import newpassmanagers\n"
    "pause(newpassmanagers.ModulePassManager, 'run')",
    "a file is written": "pause(cache, '_write')",
    "LLVM loads it": "import numba; from numba.core import codegen\n"
    "pause(codegen.JITCodeLibrary, 'get_pointer_to_function')",
}


def run(code: str, folder: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TIMES + code],
        env={**os.environ, "MINIGRAD_CACHE_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_fork
@pytest.mark.parametrize("place", PLACES)
def test_a_fork_while_another_thread_builds_gives_a_child_that_builds(place, tmp_path):
    done = run(FORK.replace("WHERE", PLACES[place]), tmp_path, PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_ask_for_many_kernels_build_each_once(builds):
    start, wrong = threading.Barrier(4), []

    def ask(first: int) -> None:
        start.wait()
        for i in range(12):
            factor = 2 + (first + i) % 4
            name = f"times_{factor}"
            text = f"def {name}(x): return {factor}.0 * x"
            kernel = compiler.build(name, text, {name: "float64(float64)"})
            if kernel.function(name)(2.0) != 2.0 * factor:
                wrong.append(factor)

    workers = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert sorted(k.stem.split("-")[0] for k in compiler._kernels.values()) == [
        f"times_{factor}" for factor in (2, 3, 4, 5)
    ]


@pytest.mark.parametrize(
    "place",
    [
        "minigrad.kernels.cache.begin",
        "minigrad.kernels.compiler._compile",
        "numba.core.typeinfer.TypeInferer.propagate",
        "os.replace",
        "minigrad.kernels.cache.seal",
    ],
)
def test_an_interrupted_build_can_be_done_again(builds, monkeypatch, place):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    builds.times(7)  # Numba, imported once, is not in the way
    with monkeypatch.context() as patch:
        patch.setattr(place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            builds.times(3)
    assert not list(builds.folder.glob(".*"))
    assert builds.works(3)
    assert builds.works(5)


INTERRUPTED = """
import _thread
for delay in range(1, 40, 3):
    timer = threading.Timer(delay / 100, _thread.interrupt_main)
    try:
        timer.start()
        works(100 + delay)
        timer.join()
        time.sleep(1)
    except KeyboardInterrupt:
        pass
    assert works(100 + delay) and works(1000 + delay)
"""


@pytest.mark.slow
def test_ctrl_c_at_any_moment_leaves_a_process_that_builds(tmp_path):
    done = run(INTERRUPTED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".*"))


SIGNALLED = """
import _thread
signal.signal(signal.SIGINT, signal.default_int_handler)

class Place:
    def find_spec(self, name, *args):
        if name == WHERE:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)  # the main thread hears of it while the import stands here

def at(module, name):
    original = getattr(module, name)
    def signalled(*args, **options):
        setattr(module, name, original)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return original(*args, **options)
    setattr(module, name, signalled)

if "=" in WHERE:
    exec(WHERE.split("=")[1])
else:
    sys.meta_path.insert(0, Place())
hit = False
try:
    works(3)
    time.sleep(1)
except KeyboardInterrupt:
    hit = True
assert hit
signal.alarm(60)  # ends a process that waits for ever
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if works(3) and works(5) else 1)
    assert os.waitpid(child, 0)[1] == 0
assert works(3) and works(5)
assert jit._lock.acquire(timeout=5)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no signal reaches a process from itself")
@pytest.mark.parametrize(
    "where",
    [
        "llvmlite.binding",
        "numba.core.types.misc",
        "numba.core.typing.templates",
        "numba.cpython.mathimpl",
        "numba.core.ccallback",
        "typing=from numba.core import typing\nat(typing.Context, 'load_additional_registries')",
        "tables=from numba.core import base\nat(base.BaseContext, 'install_registry')",
        "inference=from numba.core import typeinfer\nat(typeinfer.TypeInferer, 'propagate')",
        "llvm=import numba; from llvmlite.binding import newpassmanagers\n"
        "at(newpassmanagers.ModulePassManager, 'run')",
        "file=at(cache, '_write')",
        "loader=import numba; from numba.core import codegen\n"
        "at(codegen.JITCodeLibrary, 'get_pointer_to_function')",
    ],
    ids=lambda where: where.split("=")[0],
)
def test_ctrl_c_while_the_first_kernel_is_built_leaves_a_process_that_builds(where, tmp_path):
    done = run(f"WHERE = {where!r}\n" + SIGNALLED, tmp_path, PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.glob(".*"))


WAITING_FORK = """
signal.signal(signal.SIGINT, signal.default_int_handler)
began = threading.Event()
compile_ = compiler._compile
def slow(*args):
    began.set()
    time.sleep(1.0)
    return compile_(*args)
compiler._compile = slow
builder = threading.Thread(target=works, args=(3,))
builder.start()
began.wait(30)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
signal.alarm(30)  # ends a process that waits for ever
here, child = os.getpid(), None
try:
    child = os.fork()
    if child:
        time.sleep(1)
        raise AssertionError("Ctrl-C was lost")
except KeyboardInterrupt:
    assert os.getpid() == here
if child == 0:
    signal.alarm(30)
    os._exit(0 if works(5) and works(3) else 1)
builder.join()
assert child is None or os.waitpid(child, 0)[1] == 0
assert works(3) and works(7)
assert jit._lock.acquire(timeout=5)
jit._lock.release()
with_another = threading.Thread(target=works, args=(9,))
with_another.start()
with_another.join(20)
assert not with_another.is_alive()
"""


@pytest.mark.long
@needs_fork
def test_ctrl_c_while_a_fork_waits_for_a_build_comes_after_the_fork(tmp_path):
    done = run(WAITING_FORK, tmp_path, PYTHONWARNINGS="ignore")
    assert (done.returncode, done.stderr) == (0, "")


POOL = """
import numpy as np
from minigrad.kernels import threads
from minigrad.kernels.multiplying import matmul
function, hits = compiler.Kernel.function, []
def interrupt(self, export):
    if export == "hold" and not hits:
        hits.append(export)
        raise KeyboardInterrupt
    return function(self, export)
compiler.Kernel.function = interrupt
a = np.ones((300, 300), np.float32)
try:
    matmul(a, a)
except KeyboardInterrupt:
    pass
taken = [np.full(608, 7) for _ in range(50)]  # what the interrupt has freed, if anything
assert hits
threads.set_num_threads(2)
assert (matmul(a, a) == 300).all() and (matmul(a, a) == 300).all()
import ctypes
count = ctypes.c_int64.from_address(threads.links()["minigrad_thread_count"])
assert count.value == threads.get_num_threads() == 2
"""


@pytest.mark.long
def test_a_pool_whose_making_was_interrupted_is_made_again(tmp_path):
    done = run(POOL, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
