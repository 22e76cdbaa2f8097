"""torch's state_dicts in and out: the same functions, or a reason why not. torch is not needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden.store import Case, cases
from interop.models import LAYERS, TAPE, same_bits, same_states

from minigrad import interop, nn
from minigrad.errors import StateDictError

CASES = {
    name: case
    for name, case in cases("recurrent").items()
    if case.options["lengths"] is None and case.arrays["x"].ndim == 3
}
KINDS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class FakeTensor:
    """What a torch Tensor on a GPU is for minigrad: detach, then cpu, then numpy."""

    def __init__(self, array: Any, done: tuple[str, ...] = (), dtype: str = "torch.float32"):
        self.array, self.done, self.dtype = np.asarray(array), done, dtype

    def detach(self) -> FakeTensor:
        return FakeTensor(self.array, (*self.done, "detach"), self.dtype)

    def cpu(self) -> FakeTensor:
        return FakeTensor(self.array, (*self.done, "cpu"), self.dtype)

    def float(self) -> FakeTensor:
        return FakeTensor(self.array.astype(np.float32), self.done)

    def numpy(self) -> np.ndarray:
        assert self.done == ("detach", "cpu")
        assert self.dtype != "torch.bfloat16", "torch: Got unsupported ScalarType BFloat16"
        return self.array


def torch_state(case: Case) -> dict[str, FakeTensor]:
    names = [k for k in case.arrays if k.startswith(("weight", "bias"))]
    return {name: FakeTensor(case.arrays[name]) for name in names}


def layer_of(case: Case, **changed: Any) -> nn.Recurrent:
    options = {k: v for k, v in case.options.items() if k not in ("kind", "lengths")} | changed
    kind = case.options["kind"].partition("_")[0]
    layer: nn.Recurrent = KINDS[kind](**options, dtype=np.float64, **TAPE)
    return layer


@pytest.mark.parametrize("name", CASES)
def test_a_layer_with_torchs_weights_gives_torchs_outputs(name: str) -> None:
    case = CASES[name]
    gru = case.options["kind"] == "gru"
    for changed in ({}, {"update": "write"}) if gru else ({},):
        layer = layer_of(case, **changed)
        interop.load_torch(layer, torch_state(case))
        state = case.arrays.get("h_0")
        if "c_0" in case.arrays:
            state = (state, case.arrays["c_0"])
        y, _ = layer(case.arrays["x"], state)
        np.testing.assert_allclose(y.numpy(), case.arrays["output"], rtol=1e-10, atol=1e-10)
        back = interop.to_torch_state_dict(layer)
        assert all(same_bits(back[k], v.array) for k, v in torch_state(case).items())
        arguments = interop.torch_arguments(layer)[1]
        assert all(arguments[k] == v for k, v in case.options.items() if k in arguments)


@pytest.mark.parametrize("name", [name for name in LAYERS if "before" not in name])
def test_layers_come_back_from_torchs_names_with_the_same_bits(name: str) -> None:
    for sizes in ((1, 1), (3, 5)):
        layer, again = (LAYERS[name](*sizes, num_layers=2, bidirectional=True) for _ in range(2))
        interop.load_torch(again, interop.to_torch_state_dict(layer))
        assert same_states(layer, again)


def test_prefixes_and_names_of_modules_are_mapped_both_ways() -> None:
    class Ours(nn.Module):
        def __init__(self) -> None:
            self.embed, self.gru = nn.Embedding(5, 3), nn.GRU(3, 2, update="write")
            self.head = nn.Linear(2, 4)

    ours, again = Ours(), Ours()
    names = {"embed": "encoder.tokens", "gru": "encoder.rnn", "head": "encoder"}
    theirs = interop.to_torch_state_dict(ours, prefix="model.", rename=names)
    assert [k for k in theirs if "gru" in k or "head" in k] == []
    assert theirs["model.encoder.rnn.weight_ih_l0"].shape == (6, 3)
    assert theirs["model.encoder.weight"].shape == (4, 2)
    theirs |= {"loss.weight": np.ones(3)}  # not below the prefix
    back = {new: old for old, new in names.items()}
    interop.load_torch(again, theirs, prefix="model.", rename=back)
    assert same_states(ours, again)
    renamed = interop.from_torch_state_dict({"encoders.w": 1.0}, rename={"encoder": "x"})
    assert list(renamed) == ["encoders.w"]  # whole parts of a name only
    with pytest.raises(interop.ConversionError, match=r"two entries would be called 'b\.w'"):
        interop.from_torch_state_dict({"a.w": 1.0, "b.w": 1.0}, rename={"a": "b"})
    with pytest.raises(interop.ConversionError, match=r"no name begins with 'other\.'"):
        interop.from_torch_state_dict(theirs, prefix="other.")


def test_half_precision_is_widened_exactly() -> None:
    values = [1.5, -0.0, 65504.0]
    for kind in ("torch.bfloat16", "torch.float16"):
        (found,) = interop.from_torch_state_dict({"w": FakeTensor(values, dtype=kind)}).values()
        assert found.dtype == np.float32
        assert found.tolist() == values
    (found,) = interop.from_torch_state_dict({"w": np.array(values, np.float16)}).values()
    assert found.dtype == np.float32


def test_shared_parameters_go_under_both_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    assert list(interop.to_torch_state_dict(Tied())) == ["embed.weight", "head.weight"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.GRU(3, 2, reset_after=False), r"GRU l0: torch.nn's GRU resets after"),
        (nn.GRUCell(3, 2, reset_after=False), "resets after"),
        (nn.LSTM(3, 2, bidirectional=True, merge="sum"), "merge='sum' is minigrad's"),
        (nn.LSTMCell(3, 5, proj_size=2), "LSTMCell has no proj_size"),
        (nn.Recurrent(lambda size: nn.MinGRUCell(size, 2), 3), "torch.nn has no MinGRUCell"),
        (nn.PeepholeLSTMCell(3, 2), "torch.nn has no PeepholeLSTMCell"),
        (nn.Sequential(nn.Linear(2, 2), nn.IRNNCell(3, 2)), r"1 .IRNNCell.: torch.nn has no"),
    ],
)
def test_what_torch_lacks_is_refused_with_the_reason(module: nn.Module, reason: str) -> None:
    with pytest.raises(interop.ConversionError, match=reason):
        interop.to_torch_state_dict(module)
    with pytest.raises(interop.ConversionError, match=reason):
        interop.load_torch(module, module.state_dict())


def test_cells_that_differ_are_no_layer_of_torchs() -> None:
    kinds = iter(["tanh", "relu"])
    mixed = nn.Recurrent(lambda size: nn.RNNCell(size, 2, nonlinearity=next(kinds)), 3, 2)
    with pytest.raises(interop.ConversionError, match="one nonlinearity"):
        interop.to_torch_state_dict(mixed)
    sizes = iter([2, 5])
    mixed = nn.Recurrent(lambda size: nn.GRUCell(size, next(sizes)), 3, 2)
    for convert in (interop.to_torch_state_dict, interop.to_keras_weights):
        with pytest.raises(interop.ConversionError, match="made of GRUCell of 2, GRUCell of 5"):
            convert(mixed)


def test_weights_are_copies() -> None:
    layer, w = nn.Embedding(2, 3), np.ones((2, 3), np.float32)
    for load in (
        lambda: interop.load_torch(layer, {"weight": w}),
        lambda: interop.load_keras_weights(layer, [w]),
    ):
        load()
        w[:] = 7
        assert layer.weight.numpy().max() == 1
        w[:] = 1
    interop.to_torch_state_dict(layer)["weight"][:] = 7
    interop.to_keras_weights(layer)[0][:] = 7
    assert layer.weight.numpy().max() == 1


def test_a_layer_of_ones_own_goes_by_its_names() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            self.scale, self.inner = nn.Parameter([2.0]), nn.Linear(2, 1)

    assert next(iter(interop.to_torch_state_dict(Own()))) == "scale"


def test_nothing_is_rounded_or_written_in_part() -> None:
    layer = nn.Linear(3, 2)
    kept = layer.state_dict()
    for state, error, reason in (
        ({"weight": np.full((2, 3), 0.1), "bias": np.ones(2)}, interop.ConversionError, "round"),
        ({"weight": np.full((2, 3), 1e300), "bias": np.ones(2)}, interop.ConversionError, "round"),
        ({"weight": np.ones((2, 3)), "bias": ["x"]}, interop.ConversionError, "'bias' is list"),
        ({"weight": np.ones((2, 3))}, StateDictError, "missing: 'bias'"),
        ({"weight": np.ones((2, 2)), "bias": np.ones(2)}, StateDictError, "mis-shaped"),
    ):
        with pytest.raises(error, match=reason):
            interop.load_torch(layer, state)  # type: ignore[arg-type]
        assert all(same_bits(kept[k], w) for k, w in layer.state_dict().items())
    # float64 that float32 has: nothing is lost.
    interop.load_torch(layer, {"weight": np.full((2, 3), 0.5), "bias": np.array([np.nan, np.inf])})
    assert layer.weight.numpy().tolist() == [[0.5] * 3] * 2


def test_what_has_no_names_is_no_state_dict() -> None:
    with pytest.raises(interop.ConversionError, match="expected a state_dict or the path"):
        interop.from_torch_state_dict([1.0])  # type: ignore[arg-type]


def test_other_layers_name_their_arguments() -> None:
    assert interop.torch_arguments(nn.LSTM(3, 5, proj_size=2))[1]["proj_size"] == 2
    assert interop.torch_arguments(nn.RNNCell(3, 5))[0] == "RNNCell"
    assert interop.torch_arguments(nn.Linear(3, 2, bias=False))[1]["bias"] is False
    assert interop.torch_arguments(nn.Embedding(3, 2, padding_idx=1))[1]["padding_idx"] == 1
    with pytest.raises(interop.ConversionError, match="got Dropout"):
        interop.torch_arguments(nn.Dropout(0.1))


def test_with_torch_there_real_tensors_load_into_torchs_own_layers(
    rng: np.random.Generator,
) -> None:
    torch = pytest.importorskip("torch", reason="makes the Tensors")
    for name in ("rnn", "rnn relu", "lstm", "gru", "gru write"):
        layer = LAYERS[name](3, 5, num_layers=2, bidirectional=True)
        cls, arguments = interop.torch_arguments(layer)
        theirs = getattr(torch.nn, cls)(**arguments)
        theirs.load_state_dict(interop.to_torch_state_dict(layer, tensors=True))
        x = rng.standard_normal((4, 3, 3)).astype(np.float32)
        expected = theirs(torch.from_numpy(x))[0].detach().numpy()
        np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=1e-5, atol=1e-6)
        again = LAYERS[name](3, 5, num_layers=2, bidirectional=True)
        interop.load_torch(again, theirs.state_dict())
        assert same_states(layer, again)


def test_without_torch_asking_for_tensors_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(interop.MissingPackageError, match="torch Tensors need the package torch"):
        interop.to_torch_state_dict(nn.Linear(3, 2), tensors=True)
