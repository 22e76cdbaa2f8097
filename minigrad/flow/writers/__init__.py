"""What a Monitor measures, for TensorBoard and Weights & Biases, where they are installed.

with mg.flow.Monitor(model, writers=[mg.flow.TensorBoardWriter("runs/lstm")]) as monitor: ...
mg.flow.WandbWriter(project="lstm", mode="offline").copy("run.jsonl")      # of a run that was

loss                              what monitor.log() was given
weight/lstm.weight_hh_l0          and gradient/, update/; and .../f for each gate
log2 gradient/lstm.weight_hh_l0   a histogram of log2 |element|
saturation/lstm/l0/fwd/f          and opening/, the mean; dead/.../h, the share of dead units
reach/lstm/fwd                    and far over near/, verdict/, by cut
lag x update                      at the end, an image of |dL/dS| by lag (needs matplotlib)
"""

from .base import Writer
from .tensorboard import TensorBoardWriter
from .wandb import WandbWriter

__all__ = ["TensorBoardWriter", "WandbWriter", "Writer"]
