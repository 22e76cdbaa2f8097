"""The kinds of files that minigrad reads: a whole one of each, how it is damaged, what reads it.

A reader gives back nothing: it raises an error of `allowed`, or it does all that a user would do
with what was read.
"""

from __future__ import annotations

import json
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import mutate

import minigrad as mg
from minigrad import interop, nn, optim
from minigrad.data.speech import read_wave
from minigrad.data.translations import read_mo
from minigrad.errors import MinigradError
from minigrad.flow import explorer
from minigrad.lab import sweep
from minigrad.lab.sweep.folder import RESULTS
from minigrad.tasks import running
from minigrad.tasks.base import Settings, Task
from minigrad.train import checkpoint, log
from minigrad.train.loop import Run, TrainingError


@dataclass(frozen=True)
class Kind:
    """make(folder) writes whole files and returns them; the first line of a mutation's report is
    its name and seed.
    """

    make: Callable[[Path], list[Path]]
    mutate: mutate.Mutator
    read: Callable[[Path], None]
    allowed: tuple[type[Exception], ...]


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def model() -> nn.Module:
    return nn.Sequential(nn.Embedding(4, 2, generator=generator()), nn.Linear(2, 3))


class Tiny(Task):
    """A task without data."""

    name, kind, title, cells = "tiny", "none", "nothing", ("gru", "bilstm")
    epochs, hidden, metric = (1, 1), (2, 2), "loss"

    def __init__(self, settings: Settings, stored: Any = None):
        super().__init__(settings, stored)
        size = min(settings.hidden, 50)
        self.model, self.batches = nn.Linear(size, 1, generator=self.generator), [1]

    def loss(self, model: Any, batch: Any, *state: Any) -> Any:
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        return {}

    test = baselines = validate

    def about(self) -> str:
        return ""


# ------------------------------------------------------------------------------- weights and models


def make_safetensors(folder: Path) -> list[Path]:
    return [interop.save_safetensors(folder / "a.safetensors", model(), {"note": "1"})]


def read_safetensors(path: Path) -> None:
    model().load_state_dict(interop.load_safetensors(path))


def keras_model() -> nn.Module:
    return nn.Sequential(nn.GRU(2, 3, bidirectional=True), nn.Linear(6, 1))


def make_keras(folder: Path) -> list[Path]:
    import h5py

    packed = folder / "packed.weights.h5"
    with h5py.File(packed, "w") as file:
        values = np.ones((40, 3), np.float32)
        file.create_dataset("layers/dense/vars/0", data=values, compression="gzip", shuffle=True)
    return [interop.save_keras_weights(folder / "a.weights.h5", keras_model()), packed]


def read_keras(path: Path) -> None:
    interop.load_keras_weights(keras_model(), path)


def make_onnx(folder: Path) -> list[Path]:
    lstm = nn.LSTM(3, 2, bidirectional=True, generator=generator())
    chain = [nn.Embedding(5, 3), lstm, nn.LayerNorm(4), nn.Linear(4, 2)]
    files = [interop.export_onnx(folder / "a.onnx", chain, lengths=True)]
    scan = nn.Recurrent(lambda n: nn.MinGRUCell(n, 2), 2, bidirectional=True)
    for layer in (nn.GRU(2, 2, batch_first=True), nn.RNN(2, 3, num_layers=2), scan):
        files.append(interop.export_onnx(folder / f"{type(layer).__name__}.onnx", layer))
    return files


def read_onnx(path: Path) -> None:
    try:
        made = interop.import_onnx(path)
    except MinigradError as error:
        if not isinstance(error, (F, C)):
            raise RuntimeError("an import fails with errors of its own") from error
        raise
    x = np.zeros((2, 1, 2), np.float32) if path.name[0] != "a" else np.zeros((2, 1), np.int64)
    lengths = np.array([2], np.int32)
    made(**{name: lengths if name == "lengths" else x for name in made.inputs})


def make_pt(folder: Path) -> list[Path]:
    """Those that torch wrote: a checkpoint, tensors of all kinds, the older format."""
    made = []
    for name in ("torch_checkpoint.pt", "torch_tensors.pt", "torch_1_5.pt"):
        made.append(folder / name)
        made[-1].write_bytes((Path(__file__).parents[1] / "interop" / name).read_bytes())
    return made


def read_pt(path: Path) -> None:
    interop.read_torch_file(path)
    embed = nn.Embedding(5, 2)
    interop.load_torch(embed, path, prefix="model.embed.", strict=False)


# ----------------------------------------------------------------------------------------- training


def run_of_training() -> Run:
    net = nn.Linear(2, 1, generator=generator())
    adam = optim.Adam(net.parameters(), 0.1)
    run = Run(net, None, mg.data.Batches([[1.0], [2.0]], batch=1), adam)
    run.schedule, run.checkpoint = optim.StepLR(adam, 3), Path("a.ckpt")
    run.generators = [generator(), np.random.Generator(np.random.MT19937(1))]
    run.state = mg.tensor([1.0])
    run.best_parameters = net.state_dict()
    run.fitted.history = [{"step": 1, "epoch": 0, "loss": 0.5}]
    run.fitted.best = run.fitted.history[0]
    return run


def make_checkpoint(folder: Path) -> list[Path]:
    tree = {"w": np.ones((2, 3), np.float32), "on": np.array([True]), "n": [1, 2.5, float("inf")]}
    return [checkpoint.save(folder / "a.ckpt", tree)]


def read_checkpoint(path: Path) -> None:
    checkpoint.load(path)


def make_training(folder: Path) -> list[Path]:
    return [checkpoint.save(folder / "a.ckpt", run_of_training().state_dict())]


def read_training(path: Path) -> None:
    """A load that fails must leave everything as it was."""
    run = run_of_training()
    run.step = 7
    before = repr(run.state_dict())
    try:
        run.load(checkpoint.load(path))
    except (checkpoint.CheckpointError, TrainingError):
        assert repr(run.state_dict()) == before, "a load that failed has changed something"
        raise
    for each in run.generators:
        each.random(3)


def make_model(folder: Path) -> list[Path]:
    task = Tiny(Settings("gru", 2, 1))
    result = {"steps": 1, "epochs": 1, "seconds": 1.0, "value": 0.5}
    tree = {"task": "tiny", "settings": task.settings.to_dict(), "model": task.model.state_dict()}
    return [checkpoint.save(folder / "model.ckpt", tree | {"extra": {}, "result": result})]


def read_model(path: Path) -> None:
    running.stored_task(Tiny, path)


def make_run(folder: Path) -> list[Path]:
    path = folder / "run.json"
    path.write_text(json.dumps({"task": "tiny", "settings": Settings("gru", 2, 1).to_dict()}))
    return [path]


def read_run(path: Path) -> None:
    running.resume(Tiny, {"cell": None, "hidden": 2}, path.parent)


def make_log(folder: Path) -> list[Path]:
    path = folder / "log.jsonl"
    lines = [{"step": 1, "loss": 0.5}, {"validation": {"step": 1, "loss": 1.0}}, {"seconds": 1.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [path]


def read_log(path: Path) -> None:
    log.whole_lines(path)
    running._seconds(path)


def read_and_continue_log(path: Path) -> None:
    try:
        log.Log(path, 1).close()
    except ValueError as error:  # what `fit` turns into a TrainingError
        raise log.LogError(str(error)) from None


# ------------------------------------------------------------------------------ monitors and sweeps


def make_monitor(folder: Path) -> list[Path]:
    path = folder / "run.jsonl"
    layer = nn.RNN(1, 2, generator=generator(), mode="tape")
    with mg.flow.Monitor(layer, path, every=1) as monitor:
        for _ in range(3):
            with monitor.step():
                layer(np.ones((3, 1, 1), np.float32))[0].sum().backward()
            monitor.log(loss=1.0, norm=float("nan"), max_norm=1.0)
    return [path]


def read_monitor(path: Path) -> None:
    history = mg.flow.read_monitor(path)
    assert "\x1b" not in history.report()


def make_recording(folder: Path) -> list[Path]:
    net = nn.GRU(2, 2, num_layers=2, bidirectional=True, generator=generator())
    x = mg.tensor(np.ones((3, 2, 2), np.float32), requires_grad=True)
    found = []
    for name, read in (("last", lambda y: y[-1]), ("all", lambda y: y)):
        with mg.flow.record() as rec:
            read(net(x, lengths=np.array([3, 2]))[0]).sum().backward()
        found.append(rec.save(folder / f"{name}.npz", weights=name == "last"))
    return found


def read_recording(path: Path) -> None:
    rec = mg.flow.load(path)
    said = (
        f"{mg.flow.report(rec)}{mg.flow.report(rec, summed=True)}{rec!r}{rec.causes}{rec.verdict}"
    )
    assert "\x1b" not in said
    assert rec.inputs is None or rec.inputs.ndim == 2
    rec.to_dict()
    explorer.page(rec)
    for options in ({}, {"summed": True}, {"view": "rolled"}):
        mg.flow.draw(rec, **options)
    for layer in rec.values():
        [layer.profile(name) for name in layer.norms]
        repr((layer.time_constants, layer.unit_time_constants, layer.dead))


CONFIG = b'function = "os.path:basename"\n[grid]\na = [1, 2]\nseed = [0, 1]\n[fixed]\nb = "x"\n'


def make_config(folder: Path) -> list[Path]:
    path = folder / "sweep.toml"
    path.write_bytes(CONFIG)
    return [path]


def read_config(path: Path) -> None:
    [str(run) for run in sweep.read(path).runs()]


def make_rows(folder: Path) -> list[Path]:
    (folder / "sweep.toml").write_bytes(CONFIG)
    path = folder / RESULTS
    config = sweep.read(folder / "sweep.toml")
    rows = [
        {"key": run.key, "status": "ok", "parameters": run.parameters, "attempts": 1,
         "results": {"loss": 0.5, "solved": True, "note": "x"}, "error": "E: x", "traceback": ""}
        for run in config.runs()
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [path]


def read_rows(path: Path) -> None:
    (path.parent / "sweep.toml").write_bytes(CONFIG)
    config, rows = sweep.open_for_reading(path.parent)
    assert "\x1b" not in sweep.summary(config, rows)


# --------------------------------------------------------------------------------------------- data


def make_wave(folder: Path) -> list[Path]:
    path = folder / "0.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(200))
    return [path]


def make_mo(folder: Path) -> list[Path]:
    texts = [b"yes", b"ja"]
    head = struct.pack("<7I", 0x950412DE, 0, 1, 28, 36, 0, 44)
    tables = struct.pack("<4I", 3, 44, 2, 48)
    (folder / "a.mo").write_bytes(head + tables + b"\0".join(texts) + b"\0")
    return [folder / "a.mo"]


def make_tokens(folder: Path) -> list[Path]:
    path = folder / "tokens.json"
    path.write_text(mg.data.Tokenizer(["to be or not"], unit="word").to_json())
    return [path]


def read_tokens(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    made = mg.data.Tokenizer.from_json(text)
    made.decode(range(len(made)))


F, C = interop.FormatError, interop.ConversionError
KINDS: dict[str, Kind] = {
    "safetensors": Kind(
        make_safetensors, mutate.of_safetensors, read_safetensors, (F, mg.errors.StateDictError)
    ),
    "pt": Kind(make_pt, mutate.of_pt, read_pt, (F, C, mg.errors.StateDictError)),
    "weights.h5": Kind(make_keras, mutate.of_h5, read_keras, (F, C)),
    "onnx": Kind(make_onnx, mutate.of_onnx, read_onnx, (MinigradError,)),
    "checkpoint": Kind(
        make_checkpoint, mutate.of_zip, read_checkpoint, (checkpoint.CheckpointError,)
    ),
    "training": Kind(
        make_training, mutate.of_zip, read_training, (checkpoint.CheckpointError, TrainingError)
    ),
    "model": Kind(
        make_model, mutate.of_zip, read_model, (checkpoint.CheckpointError, running.TaskError)
    ),
    "run.json": Kind(make_run, mutate.of_json, read_run, (running.TaskError,)),
    "log": Kind(make_log, mutate.of_lines, read_log, (log.LogError, running.TaskError)),
    "log, continued": Kind(make_log, mutate.of_lines, read_and_continue_log, (log.LogError,)),
    "monitor": Kind(make_monitor, mutate.of_lines, read_monitor, (mg.flow.FlowError,)),
    "recording": Kind(
        make_recording, mutate.of_zip, read_recording, (mg.flow.FlowError, mg.flow.DrawingError)
    ),
    "sweep.toml": Kind(make_config, mutate.of_text, read_config, (sweep.SweepError,)),
    "results.jsonl": Kind(make_rows, mutate.of_lines, read_rows, (sweep.SweepError,)),
    "wave": Kind(make_wave, mutate.of_bytes, lambda p: _of(read_wave(p)), (mg.data.DataError,)),
    "mo": Kind(make_mo, mutate.of_bytes, lambda p: _of(read_mo(p)), (mg.data.DataError,)),
    "tokens": Kind(make_tokens, mutate.of_json, read_tokens, (mg.data.DataError,)),
}


def _of(read: object) -> None:
    """What was read is not looked at."""
