"""From the text of a kernel to its address: Numba compiles it once, later processes load it.

    kernel = build("double", '''
    from minigrad.kernels.intrinsics import array
    from numba import float64

    def double(p, n):
        x = array(p, n, float64)
        for i in range(n):
            x[i] = 2.0 * x[i]
    ''', {"double": "void(int64, int64)"})

    kernel["double"]                    the C function's address, to `call` from another kernel
    kernel.function("double")(p, 8)     ... called from Python; it releases the GIL

How it goes, and where to look:

1. A kernel is the text of a module: imports at its top, functions that are decorated with njit
   (`intrinsics.inner` are their options) or plain, and entries: plain functions that are C
   functions to the outside, with Numba's words for their signature. Addresses are int64.
2. Its key is a hash of the text, of the files of this package that it imports, of Numba's version
   and of the CPU: a kernel is never stale, and `cache=True`, which sees no edit in another file,
   may be relied on. The text is kept as `<name>-<key>.py` in the cache's folder (cache.py).
3. That file is run as a module, and each entry is compiled by `numba.cfunc(cache=True)`. Numba
   keeps the machine code beside the file, in `__pycache__`: pickles, which are as much to be
   trusted as code is. So they are read only where nobody else can have written them (trust.py),
   and if they are what `<name>-<key>.sums` says, which is written last.
4. All that happens under one lock in a thread of its own (jit.py), where no Ctrl-C ends it halfway.
   Numba is imported there, with the first kernel: `import minigrad` does without.

With NUMBA_BOUNDSCHECK=1 `function` is compiled by njit instead: an error inside of a C function
could only be printed, from here an IndexError reaches the caller. Under NUMBA_DISABLE_JIT=1 nothing
is compiled: an entry is the text's own function, for a debugger to step through.

On a terminal, or with MINIGRAD_PROGRESS=1, a build that has a title says so on stderr.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from minigrad.kernels import cache as files
from minigrad.kernels import host
from minigrad.kernels.jit import KernelError, for_good, mode, no_garbage_collection, undisturbed

_OPTIONS = {"error_model": "numpy", "cache": True}  # NumPy's: a check at each division costs SIMD


class Kernel:
    """What `build` made: `kernel["entry"]` is an address."""

    def __init__(
        self,
        stem: str,
        path: Path | None,
        signatures: dict[str, str],
        module: ModuleType,
        functions: dict[str, Any],
        found: bool = False,
    ):
        self.stem = stem
        self.path = path  # of the text, where it could be kept
        self.signatures = signatures
        self.module = module
        self.functions = functions  # cfuncs; njit functions if checked, Python's without JIT
        self.found = found  # in the cache, rather than compiled by this process
        for function in functions.values():
            for_good(function)

    def __getitem__(self, entry: str) -> int:
        if mode() == "native":
            return int(self.functions[entry].address)
        return int(_address(self, entry))

    def __repr__(self) -> str:
        return f"Kernel({self.stem}: {', '.join(self.signatures)})"

    def function(self, entry: str) -> Callable[..., Any]:
        """An entry as a Python function: numbers and addresses in, a number or None out."""
        found = self.functions[entry]
        return found.ctypes if mode() == "native" else found


_kernels: dict[str, Kernel] = {}


def build(
    name: str,
    text: str,
    entries: Mapping[str, str],
    code: str | None = None,
    title: str = "",
) -> Kernel:
    """The kernel compiled from `text`: from memory, from the cache, or compiled now and kept.

    entries: Numba's signature of each function to reach from outside: "void(int64, int64)". code:
    what of the text decides the machine code, where that is less (comments left out). title: for
    the user who waits, "the step of LSTMCell". Raises KernelError where Numba refuses the text.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    if not _surroundings.cache_info().currsize:
        undisturbed(_surroundings)  # asks LLVM what CPU this is
    decisive = text if code is None else code
    listed = repr(sorted(entries.items()))
    key = files.key(name, decisive, listed, mode(), *_surroundings(), *_imported(decisive))

    def once() -> None:
        if key not in _kernels:
            _kernels[key] = _obtain(name, key, text, dict(entries), title)

    if key not in _kernels:
        undisturbed(once)
    return _kernels[key]


def build_from(name: str, module: str, entries: Mapping[str, str], dtype: Any = None) -> Kernel:
    """The kernel of functions in one of this package's files, which take whole numbers.

    Of one element type: that is the last argument of each.
    """
    imports, last = f"from minigrad.kernels import {module}\n", ""
    if dtype is not None:
        imports, last = f"from numba import {dtype.name}\n\n{imports}", f", {dtype.name}"
    text = imports
    for entry, signature in entries.items():
        count = signature.partition("(")[2].count("int64")
        numbers = ", ".join(f"n{i}" for i in range(count))
        text += f"\n\ndef {entry}({numbers}):\n    return {module}.{entry}({numbers}{last})\n"
    return build(name, text, entries)


def takes(count: int) -> str:
    """The signature of a C function of so many whole numbers."""
    return f"void({', '.join(['int64'] * count)})"


def compiled() -> set[str]:
    """The kernels that this process has compiled, by the stems of their files."""
    return {kernel.stem for kernel in _kernels.values() if not kernel.found}


def _obtain(name: str, key: str, text: str, entries: dict[str, str], title: str) -> Kernel:
    name = re.sub(r"\W", "_", name, flags=re.ASCII)[:80]  # of a file: no "<lambda>", no "a/b"
    stem = f"{name}-{key}"
    if mode() == "plain":
        path = files.store(f"{stem}.py", text.encode())
        module = _run(stem, text, path)
        functions = {entry: getattr(module, entry) for entry in entries}
        return Kernel(stem, path, entries, module, functions)
    place = files.whole(stem)
    if place is not None:
        path = place / f"{stem}.py"
        text = path.read_text(encoding="utf-8")  # may have other comments, so other line numbers
    else:
        path = files.begin(stem, text.encode())
    with no_garbage_collection(), _telling("" if place else title):
        try:
            module, functions = _compile(name, stem, text, path, entries)
        except KernelError:
            raise
        except (OSError, RuntimeError):  # Numba can't write beside the text
            path = None
            module, functions = _compile(name, stem, text, None, entries)
    found = place is not None and all(map(_was_found, functions.values()))
    if path is not None and not found:
        files.seal(path)
    return Kernel(stem, path, entries, module, functions, found)


def _run(stem: str, text: str, path: Path | None) -> ModuleType:
    """The text as an imported module."""
    place = str(path or f"<{stem}.py>")
    module = ModuleType(f"minigrad_kernel_{stem.replace('-', '_')}", "A kernel.")
    module.__file__ = place
    sys.modules[module.__name__] = module  # where Numba looks for the globals of a cached function
    exec(compile(text, place, "exec"), module.__dict__)
    return module


def _compile(
    name: str, stem: str, text: str, path: Path | None, entries: dict[str, str]
) -> tuple[ModuleType, dict[str, Any]]:
    import numba
    from numba.core.errors import NumbaError

    _choose_cpu(numba.config)
    options: dict[str, Any] = dict(_OPTIONS, cache=path is not None)
    found: dict[str, Any] = {}
    with _cached_beside_the_text(numba.config):
        module = _run(stem, text, path)
        for entry, signature in entries.items():
            try:
                if mode() == "checked":
                    found[entry] = numba.njit(signature, nogil=True, **options)(
                        getattr(module, entry)
                    )
                else:
                    found[entry] = numba.cfunc(signature, **options)(getattr(module, entry))
            except NumbaError as error:
                raise KernelError(
                    f"build: Numba refuses '{entry}' of kernel '{name}' ({path}): {error}"
                ) from error
    return module, found


def _was_found(function: Any) -> bool:
    """Whether Numba had the machine code in its cache."""
    if mode() == "checked":
        return bool(function.stats.cache_hits)
    return bool(function.cache_hits)


@cache
def _address(kernel: Kernel, entry: str) -> Any:
    """Of an entry in checked or plain code, where `function` is no C function."""
    function, signature = kernel.functions[entry], kernel.signatures[entry]
    if mode() == "checked":
        import numba

        made: list[Any] = []
        compiled = numba.cfunc(signature, error_model="numpy")
        undisturbed(lambda: made.append(compiled(function.py_func)))
        return made[0].address
    return ctypes.cast(for_good(_c_type(signature)(function)), ctypes.c_void_p).value


def _c_type(signature: str) -> Any:
    """The ctypes type of a C function."""
    match = re.fullmatch(r"(\w+)\((.*)\)", signature)
    if match is None:
        raise KernelError(f"expected a signature like 'void(int64, float64)', came '{signature}'.")
    words: dict[str, Any] = {"void": None, "int32": ctypes.c_int32, "int64": ctypes.c_int64}
    words |= {"float32": ctypes.c_float, "float64": ctypes.c_double}
    result, *rest = (words[w.strip()] for w in (match[1], *match[2].split(",")) if w.strip())
    return ctypes.CFUNCTYPE(result, *rest)


def _choose_cpu(config: Any) -> None:
    """Makes Numba compile for $MINIGRAD_CPU where that is set."""
    if chosen := os.environ.get("MINIGRAD_CPU"):
        config.CPU_NAME, config.CPU_FEATURES = chosen, ""


@contextmanager
def _cached_beside_the_text(config: Any) -> Iterator[None]:
    """Nowhere else: of $NUMBA_CACHE_DIR nobody has said that its pickles can be trusted."""
    wanted = {"CACHE_DIR": "", "CACHE_LOCATOR_CLASSES": "InTreeCacheLocator"}
    before = {name: getattr(config, name) for name in wanted if hasattr(config, name)}
    for name in before:
        setattr(config, name, wanted[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


@contextmanager
def _telling(title: str) -> Iterator[None]:
    """Says on stderr what the user waits for, where somebody is there to read it."""
    asked = os.environ.get("MINIGRAD_PROGRESS", "")
    tells = sys.stderr is not None and (asked == "1" or (asked == "" and sys.stderr.isatty()))
    if not title or not tells:
        yield
        return
    started = time.perf_counter()
    print(f"compiling {title}, once: ", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f"{time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


_FLAGS = ("OPT", "LOOP", "SLP", "CPU", "ENABLE", "DEBUG")  # $NUMBA_... that change machine code


@cache
def _surroundings() -> tuple[str, ...]:
    """What shapes the machine code besides the text and what it imports."""
    flags = (f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_"))
    system = f"{sys.platform} {sys.implementation.cache_tag} {host.vector_bits()}"
    chosen = [flag for flag in flags if flag[6:].startswith(_FLAGS)]
    return (*host.cpu(), system, _version("numba"), _version("llvmlite"), *chosen)


_IMPORT = re.compile(r"^\s*(?:from|import) minigrad\.kernels(?:\.(\w+)| import (.*))", re.MULTILINE)


def _imported(text: str) -> list[str]:
    """The texts of this package's files that a kernel imports, and of what they import."""
    found: dict[str, str] = {}
    wanted = _names(text)
    while wanted:
        name = wanted.pop()
        path = Path(__file__).with_name(f"{name}.py")
        if name not in found and path.exists():
            found[name] = path.read_text(encoding="utf-8")
            wanted += _names(found[name])
    return [found[name] for name in sorted(found) if name not in _NO_CODE]


_NO_CODE = {"host", "jit"}  # they shape no machine code


def _names(text: str) -> list[str]:
    found = (one or several for one, several in _IMPORT.findall(text))
    return [name.split(" as ")[0].strip("() ") for names in found for name in names.split(",")]


def _version(package: str) -> str:
    """The package's own version file, read without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise KernelError(
            f"build: kernels need the package '{package}', which is not installed; "
            f"pip install {package}."
        )
    return (Path(spec.origin).parent / "_version.py").read_text(encoding="utf-8")
