"""What a recording says it says again where it is loaded; a file that cannot be one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.archive import Archive
from minigrad.flow import FlowError, Recording, explorer
from minigrad.train import CheckpointError, save

FILES = Archive("recording", 1, FlowError)
RNG = np.random.default_rng


def layer(kind: str, *sizes: int, **options: Any) -> Any:
    return getattr(mg.nn, kind)(*sizes, mode="tape", generator=RNG(0), **options)


def inputs(*shape: int, seed: int = 1) -> Any:
    return mg.tensor(RNG(seed).standard_normal(shape).astype(np.float32), requires_grad=True)


def stacked_and_padded() -> Recording:
    net = layer("LSTM", 3, 2, num_layers=2, bidirectional=True)
    with mg.flow.record() as rec:
        net(inputs(5, 3, 3), lengths=np.array([5, 3, 1]))[0].sum().backward()
    return rec


def one_step_of_one_row() -> Recording:
    return mg.flow.probe(layer("RNN", 1, 1), np.ones((1, 1, 1), np.float32))


def windows_and_a_validation_pass() -> Recording:
    net = layer("RNN", 2, 3)
    with mg.flow.record() as rec:
        _, state = net(inputs(4, 2, 2))
        net(inputs(3, 2, 2, seed=2), state)[0][-1].sum().backward()
        with mg.no_grad():
            net(inputs(2, 2, 2, seed=3))
    return rec


def loop_by_hand() -> Recording:
    w, h = mg.tensor(0.5, requires_grad=True), mg.tensor([1.0, 2.0])
    with mg.flow.record(states=("state of mine",)) as rec:
        for t in range(4):
            with mg.scope(f"t={3 * t}"):
                h = mg.tap("state of mine", mg.tanh(w * h))
        h.sum().backward()
    return rec


def without_replay() -> Recording:
    net = layer("GRU", 2, 2)
    with mg.flow.record(replay=False) as rec:
        net(np.ones((3, 1, 2), np.float32))[0].sum().backward()
    return rec


def broken() -> Recording:
    net = layer("LSTM", 2, 2)
    net.weight_hh_l0._array[0, 0] = np.nan
    with mg.flow.record() as rec, np.errstate(invalid="ignore"):
        net(inputs(4, 2, 2))[0][-1].sum().backward()
    return rec


def encoder_decoder() -> Recording:
    encoder, decoder = layer("GRU", 2, 3), layer("GRU", 1, 3)
    with mg.flow.record() as rec:
        _, state = encoder(inputs(4, 2, 2))
        ys = decoder(inputs(3, 2, 1), state)[0]
        (ys.sum() + encoder(inputs(4, 2, 2, seed=3))[0].sum()).backward()
    return rec


@pytest.mark.parametrize(
    "make",
    [one_step_of_one_row, loop_by_hand, stacked_and_padded, windows_and_a_validation_pass,
     without_replay, broken, encoder_decoder],
)  # fmt: skip
def test_what_is_loaded_says_and_shows_what_was_saved(
    make: Callable[[], Recording], tmp_path: Path
) -> None:
    rec = make()
    path = rec.save(tmp_path / "rec.npz", weights=True)
    again = mg.flow.load(path)
    for summed in (False, True):
        assert str(mg.flow.report(again, summed=summed)) == str(mg.flow.report(rec, summed=summed))
        assert mg.flow.draw(again, summed=summed).dot == mg.flow.draw(rec, summed=summed).dot
    assert mg.flow.draw(again, view="rolled").dot == mg.flow.draw(rec, view="rolled").dot
    assert explorer.page(again) == explorer.page(rec)
    for name in ("verdict", "causes", "missing", "nonfinite", "thresholds", "states", "to_dict"):
        found, expected = getattr(again, name), getattr(rec, name)
        assert repr(found() if name == "to_dict" else found) == repr(
            expected() if name == "to_dict" else expected
        )
    for layer_path, flow in rec.items():
        assert_same(again[layer_path], flow)
    again.save(tmp_path / "again.npz", weights=True)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def assert_same(found: Any, flow: Any) -> None:
    """Of a layer, bit by bit: all that is an array, and what is told of it."""
    for table in ("norms", "per_sample", "values", "time_constants", "unit_time_constants", "dead"):
        assert_equal(getattr(found, table), getattr(flow, table))
    for table in ("gradients", "input_gradients", "weights"):
        try:
            expected = getattr(flow, table)
        except FlowError:
            with pytest.raises(FlowError, match=f"{table}: .* was loaded from"):
                getattr(found, table)
        else:
            assert_equal(getattr(found, table), expected)
    for name in ("reverse", "first", "forward_only", "read_at_many_steps", "steps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(flow, name))
    for state in flow.norms:
        np.testing.assert_array_equal(found.profile(state), flow.profile(state))
    assert repr(found.verdict) == repr(flow.verdict)


def assert_equal(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, x in expected.items():
        arrays = vars(x) if hasattr(x, "by_lag") else {"": x}
        for part, array in arrays.items():
            other = getattr(found[name], part) if part else found[name]
            np.testing.assert_array_equal(other, array)
            assert np.asarray(other).dtype == np.asarray(array).dtype


# -- what is not in a file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return one_step_of_one_row().save(tmp_path_factory.mktemp("whole") / "rec.npz").read_bytes()


@pytest.fixture
def saved(tmp_path: Path, whole: bytes) -> Path:
    path = tmp_path / "rec.npz"
    path.write_bytes(whole)
    return path


def test_what_needs_the_net_says_so_in_one_way(saved: Path) -> None:
    rec = mg.flow.load(saved)
    flow = rec["rnn/l0/fwd"]
    needs = {
        "jacobians": flow.jacobians, "weights": lambda: flow.weights,
        "weight_terms": flow.weight_terms,
    }  # fmt: skip
    for name, read in needs.items():
        with pytest.raises(FlowError) as caught:
            read()
        assert str(caught.value).startswith(f"{name}: rnn/l0/fwd was loaded from {saved}, and ")
        assert ("weights=True" in str(caught.value)) == (name == "weights")
    with pytest.raises(FlowError, match="none of the runs"):
        _ = rec.net
    assert repr(rec) == f"<Recording of rnn/l0/fwd, loaded from {saved}>"


def test_causes_of_a_training_run_are_added_to_those_of_the_file(saved: Path) -> None:
    losses = [1.0, 2.0, 4.0, 8.0, 16.0]
    rec = mg.flow.load(saved)
    assert "rate-too-large" in [cause.name for cause in mg.flow.causes(rec, losses=losses)]


def test_a_recording_replaces_a_recording_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    broken().save(saved)
    assert mg.flow.load(saved).verdict.kind == "broken"
    other = save(tmp_path / "a.ckpt", {"step": 1})
    before = other.read_bytes()
    with pytest.raises(FlowError, match="a zip file, but no minigrad recording"):
        broken().save(other)
    assert other.read_bytes() == before
    with pytest.raises(FlowError, match="no minigrad recording"):
        mg.flow.load(other)
    with pytest.raises(CheckpointError, match="no minigrad checkpoint"):
        mg.train.load(saved)
    with pytest.raises(FlowError, match="cannot be written"):
        broken().save(tmp_path / "nowhere" / "rec.npz")


def test_a_recording_of_nothing_has_nothing_to_save(tmp_path: Path) -> None:
    with mg.flow.record() as rec:
        layer("RNN", 1, 1)(np.ones((2, 1, 1), np.float32))
    with pytest.raises(FlowError, match="no gradient arrived"):
        rec.save(tmp_path / "rec.npz")
    assert list(tmp_path.iterdir()) == []


def test_numpy_opens_the_file_and_nothing_in_it_is_an_object(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        arrays = [archive[name] for name in archive.files if not name.endswith(".json")]
        assert any(array.shape == (1, 1, 1) for array in arrays)
        assert archive["recording.json"].startswith(b'{"format": "minigrad recording"')


# -- files that lie


def first_layer(tree: dict[str, Any]) -> dict[str, Any]:
    return tree["layers"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(layers=[]), "it holds no layer"),
        (lambda t: t["layers"].append(t["layers"][0]), "stands in two places|same path"),
        (lambda t: t.update(more=1), "StoredRecording has no 'more'"),
        (lambda t: t.pop("cuts"), "missing 1 required"),
        (lambda t: t["verdict"].update(kind="splendid"), "verdict: 'splendid' is not known"),
        (lambda t: t["verdict"].update(ratio="1"), "expected a number, got '1'"),
        (lambda t: t["verdict"].update(steps=1.5), "expected a whole number"),
        (lambda t: t["thresholds"].update(points=1), "needs at least 2 points"),
        (lambda t: first_layer(t).update(steps=np.array([10**12])), "no numbers of steps"),
        (lambda t: first_layer(t).update(steps=np.zeros((1, 1), int)), "no steps, or no state"),
        (lambda t: first_layer(t).update(steps=np.array([3, 3])), "no numbers of steps"),
        (lambda t: first_layer(t).update(per_sample={}), "no steps, or no state"),
        (lambda t: first_layer(t)["per_sample"].update(h=np.ones((2, 1))), r"float64\[2, 1\]"),
        (lambda t: first_layer(t)["per_sample"].update(h=-np.ones((1, 1))), "a norm is below 0"),
        (lambda t: first_layer(t)["per_sample"].update(h=np.ones((1, 0))), "no rows"),
        (lambda t: first_layer(t).update(real=None), "its padding is half known"),
        (lambda t: first_layer(t).update(verdicts={}), "states: 'h' is not known"),
        (lambda t: first_layer(t)["values"].update(h=np.ones((1, 1))), r"values of 'h'.*\[1, 1\]"),
        (lambda t: first_layer(t).update(keeps={"q": 1}), "keeps: 'q' is not known"),
        (lambda t: t["cuts"][0].update(labels=[]), "is through nothing"),
        (lambda t: t["cuts"][0].update(labels=[["nowhere", "h"]]), "'nowhere' is not known"),
        (lambda t: t["cuts"][0].update(shares=np.full((1, 1), 2.0)), "more than the whole"),
        (lambda t: t["cuts"][0].update(groups=[{}]), "is through nothing"),
        (lambda t: t["calls"][0].update(part=7), "expected a whole number"),
        (lambda t: t["calls"][0]["reads"][0].update(call=0), "the first call has read another"),
        (lambda t: t["causes"].append(dict(name="x", where="", evidence="", value=0)), "'x'"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused_with_the_place(
    change: Callable[[Any], Any], said: str, saved: Path
) -> None:
    tree = FILES.load(saved)
    change(tree)
    FILES.save(saved, tree)
    with pytest.raises(FlowError, match=said) as caught:
        mg.flow.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_texts_of_a_file_move_no_cursor(saved: Path) -> None:
    tree = FILES.load(saved)
    tree["verdict"]["reason"] = first_layer(tree)["verdicts"]["h"]["reason"] = "\x1b[2J"
    tree["cuts"][0]["name"] = "a\x1b[2Jb"
    FILES.save(saved, tree)
    assert "\x1b" not in f"{mg.flow.load(saved)}{mg.flow.load(saved).verdict}"
