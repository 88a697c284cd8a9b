"""Who connects to an engine process: its gateway, and nobody else."""

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")


def is_gateway(connection: socket.socket) -> bool:
    """Tell whether a connection comes from the process that started this one."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[0] == os.getppid())
