"""What a command prints: results to standard output, everything else to standard error.

``NO_COLOR`` is honoured (by rich), progress bars appear on a terminal only, `--quiet` and `--json` silence the rest.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from tailwise.training.engine import Progress as ProgressCallback

__all__ = ["Output", "error_console"]

_CHATTY = ("transformers", "datasets", "optuna", "accelerate", "huggingface_hub", "sentence_transformers", "filelock")


def error_console() -> Console:
    """The console of messages and progress."""
    return Console(stderr=True)


@dataclass
class Output:
    """How one command talks.

    Attributes:
        quiet: only the result.
        as_json: the result as JSON, nothing else on standard output.
    """

    quiet: bool = False
    as_json: bool = False
    out: Console = field(default_factory=lambda: Console(width=None if sys.stdout.isatty() else 120))
    err: Console = field(default_factory=error_console)

    def __post_init__(self) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.showwarning = self._warn

    def note(self, text: str) -> None:
        """A line for the person who watches."""
        if not self.quiet:
            self.err.print(escape(text), style="dim", highlight=False, soft_wrap=True)

    def say(self, renderable: Any) -> None:
        """A part of the result, for people; text is printed as it is."""
        if self.as_json:
            return
        if isinstance(renderable, str):
            self.out.print(escape(renderable), highlight=False, soft_wrap=True)
        else:
            self.out.print(renderable)

    def json(self, data: Any) -> None:
        """The result for programs, when asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=_plain) + "\n")

    def _warn(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
            return
        self.note(f"warning: {message}")

    @contextmanager
    def progress(self) -> Iterator[ProgressCallback]:
        """A callback that draws one bar per kind of work, with the time that remains."""
        bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=self.err, transient=True,
            disable=self.quiet or not self.err.is_terminal,
        )  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        with bars:
            yield update


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return str(value)
