"""The benchmarks judge rightly: wrong results are refused, targets work both ways."""

from __future__ import annotations

import importlib
import re
import sys
from contextlib import ExitStack
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
    names = ("harness", "machine", "table", "page", "oracle", "sequences", "training_oracle")
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


def test_a_page_has_the_machine_and_every_row_under_the_title_of_its_group(
    bench: SimpleNamespace,
) -> None:
    row = bench.harness.Row
    rows = [
        row("maths", "exp", 0.25, "ns", (0.24, 0.26), 1.0, peers={"numpy": 0.5}),
        row("maths", "log", 2.0, "ns", limit=1.0, note="unsteady"),
        row("imports", "stopped", error="no numpy"),
    ]
    about = bench.machine.describe(None, None) | {"cpu": "Abacus (wood)", "date": "2026-01-02T03"}
    text = bench.page.write(rows, about, {"maths": "ns an element", "imports": "import it"})
    assert "Abacus (wood)" in text
    assert "torch -, JAX -; 2026-01-02." in text
    maths, imports = text.partition("### Ns an element")[2].split("### Import it")
    assert "| exp | 0.25 ns | 0.24 .. 0.26 | numpy 0.5 | <= 1 | met |" in maths
    assert "| log (unsteady) | 2 ns |  |  | <= 1 | missed |" in maths
    assert "| stopped (no numpy) |  |  |  |  | failed |" in imports


def timing(bench: SimpleNamespace, *seconds: float) -> object:
    return bench.harness.Timing(list(seconds))


def test_a_ratio_is_of_medians_and_shows_both_times(bench: SimpleNamespace) -> None:
    times = {"minigrad": timing(bench, 0.15, 0.2, 0.9), "torch": timing(bench, 0.3, 0.4, 0.5)}
    row = bench.sequences.ratio("layers", "lstm", times, "torch", set())
    assert row.value == pytest.approx(2.0)
    assert row.peers == pytest.approx({"minigrad ms": 200, "torch ms": 400})
    assert row.better == ">="


def test_an_unsteady_opponent_is_judged_by_its_shortest_time(bench: SimpleNamespace) -> None:
    times = {"minigrad": timing(bench, 0.2, 0.2, 0.2), "torch": timing(bench, 0.3, 9.0, 9.0)}
    row = bench.sequences.ratio("layers", "lstm", times, "torch", set())
    assert row.value == pytest.approx(1.5)
    assert row.note == "unsteady: torch; compared by the shortest times"


def test_a_missing_opponent_is_neither_beaten_nor_missed(bench: SimpleNamespace) -> None:
    row = bench.sequences.ratio("layers", "lstm", {"minigrad": timing(bench, 0.1)}, "torch", set())
    row.limit = 1.2
    assert row.verdict == ""
    assert row.note == "torch is not here to compare"


def test_a_cost_is_the_dear_one_over_the_plain_one(bench: SimpleNamespace) -> None:
    times = {"two": timing(bench, 0.4, 0.5), "one": timing(bench, 0.2, 0.25)}
    row = bench.sequences.cost("costs", "directions", times, "two", "one", "x one", 2.1)
    assert row.value == pytest.approx(2.0)
    assert row.verdict == "pass"


def test_standings_end_with_the_geometric_mean_over_all_sizes(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = iter([0.1, 0.2, 0.4, 0.8, 1.6])

    def race(*_: object) -> dict[str, object]:
        return {"minigrad": timing(bench, 0.1), "torch": timing(bench, next(theirs))}

    monkeypatch.setattr(bench.sequences, "race", race)
    target = bench.sequences.Target("torch", each=1.5, mean=3.9)
    options = bench.harness.Options()
    *each, mean = bench.sequences.standings("layers", "lstm", "lstm", [], [target], options)
    assert [row.value for row in each] == pytest.approx([1, 2, 4, 8, 16])
    assert [row.verdict for row in each] == ["MISS", "pass", "pass", "pass", "pass"]
    assert mean.value == pytest.approx(4.0)
    assert mean.verdict == "pass"


def test_a_library_without_an_interpreter_stays_away(bench: SimpleNamespace) -> None:
    with ExitStack() as stack:
        assert bench.sequences.enter(stack, bench.harness.Options(), "jax") == []
    assert bench.machine.version_in(sys.executable, "no_such_library") is None
    assert bench.machine.version_in("no/such/python", "json") is None


def test_the_oracle_knows_that_peepholes_of_zero_leave_an_lstm(bench: SimpleNamespace) -> None:
    inputs = importlib.import_module("peers.inputs")
    size = inputs.Sizes(2, 3, 4, 5)
    xs, own = inputs.sequence("own_lstm", *size)
    _, torchs = inputs.sequence("lstm", *size)
    none = {name: np.zeros(5) for name in ("p_i", "p_f", "p_o")}
    plain = bench.oracle.loss("lstm", torchs | {"xs": xs})
    assert bench.oracle.loss("own_lstm", own | {"xs": xs}) == pytest.approx(plain, rel=1e-6)
    assert bench.oracle.loss("peephole", own | none | {"xs": xs}) == pytest.approx(plain, rel=1e-6)
    seen = {name: np.ones(5) for name in none}
    assert bench.oracle.loss("peephole", own | seen | {"xs": xs}) != pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "own_lstm", "peephole"])
def test_the_oracle_refuses_a_wrong_loss_and_a_wrong_gradient(
    bench: SimpleNamespace, cell: str
) -> None:
    size = importlib.import_module("peers.inputs").Sizes(2, 3, 4, 5)
    loss, slope = bench.oracle.truth(cell, size)
    bench.oracle.check("peer", {"loss": loss, "gradient": slope}, cell, size)
    bench.oracle.check("peer", {"loss": loss}, cell, size, forward=True)
    for wrong in ({"loss": loss * 1.01, "gradient": slope}, {"loss": loss, "gradient": -slope}):
        with pytest.raises(bench.harness.BenchError, match="is off by"):
            bench.oracle.check("peer", wrong, cell, size)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_training_oracle_has_the_gradient_of_its_loss(
    bench: SimpleNamespace, cell: str, rng: np.random.Generator
) -> None:
    oracle, inputs = bench.training_oracle, importlib.import_module("peers.inputs")
    tokens, weights = inputs.characters(cell, 2, 3, 5)
    p = {name: array.astype(np.float64) for name, array in weights.items()}
    _, g = oracle.gradient(cell, p, tokens)
    for name, array in p.items():  # along a direction of each weight's own
        way, losses = rng.standard_normal(array.shape), []
        for eps in (1e-6, -1e-6):
            losses.append(oracle.gradient(cell, p | {name: array + eps * way}, tokens)[0])
        slope = (losses[0] - losses[1]) / 2e-6
        assert np.vdot(g[name], way) == pytest.approx(slope, rel=1e-6, abs=1e-9), name


def test_the_oracle_counts_the_own_steps_of_a_row_only(bench: SimpleNamespace) -> None:
    size = bench.sequences.Sizes(3, 5, 2, 4)  # rows of 1, 3 and 5 steps
    xs, weights = bench.oracle.inputs.sequence("lstm", *size)
    found = bench.oracle.truth("lstm", size, ragged=True)[0]
    parts = (
        bench.oracle.loss("lstm", weights | {"xs": xs[:steps, [row]].astype(float)})
        for row, steps in enumerate((1, 3, 5))
    )
    assert found == pytest.approx(sum(parts), rel=1e-6)


def test_losses_of_training_fall_at_the_rate_of_the_first_step(bench: SimpleNamespace) -> None:
    first, *rest = bench.training_oracle.losses("lstm", 2, 3, 5)
    assert first == pytest.approx(np.log(64), rel=0.3)
    assert [first, *rest] == sorted([first, *rest], reverse=True)


def test_jitted_training_is_compared_where_there_is_mg_jit(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = importlib.import_module("rows.training")
    names = ["minigrad", "torch eager", "jax.jit", "mg.jit"]
    times = dict(zip(names, (timing(bench, s) for s in (0.2, 0.4, 0.3, 0.1)), strict=True))
    monkeypatch.setattr(rows, "race_to_train", lambda *_: times)
    for there, expected in ((names, [2.0, 1.5, 4.0, 3.0]), (names[:3], [2.0, 1.5])):
        entries = [SimpleNamespace(peer=SimpleNamespace(name=name)) for name in there]
        found = list(rows.standings(entries, bench.harness.Options(quick=True)))
        values = [row.value for row in found]
        assert values == pytest.approx(expected * 3)  # of both cells, and their means


def test_every_group_is_described_and_has_its_rows(bench: SimpleNamespace) -> None:
    text = (BENCH / "__main__.py").read_text()
    listed = re.findall(r"^    (\w+)  +\w", text.partition("from __future__")[0], re.MULTILINE)
    assert {path.stem for path in (BENCH / "rows").glob("*.py")} == set(listed)
    groups = re.search(r"^GROUPS = \((.*?)\)$", text, re.MULTILINE | re.DOTALL)
    assert groups is not None
    assert re.findall(r'"(\w+)"', groups[1]) == listed
