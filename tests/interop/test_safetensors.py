"""safetensors files: whole, exact, readable by others, never in place of somebody's."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from interop.models import same_bits, same_states

import minigrad as mg
from minigrad import interop, nn
from minigrad.interop.safetensors import widened

numpy_format = pytest.importorskip("safetensors.numpy", reason="reads and writes safetensors")


def by_hand(**entries: tuple[str, list[int], bytes]) -> bytes:
    """A file after the format's own description: length, JSON, bytes."""
    header, data = {}, b""
    for name, (kind, shape, raw) in entries.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data + raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def model(dtype: Any = np.float32) -> nn.Module:
    return nn.Sequential(
        nn.Embedding(7, 3, dtype=dtype),
        nn.LSTM(3, 1, num_layers=2, bidirectional=True, proj_size=0, dtype=dtype),
        nn.GRU(2, 5, reset_after=False, update="write", bias=False, dtype=dtype),
        nn.Linear(5, 1, dtype=dtype),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_with_the_same_bits(tmp_path: Path, dtype: Any) -> None:
    saved, loaded = model(dtype), model(dtype)
    file = interop.save_safetensors(tmp_path / "a.safetensors", saved, {"epoch": "7"})
    state = interop.load_safetensors(file)
    loaded.load_state_dict(state)
    assert same_states(saved, loaded)
    assert state.metadata == {"epoch": "7", "minigrad": mg.__version__, "format": "pt"}
    assert state.widened == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]  # no temporary file is left


def test_the_package_itself_reads_the_file(tmp_path: Path) -> None:
    saved = model()
    theirs = numpy_format.load_file(interop.save_safetensors(tmp_path / "a", saved))
    assert theirs.keys() == saved.state_dict().keys()
    assert all(same_bits(theirs[name], w) for name, w in saved.state_dict().items())


arrays = st.sampled_from(["f4", "f8", "i8", "i4", "u1", "?"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    )
)


@given(st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), arrays))
def test_any_arrays_come_back_with_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    found = interop.load_safetensors(interop.save_safetensors(path, state))
    assert found.keys() == state.keys()
    assert all(same_bits(found[name], w) for name, w in state.items())


def test_what_is_not_contiguous_or_not_of_this_machines_order_is_stored_as_its_values(
    tmp_path: Path,
) -> None:
    w = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    state = {"turned": w.T, "swapped": w.astype(">f4"), "tensor": mg.tensor(w), "0": np.float64(2)}
    found = interop.load_safetensors(interop.save_safetensors(tmp_path / "a", state))
    assert np.array_equal(found["turned"], w.T)
    assert np.array_equal(found["swapped"], w)
    assert np.array_equal(found["tensor"], w)
    assert found["0"].shape == ()


def test_half_precision_is_read_as_float32_with_the_same_values(tmp_path: Path) -> None:
    f16 = np.array([1.5, -0.0, 6e-8, 65504, np.inf], np.float16)
    # By hand: 1.0 is 0x3F80 0000, -2.5 is 0xC020 0000, and bfloat16 their upper halves.
    bf16 = np.array([0x3F80, 0xC020, 0x8000, 0x7F80], "<u2")
    data = by_hand(b=("BF16", [2, 2], bf16.tobytes()), a=("F16", [5], f16.tobytes()))
    (tmp_path / "half").write_bytes(data)
    found = interop.load_safetensors(tmp_path / "half")
    assert found.widened == ["a", "b"]
    assert found["a"].dtype == found["b"].dtype == np.float32
    assert found["a"].tolist() == f16.astype(np.float64).tolist()
    assert found["b"].tolist() == [[1.0, -2.5], [-0.0, np.inf]]
    assert np.signbit(found["b"][1, 0])


def test_every_bfloat16_keeps_its_value() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="has a bfloat16 of its own")
    every = np.arange(2**16, dtype=np.uint16)
    expected = every.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widened(every, "BF16"), expected)


def test_scaled_floats_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(by_hand(w=("F8_E4M3", [2], b"ab")))
    with pytest.raises(interop.FormatError, match="'w' is stored as F8_E4M3"):
        interop.load_safetensors(tmp_path / "a")


def test_a_file_cut_off_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = interop.save_safetensors(tmp_path / "whole", nn.Linear(3, 2)).read_bytes()
    for end in [*range(40), len(whole) // 2, len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(interop.FormatError, match="cut: this") as caught:
            interop.load_safetensors(tmp_path / "cut")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\3\4 a zip file", "is no safetensors file"),
        (b"\x80\x04 a pickle .......", "is no safetensors file"),
        (struct.pack("<Q", 3) + b"{]}", "header of this file is damaged"),
        (struct.pack("<Q", 2) + b"{}left over", "no whole safetensors file"),
        (by_hand(w=("F32", [3], b"four")), "no whole safetensors file"),
        (by_hand(w=("F99", [1], b"four")), "no whole safetensors file"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(data)
    with pytest.raises(interop.FormatError, match=said) as caught:
        interop.load_safetensors(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(interop.FormatError, match="left alone"):
        interop.save_safetensors(path, nn.Linear(3, 2))
    assert path.read_bytes() == data


def test_somebody_elses_safetensors_are_left_alone_and_ours_are_replaced(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(numpy_format.save({"w": np.ones(3)}))
    with pytest.raises(interop.FormatError, match="left alone"):
        interop.save_safetensors(theirs, nn.Linear(3, 2))
    ours = interop.save_safetensors(tmp_path / "ours", {"w": np.ones(3)})
    interop.save_safetensors(ours, {"w": np.zeros(2)})
    assert interop.load_safetensors(ours)["w"].tolist() == [0.0, 0.0]


def test_a_file_is_replaced_and_never_written_into(tmp_path: Path) -> None:
    """Whoever has the old file open, or is killed in between, has all of it."""
    path = interop.save_safetensors(tmp_path / "a", {"w": np.ones(3)})
    before = path.read_bytes()
    os.link(path, tmp_path / "same file")
    interop.save_safetensors(path, {"w": np.zeros(3)})
    assert (tmp_path / "same file").read_bytes() == before != path.read_bytes()


def test_what_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = interop.save_safetensors(tmp_path / "a", {"w": np.ones(3)})
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(interop.FormatError, match=r"cannot be written .No space left"):
        interop.save_safetensors(path, {"w": np.zeros(3)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_arguments_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    with pytest.raises(interop.ConversionError, match="'w' is <U1"):
        interop.save_safetensors(tmp_path / "a", {"w": np.array(["x"])})
    with pytest.raises(interop.ConversionError, match="metadata are texts; got 'epoch': 7"):
        interop.save_safetensors(tmp_path / "a", {"w": np.ones(1)}, {"epoch": 7})  # type: ignore
    with pytest.raises(interop.FormatError, match="no such file"):
        interop.load_safetensors(tmp_path / "a")
    with pytest.raises(interop.FormatError, match="cannot be written"):
        interop.save_safetensors(tmp_path / "no folder" / "a", {"w": np.ones(1)})
    assert not list(tmp_path.iterdir())


def test_without_the_package_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("safetensors", "safetensors.numpy", "h5py", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    for extra, call in {
        "safetensors": lambda: interop.load_safetensors(tmp_path / "a"),
        "keras": lambda: interop.read_keras_weights(tmp_path / "a"),
        "onnx": lambda: interop.import_onnx(tmp_path / "a"),
    }.items():
        with pytest.raises(interop.MissingPackageError) as caught:
            call()
        assert f'pip install "minigrad-bptt[{extra}]"' in str(caught.value)
