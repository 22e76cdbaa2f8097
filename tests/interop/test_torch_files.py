"""Files of torch.save: read without torch, exactly, and without running what is in them."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop.models import same_bits
from interop.pickled import mapping, ones, storage, tensor, zipped

from minigrad import interop, nn
from minigrad.errors import StateDictError
from minigrad.interop import pickles

FOLDER = Path(__file__).resolve().parent
VALUES = dict(np.load(FOLDER / "torch_pt.npz"))  # what torch computed: tests/interop/torch_files.py
FOUR = np.array([0.5, -1.0, 2.0, 3.0], "<f4")


class Net(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(5, 2)
        self.rnn = nn.LSTM(2, 3, bidirectional=True, batch_first=True, mode="tape")

    def forward(self, words: Any) -> Any:
        return self.rnn(self.embed(words))[0]


def assert_computes(net: Net, y: str) -> None:
    np.testing.assert_allclose(net(VALUES["words"]).numpy(), VALUES[y], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------- what torch wrote


@pytest.mark.parametrize("name", ["torch_checkpoint.pt", "torch_1_5.pt"])
def test_a_net_from_torchs_file_computes_what_it_did_there(name: str) -> None:
    for path in (FOLDER / name, str(FOLDER / name)):
        net = Net()
        report = interop.load_torch(net, path, prefix="model.")
        assert report == ([], [])
        assert all(same_bits(VALUES[k], w) for k, w in net.state_dict().items())
        assert_computes(net, "y")


def test_a_checkpoint_is_read_as_it_was_saved() -> None:
    found = interop.read_torch_file(FOLDER / "torch_checkpoint.pt")
    assert {name: found[name] for name in ("epoch", "best", "note", "sizes")} == {
        "epoch": 3, "best": 0.5, "note": None, "sizes": (5, 2),
    }  # fmt: skip
    (adam,) = found["optimizer_states"]
    assert adam["param_groups"][0]["lr"] == 0.1
    assert adam["state"][0]["exp_avg"].shape == (5, 2)
    assert same_bits(found["state_dict"]["model.embed.weight"], VALUES["embed.weight"])
    weights = interop.read_torch_file(FOLDER / "torch_checkpoint.pt", entry="state_dict")
    assert list(weights) == list(found["state_dict"])
    one = interop.read_torch_file(FOLDER / "torch_checkpoint.pt", "optimizer_states.0.state.0.step")
    assert one == 1


def test_tensors_of_every_kind_and_layout_have_their_values() -> None:
    found = interop.read_torch_file(FOLDER / "torch_tensors.pt")
    for name, w in found.items():
        if name != "tied":
            np.testing.assert_array_equal(w.astype(np.float32), VALUES[f"{name}!"])
    kinds = {name: str(w.dtype) for name, w in found.items() if w.dtype != np.float32}
    assert kinds == {
        "tail": "float64", "bool": "bool", "byte": "uint8", "short": "int16", "number": "int64",
    }  # fmt: skip
    assert found["number"] == 2**40
    assert np.signbit(found["half"][1])
    found["tied"][0, 0] = 7.0
    assert found["parameter"][0, 0] == 7.0


def test_norms_of_both_kinds_are_folded_and_data_parallel_taken_off() -> None:
    net = Net()
    interop.load_torch(net, FOLDER / "torch_normed.pt")
    assert_computes(net, "y_normed")
    found = interop.from_torch_state_dict(FOLDER / "torch_normed.pt", prefix="rnn.")
    assert found.keys() == net.rnn.state_dict().keys()


def test_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert len(interop.read_torch_file(FOLDER / "torch_1_5.pt")) == 9


def test_with_torch_there_a_file_that_it_writes_now_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="writes the file")
    theirs = torch.nn.GRU(3, 2, num_layers=2)
    for new in (True, False):
        torch.save(theirs.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        layer = nn.GRU(3, 2, num_layers=2)
        interop.load_torch(layer, tmp_path / "a.pt")
        assert all(
            same_bits(w.numpy(), layer.state_dict()[k]) for k, w in theirs.state_dict().items()
        )


# ---------------------------------------------------------------------------------- written by hand


def test_a_file_by_hand_has_the_values_at_its_strides(tmp_path: Path) -> None:
    of = storage("0", 4)
    tree = mapping(
        turned=tensor(of, [2, 2], [1, 2]), last=tensor(of, [], [], 3), old=tensor(of, [1], [7], 1)
    )
    for order in ("<", ">"):
        parts = {"data__0": FOUR.astype(f"{order}f4").tobytes()}
        parts |= {"byteorder": b"big"} if order == ">" else {}
        found = interop.read_torch_file(zipped(tmp_path / "a.pt", tree, "any name", **parts))
        assert found["turned"].tolist() == [[0.5, 2.0], [-1.0, 3.0]]
        assert found["last"] == 3.0
        assert found["last"].shape == ()
        assert found["old"].tolist() == [-1.0]


def test_plain_trees_of_every_protocol_are_read(tmp_path: Path) -> None:
    shared = [1]
    tree = {
        "numbers": [0, -1, 255, 65536, 2**31, -(2**63), 10**20, 0.5, True, False, None],
        "texts": ("", "ü", "x" * 300, b"bytes", bytes(300)),
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "ordered": OrderedDict([(1, {"a": {}}), (None, [[]])]),
        "shared": [shared, shared],
    }
    for protocol in range(6):
        data = pickle.dumps(tree, protocol)
        if protocol < 3:  # bytes are a call of _codecs.encode there
            data = pickle.dumps(tree | {"texts": ("", "ü")}, protocol)
        found = interop.read_torch_file(zipped(tmp_path / "a.pt", data))
        assert found == pickle.loads(data)
        assert found["shared"][0] is found["shared"][1]


# ------------------------------------------------------------------------------ nothing is executed


class Runs:
    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Attributes:
    def __init__(self) -> None:
        self.a = 1


class Dictionary(dict[str, int]):
    pass


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_run_and_what_would_be_is_named(
    tmp_path: Path, protocol: int
) -> None:
    mark = tmp_path / "mark"
    for value, name in (
        (Runs(os.system, f"touch {mark}"), f"{os.name}.system"),
        (Runs(exec, f"open({str(mark)!r}, 'w')"), "exec"),
        (Runs(getattr, Runs(__import__, "os"), "system"), "getattr"),
        (Runs(Path.touch, mark), "getattr" if protocol < 4 else "Path.touch"),
        (Attributes(), "_reconstructor" if protocol < 2 else "Attributes"),
        (Dictionary(a=1), "_reconstructor" if protocol < 2 else "Dictionary"),
        ({1, 2}, "set"),
        (frozenset([1]), "frozenset"),
        (OrderedDict, "collections.OrderedDict"),
    ):
        tree = {"epoch": 1, "deep": {"er": [0, value]}}
        path = zipped(tmp_path / "a.pt", pickle.dumps(tree, protocol))
        with pytest.raises(interop.FormatError, match="nothing is run") as caught:
            interop.read_torch_file(path)
        assert name in str(caught.value)
        assert "'deep.er.1'" in str(caught.value)
        assert interop.read_torch_file(path, "epoch") == 1
        path.write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(interop.FormatError, match="begins as no file of torch"):
            interop.read_torch_file(path)
        assert not mark.exists()


def test_the_same_file_would_run_in_a_pickles_own_loader(tmp_path: Path) -> None:
    data = pickle.dumps({"a": Runs(Path.touch, tmp_path / "mark")})
    with pytest.raises(interop.FormatError):
        interop.read_torch_file(zipped(tmp_path / "a.pt", data))
    assert not (tmp_path / "mark").exists()
    pickle.loads(data)
    assert (tmp_path / "mark").exists()


def test_the_error_says_which_entry_can_be_read(tmp_path: Path) -> None:
    weights = mapping(weight=ones(), bias=ones())
    tree = mapping(state_dict=weights, hyper_parameters=b"cargparse\nNamespace\n)R")
    path = zipped(tmp_path / "a.ckpt", tree, data__0=FOUR.tobytes())
    with pytest.raises(interop.FormatError) as caught:
        interop.load_torch(nn.Linear(1, 4), path)
    assert "'argparse.Namespace' at 'hyper_parameters'" in str(caught.value)
    assert "entry='state_dict' reads only those weights" in str(caught.value)
    found = interop.from_torch_state_dict(path, entry="state_dict")
    assert found["weight"].tolist() == FOUR.tolist()
    with pytest.raises(interop.FormatError, match=r"no entry 'x'; it has 'state_dict', 'hyper_"):
        interop.read_torch_file(path, "x")


def test_a_whole_model_a_program_and_an_npz_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.pt", b"c__main__\nNet\n)\x81}b")
    with pytest.raises(interop.FormatError, match=r"'__main__.Net'.*model.state_dict\(\)"):
        interop.load_torch(nn.Linear(1, 1), path)
    path = zipped(tmp_path / "a.pt", b"}", code____main__="")
    with pytest.raises(interop.FormatError, match=r"TorchScript.*torch.jit.load"):
        interop.read_torch_file(path)
    np.savez(tmp_path / "a.npz", w=np.ones(2))
    with pytest.raises(interop.FormatError, match=r"give dict\(numpy\.load\(path\)\)"):
        interop.read_torch_file(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (tensor(storage("0", 4), [2], [4]), "buffer"),  # reads behind the storage
        (tensor(storage("0", 4), [2], [1], 3), "buffer"),
        (tensor(storage("0", 4), [2], [2**62]), "dimension exceeded"),
        (tensor(storage("0", 4), [2], [-1], 1), "whole number"),
        (tensor(storage("0", 4), [-2], [1]), "whole number"),
        (tensor(storage("0", 4), [2, 2], [1]), "2 axes and 1 strides"),
        (tensor(storage("0", 4), [10**12], [0]), "more elements than are stored"),
        (tensor(storage("0", 5), [4], [1]), "of another size"),
        (tensor(storage("1", 4), [4], [1]), "is missing"),
        (tensor(storage("../../etc/passwd", 4), [4], [1]), "is missing"),
        (tensor(b"N", [4], [1]), "stands on a NoneType"),
        (b"]q\x00h\x00a", "holds itself"),
        (b"]" * 5000 + b"a" * 4999, "nested more than 100 deep"),
        (
            b"](" + ones() + tensor(storage("0", 1, "torch\nDoubleStorage"), [1], [1]) + b"e",
            "two ways",
        ),
        (b"a", "IndexError"),
        (b"h\x07", "KeyError"),
        (b"t", "IndexError"),
        (b"ctorch\nSize\n(" + b"N" * 99 + b"tR", "other arguments than it has"),
        (b"(" + b"N" * 99 + b"tQ", "named otherwise"),
        (b"ccollections\nOrderedDict\n(]tR", "OrderedDict, as Python 2"),
        (b"\x86", "takes more than it has put"),
        (b"}I1\na", "appends to a dict"),
        (b"]I1\nI2\ns", "puts a key into a list"),
        (b"I1\n)R", "calls a int"),
        (b"Pname\n", "PERSID"),
        (b"\xff", "opcode"),
        (b"\x8a\xff", "no whole"),
        (b"\x8e" + b"\xff" * 7 + b"\x7f", "no whole"),
    ],
)
def test_what_is_no_tree_of_tensors_is_refused_in_one_line(
    tmp_path: Path, tree: bytes, said: str
) -> None:
    path = zipped(tmp_path / "a.pt", tree, data__0=FOUR.tobytes())
    with pytest.raises(interop.FormatError, match=said) as caught:
        interop.read_torch_file(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_pickle_has_so_many_instructions_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "MOST", 1000)
    for count, said in ((990, None), (1010, "more than 1,000 instructions")):
        path = zipped(tmp_path / "a.pt", b"](" + b"N" * count + b"e")
        if said is None:
            assert len(interop.read_torch_file(path)) == count
        else:
            with pytest.raises(interop.FormatError, match=said):
                interop.read_torch_file(path)


def test_very_deep_tuples_are_neither_hashed_nor_walked(tmp_path: Path) -> None:
    deep = b")" + b"\x85" * 150_000
    path = tmp_path / "a.pt"
    for tree, said in (
        (deep, "nested more than 100 deep"),
        (b"}" + deep + b"Ns", "a key that is a tuple"),
        (b"ctorch\nSize\n" + deep + b"\x85R", "nested more than 100 deep"),
    ):
        with pytest.raises(interop.FormatError, match=said):
            interop.read_torch_file(zipped(path, tree))
    heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}]
    path.write_bytes(b"".join(pickle.dumps(x, 2) for x in heads) + b"\x80\x02]" + deep + b"a.")
    with pytest.raises(interop.FormatError, match="a storage is called a tuple"):
        interop.read_torch_file(path)


def test_a_list_named_a_billion_times_is_made_once(tmp_path: Path) -> None:
    tree = b"]q\x00"
    for _ in range(40):
        tree = b"](" + tree + b"2e"  # [x, x]
    found = interop.read_torch_file(zipped(tmp_path / "a.pt", tree))
    assert found[0] is found[1]


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    for name in ("torch_1_5.pt", "torch_tensors.pt"):
        whole = (FOLDER / name).read_bytes()
        for end in [*range(0, len(whole), 61), len(whole) - 1]:
            (tmp_path / "cut.pt").write_bytes(whole[:end])
            with pytest.raises(interop.FormatError) as caught:
                interop.read_torch_file(tmp_path / "cut.pt")
            assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------- which weights, which names


def test_weights_in_one_place_are_found_and_in_several_asked_for(tmp_path: Path) -> None:
    weights = {"weight": np.ones((4, 1), np.float32), "bias": np.ones(4, np.float32)}
    rest = {"epoch": 3, "rng": {"cpu": np.ones(9, np.uint8)}, "best": {"a": np.float32(1)}}
    for tree in (weights, {"model": weights} | rest, {"a": {"b.c": weights}} | rest):
        layer = nn.Linear(1, 4)
        interop.load_torch(layer, tree)
        assert layer.weight.numpy().all()
    two = {"encoder": weights, "decoder": {k: 2 * w for k, w in weights.items()}}
    with pytest.raises(interop.ConversionError, match=r"'encoder', 'decoder'.*entry='encoder'"):
        interop.load_torch(nn.Linear(1, 4), two)
    layer = nn.Linear(1, 4)
    interop.load_torch(layer, two, entry="decoder")
    assert (layer.weight.numpy() == 2).all()
    with pytest.raises(interop.ConversionError, match="no entry 'x'; there are 'encoder'"):
        interop.load_torch(layer, two, entry="x")


def test_a_prefix_that_fits_is_named(tmp_path: Path) -> None:
    path = FOLDER / "torch_checkpoint.pt"
    for strict in (True, False):
        for net, prefix in ((Net(), "model."), (Net().rnn, "model.rnn.")):
            with pytest.raises(StateDictError, match=f"give prefix={prefix!r}"):
                interop.load_torch(net, path, strict=strict)


def test_all_prefixes_that_fit_by_names_and_shapes_are_named() -> None:
    state: dict[str, Any] = {}
    for prefix, size in (("a.", 3), ("b.", 1), ("c.d.", 1)):
        state |= {f"{prefix}{k}": w for k, w in nn.Linear(size, 4).state_dict().items()}
    with pytest.raises(StateDictError, match=r"below 'b\.' \(and below 'c\.d\.'\): give prefix='b"):
        interop.load_torch(nn.Linear(1, 4), state)
    with pytest.raises(StateDictError, match=r"below 'a\.' \(and below 'b\.', 'c\.d\.'\)"):
        interop.load_torch(nn.Linear(7, 4), state)  # none has the shapes


def test_a_renaming_that_fits_is_named_and_fits() -> None:
    theirs = {"net.tokens": nn.Embedding(5, 2), "net.lstm": nn.LSTM(2, 3, bidirectional=True)}
    state = {f"{k}.{name}": w for k, m in theirs.items() for name, w in m.state_dict().items()}
    net, renaming = Net(), {"net.tokens": "embed", "net.lstm": "rnn"}
    with pytest.raises(StateDictError) as caught:
        interop.load_torch(net, state)
    assert str(caught.value).endswith(f"rename={renaming}.")
    interop.load_torch(net, state, rename=renaming)
    twice = state | {"other.weight": state["net.tokens.weight"]}
    with pytest.raises(StateDictError) as caught:
        interop.load_torch(net, twice)
    assert "rename" not in str(caught.value)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("rnn.", "rnn._orig_mod."),
    ],
)
def test_wrappers_of_torch_are_taken_off(wrapped: Any) -> None:
    state = {wrapped(name): w for name, w in Net().state_dict().items()}
    net = Net()
    interop.load_torch(net, state)
    interop.load_torch(net.rnn, state, prefix="rnn.")
    first = next(iter(state))
    interop.from_torch_state_dict(state, prefix=first[: -len("weight")])


def test_a_module_called_module_keeps_its_name() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            self.module = nn.Linear(1, 4)

    state = {"module.weight": np.ones((4, 1)), "module.bias": np.ones(4)}
    interop.load_torch(Holder(), state)
    interop.load_torch(nn.Linear(1, 4), state)
    renamed = interop.from_torch_state_dict(state, rename={"module": "head"})
    assert list(renamed) == ["head.weight", "head.bias"]


def test_parameters_called_g_and_v_or_without_their_other_part_are_no_weight_norm() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            self.w_g, self.w_v = nn.Parameter(np.ones((2, 1))), nn.Parameter(np.ones((2, 3)))

    own, state = Own(), {"w_g": np.full((2, 1), 2.0), "w_v": np.full((2, 3), 3.0)}
    interop.load_torch(own, state)
    assert own.w_v.numpy().max() == 3
    for kept in ({"w_g": np.ones(2), "w_v": np.ones((2, 3))}, {"w_g": np.ones(2)}, {"w_v": 1.0}):
        assert interop.from_torch_state_dict(kept).keys() == kept.keys()


def test_a_pruned_weight_is_masked() -> None:
    state = {"weight_orig": FOUR.reshape(4, 1), "weight_mask": np.array([[0], [1], [1], [0]])}
    layer = nn.Linear(1, 4, bias=False)
    interop.load_torch(layer, state)
    assert layer.weight.numpy().ravel().tolist() == [0.0, -1.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("parts", "call"),
    [
        (("parametrizations.weight.original", "parametrizations.weight.0.base"), "remove_param"),
        (("weight_orig", "weight_u", "weight_v"), "remove_spectral_norm"),  # which axis is u's?
    ],
)
def test_parts_that_do_not_say_how_they_are_computed_are_refused(
    parts: tuple[str, ...], call: str
) -> None:
    state = {f"head.{name}": np.ones((2, 2), np.float32) for name in parts}
    with pytest.raises(interop.ConversionError, match=f"'0.weight' is kept as.*{call}"):
        interop.load_torch(nn.Sequential(nn.Linear(2, 2)), state, rename={"head": "0"})


# ------------------------------------------------------------------------- files of other libraries


def test_safetensors_and_models_in_several_files_are_read_by_path(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="writes the files")
    layer, again = nn.Linear(1, 4), nn.Linear(1, 4)
    state = layer.state_dict()
    whole = interop.save_safetensors(tmp_path / "whole.safetensors", layer)
    interop.save_safetensors(tmp_path / "1.safetensors", {"weight": state["weight"]})
    zipped(tmp_path / "2.bin", mapping(bias=ones()), data__0=state["bias"].tobytes())
    index = tmp_path / "model.index.json"
    index.write_text(
        json.dumps({"metadata": {}, "weight_map": {"weight": "1.safetensors", "bias": "2.bin"}})
    )
    for path in (whole, index):
        interop.load_torch(again, path)
        assert all(same_bits(state[k], w) for k, w in again.state_dict().items())
        again = nn.Linear(1, 4)
        with pytest.raises(interop.FormatError, match="leave entry out"):
            interop.load_torch(again, path, entry="state_dict")
    for part in ("../2.bin", "/etc/passwd", "none.bin", 7):
        index.write_text(json.dumps({"weight_map": {"weight": part}}))
        with pytest.raises(interop.FormatError):
            interop.load_torch(again, index)
