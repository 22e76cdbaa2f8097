"""mg.jit of layers whose sequences have lengths, masks, episodes or checkpoints: the plain bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.kernels.flat import Joined

T, B, H = 7, 3, 5


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def layer(kind: Any = nn.LSTM, **how: Any) -> Any:
    return kind(2, H, dtype=np.float64, generator=rng(1), **how)


def calls(n: int = 5) -> list[tuple[Any, Any, Any]]:
    """(x, lengths, resets): some rows empty, all full, one step alone."""
    draw = rng(2)
    found = []
    for k in range(n):
        lengths = [np.array([T, 0, 1]), np.full(B, T), draw.integers(0, T + 1, B)][min(k, 2)]
        found.append((draw.normal(size=(T, B, 2)), lengths, draw.random((T, B)) < 0.3))
    return found


def taking(lengths: Any) -> Any:
    return np.arange(T)[:, None] < lengths


WAYS: dict[str, tuple[Callable[[], Any], Callable[..., Any]]] = {
    "lengths": (layer, lambda net, x, n, r: net(x, lengths=n)),
    "both directions": (
        lambda: layer(bidirectional=True, num_layers=2),
        lambda net, x, n, r: net(x, lengths=n),
    ),
    "the last output": (
        lambda: layer(nn.GRU, bidirectional=True, return_sequences=False),
        lambda net, x, n, r: net(x, lengths=n),
    ),
    "states of all steps": (
        lambda: layer(nn.RNN, return_states=True),
        lambda net, x, n, r: net(x, lengths=n),
    ),
    "a mask that the step computes": (
        lambda: layer(nn.GRU, bidirectional=True),
        lambda net, x, n, r: net(x, mask=mg.less(np.arange(T)[:, None], mg.tensor(n))),
    ),
    "resets": (layer, lambda net, x, n, r: net(x, resets=r)),
    "resets in reverse": (
        lambda: layer(bidirectional=True),
        lambda net, x, n, r: net(x, resets=r),
    ),
    "lengths of the closure": (layer, lambda net, x, n, r: net(x, lengths=[4, T, 2])),
    "a checkpoint": (lambda: layer(checkpoint=2), lambda net, x, n, r: net(x)),
    "a checkpoint and lengths": (
        lambda: layer(nn.GRU, checkpoint=3, bidirectional=True),
        lambda net, x, n, r: net(x, lengths=n),
    ),
    "a checkpoint in several layers": (
        lambda: layer(num_layers=2, bidirectional=True, checkpoint=2),
        lambda net, x, n, r: net(x, resets=r),
    ),
    "a checkpoint and the batch first": (
        lambda: layer(nn.RNN, checkpoint="auto", batch_first=True),
        lambda net, x, n, r: net(mg.transpose(x, (1, 0, 2))),
    ),
    "a checkpoint by size": (lambda: layer(checkpoint="4 KiB"), lambda net, x, n, r: net(x)),
    "the tape": (lambda: layer(mode="tape"), lambda net, x, n, r: net(x, resets=r)),
    # Three parts and more of a state's gradient, added up in one order whatever is in the padding.
    "lengths on the tape": (
        lambda: layer(nn.GRU, mode="tape", bidirectional=True),
        lambda net, x, n, r: net(x, lengths=n),
    ),
    "a mask on the tape": (
        lambda: layer(nn.GRU, mode="tape", return_states=True),
        lambda net, x, n, r: net(x, mask=mg.less(np.arange(T)[:, None], mg.tensor(n))),
    ),
    "resets on the tape": (
        lambda: layer(nn.GRU, mode="tape", num_layers=2),
        lambda net, x, n, r: net(x, resets=r),
    ),
    "windows": (
        lambda: nn.GRUCell(2, H, dtype=np.float64, generator=rng(1)),
        lambda net, x, n, r: mg.scan(net, net.init_state(B), x, lengths=n, truncate=3),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_replays_give_the_bits_of_the_plain_step(way: str) -> None:
    make, run = WAYS[way]

    def trainer() -> tuple[Any, Callable[..., Any]]:
        net = make()
        optimizer = mg.optim.SGD(net.parameters(), 0.1)

        def step(x: Any, lengths: Any, resets: Any) -> Any:
            optimizer.zero_grad()
            found = run(net, mg.tensor(x), lengths, resets)
            loss = (found[0] * found[0]).sum() if type(found) is tuple else (found.ys**2).sum()
            loss.backward()
            optimizer.step()
            return loss

        return net, step

    (net, step), (other, plain) = trainer(), trainer()
    jitted = mg.jit(step)
    for given in calls():
        assert jitted(*given).item() == plain(*given).item()
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            assert np.array_equal(p.numpy(), q.numpy())
    assert jitted.replayed >= 2  # a third recording, where the first call had set something up


@pytest.mark.needs_jit
def test_a_replay_runs_loops_over_rows_of_any_lengths_without_python() -> None:
    net = layer(num_layers=2, bidirectional=True)

    def step(x: Any, mask: Any) -> Any:
        net.zero_grad()
        loss = (net(x, mask=mask)[0] ** 2).sum()
        loss.backward()
        return loss

    jitted = mg.jit(step)
    for x, lengths, _ in calls():
        jitted(x, taking(lengths))
    (program,) = jitted.all_programs()
    assert len(program.run) == 1
    assert isinstance(program.run[0][0], Joined)


@pytest.mark.needs_jit  # as Python, sums depend on how many rows there are at once
@pytest.mark.parametrize("rows", [1, 3])
def test_both_directions_run_at_once_and_give_the_bits_of_one_after_the_other(rows: int) -> None:
    def trainer(joined: bool) -> tuple[Any, Callable[..., Any]]:
        net = nn.LSTM(8, 32, bidirectional=True, dtype=np.float64, generator=rng(1))
        if not joined:
            net.checkpoint = 40  # all of them: nothing is cut
        optimizer = mg.optim.SGD(net.parameters(), 0.01)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (net(x)[0] ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        return net, step

    before = mg.get_num_threads()
    mg.set_num_threads(2)
    try:
        (net, step), (other, in_turn) = trainer(True), trainer(False)
        jitted = mg.jit(step)
        for k in range(4):
            x = rng(k).normal(size=(40, rows, 8))
            assert jitted(x).item() == in_turn(x).item()
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                assert np.array_equal(p.numpy(), q.numpy())
        assert jitted.replayed == 2
        assert len(re.findall("at once", str(jitted))) == 2  # the scans, and their BPTT
    finally:
        mg.set_num_threads(before)


def two_towers() -> tuple[Any, Callable[..., Any]]:
    """Layers of one row that need nothing of one another, and one that needs the first."""
    one, other = nn.LSTM(2, 24, dtype=np.float64), nn.GRU(2, 24, dtype=np.float64)
    top = nn.RNN(24, 24, dtype=np.float64)
    net = nn.ModuleList([one, other, top])
    with mg.no_grad():
        for p in net.parameters():
            p[...] = rng(p.size).uniform(-0.3, 0.3, p.shape)
    optimizer = mg.optim.SGD(net.parameters(), 0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        left, right = one(mg.tanh(mg.tensor(x)))[0], other(mg.exp(-mg.tensor(y)))[0]
        loss = (left[-1] * right[3]).sum() + top(left)[0].sum()
        loss.backward()
        optimizer.step()
        return loss

    return net, step


@pytest.mark.needs_jit
def test_layers_that_need_nothing_of_one_another_run_at_once_in_a_replay() -> None:
    before = mg.get_num_threads()
    mg.set_num_threads(2)
    try:
        (net, step), (other, plain) = two_towers(), two_towers()
        jitted = mg.jit(step)
        for k in range(5):
            x, y = rng(k).normal(size=(2, 60, 1, 2))
            assert jitted(x, y).item() == plain(x, y).item()
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                assert np.array_equal(p.numpy(), q.numpy())
        text = str(jitted)
    finally:
        mg.set_num_threads(before)
    assert ", 1 from Python" in text
    at_once = [line for line in text.splitlines() if "at once" in line]
    assert len(at_once) == 2
    for line, what in zip(at_once, ("scan", "BPTT"), strict=True):
        assert sorted(re.findall(rf"{what} of (\w+)", line)) == ["grucell", "lstmcell"]


def test_a_checkpoint_that_is_set_later_holds_for_both_directions() -> None:
    net = layer(bidirectional=True)
    x = rng().normal(size=(T, B, 2))
    for _ in range(3):
        net(x)
    net.checkpoint = 2
    net(x)
    assert "checkpoint=2" in net.explain()


def test_wrong_lengths_and_resets_raise_in_a_replay_as_they_do_outside() -> None:
    net = layer()

    @mg.jit
    def step(x: Any, lengths: Any, resets: Any) -> Any:
        with mg.no_grad():
            return net(x, lengths=lengths, resets=resets)[0]

    x, none = np.ones((T, B, 2)), np.zeros((T, B), bool)
    full = np.full(B, T)
    for _ in range(3):
        step(x, full, none)
    with pytest.raises(mg.errors.ShapeError, match=r"lengths\[1\] is 8"):
        step(x, np.array([T, T + 1, T]), none)
    late = none.copy()
    late[5, 0] = True
    with pytest.raises(ValueError, match=r"resets\[5, 0\] begins an episode"):
        step(x, np.array([3, T, T]), late)
    assert step(x, full, late).shape == (T, B, H)
    assert step.replayed == 4


def test_what_is_in_the_padding_is_not_read_in_a_replay() -> None:
    net = layer(bidirectional=True)

    @mg.jit
    def step(x: Any, lengths: Any) -> Any:
        with mg.no_grad():
            return net(x, lengths=lengths)[0]

    for lengths in (np.array([2, T, 4]), np.full(B, T), np.array([5, 1, 0]), np.array([T, 3, 2])):
        x = rng().normal(size=(T, B, 2))
        x[~taking(lengths)] = np.nan
        found = step(x, lengths).numpy()
        assert np.isfinite(found).all()
        assert (found[~taking(lengths)] == 0).all()


@pytest.mark.needs_jit  # as Python, its thousands of steps take minutes
def test_a_checkpoint_of_a_replay_computes_its_steps_again_and_keeps_less() -> None:
    def memory(checkpoint: Any) -> int:
        net = nn.LSTM(2, 16, dtype=np.float64, checkpoint=checkpoint, generator=rng(1))

        @mg.jit
        def step(x: Any) -> Any:
            loss = (net(x)[0][-1] ** 2).sum()
            loss.backward()
            net.zero_grad()
            return loss

        x = rng().normal(size=(1000, 2, 2))
        for _ in range(4):
            step(x)
        (program,) = step.all_programs()
        return program.nbytes

    assert memory(20) < 0.5 * memory(None)


def of_labels(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A step that trains on labels, and what is called with it."""
    net = layer(nn.GRU)
    optimizer = mg.optim.SGD(net.parameters(), 0.5)

    def step(x: Any, lengths: Any, labels: Any, counts: Any) -> Any:
        optimizer.zero_grad()
        ys, _ = net(mg.tensor(x), lengths=lengths)
        found = loss(mg.log_softmax(ys, axis=-1), lengths, labels, counts)
        found.backward()
        optimizer.step()
        return found

    return step


LABELS: dict[str, Callable[..., Any]] = {
    "ctc": lambda p, n, y, counts: nn.ctc_loss(p, y, n, counts, zero_infinity=True),
    "ctc, blank at the end": lambda p, n, y, counts: nn.ctc_loss(p, y - 1, blank=4, mode="tape"),
    "nll": lambda p, n, y, counts: nn.nll_loss(p[:2], y.T - 1, ignore_index=1),
    "nll, weighted": lambda p, n, y, counts: nn.nll_loss(
        p[:2], y.T, weight=np.linspace(0.5, 2.0, H)
    ),
}


@pytest.mark.parametrize("loss", LABELS)
def test_losses_of_labels_replay_to_the_plain_bits(loss: str) -> None:
    plain, jitted = of_labels(LABELS[loss]), mg.jit(of_labels(LABELS[loss]))
    draw = rng(3)
    for k in range(5):
        lengths = np.full(B, T) if k == 1 else draw.integers(2, T + 1, B)
        labels, counts = draw.integers(1, H, (B, 2)), draw.integers(0, 3, B)
        given = draw.normal(size=(T, B, 2)), lengths, mg.tensor(labels), counts
        assert jitted(*given).item() == plain(*given).item(), k
    assert jitted.replayed >= 2


def test_a_label_that_is_wrong_is_refused_in_a_replay() -> None:
    step = mg.jit(of_labels(LABELS["ctc"]))
    given = rng(3).normal(size=(T, B, 2)), np.full(B, T), np.ones((B, 2), int), np.full(B, 2)
    for _ in range(4):
        step(*given)
    with pytest.raises(mg.ShapeError, match="a target is 0, the blank"):
        step(*given[:2], np.zeros((B, 2), int), given[3])
    with pytest.raises(mg.ShapeError, match="target_lengths run from 0 to 2, got 3 to 3"):
        step(*given[:3], np.full(B, 3))


@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_a_translation_is_replayed_and_its_decoder_left_without_a_memory(attention: str) -> None:
    def trainer() -> tuple[Any, Callable[..., Any]]:
        options = {"hidden_size": 4, "embedding_size": 3, "attention": attention}
        model = nn.EncoderDecoder(7, 5, **options, generator=rng(1))
        optimizer = mg.optim.Adam(model.parameters(), 0.05)

        def step(source: Any, target: Any, lengths: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.cross_entropy(model(source, target[:-1], lengths), target[1:])
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    (model, step), (other, plain) = trainer(), trainer()
    jitted, draw = mg.jit(step), rng(2)
    for k in range(6):
        source, target = draw.integers(0, 7, (4, B)), draw.integers(0, 5, (4, B))
        given = source, target, draw.integers(1, 5, B)
        assert jitted(*given).item() == plain(*given).item(), k
        assert model.greedy(source, 1, 0, given[2]) == other.greedy(source, 1, 0, given[2])
        assert model.decoder.memory is None
    assert (jitted.recorded, jitted.replayed) == (2, 4)
