"""Files of torch.save, written by hand: pickles as text, in a zip with the bytes of storages."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"


def storage(key: str, count: int, kind: str = "torch\nFloatStorage") -> bytes:
    kind_of = b"c" + kind.encode() + b"\n"
    return b"(" + text("storage") + kind_of + text(key) + text("cpu") + b"I%d\n" % count + b"tQ"


def tensor(
    of: bytes, shape: Sequence[int], stride: Sequence[int], offset: int = 0, name: str = "_v2"
) -> bytes:
    head = b"ctorch._utils\n_rebuild_tensor" + name.encode() + b"\n("
    return head + of + b"I%d\n" % offset + numbers(shape) + numbers(stride) + b"\x89NtR"


def ones(count: int = 4) -> bytes:
    """A tensor of the storage "0" as it lies."""
    return tensor(storage("0", count), [count], [1])


def mapping(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def zipped(path: Path, tree: bytes, root: str = "archive", **parts: bytes) -> Path:
    """tree: a pickle without its end, or a whole one. Parts are below the root, "/" as "__"."""
    whole = tree if tree.endswith(b".") else b"\x80\x02" + tree + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", whole)
        for name, content in parts.items():
            archive.writestr(f"{root}/{name.replace('__', '/')}", content)
    return path
