"""Recordings on disk: saved where the net is, loaded where it is not.

    rec.save("before.npz")
    rec = mg.flow.load("before.npz")
    print(mg.flow.report(rec)); mg.flow.draw(rec).save("before.svg"); rec["lstm/l0/fwd"].norms["h"]

What a recording computes when it is read (verdicts with their reasons, gradients, the ways between
layers) is computed when it is saved, and stands in the file (stored.py; codec.py writes and reads
it). What a file says is held against itself before anything is made of it (checking.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from ...archive import Archive
from ...errors import FlowError
from ...untrusted import reading
from ..recording import Recording
from .checking import check
from .codec import pack, unpack
from .loaded import LoadedRecording
from .stored import StoredRecording

_FILES = Archive("recording", 1, FlowError)


def save(recording: Recording, path: str | Path, weights: bool = False) -> Path:
    """See `Recording.save`."""
    version = getattr(sys.modules[__name__.partition(".")[0]], "__version__", "")
    return _FILES.save(path, pack(StoredRecording.of(recording, weights, version)))


Recording.saved = save


def load(path: str | Path) -> Recording:
    """The Recording that `Recording.save` wrote: all its numbers, verdicts, tables, drawings.

    What needs the net, such as `LayerFlow.jacobians()`, raises FlowError. So does a file that is no
    recording, is damaged, or says what no recording could.

    >>> import tempfile, numpy as np, minigrad as mg
    >>> lstm = mg.nn.LSTM(2, 3, dtype=np.float64, generator=np.random.default_rng(0))
    >>> rec = mg.flow.probe(lstm, np.ones((9, 1, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(rec.save(f"{folder}/lstm.npz"))
    >>> bool((again["lstm/l0/fwd"].norms["c"] == rec["lstm/l0/fwd"].norms["c"]).all())
    True
    """
    path = Path(path)
    tree = _FILES.load(path)
    with reading(path, FlowError, what="recording"):
        stored = unpack(StoredRecording, tree)
        check(stored)
        return LoadedRecording(stored, path)
