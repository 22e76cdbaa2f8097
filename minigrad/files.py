"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path`, on the disk, when the block ends well.

    Until then, and for ever after an exception, what was there stays; no reader sees half of it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes) -> Path:
    """Writes a file by `replacing`; returns its path.

    >>> import tempfile
    >>> write_whole(Path(tempfile.mkdtemp()) / "a.txt", b"whole").read_bytes()
    b'whole'
    """
    with replacing(path) as file:
        file.write(content)
    return Path(path)
