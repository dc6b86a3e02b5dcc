"""The small ``nightmill``: has its command carried out by the process of :mod:`tests.support.warm`.

It is copied beside that process's socket, and runs without site-packages. Where a variable changes what an interpreter
imports, beyond where it looks for plug-ins, the installed program takes over.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main() -> None:
    """Carry out the command of this process."""
    argv = [os.path.join(os.path.dirname(sys.executable), "nightmill"), *sys.argv[1:]]  # noqa: PTH118, PTH120
    folders = os.environ.get("PYTHONPATH", "").split(":")
    variables = [name for name, value in os.environ.items() if value and name.startswith("PYTHON")]
    if variables not in ([], ["PYTHONPATH"]) or any(os.path.exists(f"{each}/sitecustomize.py") for each in folders):  # noqa: PTH110
        os.execv(argv[0], argv)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.path.join(os.path.dirname(__file__), "socket"))  # noqa: PTH118, PTH120
        for number in FORWARDED:
            signal.signal(number, lambda number, _frame: server.sendall(bytes([number])))
        umask = os.umask(0o777)
        os.umask(umask)
        told = json.dumps({"argv": argv, "environment": dict(os.environ), "umask": umask}).encode()
        folder = os.open(".", os.O_RDONLY)
        socket.send_fds(server, [len(told).to_bytes(4, "big")], [0, 1, 2, folder])
        server.sendall(told)
        answer = server.recv(2)
    code = int.from_bytes(answer, "big", signed=True) if answer else 1
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
