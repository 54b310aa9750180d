"""The errors tailwise raises on purpose.

Every message says what was expected, what was found and where, and what to do next. The command line prints the message
alone (exit code 2); a traceback means a fault of ours.
"""

__all__ = [
    "DataError",
    "MissingDependencyError",
    "ModelError",
    "SettingError",
    "StoreError",
    "TailwiseError",
    "UnknownNameError",
]


class TailwiseError(Exception):
    """Root of every error that tailwise raises on purpose."""


class DataError(TailwiseError, ValueError):
    """The data cannot be used as they are: names the file, the line and the remedy."""


class SettingError(TailwiseError, ValueError):
    """A parameter, a recipe or a configuration file is wrong."""


class UnknownNameError(SettingError):
    """A name is not registered; the message suggests the nearest ones."""


class ModelError(TailwiseError, ValueError):
    """A model folder is broken, unsafe or not what was asked for."""


class StoreError(TailwiseError, RuntimeError):
    """The result store or the feature cache on disk cannot be used."""


class MissingDependencyError(TailwiseError, ImportError):
    """An optional package is needed; the message names the extra to install."""
