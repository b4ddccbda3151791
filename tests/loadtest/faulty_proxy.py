"""A TCP server between a client and a worker that harms on purpose: it drops, stalls or spoils chosen answers."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.polling import DEADLINE_S
from tests.server.worker_processes import HOST

Harm = Callable[[int, bytes], bytes | None]
"""From the number of an answer, counted from 1, and its bytes to the bytes to send; None ends the connection."""


class FaultyProxy:
    """The server, on a port of its own, and its counts."""

    def __init__(self, worker: int, harm: Harm) -> None:
        self._worker, self._harm = worker, harm
        self._relays = set[asyncio.Task[None]]()
        self.port = 0
        self.requests = 0
        """Answers of the worker that came through here."""
        self.harmed = 0
        """Answers that were changed or dropped."""

    async def serve(self, started: Callable[[], object], stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._relay, HOST, 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await stop.wait()
        async with asyncio.timeout(DEADLINE_S):
            # the clients are gone, so every relay ends, also those of connections that were only just accepted
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
        server.close()  # last: asyncio leaves connections open that it accepts while it closes

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)  # the loop keeps only weak references
        task.add_done_callback(self._relays.discard)
        worker_reader, worker_writer = await asyncio.open_connection(HOST, self._worker)
        try:
            while True:
                worker_writer.write(await reader.readuntil(b"\r\n\r\n"))
                head = await worker_reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                answer = head + await worker_reader.readexactly(int(length))
                self.requests += 1
                sent = self._harm(self.requests, answer)
                self.harmed += sent != answer
                if sent is None:
                    break
                writer.write(sent)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client or the worker is gone
        finally:
            for stream in (writer, worker_writer):
                stream.close()
                with suppress(ConnectionError):
                    await stream.wait_closed()


@contextmanager
def faulty_proxy(worker: int, harm: Harm = lambda number, answer: answer) -> Iterator[FaultyProxy]:
    """Run such a server in front of a worker while the block runs."""
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
    """Drop every n-th answer by ending its connection."""
    return lambda number, answer: None if number % every == 0 else answer


def stalls(before: int, seconds: float) -> Harm:
    """Stall all connections once, before the answer of a number."""

    def harm(number: int, answer: bytes) -> bytes:
        if number == before:
            time.sleep(seconds)  # the stall itself
        return answer

    return harm


def spoils(every: int, harm: Callable[[bytes], bytes]) -> Harm:
    """Change every n-th answer."""
    return lambda number, answer: harm(answer) if number % every == 0 else answer
