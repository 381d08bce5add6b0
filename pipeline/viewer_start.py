"""What the viewer needs before it serves: viser, and a port."""

from __future__ import annotations

import socket
from typing import Any

from refdepth.errors import ResourceError, UnavailableError


def load_viser() -> Any:
    """The module. Raises `UnavailableError` where it is not installed."""
    try:
        import viser
    except ImportError as error:
        raise UnavailableError(
            "is not installed; the viewer needs it.",
            subject=error.name,
            action="pip install 'refdepth[view]'",
        ) from error
    return viser


def check_port(host: str, port: int) -> None:
    """Looks whether a port is free: viser would take the next one without a word.

    Raises `ResourceError` when the port is taken or the address is not this machine's.
    """
    try:
        with socket.create_server((host, port), family=_family(host)):
            pass
    except OSError as error:
        raise ResourceError(
            f"cannot be listened on ({error.strerror or error}).",
            subject=f"{host}:{port}",
            action=f"Choose another port, for example --port {port + 1 if port < 65535 else 8080}.",
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
