"""Shared fixtures: seeded random numbers, markers, and no test leaves global state behind."""

from __future__ import annotations

import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

JIT_DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    wide = "also what is marked long, and compile for the cases marked wide"
    parser.addoption("--wide", action="store_true", help=wide)
    rewrite = "write tests/flow/golden anew from what is drawn now"
    parser.addoption("--rewrite-golden", action="store_true", help=rewrite)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--wide"):  # for what is decided on import
        os.environ["MINIGRAD_TESTS_WIDE"] = "1"


# Of the compiled cases in these, each n-th runs without --wide: every one is a kernel or two of its
# own. All of them run on the tape, and without JIT in the loops that the compiler writes.
EACH_COUNTS = "MINIGRAD_TESTS_ALL_COMPILED" not in os.environ  # tools/faults.py wants them all
EACH = {"conformance": 4, "test_zoo.py": 3, "test_cells.py": 3, "test_layer_modes.py": 3}


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seen: Counter[Path] = Counter()
    for item in items:
        if "driver" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        each = next((n for part, n in EACH.items() if part in item.path.parts), 1)
        if is_fused(item) and "wide" not in item.keywords and EACH_COUNTS:
            seen[item.path] += 1
            if seen[item.path] % each:
                item.add_marker("wide")
    if JIT_DISABLED:
        skip = pytest.mark.skip(reason="checks compiled code; NUMBA_DISABLE_JIT=1")
        for item in items:
            if "needs_jit" in item.keywords:
                item.add_marker(skip)
    if "MINIGRAD_TESTS_WIDE" not in os.environ:
        left_out = {item for item in items if is_left_out(item)}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def is_left_out(item: pytest.Item) -> bool:
    """Whether only --wide runs it: what is long, and what would compile for one more size."""
    if "long" in item.keywords:
        return True
    return "wide" in item.keywords and is_fused(item) and not JIT_DISABLED


def is_fused(item: pytest.Item) -> bool:
    """Whether it is the run of a test in the compiled mode; see tests/modes.py."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("mode") == "fused"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded from the test's name: the same numbers on every run, others in every test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def jit_disabled() -> bool:
    """Whether the kernels are their plain NumPy twins."""
    return JIT_DISABLED


SWITCHES = ("mode", "recording", "anomaly", "scope", "tape", "listeners")


def global_state() -> dict[str, Any]:
    """Everything a test could leave switched on. What is not imported yet is not switched on."""
    found: dict[str, Any] = {"np.errstate": np.geterr()}
    if tape := sys.modules.get("minigrad.tape"):
        found |= {name: getattr(tape.state, name) for name in SWITCHES}
    if threads := sys.modules.get("minigrad.kernels.threads"):
        found["num_threads"] = threads.get_num_threads()
    if op := sys.modules.get("minigrad.op"):
        found["registered ops"] = set(op.REGISTRY)
    return found


def restore(before: dict[str, Any]) -> None:
    np.seterr(**before["np.errstate"])
    for name in SWITCHES:
        if name in before:
            setattr(sys.modules["minigrad.tape"].state, name, before[name])
    if "num_threads" in before:
        sys.modules["minigrad.kernels.threads"].set_num_threads(before["num_threads"])
    if "registered ops" in before:
        registry = sys.modules["minigrad.op"].REGISTRY
        for name in set(registry) - before["registered ops"]:
            del registry[name]


@pytest.fixture(autouse=True)
def no_leaked_state(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a tape, a scope, no_grad or another switch behind."""
    before = global_state()
    yield
    after = global_state()
    leaked = [name for name in before if before[name] != after[name]]
    if leaked:
        restore(before)  # so that only the culprit fails
        changes = ", ".join(f"{name}: {before[name]!r} -> {after[name]!r}" for name in leaked)
        pytest.fail(f"{request.node.name} left global state changed: {changes}", pytrace=False)
