"""Commands beside the workflow: `python -m speech_pareto --help`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from speech_pareto.runtime.extras import extra
from speech_pareto.study import paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` (by default those of the shell) name."""
    parser = argparse.ArgumentParser(prog="python -m speech_pareto", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_recommend(commands)
    _add_interim(commands)
    _add_sizes(commands)
    _add_status(commands)
    _add_superb(commands)
    _add_transcribe(commands)
    _add_voices(commands)
    _add_why(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, ModuleNotFoundError) as error:  # what a file or its lack explains
        sys.exit(f"error: {error}")


# a command: its arguments, and a function that imports what it needs only once it is run


def _add_recommend(commands) -> None:
    """Add the command `recommend`."""
    what = "the best students of a finished study within a budget"
    parser = commands.add_parser("recommend", help=what, description=what)
    parser.add_argument("budget", help='such as "<= 3 M parameters, <= 0.05 RTF"')
    parser.add_argument("--task", help="one task; by default all")
    table = Path(paths.TABLE)
    parser.add_argument("--table", type=Path, default=table, help="%(default)s")
    parser.set_defaults(run=_recommend)


def _recommend(options: argparse.Namespace) -> None:
    """Print the answer for one task or all."""
    with extra("study"):
        from speech_pareto.reporting import budget
        from speech_pareto.reporting.tables import points

    if not options.table.is_file():
        sys.exit(f"{options.table} is not there; run the study first, or name it with --table")
    study = points.read(options.table)
    tasks = [options.task] if options.task else list(study["tasks"])
    if options.task and options.task not in study["tasks"]:
        sys.exit(
            f"task {options.task!r} is not in the table, which has {', '.join(study['tasks'])}"
        )
    try:
        answers = [budget.text(study, options.budget, task) for task in tasks]
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write("\n".join(answers))


def _add_interim(commands) -> None:
    """Add the command `interim`."""
    what = "tables and page of what is there of a running study, without waiting for the rest"
    parser = commands.add_parser("interim", help=what, description=what)
    parser.add_argument("--results", type=Path, default=Path("results"), help="%(default)s")
    parser.add_argument("--study", type=Path, help="by default run_config.yaml of the results")
    parser.set_defaults(run=_interim)


def _interim(options: argparse.Namespace) -> None:
    """Write and print what is there."""
    with extra("study"):
        from speech_pareto.reporting import interim
        from speech_pareto.study import config

    file = options.study or options.results / "run_config.yaml"
    if not file.is_file():
        sys.exit(f"{file} is not there; has Snakemake started this study here?")
    study = interim.read_study(file) if options.study else config.load(file)
    sys.stdout.write(interim.write(study, options.results))


def _add_sizes(commands) -> None:
    """Add the command `sizes`."""
    what = "compare published sizes and MACs with what is built"
    parser = commands.add_parser("sizes", help=what, description=what)
    parser.add_argument("--output", type=Path, default=Path("docs/sizes.md"), help="%(default)s")
    parser.set_defaults(run=_sizes)


def _sizes(options: argparse.Namespace) -> None:
    """Write the page of sizes."""
    from speech_pareto.profiling import published_sizes
    from speech_pareto.runtime import result

    result.write_text(options.output, published_sizes.page())


def _add_status(commands) -> None:
    """Add the command `status`."""
    what = "the grid of a study while it runs: done, running, failed and why, waiting, time left"
    parser = commands.add_parser("status", help=what, description=what)
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where Snakemake runs (default: here)"
    )
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> None:
    """Print how far the study is."""
    import os

    with extra("study"):
        from speech_pareto.study import config, progress

    study = options.directory / paths.RESOLVED
    if not study.is_file():
        sys.exit(f"{study} is not there; has Snakemake started a study here?")
    os.chdir(options.directory)  # paths of the study are seen from there
    study = config.load(paths.RESOLVED)
    sys.stdout.write(progress.text(study, Path()))


def _add_superb(commands) -> None:
    """Add the command `superb`."""
    what = "the two scores that sum up SUPERB's ten tasks"
    parser = commands.add_parser("superb", help=what, description=what)
    parser.add_argument(
        "figures",
        nargs="+",
        metavar="TASK=FIGURE",
        help="PR=5.41 ASR=6.42 ..., all of PR ASR KS QbE SID ASV SD IC SF_F1 SF_CER ER, in percent "
        "but for QbE (0.0736)",
    )
    parser.set_defaults(run=_superb)


def _superb(options: argparse.Namespace) -> None:
    """Print both scores."""
    from speech_pareto.reporting.tables import superb_score

    try:
        figures = superb_score.parse(options.figures)
        scores = superb_score.overall(figures), superb_score.superb_s(figures)
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write("overall {:.2f}\nsuperb_s {:.1f}\n".format(*scores))


def _add_transcribe(commands) -> None:
    """Add the command `transcribe`."""
    what = "transcribe recordings with a fine-tuned student"
    about = (
        f"{what}: a line with file, tab and text for each on stdout, the real-time factor (seconds "
        "of computing per second of audio, without reading files) on stderr"
    )
    parser = commands.add_parser("transcribe", help=what, description=about)
    parser.add_argument("model", type=Path, help="fine-tuned folder or exported .onnx file")
    parser.add_argument(
        "audio", type=Path, nargs="+", help="recording: WAV, FLAC, MP3, M4A, ..., any sample rate"
    )
    parser.add_argument("--threads", type=_positive, help="CPU threads (default: torch's choice)")
    parser.set_defaults(run=_transcribe)


def _positive(text: str) -> int:
    """Return a whole number above 0."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _transcribe(options: argparse.Namespace) -> None:
    """Print a line per recording; one that cannot be read spoils only the exit status."""
    import numpy as np
    import torch

    from speech_pareto.data.audio import SAMPLE_RATE
    from speech_pareto.tasks.recogniser import load_recogniser, read

    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        recognise = load_recogniser(options.model)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    recognise(np.zeros(SAMPLE_RATE, np.float32))  # a first pass lays out memory: it is not timed
    heard = computed = 0.0
    failed = False
    for path in options.audio:
        try:
            wave = read(path)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"error: {error}\n")
            failed = True
            continue
        began = time.perf_counter()
        text = recognise(wave)
        computed += time.perf_counter() - began
        heard += len(wave) / SAMPLE_RATE
        sys.stdout.write(f"{path}\t{text}\n")
        sys.stdout.flush()
    if heard:
        threads = torch.get_num_threads()
        sys.stderr.write(
            f"RTF {computed / heard:.4f}: {heard:.1f} s of audio in {computed:.2f} s, "
            f"{threads} thread{'s' * (threads > 1)}, {recognise.device}\n"
        )
    if failed:
        sys.exit(1)


def _add_voices(commands) -> None:
    """Add the command `voices`."""
    what = "codes of the languages that espeak-ng spells in phones, as `language` of a corpus"
    parser = commands.add_parser("voices", help=what, description=what)
    parser.set_defaults(run=_voices)


def _voices(options: argparse.Namespace) -> None:
    """Print code and name of each voice."""
    from speech_pareto.data.text import VOICES, voice, voices

    known = voices()
    names = {file: name for name, file in known.values()}
    known |= {code: (names[voice(code)], voice(code)) for code in VOICES}
    lines = [f"{code:20} {name} ({file})\n" for code, (name, file) in sorted(known.items())]
    sys.stdout.write("".join(lines))


def _add_why(commands) -> None:
    """Add the command `why`."""
    what = "why jobs are planned: a line for each group of them"
    # another prefix, so that Snakemake's options are no options here
    parser = commands.add_parser("why", help=what, prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs="*")  # those of the run: why --configfile mine.yaml
    parser.set_defaults(run=_why)


def _why(options: argparse.Namespace) -> None:
    """Print why Snakemake would run what it would run."""
    import subprocess

    from speech_pareto.study import reruns

    try:
        text = reruns.dry_run(options.arguments)
    except subprocess.CalledProcessError as error:  # Snakemake says what is wrong on either stream
        sys.stderr.write(error.stdout)
        sys.exit(error.returncode)
    sys.stdout.write(reruns.explain(text))


if __name__ == "__main__":
    main()
