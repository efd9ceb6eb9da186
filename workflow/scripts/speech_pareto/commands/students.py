"""Commands of students at work: they transcribe, classify and verify, and go to the hub."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from speech_pareto.commands.epilog import examples

app = typer.Typer()

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
