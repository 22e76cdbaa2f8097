"""Runs the tests, in an environment that it sets up by itself.

python3 tools/test.py [pytest arguments]

The whole suite runs in as many processes as there are cores, unless the arguments say how (-n);
tests that are named, and those to be watched (--pdb, -s), run in one.
"""

import os
import sys

import _env


def processes(arguments):
    """The option for pytest-xdist that fits the other arguments, if any does."""
    watched = {"--pdb", "--trace", "-s", "--capture=no", "--collect-only", "--co"}
    told = any(a in watched or a.startswith(("-n", "--numprocesses")) for a in arguments)
    if told or any(os.path.exists(a.split("::")[0]) for a in arguments):
        return []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [f"--numprocesses={cores}", "--dist=worksteal"] if cores and cores > 1 else []


def test():
    python = _env.ensure(["test"])
    os.chdir(str(_env.ROOT))
    arguments = sys.argv[1:]
    spread = processes(arguments)
    if spread:  # as many threads again in each, spinning in small factorisations, cost minutes
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return _env.run([python, "-m", "pytest", *spread, *arguments])


if __name__ == "__main__":
    _env.main(test)
