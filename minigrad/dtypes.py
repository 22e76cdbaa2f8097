"""Which dtypes a Tensor may have: float32 and float64, integers of any width, and booleans."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError


def supported(who: str, dtype: Any) -> np.dtype:
    """`dtype` as NumPy has it, in this machine's byte order. Raises DTypeError for all others.

    >>> supported("astype", "float32")
    dtype('float32')
    """
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"{who}: {dtype!r} is no dtype: {error}.") from None
    if found.kind in "biu" or (found.kind == "f" and found.itemsize in (4, 8)):
        return found.newbyteorder("=")
    hint = "; pass dtype=np.float64" if found.kind == "f" and found.itemsize > 8 else ""
    raise DTypeError(
        f"{who}: cannot hold {found}; expected float32, float64, integers or booleans{hint}."
    )
