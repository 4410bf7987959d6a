"""Which event loop a worker runs on: uvloop, or asyncio's own where that cannot be loaded. In agent and app workers."""

try:
    from uvloop import new_event_loop
except ImportError:  # a subinterpreter cannot load it
    from asyncio import new_event_loop  # type: ignore[assignment]

__all__ = ["new_event_loop"]
