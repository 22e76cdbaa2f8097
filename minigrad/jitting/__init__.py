"""mg.jit: a whole training step recorded once and replayed as a flat list of kernel calls.

jitted.py       the function under mg.jit: which program fits, when to record
arguments.py    what a step sees of its arguments while it is recorded
recording.py    one run, operation by operation
steps.py        what it notes
modules.py      whether modules are set as they were
outside.py      whether globals, closures and attributes mean what they did
running.py      the run itself: arguments in, results out
comparing.py    whether two runs did the same
calls.py        what to call for each step of a recording
beside.py       loops that need nothing of one another, at once
fusing.py       neighbouring elementwise steps as one kernel
program.py      the replay
"""

from .jitted import Jitted, JitWarning, jit

__all__ = ["JitWarning", "Jitted", "jit"]
