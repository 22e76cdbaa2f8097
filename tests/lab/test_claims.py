"""Published claims: the quick forms show the effect, the stored full forms are what the code judges
them to be, and criteria see a planted fault.
"""

from __future__ import annotations

import copy
import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import nn
from minigrad.flow import fixed_points
from minigrad.lab import claims
from minigrad.lab.claims import (
    base,
    chaos,
    charts,
    clipping,
    flipflop,
    forget,
    latch,
    memory,
    threshold,
)
from minigrad.lab.claims.base import RESULTS, Source, column, different, share
from minigrad.lab.tasks import task
from minigrad.lab.trial import Network, Trial

NAMES = list(claims.CLAIMS)
BRIEF = ("threshold",)  # the quick forms of the others take up to half a minute each


def stored(name: str) -> dict[str, Any]:
    return claims.stored(claims.find(name))


# -- every claim -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in BRIEF)) for n in NAMES]
)
def test_the_quick_form_shows_the_effect(name: str) -> None:
    """The criteria that do not hold are those which do not hold in the stored full form either."""
    result = claims.run(claims.find(name), quick=True)
    full = {row["what"].split(",")[0]: row["holds"] for row in stored(name)["comparison"]}
    for row in result["comparison"]:
        assert row["holds"] or not full.get(row["what"].split(",")[0], True), row
    assert result["verdict"] != "does not reproduce"
    json.dumps(result["data"], default=float)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_verdict_is_what_the_criteria_say_of_the_stored_numbers(name: str) -> None:
    written = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    again = stored(name)
    assert again["verdict"] == written["verdict"]
    assert again["comparison"] == written["comparison"]


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_result_says_how_it_was_made(name: str) -> None:
    claim, result = claims.find(name), stored(name)
    assert result["form"] == "full"
    assert result["settings"] == json.loads(json.dumps(dict(claim.full)))  # of today's code
    assert result["command"] == f"minigrad experiment {name} --seed {result['seeds'][0]}"
    assert len(result["seeds"]) == claim.full["seeds"]
    assert result["seconds"] > 0
    assert "core" in result["machine"]
    assert set(result["versions"]) == {"minigrad", "numpy", "numba", "python"}


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_says_where_it_is_from_and_how_it_is_scaled_down(name: str) -> None:
    claim = claims.find(name)
    assert claim.sources
    assert claim.scale.endswith(".")
    text = claims.text(claim, stored(name), "_#")
    for source in claim.sources:
        assert str(source.year) in text
    said = any(source.abstract_only for source in claim.sources)
    assert ("only its abstract was read" in " ".join(text.split())) == said


PLACE = re.compile(r"(Fig\.|Table|section) \d|eqs?\. \(\d|abstract$")


def misplaced(claim: claims.Claim, row: claims.Row) -> str:
    """Why the row's paper text is not the words of a paper, with their place; "" if it is."""
    if not row.paper:
        return "" if row.expected else "neither a paper nor minigrad says anything"
    said = re.fullmatch(r"(.+) \((.+ \d{4}), ([^()]*(?:\(\d\)[^()]*)*)\)", row.paper)
    if said is None:
        return "no source and place at its end"
    sources = [source for source in claim.sources if source.short == said[2]]
    if not sources:
        return f"{said[2]} is no source of the claim"
    if not PLACE.search(said[3]):
        return f"{said[3]} is no figure, table, equation or section"
    if sources[0].abstract_only and said[3] != "abstract":
        return "only the abstract was read"
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_what_is_put_in_a_papers_mouth_has_its_place_there(name: str) -> None:
    claim = claims.find(name)
    for row in claim.judge(stored(name)["data"]):
        assert misplaced(claim, row) == "", row


@pytest.mark.parametrize(
    ("paper", "expected"),
    [
        ("at g = 0.5: -0.66 (reference figures)", ""),
        ("it is so", ""),
        ("it is so (Sompolinsky et al. 1988, Fig. 2)", ""),  # nothing but its abstract was read
        ("it is so (Pascanu et al. 2013, Fig. 2)", ""),  # none of its sources
        ("it is so (Engelken et al. 2023, throughout)", ""),
        ("", ""),
    ],
)
def test_words_that_no_paper_says_there_are_found(paper: str, expected: str) -> None:
    row = claims.Row("", paper, "", "", True, expected)
    assert misplaced(claims.find("chaos"), row)


def test_the_figures_of_the_chaotic_network_are_minigrads_own() -> None:
    """They are in none of the papers; the report says who says what, under two headings."""
    claim = claims.find("chaos")
    text = claims.text(claim, stored("chaos"), "_#")
    parts = re.split(r"\n   (?=\S)", text)
    said = [part for part in parts if part.startswith("the paper says")]
    own = [part for part in parts if part.startswith("minigrad expects")]
    assert said
    assert not any(f"{v:.2f}" in part for part in said for v, _ in chaos.FIGURES.values())
    assert any("0.5: -0.66" in part for part in own)


def test_no_stored_result_is_without_a_claim() -> None:
    assert {path.stem for path in Path(RESULTS).glob("*.json")} == set(claims.CLAIMS)


@pytest.mark.parametrize("name", NAMES)
def test_criteria_can_fail(name: str) -> None:
    """Numbers turned upside down do not reproduce the claim."""
    claim = claims.find(name)
    data = copy.deepcopy(stored(name)["data"])
    for row in data["rows"]:
        for field in ("largest", "largest exponent", "log growth", "dimension"):
            if field in row:
                row[field] = 1.0 - row[field]
        if "solved" in row:
            row["solved"] = not row["solved"]
            row["loss"] = 1.0 / row["loss"]
            row["updates"] = 5000 - row["updates"]
        for field in ("moved", "memories", "border"):
            if field in row:
                row[field] = -row[field]
        if "of baseline" in row:
            row["of baseline"] = 1.0 / row["of baseline"]
    before = sum(row["holds"] for row in stored(name)["comparison"])
    assert sum(row.holds for row in claim.judge(data)) < before


# -- verdicts and sources --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([True, True], "reproduces"),
        ([True, False], "in part"),
        ([False, False], "does not reproduce"),
        ([], "does not reproduce"),
    ],
)
def test_a_verdict_counts_the_criteria_that_hold(holds: list[bool], expected: str) -> None:
    rows = [claims.Row("", "", "", "", value) for value in holds]
    assert claims.verdict(rows) == expected


def test_sources_are_cited_by_their_surnames() -> None:
    assert Source("R. Pascanu, T. Mikolov, Y. Bengio", 2013, "").short == "Pascanu et al. 2013"
    pair = Source("S. Hochreiter and J. Schmidhuber", 1997, "")
    assert pair.short == "Hochreiter and Schmidhuber 1997"
    assert Source("A. Author", 2000, "").short == "Author 2000"


def test_a_source_of_which_the_abstract_was_read_says_so() -> None:
    said = "only its abstract was read"
    assert said in str(Source("A. B", 1, "T", abstract_only=True))
    assert said not in str(Source("A. B", 1, "T"))


def test_shares_and_columns_pick_rows_by_value() -> None:
    rows = [{"T": 5, "solved": True}, {"T": 5, "solved": False}, {"T": 9, "solved": False}]
    assert share(rows, T=5) == 0.5
    assert share(rows) == pytest.approx(1 / 3)
    assert math.isnan(share(rows, T=7))
    assert column(rows, "solved", T=9).tolist() == [False]
    assert different(rows, "T") == [5, 9]


def test_bars_stay_within_their_width_whatever_the_value() -> None:
    text = charts.bars([("a", 7.0, ""), ("b", -1.0, "x"), ("c", math.nan, "")], "_#", top=1.0)
    assert [line.count("#") for line in text.splitlines()] == [charts.WIDTH, 0, 0]


def test_the_machine_is_said_in_words() -> None:
    assert base.machine().split("-core ")[0].isdigit()


# -- the measurements, against closed forms --------------------------------------------------------


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.0, 5.0])
def test_what_an_lstm_keeps_is_the_power_of_its_forget_gate(bias: float) -> None:
    expected = math.exp(-100 * math.log1p(math.exp(-bias)))
    assert forget.kept(bias) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("phi", ["tanh", "sigmoid"])
def test_an_orthogonal_net_at_rest_shrinks_exactly_as_the_bound_says(phi: str) -> None:
    """Below the threshold the state goes to the middle, where the slope is steepest."""
    assert threshold.growth(phi, "orthogonal", 0.5, seed=1) == pytest.approx(
        math.log(0.5), abs=0.02
    )


def test_a_quiet_random_network_shrinks_by_its_spectral_radius() -> None:
    n, g = 20, 0.5
    W = np.random.default_rng(3).normal(size=(n, n)) / math.sqrt(n)
    radius = g * np.abs(np.linalg.eigvals(W)).max()
    found = chaos.exponents(n, g, seed=3, steps=600, k=1).largest
    assert found == pytest.approx(math.log(radius), abs=0.02)


def test_the_gradient_at_the_cliff_is_that_of_central_differences() -> None:
    def loss(w: float, b: float) -> float:
        x = 0.5
        for _ in range(50):
            x = w / (1 + math.exp(-x)) + b
        return (1 / (1 + math.exp(-x)) - 0.7) ** 2

    first = clipping.descend(np.inf)[0]
    w, b, e = *clipping.START, 1e-6
    slopes = loss(w + e, b) - loss(w - e, b), loss(w, b + e) - loss(w, b - e)
    assert first["loss"] == pytest.approx(loss(w, b), rel=1e-12)
    assert first["norm"] == pytest.approx(math.hypot(*slopes) / (2 * e), rel=1e-4)
    grid = clipping.surface(np.array([w]), np.array([b]))
    assert grid[0, 0] == pytest.approx(loss(w, b), rel=1e-12)


def test_clipped_descent_never_moves_further_than_its_limit() -> None:
    path = clipping.descend(0.3)
    steps = [math.hypot(q["w"] - p["w"], q["b"] - p["b"]) for p, q in pairwise(path)]
    assert max(steps) <= 0.3 + 1e-9


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_how_far_a_state_moves_with_its_weight_is_the_sum_over_pairs_of_inputs(rho: float) -> None:
    """dh/dlambda = sum_k k lambda^(k-1) x_{t-k}, and E x_{t-j} x_{t-k} = rho^|j-k|."""
    lam, k = 0.8, np.arange(300)
    weights = k * lam ** (k - 1.0)
    plain = float(weights @ rho ** np.abs(k[:, None] - k) @ weights)
    found, scaled = memory.expected(lam, rho)
    assert found == pytest.approx(plain, rel=1e-12)
    assert scaled == pytest.approx(plain * (1 - lam**2) * (lam * math.log(lam)) ** 2, rel=1e-12)
    xs = memory.inputs(np.random.default_rng(1), 40, 20_000, rho)[..., 0]
    assert xs[-1].var() == pytest.approx(1.0, abs=0.05)
    assert (xs[-1] * xs[-3]).mean() == pytest.approx(rho**2, abs=0.05)


def test_a_flip_flop_says_the_last_pulse_of_each_channel() -> None:
    x, y = flipflop.sequences(np.random.default_rng(1), 20, 3, 2)
    for row in range(3):
        for bit in range(2):
            last = 0.0
            for t in range(20):
                last = x[t, row, bit] or last
                assert y[t, row, bit] == last != 0


def test_the_sides_of_a_saddle_lead_to_the_stable_points_beside_it() -> None:
    """Two units h <- tanh(2 h) apart: (0, b) lies between (-a, b) and (a, b)."""
    net = nn.RNN(1, 2, dtype=np.float64)
    for p in net.parameters():
        p.data = np.zeros(p.shape)
    net.cells[0].weight_hh.data = 2 * np.eye(2)
    side = np.linspace(-1, 1, 5)
    starts = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    found = fixed_points(net, starts, np.zeros((1, 1)))
    assert found.kinds == ["stable"] * 4 + ["saddle"] * 4 + ["repeller"]
    for i in range(4, 8):
        ends = found.points[flipflop.ways_out(net, found, i, 1)]
        held = np.abs(found.points[i]) > 0.5
        np.testing.assert_allclose(ends[:, held][:, 0], found.points[i][held][0])
        np.testing.assert_allclose(ends[0, ~held], -ends[1, ~held])
        assert abs(ends[0, ~held][0]) > 0.9
    off = flipflop.linear_error(net, found, 0, 1, np.random.default_rng(0))
    assert 0 < off < 1e-4


def pair(flip: float, latch_weight: float = 1.0) -> Network:
    """One unit h <- tanh(flip h + x) that says the answer."""
    network = Network(Trial("latch", cell="rnn", length=5, hidden=5), task("latch", 5))
    cell, head = network.layer.cells[0], network.head
    for p in (*cell.parameters(), *head.parameters()):
        p.data = np.zeros(p.shape, np.float32)
    cell.weight_ih.data[0, 0] = latch_weight
    cell.weight_hh.data[0, 0] = flip
    head.weight.data[:, 0] = [-1.0, 1.0]
    return network


def test_a_net_that_says_always_the_same_holds_half_of_the_signs() -> None:
    network = pair(0.0, 0.0)
    network.head.bias.data = np.array([1.0, 0.0], np.float32)
    held, right, _ = latch.holding(network, seed=0)
    assert 0.5 <= held < 0.6
    assert 0.4 < right < 0.6


@pytest.mark.parametrize(("flip", "right"), [(3.0, 1.0), (-3.0, 0.0)])
def test_a_fixed_point_and_a_cycle_both_hold_their_sign_and_contract(
    flip: float, right: float
) -> None:
    """A weight of -3 turns the sign round at every step: after 99 more it is upside down."""
    held, at_the_end, exponent = latch.holding(pair(flip), seed=0)
    assert (held, at_the_end) == (1.0, right)
    fixed = 0.0
    for _ in range(200):
        fixed = math.tanh(3.0 * fixed + (1.0 if fixed == 0.0 else 0.0))
    assert exponent == pytest.approx(math.log(3.0 * (1 - fixed**2)), abs=0.35)  # without the noise


def test_a_unit_that_forgets_does_not_hold() -> None:
    held, _, exponent = latch.holding(pair(0.9), seed=0)
    assert held < 0.8
    assert exponent < 0
