"""Snakemake in forks of one process that has imported it: a start costs no seconds of imports.

`Server` starts that process, which is this file as a script.  Each line that it reads is a call;
its answer is the exit status.  A fork has the folder, environment and output of its call, and runs
`main` of Snakemake as `python -m snakemake` does.  The workflow's own modules are imported by each
fork, from the workflow that it reads.  Scripts of jobs run in forks of a process of their own, see
`script_server`.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

SCRIPTS = Path(__file__).with_name("script_server.py")


class Server:
    """A process that has imported Snakemake; it ends with the one that started it."""

    def __init__(self) -> None:
        self.process, self.lock = None, threading.Lock()
        self.folder = tempfile.TemporaryDirectory()

    def run(self, folder: Path, arguments: list[str]) -> subprocess.CompletedProcess:
        """Run Snakemake in `folder`, with this process's environment, and wait for its end."""
        command = [sys.executable, "-m", "snakemake", *arguments]
        with (
            self.lock,
            tempfile.NamedTemporaryFile() as out,
            tempfile.NamedTemporaryFile() as err,
        ):
            call = {"folder": str(folder), "argv": command[2:], "out": out.name, "err": err.name}
            status = self._ask(call | {"environment": dict(os.environ) | {"OMP_NUM_THREADS": "1"}})
            said = [Path(file.name).read_text() for file in (out, err)]
        return subprocess.CompletedProcess(command, status, *said)

    def _ask(self, call: dict) -> int:
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            command = [sys.executable, __file__, f"{self.folder.name}/scripts"]
            self.process = subprocess.Popen(command, text=True, **pipes)
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def serve(scripts: str) -> None:
    """Answer calls until there are no more; scripts run in a server at the socket `scripts`."""
    from snakemake import cli
    from snakemake.script import PythonScript

    def execute_script(self, fname: str, edit: bool = False) -> None:
        self._execute_cmd(f"{sys.executable} -S {SCRIPTS} run {scripts} {{fname:q}}", fname=fname)

    PythonScript.execute_script = execute_script
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPTS, "serve", scripts]
    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    cli.get_argument_parser()  # imports the plugins
    calls, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for line in iter(calls.readline, ""):
        call = json.loads(line)
        pid = os.fork()
        if not pid:
            calls.close()
            answers.close()
            run(call, cli.main)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


def run(call: dict, main) -> None:
    """Be the process of one call; does not return."""
    status = 1
    try:
        for number, name in ((1, call["out"]), (2, call["err"])):
            with open(name, "wb") as file:
                os.dup2(file.fileno(), number)
        os.environ.clear()
        os.environ.update(call["environment"])
        os.chdir(call["folder"])
        sys.argv, sys.path[0] = call["argv"], call["folder"]
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
