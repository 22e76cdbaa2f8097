"""Watching a training run: what is measured, what is written, and what goes wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.flow import FlowError, Monitor, MonitorWarning, read_monitor
from minigrad.flow.history import Clipping, Thinned
from minigrad.flow.results import OutputError
from minigrad.train import fit


class Net(mg.nn.Module):
    def __init__(self, hidden: int = 3, bidirectional: bool = False):
        rng = np.random.default_rng(0)
        self.lstm = mg.nn.LSTM(2, hidden, bidirectional=bidirectional, generator=rng)
        self.head = mg.nn.Linear(hidden * (2 if bidirectional else 1), 1, generator=rng)

    def forward(self, xs: Any) -> Any:
        return self.head(self.lstm(xs)[0][-1])


XS = np.random.default_rng(1).normal(size=(7, 3, 2)).astype(np.float32)


def update(net: mg.nn.Module, optimizer: Any, clip: Any = None) -> float:
    loss = (net(mg.tensor(XS)) ** np.float32(2)).mean()
    optimizer.zero_grad()
    loss.backward()
    if clip is not None:
        clip(0.01)
    optimizer.step()
    return float(loss.item())


def train(monitor: Monitor, net: mg.nn.Module, steps: int, clip: bool = False) -> None:
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        with monitor.step():
            loss = update(net, optimizer, monitor.clip if clip else None)
        monitor.log(loss=loss)


def linear() -> mg.nn.Linear:
    return mg.nn.Linear(2, 1, dtype=np.float64, generator=np.random.default_rng(0))


def backward(net: Any, x: float = 1.0) -> None:
    net(mg.tensor([[x, 2.0]])).sum().backward()


# -- numbers


def test_the_first_step_and_every_nth_are_measured() -> None:
    monitor = Monitor(net := linear(), every=3)
    for _ in range(10):
        with monitor.step():
            backward(net)
    assert [m.step for m in monitor.history.measurements] == [1, 3, 6, 9]
    assert monitor.done == 10


def test_numbers_of_a_parameter_are_those_of_numpy() -> None:
    net = linear()
    net.weight._array[...] = [[3.0, -4.0]]
    monitor = Monitor(net, every=1)
    with monitor.step():
        net.weight.grad = mg.tensor([[0.0, -0.25]])
        net.weight._array[...] = [[3.0, -3.0]]
    p = monitor.history.measurements[0].parameters["weight"]
    assert p.weight == pytest.approx(math.sqrt(18))
    assert p.update == pytest.approx(1 / math.sqrt(18))
    assert (p.gradient, p.largest, p.zeros) == (0.25, 0.25, 0.5)
    assert p.histogram is not None
    assert (p.histogram.counts[48 - 2], p.histogram.zero) == (1, 1)  # 0.25 = 2^-2
    assert monitor.history.measurements[0].parameters["bias"].gradient is None


def test_gradients_are_those_before_clipping() -> None:
    net = Net()
    train(monitor := Monitor(net, every=1), net, 1, clip=True)
    reference = Net()
    (reference(mg.tensor(XS)) ** np.float32(2)).mean().backward()
    for name, p in reference.named_parameters():
        expected = np.linalg.norm(p.grad.numpy().astype(np.float64))
        found = monitor.history.measurements[0].parameters[name].gradient
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_warning_that_is_an_error_leaves_no_recording_under_way() -> None:
    monitor, net = Monitor(Net(), every=1), Net()
    for _ in range(3):
        missing = pytest.raises(mg.flow.MonitorWarning, match="no parameter has a gradient")
        with missing, monitor.step():
            pass
        monitor._warned.clear()
    with mg.flow.record() as rec:  # refused inside of another
        (net(mg.tensor(XS)) ** np.float32(2)).mean().backward()
    assert rec.layers


def test_watching_does_not_change_training() -> None:
    watched, plain = Net(), Net()
    train(Monitor(watched, every=2), watched, 5, clip=True)
    optimizer = mg.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(5):
        update(plain, optimizer, lambda n: mg.optim.clip_grad_norm_(plain.parameters(), n))
    for name, value in plain.state_dict().items():
        np.testing.assert_array_equal(watched.state_dict()[name], value)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_flow_of_every_direction_is_what_record_sees(bidirectional: bool) -> None:
    net = Net(bidirectional=bidirectional)
    with mg.flow.record() as rec:
        (net(mg.tensor(XS)) ** np.float32(2)).mean().backward()
    train(monitor := Monitor(net, every=1), net, 1)
    layers = monitor.history.measurements[0].layers
    assert list(layers) == list(rec) == monitor.history.layers
    for path, layer in rec.items():
        np.testing.assert_allclose(layers[path].norms["h"], layer.norms["h"], rtol=1e-4)
        assert layers[path].verdict.kind == layer.verdict.kind
        assert layers[path].reverse == layer.reverse


def test_flow_false_records_no_layers() -> None:
    net = Net()
    train(monitor := Monitor(net, every=1, flow=False), net, 1)
    assert monitor.history.layers == []


def test_the_clipping_report_counts_norms_beyond_the_limit() -> None:
    net = linear()
    monitor = Monitor(net, every=2)
    for norm in (0.5, 2.0, 4.0, math.nan):
        with monitor.step():
            backward(net)
        monitor.log(norm=norm, max_norm=1.0)
    monitor.close()
    c = monitor.history.clipping
    assert (c.steps, c.clipped, c.nonfinite, c.max_norm) == (4, 2, 1, 1.0)
    assert c.share == 0.5
    assert c.mean_factor == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert "beyond 1 in 2 of 4 steps (50%), scaled by 0.38" in monitor.report()


def test_a_step_that_is_clipped_and_logged_is_counted_once() -> None:
    net = linear()
    with Monitor(net) as monitor:
        with monitor.step():
            backward(net)
            norm = monitor.clip(0.5)
        monitor.log(norm=norm, max_norm=0.5)
    assert monitor.history.clipping.steps == 1
    assert norm == pytest.approx(math.sqrt(1 + 4 + 1))
    assert np.isnan([Clipping().share, Clipping().mean_factor]).all()


def test_memory_holds_evenly_spaced_items_and_the_last_one() -> None:
    thinned: Thinned[int] = Thinned(5)
    for i in range(1000):
        thinned.add(i)
        items = thinned.items
        assert len(items) <= 6
        assert items[-1] == i
        assert items[0] == 0
        assert len(set(np.diff(items[:-1]))) <= 1
    monitor = Monitor(net := linear(), every=1, keep=4)
    for _ in range(50):
        with monitor.step():
            backward(net)
    assert len(monitor.history.measurements) <= 5
    assert monitor.history.measurements[-1].step == 50


def test_fit_takes_a_monitor_as_a_callback(tmp_path: Path) -> None:
    net = Net()

    def loss(model: Any, batch: Any) -> Any:
        return (model(batch) ** np.float32(2)).mean()

    with Monitor(net, tmp_path / "run.jsonl", every=2) as monitor:
        fit(
            net, loss, [mg.tensor(XS)], mg.optim.SGD(net.parameters(), lr=0.1), steps=5, epochs=9,
            max_norm=0.01, callbacks=[monitor], progress=False,
        )  # fmt: skip
    assert [m.step for m in monitor.history.measurements] == [2, 4]
    assert monitor.history.measurements[0].layers
    assert monitor.history.logged["loss"][0].tolist() == [1, 2, 3, 4, 5]
    assert monitor.history.clipping.clipped == 5
    with mg.flow.record():  # nothing was left recording
        pass


def test_steps_that_are_done_again_replace_the_earlier_ones(tmp_path: Path) -> None:
    """A run goes on from a checkpoint that is older than the last line."""
    net = linear()
    path = tmp_path / "run.jsonl"
    run = SimpleNamespace(loss=1.0, norm=0.0, max_norm=None, step=0)
    for first, last, loss in ((1, 8, 1.0), (5, 10, 2.0)):
        with Monitor(net, path, every=2, append=True) as monitor:
            for run.step in range(first, last + 1):
                run.loss = loss
                backward(net)
                monitor(run)
    for history in (monitor.history, read_monitor(path)):
        assert [m.step for m in history.measurements] == [2, 4, 6, 8, 10]
        steps, losses = history.logged["loss"]
        assert steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        assert losses.tolist() == [1.0] * 4 + [2.0] * 6


# -- NaN and Inf


def test_nan_and_inf_are_told_where_they_were_first_seen(tmp_path: Path) -> None:
    net = Net()
    path = tmp_path / "run.jsonl"
    with Monitor(net, path, every=1) as monitor:
        train(monitor, net, 2)
        net.lstm.weight_hh_l0._array[0, 0] = np.nan
        net.head.bias._array[...] = np.inf
        with np.errstate(invalid="ignore"):
            train(monitor, net, 2)
    first = monitor.history.nonfinite[0]
    assert first.step == 3
    seen = {(b.what, b.where): b.step for b in monitor.history.nonfinite}
    assert seen["weight", "lstm.weight_hh_l0"] == seen["gradient", "lstm.weight_hh_l0"] == 3
    assert seen["logged", "loss"] == 3
    assert len(seen) == len(monitor.history.nonfinite)  # each is told once
    back = read_monitor(path)
    assert [b[:3] for b in back.nonfinite] == [b[:3] for b in monitor.history.nonfinite]
    assert "first seen at step 3" in back.report()
    json.loads(path.read_text().splitlines()[-1], parse_constant=pytest.fail)  # no bare NaN
    p = back.measurements[-1].parameters["lstm.weight_hh_l0"]
    assert math.isnan(p.weight)
    assert p.bad_weights > 0


def test_a_norm_that_is_nan_is_looked_into_between_measured_steps() -> None:
    net = linear()
    monitor = Monitor(net, every=100)
    for x in (1.0, 1.0, math.nan, 1.0):
        with monitor.step():
            net.zero_grad()
            backward(net, x)
            monitor.clip(1.0)
    assert str(monitor.history.nonfinite[0]) == "step 3: 1 NaN in the gradient of weight"


def test_an_infinite_loss_is_told() -> None:
    with Monitor(linear()) as monitor:
        monitor.log(loss=math.inf)
        monitor.log(loss=math.inf)
    assert [str(b) for b in monitor.history.nonfinite] == ["step 0: loss is Inf"]


# -- the file


def test_what_is_read_back_is_what_was_measured(tmp_path: Path) -> None:
    net = Net(bidirectional=True)
    path = tmp_path / "run.jsonl"
    with Monitor(net, path, every=2) as monitor:
        train(monitor, net, 5, clip=True)
    back = read_monitor(path)
    assert back.report() == monitor.report() == str(back)
    assert back.step == 5
    assert not back.torn
    assert back.header["schema"] == 1
    assert back.header["minigrad"] == mg.__version__
    assert back.clipping == monitor.history.clipping
    for a, b in zip(back.measurements, monitor.history.measurements, strict=True):
        assert a.parameters == b.parameters
        for path_of, layer in a.layers.items():
            np.testing.assert_array_equal(layer.norms["c"], b.layers[path_of].norms["c"])


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_torn_last_line_is_left_out_and_told(tmp_path: Path, cut: int) -> None:
    net = linear()
    path = tmp_path / "run.jsonl"
    with Monitor(net, path, every=1) as monitor:
        for k in range(3):
            with monitor.step():
                backward(net)
            monitor.log(loss=1.0 + k, accuracy=0.12345678)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    back = read_monitor(path)
    assert back.torn == (cut > 1)
    assert len(back.logged["loss"][0]) == (2 if cut > 1 else 3)
    assert ("torn" in back.report()) == (cut > 1)
    with Monitor(net, path, every=1, append=True) as monitor:
        assert monitor.done == 3
        with monitor.step():
            backward(net)
        monitor.log(loss=9.0)
    back = read_monitor(path)
    assert [m.step for m in back.measurements] == [1, 2, 3, 4]
    assert back.logged["loss"][1][-1] == 9.0
    assert not back.torn


SCRIPT = """
import sys, numpy as np, minigrad as mg
net = mg.nn.Linear(2, 1, dtype=np.float64)
monitor = mg.flow.Monitor(net, sys.argv[1], every=1)
while True:
    with monitor.step():
        net(mg.tensor([[1.0, 2.0]])).sum().backward()
    monitor.log(loss=1.0)
    print(monitor.done, flush=True)
"""


def test_a_kill_loses_at_most_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 20:
                break
        os.kill(process.pid, signal.SIGKILL)
    back = read_monitor(path)
    assert back.step >= 20
    assert len(back.logged["loss"][0]) >= 20


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"is there already.*append=True\) goes on"):
        Monitor(linear(), path)
    assert path.read_text() == "mine"
    with pytest.raises(FlowError, match=r"no whole header"):
        Monitor(linear(), path, append=True)
    assert path.read_text() == "mine"
    with pytest.raises(OutputError, match="cannot write here"):
        Monitor(linear(), tmp_path / "missing" / "run.jsonl")


def test_a_file_of_another_model_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Monitor(linear(), path).close()
    before = path.read_bytes()
    with pytest.raises(FlowError, match=r"another model, parameter 'weight' is \[1, 2\] there"):
        Monitor(mg.nn.Linear(3, 1), path, append=True)
    with pytest.raises(FlowError, match=r"'lstm.weight_ih_l0' is missing there|missing here"):
        Monitor(Net(), path, append=True)
    assert path.read_bytes() == before
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    Monitor(linear(), empty, append=True).close()
    assert read_monitor(empty).parameters == ["weight", "bias"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no whole header"),
        ('{"record":"log","step":1,"values":{}}\n', "line 1 is no header"),
        (
            '{"record":"header","schema":7,"minigrad":"9.9"}\n',
            "has schema 7, this minigrad",
        ),
        ('{"record":"header","schema":1}\nwhat\n{"record":"log"}\n', "line 2 is not JSON"),
        ('{"record":"header","schema":1}\n{"record":"log","step":1}\n', "line 2 is not a Monitor"),
        ('{"record":"header","schema":1}\n{"record":"step","step":1}\n', "line 2 is not a Monitor"),
    ],
)
def test_files_that_are_no_monitors_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(FlowError, match=message):
        read_monitor(path)


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="cannot be read"):
        read_monitor(tmp_path / "none.jsonl")
    (tmp_path / "x.bin").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(FlowError, match=r"not JSON|no whole header"):
        read_monitor(tmp_path / "x.bin")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_ends_the_file_and_not_the_training() -> None:
    net = linear()
    monitor = Monitor(net, every=1)
    from minigrad.flow.monitorfile import MonitorFile

    file = MonitorFile.__new__(MonitorFile)
    file.path, file._file = Path("/dev/full"), open("/dev/full", "wb")  # noqa: SIM115
    monitor._file = file
    with pytest.warns(MonitorWarning, match="cannot be written any more"), monitor.step():
        backward(net)
    with monitor.step():
        backward(net)
    monitor.close()
    assert len(monitor.history.measurements) == 2


# -- wrong order, wrong arguments


def test_a_step_without_backward_is_told_once() -> None:
    net = Net()
    monitor = Monitor(net, every=1)
    with pytest.warns(MonitorWarning, match=r"step 1: no parameter has a gradient"), monitor.step():
        net(mg.tensor(XS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with monitor.step():
            pass
    assert monitor.history.measurements[0].layers == {}
    assert " -  " in monitor.report()


def test_inside_a_recording_the_step_is_measured_without_flow() -> None:
    net = Net()
    monitor = Monitor(net, every=1)
    with mg.flow.record() as rec, pytest.warns(MonitorWarning, match="runs inside mg.flow.record"):
        train(monitor, net, 1)
    assert list(rec) == ["lstm/l0/fwd"]
    assert monitor.history.measurements[0].layers == {}
    train(monitor, net, 1)
    assert list(monitor.history.measurements[1].layers) == ["lstm/l0/fwd"]


def test_two_monitors_watch_the_same_step() -> None:
    net = Net()
    outer, inner = Monitor(net, every=1), Monitor(net, every=1, flow=False)
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
    with outer.step(), inner.step():
        update(net, optimizer)
    a, b = (m.history.measurements[0] for m in (outer, inner))
    assert a.parameters == b.parameters
    assert a.layers


def test_an_exception_leaves_a_step_unmeasured_and_nothing_recording() -> None:
    net = Net()
    monitor = Monitor(net, every=1)
    with pytest.raises(ZeroDivisionError), monitor.step():
        raise ZeroDivisionError
    assert monitor.done == 0
    train(monitor, net, 1)
    assert [m.step for m in monitor.history.measurements] == [1]


def test_wrong_orders_of_calls_are_refused() -> None:
    monitor = Monitor(linear(), every=1, flow=False)
    with pytest.raises(FlowError, match="no step has begun"):
        monitor.after()
    monitor.before()
    with pytest.raises(FlowError, match="step 1 has begun and not ended"):
        monitor.before()
    monitor.close()
    monitor.close()
    for call in (monitor.before, monitor.after, lambda: monitor.log(loss=1.0), monitor.__enter__):
        with pytest.raises(FlowError, match=r"after close\(\)"):
            call()
    assert "closed" in repr(monitor)
    assert "nothing has been measured yet" in monitor.report()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(FlowError, match="no parameters, so there is nothing to watch"):
        Monitor(mg.nn.Module())
    with pytest.raises(FlowError, match="expected a Module to watch, got list"):
        Monitor([])  # type: ignore[arg-type]
    for every in (0, -1, 2.5, True):
        with pytest.raises(FlowError, match="every is a whole number from 1 on"):
            Monitor(linear(), every=every)  # type: ignore[arg-type]
    monitor = Monitor(linear())
    with pytest.raises(FlowError, match="loss is a number, got list"):
        monitor.log(loss=[1.0])  # type: ignore[arg-type]
    with pytest.raises(FlowError, match="max_norm needs norm="):
        monitor.log(max_norm=1.0)


def test_series_name_what_there_is() -> None:
    net = linear()
    monitor = Monitor(net, every=1)
    with monitor.step():
        backward(net)
    with pytest.raises(FlowError, match="no parameter 'x'; there are 'weight', 'bias'"):
        monitor.history.series("x")
    with pytest.raises(FlowError, match="expected one of weight, update"):
        monitor.history.series("weight", "histogram")
    with pytest.raises(FlowError, match="no layer 'lstm'"):
        monitor.history.ratios("lstm")


# -- gates, dead units, lags


def test_weights_of_each_gate_are_those_of_its_rows() -> None:
    net = Net()
    before = net.lstm.weight_hh_l0.numpy().copy()
    train(monitor := Monitor(net, every=1), net, 1, clip=True)
    w, p = net.lstm.weight_hh_l0, monitor.history.measurements[0].parameters["lstm.weight_hh_l0"]
    reference = Net()
    (reference(mg.tensor(XS)) ** np.float32(2)).mean().backward()
    assert list(p.gates) == ["i", "f", "g", "o"]
    for k, gate in enumerate(p.gates.values()):
        rows = slice(3 * k, 3 * k + 3)
        size, moved = (np.linalg.norm(x[rows]) for x in (w.numpy(), w.numpy() - before))
        assert gate.weight == pytest.approx(size, rel=1e-6)
        assert gate.update == pytest.approx(moved / size, rel=1e-5)
        g = np.linalg.norm(reference.lstm.weight_hh_l0.grad.numpy()[rows])
        assert gate.gradient == pytest.approx(g, rel=1e-5)
    assert p.weight == pytest.approx(np.linalg.norm(w.numpy()), rel=1e-6)
    assert monitor.history.measurements[0].parameters["head.weight"].gates == {}
    found = monitor.history.curves("gate gradient")["lstm.weight_hh_l0 f"]
    assert found[1].tolist() == [p.gates["f"].gradient]


def test_saturation_and_dead_units_are_counted(tmp_path: Path) -> None:
    net = Net()
    net.lstm.bias_ih_l0._array[3:6] = [9.0, 0.0, -9.0]  # the forget gates, of which one stays open
    net.lstm.weight_ih_l0._array[[3, 5]] = net.lstm.weight_hh_l0._array[[3, 5]] = 0.0
    net.lstm.weight_ih_l0._array[0] = net.lstm.weight_hh_l0._array[0] = 0.0
    net.lstm.bias_ih_l0._array[0] = -200.0  # an input gate that is shut: its c and h stay 0
    with mg.flow.record() as rec:
        (net(mg.tensor(XS)) ** np.float32(2)).mean().backward()
    path = tmp_path / "run.jsonl"
    with Monitor(net, path, every=1) as monitor:
        train(monitor, net, 2)
    f = rec["lstm/l0/fwd"].values["f"].astype(np.float64)
    layer = read_monitor(path).measurements[0].layers["lstm/l0/fwd"]
    assert layer.taps["f"].mean == pytest.approx(f.mean(), rel=1e-6)
    assert layer.taps["f"].saturation == (np.abs(2 * f - 1) > 0.95).mean() >= 2 / 3
    assert math.isnan(layer.taps["c"].saturation)
    assert layer.dead == {"h": pytest.approx(1 / 3), "c": pytest.approx(1 / 3)}
    history = monitor.history
    assert list(history.curves("saturation")) == [f"lstm/l0/fwd {g}" for g in "ifog"]
    assert history.curves("dead")["lstm/l0/fwd h"][1].tolist() == [pytest.approx(1 / 3)] * 2
    assert history.curves("opening")["lstm/l0/fwd f"][1][0] == layer.taps["f"].mean
    row = next(x for x in monitor.report().splitlines() if x.startswith("lstm/l0/fwd  f"))
    assert row.split()[2] == f"{history.measurements[-1].layers['lstm/l0/fwd'].taps['f'].mean:.2f}"


def test_lags_over_training_are_the_profiles_that_were_judged() -> None:
    net = Net()
    optimizer, monitor = mg.optim.SGD(net.parameters(), lr=0.1), Monitor(net, every=1)
    lengths = (7, 4, 1)
    for n in lengths:
        with monitor.step():
            loss = (net(mg.tensor(XS[:n])) ** np.float32(2)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    steps, norms = monitor.history.lags()
    assert (steps.tolist(), norms.shape) == ([1, 2, 3], (3, 7))
    for row, n, m in zip(norms, lengths, monitor.history.measurements, strict=True):
        np.testing.assert_array_equal(row[:n], m.cuts["lstm/l0/fwd"].profile)
        assert np.isnan(row[n:]).all()
    with pytest.raises(FlowError, match="there is no cut 'x'"):
        monitor.history.lags("x")
    with pytest.raises(FlowError, match=r"expected one of gradient, .*, got 'loss'"):
        monitor.history.curves("loss")
    with pytest.raises(FlowError, match=r"name the cut, one of \[\]"):
        Monitor(linear()).history.lags()


def test_a_file_from_before_gates_were_measured_is_read() -> None:
    history = read_monitor(Path(__file__).parent / "golden" / "monitor.jsonl")
    (m,) = history.measurements
    assert (m.layers["rnn/l0/fwd"].taps, m.layers["rnn/l0/fwd"].dead) == ({}, {})
    assert m.parameters["weight_hh_l0"].gates == {}
    assert history.curves("saturation") == history.curves("gate weight") == {}
    assert history.lags()[1].shape == (1, 4)
    assert "rnn/l0/fwd" in history.report()
