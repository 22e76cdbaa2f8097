"""The benchmark harness judges rightly: wrong results are refused, targets work both ways."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parent.parent / "tools" / "bench"
PEER = """
import worker

def double(x):
    return lambda: 2 * x, lambda y: {"y": y}

def broken(x):
    raise ValueError(f"no {x}")

def fatal():
    raise SystemExit("out of memory")

print("loaded")  # not an answer
worker.serve({"double": double, "broken": broken, "fatal": fatal})
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(BENCH)
    names = ("harness", "table")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture
def peers(bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The harness, with one peer called "test" that knows the cases above."""
    (tmp_path / "test_peer.py").write_text(PEER)
    (tmp_path / "worker.py").write_text((BENCH / "peers" / "worker.py").read_text())
    monkeypatch.setattr(bench.harness, "PEERS", tmp_path)
    return bench.harness


@pytest.mark.parametrize(
    ("value", "limit", "better", "verdict"),
    [
        (0.9, 1.0, "<=", "pass"),
        (1.1, 1.0, "<=", "MISS"),
        (1.8, 1.7, ">=", "pass"),
        (1.6, 1.7, ">=", "MISS"),
        (1.6, None, ">=", ""),
        (None, 1.7, ">=", ""),
    ],
)
def test_a_row_is_judged_by_its_target(
    bench: SimpleNamespace, value: float, limit: float, better: str, verdict: str
) -> None:
    row = bench.harness.Row("group", "name", value, limit=limit, better=better)
    assert row.verdict == verdict


def test_a_failed_row_is_never_a_pass(bench: SimpleNamespace) -> None:
    assert bench.harness.Row("group", "name", 0.5, limit=1.0, error="wrong").verdict == "ERROR"


@pytest.mark.parametrize("got", [{"y": [1.0, 2.1]}, {"y": [1.0, np.nan]}, {"z": [1.0, 2.0]}])
def test_a_wrong_or_missing_or_nan_result_is_refused(
    bench: SimpleNamespace, got: dict[str, list[float]]
) -> None:
    arrays = {name: np.array(value) for name, value in got.items()}
    want = {"y": np.array([1.0, 2.0])}
    bench.harness.must_agree("peer", {"y": np.array([1.0, 2.0001])}, want, 1e-3)
    with pytest.raises(bench.harness.BenchError, match=r"^peer: y is off by"):
        bench.harness.must_agree("peer", arrays, want, 1e-3)


def test_peers_compute_and_are_timed_in_turns(peers: ModuleType) -> None:
    options = peers.Options(quick=True)
    with peers.Peer("test", label="a") as a, peers.Peer("test", label="b") as b:
        assert a.prepare("double", x=3)["y"] == 6
        assert b.prepare("double", x=4)["y"] == 8
        times = peers.compare([a, b], options)
    assert {name: len(timing.samples) for name, timing in times.items()} == {"a": 2, "b": 2}
    assert all(timing.median > 0 for timing in times.values())


def test_a_failing_case_is_reported_and_the_peer_lives_on(peers: ModuleType) -> None:
    with peers.Peer("test") as peer:
        with pytest.raises(peers.BenchError, match="test: ValueError: no 5"):
            peer.prepare("broken", x=5)
        assert peer.prepare("double", x=1)["y"] == 2


def test_a_peer_that_dies_is_reported_with_its_last_words(peers: ModuleType) -> None:
    with (
        peers.Peer("test") as peer,
        pytest.raises(peers.BenchError, match="out of memory"),
    ):
        peer.prepare("fatal")


def test_the_table_shows_target_verdict_and_error(bench: SimpleNamespace) -> None:
    row = bench.harness.Row
    text = bench.table.render(
        [
            row("maths", "exp", 0.25, "ns", (0.24, 0.26), 1.0, peers={"numpy": 0.5}),
            row("maths", "log", 2.0, "ns", limit=1.0),
            row("imports", "stopped", error="no numpy"),
        ]
    )
    lines = [line.split() for line in text.splitlines()]
    assert ["exp", "0.25", "ns", "0.24", "..", "0.26", "numpy", "0.5", "<=", "1", "pass"] in lines
    assert ["log", "2", "ns", "<=", "1", "MISS"] in lines
    assert ["no", "numpy"] in lines
    assert all(line == line.rstrip() for line in text.splitlines())
