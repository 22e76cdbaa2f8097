"""Pages to turn a knob on: what was measured at each of its positions, in one file, no server."""

from .connecting import Connectivity, connectivity
from .turning import Sliders, sliders

__all__ = ["Connectivity", "Sliders", "connectivity", "sliders"]
