"""Gradient flow: what a loss sends back to every time step, as numbers, a verdict and drawings."""

from ..errors import FlowError
from ..othernames import absent
from . import notebook, plots, terminal
from .credit import Credit
from .cuts import Cut, Depth
from .diagnosing import Cause, causes
from .drawing import Drawing, DrawingError, draw
from .engines import NoEngineWarning, RenderError, find_engine
from .exponents import Lyapunov, kaplan_yorke, lyapunov
from .finitetime import FiniteTime, finite_time_exponents
from .fixedpoints import fixed_points
from .given import replay
from .history import History
from .influence import Sensitivities, sensitivities
from .interactive import Connectivity, Sliders, connectivity, sliders
from .intervening import intervene
from .jacobian import Jacobians, jacobians, singular_values, spectral_radius
from .layerflow import Activation, LayerFlow, Nonfinite
from .linearised import FixedPoints
from .monitor import Monitor
from .monitorfile import MonitorWarning, read_monitor
from .pairs import Change, Comparison, compare
from .prescribing.prescription import Prescription
from .prescribing.remedy import Remedy
from .prescribing.trying import prescribe
from .probes import probe, record
from .products import PrecisionWarning
from .recording import Recording
from .reporting import Report, report
from .saving import load
from .showing import show
from .verdict import Fit, Thresholds, Verdict, fit_decay, judge
from .weights import WeightFlow
from .writers import TensorBoardWriter, WandbWriter, Writer

__all__ = [
    "Activation",
    "Cause",
    "Credit",
    "Change",
    "Comparison",
    "Connectivity",
    "Cut",
    "Depth",
    "Drawing",
    "DrawingError",
    "FiniteTime",
    "Fit",
    "FixedPoints",
    "FlowError",
    "History",
    "Jacobians",
    "LayerFlow",
    "Lyapunov",
    "Monitor",
    "MonitorWarning",
    "PrecisionWarning",
    "NoEngineWarning",
    "Nonfinite",
    "Prescription",
    "Recording",
    "Remedy",
    "RenderError",
    "Report",
    "Sensitivities",
    "Sliders",
    "TensorBoardWriter",
    "Thresholds",
    "Verdict",
    "WandbWriter",
    "WeightFlow",
    "Writer",
    "causes",
    "compare",
    "connectivity",
    "draw",
    "find_engine",
    "finite_time_exponents",
    "fit_decay",
    "fixed_points",
    "intervene",
    "jacobians",
    "judge",
    "kaplan_yorke",
    "load",
    "lyapunov",
    "notebook",
    "plots",
    "prescribe",
    "probe",
    "read_monitor",
    "record",
    "record_jax",
    "record_keras",
    "record_torch",
    "replay",
    "report",
    "sensitivities",
    "show",
    "singular_values",
    "sliders",
    "spectral_radius",
    "tap_torch",
    "terminal",
]

# What needs another framework is imported when it is asked for.
_LATER = {
    "record_jax": "recorded_jax",
    "record_keras": "recorded_keras",
    "record_torch": "recorded_torch",
    "tap_torch": "tapped_torch",
}
__getattr__ = absent("minigrad.flow", __all__, {}, later=_LATER)
