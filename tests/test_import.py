"""`import minigrad` is cheap: it compiles nothing and loads neither a compiler nor a renderer."""

from __future__ import annotations

import json
import operator
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest

import minigrad as mg

PROBE = """
import json, sys
import minigrad
print(json.dumps(sorted(sys.modules)))
"""


# The names that stay as they are from the first release on.
FIXED_NAMES = """
    tensor Tensor Tape scope no_grad grad vjp jvp jacobian hessian gradcheck set_num_threads
    exp log sqrt abs tanh sigmoid relu softplus sin cos maximum minimum where clip
    matmul sum mean max min var logsumexp softmax log_softmax cumsum reshape transpose swapaxes
    expand_dims squeeze broadcast_to concatenate stack split flip pad roll take one_hot
    nn.Module nn.Parameter nn.Linear nn.Embedding nn.LayerNorm nn.Dropout nn.Sequential
    nn.RNNCell nn.LSTMCell nn.GRUCell nn.RNN nn.LSTM nn.GRU
    optim.SGD optim.Adam optim.AdamW optim.RMSprop optim.clip_grad_norm_ optim.clip_grad_value_
    flow.record flow.draw
"""


def run_python(code: str, **environment: str) -> str:
    root = str(Path(mg.__file__).parent.parent)
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_import_loads_no_compiler_and_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "kernels"
    modules = json.loads(run_python(PROBE, MINIGRAD_CACHE_DIR=str(cache)))
    roots = {name.split(".")[0] for name in modules}
    assert "numpy" in roots
    assert not roots & {"numba", "llvmlite", "graphviz", "torch", "hypothesis", "pytest"}
    assert not cache.exists()
    upper = (
        "compile",
        "data",
        "flow",
        "interop",
        "jitting",
        "lab",
        "nn",
        "optim",
        "tasks",
        "train",
    )
    assert not {f"minigrad.{name}" for name in upper} & set(modules)


LATER = """
import minigrad as mg
for name in sorted(mg.__all__):
    assert name in dir(mg), name
    first = getattr(mg, name)
    assert vars(mg)[name] is first is getattr(mg, name), name
    assert getattr(first, "__module__", "minigrad").startswith("minigrad"), name
assert mg.jit is __import__("minigrad.jitting", fromlist=["jit"]).jit
assert mg.flow.record_torch.__name__ == "record_torch"
"""


def test_what_is_imported_when_it_is_asked_for_is_there_and_stays() -> None:
    run_python(LATER)
    for alone in (
        "from minigrad import *",
        "from minigrad import flow, jit, scan",
        "import minigrad.nn",
    ):
        run_python(alone)


def test_import_starts_no_thread_and_prints_nothing() -> None:
    code = "import threading, minigrad; assert threading.active_count() == 1"
    assert run_python(code) == ""


@pytest.mark.needs_jit
def test_a_warm_process_computes_a_gradient_and_compiles_nothing(tmp_path: Path) -> None:
    code = (
        "import minigrad as mg\n"
        "from minigrad.kernels import compiler\n"
        "x = mg.tensor([0.5, -2.0], requires_grad=True)\n"
        "mg.tanh(x).sum().backward()\n"
        "print({kernel.found for kernel in compiler._kernels.values()}, x.grad.data.tolist())"
    )
    cold = run_python(code, MINIGRAD_CACHE_DIR=str(tmp_path))
    warm = run_python(code, MINIGRAD_CACHE_DIR=str(tmp_path))
    assert cold.startswith("{False} ")
    assert warm == cold.replace("False", "True")


def test_the_names_that_scripts_rely_on_exist() -> None:
    missing = [name for name in FIXED_NAMES.split() if not exists(name)]
    assert missing == []


def test_all_lists_every_public_name_once() -> None:
    """Type checkers take a name of a typed package for private unless __all__ has it."""
    public = {
        name
        for name, value in vars(mg).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    } - {"TYPE_CHECKING"}
    assert sorted(set(mg.__all__)) == sorted(mg.__all__)
    assert public <= set(mg.__all__)
    assert [name for name in mg.__all__ if not hasattr(mg, name)] == []


def exists(path: str) -> bool:
    try:
        operator.attrgetter(path)(mg)
    except AttributeError:
        return False
    return True


def test_the_installed_version_is_the_version_of_the_source() -> None:
    try:
        installed = version("minigrad-bptt")
    except PackageNotFoundError:
        pytest.skip("minigrad runs from a source tree that is not installed")
    assert installed == mg.__version__
