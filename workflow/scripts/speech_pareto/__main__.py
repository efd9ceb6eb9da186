"""Commands beside the workflow: `speech-pareto --help`, or `python -m speech_pareto --help`."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from speech_pareto import __version__
from speech_pareto.models.latency import OWN
from speech_pareto.runtime.extras import extra
from speech_pareto.study import paths, quantities

# Functions import what they need once they are called: `--help` needs neither torch nor pandas.
app = typer.Typer(
    help="Which compressed speech model? Answers from a study, and students at work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` name, by default those of the shell, and exit.

    Raises SystemExit; its code is 0, or 2 after a wrong argument, or what went wrong in one line.
    """
    try:
        app(arguments)
    except (OSError, ValueError, ModuleNotFoundError) as error:  # what a file or its lack explains
        sys.exit(f"error: {error}")


def examples(*lines: str) -> str:
    """Return commands as the end of a help text, each on its own line."""
    return "\n".join(["\b", "Examples:", *(f"  speech-pareto {line}" for line in lines)])


VERSION = typer.Option("--version", help="Print the version and exit.")


@app.callback(invoke_without_command=True)
def common(version: Annotated[bool, VERSION] = False) -> None:
    """Print the version if it is asked for; any command comes after this."""
    if version:
        typer.echo(f"speech-pareto {__version__}")
        raise typer.Exit


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


Model = Annotated[Path, typer.Argument(help="Fine-tuned folder or exported .onnx file.")]
Audio = Annotated[list[Path], typer.Argument(help="WAV, FLAC, MP3, M4A, ..., at any rate.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; else torch's choice.")]


Jobs = Annotated[int, typer.Option(min=1, help="Processes, each with a model of its own.")]


@app.command(
    epilog=examples(
        "transcribe results/finetuned/tiny/low-rank/0.5/1/characters *.wav --jobs 4",
        "transcribe student.onnx lecture.mp3 --format srt > lecture.srt",
        "transcribe student.onnx *.flac --format json --output texts",
    )
)
def transcribe(
    model: Model,
    audio: Audio,
    form: Annotated[str, typer.Option("--format", help="text, json, srt or vtt.")] = "text",
    output: Annotated[Path | None, typer.Option(help="Folder of a file per recording.")] = None,
    jobs: Jobs = 1,
    threads: Threads = None,
) -> None:
    """Transcribe recordings of any length with a student.

    As text, each has a line on stdout: file, tab and text, or class if the student classifies. The
    other formats have a time for each word, and are for one recording, or for a folder of files.
    The real-time factor (seconds of computing per second of audio, without reading files) is on
    stderr. What cannot be read is said there, too, and the exit status is 1 then.
    """
    from functools import partial

    from speech_pareto.runtime.suggest import unknown
    from speech_pareto.tasks import transcription
    from speech_pareto.tasks.captions import FORMATS

    if form not in FORMATS:
        raise ValueError(f"--format: {unknown('format', form, FORMATS)}")
    if output is None and form != "text" and len(audio) > 1:
        raise ValueError(f"--format {form} of several recordings needs a folder: --output")
    files = {path: output / f"{path.stem}.{form}" for path in audio} if output else {}
    if len(set(files.values())) < len(files):
        raise ValueError("--output: two recordings have the same name")
    lines = output is None and form == "text"
    ask = transcription.transcribed if lines else partial(transcription.captioned, form)

    def show(path: Path, text: str) -> None:
        if output:
            output.mkdir(parents=True, exist_ok=True)
            files[path].write_text(text, encoding="utf-8")
        else:
            typer.echo(f"{path}\t{text}" if lines else text, nl=lines)

    _recognise(model, audio, ask, show, jobs, threads)


@app.command(
    epilog=examples(
        "classify results/finetuned/tiny/low-rank/0.5/1/languages *.wav",
        "classify student.onnx speech.flac --threads 4",
    )
)
def classify(model: Model, audio: Audio, jobs: Jobs = 1, threads: Threads = None) -> None:
    """Classify recordings with a student.

    Each has a line on stdout: file, class and its probability, with tabs between them. All else is
    as with transcribe.
    """
    from speech_pareto.tasks import transcription

    def show(path: Path, text: str) -> None:
        typer.echo(f"{path}\t{text}")

    _recognise(model, audio, transcription.classified, show, jobs, threads)


@app.command(
    epilog=examples("listen student.onnx < speech.raw")
    + "\n  arecord -f S16_LE -r 16000 -c 1 | speech-pareto listen student.onnx"
)
def listen(
    model: Model,
    rate: Annotated[int, typer.Option(min=1000, help="Samples a second.")] = 16_000,
    threads: Threads = None,
    now: Annotated[
        bool, typer.Option("--now", help="Write as it is heard: folders of students in chunks.")
    ] = False,
) -> None:
    """Transcribe what comes from standard input: 16-bit samples (PCM), one channel.

    After each pause a line says when it began and ended, in seconds, and the text.
    """
    import torch

    from speech_pareto.tasks.captions import text
    from speech_pareto.tasks.recogniser import load_recogniser
    from speech_pareto.tasks.transcription import heard

    if threads:
        torch.set_num_threads(threads)
    if now:
        from speech_pareto.tasks.live import written

        for more in written(model, heard(sys.stdin.buffer, rate)):
            typer.echo(more, nl=False)
            sys.stdout.flush()
        typer.echo()
        return
    for words in load_recogniser(model).words(heard(sys.stdin.buffer, rate), live=True):
        if words:
            typer.echo(f"{words[0].start:.2f}\t{words[-1].end:.2f}\t{text(words)}", nl=False)
            sys.stdout.flush()


@app.command(
    epilog=examples(
        "verify results/finetuned/tiny/low-rank/0.5/1/speakers anna.wav who.wav",
        "verify student.onnx anna.wav who.flac",
    )
)
def verify(
    model: Model,
    first: Annotated[Path, typer.Argument(help="WAV, FLAC, MP3, M4A, ..., at any rate.")],
    second: Annotated[Path, typer.Argument(help="The recording to compare it with.")],
    threads: Threads = None,
) -> None:
    """Tell whether two recordings are of one speaker.

    One line on stdout, with tabs: both files, `same` or `other`, the score and the threshold. The
    score is the cosine of both embeddings; from the threshold on, which was chosen on validation, a
    pair counts as one speaker.
    """
    import torch

    from speech_pareto.tasks.recogniser import load_recogniser

    if threads:
        torch.set_num_threads(threads)
    recognise = load_recogniser(model)
    same, score = recognise.verify(first, second)
    found = "same" if same else "other", f"{score:.4f}", f"{recognise.threshold:.4f}"
    typer.echo("\t".join([str(first), str(second), *found]))


def _recognise(
    model: Path,
    audio: list[Path],
    ask: Callable,
    show: Callable[[Path, str], None],
    jobs: int,
    threads: int | None,
) -> None:
    """Show what `ask` returns of each recording, and how fast it was; a bar says the time left."""
    import torch
    from tqdm import tqdm

    from speech_pareto.tasks import transcription

    spoken, computed, failed, device = 0.0, 0.0, False, ""
    length = transcription.seconds_of(audio)
    with tqdm(total=length, unit="s", unit_scale=True, disable=None, leave=False) as bar:
        for answer in transcription.answers(model, audio, ask, jobs, threads, bar.update):
            spoken, computed = spoken + answer.heard, computed + answer.spent
            device = answer.device
            with tqdm.external_write_mode():
                if answer.error:
                    typer.echo(f"error: {answer.error}", err=True)
                    failed = True
                else:
                    show(answer.path, answer.text)
    if spoken:
        own = threads or (torch.get_num_threads() if jobs == 1 else 1)
        where = f"{own} thread{'s' * (own > 1)}, " + f"{jobs} processes, " * (jobs > 1) + device
        typer.echo(
            f"RTF {computed / spoken:.4f}: {spoken:.1f} s of audio in {computed:.2f} s, {where}",
            err=True,
        )
    if failed:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "push results/deploy/base/dphubert/0.75/1/characters/transformers me/small-hubert",
        "push FOLDER me/small-hubert --licence cc-by-sa-3.0 --yes",
    )
)
def push(
    folder: Annotated[Path, typer.Argument(help="What `snakemake deploy` wrote for a program.")],
    to: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    licence: Annotated[str | None, typer.Option(help="Written into the model card.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new model is private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send it.")] = False,
) -> None:
    """Send a student to the Hugging Face hub.

    Without --yes nothing is sent: its files and what hinders it are listed, and the exit status is
    1 if anything does.
    """
    from speech_pareto.reporting import publish

    found = publish.prepare(folder, to, licence)
    typer.echo(found.text)
    if found.problems:
        raise typer.Exit(1)
    typer.echo(publish.send(found, private) if yes else "Nothing was sent; --yes sends it.")


@app.command(epilog=examples("voices | grep -i portuguese"))
def voices() -> None:
    """List the languages that can be spelt in phones.

    Their codes are those of espeak-ng, as `language` of a corpus names them.
    """
    from speech_pareto.data import text

    known = text.voices()
    names = {file: name for name, file in known.values()}
    known |= {code: (names[text.voice(code)], text.voice(code)) for code in text.VOICES}
    for code, (name, file) in sorted(known.items()):
        typer.echo(f"{code:20} {name} ({file})")


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


if __name__ == "__main__":
    main()
