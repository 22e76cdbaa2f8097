"""The files here that torch wrote: `python tests/interop/torch_files.py [onnx] [pt]`.

Needs torch 2.13, and onnxscript for the first; the tests only read the files. Each model of an
.onnx file is words (B, T) -> embedding -> two layers in both directions -> linear -> log_softmax,
with the values it gives for `words` in the .npz of the same name. The .pt files hold one embedding
and LSTM, in a checkpoint, in the format from before PyTorch 1.6, and with both kinds of weight_norm
and spectral_norm inside DataParallel; torch_pt.npz has what they compute, and their tensors.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
FILES = {"torch_lstm": ("LSTM", False), "torch_gru_dynamo": ("GRU", True)}  # kind, exporter


def write_onnx() -> None:
    import onnx
    import torch

    class Tagger(torch.nn.Module):
        def __init__(self, kind: str):
            super().__init__()
            self.embed = torch.nn.Embedding(7, 3)
            self.rnn = getattr(torch.nn, kind)(3, 5, 2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(10, 3)

        def forward(self, words: Any) -> Any:
            return torch.log_softmax(self.head(self.rnn(self.embed(words))[0]), -1)

    for name, (kind, dynamo) in FILES.items():
        torch.manual_seed(0)
        model, words = Tagger(kind).eval(), torch.randint(0, 7, (3, 5))
        if dynamo:
            axes = {0: torch.export.Dim("B"), 1: torch.export.Dim("T")}
            options: dict[str, Any] = dict(dynamo=True, dynamic_shapes=(axes,))
        else:
            options = dict(dynamo=False, dynamic_axes={"words": {0: "B", 1: "T"}})
        names: dict[str, Any] = dict(input_names=["words"], output_names=["y"])
        path = str(FOLDER / f"{name}.onnx")
        torch.onnx.export(model, (words,), path, external_data=False, **names, **options)
        made = onnx.load(path)
        for said in (*made.graph.node, *made.graph.value_info):  # where it was called from
            del said.metadata_props[:]
        onnx.save(made, path)
        other = torch.randint(0, 7, (2, 3))
        np.savez_compressed(
            FOLDER / f"{name}.npz",
            words=words.numpy(),
            y=model(words).detach().numpy(),
            other_words=other.numpy(),
            other_y=model(other).detach().numpy(),
        )


def write_pt() -> None:
    import torch
    from torch.nn.utils import parametrizations, spectral_norm, weight_norm

    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 2)})
    net["rnn"] = torch.nn.LSTM(2, 3, bidirectional=True, batch_first=True)
    words = torch.randint(0, 5, (3, 7))
    before = net["rnn"](net["embed"](words))[0]
    before.sum().backward()
    adam = torch.optim.Adam(net.parameters(), 0.1)
    adam.step()
    values = {"words": words, "y": net["rnn"](net["embed"](words))[0]}
    values |= {name: w.clone() for name, w in net.state_dict().items()}
    weights = {f"model.{name}": w for name, w in net.state_dict().items()}
    whole = {"epoch": 3, "best": 0.5, "note": None, "sizes": torch.Size([5, 2])}
    whole |= {"state_dict": weights, "optimizer_states": [adam.state_dict()]}
    torch.save(whole, FOLDER / "torch_checkpoint.pt")
    torch.save(weights, FOLDER / "torch_1_5.pt", _use_new_zipfile_serialization=False)
    tensors = {
        "turned": torch.arange(6.0).view(2, 3).t(),
        "tail": torch.arange(7.0, dtype=torch.float64)[3::2],
        "half": torch.tensor([1.5, -0.0, 65504.0], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.5, 1e30], dtype=torch.bfloat16),
        "bool": torch.tensor([[True, False]]),
        "byte": torch.tensor([0, 255], dtype=torch.uint8),
        "short": torch.tensor([-7, 2**15 - 1], dtype=torch.int16),
        "number": torch.tensor(2**40),
        "empty": torch.zeros(0, 3),
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }
    tied = tensors["parameter"]
    torch.save(tensors | {"tied": tied}, FOLDER / "torch_tensors.pt")
    values |= {f"{name}!": w.detach().float() for name, w in tensors.items()}
    parametrizations.weight_norm(net["rnn"], "weight_hh_l0")
    parametrizations.weight_norm(net["rnn"], "weight_ih_l0_reverse", dim=1)
    weight_norm(net["rnn"], "weight_hh_l0_reverse", dim=None)
    parametrizations.spectral_norm(net["rnn"], "weight_ih_l0")
    spectral_norm(net["embed"])
    net["rnn"](net["embed"](words))
    net.eval()
    with torch.no_grad():
        for w in net.parameters():
            w *= 1.5
    values["y_normed"] = net["rnn"](net["embed"](words))[0]
    torch.save({f"module.{k}": w for k, w in net.state_dict().items()}, FOLDER / "torch_normed.pt")
    np.savez_compressed(
        FOLDER / "torch_pt.npz", **{k: np.asarray(w.detach()) for k, w in values.items()}
    )


if __name__ == "__main__":
    for kind in sys.argv[1:]:
        {"onnx": write_onnx, "pt": write_pt}[kind]()
