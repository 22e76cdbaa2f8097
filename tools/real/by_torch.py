"""Weights under torch's names, compared with the packages' own nets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import interop, nn

from .case import Array, Found, indices, package, values


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


def state_of(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def compared(ours: nn.Module, theirs: Any, *inputs: Array) -> Found:
    import torch

    with torch.no_grad():
        expected = theirs(*map(torch.from_numpy, inputs)).numpy()
    return Found("weights", [(ours.eval()(*inputs).numpy(), expected)])


def tensor(array: Array) -> Any:
    import torch

    return torch.from_numpy(array)


def g2p_fa(path: Path) -> Found:
    made = package(path, "g2p_fa.model")
    parts = made.Encoder(41, 40, 256, 2, 0.2), made.Decoder(33, 40, 256, 2, 0.2)
    theirs = made.Seq2Seq(*parts, "cpu").eval()
    theirs.load_state_dict(state_of(path))
    ours = Seq2Seq()
    interop.load_torch(ours, path)
    sounds = indices(33, 8, 3)  # one more than it reads: what is written after the last
    return compared(
        ours, lambda x, _: theirs(x, tensor(sounds), 1)[1:], indices(41, 9, 3), sounds[:-1]
    )


def arabic_diacritizer(path: Path) -> Found:
    made = package(path, "diacritize.baseline.model").BiLSTMDiacritizer
    theirs = made(54).eval()
    theirs.load_state_dict(state_of(path))
    ours = AttentiveTagger(54, 128, 256, 3, 15)
    rename = {"embedding": "embed", "lstm": "rnn", "attention": "", "classifier": "head"}
    interop.load_torch(ours, path, rename=rename)
    return compared(ours, theirs, indices(54, 3, 50))


def arabic_morph_segmenter(path: Path) -> Found:
    name = "arabic_morph_segmenter.segmenter"
    made = package(path, name, without=["torchcrf"]).CharBiLSTMCRFSegmenter
    state = state_of(path)["model_state_dict"]
    words = len(state["embedding.weight"])
    theirs = made(words).eval()
    theirs.load_state_dict(state, strict=False)  # the CRF on top of the scores
    ours = Tagger(words, 128, 256, 2, 3)
    rename = {"embedding": "embed", "lstm": "rnn", "classifier": "head"}
    interop.load_torch(ours, path, rename=rename, strict=False, entry="model_state_dict")
    return compared(
        ours,
        lambda x: theirs.classifier(theirs.lstm(theirs.embedding(x))[0]),
        indices(words, 3, 20),
    )


def uzmorph_nn(path: Path) -> Found:
    theirs = package(path, "uzmorph_nn.model").MorphBiLSTM(49, 746).eval()
    theirs.load_state_dict(state_of(path))
    ours = Tagger(49, 64, 64, 2, 746)
    rename = {"char_embeddings": "embed", "lstm": "rnn", "hidden2tag": "head"}
    interop.load_torch(ours, path, rename=rename)
    return compared(ours, theirs, indices(49, 3, 20))


def resemblyzer(path: Path) -> Found:
    made = package(path, "resemblyzer.voice_encoder", without=["librosa", "webrtcvad"])
    theirs = made.VoiceEncoder("cpu", verbose=False, weights_fpath=path).eval()
    ours = SpeakerEncoder()
    interop.load_torch(ours, path, entry="model_state", strict=False)
    return compared(ours, theirs, np.abs(values(3, 160, 40)))


def silero_cell(path: Path) -> Found:
    import torch
    from safetensors.torch import load_file

    ours, theirs = nn.LSTMCell(128, 128), torch.nn.LSTMCell(128, 128)
    interop.load_torch(ours, path, prefix="lstm_cell.")
    start = "lstm_cell."
    theirs.load_state_dict(
        {n.removeprefix(start): w for n, w in load_file(path).items() if n.startswith(start)}
    )
    x, h, c = values(3, 3, 128)
    with torch.no_grad():
        expected = theirs(tensor(x), (tensor(h), tensor(c)))
    found, _ = ours(nn.LSTMState(h, c), x)
    return Found("weights", [(a.numpy(), b.numpy()) for a, b in zip(found, expected)])


# ------------------------------------------------------------------ nets in NumPy, of the packages


def g2p_en(path: Path) -> Found:
    unused = ["nltk", "nltk.corpus", "nltk.tokenize", "inflect"]
    module = package(path, "g2p_en.g2p", without=unused)
    theirs = object.__new__(module.G2p)
    theirs.load_variables()
    names = dict(w_ih="weight_ih_l0", w_hh="weight_hh_l0", b_ih="bias_ih_l0", b_hh="bias_hh_l0")
    state, pairs = np.load(path), []
    for part in ("enc", "dec"):
        held = {name: state[f"{part}_{name}"] for name in names}
        (_, size), (_, hidden) = held["w_ih"].shape, held["w_hh"].shape
        ours, x = nn.GRU(size, hidden, batch_first=True), values(3, 9, size)
        interop.load_torch(ours, {names[name]: w for name, w in held.items()})
        pairs.append((ours(x)[0].numpy(), theirs.gru(x, 9, **held)))
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
