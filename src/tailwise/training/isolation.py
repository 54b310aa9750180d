"""Keep what transformers does to the process to itself: random states, log level, progress bars."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers.utils import logging

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kept_random_state", "quiet_transformers"]


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


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Only errors and no bars from transformers; progress is the engine's business."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
