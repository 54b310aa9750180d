"""`tailwise recommend`: which methods are worth trying on a corpus, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tailwise.advisor.situation import Budget, Goal
from tailwise.cli.console import Output
from tailwise.cli.options import (
    CatchAll,
    Data,
    EngineName,
    Json,
    LabelColumn,
    LabelPaths,
    LabelSeparator,
    PairColumn,
    Quiet,
    Revision,
    SplitColumn,
    SplitSeed,
    TaskName,
    TextColumn,
    Unseen,
    load_corpus,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailwise.advisor.recommend import Recommendation

__all__ = ["advice_table", "recommend"]


def recommend(
    data: Data,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    task: TaskName = None,
    label_separator: LabelSeparator = None,
    label_paths: LabelPaths = None,
    split: SplitColumn = None,
    revision: Revision = None,
    catch_all: CatchAll = None,
    unseen: Unseen = "error",
    split_seed: SplitSeed = 13,
    goal: Annotated[Goal, typer.Option("--goal", help="What matters.")] = "macro",
    budget: Annotated[Budget | None, typer.Option("--budget", help="What training may cost.")] = None,
    engine: EngineName = "probe",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Ranked methods with rule, reason, evidence and cost; methods that cannot be run here are named as such."""
    from tailwise.advisor.recommend import recommend as run_advisor
    from tailwise.advisor.recommend import rules_origin
    from tailwise.imbalance.diagnosis import diagnose

    output = Output(quiet=quiet, as_json=as_json)
    corpus = load_corpus(
        output, data, text=text, text_pair=text_pair, label=label, split=split, revision=revision,
        catch_all=catch_all, unseen=unseen, split_seed=split_seed, task=task,
        label_separator=label_separator, label_paths=label_paths,
    )  # fmt: skip
    advice = run_advisor(diagnose(corpus), goal=goal, budget=budget, engine=engine)
    output.say(advice_table(advice))
    output.note(rules_origin())
    output.json([item.to_dict() for item in advice])


def advice_table(advice: Sequence[Recommendation]) -> Table:
    """The recommendations as a table for the terminal."""
    table = Table(title="Worth trying, in this order", title_justify="left", box=None, header_style="bold")
    for heading in ("method", "cost", "rules", "published"):
        table.add_column(heading, no_wrap=heading in {"method", "cost"}, overflow="fold")
    table.add_column("why", overflow="fold")
    for item in advice:
        name = item.method if item.available else f"{item.method} ({item.absence})"
        evidence = item.state + (f" ({', '.join(item.references)})" if item.references else "")
        why = " ".join([*item.reasons, *item.notes, *([item.flag.capitalize() + "."] if item.flag else [])])
        table.add_row(escape(name), item.tier, item.rule, escape(evidence), escape(why))
    return table
