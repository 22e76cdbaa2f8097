"""Checkpoints: what goes in comes out, and no file of someone else's is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad.train.checkpoint import CheckpointError, load, save

TREE = {
    "model": {"weight_ih_l0": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0)},
    "optimizer": {"lr": 1e-3, "0.step": 3},
    "rng": {"bit_generator": "PCG64", "state": {"state": 2**127 + 1, "inc": 5}},
    "history": [1.5, float("inf"), float("-inf"), None, True, "ä"],
    "scalar": np.float64(0.1),
}


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    else:
        assert a == b or (a != a and b != b)


def test_a_tree_comes_back_bit_for_bit(tmp_path: Path) -> None:
    assert_same(TREE, load(save(tmp_path / "a.ckpt", TREE)))


LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    hnp.arrays(st.sampled_from([np.float32, np.int64, bool]), hnp.array_shapes(max_side=3)),
)  # fmt: skip
NAMES = st.text().filter(lambda key: key not in ("$array", "$float"))


@given(
    tree=st.dictionaries(
        NAMES,
        st.recursive(
            LEAF,
            lambda x: st.one_of(st.lists(x, max_size=3), st.dictionaries(NAMES, x, max_size=3)),
        ),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_tree_comes_back(tree: dict[str, Any], tmp_path_factory: Any) -> None:
    assert_same(tree, load(save(tmp_path_factory.mktemp("t") / "a.ckpt", tree)))


def test_any_text_is_a_key(tmp_path: Path) -> None:
    tree = {key: np.ones(1) for key in ("\0", "a/b", "../x", "ä", "x" * 70_000, "")}
    assert_same(tree, load(save(tmp_path / "a.ckpt", tree)))


def test_equal_trees_are_equal_files(tmp_path: Path) -> None:
    files = [save(tmp_path / name, TREE).read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused_and_kept(share: float, tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", TREE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    cut = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"a\.ckpt: this file is (cut off|no minigrad)"):
        load(path)
    with pytest.raises(CheckpointError):
        save(path, TREE)
    assert path.read_bytes() == cut


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", {"w": np.ones(1000)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95pickle", b"PK\x03\x04junk"])
def test_a_foreign_file_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for act in (load, lambda p: save(p, TREE)):
        with pytest.raises(CheckpointError, match=r"notes\.txt"):
            act(path)
    assert path.read_bytes() == content


def test_a_zip_of_something_else_and_a_plain_npz_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, w=np.ones(3))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="a zip file, but no minigrad checkpoint"):
        save(path, TREE)
    assert path.read_bytes() == before


def test_a_later_version_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("checkpoint.json", '{"format": "minigrad checkpoint", "version": 2}')
    before = path.read_bytes()
    for act in (load, lambda p: save(p, TREE)):
        with pytest.raises(CheckpointError, match=r"later version \(format 2, .* up to 1\)"):
            act(path)
    assert path.read_bytes() == before


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        load(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(tmp_path / "no" / "folder.ckpt", TREE)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"f": len}, "f is builtin_function_or_method"),
        ({"a": {"b": np.array(["x"])}}, "a.b is an array of <U1"),
        ({1: 2}, "the tree has the key 1"),
        ({"a": {"$array": 1}}, "a has the key '\\$array'"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_written(
    tree: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / "a.ckpt", tree)
    assert list(tmp_path.iterdir()) == []


def test_numpy_opens_it_too(tmp_path: Path) -> None:
    with np.load(save(tmp_path / "a.ckpt", {"w": np.arange(3)})) as opened:
        np.testing.assert_array_equal(opened["0-w"], [0, 1, 2])


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", {"step": 0, "w": np.zeros(200_000)})
    code = (
        "import sys, numpy as np\nfrom minigrad.train.checkpoint import save\n"
        "for k in range(1, 10**6):\n"
        "    save(sys.argv[1], {'step': k, 'w': np.full(200_000, float(k))})\n"
        "    if k == 1: print('ready', flush=True)\n"
    )
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        tree = load(path)
        assert (tree["w"] == tree["step"]).all()
