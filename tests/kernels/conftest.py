"""Shared by tests of the cache: a process that knows no kernel yet, and whose folder is empty."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from minigrad.kernels import cache, compiler


class Builds:
    """`compiled` lists the kernels that were not found in the folder, in order."""

    def __init__(self, folder: Path, private: Path) -> None:
        self.folder, self.private = folder, private
        self.compiled: list[str] = []

    def times(self, factor: int) -> compiler.Kernel:
        """A tiny kernel, one for each factor, asked for as a new process would."""
        compiler._kernels.clear()
        name = f"times_{factor}"
        text = f"def {name}(x):\n    return {factor}.0 * x\n"
        kernel = compiler.build(name, text, {name: "float64(float64)"})
        if not kernel.found:
            self.compiled.append(name)
        return kernel

    def works(self, factor: int) -> bool:
        return self.times(factor).function(f"times_{factor}")(2.0) == 2.0 * factor

    def files(self, factor: int) -> dict[str, Path]:
        """Those of a kernel, by their suffix: py, sums, nbi, nbc."""
        stem = self.times(factor).stem
        found = [*self.folder.glob(f"{stem}.*"), *self.folder.glob(f"__pycache__/{stem}.*")]
        return {path.suffix[1:]: path for path in found}


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builds:
    found = Builds(tmp_path / "kernels", tmp_path / "private")

    @functools.cache
    def private() -> Path:
        found.private.mkdir()
        return found.private

    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(found.folder))
    monkeypatch.setattr(cache, "_private", private)
    monkeypatch.setattr(compiler, "_kernels", {})
    return found
