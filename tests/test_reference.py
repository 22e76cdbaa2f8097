"""The reference: an entry says what is computed, of which shapes, and has an example that runs."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "docs"))
import publicnames  # noqa: E402

sys.path.pop(0)
EXAMPLES = publicnames.examples()
COMPUTES = ("ops", "losses", "init", "cells", "layers")  # pages on what takes and gives arrays
EQUATION = re.compile(r"\s[=~]\s|\s->\s|-ln |-log p")
SHAPES = re.compile(
    r"\((?:[A-Z]|\.\.\.|\d|gates \*)[\w +*]*,[^()]*\)|shape|array\(|tensor\(|\.item\(\)"
)
FRAMEWORKS = ("torch", "keras", "jax", "tensorboard", "wandb")


def entries() -> dict[str, Any]:
    """Full name -> the object, of all that has an entry or is public."""
    found: dict[str, Any] = {}
    for full in [*publicnames.public(), *publicnames.documented()]:
        module, name = full.rsplit(".", 1)
        found[full] = getattr(importlib.import_module(module), name)
    return {full: thing for full, thing in found.items() if not inspect.ismodule(thing)}


def says(full: str, thing: Any) -> str:
    """Its docstring, and what stands on its page."""
    own = inspect.cleandoc(thing.__doc__ or "") if callable(thing) else ""
    return own + "\n" + EXAMPLES.get(full, (None, ""))[1]


def test_every_name_of_the_reference_has_an_example() -> None:
    shown = {id(thing) for full, thing in entries().items() if ">>>" in says(full, thing)}
    assert [full for full, thing in entries().items() if id(thing) not in shown] == []


def test_what_computes_says_its_equation_or_type_and_its_shapes() -> None:
    things = entries()
    said = {
        full: says(full, things[full])
        for full, page in publicnames.documented().items()
        if page.stem in COMPUTES and full in things and full not in NO_FUNCTIONS
    }
    assert len(said) > 120
    assert [full for full, text in said.items() if not EQUATION.search(text.split(">>>")[0])] == []
    assert [full for full, text in said.items() if not SHAPES.search(text)] == []


NO_FUNCTIONS = {  # containers, and what states are made of
    "minigrad.nn." + name
    for name in ("Module", "ModuleList", "ModuleDict", "Parameter", "Cell", "GatedCell",
                 "LSTMState", "SLSTMState")
}  # fmt: skip


def run_examples(*names: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-W", "error", str(ROOT / "tools" / "docs" / "examples.py"), *names]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "NUMBA_DISABLE_JIT": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
def test_the_examples_of_the_reference_run() -> None:
    status, said = run_examples()
    assert status == 0, said
    skipped = re.findall(r"^skipped: (.*): (.*)$", said, re.MULTILINE)
    lacking = [why for _, why in skipped if not why.endswith(tuple(f"{f}'" for f in FRAMEWORKS))]
    assert lacking == []
    passed = re.search(r"^(\d+) passed, 0 failed$", said, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) + len(skipped) == len(EXAMPLES)


def test_an_example_that_is_wrong_fails_by_name(tmp_path: Path) -> None:
    import shutil

    tools = tmp_path / "docs"
    shutil.copytree(ROOT / "tools" / "docs", tools, ignore=shutil.ignore_patterns("__pycache__"))
    page = tools / "source" / "api" / "ops.rst"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("array([1.5, 2.5])", "array([1.5, 2.6])"), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, str(tools / "examples.py"), "minigrad.add", "minigrad.subtract"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 1
    assert "in minigrad.add" in done.stdout
    assert "array([1.5, 2.6])" in done.stdout
    assert done.stdout.endswith("1 passed, 1 failed\n")
