"""The servers that `make lab` and `make app` start, for the tests that ask them, with a browser or without."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from places import ROOT

_START_SECONDS = 60


@contextmanager
def server(target: str, options: str, folder: Path) -> Iterator[str]:
    """What `make TARGET` would start, with further options, in `folder`; yields its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variable = f"{target.upper()}_OPTIONS={options} --no-browser --port={port}"
    recipe = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", target, variable], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    command = shlex.split(next(line for line in recipe.splitlines() if "/python " in line))
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    with (folder / f"{target}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command[1:]], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(f"{address}/favicon.ico", process)  # the page itself would start a kernel
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(20)


def wait_until_served(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_START_SECONDS * 4):
        assert process.poll() is None, "the server stopped"
        try:
            urllib.request.urlopen(address, timeout=60).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise AssertionError(f"{address} does not answer")
