"""Conditions of rules: comparisons of inputs, joined by all and any, with a third value for what is not known.

A comparison with an unknown input is unknown. `all` is false where one part is false, else unknown where one part is
unknown; `any` is true where one part is true, else unknown where one part is unknown (Kleene's logic).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tailwise.advisor.situation import INPUTS, Situation
from tailwise.errors import SettingError
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clause", "Comparison", "Condition", "read_condition"]

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda found, wanted: found in wanted,
}
_ORDERED = {"<", "<=", ">", ">="}


class Condition(Protocol):
    """What a rule asks of a situation."""

    def holds(self, situation: Situation) -> bool | None:
        """Whether it holds; None where that is not known."""

    def explain(self, situation: Situation, outcome: bool | None) -> list[str]:
        """The comparisons that come out like that, in words."""


@dataclass(frozen=True)
class Comparison:
    """One input against a value."""

    input: str
    op: str
    value: Any

    def holds(self, situation: Situation) -> bool | None:
        """Whether the comparison holds; None where the input is unknown."""
        found = getattr(situation, self.input)
        return None if found is None else bool(_OPERATORS[self.op](found, self.value))

    def explain(self, situation: Situation, outcome: bool | None) -> list[str]:
        """One sentence where the comparison comes out like that, else none."""
        if self.holds(situation) is not outcome:
            return []
        found = getattr(situation, self.input)
        if found is None:
            return [f"{self.input} is unknown ({INPUTS[self.input].source})"]
        return [f"{self.input} is {_words(found)}" + ("" if outcome else f", needs {self._wanted()}")]

    def _wanted(self) -> str:
        if self.op == "in":
            return "one of " + ", ".join(map(str, self.value))
        return _words(self.value) if self.op == "==" else f"{self.op} {_words(self.value)}"


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


@dataclass(frozen=True)
class Clause:
    """Several conditions, all or any of which must hold; `all` of none always holds."""

    mode: Literal["all", "any"]
    parts: tuple[Condition, ...]

    def holds(self, situation: Situation) -> bool | None:
        """Whether the parts hold together; None where that is not known."""
        decisive = self.mode == "any"
        outcomes = [part.holds(situation) for part in self.parts]
        if decisive in outcomes:
            return decisive
        return None if None in outcomes else not decisive

    def explain(self, situation: Situation, outcome: bool | None) -> list[str]:
        """The parts that come out like that."""
        return [text for part in self.parts for text in part.explain(situation, outcome)]


def read_condition(data: Any, where: str) -> Condition:
    """Read a condition from plain data.

    Raises:
        SettingError: not a condition, an unknown input or operator, or a value that the input cannot take.
    """
    if isinstance(data, Mapping) and len(data) == 1:
        mode, parts = next(iter(data.items()))
        if mode in ("all", "any") and isinstance(parts, list):
            return Clause(mode, tuple(read_condition(part, where) for part in parts))
    if not isinstance(data, Mapping) or set(data) != {"input", "op", "value"}:
        raise SettingError(
            f"{where}: expected `all`, `any` or a mapping of `input`, `op` and `value`, but got {data!r}."
        )
    comparison = Comparison(**data)
    if comparison.input not in INPUTS:
        raise SettingError(
            f"{where}: unknown input {comparison.input!r}. {did_you_mean(str(comparison.input), INPUTS)}"
        )
    if comparison.op not in _OPERATORS:
        raise SettingError(f"{where}: unknown operator {comparison.op!r}. Known: {', '.join(_OPERATORS)}.")
    _check_value(comparison, where)
    return comparison


def _check_value(comparison: Comparison, where: str) -> None:
    kind = INPUTS[comparison.input].kind
    wanted = comparison.value if comparison.op == "in" else [comparison.value]
    if not isinstance(wanted, list) or not wanted:
        raise SettingError(f"{where}: `in` needs a list of values, but got {comparison.value!r}.")
    numeric = kind is int or kind is float
    if comparison.op in _ORDERED and not numeric:
        raise SettingError(f"{where}: {comparison.input!r} has no order, so {comparison.op!r} makes no sense.")
    for value in wanted:
        if isinstance(kind, tuple):
            if value not in kind:
                raise SettingError(
                    f"{where}: {comparison.input!r} is never {value!r}. {did_you_mean(str(value), kind)}"
                )
        elif isinstance(value, bool) != (kind is bool) or not isinstance(value, int | float):
            raise SettingError(f"{where}: {comparison.input!r} is a {kind.__name__}, but got {value!r}.")
