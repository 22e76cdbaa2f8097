"""The passes, each in a file of its own; `pipeline.py` lists them in order and says what each does.

A pass takes a Program and gives one that computes the same. `rewriting.py` is what they are made
of.
"""

from .accumulating import accumulate
from .batching import batch
from .folding import fold
from .hoisting import hoist
from .merging import merge
from .ordering import order
from .recomputing import recompute
from .rewriting import prune
from .sharing import share
from .sinking import sink
from .slicing import push_slices

__all__ = [
    "accumulate", "batch", "fold", "hoist", "merge", "order", "prune", "push_slices", "recompute",
    "share", "sink",
]  # fmt: skip
