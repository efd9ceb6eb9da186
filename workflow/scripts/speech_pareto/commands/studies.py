"""Commands that answer from a study: how far it is, why jobs run, which student to take."""

import inspect
import re
from pathlib import Path
from typing import Annotated

import typer

from speech_pareto.commands.epilog import examples
from speech_pareto.models.latency import OWN
from speech_pareto.runtime.extras import extra
from speech_pareto.study import paths, quantities

app = typer.Typer()
Folder = Annotated[Path, typer.Option(help="Where your tables of latencies lie.")]


def with_limits(command):
    """Give a command an option for each limit that a budget can have, in place of its **limits."""
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name, (bound, quantity) in quantities.limits().items():
        one = quantities.QUANTITIES[quantity]
        units = f"; units: {', '.join(one.units)}" if one.units else ""
        about = f"{one.label} {quantities.BOUNDS[bound]}{units}"
        hint = Annotated[str | None, typer.Option(metavar="NUMBER", help=about)]
        kind = inspect.Parameter.KEYWORD_ONLY
        kept.append(inspect.Parameter(name, kind, default=None, annotation=hint))
    command.__signature__ = signature.replace(parameters=kept)
    return command


@app.command(
    epilog=examples(
        "recommend --task phones --max-parameters 3M --max-rtf 0.05",
        "recommend --max-seconds 50ms --max-bytes 5MB --min-speedup 2",
        "recommend '<= 20 ms on epyc-1-threads'",
        "recommend --condition worst --max-valid-score 60%",
    )
)
@with_limits
def recommend(
    predicted: Annotated[
        str | None, typer.Argument(help="'<= TIME on DEVICE', predicted from its table.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="One task; by default all.")] = None,
    table: Annotated[Path, typer.Option(help="Table of the study.")] = Path(paths.TABLE),
    folder: Folder = Path(OWN),
    condition: Annotated[
        str | None, typer.Option(help="In which scores count: a condition of the study, or worst.")
    ] = None,
    **limits: str | None,
) -> None:
    """Name the best students within limits.

    The first has the best score of those within all limits; the others are those that no test
    tells from it. Without limits, all students are compared. Times on a device that a table of
    latencies tells of, see `latency`, are predicted, and so is what a study's search expects of a
    recipe that was not run, where that is better than all that were.
    """
    with extra("report"):
        from speech_pareto.reporting import budget, unrun
        from speech_pareto.reporting import predicted as predictions
        from speech_pareto.reporting.tables import points

    asked = budget.read(limits)
    if predicted:
        limit, latencies = predictions.read(predicted, folder)
        asked.append(limit)
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there; run the study first, or give its --table")
    study = points.read(table, condition)
    if task and task not in study["tasks"]:
        raise ValueError(
            f"task {task!r} is not in the table, which has {', '.join(study['tasks'])}"
        )
    if predicted:
        for said in predictions.add(study, limit, latencies, table.resolve().parents[1]):
            typer.echo(f"left out: {said}", err=True)
    found = unrun.read(study, table.resolve().parents[1])
    answers = [
        budget.text(study, asked, name) + unrun.text(study, found, asked, name)
        for name in ([task] if task else study["tasks"])
    ]
    typer.echo("\n".join(answers), nl=False)


@app.command(epilog=examples("interim", "interim --results /scratch/me/results"))
def interim(
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    study: Annotated[Path | None, typer.Option(help="Its config, if not that of the run.")] = None,
) -> None:
    """Show what a running study has done so far.

    Tables and page of the cells that are done are written to results/interim. Nothing is started,
    and nothing waited for.
    """
    with extra("report"):
        from speech_pareto.reporting import interim
        from speech_pareto.study import config

    file = study or results / "run_config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; has Snakemake started this study here?")
    resolved = interim.read_study(file, results) if study else config.load(file)
    typer.echo(interim.write(resolved, results), nl=False)


@app.command(epilog=examples("status", "status --directory /scratch/me/study"))
def status(directory: Annotated[Path, typer.Option(help="Where Snakemake runs.")] = Path()) -> None:
    """Show how far a study is.

    Of each cell: whether it is done, running, waiting or has failed, and why; then the time left.
    """
    import os

    with extra("report"):
        from speech_pareto.study import config, progress

    study = directory / paths.RESOLVED
    if not study.is_file():
        raise FileNotFoundError(f"{study} is not there; has Snakemake started a study here?")
    os.chdir(directory)  # paths of the study are seen from there
    typer.echo(progress.text(config.load(paths.RESOLVED), Path()), nl=False)


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=examples("why", "why --configfile mine.yaml results/report.html"),
)
def why(
    arguments: Annotated[list[str] | None, typer.Argument(help="Those of the run.")] = None,
) -> None:
    """Explain why Snakemake would run its jobs.

    Each group of jobs has a line. All arguments go to Snakemake: use those of the run.
    """
    import subprocess

    from speech_pareto.study import reruns

    try:
        text = reruns.dry_run(arguments or [])
    except subprocess.CalledProcessError as error:  # Snakemake says what is wrong on either stream
        typer.echo(error.stdout, nl=False, err=True)
        raise typer.Exit(error.returncode)
    typer.echo(reruns.explain(text), nl=False)


@app.command(
    epilog=examples("latency --device pi-5", "latency --device pi-zero --seconds 5 --width 1536")
)
def latency(
    device: Annotated[str, typer.Option(help="What this machine shall be called.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of the processor.")] = 1,
    folder: Folder = Path(OWN),
    seconds: Annotated[float, typer.Option(min=0.5, help="Longest audio.")] = 10.0,
    width: Annotated[int, typer.Option(min=64, help="Most channels or rows.")] = 3072,
) -> None:
    """Measure how long the parts of models take on this machine.

    From the table that is written, `recommend` and a study's `ratios` tell the time of any model
    on it. Let nothing else run meanwhile.
    """
    from speech_pareto.profiling import latency_table

    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", device):
        raise ValueError(f"--device: {device!r} is not lower-case words joined by '-'")
    file = latency_table.measure(device, folder, threads, width, seconds)
    typer.echo(f"{file}: try speech-pareto recommend '<= 50 ms on {file.stem}'")


@app.command(
    epilog=examples(
        "superb PR=5.41 ASR=6.42 KS=96.3 QbE=0.0736 SID=81.42 ASV=5.11 SD=5.88 \\\n"
        "    IC=98.34 SF_F1=88.53 SF_CER=25.2 ER=64.92"
    )
)
def superb(
    figures: Annotated[list[str], typer.Argument(help="TASK=FIGURE, in percent but for QbE.")],
) -> None:
    """Print the two scores that sum up SUPERB.

    They need the figures of all ten tasks.
    """
    from speech_pareto.reporting.tables import superb_score

    found = superb_score.parse(figures)
    typer.echo(f"overall {superb_score.overall(found):.2f}")
    typer.echo(f"superb_s {superb_score.superb_s(found):.1f}")
