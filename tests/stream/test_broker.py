"""The embedded broker: starts on a free port, says so where it cannot, and is gone when it is stopped."""

import socket

import pytest

from loadtest.demo.processes import accepts, free_port
from stream import broker
from stream.errors import BrokerError

HOST = "127.0.0.1"


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        for ask in (broker.require_free, broker.start):
            with pytest.raises(BrokerError, match=f"{HOST}:{port}.*choose another port"):
                ask(HOST, port)
    broker.require_free(HOST, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_an_error(host: str) -> None:
    with pytest.raises(BrokerError, match="cannot listen"):
        broker.require_free(host, 9092)


def test_a_broker_takes_connections_while_its_block_runs() -> None:
    port = free_port()
    with broker.running(HOST, port) as process:
        assert accepts(HOST, port)
        with pytest.raises(BrokerError):
            broker.start(HOST, port)
    assert process.returncode is not None
    assert not accepts(HOST, port)
