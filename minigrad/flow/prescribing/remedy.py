"""What a remedy is: for which nets it is one, how it is applied to a fork, what one would write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .case import Case

if TYPE_CHECKING:
    from .fork import Run


class Remedy:
    """One thing to try.

    name: what tables call it. missing(case): why it is none here, "" if it can be tried. apply(run,
    case, rng): does it to a fork. code(case): what one would write.
    """

    name: str

    def missing(self, case: Case) -> str:
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        raise TypeError(f"{type(self).__name__} defines no apply().")

    def code(self, case: Case) -> str:
        return ""
