"""Damaged files, made from whole ones: any bytes, and JSON, zip, TOML that stay well-formed.

The same seed gives the same file. Bytes are flipped, cut off, put in, doubled, spliced and
overwritten with the numbers at which formats break; trees of JSON get values of other types.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

Mutator = Callable[[random.Random, bytes], bytes]
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 10**9, 10**30, 2**63, 1e308, float("nan"), float("-inf"), "",
    "nan", "x", "\x1b[2J", "\u202e", "\0", "../../etc/passwd", "a" * 300, [], {}, [1], [[]], [None],
    {"a": 1}, {"$array": "0-w"}, {"$float": "x"}, {"": {}}, [0] * 100, [[[[[[[[[[1]]]]]]]]]],
)  # fmt: skip


def in_place(rng: random.Random, data: bytes) -> bytes:
    """Damages that leave the length as it is: addresses in the file stay right."""
    return of_bytes(rng, data, kinds=(0, 5, 6))[: len(data)].ljust(len(data), b"\0")


def of_bytes(rng: random.Random, data: bytes, kinds: Sequence[int] = range(8)) -> bytes:
    """One to four damages of any kind of file."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(found) + 1)
        kind = rng.choice(kinds)
        if kind == 0 and found:
            found[at - 1] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            found[at:at] = rng.randbytes(rng.choice((1, 2, 8, 100)))
        elif kind == 3:
            found[at:at] = found[at : at + rng.choice((1, 8, 64, 1000))]
        elif kind == 4:
            del found[at : at + rng.choice((1, 4, 8, 100))]
        elif kind == 5:
            number, size = rng.choice(EDGES), rng.choice((1, 2, 4, 8))
            found[at : at + size] = (number & (256**size - 1)).to_bytes(size, "little")
        elif kind == 6:
            there = rng.randrange(len(found) + 1)
            size = rng.choice((1, 8, 64))
            found[at : at + size] = found[there : there + size]
        else:
            found[at : at + rng.choice((1, 8, 100))] = b""
            found[at:at] = bytes(rng.choice((1, 8, 100)))
    return bytes(found)


def tree(rng: random.Random, value: Any) -> Any:
    """A tree of JSON in which one place is another value, missing, twice or called otherwise."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if not places:
        return rng.choice(NASTY)
    holder, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind <= 2:
        holder[key] = rng.choice(NASTY)
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        other, there = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[there]))
    elif isinstance(holder, dict):
        holder[rng.choice(("x", "", "\x1b", "step", "$array", "__metadata__"))] = holder.pop(key)
    else:
        holder.insert(key, rng.choice(NASTY))
    return value


def _places(value: Any) -> Any:
    if not isinstance(value, (dict, list)):
        return
    for key, below in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(below, (dict, list)):
            yield from _places(below)


def of_json(rng: random.Random, data: bytes) -> bytes:
    """Well-formed JSON most often; else with a key twice, nested deeply, or damaged as bytes."""
    kind = rng.randrange(10)
    if kind == 0:
        return of_bytes(rng, data)
    if kind == 1:
        depth = rng.choice((90, 99, 200, 5_000, 100_000))
        return data.replace(b"1", b"[" * depth + b"]" * depth, 1)
    if kind == 2:
        return data.replace(b"{", b'{"step":1,"step":2,', 1)
    if kind == 3:
        return data.replace(b"1", b"9" * rng.choice((30, 400, 5_000)), 1)
    changed = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        changed = tree(rng, changed)
    return json.dumps(changed).encode("utf-8", "surrogatepass")


def of_lines(rng: random.Random, data: bytes) -> bytes:
    """JSON lines of which one is changed, doubled, gone, or moved."""
    lines = data.splitlines(keepends=True)
    at, kind = rng.randrange(len(lines)), rng.randrange(8)
    if kind <= 4:
        lines[at] = of_json(rng, lines[at]).replace(b"\n", b"") + b"\n"
    elif kind == 5:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind == 6:
        del lines[at]
    else:
        return of_bytes(rng, data)
    return b"".join(lines)


def of_safetensors(rng: random.Random, data: bytes) -> bytes:
    """The header is changed and its length made to fit; or any bytes are."""
    if rng.random() < 0.4:
        return of_bytes(rng, data)
    (size,) = struct.unpack("<Q", data[:8])
    header = of_json(rng, data[8 : 8 + size])
    told = len(header) if rng.random() < 0.9 else rng.choice(EDGES)
    return struct.pack("<Q", told) + header + data[8 + size :]


def of_zip(rng: random.Random, data: bytes) -> bytes:
    """A zip whose parts are changed and whose checksums are right; or any bytes are changed."""
    if rng.random() < 0.4:
        return of_bytes(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    text = next(name for name in parts if name.endswith(".json"))
    if rng.random() < 0.6:
        parts[text] = of_json(rng, parts[text])
    else:
        name = rng.choice(list(parts))
        parts[name] = _of_npy(rng, parts[name]) if name.endswith(".npy") else b""
    if rng.random() < 0.2:
        parts.pop(rng.choice(list(parts)))
    packing = rng.choice((0, 0, 0, 0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", packing) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return memory.getvalue()


def of_pt(rng: random.Random, data: bytes) -> bytes:
    """A zip whose pickle has other bytes and whose checksums are right; or any bytes are changed,
    as in the older files, which are no zips.
    """
    if rng.random() < 0.2 or data[:2] != b"PK":
        return of_bytes(rng, data)
    memory = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(memory, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                content = in_place(rng, content) if rng.random() < 0.5 else of_bytes(rng, content)
            elif rng.random() < 0.05:
                continue
            new.writestr(name, content)
    return memory.getvalue()


def _of_npy(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return of_bytes(rng, data)
    pattern, *others = rng.choice((
        (rb"[<|]\w\d", b"|O ", b"<f4", b"<f8", b"|b1", b"<c8", b">f4", b"|V4", b"<U1", b"???"),
        (rb"False", b"True ", b"None ", b"1+1j "),
        (rb"\([\d, ]*\)", b"(10**12,)", b"(999999999999,)", b"(-2,-3)", b"(3, 2)", b"()"),
    ))  # fmt: skip
    return re.sub(pattern, lambda _: rng.choice(others), data, count=1)


def of_h5(rng: random.Random, data: bytes) -> bytes:
    """Most often of the same length: a shorter one is refused for that alone."""
    return in_place(rng, data) if rng.random() < 0.8 else of_bytes(rng, data)


def of_onnx(rng: random.Random, data: bytes) -> bytes:
    """A protobuf with one to three fields of another value, missing or twice; or bytes changed."""
    import onnx

    if rng.random() < 0.2:
        return of_bytes(rng, data)
    model = onnx.load_model_from_string(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        message, field = rng.choice(list(_fields(model)))
        with suppress(ValueError):  # a value that protobuf itself does not let in
            _change_field(rng, message, field)
    return bytes(model.SerializeToString())


def _fields(message: Any) -> Any:
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for below in value if field.is_repeated else [value]:
                yield from _fields(below)


def _change_field(rng: random.Random, message: Any, field: Any) -> None:
    value, kind = getattr(message, field.name), rng.randrange(5)
    if kind == 0:
        message.ClearField(field.name)
    elif field.is_repeated:
        at = rng.randrange(len(value))
        if kind <= 2 and field.message_type is None:
            value[at] = _other(rng, value[at])
        elif kind == 3:
            value.extend([value[at]])
        else:
            del value[at]
    elif field.message_type is None:
        setattr(message, field.name, _other(rng, value))


def _other(rng: random.Random, value: Any) -> Any:
    if isinstance(value, str):
        return rng.choice(("", "x", "W", "y", "sideways", "LSTM", "../a", value[:-1], "\x1b[2J"))
    if isinstance(value, bytes):
        return rng.choice((b"", b"reverse", b"sideways", b"\xff", value[:-1], of_bytes(rng, value)))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e30, float("nan")))
    return rng.choice((0, 1, 2, 3, 7, 10, 16, 100, 2**31 - 1, value + 1, max(value - 1, 0)))


def of_text(rng: random.Random, data: bytes) -> bytes:
    """TOML with a value of another kind, or any bytes changed."""
    if rng.random() < 0.4:
        return of_bytes(rng, data)
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    key, equals, _ = lines[at].partition(b"=")
    values = (
        b"1", b"[]", b"{}", b"[[1]]", b'"x"', b"nan", b"1979-05-27", b"9" * 5000, b"true", b"[1,1]",
        b"[" * 5000 + b"]" * 5000, b'"\\u001b[2J"', b"[1e400]", b"[0x" + b"f" * 9000 + b"]", b"-1",
    )  # fmt: skip
    lines[at] = key + equals + rng.choice(values) + b"\n" if equals else lines[at] * 2
    return b"".join(lines)
