"""Files made to deceive, one for each trick, built here: each is refused by name, with a reason."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import interop, nn
from minigrad.data.speech import read_wave
from minigrad.data.translations import read_mo
from minigrad.lab import sweep
from minigrad.tasks import running
from minigrad.tasks.vowels import Vowels
from minigrad.train import CheckpointError, LogError, load, read_log, save
from minigrad.untrusted import parse_json

h5py = pytest.importorskip("h5py", reason="crafts .weights.h5 files")
onnx = pytest.importorskip("onnx", reason="crafts ONNX files")
pytest.importorskip("safetensors", reason="reads safetensors")
SECRET = "what another file holds"


def refused(error: type[Exception], said: str, read: Callable[[Path], Any], path: Path) -> None:
    """The error of one line, which names the file, or what stands in it, and says why."""
    with pytest.raises(error) as caught:
        read(path)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, mg.errors.MinigradError)


# -------------------------------------------------------------------------- what is no file at all

LOADERS: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    "safetensors": (interop.load_safetensors, interop.FormatError),
    "torch": (interop.read_torch_file, interop.FormatError),
    "torch or safetensors": (interop.from_torch_state_dict, interop.FormatError),
    "keras": (interop.read_keras_weights, interop.FormatError),
    "onnx": (interop.import_onnx, interop.FormatError),
    "checkpoint": (load, CheckpointError),
    "log": (read_log, LogError),
    "monitor": (mg.flow.read_monitor, mg.flow.FlowError),
    "recording": (mg.flow.load, mg.flow.FlowError),
    "sweep": (sweep.read, sweep.SweepError),
    "text": (mg.data.read_text, mg.data.DataError),
    "wave": (read_wave, mg.data.DataError),
    "mo": (read_mo, mg.data.DataError),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_pipe_a_device_a_folder_and_a_link_to_them_are_no_files(
    loader: str, tmp_path: Path
) -> None:
    read, error = LOADERS[loader]
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: opening it would wait for ever
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "link"):
        with pytest.raises(error, match=r"pipe|device|folder") as caught:
            read(path)
        assert str(path) in str(caught.value)
    with pytest.raises(error, match=r"(?i)no such file"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("loader", LOADERS)
def test_a_file_of_no_bytes_and_one_of_a_terabyte_of_nothing_are_refused(
    loader: str, tmp_path: Path
) -> None:
    read, error = LOADERS[loader]
    path = tmp_path / "a"
    path.touch()
    if loader not in ("log", "sweep"):  # an empty log is a log without lines
        with pytest.raises(error):
            read(path)
    os.truncate(path, 1 << 40)
    with pytest.raises(error):
        read(path)


# ----------------------------------------------------------------------------------- .weights.h5


def external(file: Any, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (8,), "u1", external=[(str(other), 0, 8)])


def virtual(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "a", (4,))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def linked(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = h5py.ExternalLink(str(other), "/a")


def soft(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = h5py.SoftLink("/a")


def named_dtype(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = np.dtype("f4")


def million_squared(file: Any, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (10**6, 10**6), "f4")


def million_squared_in_chunks(file: Any, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (10**6, 10**6), "f4", chunks=(10, 10))


def bomb(file: Any, other: Path) -> None:
    zeros = np.zeros((1000, 1000), np.float32)
    file.create_dataset("layers/dense/vars/0", data=zeros, compression="gzip")


def plugin(file: Any, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", data=np.ones((9, 9)), compression="lzf")


def ragged(file: Any, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (3,), h5py.vlen_dtype(np.float32))


def compound(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = np.zeros(2, [("a", "f4"), ("b", "f4")])


def references(file: Any, other: Path) -> None:
    file.create_dataset("layers/dense/vars/0", (3,), h5py.ref_dtype)


def text(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = "words"


def nothing(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = h5py.Empty("f4")


def cycle(file: Any, other: Path) -> None:
    group = file.create_group("layers/dense")
    group["again"] = group


def two_names(file: Any, other: Path) -> None:
    file["layers/dense/vars/0"] = np.ones(2)
    file["layers/dense/vars/1"] = file["layers/dense/vars/0"]


def deep(file: Any, other: Path) -> None:
    file["/".join("g" * 100) + "/vars/0"] = np.ones(1)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (external, "has its values in another file"),
        (virtual, "a virtual dataset"),
        (linked, "is a link"),
        (soft, "is a link"),
        (named_dtype, "is a Datatype; expected an array"),
        (million_squared, "says that it has 4,000,000,000,000 bytes"),
        (million_squared_in_chunks, "says that it has 4,000,000,000,000 bytes"),
        (bomb, "says that it has 4,000,000 bytes"),
        (plugin, "HDF5's filter 32000; read are gzip, shuffle, fletcher32"),
        (ragged, "expected numbers"),
        (compound, "expected numbers"),
        (references, "expected numbers"),
        (text, "expected numbers"),
        (nothing, "has no values"),
        (cycle, "is there under two names"),
        (two_names, "is there under two names"),
        (deep, "is nested too deeply"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hdf5_gives_no_array_that_is_not_in_the_file(
    build: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    with h5py.File(other, "w") as file:
        file["a"] = np.frombuffer(SECRET[:16].encode(), np.float32)
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        build(file, other)
    os.remove(other)  # that it is refused does not depend on what is there
    os.mkfifo(other)  # and whoever opened it would wait for ever
    refused(interop.FormatError, said, interop.read_keras_weights, path)


# ---------------------------------------------------------------------------------- checkpoints


def zipped(path: Path, parts: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def checkpoint(tree: Any, **arrays: bytes) -> dict[str, bytes]:
    head = {"format": "minigrad checkpoint", "version": 1, "tree": tree}
    files = {f"{name}.npy": content for name, content in arrays.items()}
    return {"checkpoint.json": json.dumps(head).encode(), **files}


def npy(header: str, data: bytes = b"\0" * 8, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def of(dtype: str, shape: str) -> bytes:
    return npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}")


W = {"w": {"$array": "w"}}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (checkpoint(W, w=of("'<f8'", "(10**12,)")), "no whole checkpoint"),
        (checkpoint(W, w=of("'<f8'", "(1000000000000,)")), "has 8 bytes"),
        (checkpoint(W, w=of("'<f8'", "(-1, -1)")), "shape (-1, -1)"),
        (checkpoint(W, w=of("'<f8'", "(0, 10000000000000000000000)")), "no whole checkpoint"),
        (checkpoint(W, w=of("'<f8'", "(2,)")), "has 8 bytes"),
        (checkpoint(W, w=of("'|O'", "(1,)")), "object"),
        (checkpoint(W, w=of("'<U2'", "(1,)")), "is of <U2"),
        (checkpoint(W, w=of("[('a', '<f4'), ('b', '<f4')]", "(1,)")), "is of"),
        (checkpoint(W, w=of("'<c8'", "(1,)")), "is of complex64"),
        (checkpoint(W, w=npy("(" * 100)), "no whole checkpoint"),
        (checkpoint(W, w=npy("", version=b"\x03\x00")), "npy version (3, 0)"),
        (checkpoint(W, w=b""), "no whole checkpoint"),
        (checkpoint(W), "no whole checkpoint (KeyError"),
        (checkpoint({"w": W["w"], "v": W["w"]}, w=of("'<f8'", "(1,)")), "stands in two places"),
        (checkpoint({"w": {"$array": 3}}), "$array stands beside other keys, or for 3"),
        (checkpoint({"w": {"$float": "12"}}), "$float is '12'"),
        (checkpoint([1, 2]), "it holds no tree"),
        (checkpoint(None), "it holds no tree"),
        ({"checkpoint.json": b'{"format": "minigrad checkpoint", "version": 1}'}, "no tree"),
        ({"checkpoint.json": b"[" * 100_000 + b"]" * 100_000}, "nested more than"),
        ({"checkpoint.json": b'{"a": ' * 100_000}, "nested more than"),
        ({"checkpoint.json": b"9" * 5000}, "no whole checkpoint"),
        ({"checkpoint.json": b"\xff"}, "no whole checkpoint"),
        ({"checkpoint.json": b'{"format": 1, "format": 2}'}, "the key 'format' is there twice"),
        ({"checkpoint.json": b'{"format": "minigrad checkpoint", "version": true}'}, "later"),
        ({"notes.txt": b""}, "a zip file, but no minigrad checkpoint"),
    ],
)
def test_a_checkpoint_that_says_more_than_it_holds_is_refused_and_kept(
    parts: dict[str, bytes], said: str, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "a.ckpt", parts)
    before = path.read_bytes()
    refused(CheckpointError, said, load, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_checkpoint_may_be_a_bomb_and_is_refused(packing: int, tmp_path: Path) -> None:
    parts = checkpoint(W, w=npy("", bytes(10**6)))
    path = zipped(tmp_path / "a.ckpt", parts, packing)
    for act in (load, lambda path: save(path, {})):
        refused(CheckpointError, "is compressed or encrypted", act, path)


def test_an_encrypted_part_a_part_that_is_there_twice_and_overlapping_parts_are_refused(
    tmp_path: Path,
) -> None:
    path = zipped(tmp_path / "a.ckpt", checkpoint({}, w=of("'<f8'", "(1,)")))
    whole = path.read_bytes()
    central = whole.index(b"PK\x01\x02")
    path.write_bytes(whole[: central + 8] + b"\x01" + whole[central + 9 :])  # its flag bits
    refused(CheckpointError, "is compressed or encrypted", load, path)
    sizes = central + 20  # compressed and whole size of the first part
    lie = struct.pack("<II", 10**9, 10**9)
    path.write_bytes(whole[:sizes] + lie + whole[sizes + 8 :])
    refused(CheckpointError, "its parts overlap", load, path)
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("checkpoint.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("checkpoint.json", "[]")
    path.write_bytes(twice.getvalue())
    refused(CheckpointError, "it has a part twice", load, path)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    tree: Any = {}
    for _ in range(100):
        tree = {"a": tree}
    with pytest.raises(CheckpointError, match="nested more than 100 deep"):
        save(tmp_path / "a.ckpt", tree)
    assert list(tmp_path.iterdir()) == []
    inmost: Any = tree["a"]
    while inmost["a"]:
        inmost = inmost["a"]
    inmost["a"] = np.array(7)  # an array is stored as one level more
    assert str(load(save(tmp_path / "a.ckpt", tree["a"]))) == str(tree["a"])


# ---------------------------------------------------------------------------------- safetensors


def safetensors(header: bytes, data: bytes = b"\0" * 8, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def entry(dtype: str = "F32", shape: str = "[2]", offsets: str = "[0, 8]") -> str:
    return f'{{"dtype": "{dtype}", "shape": {shape}, "data_offsets": {offsets}}}'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (safetensors(f'{{"__metadata__": [], "a": {entry()}}}'.encode()), "__metadata__ is not a"),
        (safetensors(f'{{"__metadata__": "x", "a": {entry()}}}'.encode()), "__metadata__ is not a"),
        (safetensors(f'{{"__metadata__": {{"a": 1}}, "a": {entry()}}}'.encode()), "__metadata__"),
        (safetensors(f'{{"a": {entry()}, "a": {entry()}}}'.encode()), "'a' is there twice"),
        (safetensors(f'{{"a": {entry()}, "b": {entry()}}}'.encode()), "no whole safetensors"),
        (safetensors(f'{{"a": {entry(offsets="[0, 80]")}}}'.encode()), "no whole safetensors"),
        (safetensors(f'{{"a": {entry(offsets="[8, 0]")}}}'.encode()), "no whole safetensors"),
        (safetensors(f'{{"a": {entry(offsets="[-8, 0]")}}}'.encode()), "no whole safetensors"),
        (safetensors(f'{{"a": {entry(shape="[1000000000000]")}}}'.encode()), "no whole"),
        (safetensors(f'{{"a": {entry(shape="[4294967296, 4294967296]")}}}'.encode()), "no whole"),
        (safetensors(f'{{"a": {entry(dtype="I128")}}}'.encode()), "no whole safetensors"),
        (safetensors(b"{}", size=2**64 - 1), "is no safetensors file"),
        (safetensors(b'{"a":' * 100_000), "nested more than"),
        (safetensors(b'{"\xff": 1}'), "header of this file is damaged"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    refused(interop.FormatError, said, interop.load_safetensors, path)


# ----------------------------------------------------------------------------------------- ONNX


def exported(path: Path, layer: Any, change: Callable[[Any], None]) -> Path:
    model = onnx.load(interop.export_onnx(path, layer))
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def recurrent_node(graph: Any) -> Any:
    return next(node for node in graph.node if node.op_type in ("RNN", "LSTM", "GRU"))


def weights(graph: Any, name: str) -> Any:
    node = recurrent_node(graph)
    wanted = node.input["XWRB".index(name)]
    return next(w for w in graph.initializer if w.name == wanted)


def attribute(name: str, value: Any) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        node = recurrent_node(graph)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return change


def array(name: str, new: np.ndarray) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        w = weights(graph, name)
        w.CopyFrom(onnx.numpy_helper.from_array(new, w.name))

    return change


def dims(*sizes: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        w = weights(graph, "W")
        del w.dims[:]
        w.dims.extend(sizes)

    return change


def no_dtype(graph: Any) -> None:
    weights(graph, "W").data_type = 77


def texts(graph: Any) -> None:
    w = weights(graph, "W")
    w.CopyFrom(onnx.helper.make_tensor(w.name, onnx.TensorProto.STRING, [1], [b"x"]))


def unknown_input(graph: Any) -> None:
    recurrent_node(graph).input[0] = "nowhere"


def unknown_output(graph: Any) -> None:
    graph.output[0].name = "nowhere"


def into_itself(graph: Any) -> None:
    node = recurrent_node(graph)
    node.input[0] = node.output[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (attribute("direction", "sideways"), "direction='sideways'; expected forward, reverse"),
        (attribute("direction", 3), "direction"),
        (attribute("hidden_size", 7), "hidden_size=7, and its R is [1, 16, 4]"),
        (attribute("layout", 5), "layout=5"),
        (array("W", np.ones((1, 15, 3), np.float32)), "its W is [1, 15, 3]; expected [1, 16, 3]"),
        (array("W", np.ones((2, 16, 3), np.float32)), "its W is [2, 16, 3]"),
        (array("W", np.ones((16, 3), np.float32)), "its W is [16, 3]"),
        (array("R", np.ones((1, 16, 5), np.float32)), "4 gates, 5 units"),
        (array("R", np.ones((), np.float32)), "its W is"),
        (array("B", np.ones((1, 31), np.float32)), "its B is [1, 31]; expected [1, 32]"),
        (array("B", np.ones((1, 32), np.float64)), "weights B of float64"),
        (array("W", np.ones((1, 16, 3), np.int32)), "weights W of int32"),
        (array("W", np.ones((1, 16, 0), np.float32)), "its W is [1, 16, 0]"),
        (dims(10**6, 10**6, 10**6), "is too small for the declared shape"),
        (dims(-1, 16, -3), "Negative dimension"),
        (no_dtype, "dtype 77"),
        (texts, "dtype 8"),
        (unknown_input, "nowhere"),
        (unknown_output, "'nowhere' is not an output of any node"),
        (into_itself, "topologically sorted"),
    ],
    ids=lambda value: getattr(value, "__qualname__", str(value)).partition(".")[0],
)
def test_an_onnx_node_that_is_not_what_it_says_is_refused(
    change: Any, said: str, tmp_path: Path
) -> None:
    path = exported(tmp_path / "a.onnx", nn.LSTM(3, 4), change)
    with pytest.raises((interop.FormatError, interop.ConversionError)) as caught:
        interop.import_onnx(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_onnx_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = interop.export_onnx(tmp_path / "a.onnx", nn.Linear(2, 2))
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"Mat\xfful"))
    refused(interop.FormatError, "this is no whole ONNX file", interop.import_onnx, path)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"location": "../secret"}, "outside of the file's folder"),
        ({"location": "/etc/passwd"}, "outside of the file's folder"),
        ({"location": "link"}, "outside of the file's folder"),
        ({"location": ""}, "outside of the file's folder"),
        ({"location": "c:\\secret"}, "outside of the file's folder"),
        ({"location": "a\0b"}, "outside of the file's folder"),
        ({"location": "pipe"}, "pipe"),
        ({"location": "nowhere"}, "cannot be read"),
        ({"location": "w.bin", "offset": "8"}, "from 8 on, of the 16 of w.bin"),
        ({"location": "w.bin", "offset": "-16"}, "from -16 on"),
        ({"location": "w.bin", "length": "8"}, "said to be 8"),
        ({"location": "w.bin", "length": "1000000000000"}, "said to be 1000000000000"),
        ({"location": "w.bin", "offset": "x"}, "invalid literal"),
    ],
)
def test_onnx_reads_no_data_but_those_beside_the_file(
    where: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(SECRET[:16].encode())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (folder / "link").symlink_to("../secret")
    os.mkfifo(folder / "pipe")

    def outside(graph: Any) -> None:
        for w in graph.initializer:
            if list(w.dims) == [2, 2]:
                w.ClearField("raw_data")
                w.data_location = onnx.TensorProto.EXTERNAL
                for key, value in where.items():
                    w.external_data.add(key=key, value=value)

    path = exported(folder / "a.onnx", nn.Linear(2, 2), outside)
    refused(interop.FormatError, said, interop.import_onnx, path)


def test_a_constant_of_a_node_lies_in_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where onnx itself would look
    (tmp_path / "secret").write_bytes(SECRET[:16].encode())
    value = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    value.ClearField("raw_data")
    value.data_location = onnx.TensorProto.EXTERNAL
    value.external_data.add(key="location", value="secret")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["y"], value=value)],
        "g",
        [],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 2])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opset).SerializeToString())
    refused(interop.FormatError, "lies in another file", interop.import_onnx, path)


# ------------------------------------------------------------------------- runs, logs and sweeps

SETTINGS = {"cell": "gru", "hidden": 4, "epochs": 1}


@pytest.mark.parametrize(
    "run",
    [
        [], 3, None, {}, {"task": "vowels"}, {"task": "vowels", "settings": []},
        {"task": "vowels", "settings": {**SETTINGS, "hidden": "4"}},
        {"task": "vowels", "settings": {**SETTINGS, "hidden": 10**12}},
        {"task": "vowels", "settings": {**SETTINGS, "hidden": 0}},
        {"task": "vowels", "settings": {**SETTINGS, "epochs": 1.5}},
        {"task": "vowels", "settings": {**SETTINGS, "seed": -1}},
        {"task": "vowels", "settings": {**SETTINGS, "quick": "no"}},
        {"task": "vowels", "settings": {**SETTINGS, "cell": ["gru"]}},
        {"task": "vowels", "settings": {**SETTINGS, "cell": "abacus"}},
        {"task": "vowels", "settings": {**SETTINGS, "merge": "max"}},
        {"task": "vowels", "settings": {**SETTINGS, "more": 1}},
        {"task": {"a": 1}, "settings": SETTINGS},
    ],
)  # fmt: skip
def test_a_run_file_with_settings_that_no_task_has_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(running.TaskError) as caught:
        running.resume(Vowels, {}, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["[1]", "3", '"x"', "null", "[" * 10_000, '{"a": 1, "a": 2}', "9" * 5000, "\\xff"],
)
def test_a_log_line_that_is_no_record_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    refused(LogError, "line 2 is", read_log, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a = " + "[" * 100_000, "nested too deeply|is not TOML"),
        ("function = 'x:y'\n[grid]\na = [0x" + "f" * 10_000 + "]", "64 bits"),
        ("[grid]\na = [" + "9" * 5_000 + "]", "is not TOML"),
        ("function = 'x:y'\n[grid]\na = [1979-05-27]", "takes a number or a text"),
        ("a." * 50_000 + "a = 1", "a key of more than 50 parts"),
        ('"a, b" . ' * 50_000 + "a = 1", "a key of more than 50 parts"),
        ("x = [{" + "'.'.a." * 50_000 + "a = 1}]", "a key of more than 50 parts"),
        ("[" + "a." * 50_000 + "a]", "a key of more than 50 parts"),
        ("grid = 3", r"must be a section, \[grid\]"),
        ("function = 'x:y'\n[grid]\na = [[1]]", "takes a number or a text"),
        ("function = 'x:y'\n[grid]\na = [" + "1," * 100_001 + "]", "at most 100,000"),
    ],
)
def test_a_configuration_that_is_none_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(content)
    with pytest.raises(sweep.SweepError, match=said) as caught:
        sweep.read(path)
    assert len(str(caught.value)) < 500


def test_a_planted_link_in_the_folder_of_a_sweep_is_not_written_through(tmp_path: Path) -> None:
    config = sweep.parse({"function": "os.path:basename", "grid": {"a": [1]}})
    for name in ("sweep.lock", "results.jsonl", "results.csv", "workers.log"):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        (folder / "sweep.toml").write_text('function = "os.path:basename"\n[grid]\na = [1]\n')
        mine = tmp_path / f"mine-{name}"
        mine.write_text(SECRET)  # no newline: it would be cut off as a torn line
        (folder / name).symlink_to(mine)
        with pytest.raises(sweep.SweepError, match="is a link or no file"):
            sweep.run(config, folder, workers=1)
        assert mine.read_text() == SECRET


# ------------------------------------------------------------------------------------------ JSON


def test_json_is_bounded_in_depth_and_names_each_key_once() -> None:
    just = "[" * 100 + "]" * 100
    assert str(parse_json(just)).count("[") == 100
    for text in (
        f"[{just}]",
        "[" * 10**6,
        '{"a":' * 10**6,
        '["' + "\\" * 10**6,
        "[" + '"\\"' * 10**5,
    ):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)
    assert parse_json('["' + "[" * 200 + '"]') == ["[" * 200]  # brackets in a text are no depth
    with pytest.raises(ValueError, match="'b' is there twice"):
        parse_json('{"a": {"b": 1, "b": 2}}')
