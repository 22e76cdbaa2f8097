"""Weights and models from and to other libraries, exactly or not at all.

    from minigrad import interop

    interop.save_safetensors("tagger.safetensors", model)
    model.load_state_dict(interop.load_safetensors("tagger.safetensors"))
    interop.load_torch(model, torch_model.state_dict())
    interop.load_torch(model, "last.ckpt", prefix="model.")
    interop.load_keras_weights(model, "tagger.weights.h5")
    interop.import_keras("tagger.keras")(words)
    interop.import_keras("weights.h5", config=keras_model.to_json())
    interop.export_onnx("tagger.onnx", interop.Chain(embed, lstm, head), lengths=True)
    interop.export_onnx("reader.onnx", model, inputs=(words,), axes={"words": ("T", "B")})
    interop.import_onnx("tagger.onnx")(x=words, lengths=lengths)["y"]
    interop.import_onnx("detector.onnx", only="recurrent").layers  # of a net with convolutions

What becomes what, in both directions:

    minigrad                     torch.nn             Keras 3                    ONNX
    RNN (tanh, relu)             RNN                  SimpleRNN                  RNN
    LSTM                         LSTM                 LSTM                       LSTM
    LSTM, proj_size              LSTM                 refused                    Scan
    GRU                          GRU                  GRU                        GRU, linear_before_
    GRU, reset_after=False       refused              GRU(reset_after=False)     reset 1, or 0
    GRU, update="write"          rows of z negated    rows of z negated          rows of z negated
    bidirectional, "concat"      the same             Bidirectional              one node
    merge "sum", "mean", "mul"   refused              merge_mode sum, ave, mul   Add, Mul
    num_layers                   the same             one layer each             one node each
    PeepholeLSTMCell             refused              refused                    LSTM with P
    CoupledLSTMCell              refused              refused                    Scan; input_forget
    any other cell, mg.scan      refused              refused                    Scan, or unrolled
    any Module, any op           -                    -                          nodes, by tracing
    Linear                       Linear               Dense                      MatMul, Add; Gemm
    Embedding                    Embedding            Embedding                  Gather
    LayerNorm                    LayerNorm            refused                    LayerNormalization
    lengths, initial states      -                    -                          inputs of the node

`import_keras` reads whole models, of Keras 2 and 3; their cells with other activations become
KerasRNNCell, KerasLSTMCell and KerasGRUCell.

Also refused, each with its reason: ONNX's clip, activations that minigrad's cells do not have,
peepholes together with input_forget; values that the other dtype would round (float64 weights for a
float32 layer); in PyTorch's files (.pt, .bin, .ckpt), which are pickles, everything but tensors,
numbers, texts, lists and dictionaries: they are read without running anything in them.

Exact means: the same function, and weights that come back with the same bits. Where a library has
one bias for minigrad's two, it is their sum; that comes back as one bias and zeros. How far results
agree is then a matter of each library's sums: 1e-6 in float32 (tests/interop measures it).
gates.py is the one table of gate orders and layouts that everything here uses.

An .onnx file is written of any forward pass that is made of minigrad's ops, by running it on an
example; what Python or NumPy would compute of a value is refused with its line. A loss is not
written.

An .onnx file may be of any opset from 7 on. What it computes of its weights alone is computed once,
as it is read; a weight that several nodes read is one Parameter; halves become float32; and a
quantised net one that rounds nothing where `dequantize=True` asks for it.

Extras: `pip install "minigrad-bptt[safetensors]"`, `[keras]` (h5py, for Keras's files), `[onnx]`.
"""

from .base import ConversionError, FormatError, MissingPackageError
from .chain import Chain
from .keras import keras_arguments, load_keras_weights, save_keras_weights, to_keras_weights
from .keras_archives import read_keras_weights
from .keras_cells import KerasGRUCell, KerasLSTMCell, KerasRNNCell
from .keras_claims import UncheckedActivationsWarning
from .keras_import import import_keras
from .keras_model import KerasModel
from .onnx_export import export_onnx
from .onnx_import import OnnxModel, import_onnx
from .pytorch import from_torch_state_dict, load_torch, to_torch_state_dict, torch_arguments
from .safetensors import StateFile, load_safetensors, save_safetensors
from .torch_files import read_torch_file

__all__ = [
    "Chain",
    "ConversionError",
    "FormatError",
    "KerasGRUCell",
    "KerasLSTMCell",
    "KerasModel",
    "KerasRNNCell",
    "MissingPackageError",
    "OnnxModel",
    "StateFile",
    "UncheckedActivationsWarning",
    "export_onnx",
    "from_torch_state_dict",
    "import_keras",
    "import_onnx",
    "keras_arguments",
    "load_keras_weights",
    "load_safetensors",
    "load_torch",
    "read_keras_weights",
    "read_torch_file",
    "save_keras_weights",
    "save_safetensors",
    "to_keras_weights",
    "to_torch_state_dict",
    "torch_arguments",
]
