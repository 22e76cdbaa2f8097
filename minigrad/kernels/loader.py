"""Object code into memory, and the slot in which a kernel leaves its error. Needs llvmlite only."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from typing import Any

from minigrad.kernels import host
from minigrad.kernels.jit import KernelError

ERROR_SYMBOL = "minigrad_kernel_error"  # int64[8]: status, kernel's name, low, high, begin, end


class _Engine:
    """LLVM's loader (MCJIT), one a process."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.llvm = llvm
        self.machine = target_machine()
        # lmm: one reservation per object, so code and constants stay within 32-bit offsets.
        self.mcjit = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self.machine, use_lmm=True)
        self.error = (ctypes.c_int64 * 8)()
        llvm.add_symbol(ERROR_SYMBOL, ctypes.addressof(self.error))
        self.images: list[Any] = []

    def define(self, symbol: str, links: Mapping[str, int]) -> bool:
        """Make `symbol` known to MCJIT, which ends the process at one that it can't find."""
        if symbol in links:
            self.llvm.add_symbol(symbol, links[symbol])
        elif self.llvm.address_of_symbol(symbol) is None:
            function = getattr(_libm(), symbol, None)
            if function is None:
                return False
            self.llvm.add_symbol(symbol, ctypes.cast(function, ctypes.c_void_p).value)
        return True


def target_machine() -> Any:
    """What object code is made for. The small code model: MCJIT misplaces the large one's data."""
    import llvmlite.binding as llvm

    name, features = host.cpu()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="small"
    )


@cache
def engine() -> _Engine:
    """The process's loader, made at the first kernel."""
    return _Engine()


@cache
def _libm() -> ctypes.CDLL:
    from ctypes.util import find_library  # starts a subprocess on Linux, so only when needed

    return ctypes.CDLL(find_library("m") or find_library("ucrtbase"))


def load(
    name: str, symbols: dict[str, str], needs: list[str], code: bytes, links: Mapping[str, int]
) -> dict[str, int]:
    """Addresses of the exports of an object; the caller holds jit's lock."""
    loader = engine()
    missing = [symbol for symbol in needs if not loader.define(symbol, links)]
    if missing:
        raise KernelError(
            f"jit.build: kernel '{name}' needs the symbols {', '.join(missing)}, which are "
            "nowhere in this process; pass their addresses in links=."
        )
    image = loader.llvm.ObjectFileRef.from_data(code)
    loader.mcjit.add_object_file(image)
    loader.images.append((image, code))  # LLVM may read them for as long as the code lives
    loader.mcjit.finalize_object()
    return {export: loader.mcjit.get_function_address(s) for export, s in symbols.items()}


def raise_error() -> None:
    """Raise the error that a kernel left since the last call, if any.

    Raises IndexError for an access outside a declared extent, KernelError for any other.
    """
    slot = engine().error
    if slot[0] == 0:
        return
    name = ctypes.string_at(slot[1]).decode()
    status, _, low, high, begin, end, *_ = slot
    ctypes.memset(slot, 0, ctypes.sizeof(slot))
    if begin == end:
        raise KernelError(f"kernel {name}: stopped by an exception (Numba status {status}).")
    raise IndexError(
        f"kernel {name}: expected accesses inside bytes [{low}, {high}) of a pointer, came "
        f"[{begin}, {end}); correct the offset or the extent declared in the source."
    )
