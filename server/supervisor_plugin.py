"""A supervisord plugin: the RPC interface `marquee` (see supervisord.conf).

supervisord closes the shared socket when the last worker has ended, and whoever waits in its queue is reset. `python -m
server restart` has it held open while it restarts workers, so that even a single one can be restarted without loss.
"""

from typing import Any

from supervisor.xmlrpc import Faults, RPCError


class MarqueeInterface:
    """The methods of the RPC interface `marquee`."""

    def __init__(self, supervisord: Any) -> None:
        self._groups = supervisord.process_groups
        self._held: dict[str, Any] = {}

    def hold_socket(self, group: str) -> bool:
        """Keep the socket of a group open, whatever becomes of its processes, until it is released."""
        manager = getattr(self._groups.get(group), "socket_manager", None)
        if manager is None:
            raise RPCError(Faults.BAD_NAME, f"no group {group} with a socket")
        if group not in self._held:
            self._held[group] = manager.get_socket()
        return True

    def release_socket(self, group: str) -> bool:
        """Leave the socket to the processes of the group again; False where it was not held."""
        return self._held.pop(group, None) is not None


def make_interface(supervisord: Any, **_config: str) -> MarqueeInterface:
    """What supervisord calls when it starts."""
    return MarqueeInterface(supervisord)
