"""The servers of `make app` and `make lab`, asked without a browser: who gets in, what is served, how many kernels."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import serve_explorers
import websocket
from page_servers import server
from places import ROOT

pytestmark = pytest.mark.slow
EVIL = "evil.example"


def ask(host: str, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and text of the answer to one request, whose path goes out as it is."""
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


@pytest.fixture(scope="module", params=["app", "lab"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """The address of a server, the token that it made up, and its folder, with a secret in it and one beside it."""
    folder = tmp_path_factory.mktemp("served") / request.param
    shutil.copytree(ROOT / "tools", folder / "tools")
    (folder / "tools/explorers.py").write_text("page = 1\n")
    for place in (folder.parent, folder / "tools"):
        (place / "secret.png").write_text("top secret")
    kernels = "--Kernels.limit=1 --Kernels.cull_idle_timeout=15 --Kernels.cull_interval=1"
    with server(request.param, {"app": kernels, "lab": "--allow-root"}[request.param], folder) as address:
        token = re.search(r"\?token=([0-9a-f]{32,})", (folder / f"{request.param}.log").read_text())
        yield address.removeprefix("http://"), token[1], folder


def test_only_this_machine_under_its_own_name_and_with_the_token_gets_in(served: tuple[str, str, Path]) -> None:
    host, token, folder = served
    page = {"app": "/", "lab": "/lab"}[folder.name]
    with pytest.raises(ConnectionRefusedError):  # 127.0.0.2 is this machine too: a server of all addresses answers
        socket.create_connection(("127.0.0.2", int(host.partition(":")[2])), 10)
    for path in (page, f"{page}?token=wrong"):
        status, headers, _ = ask(host, path)
        assert status == 302 and "/login?" in headers["Location"], path
    for path in ("/api/kernels/0-0-0-0-0", "/api/kernels/0-0-0-0-0/channels"):
        assert ask(host, path)[0] == 403 and ask(host, f"{path}?token={token}")[0] in (400, 404), path
    assert [ask(host, f"{page}?token={token}", Host=name)[0] for name in (EVIL, f"127.0.0.1.{EVIL}:80")] == [403, 403]


def test_no_file_that_the_page_does_not_need_is_served(served: tuple[str, str, Path]) -> None:
    host, token, folder = served
    places = "files static api/contents lab/extensions lab/api/themes voila/files voila/static voila/labextensions "
    for place in f"{places}voila/templates/lab/static voila/api/themes .".split():
        for up in ("../", "../../", "../../../", "%2e%2e/%2e%2e/", "..%2f", "..%2f..%2f..%2f"):
            status, _, text = ask(host, f"/{place}/{up}secret.png?token={token}")
            assert status >= 302 and "top secret" not in text, (place, up)
    inside = [ask(host, f"/{place}/secret.png?token={token}") for place in ("files/tools", "voila/files")]
    assert [status for status, *_ in inside] == {"app": [302, 403], "lab": [200, 404]}[folder.name]


@pytest.mark.parametrize("served", ["app"], indirect=True)
def test_the_page_runs_no_code_of_its_reader_and_starts_few_kernels(served: tuple[str, str, Path]) -> None:
    host, page, folder = served[0], f"/?token={served[1]}", served[2]
    assert serve_explorers.Kernels.limit.default_value == 4 and 60 <= serve_explorers.IDLE_SECONDS <= 300
    with ThreadPoolExecutor(3) as threads:  # at once, before any kernel is there
        answers = sorted(threads.map(lambda _: ask(host, page), range(3)), key=lambda answer: answer[0])
    assert [status for status, *_ in answers] == [200, 503, 503]
    assert "1 pages are open, as many as may be: close one, then load this again" in answers[1][2]
    _, headers, text = answers[0]
    assert headers["Content-Security-Policy"].startswith("default-src 'self' ")
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    kernel = re.search(r'"kernelId": "([\w-]+)"', text)[1]
    cookie = headers["Set-Cookie"].partition(";")[0]

    def connect(**options: str) -> Any:
        return websocket.create_connection(f"ws://{host}/api/kernels/{kernel}/channels", 60, **options)

    for refused in ({"origin": f"http://{EVIL}", "cookie": cookie}, {"host": EVIL, "cookie": cookie}, {}):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            connect(**refused)
    connection = connect(cookie=cookie)
    code = f"open({str(folder / 'written')!r}, 'w')"
    for kind, content in (("execute_request", {"code": code}), ("kernel_info_request", {})):
        header = {"msg_id": kind, "msg_type": kind, "session": "s", "username": "", "date": "", "version": "5.3"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}
        connection.send(json.dumps({**message, "channel": "shell"}))
    kinds = [""]
    while kinds[-1] != "kernel_info_reply":  # the answer to the second: the first has gone by
        kinds.append(json.loads(connection.recv())["msg_type"])
    assert "execute_reply" not in kinds and not (folder / "written").exists()
    assert ask(host, page)[0] == 503  # the page is open
    connection.close()
    tries = (
        time.sleep(0.5) or ask(host, page)[0] for _ in range(120)
    )  # closed: after some idle seconds the kernel ends
    assert 200 in tries
