"""Which methods are worth trying on a data set, and why: rules R0 to R22 applied to a diagnosis.

The rules are data (``rules.yaml``), reconstructed from the text and tables of the survey; its decision figure is an
image. Every fired rule adds candidates. They are ranked by published state for the task (applied in Table 3, then
applicable, then open), then by cost tier, then in the order of the rules.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tailwise.advisor.evidence import MethodFacts, method_facts
from tailwise.advisor.rules import RuleOutcome, rule_book
from tailwise.advisor.situation import Budget, Goal, Situation, TestPrior

if TYPE_CHECKING:
    from collections.abc import Collection

    from tailwise.catalog.method import Setting, State, Tier
    from tailwise.imbalance.diagnosis import Diagnosis

__all__ = ["UNSUPPORTED", "Recommendation", "fired_rules", "recommend", "recommend_for", "rules_origin"]

UNSUPPORTED = "not supported by published evidence for this setting"
_STATE_ORDER: dict[State, int] = {"applied": 0, "applicable": 1, "open": 2}


@dataclass(frozen=True)
class Recommendation:
    """A method worth trying.

    Attributes:
        method: its name.
        title: one line.
        rules: ids of the rules that name it, in order.
        reasons: why, one sentence per rule.
        evidence: where that is said, per rule.
        notes: what to bear in mind.
        tier: cost, from T0 (post hoc, seconds) to T4 (heavy).
        available: whether this version of tailwise has it.
        state: published state for the task: applied, applicable or open.
        references: of `applied`.
        basis: where the state comes from.
    """

    method: str
    title: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    evidence: tuple[str, ...]
    notes: tuple[str, ...]
    tier: Tier
    available: bool
    state: State
    references: tuple[str, ...]
    basis: str

    @property
    def rule(self) -> str:
        """The ids of the rules, as text."""
        return ", ".join(self.rules)

    @property
    def absence(self) -> str:
        """Why it cannot be run here: nobody built it, or it does not run with this engine or on this task."""
        from tailwise.catalog import METHODS

        return "not with this engine or task" if self.method in METHODS else "not built yet"

    @property
    def flag(self) -> str | None:
        """A warning where the published state is open."""
        return UNSUPPORTED if self.state == "open" else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {**data, "flag": self.flag}


def recommend(
    diagnosis: Diagnosis,
    *,
    task: Setting | None = None,
    goal: Goal = "macro",
    budget: Budget | None = None,
    engine: str | None = None,
    test_prior: TestPrior = "same",
    groups: bool = False,
    unlabelled_pool: bool = False,
    annotation_budget: bool = False,
    related_data: bool = False,
    generation: bool = False,
    encoder_trained: bool = False,
    available: Collection[str] | None = None,
) -> list[Recommendation]:
    """Ranked methods for a diagnosed corpus.

    Args:
        diagnosis: of the corpus; with features, the rules on class overlap can fire.
        task: binary, multiclass, multilabel, sequence or relation; by default from the number of classes.
        goal: macro, minority_f1, all or calibrated_probabilities.
        budget: head_only, one_finetune, few_finetunes or large; by default head_only for the engine ``"probe"``, else
            few_finetunes.
        engine: name of the engine that will run the methods.
        test_prior: class distribution at test time: same, uniform or known.
        groups: groups of instances matter besides classes.
        unlabelled_pool: there is plenty of unlabelled text of the domain.
        annotation_budget: more can be annotated.
        related_data: there are related labelled data sets.
        generation: a text generator or machine translation may be used.
        encoder_trained: the encoder is trained already and stays as it is.
        available: names of the methods that can be run; by default those of the catalog that the engine runs.

    Raises:
        SettingError: a value that the argument cannot take.
    """
    situation = Situation.of(
        diagnosis,
        task=task,
        goal=goal,
        budget=budget or ("head_only" if engine == "probe" else "few_finetunes"),
        test_prior=test_prior,
        groups=groups,
        unlabelled_pool=unlabelled_pool,
        annotation_budget=annotation_budget,
        related_data=related_data,
        generation=generation,
        encoder_trained=encoder_trained,
    )
    if available is None:
        from tailwise.catalog import METHODS

        runs = {name: method.engines for name, method in METHODS.items() if method.engines}
        known = {kind for kinds in runs.values() for kind in kinds}
        available = [
            name
            for name, kinds in runs.items()
            if (engine in kinds or engine not in known) and METHODS[name].refusal(diagnosis.task, engine) is None
        ]
    return recommend_for(situation, available=available)


def recommend_for(situation: Situation, *, available: Collection[str] | None = None) -> list[Recommendation]:
    """Ranked methods for a situation; methods that do not apply to its task are left out."""
    from tailwise.catalog import METHODS

    names = [n for n, m in METHODS.items() if m.engines] if available is None else available
    found: dict[str, _Collected] = {}
    for outcome in fired_rules(situation):
        rule = rule_book()[outcome.rule]
        for candidate in rule.candidates if outcome.fired else ():
            if candidate.when.holds(situation) is not True:
                continue
            if candidate.method not in found:
                found[candidate.method] = _Collected(method_facts(candidate.method, situation.task, METHODS))
            found[candidate.method].add(rule.id, rule.reason, rule.evidence, (rule.note, candidate.note))
    advice = [collected.recommendation(name, available=name in names) for name, collected in found.items()]
    return sorted((a for a in advice if a.state != "no"), key=lambda a: (_STATE_ORDER[a.state], a.tier))


def fired_rules(situation: Situation) -> list[RuleOutcome]:
    """Every rule in order, whether it fires in a situation, and why or why not."""
    return rule_book().outcomes(situation)


def rules_origin() -> str:
    """Where the rules come from, for display beside any recommendation."""
    return rule_book().origin


@dataclass
class _Collected:
    """What the fired rules say about one method."""

    facts: MethodFacts
    rules: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, rule: str, reason: str, evidence: str, notes: tuple[str, ...]) -> None:
        self.rules.append(rule)
        self.reasons.append(reason)
        self.evidence.append(evidence)
        self.notes += [note for note in notes if note and note not in self.notes]

    def recommendation(self, name: str, *, available: bool) -> Recommendation:
        published = self.facts.published
        return Recommendation(
            method=name,
            title=self.facts.title,
            rules=tuple(self.rules),
            reasons=tuple(self.reasons),
            evidence=tuple(self.evidence),
            notes=tuple(self.notes),
            tier=self.facts.tier,
            available=available,
            state=published.state,
            references=published.references,
            basis=published.basis,
        )
