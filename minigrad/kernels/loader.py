"""Object code into memory, and the slot in which a kernel leaves its error. Needs llvmlite only."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from itertools import count
from typing import Any

from minigrad.kernels import host
from minigrad.kernels.jit import KernelError

ERROR_SYMBOL = "minigrad_kernel_error"  # int64[8]: status, kernel's name, low, high, begin, end


def symbol_of(export: str) -> str:
    """What an export is called in its object, so that it is no function of the C library."""
    return f"minigrad_{export}"


class _Engine:
    """LLVM's loader (ORC with JITLink: code, constants and stubs of an object lie together)."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.llvm = llvm
        self.orc = llvm.create_lljit_compiler(target_machine(), use_jit_link=True)
        self.error = (ctypes.c_int64 * 8)()
        self.libraries: list[Any] = []  # LLVM unloads those that nobody holds
        self.numbers = count()  # a name stays taken where linking failed

    def find(self, symbol: str, links: Mapping[str, int]) -> int | None:
        """The address behind a symbol."""
        if symbol == ERROR_SYMBOL:
            return ctypes.addressof(self.error)
        address = links.get(symbol) or self.llvm.address_of_symbol(symbol)
        if address is None and hasattr(_libm(), symbol):
            return ctypes.cast(getattr(_libm(), symbol), ctypes.c_void_p).value
        return address


def target_machine() -> Any:
    """What object code is made for."""
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
    name: str, exports: list[str], needs: list[str], code: bytes, links: Mapping[str, int]
) -> dict[str, int]:
    """Addresses of the exports of an object; the caller holds jit's lock."""
    loader = engine()
    addresses = {symbol: loader.find(symbol, links) for symbol in needs}
    if missing := [symbol for symbol, address in addresses.items() if address is None]:
        raise KernelError(
            f"jit.build: kernel '{name}' needs the symbols {', '.join(missing)}, which are "
            "nowhere in this process; pass their addresses in links=."
        )
    builder = loader.llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for symbol, address in addresses.items():
        builder.import_symbol(symbol, address)
    for export in exports:
        builder.export_symbol(symbol_of(export))
    library = builder.link(loader.orc, f"{name}.{next(loader.numbers)}")
    loader.libraries.append(library)
    return {export: library[symbol_of(export)] for export in exports}


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
