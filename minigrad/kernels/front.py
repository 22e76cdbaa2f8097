"""Numba as a front end: Python source -> LLVM -> object code. Imported on a cache miss only.

numba.cfunc is not used itself: its C wrapper takes the GIL and needs Numba's runtime in the
process, and it loads the code at once, where LLVM ends the process at a symbol still to be linked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import compiler, registry
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError

from minigrad.kernels import loader
from minigrad.kernels.jit import LOOP, KernelError, parse_signature
from minigrad.kernels.loader import ERROR_SYMBOL, symbol_of

_MATHS = (
    "exp exp2 expm1 log log2 log10 log1p pow sqrt cbrt hypot sin cos tan asin acos atan atan2 sinh "
    "cosh tanh asinh acosh atanh erf erfc floor ceil rint trunc round fmod fma ldexp frexp"
)
_ALLOWED = {name + suffix for name in _MATHS.split() for suffix in ("", "f")} | {
    "memcpy",
    "memmove",
    "memset",
    "malloc",
    "free",
    "feclearexcept",
    ERROR_SYMBOL,
}


def compile_source(
    name: str,
    text: str,
    path: Path,
    exports: Mapping[str, str],
    links: Mapping[str, int],
) -> tuple[bytes, list[str]]:
    """(object code, external symbols it needs); `path` is where the text stands, for tracebacks."""
    module: dict[str, Any] = {"__name__": f"minigrad_{name}", "__file__": str(path)}
    exec(compile(text, str(path), "exec"), module)
    if "assembly" in module:
        return _assemble(module["assembly"](), exports)
    linked = llvm.parse_assembly("")
    for export, signature in exports.items():
        try:
            native, parts = _lower(module[export], signature)
        except NumbaError as error:
            raise KernelError(
                f"jit.build: Numba refuses '{export}' of kernel '{name}' ({path}): {error}"
            ) from error
        entry = _c_entry(export, native, signature, f"{name}.{export}")
        for part in (*parts, llvm.parse_assembly(entry)):
            linked.link_in(part, preserve=True)
    needs = _optimise(linked, set(map(symbol_of, exports)))
    unknown = [symbol for symbol in needs if symbol not in _ALLOWED | set(links)]
    if unknown:
        raise KernelError(
            f"jit.build: kernel '{name}' ({path}) refers to {', '.join(unknown)}; expected only "
            "its own exports, libm and the names in links=."
        )
    return loader.target_machine().emit_object(linked), needs


def _assemble(text: str, exports: Iterable[str]) -> tuple[bytes, list[str]]:
    """Object code of LLVM text that is written as it should be: only instructions are chosen."""
    loader.engine()  # LLVM learns its targets there
    module = llvm.parse_assembly(text)
    for export in exports:
        module.get_function(export).name = symbol_of(export)
    return loader.target_machine().emit_object(module), _external(module)


def _lower(function: Callable[..., Any], signature: str) -> tuple[str, list[Any]]:
    """Numba's front half: the function's symbol, and the modules of it and of what it calls."""
    target = registry.cpu_target
    flags: Any = compiler.Flags()
    # NumPy's error model: a zero check at each division would block vectorisation.
    target.options.parse_as_flags(flags, {"error_model": "numpy", "nopython": True})
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    result, words = parse_signature(signature)
    with global_compiler_lock:
        library = target.target_context.codegen().create_library(function.__name__)
        library._optimize_functions = lambda module: None  # _optimise does it for the whole
        made = compiler.compile_extra(
            target.typing_context,
            target.target_context,
            function,
            tuple(map(numba_type, words)),
            numba_type(result),
            flags,
            {},
            library,
        )
        callees = [callee._get_module_for_linking() for callee in library._linking_libraries]
        return made.fndesc.llvm_func_name, [library._final_module, *callees]


def _optimise(module: Any, exported: set[str]) -> list[str]:
    """Run LLVM's pipeline over the whole object; returns the external symbols left in it."""
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in exported:
            value.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(loader.target_machine(), options)
    builder.getModulePassManager().run(module, builder)
    return _external(module)


def _external(module: Any) -> list[str]:
    values = (*module.functions, *module.global_variables)
    return sorted(v.name for v in values if v.is_declaration and not v.name.startswith("llvm."))


_NUMBA = {"i8": "int8", "i32": "int32", "i64": "int64", "f32": "float32", "f64": "float64"}


def numba_type(word: str) -> Any:
    """The Numba type of a word of a C signature."""
    if word.endswith("*"):
        return types.CPointer(numba_type(word[:-1]))
    return getattr(types, {"void": "void", "ptr": "voidptr", **_NUMBA}[word])


def _return_slot(word: str) -> str:
    """The LLVM type that Numba's function writes to its result pointer: of void a null pointer."""
    kind = registry.cpu_target.target_context.get_return_type(numba_type(word))
    return "ptr" if isinstance(kind, ir.PointerType) else str(kind)


def _c_entry(export: str, native: str, signature: str, name: str) -> str:
    """LLVM text of the C function around a Numba function, which returns a status code.

    Status above 0 is a Python exception; it goes to the error slot with the kernel's name.
    """
    result, words = parse_signature(signature)

    def llvm_type(word: str) -> str:
        return {"f32": "float", "f64": "double"}.get(word, "ptr" if word[-1] == "*" else word)

    passed = [f"{llvm_type(word)} %a{i}" for i, word in enumerate(words)]
    parameters = ["ptr %context", *passed, "ptr %auxiliary"] if signature == LOOP else passed
    slot = _return_slot(result)
    returned = "i32" if signature == LOOP else llvm_type(result)
    value = "" if result == "void" else " %value"
    back = "ret i32 0" if signature == LOOP else f"ret {returned}{value}"
    return f"""
@name = private constant [{len(name) + 1} x i8] c"{name}\\00"
@{ERROR_SYMBOL} = external global [8 x i64]
declare i32 @"{native}"({", ".join(["ptr", "ptr", *map(llvm_type, words)])})
define {returned} @"{symbol_of(export)}"({", ".join(parameters)}) {{
  %result = alloca {slot}
  %exception = alloca ptr
  store {slot} zeroinitializer, ptr %result
  %status = call i32 @"{native}"({", ".join(["ptr %result", "ptr %exception", *passed])})
  %failed = icmp sgt i32 %status, 0
  br i1 %failed, label %report, label %done
report:
  %wide = sext i32 %status to i64
  store i64 %wide, ptr @{ERROR_SYMBOL}
  store ptr @name, ptr getelementptr (i8, ptr @{ERROR_SYMBOL}, i64 8)
  br label %done
done:
  %value = load {slot}, ptr %result
  {back}
}}
"""
