"""The ways in which a connection may end."""

import contextlib
import socket
import ssl
import struct

from harness import DEADLINE


def reset(connection):
    """RST: what was not sent yet is lost (socket(7), SO_LINGER)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def drain(connection):
    """Reads until the other side has left: closing with unread data would send an RST, which may overtake what was
    sent before."""
    connection.settimeout(DEADLINE)
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass
    connection.close()


def finish(connection, data=b""):
    """FIN after that data; under TLS without close_notify."""
    with contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)  # of an SSLSocket: also the end of TLS on this side
    drain(connection)


def finish_tls(connection, data=b""):
    """close_notify after that data, then FIN."""
    connection.settimeout(DEADLINE)
    with contextlib.suppress(OSError, ssl.SSLError):
        connection.sendall(data)
        connection.unwrap()  # sends it, and waits for the device's
    finish(connection)
