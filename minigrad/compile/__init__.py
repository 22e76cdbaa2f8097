"""The compiler: the tape of one step of any cell becomes one loop forward and one for BPTT.

`pipeline.py` is the way from a cell to its kernels, in order, and `program.py` what goes along it.

    what a user calls          scanning.py, promise.py (mg.pure); unrolling.py: what a scan means
    from a cell to a Program   traced.py, trace.py, tracer.py; writing.py, batch.py for each op
    Program -> Program         passes/, reversing.py
    from there to kernels      lower.py, layout.py; codegen.py, nest.py; kernel.py, storage.py
    what is compiled           compiled.py, forward.py, bptt.py; remember.py, checks.py
    one call of it             fusing.py, call.py, node.py; higher.py for its second derivatives
    other ways to run          eager.py, windows.py, padding.py; intervened.py, looking.py
    in less memory             checkpoint.py: schedule.py says when, recompute.py is on the tape
    what is kept and said      records.py, taps.py, result.py, explain.py, names.py
"""

from .explain import Explanation
from .program import Program, Value
from .promise import pure
from .records import Record
from .result import ScanResult
from .scanning import scan
from .traced import trace_step
from .unrolling import unroll

__all__ = [
    "Explanation", "Program", "Record", "ScanResult", "Value", "pure", "scan", "trace_step",
    "unroll",
]  # fmt: skip
