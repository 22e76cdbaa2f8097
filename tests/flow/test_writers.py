"""What a Monitor measures is in files of TensorBoard and W&B, as their own readers read them."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import FlowError, Monitor, MonitorWarning, TensorBoardWriter, WandbWriter
from minigrad.flow.writers.base import EDGES, Writer


class Listed(Writer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str, Any]] = []
        self.closed = 0

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.told += [(step, name, x) for name, x in values.items()]

    def histogram(self, step: int, name: str, counts: Any) -> None:
        self.told.append((step, name, counts.tolist()))

    def words(self, step: int, name: str, text: str) -> None:
        self.told.append((step, name, text))

    def image(self, step: int, name: str, png: bytes) -> None:
        self.told.append((step, name, png))

    def close(self) -> None:
        self.closed += 1

    def of(self, name: str) -> dict[int, Any]:
        return {step: value for step, told, value in self.told if told == name}


def trained(writers: Any = (), path: Any = None, steps: int = 4) -> Monitor:
    net = mg.nn.LSTM(2, 3, generator=np.random.default_rng(0))
    sgd = mg.optim.SGD(net.parameters(), lr=0.1)
    with Monitor(net, path, every=2, writers=writers) as monitor:
        for k in range(steps):
            with monitor.step():
                loss = net(np.full((5, 1, 2), k + 1.0, np.float32))[0][-1].sum()
                sgd.zero_grad()
                loss.backward()
                monitor.clip(1e-3)
                sgd.step()
            monitor.log(loss=loss.item())
    return monitor


def test_a_writer_is_told_what_the_history_has(tmp_path: Path) -> None:
    live, later = Listed(), Listed()
    history = trained([live], tmp_path / "run.jsonl").history
    assert live.of("loss") == dict(zip(*history.logged["loss"], strict=True))
    for what, head in (("weight", "weight/"), ("reach", "reach/"), ("dead", "dead/")):
        for name, (steps, values) in history.curves(what).items():
            told = live.of(head + name.replace(" ", "/"))
            np.testing.assert_array_equal(list(told), steps)
            np.testing.assert_array_equal(list(told.values()), values)
    assert set(live.of("weight/weight_hh_l0/f")) == set(live.of("saturation/lstm/l0/fwd/o"))
    assert live.of("clipped")[4] == 1.0
    kind = history.measurements[0].cuts["lstm/l0/fwd"].kind
    assert live.of("verdict/lstm/l0/fwd")[1].startswith(kind)
    counts = live.of("log2 gradient/weight_hh_l0")[4]
    histogram = history.measurements[-1].parameters["weight_hh_l0"].histogram
    assert (sum(counts), counts[1:-1]) == (36, histogram.counts.tolist())
    later.copy(tmp_path / "run.jsonl")
    assert str([t for t in later.told if t[1] != "lag x update"]) == str(
        [t for t in live.told if t[1] != "lag x update"]
    )
    assert (live.closed, later.closed) == (1, 1)


def test_zero_and_what_is_beyond_the_bins_have_bins_at_the_ends(tmp_path: Path) -> None:
    net = mg.nn.Linear(3, 1, bias=False, dtype=np.float64)
    listed = Listed()
    with Monitor(net, every=1, writers=[listed]) as monitor, monitor.step():
        net(mg.tensor([[0.0, 1e300, 3.0]])).sum().backward()
    counts = listed.of("log2 gradient/weight")[1]
    assert len(counts) == len(EDGES) - 1
    there = {int(EDGES[i]): n for i, n in enumerate(counts) if n}
    assert there == {-49: 1, 1: 1, 16: 1}


def test_a_writer_that_fails_is_left_out_and_training_goes_on() -> None:
    class Failing(Listed):
        def numbers(self, step: int, values: Mapping[str, float]) -> None:
            raise OSError("disk full")

    failing, other = Failing(), Listed()
    with pytest.warns(MonitorWarning, match="Failing is left out from here on.*disk full"):
        monitor = trained([failing, other])
    assert list(other.of("loss")) == [1, 2, 3, 4]
    assert monitor.history.step == 4


@pytest.mark.parametrize(
    ("make", "install"),
    [(lambda: TensorBoardWriter("x"), "tensorboard"), (WandbWriter, "wandb")],
)
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    make: Any, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == install]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, install, None)
    with pytest.raises(FlowError, match=f"needs {install}, .*: pip install {install}"):
        make()


# -- the packages' own readers


def test_tensorboards_own_reader_finds_it_all(tmp_path: Path) -> None:
    accumulating = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="reads event files"
    )
    history = trained([TensorBoardWriter(tmp_path)]).history
    read = accumulating.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0, "images": 0})
    read.Reload()
    tags = read.Tags()
    steps, losses = history.logged["loss"]
    assert [e.step for e in read.Scalars("loss")] == steps.tolist()
    np.testing.assert_allclose([e.value for e in read.Scalars("loss")], losses, rtol=1e-6)
    for what, head in (("gate weight", "weight/"), ("saturation", "saturation/")):
        for name, (_, values) in history.curves(what).items():
            found = [e.value for e in read.Scalars(head + name.replace(" ", "/"))]
            np.testing.assert_allclose(found, values, rtol=1e-6)
    last = read.Histograms("log2 gradient/weight_hh_l0")[-1].histogram_value
    counts = history.measurements[-1].parameters["weight_hh_l0"].histogram.counts
    assert last.num == sum(last.bucket) == counts.sum() == 36
    for limit, count in zip(last.bucket_limit, last.bucket, strict=True):
        assert count == (counts[int(limit) - 1 + 48] if count else 0)
    assert "verdict/lstm/l0/fwd" in tags["tensors"]
    (text,) = read.Tensors("verdict/lstm/l0/fwd")[0].tensor_proto.string_val
    assert text.decode().startswith(history.measurements[0].cuts["lstm/l0/fwd"].kind)
    if "matplotlib" in sys.modules:
        (image,) = read.Images("lag x update")
        assert image.encoded_image_string[:4] == b"\x89PNG"
        assert image.width == struct.unpack(">I", image.encoded_image_string[16:20])[0]


def records_of(file: bytes) -> list[bytes]:
    """Of a log as LevelDB writes it: blocks of 32 KiB, records in parts (crc, length, type)."""
    found, at = [b""], 7  # behind W&B's own header
    while at + 7 <= len(file):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", file, at + 4)
        found[-1] += file[at + 7 : at + 7 + length]
        if kind in (1, 4):  # whole, or the last part
            found.append(b"")
        at += 7 + length
    return found[:-1]


@pytest.mark.slow
def test_a_run_of_wandb_has_it_all(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="reads runs of W&B")
    settings = wandb.Settings(silent=True, disable_git=True, x_disable_stats=True)
    writer = WandbWriter(mode="offline", dir=str(tmp_path), project="p", settings=settings)
    history = trained([writer]).history
    (path,) = tmp_path.rglob("*.wandb")
    rows: dict[int, dict[str, str]] = {}
    for _ in range(200):  # W&B's service may still write when the run has finished
        for data in records_of(path.read_bytes()):
            record = wandb.proto.wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
                rows[int(items["_step"])] = items
        if len(rows) == 4:
            break
        time.sleep(0.1)
    steps, losses = history.logged["loss"]
    assert list(rows) == steps.tolist()
    np.testing.assert_allclose([float(rows[s]["loss"]) for s in steps], losses, rtol=1e-6)
    for name, (at, values) in history.curves("gate weight").items():
        key = f"weight/{name.replace(' ', '/')}"
        np.testing.assert_allclose([float(rows[s][key]) for s in at], values, rtol=1e-6)
    histogram = history.measurements[-1].parameters["weight_hh_l0"].histogram
    counts = json.loads(rows[4]["log2 gradient/weight_hh_l0/values"])
    assert (counts[0], counts[1:-1]) == (
        histogram.zero + histogram.under,
        histogram.counts.tolist(),
    )
    if "matplotlib" in sys.modules:
        assert len(list(tmp_path.rglob("*.png"))) == 1
        assert json.loads(rows[4]["lag x update/_type"]) == "image-file"
