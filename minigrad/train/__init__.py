"""Training: a loop to read in one sitting, and checkpoints that a killed run goes on from."""

from ..othernames import TRAIN, absent
from .checkpoint import CheckpointError, load, save
from .log import LogError
from .log import whole_lines as read_log
from .loop import Fitted, Run, TrainingError, fit

__all__ = [
    "CheckpointError",
    "Fitted",
    "LogError",
    "Run",
    "TrainingError",
    "fit",
    "load",
    "read_log",
    "save",
]

__getattr__ = absent("minigrad.train", __all__, TRAIN)
