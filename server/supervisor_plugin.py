"""A supervisord plugin: the RPC interface `marquee` (see supervisord.conf).

supervisord closes the shared socket when the last worker has ended, which resets the clients that wait in its queue.
`python -m server restart` has the socket held open meanwhile, so that even a single worker is restarted without loss.
"""

import socket
from typing import Any

from supervisor.xmlrpc import Faults, RPCError


class MarqueeInterface:
    """The methods of the RPC interface `marquee`."""

    def __init__(self, supervisord: Any) -> None:
        self._groups = supervisord.process_groups
        self._sockets: dict[str, socket.socket] = {}
        """Sockets held open, by group."""

    def hold_socket(self, group: str) -> bool:
        """Keep the socket of a group open until `release_socket`, even if all processes of the group end."""
        manager = getattr(self._groups.get(group), "socket_manager", None)
        if manager is None:
            raise RPCError(Faults.BAD_NAME, f"no group {group} with a socket")
        if group not in self._sockets:
            self._sockets[group] = manager.get_socket()
        return True

    def release_socket(self, group: str) -> bool:
        """Stop holding the socket of a group; False if it was not held."""
        return self._sockets.pop(group, None) is not None


def make_interface(supervisord: Any, **_config: str) -> MarqueeInterface:
    """The factory that supervisord calls at its start."""
    return MarqueeInterface(supervisord)
