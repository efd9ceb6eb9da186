"""Scripts of jobs in forks of one process that has imported torch: no job waits for that again.

    python script_server.py serve SOCKET
    python script_server.py run SOCKET FILE

The first is that process; it imports only what other people wrote, when it is first asked, and ends
when its stdin does.  The second is what Snakemake calls in place of `python FILE`: the script runs
in a fork with this call's folder, environment and output, gets its SIGTERM, and gives it its exit
status.  What the script itself imports from the workflow is imported by each fork.
"""

import atexit
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from types import ModuleType

# What jobs with models and jobs with tables import.
PACKAGES = ("pandas", "pyarrow.parquet", "matplotlib.figure", "soundfile", "torch._dynamo")
PACKAGES += ("safetensors.torch", "accelerate", "transformers.models.hubert.modeling_hubert")
PACKAGES += ("transformers.models.wavlm.modeling_wavlm",)
SIZE = 8  # bytes of a number on the socket


def call(address: str, file: str) -> int:
    """Have a script run, and return its exit status as a shell has it."""
    given = {"file": file, "folder": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(given).encode()
    with socket.socket(socket.AF_UNIX) as server:
        for _ in range(100):  # the server may be about to start
            if not server.connect_ex(address):
                break
            time.sleep(0.1)
        socket.send_fds(server, [len(text).to_bytes(SIZE, "big")], [0, 1, 2])
        server.sendall(text)
        pid = receive(server)
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, number))
        return receive(server)


def receive(connection: socket.socket) -> int:
    """Return the number that comes next."""
    return int.from_bytes(connection.recv(SIZE, socket.MSG_WAITALL), "big")


def send(connection: socket.socket, number: int) -> None:
    """Send a number."""
    connection.sendall(number.to_bytes(SIZE, "big"))


def serve(address: str) -> None:
    """Answer calls until stdin ends."""
    scripts, warm = {}, False  # pid -> the connection of its call
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            ready = select.select([0, listener], [], [], 0.05 if scripts else None)[0]
            if 0 in ready:
                return
            if ready:
                connection, _ = listener.accept()
                if not warm:
                    warm_up()
                    warm = True
                given, streams = read(connection)
                if not (pid := os.fork()):
                    run(given, streams)
                send(connection, pid)
                scripts[pid] = connection
                for stream in streams:
                    os.close(stream)
            while scripts and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = os.waitstatus_to_exitcode(ended[1])
                with scripts.pop(ended[0]) as connection:
                    send(connection, status if status >= 0 else 128 - status)


def warm_up() -> None:
    """Import what takes seconds, and keep it from the search for garbage."""
    import gc
    from importlib import import_module

    for name in PACKAGES:
        import_module(name)
    gc.freeze()


def read(connection: socket.socket) -> tuple[dict, list[int]]:
    """Return what a call asks for, and its stdin, stdout and stderr."""
    size, streams, *_ = socket.recv_fds(connection, SIZE, 3)
    text = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    return json.loads(text), streams


def run(given: dict, streams: list[int]) -> None:
    """Be the process of a call; does not return."""
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(given["environment"])
        os.chdir(given["folder"])
        file = given["file"]
        if any(name.startswith("HF_") for name in os.environ):  # read when packages are imported
            os.execv(sys.executable, [sys.executable, file])
        sys.argv, sys.path[0] = [file], os.path.dirname(file)
        sys.modules["__main__"] = main = ModuleType("__main__")
        main.__file__ = file
        with open(file, "rb") as source:
            exec(compile(source.read(), file, "exec"), vars(main))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # Python would take leave of 3,000 modules


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(call(*sys.argv[2:]))
    serve(sys.argv[2])
