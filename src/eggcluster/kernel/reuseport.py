"""Giving a steering program to a SO_REUSEPORT group. Linux 4.5 and later, no privilege needed. Runs in the master."""

import socket
import struct

SO_ATTACH_REUSEPORT_CBPF = 51  # <asm-generic/socket.h>
INSTRUCTION_BYTES = 8  # sizeof(struct sock_filter)


def attach_steering(listener: socket.socket, program: bytes) -> None:
    """Replace the program of the group that `listener` belongs to; takes microseconds, OSError where refused."""
    import ctypes  # only the master needs it

    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: unsigned short len; struct sock_filter *filter
    fprog = struct.pack("HP", len(program) // INSTRUCTION_BYTES, ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)
