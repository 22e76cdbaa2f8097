"""Threads, processes and interruptions: the same bits, and a process that goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned, random_state
from compile.agree import PLAIN, close, outcome, small_parts, wide

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves

F64 = np.float64
TESTS = Path(__file__).parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def problem(name: str, rng: Any, rows: int = 5, time: int = 6) -> tuple[Any, list[Any]]:
    cell = CELLS[name](3, 4, F64, rng)
    xs, state = inputs(cell, time, rows, rng), random_state(cell, rows, rng)
    found = leaves((xs, state, learned(cell)))
    wanted = [t for t in found if isinstance(t, mg.Tensor) and t.requires_grad]
    return (lambda mode: mg.scan(cell, state, xs, mode=mode)), wanted


def identical(a: dict[str, Any], b: dict[str, Any]) -> None:
    for name in a:
        same_bits(name, a[name], b[name])


def same_bits(name: str, a: Any, b: Any) -> None:
    if PLAIN:  # products are NumPy's, whose rounding depends on how many rows there are
        close(name, a, b, 1e-12)
    else:
        assert a.tobytes() == b.tobytes(), f"{name} has other bits"


@pytest.mark.parametrize("name", wide(list(CELLS), ["lstm"]))
def test_the_same_bits_on_one_and_several_threads_and_on_every_run(name: str, rng: Any) -> None:
    run, wanted = problem(name, rng)
    with small_parts(1):
        first = outcome(run, wanted, "fused")
    for shards in (1, 2, 3, 2, 8):
        with small_parts(1, shards):
            identical(first, outcome(run, wanted, "fused"))


@pytest.mark.needs_jit
def test_the_same_bits_for_a_batch_worth_two_threads(rng: Any) -> None:
    """Nothing patched: sizes at which the rows are shared out by themselves."""
    layer = nn.LSTM(16, 24, generator=rng)
    x = mg.tensor(rng.normal(size=(12, 33, 16)), np.float32, requires_grad=True)
    before, found = mg.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            mg.set_num_threads(threads)
            x.grad = None
            layer.zero_grad()
            output, _ = layer(x)
            (output * output).sum().backward()
            found.append(
                [output.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]
            )
    finally:
        mg.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            same_bits("a result", a, b)


@pytest.mark.long
@pytest.mark.parametrize("units", [False, True])
@pytest.mark.filterwarnings("ignore:scan. lambda has been compiled")  # the numbers tell them apart
def test_many_python_threads_scan_at_once(units: bool, rng: Any) -> None:
    """Each the cells of its own and one that all share; every one gets its own numbers."""
    shared = nn.GRUCell(3, 4, dtype=F64, generator=rng)
    data = [rng.normal(size=(7, 3, 3)) for _ in range(8)]

    def work(k: int) -> list[Any]:
        found = []
        for _ in range(5):
            xs = mg.tensor(data[k], requires_grad=True)
            result = mg.scan(shared, shared.init_state(3), xs)
            (g,) = mg.grad((result.ys * result.ys).sum(), [xs])
            scale = float(k + 1)
            own, _ = mg.scan(lambda h, x, s=scale: (mg.tanh(h * s + x), h), data[k][0], data[k])
            found.append([result.ys.numpy().copy(), g.numpy().copy(), own.numpy().copy()])
        return found

    alone = [work(k) for k in range(8)]
    got: dict[int, Any] = {}
    errors: list[BaseException] = []

    def guarded(k: int) -> None:
        try:
            got[k] = work(k)
        except BaseException as error:
            errors.append(error)

    with small_parts(2, 2, units):
        workers = [threading.Thread(target=guarded, args=(k,)) for k in range(8)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
    assert not errors, errors[0]
    for k in range(8):
        for a, b in zip(alone[k], got[k], strict=True):
            for x, y in zip(a, b, strict=True):
                same_bits(f"a result of thread {k}", x, y)


@needs_fork
@pytest.mark.parametrize("units", [False, True])
def test_a_forked_child_scans(units: bool, rng: Any) -> None:
    run, wanted = problem("lstm", rng)
    with small_parts(2, 2, units):
        want = outcome(run, wanted, "fused")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the point
            child = os.fork()
        if child == 0:
            code = 1
            try:
                identical(want, outcome(run, wanted, "fused"))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        identical(want, outcome(run, wanted, "fused"))


def script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment, "PYTHONPATH": str(TESTS)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


INTERRUPTED = """
    import os, signal, threading, time
    import numpy as np
    import minigrad as mg

    mg.set_num_threads(2)
    w = mg.tensor(np.eye(UNITS, dtype=np.float32) * 0.5, requires_grad=True)
    h = mg.tensor(np.full((ROWS, UNITS), 0.5, np.float32))

    def run(steps):
        xs = np.zeros((steps, ROWS, UNITS), np.float32)
        final, _ = mg.scan(lambda h, x: (mg.tanh(h @ w + x), None), h, xs)
        w.grad = None
        final.sum().backward()
        return final.numpy().copy(), w.grad.numpy().copy()

    want = run(STEPS)
    interrupted = 0
    for delay in (0.002, 0.01, 0.03, 0.1):
        main = threading.main_thread().ident
        timer = threading.Timer(delay, signal.pthread_kill, (main, signal.SIGINT))
        try:
            timer.start()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                run(MANY)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
    got = run(STEPS)
    assert interrupted == 4
    assert all(np.allclose(a, b, rtol=1e-6) for a, b in zip(want, got))
    print("usable")
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("rows", "units"), [("64", "64"), ("1", "400")])
def test_ctrl_c_during_a_long_scan_leaves_a_usable_process(rows: str, units: str) -> None:
    steps = wide(["2", "3"], ["50", "2000"])
    text = INTERRUPTED.replace("STEPS", steps[0]).replace("MANY", steps[1])
    text = text.replace("ROWS", rows).replace("UNITS", units)
    done = script(text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["usable"]


COLD = """
    import numpy as np
    import minigrad as mg

    w = mg.tensor(np.eye(3) * 0.5, requires_grad=True)
    final, ys = mg.scan(lambda h, x: (mg.tanh(h @ w + x), h), np.ones((2, 3)), np.ones((4, 2, 3)))
    ys.sum().backward()
    print(repr(w.grad.numpy().tobytes()))
"""


@pytest.mark.long
@pytest.mark.needs_jit
def test_two_processes_may_compile_the_same_cell_at_once(tmp_path: Path) -> None:
    env = {**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(COLD)], env=env,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    said = [p.communicate(timeout=300)[0] for p in running]
    assert [p.returncode for p in running] == [0, 0]
    assert said[0] == said[1]
    assert said[0].startswith("b'")
