"""Keep what transformers does to the random states of the process to itself."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kept_random_state"]


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the global random states of Python, numpy and torch back afterwards; the Trainer seeds all of them."""
    python = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002  (the state that `transformers.set_seed` overwrites)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
