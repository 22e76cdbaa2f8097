"""Checkpoints: a tree in a file that appears whole or not at all, without pickle (archive.py).

save("run.ckpt", {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7})
load("run.ckpt")["step"]                                    # 7
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..archive import Archive
from ..errors import MinigradError


class CheckpointError(MinigradError, ValueError):
    """A file that is no checkpoint this version can read, or a tree that cannot be stored."""


_FILES = Archive("checkpoint", 1, CheckpointError)


def save(path: str | Path, tree: Mapping[str, Any]) -> Path:
    """Writes a tree, atomically: what was there before stays until the new file is whole.

    tree: dicts with text keys, and lists, of arrays, Tensors, numbers, texts, booleans and None.
    Raises CheckpointError for anything else, and where `path` holds something that is no checkpoint
    of this version or an earlier one.
    """
    return _FILES.save(path, tree)


def load(path: str | Path) -> dict[str, Any]:
    """The tree that `save` wrote. Raises CheckpointError for any other file, saying what it is.

    >>> import math, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree = {"w": np.arange(3.0), "step": 7, "best": math.inf}
    ...     load(save(Path(folder) / "a.ckpt", tree))
    {'w': array([0., 1., 2.]), 'step': 7, 'best': inf}
    """
    return _FILES.load(path)


def leaves_of(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of everything in a tree, as `load` gave it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, (dict, list)):
            yield from leaves_of(value, name)
        else:
            yield name, value
