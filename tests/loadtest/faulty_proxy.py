"""A TCP server between a client and a worker that does harm on purpose: it drops, stalls or spoils chosen answers."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.polling import DEADLINE_S
from tests.server.worker_processes import HOST

Harm = Callable[[int, bytes], bytes | None]
"""From the number of an answer, from 1, and its bytes to the bytes that are sent; None ends the connection instead."""


class FaultyProxy:
    """The server, on a port of its own, and what it did."""

    def __init__(self, worker: int, harm: Harm) -> None:
        self._worker, self._harm = worker, harm
        self._relays = set[asyncio.Task[None]]()
        self.port = 0
        self.requests = 0
        """Answers of the worker that came through here."""
        self.harmed = 0
        """Those of them that were not passed on as they were."""

    async def serve(self, started: Callable[[], object], stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._relay, HOST, 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await stop.wait()
        async with asyncio.timeout(DEADLINE_S):
            # the clients are gone, so each relay comes to its end, also of those who were only just let in
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
        server.close()  # last: asyncio drops, unclosed, whom it is letting in while it closes

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)  # the loop itself does not hold them
        task.add_done_callback(self._relays.discard)
        to, sink = await asyncio.open_connection(HOST, self._worker)
        try:
            while True:
                sink.write(await reader.readuntil(b"\r\n\r\n"))
                head = await to.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                answer = head + await to.readexactly(int(length))
                self.requests += 1
                sent = self._harm(self.requests, answer)
                self.harmed += sent != answer
                if sent is None:
                    break
                writer.write(sent)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client or the worker is gone
        finally:
            for end in (writer, sink):
                end.close()
                with suppress(ConnectionError):
                    await end.wait_closed()


@contextmanager
def faulty_proxy(worker: int, harm: Harm = lambda number, answer: answer) -> Iterator[FaultyProxy]:
    """Such a server before a worker, as long as the block runs."""
    server, started = FaultyProxy(worker, harm), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(server.serve(started.set, stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(DEADLINE_S)
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def drops(every: int) -> Harm:
    """End the connection instead of each so-manieth answer."""
    return lambda number, answer: None if number % every == 0 else answer


def stalls(at: int, seconds: float) -> Harm:
    """Stand still once, with all connections, before one answer."""

    def harm(number: int, answer: bytes) -> bytes:
        if number == at:
            time.sleep(seconds)  # the stall itself
        return answer

    return harm


def spoils(every: int, harm: Callable[[bytes], bytes]) -> Harm:
    """Do something to each so-manieth answer."""
    return lambda number, answer: harm(answer) if number % every == 0 else answer
