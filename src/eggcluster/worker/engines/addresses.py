"""Who talks to whom on a connection, without asking the kernel once more. Runs in the app workers.

uvicorn makes two sockets out of each new connection to ask for its addresses: five system calls and a tenth of the CPU
of a connection with one request. The transport knows them: the event loop has asked when the connection came.
"""

import asyncio
from types import ModuleType


def use_known_addresses(protocol: ModuleType) -> None:
    """Have uvicorn's `protocol` module ask the transport. If uvicorn changes its names, only the gain is lost."""
    vars(protocol).update(get_remote_addr=remote_address, get_local_addr=local_address)


def remote_address(transport: asyncio.Transport) -> tuple[str, int] | None:
    """The client's host and port; None for a Unix socket's, which has none."""
    known = transport.get_extra_info("peername")
    return (known[0], known[1]) if isinstance(known, tuple) else None


def local_address(transport: asyncio.Transport) -> tuple[str, int | None] | None:
    """Our own host and port, or a Unix socket's path and None."""
    known = transport.get_extra_info("sockname")
    if isinstance(known, tuple):
        return known[0], known[1]
    return (known, None) if isinstance(known, str) else None
