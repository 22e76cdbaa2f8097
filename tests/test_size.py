"""tools/size.py counts every line once, in the room that it belongs to."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("size", ROOT / "tools" / "size.py")
assert spec is not None
assert spec.loader is not None
size = importlib.util.module_from_spec(spec)
spec.loader.exec_module(size)

MODULE = '''"""One line."""

import os  # code, whatever follows

# a comment
TEXT = """
not a docstring
"""


def f():
    """Two
    lines."""

    return os
'''


def test_code_docs_and_blank_lines_are_told_apart() -> None:
    assert size.measure(MODULE) == size.Size(code=6, docs=4, blank=5)
    assert size.measure("") == size.Size()
    assert doctest.testmod(size).failed == 0


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("minigrad/tape.py", "core"),
        ("minigrad/ops/reduce.py", "core"),
        ("minigrad/kernels/threads.py", "kernels"),
        ("minigrad/flow/drawing/dot.py", "flow"),
        ("minigrad/errors.py", "others"),
        ("tests/engine/test_ops.py", "tests"),
    ],
)
def test_a_file_is_in_the_room_of_its_folder(path: str, room: str) -> None:
    assert size.room(Path(path)) == room


def test_the_rooms_add_up_to_all_lines_and_one_above_its_budget_is_marked(tmp_path: Path) -> None:
    files = {"minigrad/op.py": 3601, "minigrad/nn/rnn.py": 5, "tools/x.py": 2}
    for name, lines in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n" * lines, encoding="utf-8")
    found = size.rooms(tmp_path)
    assert {name: s.lines for name, s in found.items()} == {
        "core": 3601, "nn": 5, "minigrad": 3606, "tools": 2,
    }  # fmt: skip
    marked = [line for line in size.table(found).splitlines() if "too many" in line]
    assert [line.split()[0] for line in marked] == ["core"]
    assert marked[0].endswith("3,600  1 too many")
