"""Gradient flow: what a loss sends back to every time step, as numbers, a verdict and drawings."""

from .drawing import Drawing, DrawingError, draw
from .layerflow import Activation, LayerFlow, Nonfinite
from .probes import probe, record
from .recording import Recording
from .render import NoEngineWarning, RenderError, find_engine
from .replay import FlowError
from .reporting import Report, report
from .verdict import Fit, Thresholds, Verdict, fit_decay, judge
from .weights import WeightFlow

__all__ = [
    "Activation",
    "Drawing",
    "DrawingError",
    "Fit",
    "FlowError",
    "LayerFlow",
    "NoEngineWarning",
    "Nonfinite",
    "Recording",
    "RenderError",
    "Report",
    "Thresholds",
    "Verdict",
    "WeightFlow",
    "draw",
    "find_engine",
    "fit_decay",
    "judge",
    "probe",
    "record",
    "report",
]
