"""The address of the admin port: HOST:PORT, PORT or unix:PATH. Pure; runs in the shell and the master."""

import re
from typing import NamedTuple

LOOPBACK = "127.0.0.1"
_with_port = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[^\0-\x20:\x7f/]*):)?([0-9]{1,5})").fullmatch


class AdminAddress(NamedTuple):
    """Where the admin port listens: at `host` and `port`, or at the Unix socket `path`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine reach it."""
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")


def parse_admin_address(text: str) -> AdminAddress:
    """Return the address that `text` names; without a host it is the loopback's. ValueError if it names none."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(text)
        return AdminAddress(path=path)
    found = _with_port(text)
    if found is None or int(found[2]) > 65535:
        raise ValueError(text)
    return AdminAddress(host=(found[1] or LOOPBACK).strip("[]"), port=int(found[2]))
