"""The addresses of a connection's two ends, as its transport knows them. Runs in the app workers."""

import asyncio


def remote_address(transport: asyncio.Transport) -> tuple[str, int] | None:
    """Return the client's host and port; None for a Unix socket's, which has none."""
    known = transport.get_extra_info("peername")
    return (known[0], known[1]) if isinstance(known, tuple) else None


def local_address(transport: asyncio.Transport) -> tuple[str, int | None] | None:
    """Return our own host and port, or a Unix socket's path and None."""
    known = transport.get_extra_info("sockname")
    if isinstance(known, tuple):
        return known[0], known[1]
    return (known, None) if isinstance(known, str) and known else None
