"""A figure that shows itself in a notebook, whether or not pyplot was ever imported there."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

DPI = 160  # dots an inch, of a picture that is shown at 80: sharp on every screen


class Shown(Figure):
    """A Figure. Notebooks of themselves show only those that pyplot made."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, and at what size it is to be shown."""
        out = BytesIO()
        self.savefig(out, format="png", dpi=DPI)
        width, height = (round(DPI / 2 * inches) for inches in self.get_size_inches())
        return out.getvalue(), {"width": width, "height": height}
