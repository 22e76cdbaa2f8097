"""The thread pool: settings, equal bits for any number of threads, Python threads, forks, exit."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels import elementwise, threads
from minigrad.kernels.matmul import matmul
from minigrad.kernels.threads import get_num_threads, set_num_threads


@pytest.fixture(autouse=True)
def thread_count():
    before = get_num_threads()
    yield
    set_num_threads(before)


def work(rng):
    """Products and long elementwise loops, large enough to be split."""
    a, b = rng.normal(size=(301, 257)), rng.normal(size=(257, 403))
    single = [x.astype(np.float32) for x in (a, b)]
    tanh = elementwise.loop("def element(x):\n    return tanh(x)\n", "f->f", np.float64)
    long = rng.normal(size=200_003)
    return lambda: [matmul(a, b), matmul(*single), matmul(b.T, a.T), tanh(long)]


def same(xs, ys):
    return all(np.array_equal(x, y) for x, y in zip(xs, ys, strict=True))


def test_the_number_of_threads_changes_no_bit(rng):
    run = work(rng)
    set_num_threads(1)
    alone = run()
    for n in (2, 3, 7):
        set_num_threads(n)
        assert get_num_threads() == n
        for _ in range(5):
            assert same(alone, run())


@pytest.mark.parametrize("bad", [0, -1, 513, 1.5, True, "2", None])
def test_numbers_of_threads_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match="set_num_threads: expected a whole number from 1 to 512"):
        set_num_threads(bad)


def test_many_python_threads_at_once_get_right_results(rng):
    run = work(rng)
    set_num_threads(2)
    expected = run()
    wrong = []

    def hammer():
        for _ in range(10):
            if not same(expected, run()):
                wrong.append(threading.current_thread().name)

    crowd = [threading.Thread(target=hammer) for _ in range(8)]
    for t in crowd:
        t.start()
    for t in crowd:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes_and_so_does_the_parent_after_it(rng):
    run = work(rng)
    set_num_threads(2)
    expected = run()
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if same(expected, run()) else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert same(expected, run())


def test_a_gradient_has_the_same_bits_on_any_number_of_threads(rng):
    x, w = rng.normal(size=(300, 200)), rng.normal(size=(200, 300))

    def gradients():
        leaves = [mg.tensor(a, np.float32, requires_grad=True) for a in (x, w)]
        mg.tanh(leaves[0] @ leaves[1]).sum().backward()
        return [leaf.grad.numpy() for leaf in leaves]

    set_num_threads(1)
    alone = gradients()
    set_num_threads(2)
    assert same(alone, gradients())


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | env,
        check=False,
    )


def test_a_process_ends_cleanly_with_a_busy_pool():
    done = python(
        """
        import threading, numpy as np
        from minigrad.kernels import threads
        from minigrad.kernels.matmul import matmul
        threads.set_num_threads(2)
        a = np.ones((300, 300))
        def forever():
            while True:
                matmul(a, a)
        threading.Thread(target=forever, daemon=True).start()
        matmul(a, a)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_sets_the_number_of_threads():
    code = "from minigrad.kernels import threads; print(threads.get_num_threads())"
    assert python(code, MINIGRAD_NUM_THREADS="3").stdout.strip() == "3"
    refused = python(code, MINIGRAD_NUM_THREADS="many")
    assert "$MINIGRAD_NUM_THREADS: expected a whole number from 1 to 512" in refused.stderr


def test_info_says_how_many():
    assert "thread" in threads.describe()
