"""Gradient flow: what a loss sends back to every time step, as numbers, a verdict and drawings."""

from .drawing import Drawing, DrawingError, draw
from .layerflow import Activation, LayerFlow
from .probes import FlowError, Recording, probe, record
from .render import NoEngineWarning, RenderError, find_engine
from .tables import report
from .verdict import Fit, Thresholds, Verdict, fit_decay, judge

__all__ = [
    "Activation",
    "Drawing",
    "DrawingError",
    "Fit",
    "FlowError",
    "LayerFlow",
    "NoEngineWarning",
    "Recording",
    "RenderError",
    "Thresholds",
    "Verdict",
    "draw",
    "find_engine",
    "fit_decay",
    "judge",
    "probe",
    "record",
    "report",
]
