"""`fp4guard bench sim | gluon | oracle | gpu`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from .commands import CLEAN, ERROR, INTERRUPTED, as_text, guarded, tell

#: The tables of `bench gpu`: named here, for `--help` must import nothing heavy.
GPU_TABLES = ("cost", "clean", "defects", "survival")

#: Comparisons, each a module of `fp4guard.bench`: named here for the same reason.
COMPARISONS = {
    "sim": "One launch in the simulator, all checks on, beside the same launch in Triton's own interpreter.",
    "gluon": "One launch of a Gluon kernel in the simulator beside its twin's in plain Triton.",
    "oracle": "Codecs, quantisation and the exact GEMM beside ml_dtypes, gfloat, torch and numpy, one thread each.",
}


@click.group()
def bench() -> None:
    """How fast fp4guard is, beside what it is measured against."""


def _comparison(name: str, what: str) -> click.Command:
    """The command of a comparison."""

    @click.command(name, help=what)
    @click.option(
        "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Timings of each, in turn."
    )
    @click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
    @guarded
    def command(rounds: int, as_json: bool) -> int:
        from .console import Console
        from .interrupts import interruptible

        comparison = import_module(f".bench.{name}", __package__).COMPARISON
        with interruptible():
            rows = Console(stderr=as_json).comparison(comparison, rounds)
        if as_json:
            click.echo(as_text(comparison.as_json(rows)), nl=False)
        return CLEAN

    return command


for _name, _what in COMPARISONS.items():
    bench.add_command(_comparison(_name, _what))


@bench.command(name="gpu")
@click.argument("tables", nargs=-1, type=click.Choice(GPU_TABLES), metavar="[TABLE]...")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at a time [one for each CPU].")
@click.option("--cases", type=click.IntRange(min=1), default=5000, show_default=True, help="Of the table `clean`.")
@click.option("--json", "form", flag_value="json", help="As JSON on standard output.")
@click.option("--markdown", "form", flag_value="markdown", help="As Markdown on standard output.")
@guarded
def bench_gpu(tables: Sequence[str], jobs: int | None, cases: int, form: str | None) -> int:
    """What guards cost on a GPU and what they see there, beside compute-sanitizer.

    A TABLE is cost, clean, defects or survival; all of them without one.
    """
    from .bench.gpu.table import Scale, as_json, as_markdown, environment
    from .bench.gpu.tables import TABLES
    from .console import Console
    from .gpu.device import current_gpu
    from .interrupts import check, interruptible

    current_gpu()  # or it is refused before anything is run
    console = Console(stderr=form is not None)
    scale = Scale(jobs or os.cpu_count() or 1, cases)
    chosen = [TABLES[name] for name in dict.fromkeys(tables or GPU_TABLES)]
    rows: dict[str, list[Any]] = {table.name: [] for table in chosen}
    unfinished = list(rows)
    interrupted, errors = False, list[Exception]()
    try:
        with interruptible():
            for table in chosen:
                try:
                    console.table(table, table.measure(scale), rows[table.name])
                    unfinished.remove(table.name)
                except Exception as error:
                    check()  # or it is what an interrupt has led to
                    errors.append(error)  # what was measured is told all the same
    except KeyboardInterrupt:
        interrupted = True
    measured = {table.name: table.together(rows[table.name]) for table in chosen}
    if form is not None:
        where = environment()
        as_asked = {
            "json": lambda: as_text(as_json(measured, where, unfinished)),
            "markdown": lambda: as_markdown(chosen, measured, where, unfinished),
        }
        click.echo(as_asked[form](), nl=False)
    for problem in errors:
        tell(problem)
    return INTERRUPTED if interrupted else ERROR if errors else CLEAN
