"""What is in the key of a kernel: other versions, machines and sources have their own."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from minigrad.kernels import cache, host, jit

pytestmark = pytest.mark.needs_jit


def other_helpers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edited: str) -> None:
    """The package as another version of minigrad has it: one line more in one helper."""
    shutil.copytree(Path(jit.__file__).parent, tmp_path / "upgrade")
    with (tmp_path / "upgrade" / edited).open("a") as file:
        file.write("# changed\n")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "upgrade" / "jit.py"))


def other_system(**changes: object) -> SimpleNamespace:
    tag = SimpleNamespace(cache_tag=sys.implementation.cache_tag)
    return SimpleNamespace(**{"platform": sys.platform, "implementation": tag} | changes)


def other_cpu(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(host, "cpu", lambda: words)


def other_version(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    original = jit._version
    monkeypatch.setattr(
        jit, "_version", lambda name: original(name) + (" " if name == package else "")
    )


OTHERS = {
    "numba": lambda m, _: other_version(m, "numba"),
    "llvmlite": lambda m, _: other_version(m, "llvmlite"),
    "CPU": lambda m, _: other_cpu(m, "other", host.cpu()[1]),
    "features": lambda m, _: other_cpu(m, host.cpu()[0], "+other"),
    "vectors": lambda m, _: m.setattr(host, "vector_bits", lambda: 64),
    "platform": lambda m, _: m.setattr(jit, "sys", other_system(platform="other")),
    "Python": lambda m, _: m.setattr(
        jit, "sys", other_system(implementation=SimpleNamespace(cache_tag="cpython-399"))
    ),
    "checks": lambda m, _: m.setattr(jit, "mode", lambda: "other"),
    **{file: lambda m, at, file=file: other_helpers(m, at, file) for file in jit._HELPERS},
}


@pytest.fixture
def forgotten():
    """Surroundings are read anew, and again after the test."""
    jit._surroundings.cache_clear()
    yield
    jit._surroundings.cache_clear()


@pytest.mark.parametrize("what", OTHERS)
def test_kernels_of_other_surroundings_are_never_loaded(
    builds, monkeypatch, tmp_path, forgotten, what
):
    from minigrad.kernels import compiler

    ours = builds.times(3).stem
    needs, code = cache.load(ours)
    built = []
    monkeypatch.setattr(  # Numba itself must not see what the test pretends
        compiler, "compile_source", lambda name, *rest: built.append(name) or (code, needs)
    )
    with monkeypatch.context() as other:
        OTHERS[what](other, tmp_path)
        jit._surroundings.cache_clear()
        theirs = builds.times(3).stem
        assert built == ["times_3"]
        assert theirs != ours
    jit._surroundings.cache_clear()
    assert builds.times(3).stem == ours  # the two live side by side
    assert built == ["times_3"]
    assert {entry.stem for entry in cache.kernels()} == {ours, theirs}
    assert cache.clear().kernels == 2


def test_every_part_of_a_kernel_is_in_its_key(monkeypatch):
    monkeypatch.setattr(jit, "_kernels", {})
    monkeypatch.setattr(jit, "_obtain", lambda name, key, *rest: key)
    about = {"name": "f", "text": "def f(x): ...", "exports": {"f": "f64(f64)"}, "links": {"g": 1}}
    others = {"name": "g", "text": "def f(y): ...", "exports": {"f": "f32(f64)"}, "links": {"h": 1}}
    keys = [jit.build(**about), *(jit.build(**about | {part: others[part]}) for part in about)]
    assert len(set(keys)) == 5
    assert jit.build(**about | {"links": {"g": 2}}) == keys[0]  # addresses are another matter


def test_every_module_that_shapes_a_kernel_is_in_its_key():
    here = Path(jit.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in here.parent.rglob("*.py")}
    modules = {path.stem: text for path, text in texts.items() if path.parent == here}

    def imported(text: str) -> set[str]:
        """Also by the sources of kernels, which are texts in a file, or files of their own."""
        found = re.findall(r"from minigrad\.kernels\.(\w+) import", text)
        for names in re.findall(r"from minigrad\.kernels import ([\w, ]+)", text):
            found += names.split(", ")
        return set(found) & set(modules)

    # They ask for a kernel and keep it. What host answers is in the key by itself.
    asking = {"cache", "host", "jit"}
    uses = {name: imported(text) - asking for name, text in modules.items()}
    numba = re.compile(r"^(from|import) (numba|llvmlite)\b", re.MULTILINE)
    shaping = {name for name, text in modules.items() if numba.search(text)}
    for _ in modules:
        shaping |= {name for name in modules if uses[name] & shaping} - asking
    reached = {name for text in texts.values() for name in imported(text)} & shaping
    for _ in modules:
        reached |= {name for known in reached for name in uses[known]}
    assert {f"{name}.py" for name in reached} == set(jit._HELPERS)
