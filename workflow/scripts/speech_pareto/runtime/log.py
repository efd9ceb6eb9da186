"""Logging of a job: to the rule's log and to stderr, with a traceback only in the log."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from speech_pareto.runtime.garbage import collect_seldom
from speech_pareto.runtime.processes import first, started

LITTLE = 1 << 20  # bytes; a disk with less is full


@contextmanager
def logged(path: str | Path) -> Iterator[None]:
    """Log to `path` and to stderr; an error leaves its traceback in the log and ends the process.

    Of several processes of a job the first one goes on with the log; from the others only errors
    get there. Raises SystemExit(1) for any Exception, after one plain sentence on stderr.
    """
    collect_seldom()  # before the job imports anything large
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="a" if started() else "w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.INFO)
    handlers = (file, terminal)
    for handler in handlers:
        handler.setLevel(logging.NOTSET if first() else logging.ERROR)
        handler.addFilter(_matters)
        root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    except Exception as error:
        root.removeHandler(terminal)  # the traceback is for the log alone
        root.exception("failed")
        full = f"{hint}\n" if (hint := _full(path)) else ""
        sys.stderr.write(f"{type(error).__name__}: {error}\n{full}The traceback is in {path}\n")
        raise SystemExit(1) from None
    finally:
        logging.captureWarnings(False)
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
        with suppress(OSError):  # the disk is full: there is no room for the rest of the log
            file.close()


def _full(path: Path) -> str | None:
    """Return that a disk is full, which libraries say in words of their own, None if none is."""
    for folder in (path.parent, Path(tempfile.gettempdir())):
        if shutil.disk_usage(folder).free < LITTLE:
            return f"The disk that holds {folder.resolve()} is full; make room and run again."
    return None


def _matters(record: logging.LogRecord) -> bool:
    """Return whether to keep a record: all of ours, and other libraries' warnings."""
    ours = record.name.partition(".")[0] in ("speech_pareto", "__main__", "root")
    return ours or record.levelno >= logging.WARNING
