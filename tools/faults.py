"""Plant faults one by one and show that the conformance tests see every one of them.

    python tools/faults.py                       all faults, on the tape
    python tools/faults.py --mode fused          the same faults in the compiled mode: minutes
    python tools/faults.py --only reset peephole faults whose names contain one of the words
    python tools/faults.py --oracles             which oracle sees what, not only the first

A fault is planted where every mode reads the truth: in the cell's definition (`forward` sees other
weights or options than the cell has) or around the loop (it is given another state, other lengths,
another direction). Then the tests of tests/conformance run, in this process, until one fails. A
fault counts as caught if an assertion failed; anything else, an exception say, is an accident of
planting. First comes a control, planted by the same means and changing nothing: all tests must
pass with it. Exit status 1 if a fault survives, if planting had an accident, or if the control
fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
sys.path[:0] = [str(Path(__file__).resolve().parent), str(TESTS), str(ROOT)]

from known_faults import CONTROL, FAULTS  # noqa: E402
from planting import Fault  # noqa: E402

NOT_REFUSED = "DID NOT RAISE"  # how pytest.raises begins when what should fail does not


class Outcome(NamedTuple):
    test: str  # the test that failed, "" if none did
    error: str  # the type of its exception
    passed: int  # tests that ran until then and passed: one that skips sees nothing

    @property
    def caught(self) -> bool:
        return bool(self.test) and self.error in ("AssertionError", NOT_REFUSED)

    def __str__(self) -> str:
        if not self.test:
            return f"passes {self.passed} tests"
        return self.test if self.caught else f"ACCIDENT {self.error} in {self.test}"


class Runner:
    """A pytest plugin: collects once, then runs the tests again for every fault."""

    def __init__(self, faults: list[Fault], mode: str, oracles: bool):
        self.faults, self.mode, self.oracles = faults, mode, oracles
        self.failed: str | None = None  # the exception that the running test ended with
        self.passed = 0
        self.outcomes: dict[str, Outcome] = {}
        self.seen: dict[str, list[str]] = {}  # fault -> the oracles that see it

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[Any]:
        report = yield
        if report.failed:
            refused = not str(call.excinfo.value).startswith(NOT_REFUSED)
            self.failed = self.failed or (call.excinfo.type.__name__ if refused else NOT_REFUSED)
        self.passed += report.when == "call" and report.passed
        return report

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed or not session.items:
            raise session.Failed("the tests cannot be collected")
        items = [item for item in session.items if mode_of(item) == self.mode]
        if not items:
            raise session.Failed(f"no test runs in mode {self.mode!r}; see tests/modes.py")
        for fault in [CONTROL, *self.faults]:
            started = time.perf_counter()
            # Only the order is chosen here: those about this cell first.
            ordered = sorted(items, key=lambda item: fault.subject not in item.nodeid.lower())
            with fault.planted():
                outcome = self.first_failure(ordered)
                if self.oracles and fault is not CONTROL:
                    self.seen[fault.name] = self.seen_by(ordered)
            self.outcomes[fault.name] = outcome
            seconds = time.perf_counter() - started
            survived = "" if outcome.test or fault is CONTROL else "SURVIVED: "
            print(f"{fault.name:<45} {seconds:6.2f} s  {survived}{outcome}", flush=True)
            if fault.name in self.seen:
                print(f"{'':<56}{' '.join(self.seen[fault.name])}", flush=True)
            if fault is CONTROL and (outcome.test or not outcome.passed):
                break
        return True

    def first_failure(self, items: list[pytest.Item]) -> Outcome:
        self.failed, self.passed = None, 0
        for item in items:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            if self.failed is not None:
                return Outcome(item.nodeid.split("/")[-1], self.failed, self.passed)
        return Outcome("", "", self.passed)

    def seen_by(self, items: list[pytest.Item]) -> list[str]:
        """The files whose tests see it, with the exception where planting had an accident."""
        found = []
        for oracle in sorted({item.path.stem.removeprefix("test_") for item in items}):
            outcome = self.first_failure([i for i in items if i.path.stem == f"test_{oracle}"])
            if outcome.test:
                found.append(oracle if outcome.caught else f"({oracle}: {outcome.error})")
        return found


def mode_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("mode") if callspec else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", default="tape", help="tape or fused")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="faults whose name contains one")
    parser.add_argument("--tests", nargs="+", default=[str(TESTS / "conformance")], metavar="PATH")
    parser.add_argument("--wide", action="store_true", help="with the cases marked wide; slow")
    parser.add_argument("--oracles", action="store_true", help="every oracle that sees it; slow")
    parser.add_argument("--list", action="store_true", help="the names of the faults")
    given = parser.parse_args()
    faults = [f for f in FAULTS if not given.only or any(word in f.name for word in given.only)]
    if given.list:
        print("\n".join(fault.name for fault in faults))
        return 0
    if not faults:
        parser.error(f"no fault is called {' or '.join(given.only)}; see --list")
    os.chdir(ROOT)
    os.environ["MINIGRAD_TESTS_ALL_COMPILED"] = "1"
    runner = Runner(faults, given.mode, given.oracles)
    options = ["-o", "addopts=--strict-markers --import-mode=importlib", "-p", "no:terminal"]
    options += ["-p", "no:cacheprovider", *["--wide"] * given.wide, *given.tests]
    status = pytest.main(options, plugins=[runner])
    control, outcomes = runner.outcomes.pop(CONTROL.name, None), runner.outcomes.values()
    if control is None or control.test or not control.passed:
        print(f"without a fault the tests do not pass (pytest's status {int(status)})")
        return 1
    caught = sum(outcome.caught for outcome in outcomes)
    print(f"mode {given.mode}: {caught} of {len(faults)} faults caught")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
