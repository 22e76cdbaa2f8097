"""Training: checkpoints that a killed run goes on from."""

from .checkpoint import CheckpointError, load, save

__all__ = ["CheckpointError", "load", "save"]
