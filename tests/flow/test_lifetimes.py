"""What nobody holds any more is gone: layers, what recorded them, what was compiled for them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg

XS = np.random.default_rng(0).standard_normal((5, 2, 3))


def trained(layer: Any) -> Any:
    layer.zero_grad()
    ys, _ = layer(XS)
    (ys[-1] ** 2).sum().backward()
    return ys


def recorded(layer: Any) -> Any:
    with mg.flow.record() as recording:
        trained(layer)
    assert recording.verdict
    return recording


def reported(layer: Any) -> Any:
    return str(mg.flow.report(mg.flow.probe(layer, XS)))


def watched(layer: Any) -> Any:
    monitor = mg.flow.Monitor(layer, every=1)
    optimizer = mg.optim.Adam(layer.parameters())
    for _ in range(2):
        with monitor.step():
            trained(layer)
            optimizer.step()
    return monitor


def jitted(layer: Any) -> Any:
    step = mg.jit(lambda x: layer(x)[0].sum().detach())
    for _ in range(3):
        step(XS)
    return step


def explained(layer: Any) -> Any:
    trained(layer)
    return layer.explain()


def test_a_recording_that_nobody_holds_is_gone_without_the_garbage_collector() -> None:
    layer = mg.nn.LSTM(3, 4, num_layers=2, dtype=np.float64)
    recorded(layer)  # what happens once, at a first call
    gc.collect()
    gc.disable()
    try:
        with mg.flow.record() as recording:
            trained(layer)
        gone = weakref.ref(recording), weakref.ref(recording._runs[0])
        del recording
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


@each_mode
@pytest.mark.parametrize("use", [trained, recorded, reported, watched, jitted, explained])
def test_a_layer_that_nobody_holds_is_gone(use: Callable[[Any], Any], mode: str) -> None:
    if use is explained and mode == "tape":
        pytest.skip("nothing was compiled")
    gone = []
    for _ in range(2):
        layer = mg.nn.LSTM(3, 4, dtype=np.float64, mode=mode)
        found = use(layer)
        gone += [weakref.ref(layer), weakref.ref(layer.cells[0])]
        if hasattr(found, "__weakref__") and not isinstance(found, type):
            gone.append(weakref.ref(found))
    del layer, found
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)
