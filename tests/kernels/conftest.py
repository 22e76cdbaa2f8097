"""Shared by tests of the cache: a process that knows no kernel yet, and whose folder is empty."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from minigrad.kernels import cache, jit


class Builds:
    """`compiled` lists the kernels that were compiled, in order."""

    def __init__(self, folder: Path, private: Path) -> None:
        self.folder, self.private = folder, private
        self.compiled: list[str] = []

    def times(self, factor: int) -> jit.Kernel:
        """A tiny kernel, one for each factor, asked for as a new process would."""
        jit._kernels.clear()
        name = f"times_{factor}"
        return jit.build(name, f"def {name}(x): return {factor}.0 * x", {name: "f64(f64)"})

    def works(self, factor: int) -> bool:
        return self.times(factor).function(f"times_{factor}")(2.0) == 2.0 * factor


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builds:
    from minigrad.kernels import compiler  # imports Numba: only where something is compiled

    found = Builds(tmp_path / "kernels", tmp_path / "private")
    original = compiler.compile_source

    def count(name, *rest):
        found.compiled.append(name)
        return original(name, *rest)

    @functools.cache
    def private() -> Path:
        found.private.mkdir()
        return found.private

    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(found.folder))
    monkeypatch.setattr(cache, "_private", private)
    monkeypatch.setattr(jit, "_kernels", {})
    monkeypatch.setattr(compiler, "compile_source", count)
    return found
