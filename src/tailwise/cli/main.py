"""`tailwise`: entry point, and how errors leave it.

Exit codes: 0 all went well; 2 a mistake of the user's, told in one message; 1 a fault of ours, with its traceback; 130
interrupted, to be continued by the same command.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from tailwise import __version__
from tailwise.cli import compare, diagnose, methods, predict, recommend, run, synthesize
from tailwise.cli.console import error_console
from tailwise.errors import TailwiseError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]

app = typer.Typer(
    name="tailwise",
    help="Make rare classes learnable: diagnose a corpus, compare methods fairly, train the best, report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("diagnose")(diagnose.diagnose)
app.command("recommend")(recommend.recommend)
app.command("compare")(compare.compare)
app.command("methods")(methods.methods)
app.command("predict")(predict.predict)
app.command("synthesize")(synthesize.synthesize)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"tailwise {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_print_version, is_eager=True
    ),
) -> None:
    del version


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    console = error_console()
    try:
        app(args=arguments, standalone_mode=True)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else int(bool(leave.code))
    except TailwiseError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing is lost: the same command continues where this one ended.", highlight=False)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception:  # noqa: BLE001 - the last line of defence: a fault of ours is shown whole and leaves with 1
        console.print(
            "[bold red]tailwise failed.[/] This is a fault of ours; please report what follows.", highlight=False
        )
        traceback.print_exc()
        return 1
    return 0
