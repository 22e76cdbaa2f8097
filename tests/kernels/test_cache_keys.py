"""What is in the key of a kernel: other versions, machines and sources have their own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from minigrad.kernels import compiler, host

pytestmark = pytest.mark.needs_jit


def other_system(**changes: object) -> SimpleNamespace:
    tag = SimpleNamespace(cache_tag=sys.implementation.cache_tag)
    return SimpleNamespace(**{"platform": sys.platform, "implementation": tag} | changes)


def other_cpu(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(host, "cpu", lambda: words)


def other_version(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    original = compiler._version
    monkeypatch.setattr(
        compiler, "_version", lambda name: original(name) + (" " if name == package else "")
    )


OTHERS = {
    "numba": lambda m, _: other_version(m, "numba"),
    "llvmlite": lambda m, _: other_version(m, "llvmlite"),
    "CPU": lambda m, _: other_cpu(m, "other", host.cpu()[1]),
    "features": lambda m, _: other_cpu(m, host.cpu()[0], "+other"),
    "vectors": lambda m, _: m.setattr(host, "vector_bits", lambda: 64),
    "platform": lambda m, _: m.setattr(compiler, "sys", other_system(platform="other")),
    "Python": lambda m, _: m.setattr(
        compiler, "sys", other_system(implementation=SimpleNamespace(cache_tag="cpython-399"))
    ),
    "flags of Numba": lambda m, _: m.setenv("NUMBA_OPT", "2"),
}


@pytest.fixture
def forgotten():
    """Surroundings are read anew, and again after the test."""
    compiler._surroundings.cache_clear()
    yield
    compiler._surroundings.cache_clear()


@pytest.mark.parametrize("what", OTHERS)
def test_kernels_of_other_surroundings_have_another_key(monkeypatch, tmp_path, forgotten, what):
    monkeypatch.setattr(compiler, "_kernels", {})
    monkeypatch.setattr(compiler, "_obtain", lambda name, key, *rest: key)
    about = "f", "def f(x):\n    return x\n", {"f": "int64(int64)"}
    ours = compiler.build(*about)
    with monkeypatch.context() as other:
        OTHERS[what](other, tmp_path)
        compiler._surroundings.cache_clear()
        assert compiler.build(*about) != ours
    compiler._surroundings.cache_clear()
    assert compiler.build(*about) == ours


def test_every_part_of_a_kernel_is_in_its_key(monkeypatch):
    monkeypatch.setattr(compiler, "_kernels", {})
    monkeypatch.setattr(compiler, "_obtain", lambda name, key, *rest: key)
    about = {"name": "f", "text": "def f(x): ...", "entries": {"f": "float64(float64)"}}
    others = {"name": "g", "text": "def f(y): ...", "entries": {"f": "float32(float64)"}}
    keys = [
        compiler.build(**about),
        *(compiler.build(**about | {part: others[part]}) for part in about),
    ]
    assert len(set(keys)) == 4
    same = compiler.build("f", "# a comment\ndef f(x): ...", about["entries"], code="def f(x): ...")
    assert same == compiler.build("f", "def f(x): ...", about["entries"], code="def f(x): ...")


@pytest.mark.parametrize("edited", ["vectormath", "intrinsics"])
def test_an_edit_of_what_a_text_imports_near_or_far_gives_another_key(
    monkeypatch, tmp_path, edited
):
    shutil.copytree(Path(compiler.__file__).parent, tmp_path / "upgrade")
    text = "from minigrad.kernels.vectormath import exp\n"
    before = compiler._imported(text)
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "upgrade" / "compiler.py"))
    assert compiler._imported(text) == before
    with (tmp_path / "upgrade" / f"{edited}.py").open("a") as file:
        file.write("# changed\n")
    assert compiler._imported(text) != before
    assert compiler._imported("import numpy as np\n") == []
