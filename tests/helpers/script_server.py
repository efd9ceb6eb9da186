"""Scripts of jobs in forks of one process that has imported torch: no job waits for that again.

    python script_server.py serve SOCKET
    python script_server.py run SOCKET FILE

The first is that process; it imports only what other people wrote, when it is first asked, and ends
when its stdin does.  The second is what Snakemake calls in place of `python FILE`: the script runs
in a fork with this call's folder, environment and output, gets its SIGTERM, and gives it its exit
status.  What the script itself imports from the workflow is imported by each fork.
"""

import json
import os
import select
import signal
import socket
import sys

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
        server.connect(address)
        socket.send_fds(server, [len(text).to_bytes(SIZE, "big")], [0, 1, 2])
        server.sendall(text)
        pid = receive(server)
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, number))
        return receive(server)


def receive(connection: socket.socket) -> int:
    """Return the number that comes next."""
    return int.from_bytes(connection.recv(SIZE, socket.MSG_WAITALL), "big")


def serve(address: str) -> str:
    """Answer calls until stdin ends; returns in the process of a script, with the script's file."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        warm = False
        while listener in select.select([0, listener], [], [])[0]:
            connection, _ = listener.accept()
            if not warm:
                warm_up()
                warm = True
            if not os.fork():
                listener.close()
                return answer(connection)
            connection.close()
            reap()
    sys.exit()


def warm_up() -> None:
    """Import what takes seconds, and keep it from the search for garbage."""
    import gc
    from importlib import import_module

    for name in PACKAGES:
        import_module(name)
    gc.freeze()


def reap() -> None:
    """Forget the calls that have ended."""
    while os.waitpid(-1, os.WNOHANG)[0]:
        pass


def answer(connection: socket.socket) -> str:
    """Be the process that waits for a script, and return in the script's own."""
    size, streams, *_ = socket.recv_fds(connection, SIZE, 3)
    text = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    if pid := os.fork():
        connection.sendall(pid.to_bytes(SIZE, "big"))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall((status if status >= 0 else 128 - status).to_bytes(SIZE, "big"))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    given = json.loads(text)
    os.environ.clear()
    os.environ.update(given["environment"])
    os.chdir(given["folder"])
    sys.argv, sys.path[0] = [given["file"]], os.path.dirname(given["file"])
    return given["file"]


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(call(*sys.argv[2:]))
    file = serve(sys.argv[2])
    with open(file, "rb") as source:
        code = compile(source.read(), file, "exec")
    for name in [name for name in globals() if not name.startswith("__") and name != "code"]:
        del globals()[name]
    __file__ = code.co_filename
    exec(code)
