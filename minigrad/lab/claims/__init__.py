"""Published claims about recurrent networks, measured again: `minigrad experiment NAME`.

    from minigrad.lab import claims
    result = claims.run(claims.find("chaos"), quick=True)
    print(result["verdict"])

One module per claim; results/NAME.json holds the full form's numbers and the command that made
them.
"""

from __future__ import annotations

from ...errors import suggest
from . import (
    adding,
    chaos,
    clipping,
    copying,
    flipflop,
    forget,
    latch,
    memory,
    ridges,
    threshold,
    trainability,
)
from .base import Claim, ClaimError, Row, Source, run, verdict
from .report import save, stored, text

__all__ = [
    "CLAIMS",
    "Claim",
    "ClaimError",
    "Row",
    "Source",
    "find",
    "run",
    "save",
    "stored",
    "text",
    "verdict",
]

MODULES = (
    chaos, forget, threshold, clipping, latch, adding, copying, trainability, flipflop, ridges,
    memory,
)  # fmt: skip
CLAIMS: dict[str, Claim] = {module.CLAIM.name: module.CLAIM for module in MODULES}


def find(name: str) -> Claim:
    """The claim of that name.

    >>> find("choas")
    Traceback (most recent call last):
    minigrad.lab.claims.base.ClaimError: experiment 'choas' is not known; did you mean 'chaos'? ...
    """
    if name in CLAIMS:
        return CLAIMS[name]
    hint = suggest(name.lower(), CLAIMS)
    raise ClaimError(f"experiment {name!r} is not known; {hint}There are {', '.join(CLAIMS)}.")
