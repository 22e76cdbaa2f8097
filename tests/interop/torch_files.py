"""The .onnx files here that torch's own exporters wrote: `python tests/interop/torch_files.py`.

Needs torch 2.13 and onnxscript; the tests only read the files. Each model is words (B, T) ->
embedding -> two layers in both directions -> linear -> log_softmax, with the values it gives for
`words` in the .npz of the same name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
FILES = {"torch_lstm": ("LSTM", False), "torch_gru_dynamo": ("GRU", True)}  # kind, exporter


def write() -> None:
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
        other = torch.randint(0, 7, (2, 3))
        np.savez_compressed(
            FOLDER / f"{name}.npz",
            words=words.numpy(),
            y=model(words).detach().numpy(),
            other_words=other.numpy(),
            other_y=model(other).detach().numpy(),
        )


if __name__ == "__main__":
    write()
