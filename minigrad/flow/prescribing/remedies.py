"""What there is to try against a gradient that does not arrive, or a loss that does not fall."""

from __future__ import annotations

from .changing import Chrono, ForgetBias, Gated, InputScale, LayerNorm, Orthogonal, Residuals
from .remedy import Remedy
from .training import LARGER, SMALLER, Clip, Longer, MoreLosses, Rate, Shorter

# by name, in the order in which they are tried where nothing is known
TABLE: dict[str, Remedy] = {
    remedy.name: remedy
    for remedy in (
        InputScale(), Gated(), Chrono(), ForgetBias(), Orthogonal(), LayerNorm(), Clip(),
        Rate("smaller rate", SMALLER),
        Rate("larger rate", LARGER), Residuals(), MoreLosses(),
        Shorter(), Longer(),
    )
}  # fmt: skip
