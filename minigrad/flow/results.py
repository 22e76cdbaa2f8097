"""Results on disk: JSON that every reader accepts, CSV, and folders that appear whole or not at
all.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..files import beside, is_empty

MARK = "flow.json"  # the file that makes a folder a result of ours


class OutputError(MinigradError, OSError):
    """A place where results cannot be written."""


def to_json(value: Any) -> str:
    """JSON text. NumPy values become plain ones; nan, inf and -inf become strings, as JSON has
    none.
    """
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def to_line(value: Any) -> str:
    """The same on one line, for JSON Lines."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n"
    except (TypeError, ValueError):  # not plain yet; to look first would cost more than to write
        return json.dumps(_plain(value), allow_nan=False, separators=(",", ":")) + "\n"


def to_csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV text with a header; floats at full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or (kind is float and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def check_destination(path: Path, replace: bool = False) -> None:
    """Raises OutputError unless `path` can become a new folder of results.

    An empty folder will do. With replace=True so will an earlier result, but no other folder.
    """
    if path.is_dir():
        if not is_empty(path):
            if not (path / MARK).is_file():
                raise OutputError(f"{path}: this folder is not empty; choose a new one.")
            if not replace:
                raise OutputError(
                    f"{path}: holds an earlier result; choose a new folder, or pass --replace."
                )
    elif path.exists():
        raise OutputError(f"{path}: this is a file; choose a new folder.")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot write into {parent}.")


@contextmanager
def new_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yields an empty neighbour of `path` to write into; it becomes `path` when the block ends
    well.

    After an exception nothing has changed. With replace=True an earlier result is there until the
    new one is whole.
    """
    check_destination(path, replace)
    path = Path(os.path.realpath(path))  # a link to an earlier result stays one
    temporary, old = beside(path), beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot write here ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def free_name(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... that does not exist yet."""
    if not path.exists():
        return path
    n = 2
    while (candidate := path.with_name(f"{path.name}-{n}")).exists():
        n += 1
    return candidate
