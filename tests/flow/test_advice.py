"""The reason of a verdict in numbers, and what it tells people to try."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.flow import Recording
from minigrad.flow.advising import stretch
from minigrad.flow.prescribing import known
from minigrad.flow.prescribing.case import Case
from minigrad.flow.prescribing.remedies import TABLE


def linear(W: Any, T: int = 30, mode: str = "fused", **options: Any) -> Recording:
    """h = h W^T + x, a loss <w, h_T>."""
    weight = mg.tensor(np.asarray(W).T, requires_grad=True, name="W")
    n = len(W)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ weight + x)
        return h, h

    xs = mg.tensor(np.ones((T, 2, n)))
    with mg.flow.record(**options) as rec:
        final, _ = mg.scan(cell, mg.tensor(np.zeros((2, n))), xs, mode=mode)
        final.sum().backward()
    return rec


@each_mode
def test_the_stretch_of_a_linear_step_is_the_largest_singular_value_of_its_weight(
    mode: str, rng: np.random.Generator
) -> None:
    W = rng.normal(size=(5, 5))
    assert stretch(linear(W, mode=mode)[""]) == pytest.approx(np.linalg.norm(W, 2), rel=1e-12)


def test_the_stretch_of_a_tanh_step_is_that_of_its_slopes_times_its_weight(
    rng: np.random.Generator,
) -> None:
    rnn = nn.RNN(2, 4, dtype=np.float64, generator=rng)
    with mg.flow.record() as rec:
        ys, _ = rnn(rng.normal(size=(1, 3, 2)))
        ys.sum().backward()
    J = (1 - ys.numpy()[0] ** 2)[:, :, None] * rnn.weight_hh_l0.numpy()  # of each row
    sigma = np.median(np.linalg.svd(J, compute_uv=False)[:, 0])
    assert stretch(rec["rnn/l0/fwd"]) == pytest.approx(sigma, rel=1e-12)


def test_there_is_no_stretch_without_a_replay() -> None:
    assert stretch(linear(np.eye(2), replay=False)[""]) is None


def test_a_cell_of_one_batch_size_still_gets_a_verdict(rng: np.random.Generator) -> None:
    per_row, w = mg.tensor(rng.normal(size=(3, 2))), mg.tensor(np.eye(2) * 0.3, requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ w + x * per_row)
        return h, h

    with mg.flow.record() as rec:
        final, _ = mg.scan(cell, mg.tensor(np.zeros((3, 2))), mg.tensor(np.ones((20, 3, 2))))
        final.sum().backward()
    assert rec.verdict.kind == "vanishing"


def lstm_of(forget: float) -> Recording:
    layer = nn.LSTM(2, 3, dtype=np.float64, generator=np.random.default_rng(0))
    layer.bias_ih_l0.data = np.repeat([0.0, forget, 0.0, 0.0], 3)
    return mg.flow.probe(layer, np.ones((200, 1, 2)))


CAUSES = ("vanishing", "exploding", "input-scale", "saturated-gates", "dead-units")
KINDS = (
    "RNNCell",
    "LSTMCell",
    "GRUCell",
    "MinimalGatedCell",
    "CoupledLSTMCell",
    "PeepholeLSTMCell",
)


def table(*rows: tuple[str, int]) -> dict[str, Any]:
    """A table of what was found: remedy, pairs of 12 in which the loss was lower; for all cells."""
    return {
        "command": "a test",
        "settings": {},
        "rows": [
            {"cause": cause, "cell": cell, "remedy": remedy, "lower": lower, "higher": 12 - lower,
             "ratio": 0.5}
            for cause in CAUSES for cell in KINDS for remedy, lower in rows
        ],
    }  # fmt: skip


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Puts a table in the place of the package's."""

    def put(*rows: tuple[str, int]) -> None:
        known.rows.cache_clear()
        monkeypatch.setattr(known, "about", lambda: table(*rows))

    yield put
    known.rows.cache_clear()


def test_advice_is_what_helped_such_nets_best_first(found: Any) -> None:
    found(("orthogonal", 6), ("forget bias", 11), ("chrono", 12), ("loss at more steps", 12))
    advice = lstm_of(0.0).verdict.advice
    assert advice.startswith(
        "mg.nn.init.chrono_(layer, 200) (lowered the loss in 12 of 12 small runs of LSTMCell)"
    )
    assert "or 0.5 * loss(model(x))" in advice
    assert "forget" not in advice  # a third is not shown
    assert "orthogonal" not in advice  # six of twelve is chance
    assert advice.endswith("mg.flow.prescribe(model, loss, batches) tries it on this run")


def test_a_report_advises_nothing_that_may_be_in_use_unseen(found: Any) -> None:
    """Whether gradients are clipped, and by what rate they move the weights, is not recorded."""
    found(("clip", 12), ("smaller rate", 12), ("larger rate", 12))
    advice = lstm_of(0.0).verdict.advice
    assert advice == "mg.flow.prescribe(model, loss, batches) tries on this run what may help"


def test_where_nothing_helped_advice_is_to_try(found: Any) -> None:
    found(("orthogonal", 6), ("chrono", 9))
    advice = lstm_of(0.0).verdict.advice
    assert advice == "mg.flow.prescribe(model, loss, batches) tries on this run what may help"


ALL = [(name, 12) for name in TABLE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_advice_that_is_followed_works_and_is_not_given_again(
    kind: str, scale: float, found: Any, rng: np.random.Generator
) -> None:
    """What sets weights is run as it is written, until no more of it is advised."""
    found(*ALL)
    cell = getattr(nn, kind)
    layer = nn.Recurrent(
        lambda size: cell(size, 8, dtype=np.float64, generator=rng), 3, mode="tape"
    )
    xs, given = scale * rng.normal(size=(40, 2, 3)), []
    for _ in range(6):
        case = Case.of(mg.flow.probe(layer, xs).values())
        codes = [remedy.code(case) for remedy, _ in known.helpful(case, "vanishing")]
        fresh = [code for code in codes if code.startswith("mg.nn.init.")]
        if not fresh:
            break
        assert fresh[0] not in given
        exec(fresh[0], {"mg": mg, "layer": layer})
        given.append(fresh[0])
    assert 1 <= len(given) <= 3
    assert any("xs.std" in code for code in codes) is (scale == 100.0)


def test_the_reason_still_names_the_singular_value(found: Any) -> None:
    assert "largest singular value of a step's Jacobian" in lstm_of(0.0).verdict.reason


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "MinimalGatedCell"])
def test_inputs_that_saturate_the_gates_are_named(
    kind: str, found: Any, rng: np.random.Generator
) -> None:
    found(*ALL)
    cell = getattr(nn, kind)
    layer = nn.Recurrent(lambda size: cell(size, 16, dtype=np.float64, generator=rng), 8)
    advice = mg.flow.probe(layer, 100 * rng.normal(size=(60, 4, 8))).verdict.advice
    assert re.match(r"x has feature \d of size (9|1[01])\d ", advice)
    assert "xs = (xs - xs.mean" in advice


def test_gates_that_are_saturated_by_weights_are_named(rng: np.random.Generator) -> None:
    layer = nn.LSTM(3, 16, dtype=np.float64, generator=rng)
    layer.weight_ih_l0.data = 100 * layer.weight_ih_l0.numpy()
    advice = mg.flow.probe(layer, rng.normal(size=(60, 4, 3))).verdict.advice
    assert re.match(r"\d\d% of gates and candidates are where their function has less", advice)
    assert "x has" not in advice


def test_units_that_never_move_are_named(rng: np.random.Generator) -> None:
    layer = nn.RNN(3, 16, dtype=np.float64, generator=rng)
    layer.bias_ih_l0.data = np.repeat([30.0, 0.0], [12, 4])
    advice = mg.flow.probe(layer, rng.normal(size=(60, 4, 3))).verdict.advice
    assert advice.startswith("12 of 16 units of h do not move over 60 steps; ")


@pytest.mark.parametrize(("scale", "kind"), [(0.5, "vanishing"), (1.0, "healthy")])
def test_advice_follows_the_verdict(scale: float, kind: str) -> None:
    verdict = linear(scale * np.eye(3)).verdict
    assert verdict.kind == kind
    assert bool(verdict.advice) == (kind != "healthy")


def test_the_table_that_comes_with_the_package_is_of_remedies_and_causes_there_are() -> None:
    rows = known.about()["rows"]
    assert rows
    assert known.about()["command"] == "python tools/prescriptions.py"
    assert {row["remedy"] for row in rows} <= set(TABLE)
    for row in rows:
        assert hasattr(nn, row["cell"].split(",")[0])
        assert row["lower"] >= 0 <= row["higher"]


@pytest.mark.parametrize(("scale", "lag"), [(0.5, 10), (2.0, 10), (1.0, None)])
def test_a_verdict_says_where_the_gradient_is_lost(scale: float, lag: int | None) -> None:
    """0.5^10 = 1/1024 is the first below 1e-3, and 2^10 the first above 1e3."""
    verdict = linear(scale * np.eye(3)).verdict
    assert verdict.lost == lag
    said = f"past x1000 from {lag} steps on" if scale > 1 else f"reach {lag} steps"
    assert (said in verdict.reason) == (lag is not None)


def test_the_report_shows_the_advice() -> None:
    text = str(mg.flow.report({"half open": lstm_of(0.0), "open": lstm_of(4.0)}))
    assert "half open lstm/l0/fwd" in text
    assert "  try: mg." in text


@pytest.mark.parametrize("what", [{}, {"a": 1}, None, "rec"])
def test_a_report_of_something_else_says_what_it_takes(what: Any) -> None:
    with pytest.raises(mg.flow.FlowError, match=r"`with mg.flow.record\(\) as rec` makes one"):
        mg.flow.report(what)


def test_a_report_before_any_data_says_so() -> None:
    with mg.flow.record() as rec:
        pass
    with pytest.raises(mg.flow.FlowError, match="nothing was tapped"):
        mg.flow.report(rec)
