"""Loops that numba compiles, where it is installed: the extra ``tailwise[fast]`` asks for it.

A single operation of PyTorch goes over the whole matrix, and costs a microsecond or two where that is small. A compiled
loop does all of its work in a pass or two.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["can_compile", "compiled"]

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def can_compile() -> bool:
    """Whether numba can be imported."""
    try:
        importlib.import_module("numba")
    except ImportError:  # not installed, or too old for the NumPy at hand
        return False
    return True


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a loop over arrays, to be compiled at its first call.

    The machine code is kept on disk for the next process, where there is a folder that can be written. Terms of a sum
    may be added in another order, a vector register at a time; the arithmetic is exact otherwise.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        built: Callable[P, R] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no such folder
        built = numba.njit(**options)(function)
    return built
