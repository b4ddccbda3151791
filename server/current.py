"""What answers just now: follows `releases/current` and `hidden.txt`, and replaces one reference.

What `current` points at is opened beside the release in use, verified and tried out; one that is not whole is refused,
with the reason kept for readiness and the log, and the old one goes on answering. A movie that is hidden is in no
answer of this release or the next.
"""

import asyncio
import logging
import time
from pathlib import Path

from server.answers import Answers
from server.beside import beside
from server.errors import BadRelease
from server.hidden import HIDDEN, read
from server.release import Release

log = logging.getLogger("server")

_AGAIN_S = 5.0
"""Until a release that was refused is tried again, the first time; what is wrong may have been the disk's fault."""
_SELDOM_S = 320.0


class Current:
    """The answers in use, below one `var` folder."""

    def __init__(self, var: Path) -> None:
        self._link = var / "releases" / "current"
        self._hidden = var / HIDDEN
        self._target: str | None = None
        """What `current` pointed at when it was looked at last."""
        self._again_at, self._again_s = 0.0, _AGAIN_S
        """When a release that was refused is tried again, and how long it is waited after that."""
        self._state: tuple[int, ...] | None = ()
        """What tells one `hidden.txt` from the next."""
        self._fault: str | None = None
        self._hid = frozenset[str]()
        self.answers: Answers | None = None
        self.ready: Answers | None = None
        """The same where they can answer: None also while every movie is hidden."""
        self.refused: str | None = None
        """Why what `current` points at is not in use; None where it is."""
        self.swaps = {"taken": 0, "refused": 0}

    def look(self) -> None:
        """Take over what has changed: the release that `current` points at, if it is whole, and what is hidden."""
        state = self._state_of_hidden()
        if state != self._state:
            self._state = state
            self._hide()
        try:
            target = str(self._link.readlink())
        except OSError:
            target = None
        if target == self._target and (self.refused is None or target is None or time.monotonic() < self._again_at):
            return
        if target != self._target:
            self._target, self._again_s = target, _AGAIN_S
        if target is None:
            self._refuse(f"{self._link} is gone")
            return
        self._open(target)

    def _open(self, target: str) -> None:
        try:
            self._take(Answers(Release.open(self._link.parent / target), self._hidden_movies()))
        except BadRelease as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what comes, what is there goes on answering
            self._refuse(f"{target}: {error!r}")

    async def follow(self, poll_s: float) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(poll_s)
            await beside(self.look)

    def _take(self, answers: Answers) -> None:
        answers.self_test()
        self.refused = None
        self._answer_from(answers)
        self.swaps["taken"] += 1
        release = answers.release
        log.info("release %s answers: %d users, %d movies", release.id, len(release.users), len(release.names))

    def _answer_from(self, answers: Answers) -> None:
        self.answers, self.ready = answers, None if answers.empty else answers

    def _refuse(self, why: str) -> None:
        self._again_at, self._again_s = time.monotonic() + self._again_s, min(2 * self._again_s, _SELDOM_S)
        why = why.encode(errors="backslashreplace").decode()  # it goes into JSON, and a link may point at any bytes
        if why == self.refused:
            return
        self.refused = why
        self.swaps["refused"] += 1
        log.error("release refused: %s", why)

    def _hide(self) -> None:
        hidden = self._hidden_movies()
        if hidden != self._hid:
            self._hid, self._again_at = hidden, 0.0  # a release that was refused for what was hidden may be taken now
        if self.answers is not None and hidden != self.answers.hidden:
            self._answer_from(Answers(self.answers.release, hidden))
            log.info("%d movies are hidden now", len(hidden))

    def _hidden_movies(self) -> frozenset[str]:
        try:
            hidden = read(self._hidden)
        except OSError as error:
            if (fault := error.strerror) != self._fault:
                log.error("%s cannot be read, what was hidden stays so: %s", self._hidden, fault)
            self._fault, self._state = fault, None  # it is tried again
            return self.answers.hidden if self.answers else frozenset()
        self._fault = None
        return hidden

    def _state_of_hidden(self) -> tuple[int, ...]:
        try:
            status = self._hidden.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
