"""Serve tools/explorers.py with Voilà, as `make app` does: to this machine alone, behind a token, with few kernels.

    python tools/serve_explorers.py                     # opens the page in a browser
    python tools/serve_explorers.py --Kernels.limit=8   # and any option of Voilà

SECURITY.md says what is promised; tests/project/test_servers.py asks for it.
"""

from __future__ import annotations

import asyncio
import html
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_server import DEFAULT_STATIC_FILES_PATH
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Instance, Integer
from traitlets.config import Config
from voila.app import Voila

IDLE_SECONDS = 180  # after which the kernel of a page that nobody has open is ended
# What the page may load, and talk to: this server alone.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"


class Kernels(AsyncMappingKernelManager):
    """Starts no more than `limit` kernels at a time."""

    limit = Integer(4, help="Kernels at a time, each a process of about 0.9 GB.", config=True)
    _turn = Instance(asyncio.Lock, ())  # of two requests at once, the second sees the kernel of the first

    async def start_kernel(self, **named: Any) -> str:  # type: ignore[override]
        async with self._turn:
            if len(self) >= self.limit:
                told = f"{self.limit} pages are open, as many as may be: close one, then load this again"
                reason = f"{told} (a page whose tab is gone counts for up to {self.cull_idle_timeout} seconds more)"
                raise HTTPError(503, reason=reason)
            return await super().start_kernel(**named)


class Server(Voila):
    """Voilà, which opens its browser with the token."""

    def launch_browser(self) -> None:
        """Open a file that leads to the page: a token among a program's arguments could be read by other users."""
        token = self.identity_provider.token
        address = html.escape(f"{self.connection_url}?token={token}" if token else self.connection_url)
        path = Path(self.connection_dir) / "open.html"  # a folder that only this user can read
        path.write_text(f'<meta http-equiv="refresh" content="0; url={address}"><a href="{address}">Explorers</a>')
        threading.Thread(target=webbrowser.open, args=(path.as_uri(),), daemon=True).start()


SETTINGS = {
    "Voila": {
        "ip": "127.0.0.1",
        "auto_token": True,
        "notebook_path": str(Path(__file__).with_name("explorers.py")),
        "tornado_settings": {
            "allow_remote_access": False,  # a foreign name of this machine is refused (DNS rebinding)
            "websocket_max_message_size": 100_000_000,  # an upload comes as one message
            "headers": {"Content-Security-Policy": POLICY},
            "static_path": DEFAULT_STATIC_FILES_PATH,  # for the pages of errors
        },
    },
    "VoilaConfiguration": {
        "multi_kernel_manager_class": Kernels,
        "file_allowlist": [],
        "extension_language_mapping": {".py": "python"},  # the page is a plain script
        "extension_denylist": ["jupyterlab-jupytext"],  # it does not fit into the page
    },
    "Kernels": {"cull_idle_timeout": IDLE_SECONDS, "cull_interval": 20},
    "PasswordIdentityProvider": {"cookie_options": {"samesite": "Strict"}, "allow_password_change": False},
}

if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # a second one, while Voilà stops
        Server.launch_instance(config=Config(SETTINGS))
