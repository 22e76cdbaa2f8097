"""Files of `torch.save`, read without torch and without running anything in them.

    read_torch_file("model.pt")                             # name -> array
    read_torch_file("last.ckpt", entry="state_dict")        # of a Lightning checkpoint

Such a file is a zip of one pickle and the numbers of each storage, before PyTorch 1.6 several
pickles and then the numbers. The pickle is read by a machine that calls nothing (`pickles`).
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

from ..untrusted import MOST_TEXT, open_regular, read_bytes, read_json, reading, shortly, size_of
from .base import Array, FormatError
from .pickles import Foreign, read_pickle
from .safetensors import load_safetensors
from .torch_tree import CALLS, Content, Maker, Storage, entry_of, persistent, state_dicts

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before PyTorch 1.6


def read_torch_file(path: str | os.PathLike[str], entry: str | None = None) -> Any:
    """What a .pt, .pth, .bin or .ckpt file holds: arrays in dictionaries and lists, as they were.

    entry: the place in it that is read, and no other: "state_dict", "models.encoder".
    Parameters are arrays, OrderedDicts dictionaries, torch.Sizes tuples; numbers, texts and None
    stay. float16 and bfloat16 are widened to float32, which is exact. Tensors that share a storage
    share memory.
    Nothing is executed: an object of any other class is refused with FormatError, which names it,
    its place and the entries that can be read without it. FormatError for other files too.
    """
    path = Path(path)
    with reading(path, FormatError, what="PyTorch file"), open_regular(path) as file:
        if file.read(2) != b"PK":
            return _read(path, _stacked(read_bytes(path)), entry)
        with zipfile.ZipFile(file) as archive:
            return _read(path, _zipped(path, archive, size_of(file)), entry)


def read_weights(path: str | os.PathLike[str], entry: str | None = None) -> Any:
    """The same for any file of weights under torch's names: safetensors too, and the .index.json of
    a model that is kept in several files.
    """
    path = Path(path)
    with reading(path, FormatError, what="file of weights"):
        with open_regular(path) as file:
            head = file.read(9)
        if entry and (head[:1] == b"{" or _is_safetensors(head)):
            raise FormatError(f"{path}: has no entries, but tensors by name; leave entry out.")
        if head[:1] == b"{":
            return _in_parts(path)
        return load_safetensors(path) if _is_safetensors(head) else read_torch_file(path, entry)


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and head[:2] not in (b"PK", b"\x80\x02")


def _in_parts(path: Path) -> dict[str, Array]:
    places = read_json(path)["weight_map"]
    parts: dict[str, Any] = {}
    for name in sorted(set(places.values())):
        if os.path.basename(name) != name:
            raise FormatError(f"{path}: its part {shortly(name)} is no file beside it.")
        read = load_safetensors if name.endswith(".safetensors") else read_torch_file
        parts[name] = read(path.with_name(name))
    for name, part in places.items():
        if name not in parts[part]:
            raise FormatError(f"{path}: {shortly(name)} is not in {shortly(part)}.")
    return {name: parts[part][name] for name, part in places.items()}


# ------------------------------------------------------------------------ the two kinds of files


def _zipped(path: Path, archive: zipfile.ZipFile, size: int) -> Content:
    parts = {part.filename: part for part in archive.infolist()}
    roots = [name[: -len("data.pkl")] for name in parts if name.endswith("/data.pkl")]
    if len(roots) != 1:
        npz = "; of NumPy's .npz give dict(numpy.load(path))" * any(
            n.endswith(".npy") for n in parts
        )
        raise FormatError(f"{path}: this is a zip file, but none that torch.save wrote{npz}.")
    (root,) = roots
    if any(name.startswith(f"{root}code/") for name in parts):
        raise FormatError(
            f"{path}: this is a program of torch.jit (TorchScript), not its weights alone. In "
            f"torch: torch.save(torch.jit.load(path).state_dict(), other_path)."
        )
    for part in parts.values():
        if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 0x1:
            raise ValueError(f"its part {shortly(part.filename)} is compressed or encrypted")
    if len(parts) != len(archive.infolist()):
        raise ValueError("it has a part twice")
    if sum(part.file_size for part in parts.values()) > size:
        raise ValueError("its parts overlap")
    if parts[f"{root}data.pkl"].file_size > MOST_TEXT:
        raise ValueError(f"its data.pkl has more than {MOST_TEXT:,} bytes")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in parts else b"little"
    tree = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")), CALLS, persistent)

    def read(storage: Storage) -> bytes:
        part = f"{root}data/{storage.key}"
        if part not in parts or parts[part].file_size != storage.bytes:
            raise ValueError(f"the storage {shortly(storage.key)} is missing or of another size")
        return archive.read(part)

    return Content(tree, read, size, ">" if order == b"big" else "<")


def _stacked(data: bytes) -> Content:
    """Pickles of: a magic number, a version, facts about the machine, the tree, the storages' keys;
    then each storage's count, in 8 bytes, and numbers.
    """
    stream, seen = io.BytesIO(data), dict[str, Storage]()

    def remembered(identifier: Any) -> Any:
        found = persistent(identifier)
        if isinstance(found, Storage):
            seen[found.key] = found
        return found

    if data[:1] != b"\x80" or read_pickle(stream, {}, remembered) != MAGIC:
        raise ValueError("it begins as no file of torch.save does")
    _version, machine, tree, keys = [read_pickle(stream, CALLS, remembered) for _ in range(4)]
    little = machine["little_endian"]
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        if not isinstance(key, str):  # to hash a tuple is to walk it, as deep as it goes
            raise ValueError(f"a storage is called {shortly(key)}")
        count = int.from_bytes(stream.read(8), "little" if little else "big")
        if count != seen[key].count:
            raise ValueError(f"the storage {shortly(key)} is of another size")
        start = stream.tell()
        places[key] = start, stream.seek(start + seen[key].bytes)
    if stream.tell() > len(data):
        raise ValueError("it is cut off")
    return Content(tree, lambda s: data[slice(*places[s.key])], len(data), "<" if little else ">")


def _read(path: Path, content: Content, entry: str | None) -> Any:
    if isinstance(content.tree, Foreign):
        raise FormatError(
            f"{path}: is an object of {shortly(content.tree.name)}, a whole model perhaps, and "
            f"no weights by their names; nothing in it was run. In torch: "
            f"torch.save(model.state_dict(), other_path)."
        )
    try:
        tree = entry_of(content.tree, entry)
    except KeyError:
        has = content.tree if isinstance(content.tree, dict) else ()
        names = ", ".join(shortly(key) for key in list(has)[:9]) or "no entries"
        raise FormatError(f"{path}: has no entry {shortly(entry)}; it has {names}.") from None
    maker = Maker(content)
    made = maker.made(tree)
    if maker.foreign:
        raise FormatError(_refusal(path, content.tree, maker.foreign))
    return made


def _refusal(path: Path, tree: Any, foreign: list[tuple[tuple[Any, ...], str]]) -> str:
    places = [(".".join(map(str, place)), name) for place, name in foreign[:5]]
    said = ", ".join(f"{shortly(name)} at {shortly(place)}" for place, name in places)
    more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
    ways = " or ".join(f"entry={shortly(entry)}" for entry, _ in state_dicts(tree) if entry)
    hint = f" {ways} reads only those weights." if ways else ""
    return (
        f"{path}: holds {said}{more}; only tensors, numbers, texts, lists and dictionaries are "
        f"read, and nothing is run.{hint}"
    )
