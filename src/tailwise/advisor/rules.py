"""The rules of the decision aid, read from ``rules.yaml`` and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tailwise.advisor.conditions import Clause, Condition, read_condition
from tailwise.errors import SettingError
from tailwise.plain_yaml import read_yaml
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from tailwise.advisor.situation import Situation

__all__ = ["Candidate", "Rule", "RuleBook", "RuleOutcome", "read_rules", "rule_book"]

_ALWAYS = Clause("all", ())
_RULE_KEYS = ("id", "when", "candidates", "reason", "evidence", "note", "restricts_to")
_CANDIDATE_KEYS = ("method", "when", "note")


@dataclass(frozen=True)
class Candidate:
    """A method that a rule names, where its own condition holds."""

    method: str
    when: Condition = _ALWAYS
    note: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: R0 to R22.
        when: its condition.
        candidates: methods to try, in order.
        reason: why.
        evidence: where that is said.
        note: what to bear in mind.
        restricts_to: where this rule fires, only these rules name candidates; empty restricts nothing.
    """

    id: str
    when: Condition
    candidates: tuple[Candidate, ...]
    reason: str
    evidence: str
    note: str = ""
    restricts_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleOutcome:
    """Whether a rule names candidates in a situation, and why."""

    rule: str
    fired: bool
    why: str


@dataclass(frozen=True)
class RuleBook:
    """All rules in order, and where they come from."""

    origin: str
    rules: tuple[Rule, ...]

    def outcomes(self, situation: Situation) -> list[RuleOutcome]:
        """Every rule in order: whether it fires, with the comparisons that decided."""
        fired = [rule for rule in self.rules if rule.when.holds(situation) is True]
        kept = {rule.id for rule in self.rules}
        for rule in fired:
            if rule.restricts_to:
                kept &= {*rule.restricts_to, rule.id}
        blocking = ", ".join(rule.id for rule in fired if rule.restricts_to)
        return [self._outcome(rule, situation, blocking if rule.id not in kept else "") for rule in self.rules]

    def _outcome(self, rule: Rule, situation: Situation, blocked_by: str) -> RuleOutcome:
        holds = rule.when.holds(situation)
        why = "; ".join(rule.when.explain(situation, holds)) or "always"
        if holds and blocked_by:
            return RuleOutcome(rule.id, fired=False, why=f"set aside by {blocked_by} ({why})")
        return RuleOutcome(rule.id, fired=holds is True, why=why)

    def __getitem__(self, rule_id: str) -> Rule:
        """The rule of that id."""
        found = next((rule for rule in self.rules if rule.id == rule_id), None)
        if found is None:
            raise SettingError(f"Unknown rule {rule_id!r}. {did_you_mean(rule_id, [r.id for r in self.rules])}")
        return found


@cache
def rule_book() -> RuleBook:
    """The rules that come with the package."""
    return read_rules((files("tailwise.advisor") / "rules.yaml").read_text(encoding="utf-8"))


def read_rules(text: str) -> RuleBook:
    """Read rules from YAML.

    Raises:
        SettingError: not YAML, a key missing or unknown, an id twice, or a condition that cannot be read.
    """
    data = read_yaml(text, "The rules are")
    if not isinstance(data, Mapping) or not isinstance(data.get("rules"), list):
        raise SettingError("The rules: expected a mapping with `origin` and a list `rules`.")
    rules = tuple(_rule(entry, i) for i, entry in enumerate(data["rules"]))
    known = [rule.id for rule in rules]
    for rule in rules:
        if known.count(rule.id) > 1:
            raise SettingError(f"Rule {rule.id} is there twice.")
        for other in rule.restricts_to:
            if other not in known:
                raise SettingError(
                    f"Rule {rule.id}, restricts_to: unknown rule {other!r}. {did_you_mean(other, known)}"
                )
    return RuleBook(str(data.get("origin", "")), rules)


def _rule(data: Any, position: int) -> Rule:
    where = f"Rule {data['id']}" if isinstance(data, Mapping) and "id" in data else f"Rule at position {position + 1}"
    _check_keys(data, _RULE_KEYS, ("id", "when", "candidates", "reason", "evidence"), where)
    for key in ("id", "reason", "evidence"):
        if not isinstance(data[key], str) or not data[key].strip():
            raise SettingError(f"{where}: expected `{key}` to be text, but got {data[key]!r}.")
    return Rule(
        id=data["id"],
        when=read_condition(data["when"], where),
        candidates=tuple(_candidate(entry, where) for entry in data["candidates"]),
        reason=data["reason"],
        evidence=data["evidence"],
        note=data.get("note", ""),
        restricts_to=tuple(data.get("restricts_to", ())),
    )


def _candidate(data: Any, where: str) -> Candidate:
    if isinstance(data, str):
        return Candidate(data)
    where = f"{where}, candidates"
    _check_keys(data, _CANDIDATE_KEYS, ("method",), where)
    when = read_condition(data["when"], where) if "when" in data else _ALWAYS
    return Candidate(data["method"], when, data.get("note", ""))


def _check_keys(data: Any, known: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    if not isinstance(data, Mapping):
        raise SettingError(f"{where}: expected a mapping, but got {data!r}.")
    for key in data:
        if key not in known:
            raise SettingError(f"{where}: unknown key {key!r}. {did_you_mean(str(key), known)}")
    missing = [key for key in needed if key not in data]
    if missing:
        raise SettingError(f"{where}: missing {', '.join(missing)}.")
