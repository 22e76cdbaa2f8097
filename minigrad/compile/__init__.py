"""The compiler: the tape of one step of any cell becomes one loop forward and one for BPTT.

In order: trace.py writes a step down as a Program (program.py), reverse.py makes the program of its
backward step, passes.py improves both, lower.py turns them into loops and products over buffers,
codegen.py into text, kernel.py into machine code. scan.py is what a user calls.
"""

from .explain import Explanation
from .program import Program, Value
from .records import Record
from .remember import pure
from .result import ScanResult
from .scan import scan
from .traced import trace_step
from .unroll import unroll

__all__ = [
    "Explanation", "Program", "Record", "ScanResult", "Value", "pure", "scan", "trace_step",
    "unroll",
]  # fmt: skip
