"""Figures of gradient flow with matplotlib (extra `plot`), in the colours of the drawings.

    mg.flow.plots.decay({"RNN": rec, "LSTM": other}).savefig("decay.png")

    decay            |dL/dh_t| by lag with the fitted decay          a Recording, or several by name
    compare          two recordings: reach, and what differs when     a Comparison
    heatmap          a state, a gate or its gradient, unit x time    a LayerFlow
    credit           which step of which sequence taught a weight    a Credit
    curves           loss, reach, saturation, ... over training      a Monitor, or several by name
    lags             |dL/dS| by lag x step of training               a Monitor, or several by name
    norms            numbers of every parameter over training        a Monitor or its History
    histograms       magnitudes of gradients over training           a Monitor or its History
    singular_values  of every step's Jacobian: how far they spread   Jacobians, or an array
    lyapunov         exponents by index                              a Lyapunov, or an array

Each returns a matplotlib Figure that belongs to the caller (pyplot is not involved) and shows
itself in a notebook, or draws into `ax` where one is given. Importing this package does not import
matplotlib.
"""

from .crediting import credit
from .dynamics import lyapunov, singular_values
from .pairs import compare
from .recordings import decay, heatmap
from .runs import curves, lags
from .style import PlotError
from .training import histograms, norms

__all__ = [
    "PlotError",
    "credit",
    "compare",
    "curves",
    "decay",
    "heatmap",
    "histograms",
    "lags",
    "lyapunov",
    "norms",
    "singular_values",
]
