"""Watching a training run: what every n-th step does to each parameter and each time step.

    with mg.flow.Monitor(model, "run.jsonl", every=20) as monitor:
        for x, y in batches:
            with monitor.step():
                loss = mse_loss(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                norm = monitor.clip(1.0)         # clip_grad_norm_, and counted
                optimizer.step()
            monitor.log(loss=loss.item())
    print(monitor.report())
    history = mg.flow.read_monitor("run.jsonl")  # the same, later or elsewhere

`mg.train.fit(..., callbacks=[monitor])` does without the calls in the loop. Steps that are not
measured cost a counter.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FlowError
from ..tensors import Tensor
from ..untrusted import cause
from . import measuring
from .histogram import BINS, LOW
from .history import KEPT, Clipping, History
from .monitorfile import SCHEMA, MonitorFile, MonitorWarning, read_monitor
from .recording import Recording
from .tables import BLOCKS
from .verdict import Thresholds
from .watched import watch
from .writers import Writer

Array = np.ndarray


class Monitor:
    """Measures every n-th step of training, and writes it down as it goes.

    module: whose parameters are watched, a model of minigrad or of PyTorch. path: a new file for
        JSON lines, or None for memory only.
    every: steps 1, every, 2 every, ... are measured. flow: record the recurrent layers in those
        steps, |dL/dh_t| and the cuts through time and depth, with verdicts; no other record() can
        begin inside them then.
    states, thresholds: as in mg.flow.record.
    append: go on with a file that is there; steps are counted on from its last one.
    keep: measurements held in memory, evenly spaced over training.
    writers: where all is written, too, such as mg.flow.TensorBoardWriter("runs/a"); closed with it.

    Per parameter: |w|, |update| / |w|, |g|, the largest |g|, zeros, NaN and Inf, and a histogram of
    |g| by powers of two; g is the gradient before `clip`, else as the step leaves it. NaN and Inf
    never stop it: `history.nonfinite` says where they were first seen (in steps that are not
    measured, as soon as clip() or log() meets one).
    Raises OutputError for a file it must not or cannot write, FlowError for a wrong order of calls;
    what cannot be measured in a step is a MonitorWarning, once.

    >>> import minigrad as mg
    >>> net = mg.nn.Linear(1, 1, dtype=np.float64, generator=np.random.default_rng(0))
    >>> sgd = mg.optim.SGD(net.parameters(), lr=0.1)
    >>> with Monitor(net, every=2) as monitor:
    ...     for _ in range(4):
    ...         with monitor.step():
    ...             loss = (net(mg.tensor([[1.0]])) ** 2.0).sum()
    ...             sgd.zero_grad(); loss.backward(); sgd.step()
    ...         monitor.log(loss=loss.item())
    >>> [m.step for m in monitor.history.measurements], list(monitor.history.logged)
    ([1, 2, 4], ['loss'])
    """

    _weights: dict[str, Array]  # before the step; empty unless it is measured
    _gradients: dict[str, dict[str, Any]]  # as clip() found them
    _recorder: Any
    _recording: Recording | None

    def __init__(
        self,
        module: Any,
        path: str | Path | None = None,
        every: int = 20,
        flow: bool = True,
        *,
        append: bool = False,
        states: tuple[str, ...] | None = None,
        thresholds: Thresholds | None = None,
        keep: int = KEPT,
        writers: Sequence[Writer] = (),
    ):
        self._watched = watch(module)
        for name, value in (("every", every), ("keep", keep)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise FlowError(f"Monitor: {name} is a whole number from 1 on, got {value!r}.")
        self.parameters = self._watched.parameters
        if not self.parameters:
            raise FlowError(
                f"Monitor: {type(module).__name__} has no parameters, so there is nothing to watch."
            )
        self.every, self.flow = int(every), flow
        self._gates = self._watched.gates
        self.states, self.thresholds = states, thresholds or Thresholds()
        self.history = History(keep=int(keep))
        shapes = {name: list(p.shape) for name, p in self.parameters.items()}
        if append and path is not None and _has_something(path):
            self.history = read_monitor(path, int(keep))
            self._check_same(path, shapes)
        self._file = None if path is None else MonitorFile(path, append)
        self._writers = list(writers)
        self.done = self.history.step  # steps that have ended
        self._told: set[tuple[str, str]] = {(b.what, b.where) for b in self.history.nonfinite}
        self._warned: set[str] = set()
        self._clipping = Clipping()  # since it was written last
        self._clipped_at: int | None = None
        self._closed = self._open = False
        self._forget()
        version = getattr(sys.modules[__name__.partition(".")[0]], "__version__", "")
        self._write(
            {"record": "header", "schema": SCHEMA, "minigrad": version, "every": self.every,
             "step": self.done, "low": LOW, "bins": BINS, "parameters": shapes}
        )  # fmt: skip

    # -- in the loop

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step of training: forward, backward, update. An exception leaves it unmeasured."""
        self.before()
        try:
            yield
        except BaseException:
            self._abandon()
            raise
        self.after()

    def before(self) -> None:
        """Begins a step, for loops that cannot use `with monitor.step()`."""
        self._check_open("before")
        if self._open:
            raise FlowError(
                f"Monitor: step {self.done + 1} has begun and not ended; end it first, with "
                f"after() or by leaving `with monitor.step()`."
            )
        self._begin(self.done + 1)

    def after(self) -> None:
        """Ends the step that before() began, and measures it if its turn has come."""
        self._check_open("after")
        if not self._open:
            raise FlowError("Monitor: no step has begun; call before(), or use monitor.step().")
        self._end()

    def clip(
        self,
        max_norm: float,
        parameters: Iterable[Tensor] | Tensor | None = None,
        **options: Any,
    ) -> float:
        """mg.optim.clip_grad_norm_ of the module's parameters, or of others; returns |g| before.

        options: those of clip_grad_norm_. The gradients of a measured step are looked at first.
        """
        self._check_open("clip")
        if self._open and self._weights:
            self._gradients = {name: self._gradient(name) for name in self.parameters}
        chosen = list(self.parameters.values()) if parameters is None else parameters
        norm = self._watched.clip(chosen, max_norm, **options)
        self._hear_norm(norm, max_norm)
        return norm

    def log(self, *, max_norm: float | None = None, **values: float) -> None:
        """Writes numbers of this step, such as loss=loss.item().

        norm=, max_norm=: what clip_grad_norm_ returned and its limit, where clip() is not used;
        together they make the clipping report.
        """
        self._check_open("log")
        step = self.done + self._open
        if max_norm is not None and self._clipped_at != step:
            if "norm" not in values:
                raise FlowError("Monitor.log: max_norm needs norm=, what clip_grad_norm_ returned.")
            self._hear_norm(float(values["norm"]), max_norm)
        found = {}
        for name, value in values.items():
            try:
                found[name] = float(value)
            except (TypeError, ValueError):
                raise FlowError(
                    f"Monitor.log: {name} is a number, got {type(value).__name__}; a Tensor's is "
                    f"tensor.item()."
                ) from None
        if found:
            self._write({"record": "log", "step": step, "values": found})
        for name, value in found.items():
            if not math.isfinite(value) and ("logged", name) not in self._told:
                nan = int(math.isnan(value))
                self._tell(step, "logged", name, nan, 1 - nan)
                self._look_for_nonfinite(step)

    def __call__(self, run: Any) -> None:
        """As a callback of mg.train.fit: a step ends where the next begins.

        So the very first step is not measured, and validation falls into the step that follows.
        """
        self._check_open("callback")
        if self._open:
            self._end(run.step)
        else:
            self.done = run.step
        norm = {} if run.max_norm is None else {"norm": run.norm, "max_norm": run.max_norm}
        self.log(loss=run.loss, **norm)
        self._begin(run.step + 1)

    # -- afterwards

    def report(self, blocks: str = BLOCKS) -> str:
        """Tables of parameters and layers, with sparklines over training; see History.report."""
        return self.history.report(blocks)

    def close(self) -> None:
        """Ends the file. A step that has begun is dropped; closing again does nothing."""
        if self._closed:
            return
        self._abandon()
        self._write_clipping(self.done)
        self._closed = True
        if self._file is not None:
            self._file.close()
        self._to_writers(lambda writer: writer.finish(self.history))

    def __enter__(self) -> Monitor:
        self._check_open("with")
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"every {self.every} steps"
        return f"<Monitor of {len(self.parameters)} parameters, {state}, at {self.done}>"

    # -- one step

    def _begin(self, step: int) -> None:
        self._open = True
        if step % self.every and step != 1:
            return
        self._weights = {name: p.numpy().copy() for name, p in self.parameters.items()}
        if self.flow:
            recorder = self._watched.recorder(self.states, self.thresholds)
            try:
                self._recording = recorder.__enter__()
                self._recorder = recorder
            except FlowError:  # another recording is under way
                self._warn(
                    "nested",
                    "the step runs inside mg.flow.record() or another monitor's step, so how its "
                    "gradients flow is not recorded here; flow=False says that is meant",
                )

    def _end(self, step: int | None = None) -> None:
        step = self.done + 1 if step is None else step
        try:
            if self._weights:
                self._measure(step)
        finally:  # a warning that is an error leaves no recording under way
            self._abandon()
        self.done = step

    def _measure(self, step: int) -> None:
        parameters = {
            name: measuring.weight(p, self._weights[name], self._gates.get(name, ()))
            | (self._gradients[name] if self._gradients else self._gradient(name))
            for name, p in self.parameters.items()
        }
        if all(stored.get("gradient") is None for stored in parameters.values()):
            self._warn(
                "no gradient",
                f"step {step}: no parameter has a gradient; call backward() inside the step, "
                f"and zero_grad() before it rather than after",
            )
        found = {"record": "step", "step": step, "parameters": parameters}
        self._write(found | self._flow_of_step(step))
        self._look_for_nonfinite(step)
        self._write_clipping(step)

    def _gradient(self, name: str) -> dict[str, Any]:
        return measuring.gradient(self.parameters[name], self._gates.get(name, ()))

    def _flow_of_step(self, step: int) -> dict[str, Any]:
        recording = self._recording
        if recording is None:
            return {"layers": {}}
        try:
            layers = recording.layers
        except FlowError:  # no recurrent layer, or no gradient: that is said above
            return {"layers": {}}
        if missing := recording.missing:
            self._warn("missing", f"not all that ran is in its table of layers: {missing[0]}")
        began = recording.nonfinite
        if began is not None and not any(what == "state" for what, _ in self._told):
            nan = int(began.what == "NaN")
            self._tell(step, "state", str(began), nan, 1 - nan)
        return {
            "layers": {path: measuring.layer(flow) for path, flow in layers.items()},
            "cuts": [measuring.cut(cut) for cut in recording.cuts],
            "depth": [measuring.depth(depth) for depth in recording.depth],
        }

    def _abandon(self) -> None:
        if self._open and self._recorder is not None:
            self._recorder.__exit__(None, None, None)
        self._open = False
        self._forget()

    def _forget(self) -> None:
        """Nothing of a step is kept beyond it."""
        self._weights, self._gradients = {}, {}
        self._recorder = self._recording = None

    # -- what is told

    def _hear_norm(self, norm: float, max_norm: float) -> None:
        self._clipped_at = step = self.done + self._open
        self._clipping.hear(norm, max_norm)
        if not math.isfinite(norm):
            self._look_for_nonfinite(step)

    def _look_for_nonfinite(self, step: int) -> None:
        """Tells of parameters and gradients with NaN or Inf that it has not told of yet."""
        for name, p in self.parameters.items():
            for what, x in (("gradient", p.grad), ("weight", p)):
                if x is None or (what, name) in self._told:
                    continue
                values = x.numpy()
                if not np.isfinite(values).all():
                    nan = int(np.count_nonzero(np.isnan(values)))
                    bad = int(np.count_nonzero(~np.isfinite(values)))
                    self._tell(step, what, name, nan, bad - nan)

    def _tell(self, step: int, what: str, where: str, nan: int, inf: int) -> None:
        self._told.add((what, where))
        told = {"step": step, "what": what, "where": where, "nan": nan, "inf": inf}
        self._write({"record": "nonfinite"} | told)

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"Monitor: {text}.", MonitorWarning, stacklevel=4)

    def _write_clipping(self, step: int) -> None:
        if self._clipping.steps:
            since = vars(self._clipping)
            self._write({"record": "clipping", "step": step, "since": since})
            self._clipping = Clipping()

    def _write(self, entry: dict[str, Any]) -> None:
        self.history.add(entry)
        if self._file is not None:
            self._file.write(entry)
        self._to_writers(lambda writer: writer.write(entry))

    def _to_writers(self, tell: Callable[[Writer], None]) -> None:
        """One that fails, on a full disk or without a network, is left out from then on."""
        for writer in list(self._writers):
            try:
                tell(writer)
            except Exception as error:
                self._writers.remove(writer)
                name = type(writer).__name__
                self._warn(name, f"{name} is left out from here on, as it failed: {cause(error)}")

    # -- checks

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise FlowError(
                f"Monitor: {what} after close(); make a new one, where append=True goes on "
                f"with the file."
            )

    def _check_same(self, path: str | Path, shapes: dict[str, list[int]]) -> None:
        stored = self.history.header.get("parameters", {})
        for name in dict.fromkeys([*stored, *shapes]):
            there, here = stored.get(name, "missing"), shapes.get(name, "missing")
            if there != here:
                raise FlowError(
                    f"{path}: is of another model, parameter {name!r} is {there} there and {here} "
                    f"here; choose another file."
                )


def _has_something(path: str | Path) -> bool:
    path = Path(path)
    return path.is_file() and path.stat().st_size > 0
