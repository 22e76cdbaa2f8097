"""From Python source to machine code: Numba compiles it once, later processes only load it.

    from minigrad.kernels import jit, ufunc

    SOURCE = '''
    from numba import float64
    from minigrad.kernels.memory import load, store, strided

    def double(args, dims, steps):
        n = dims[0]
        x, y = strided(args[0], n, steps[0], 8), strided(args[1], n, steps[1], 8)
        for i in range(n):
            store(y, i * steps[1], 2.0 * load(x, i * steps[0], float64))
    '''
    kernel = jit.build("double", SOURCE, {"double": jit.LOOP})  # compiled, or found in the cache
    double = ufunc.ufunc("double", kernel["double"], "d->d")    # kernel["double"]: an address

- A source is the text of a module: imports, constants, functions. `exports` names the functions
  to reach from outside and their C signatures, `"void(ptr, i64*, f64)"`; words: void i8 i32 i64
  f32 f64 ptr, and `*` for a pointer to one. Functions decorated with numba.njit can be called.
- A kernel that lives in a file of its own: `jit.source(path, DTYPE="float32", ROWS=12)` is its
  text behind these lines. It may import Numba at its top: it is executed only to be compiled.
- A Python function is a source too: `jit.source(function, ROWS=12)`; the names that it uses
  come from these constants and from import lines in its body.
- A source that defines `assembly()` is not for Numba: that function returns LLVM text that defines
  the exports, and no optimiser touches it (microkernel.py).
- Kernels call each other by address: `address_of("export")` is a function of the same build (to
  hand to a thread pool, say), `invoke(pointer, "void(ptr, i64)", a, b)` calls one (memory.py).
- `links={"minigrad_parallel_for": address}` resolves a symbol that the source declares, by
  `external(name, signature)`. A name stands for the same address throughout a process.
- A kernel that raises leaves its error in a slot; `jit.checked(call)` looks there afterwards.
- `kernel.function("export")` is a ctypes function (it releases the GIL), for calls from Python.
- NUMBA_BOUNDSCHECK=1 builds checked kernels (memory.py). Under NUMBA_DISABLE_JIT=1 nothing may be
  built: ask `jit.mode()`, and where it says "plain" use the kernel's NumPy twin.

In a warm process Numba is never imported, llvmlite only with the first kernel (50 ms). The cache
key covers all that decides the machine code: source, exports, mode, the helpers that sources
import from this package, the versions of Numba, llvmlite and Python, CPU and vector width.
"""

from __future__ import annotations

import _thread
import ctypes
import gc
import inspect
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minigrad.errors import MinigradError
from minigrad.kernels import cache as objects
from minigrad.kernels import host

# The inner loop of a NumPy (g)ufunc, f(args, dims, steps). Its C function has two arguments more
# and the status that NumPy wants; it is for ufunc.ufunc only.
LOOP = "void(ptr*, i64*, i64*)"

# The files of this package that shape every kernel.
_HELPERS = (
    "front.py",
    "integers.py",
    "loader.py",
    "memory.py",
    "values.py",
    "simd.py",
    "lanes.py",
    "steps.py",
    "vectormath_simd.py",
)


class KernelError(MinigradError, RuntimeError):
    """A kernel that can't be built, or that stopped with an error of its own."""


@cache
def mode() -> str:
    """How kernels run in this process: "native", "checked" or "plain".

    "checked" with NUMBA_BOUNDSCHECK=1, "plain" (NumPy twins) with NUMBA_DISABLE_JIT=1.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "plain"
    return "checked" if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0") else "native"


class Kernel:
    """A loaded object: `kernel["name"]` is the address of an export."""

    def __init__(
        self, stem: str, exports: dict[str, str], addresses: dict[str, int], found: bool = False
    ):
        self.stem = stem
        self.found = found  # in the cache, rather than compiled by this process
        self.exports = exports
        self.addresses = addresses

    def __getitem__(self, export: str) -> int:
        return self.addresses[export]

    def __repr__(self) -> str:
        return f"Kernel({self.stem}: {', '.join(self.exports)})"

    @property
    def path(self) -> Path | None:
        """The source, as kept in the cache."""
        return objects.find(f"{self.stem}.py")

    def function(self, export: str) -> Callable[..., Any]:
        """An export as a Python callable: numbers and addresses in, a number or None out."""
        result, words = parse_signature(self.exports[export])
        kinds = [_CTYPES.get(word, ctypes.c_void_p) for word in words]
        call = ctypes.CFUNCTYPE(_CTYPES.get(result), *kinds)(self.addresses[export])
        return checked(call) if mode() == "checked" else call


def checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, raising afterwards what its kernel left in the error slot."""
    from minigrad.kernels import loader

    @wraps(call, updated=())
    def run(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        loader.raise_error()
        return result

    return run


_lock = threading.RLock()
_kernels: dict[str, Kernel] = {}


if hasattr(os, "register_at_fork"):
    # A fork waits for the kernel that another thread builds: the child, which has no such thread,
    # would wait for ever for what it held, this lock, Numba's, LLVM's or an import's. Numba logs,
    # and a fork holds the lock of logging: to be taken after this one, logging registers before it.
    import logging  # noqa: F401

    _taken: list[bool] = []  # the lock, for the time of a fork
    _late: list[bool] = []  # Ctrl-C that came while a fork waited

    def _before_fork() -> None:
        """Takes the lock, whatever comes: after an error in here Python forks all the same."""
        while not (_taken and _lock._is_owned()):  # type: ignore[attr-defined]
            try:
                _taken.extend(map(_lock.acquire, (True,)))  # both or neither, for a handler
            except KeyboardInterrupt:
                _late.append(True)

    def _after_fork() -> None:
        _late.clear()
        if _taken and _lock._is_owned():  # type: ignore[attr-defined]
            _taken.clear()
            _lock.release()

    def _after_fork_here() -> None:
        late = bool(_late)
        _after_fork()
        if late:
            # Behind this function, in which Python would swallow it.
            threading.Timer(0.02, _thread.interrupt_main).start()

    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork
    )


def source(origin: Path | str | Callable[..., Any], /, **constants: Any) -> str:
    """The text of a file or of a function, behind one line `NAME = value` per constant."""
    if isinstance(origin, (Path, str)):
        text = Path(origin).read_text(encoding="utf-8")
    else:
        text = textwrap.dedent(inspect.getsource(origin))
    return "".join(f"{name} = {value!r}\n" for name, value in constants.items()) + text


def build(
    name: str,
    text: str,
    exports: Mapping[str, str],
    links: Mapping[str, int] | None = None,
    code: str | None = None,
) -> Kernel:
    """The kernel compiled from `text`: from memory, from the cache, or compiled now and kept.

    code: what of the text decides the machine code, where that is less (comments left out).

    Raises KernelError where Numba refuses the source, where the code needs a symbol that nobody
    defines, and under NUMBA_DISABLE_JIT=1.
    """
    if mode() == "plain":
        raise KernelError(
            f"jit.build: kernel '{name}' was asked for under NUMBA_DISABLE_JIT=1, where nothing "
            "is compiled; call its plain twin."
        )
    links = links or {}
    if not _surroundings.cache_info().currsize:
        undisturbed(_surroundings)  # asks LLVM what CPU this is
    listed = repr((sorted(exports.items()), sorted(links)))
    key = objects.key(name, text if code is None else code, listed, mode(), *_surroundings())

    def once() -> None:
        if key not in _kernels:
            _kernels[key] = _obtain(name, key, text, dict(exports), links)

    if key not in _kernels:
        undisturbed(once)
    return _kernels[key]


_STACK = 16 << 20  # for LLVM, whatever a program has set for threads of its own


def undisturbed(work: Callable[[], object]) -> None:
    """work() under the lock, cut short by no handler of a signal: they run in the main thread only.

    A Numba that was half imported, or stopped while it fills its tables, fails for good. So work
    that the main thread asks for is done in another one. Ctrl-C ends the waiting at once; the work
    goes on to its end, and what needs it next, a fork or the end of the process too, waits for it.
    """
    here = threading.current_thread() is not threading.main_thread()
    if here or _lock._is_owned():  # type: ignore[attr-defined]  # else it would wait for this thread
        with _lock:
            work()
        return
    done, errors = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            with _lock:
                work()
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    before = threading.stack_size(_STACK)
    try:
        threading.Thread(target=run, name="minigrad build").start()
    finally:
        threading.stack_size(before)
    done.wait()  # not join: interrupted, that takes the thread for ended
    if errors:
        raise errors.pop()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Numba makes a million objects that stay: a seventh of its time went into looking at them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _obtain(
    name: str, key: str, text: str, exports: dict[str, str], links: Mapping[str, int]
) -> Kernel:
    from minigrad.kernels import loader

    name = re.sub(r"\W", "_", name, flags=re.ASCII)[:80]  # of a file: no "<lambda>", no "a/b"
    stem = f"{name}-{key}"
    found = objects.load(stem)
    path = objects.find(f"{stem}.py") if found else None
    path = path or objects.store(f"{stem}.py", text.encode()) or Path(f"<{stem}.py>")
    if found:
        # RuntimeError is LLVM's word for a file that is whole and yet no object code.
        with suppress(RuntimeError):
            return Kernel(stem, exports, loader.load(name, list(exports), *found, links))
    with no_garbage_collection():
        from minigrad.kernels import front as compiler

        code, needs = compiler.compile_source(name, text, path, exports, links)
    objects.store_object(stem, needs, code)
    return Kernel(stem, exports, loader.load(name, list(exports), needs, code, links))


@cache
def _surroundings() -> tuple[str, ...]:
    """All that shapes the machine code besides the kernel's own source."""
    here = Path(__file__).parent
    helpers = [(here / file).read_text(encoding="utf-8") for file in _HELPERS]
    system = f"{sys.platform} {sys.implementation.cache_tag} {host.vector_bits()}"
    return (*host.cpu(), system, _version("numba"), _version("llvmlite"), *helpers)


def _version(package: str) -> str:
    """The package's own version file, read without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise KernelError(
            f"jit.build: kernels need the package '{package}', which is not installed; "
            f"pip install {package}, or set NUMBA_DISABLE_JIT=1 to run on NumPy alone."
        )
    return (Path(spec.origin).parent / "_version.py").read_text(encoding="utf-8")


_CTYPES: dict[str, Any] = {
    "i8": ctypes.c_int8,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
    "ptr": ctypes.c_void_p,
}


def parse_signature(text: str) -> tuple[str, list[str]]:
    """Split a C signature into its result and its parameters.

    >>> parse_signature("void(ptr, i64*)")
    ('void', ['ptr', 'i64*'])
    """
    match = re.fullmatch(r"\s*(\w+\*?)\s*\((.*)\)\s*", text)
    words = [word.strip() for word in match[2].split(",") if word.strip()] if match else []
    if (
        not match
        or match[1] not in {*_CTYPES, "void"}
        or not {word.removesuffix("*") for word in words} <= set(_CTYPES)
    ):
        raise KernelError(f"expected a C signature like 'void(ptr, i64*, f64)', came '{text}'.")
    return match[1], words
