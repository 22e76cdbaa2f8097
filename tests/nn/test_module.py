"""Module: names, state_dict, switches, printing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.store import cases

import minigrad as mg
from minigrad import nn


class Net(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(5, 2)
        self.blocks = [nn.Linear(2, 2), nn.Linear(2, 2, bias=False)]
        self.scale = nn.Parameter([1.0, 2.0])
        self.note = "not a parameter"

    def forward(self, x: Any) -> Any:
        y = self.embed(x)
        for block in self.blocks:
            y = block(y)
        return y * self.scale


NAMES = ["embed.weight", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "scale"]


def test_names_follow_attributes_and_lists() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert list(net.state_dict()) == NAMES
    assert [type(m).__name__ for m in net.modules()] == ["Net", "Embedding", "Linear", "Linear"]
    assert net.embed.weight.name == "weight"
    assert isinstance(net.scale, mg.Tensor)
    assert net.scale.dtype == np.float64  # NumPy's rules, as mg.tensor
    assert nn.Parameter(np.ones(2, np.float32)).dtype == np.float32


def test_names_reach_into_nested_containers() -> None:
    net = nn.Module()
    net.parts = {"a": [nn.Linear(1, 1, bias=False)], "b": (nn.Parameter([1.0]), "other")}
    assert [name for name, _ in net.named_parameters()] == ["parts.a.0.weight", "parts.b.0"]


def test_a_shared_parameter_is_trained_once_and_saved_under_every_name() -> None:
    net = Net()
    net.blocks[1].weight = net.blocks[0].weight
    assert [name for name, _ in net.named_parameters()] == [
        n for n in NAMES if n != "blocks.1.weight"
    ]
    assert list(net.state_dict()) == NAMES


class Tied(nn.Module):
    """A language model whose output weights are its embedding (Press and Wolf 2017)."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(5, 3)
        self.rnn = nn.GRU(3, 3, mode="tape")
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(self.embed(x))[0])


def test_the_gradient_of_a_tied_weight_is_the_sum_of_both_uses() -> None:
    tied, apart = Tied(), Tied()
    apart.head.weight = nn.Parameter(apart.head.weight.numpy().copy())
    apart.load_state_dict(tied.state_dict())
    words = np.array([[0, 3], [2, 2], [4, 1]])
    for net in (tied, apart):
        net(words)[..., 1].sum().backward()
    expected = apart.embed.weight.grad.data + apart.head.weight.grad.data
    np.testing.assert_allclose(tied.embed.weight.grad.data, expected, rtol=1e-5, atol=1e-6)
    assert len(list(tied.parameters())) == len(list(apart.parameters())) - 1


def test_tied_weights_stay_tied_in_training_copies_and_dtypes() -> None:
    losses = []
    words = np.array([[0, 3], [2, 2], [4, 1]])
    mg.seed(0)
    first = Tied()
    for jit in (mg.jit, lambda f: f):
        net = copy.deepcopy(first).to(np.float64)
        net.rnn.mode = "fused"
        assert net.head.weight is net.embed.weight
        optimizer = mg.optim.Adam(net.parameters(), 0.1)

        @jit
        def step(x: Any, net: Any = net, optimizer: Any = optimizer) -> Any:
            loss = nn.cross_entropy(net(x).reshape(-1, 5), x.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        losses.append([step(words).item() for _ in range(4)])
        assert losses[-1][-1] < losses[-1][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)


def test_of_a_tied_weight_one_name_is_enough_and_two_have_to_agree() -> None:
    net = Tied()
    state = Tied().state_dict()
    alone = {k: v for k, v in state.items() if k != "head.weight"}
    assert net.load_state_dict(alone) == ([], [])
    np.testing.assert_array_equal(net.head.weight.data, state["embed.weight"])
    state["head.weight"] = state["head.weight"] + 1
    with pytest.raises(
        mg.StateDictError, match=r"shared here, .* there: 'embed.weight' and 'head.weight'.$"
    ):
        net.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(net.head.weight.data, alone["embed.weight"])


def test_lists_and_dicts_of_modules_are_lists_and_dicts() -> None:
    net = nn.Module()
    net.blocks = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
    net.blocks.append(nn.Linear(2, 1, bias=False))
    net.parts = nn.ModuleDict({"b": nn.ModuleList(), "a": nn.Linear(1, 1, bias=False)})
    names = ["blocks.0.weight", "blocks.1.weight", "blocks.2.weight", "parts.a.weight"]
    assert [name for name, _ in net.named_parameters()] == names
    assert [name for name, _ in net.blocks.named_parameters()] == [
        "0.weight", "1.weight", "2.weight",
    ]  # fmt: skip
    assert [p.shape for p in net.parts.parameters()] == [(1, 1)]
    assert len(net.blocks[1:]) == 2
    twin = copy.deepcopy(net)
    assert isinstance(twin.blocks, nn.ModuleList)
    assert twin.load_state_dict(net.state_dict()) == ([], [])
    assert not net.eval().blocks[2].training


def test_two_parameters_never_share_a_name() -> None:
    net = nn.Module()
    net.parts = {1: nn.Parameter([1.0]), "1": nn.Parameter([2.0])}
    for call in (net.state_dict, lambda: net.load_state_dict({"parts.1": [3.0]})):
        with pytest.raises(mg.StateDictError, match=r"two parameters are called 'parts.1'"):
            call()


def test_an_array_does_not_take_the_place_of_a_parameter_unseen() -> None:
    layer, lstm = nn.Linear(2, 1), nn.LSTM(2, 3)
    with pytest.raises(TypeError, match=r"Linear.weight is a Parameter; write .weight.data ="):
        layer.weight = np.ones((1, 2))
    with pytest.raises(TypeError, match=r"LSTMCell.bias_hh is a Parameter"):
        lstm.bias_hh_l0 = [0.0] * 12
    layer.weight.data = np.ones((1, 2))
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_a_state_goes_through_a_file_and_back(tmp_path: Path) -> None:
    net, other = Net(), Net()
    np.savez(tmp_path / "net.npz", **net.state_dict())
    with np.load(tmp_path / "net.npz") as state:
        report = other.load_state_dict(state)
    assert report == ([], [])
    np.testing.assert_array_equal(net([[0, 3]]).data, other([[0, 3]]).data)


def test_a_state_is_a_copy() -> None:
    net = Net()
    state = net.state_dict()
    net.scale.data[0] = 9.0
    assert state["scale"].tolist() == [1.0, 2.0]
    net.load_state_dict(state)
    state["scale"][0] = 7.0
    assert net.scale.tolist() == [1.0, 2.0]


def test_loading_converts_to_the_parameters_dtype() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": [[1, 2]], "bias": np.array([0.5], np.float64)})
    assert layer.weight.dtype == np.float32
    assert layer.weight.tolist() == [[1.0, 2.0]]


def test_a_state_that_does_not_fit_is_refused_whole() -> None:
    net = Net()
    before, state = net.state_dict(), net.state_dict()
    state["blocks.0.weight"] = np.zeros((2, 3))
    state["weight"] = state.pop("scale")
    state["embed.weight"] = np.zeros((5, 2))
    expected = (
        r"Net.load_state_dict: mis-shaped: 'blocks.0.weight' is \[2, 3\], expected \[2, 2\]; "
        r"missing: 'scale'; unexpected: 'weight'."
    )
    with pytest.raises(mg.StateDictError, match=expected):
        net.load_state_dict(state)
    np.testing.assert_array_equal(net.embed.weight.data, before["embed.weight"])
    del state["blocks.0.weight"]
    with pytest.raises(ValueError, match=r"missing: 'blocks.0.weight', 'scale'.*strict=False"):
        net.load_state_dict(state)
    report = net.load_state_dict(state, strict=False)
    assert report.missing == ["blocks.0.weight", "scale"]
    assert report.unexpected == ["weight"]
    assert not net.embed.weight.data.any()


def test_torchs_checkpoints_load_as_they_are() -> None:
    """The golden tests compare what the loaded layers compute."""
    kinds: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    for case in cases("recurrent").values():
        options = {k: v for k, v in case.options.items() if k not in ("kind", "lengths")}
        layer = kinds[case.options["kind"].partition("_")[0]](**options)
        state = {k: v for k, v in case.arrays.items() if k.startswith(("weight", "bias"))}
        assert layer.load_state_dict(state) == ([], [])


def test_train_and_eval_reach_everything_below() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    layer = nn.LSTM(1, 2)
    assert not layer.eval().cells[0].training


def test_zero_grad_drops_gradients() -> None:
    net = Net()
    net([1]).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_changes_the_dtype_of_everything() -> None:
    net = Net().to(np.float64)
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float64)}
    assert net([1]).dtype == np.float64
    layer = nn.LSTM(2, 3).to(np.float64)
    assert layer(np.ones((2, 1, 2)))[0].dtype == np.float64
    with pytest.raises(mg.DTypeError, match="float32 or float64, got int64"):
        net.to(np.int64)


def test_the_optimisers_state_follows_the_dtype() -> None:
    """From the middle of training on in float64: as if state and weights had been converted."""
    net = nn.Linear(3, 2)
    optimizer = mg.optim.Adam(net.parameters(), 0.1)
    x = np.arange(12.0).reshape(4, 3) / 10

    def step(net: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        (net(x.astype(net.weight.dtype)) ** 2).sum().backward()
        optimizer.step()

    for _ in range(3):
        step(net, optimizer)
    other = nn.Linear(3, 2, dtype=np.float64)
    other.load_state_dict(net.state_dict())
    again = mg.optim.Adam(other.parameters(), 0.1)
    again.load_state_dict(optimizer.state_dict())
    net.to("float64")
    state = optimizer.state_dict()
    assert {v.dtype for v in state.values() if isinstance(v, np.ndarray)} == {np.dtype("float64")}
    for _ in range(3):
        step(net, optimizer)
        step(other, again)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    net.to(np.float32)
    step(net, optimizer)
    assert optimizer.state[0]["mean"].dtype == np.float32


def test_apply_visits_every_module() -> None:
    seen: list[str] = []
    net = Net().apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Net", "Embedding", "Linear", "Linear"]
    assert isinstance(net, Net)


def test_a_deep_copy_is_independent() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    twin.scale.data[0] = 9.0
    assert net.scale.tolist() == [1.0, 2.0]
    twin([1]).sum().backward()
    assert net.scale.grad is None


def test_repr_shows_the_tree() -> None:
    assert repr(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Dropout(0.5)))) == (
        "Sequential()\n"
        "  (0): Linear(3, 4)\n"
        "  (1): Sequential()\n"
        "    (0): Dropout(0.5)"
    )  # fmt: skip


def test_modules_run_in_a_scope_named_by_their_attribute() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            self.inner = Net()

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    with mg.Tape() as tape:
        Outer()([1])
    scopes = [node.scope for node in tape.nodes]
    assert scopes[0] == "inner/embed"
    assert scopes[-1] == "inner"


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Module defines no forward"):
        nn.Module()(1)
