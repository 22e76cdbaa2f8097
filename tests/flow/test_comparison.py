"""What `minigrad flow` does: honest tasks, exact measurements, repeatable results."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from minigrad import data
from minigrad.cli import main
from minigrad.flow import summary
from minigrad.flow.comparison import (
    CELLS,
    CharacterModel,
    Outcome,
    Settings,
    check_text,
    evaluate,
    measure,
    run,
)

SMALL = Settings(steps=7, hidden=6, batch=3, updates=2, embedding=4)
TEXT = data.shakespeare()[:3000]


def model(cell: str, settings: Settings = SMALL, symbols: int = 9) -> CharacterModel:
    return CharacterModel(cell, symbols, settings, np.random.default_rng(1))


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [run(cell, TEXT, SMALL) for cell in CELLS]


@pytest.mark.parametrize("cell", CELLS)
def test_no_prediction_sees_its_own_character(cell: str, rng: np.random.Generator) -> None:
    """Changing a character changes no logits that predict it, and all targets have logits."""
    net = model(cell)
    ids = rng.integers(0, 9, (6, 2))
    logits, targets = net(ids).numpy(), net.targets(ids)
    assert logits.shape == (*targets.shape, 9)
    first = 1  # targets start at the second character of the window
    for i in range(len(targets)):
        changed = ids.copy()
        changed[first + i] = (changed[first + i] + 1) % 9
        np.testing.assert_array_equal(net(changed).numpy()[i], logits[i])


@pytest.mark.parametrize("cell", CELLS)
def test_the_measured_loss_is_steps_away_from_the_start(cell: str) -> None:
    """Every state up to the loss receives a gradient, over `steps` steps in each direction."""
    net = model(cell)
    ids = np.zeros((net.measure_length(7), 2), np.int64)
    recording = measure(net, ids, SMALL)
    assert len(recording) == (2 if cell == "bilstm" else 1)
    for layer in recording.values():
        assert layer.profile().size == 7
        assert layer.verdict.steps == 6
        assert layer.tiny == np.finfo(np.float64).tiny  # measured in float64


def test_measuring_changes_nothing_in_the_model() -> None:
    net = model("lstm")
    before = net.state_dict()
    measure(net, np.zeros((8, 2), np.int64), SMALL)
    for name, parameter in net.named_parameters():
        assert parameter.grad is None
        assert parameter.dtype == np.float32
        np.testing.assert_array_equal(parameter.numpy(), before[name])


def test_an_untrained_uniform_model_needs_log2_of_the_symbols(rng: np.random.Generator) -> None:
    net = model("gru", symbols=9)
    net.head.weight.data = np.zeros(net.head.weight.shape)
    net.head.bias.data = np.zeros(net.head.bias.shape)
    assert evaluate(net, rng.integers(0, 9, 300), SMALL) == pytest.approx(math.log2(9), rel=1e-6)


def test_training_lowers_the_bits_on_text_that_was_held_out() -> None:
    outcome = run("gru", TEXT, Settings(steps=7, hidden=16, batch=8, updates=40, embedding=8))
    assert outcome.bits < outcome.bits_before - 0.5
    assert len(outcome.curve) == 40


def test_the_same_seed_gives_the_same_result_and_another_does_not() -> None:
    a, b, c = (
        run("rnn", TEXT, Settings(steps=5, hidden=4, batch=2, updates=3, embedding=3, seed=s))
        for s in (1, 1, 2)
    )
    assert a.curve == b.curve
    assert a.bits == b.bits
    assert a.curve != c.curve


def test_no_update_leaves_everything_as_it_was() -> None:
    outcome = run("lstm", TEXT, Settings(steps=5, hidden=4, updates=0, embedding=3))
    assert outcome.bits == outcome.bits_before
    before, after = (r["lstm/l0/fwd"].norms["h"] for r in (outcome.before, outcome.after))
    np.testing.assert_array_equal(before, after)


@pytest.mark.long
def test_a_text_too_short_for_the_steps_is_refused_with_the_length_it_needs() -> None:
    settings = Settings(steps=100)
    with pytest.raises(data.DataError, match=r"2,019 characters; 100 steps need at least 2,020"):
        check_text("xy" * 1009 + "x", settings)
    check_text("xy" * 1010, settings)
    shortest = "ab" * 40
    run("bilstm", shortest, Settings(steps=3, hidden=2, batch=1, updates=1, embedding=2))


def test_a_text_of_one_kind_of_character_is_refused() -> None:
    with pytest.raises(data.DataError, match="nothing to predict"):
        check_text("x" * 5000, SMALL)


def test_every_row_of_the_table_is_a_cell_a_direction_and_a_moment(
    outcomes: list[Outcome],
) -> None:
    head, *rows = summary.table(outcomes).splitlines()
    starts = [row[: head.index("|dL/dS_T|")].split() for row in rows]
    assert [" ".join(s[:-1]) for s in starts[::2]] == [
        "rnn",
        "lstm",
        "gru",
        "bilstm ->",
        "bilstm ->",
    ]
    assert {s[-1] for s in starts} == {"before", "after"}
    for column in ("ratio", "reach", "verdict", "bits/char", "time", "|dL/dS_1|"):
        assert column in head


def test_the_notes_say_that_the_bilstm_has_another_task(outcomes: list[Outcome]) -> None:
    assert any("bilstm fills a gap" in line for line in summary.notes(outcomes))
    assert not any("bilstm" in line for line in summary.notes(outcomes[:3]))


def test_files_agree_with_the_recordings(outcomes: list[Outcome], tmp_path: Path) -> None:
    names = summary.save(tmp_path, outcomes, SMALL, {"text": "a play"})
    assert sorted(names) == sorted(p.name for p in tmp_path.iterdir())
    assert {f"{cell}.svg" for cell in CELLS} | {"comparison.svg"} <= set(names)
    loaded = json.loads((tmp_path / "flow.json").read_text())
    norms = outcomes[1].after["lstm/l0/fwd"].norms["c"]
    assert loaded["cells"]["lstm"]["after"]["lstm/l0/fwd"]["norms"]["c"] == norms.tolist()
    assert loaded["settings"]["steps"] == 7
    assert loaded["text"] == "a play"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "flow.csv").read_text())))
    picked = [
        float(r["norm"])
        for r in rows
        if (r["cell"], r["training"], r["state"]) == ("lstm", "after", "c")
    ]
    assert picked == norms.tolist()
    lags = [r["lag"] for r in rows if r["layer"] == "bilstm/l0/rev" and r["state"] == "h"]
    assert lags[:8] == ["6", "5", "4", "3", "2", "1", "0", ""]


def test_one_cell_has_no_comparison(outcomes: list[Outcome], tmp_path: Path) -> None:
    names = summary.save(tmp_path, outcomes[:1], SMALL, {})
    assert names == ["rnn.svg", "flow.json", "flow.csv", "explorer.html"]


def test_the_explorer_is_left_out_on_request(outcomes: list[Outcome], tmp_path: Path) -> None:
    assert summary.save(tmp_path, outcomes[:1], SMALL, {}, html=False) == [
        "rnn.svg",
        "flow.json",
        "flow.csv",
    ]


def test_the_explorer_has_every_cell_before_and_after_training(
    outcomes: list[Outcome], tmp_path: Path
) -> None:
    page = summary.explore(tmp_path / "explorer.html", outcomes, SMALL).read_text("utf-8")
    shown = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [network["name"] for network in shown["networks"]] == ["RNN", "LSTM", "GRU", "BiLSTM"]
    assert shown["moments"] == ["before training", "after 2 updates"]
    lstm = shown["networks"][1]
    assert list(lstm["text"].values()) == list(outcomes[1].context.values())
    for moment, bits in zip(shown["moments"], (outcomes[1].bits_before, outcomes[1].bits)):
        found = lstm["moments"][moment]
        assert found["note"] == f"{bits:.2f} bits per character"
        assert set(found["layers"][0]["values"]) == {"i", "f", "g", "o", "c", "h"}
        assert set(found["layers"][0]["gradients"]) == {"h", "c"}
        assert len(found["inputs"]["norms"]) == 7


@pytest.mark.parametrize("wanted", [True, False])
def test_the_command_writes_the_explorer_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["--steps", "5", "--hidden", "4", "--batch", "2", "--train", "1"]
    arguments = ["flow", "--cells", "rnn", *sizes, "--html" if wanted else "--no-html"]
    assert main([*arguments, "--out", "r"]) == 0
    assert (tmp_path / "r" / "explorer.html").exists() == wanted
