"""YAML as people write it: numbers as in YAML 1.2, where ``1e-3`` and ``1e9`` are numbers.

PyYAML goes by YAML 1.1, for which they are texts: there an exponent needs a point before it and a sign, 1.0e+9.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tailwise.errors import SettingError

__all__ = ["read_yaml", "write_yaml"]

_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")

#: characters beside the newline that YAML 1.1 takes for line breaks
_BREAKS = frozenset("\x85\u2028\u2029")


class _Loader(yaml.SafeLoader):
    """Reads numbers with an exponent."""


class _Dumper(yaml.SafeDumper):
    """Quotes texts that look like a number with an exponent."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read_yaml(text: str, what: str) -> Any:
    """The data in a text; `what` begins the message, for example ``"The recipe is"``.

    Raises:
        SettingError: not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-13-01 is a ValueError
        raise SettingError(f"{what} not valid YAML: {error}") from error


def write_yaml(data: Any) -> str:
    """Plain data as YAML that `read_yaml` reads back unchanged, keys in their order."""
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    if _BREAKS.intersection(text):  # written as they are, they would be read as line breaks
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False)
    return text
