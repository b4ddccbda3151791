"""Watches `releases/current` and `hidden.txt`, and swaps what answers by replacing one reference.

What `current` points at is opened beside the release in use, verified and tried out; one that is not whole is refused,
with the reason kept for readiness and the log, and the old one goes on answering. A worker that starts while `current`
is bad answers from the last good release (`good_releases.py`). A release that is written to while it answers is
verified anew, and given up for the last good one where it is damaged. A movie that is hidden is in no answer of this
release or the next; while it is not known what is hidden, nothing is answered.

A look consists of steps. Each does its reading in a thread that may be given up (`limited.py`), and changes what
answers on the event loop afterwards: nothing is ever changed by two at once, or by a thread that comes back late.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Generic, TypeVar

from server import hidden
from server.answers import Answers
from server.errors import BadRelease
from server.good_releases import good_releases, note_good
from server.hidden import HiddenState
from server.limited import Hung, Limited
from server.opening_notes import FEW, deaths, noted_opening
from server.release import Release, forget
from server.release_files import Progress, no_progress
from server.status import ReleaseStatus

log = logging.getLogger(__name__)

_AGAIN_S = 5.0
"""Until a release that was refused is tried again, the first time; what is wrong may have been the disk's fault."""
_SELDOM_S = 320.0

T = TypeVar("T")


@dataclass(frozen=True)
class _Step(Generic[T]):
    """A part of a look."""

    resource: str
    read: Callable[[Progress], T]
    """Done in a thread; changes nothing."""
    apply: Callable[[T], object]
    """Done on the event loop with what was read."""
    give_up: Callable[[str], object]
    """Done instead, with the reason, where reading hangs."""


@dataclass(frozen=True)
class _Opened:
    """What came of opening a release."""

    target: str
    """As the link names it."""
    answers: Answers | None
    hidden: HiddenState
    wrong: str
    """Why there are no answers."""


def _let_go(held: list[Answers], used: Release) -> None:
    """Drop the answers that a list alone still holds, and their release where another one is used.

    In a thread: to unmap half a gigabyte takes some 20 ms.
    """
    if held[0].release is not used:
        held[0].release.free_pages()
    held.clear()


class ReleaseWatcher:
    """The answers in use, below one `var` folder. Reading that shows no progress for `hung_s` seconds is given up."""

    def __init__(self, var: Path, hung_s: float = 30.0) -> None:
        self._var, self._releases, self._limited = var, var / "releases", Limited(hung_s)
        self._hidden, self._hidden_hung = HiddenState(), ""
        self._target: str | None = None
        """What `current` pointed at when it was looked at last."""
        self._used: str | None = None
        """What the release in use was opened as."""
        self._again_at, self._again_s = 0.0, _AGAIN_S
        """When `current` is opened, and how long it is waited after that where it is refused."""
        self._suspect: str | None = None
        """Why the release in use is to be verified anew."""
        self._recheck_at = 0.0
        self._want_good = False
        """Whether the last good release is to be tried, since nothing whole answers."""
        self._noted, self._note_fault, self._note_at, self._complaint = "", "", 0.0, ""
        self._first, self._faults = True, 0
        self._looked = time.monotonic()
        self.answers: Answers | None = None
        self.ready: Answers | None = None
        """What `/recommend` is answered from: None while every movie is hidden, or it is not known what is."""
        self.refused: str | None = None
        """Why what `current` points at is not in use; None where it is."""
        self.fallback = False
        """Whether the last good release answers in place of what `current` points at."""
        self.damaged: str | None = None
        """What is wrong with the release in use, where there is no other: everyone is answered the popular list."""
        self.swaps = {"taken": 0, "refused": 0, "last_good": 0}

    def check_now(self) -> None:
        """Take over what has changed, in `current` and in what is hidden, however long reading takes."""
        for step in self._steps():
            step.apply(step.read(no_progress))
        self._looked = time.monotonic()

    async def check(self) -> None:
        """The same beside the event loop; what hangs is given up."""
        hung = False
        for step in self._steps():
            try:
                read = await self._limited.run(step.resource, step.read)
            except Hung as error:
                step.give_up(str(error))
                hung = True
            else:
                step.apply(read)
        if not hung:
            self._looked = time.monotonic()

    async def follow(self, poll_s: float) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(poll_s)
            await self.check()

    @property
    def searchable(self) -> bool:
        """Whether the index and the embeddings of `answers` may be used."""
        return self.answers is not None and self._hidden.movies is not None and not (self._suspect or self.damaged)

    def status(self) -> ReleaseStatus:
        """The facts that readiness and metrics are made of."""
        answers = self.answers
        return ReleaseStatus(
            release=answers.release.id if answers else None,
            ready=self.ready is not None,
            refused=self.refused,
            fallback=self.fallback,
            damaged=self.damaged,
            damaged_answers=self._faults + (answers.faults if answers else 0),
            hidden_count=answers.hidden_count if answers else 0,
            hidden_unmatched=answers.unmatched_examples if answers else [],
            hidden_unmatched_count=len(answers.unmatched) if answers else 0,
            hidden_known=self._hidden.movies is not None,
            hidden_fault=self._hidden.fault or self._hidden_hung or None,
            last_look_age_s=time.monotonic() - self._looked,
        )

    def _steps(self) -> Iterator[_Step[Any]]:
        """The parts of one look; each depends on what became of those before."""
        yield _Step("hidden.txt", self._read_hidden, self._hide, self._tell_hung)
        yield _Step("releases", self._read_releases, self._follow_link, self._refuse)
        if self._suspect and self._used and time.monotonic() >= self._recheck_at:
            trust = not (self.answers and self.answers.faults)  # the note is right as long as the files say so
            verify = partial(self._opened, self._used, trust)
            yield _Step(f"releases/{self._used}", verify, self._judge, self._tell_once)
        if self._target is not None and time.monotonic() >= self._again_at:
            take = partial(self._opened_new, self._target)
            yield _Step(f"releases/{self._target}", take, self._take, self._refuse)
        if self._want_good:
            self._want_good = False
            yield _Step("the last good release", self._read_good, self._take_good, self._tell_once)
        if self._is_to_be_noted():
            yield _Step("releases/last-good.json", self._note, self._noted_as, self._tell_once)

    def _opened(self, target: str, trust: bool, progress: Progress) -> _Opened:
        """A release verified and tried out, with what is hidden now: `var` may have been mounted since it was read."""
        state = self._hidden if self._hidden_hung else hidden.read_hidden_state(self._var, self._hidden)
        try:
            known = frozenset[str]() if state.movies is None else state.movies
            answers = Answers(Release.open(self._releases / target, progress, trust), known)
            answers.self_test()
        except BadRelease as error:
            return _Opened(target, None, state, str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what comes, what is there goes on answering
            return _Opened(target, None, state, f"{target}: {error!r}")
        return _Opened(target, answers, state, "")

    def _opened_new(self, target: str, progress: Progress) -> _Opened:
        """The same of what `current` points at, unless workers died over it and there is one to go on with."""
        good = good_releases(self._releases)
        if not good or target in good:
            return self._opened(target, True, progress)
        if (count := deaths(self._releases, target)) >= FEW:
            why = f"{target}: {count} workers died while they opened it; is there memory enough, is its disk whole?"
            return _Opened(target, None, self._hidden, why)
        with noted_opening(self._releases, target):
            return self._opened(target, True, progress)

    # What is hidden

    def _read_hidden(self, progress: Progress) -> tuple[HiddenState, Answers | None]:
        """What is hidden now, and the answers without it where that has changed."""
        state, answers = hidden.read_hidden_state(self._var, self._hidden), self.answers
        if answers is None or state.movies is None or state.movies is answers.hidden:
            return state, None
        return state, Answers(answers.release, state.movies, answers.whole and not self._suspect)

    def _hide(self, read: tuple[HiddenState, Answers | None]) -> None:
        before, (self._hidden, answers) = self._hidden, read
        self._hidden_hung = ""
        if self._hidden.fault and self._hidden.fault != before.fault:
            known = "the last list is used" if self._hidden.movies is not None else "nothing is answered"
            log.error("%s; until then %s", self._hidden.fault, known)
        if self.refused and self._hidden.movies != before.movies:
            self._again_at = 0.0  # a release that was refused for what was hidden may be taken now
        if answers is not None:
            self._answer_from(answers)
            log.info("%d movies are hidden now", answers.hidden_count)
        elif self._hidden.movies is not None and before.movies is None and self.answers is not None:
            self._answer_from(self.answers)

    def _tell_hung(self, why: str) -> None:
        if not self._hidden_hung:
            log.error("%s; what was hidden stays so", why)
        self._hidden_hung = why

    # Which release

    def _read_releases(self, progress: Progress) -> tuple[str | None, tuple[str, bool] | None]:
        """What `current` points at, and which file of the release in use was changed."""
        try:
            target = str((self._releases / "current").readlink())
        except OSError:
            target = None
        whole = self.answers is not None and self.answers.whole
        return target, self.answers.release.changed_in_place() if self.answers and whole else None

    def _follow_link(self, read: tuple[str | None, tuple[str, bool] | None]) -> None:
        target, changed = read
        if target != self._target:
            self._target, self._again_at, self._again_s = target, 0.0, _AGAIN_S
            if target is None:
                self._refuse(f"{self._releases / 'current'} is gone")
        elif target is None and self._first:
            self._want_good = True
        self._first = False
        answers = self.answers
        if answers is None or self._suspect or not answers.whole:
            return
        if answers.faults:
            self._doubt(f"an answer could not be found: {answers.last_fault}", written=True)
        elif changed:
            self._doubt(f"{changed[0]} was changed", changed[1])

    def _doubt(self, why: str, written: bool) -> None:
        """Verify the release in use anew; where it was written to, nothing personal is answered from it meanwhile."""
        self._suspect = why
        log.error("release %s is verified anew: %s", self._used, why)
        if written and self.answers is not None and self.ready is not None:
            self.ready = self.answers.popular_only()

    def _judge(self, opened: _Opened) -> None:
        """Take over what verifying the release in use anew has shown."""
        self._suspect, self._recheck_at = None, time.monotonic() + _AGAIN_S
        if opened.answers is not None:
            self._answer_from(opened.answers, opened.hidden)
            log.info("release %s is whole", self._used)
            return
        log.error("release %s is damaged: %s", self._used, opened.wrong)
        try:
            forget(self._releases / opened.target)
        except OSError as error:
            log.warning("%s stays noted as verified: %s", self._used, error)
        if self.answers is not None:
            self._answer_from(self.answers.popular_only())
        self.damaged = opened.wrong
        if self._used == self._target:
            self._refuse(opened.wrong)
        else:
            self._again_at, self._want_good = 0.0, True

    def _take(self, opened: _Opened) -> None:
        if opened.answers is None:
            self._refuse(opened.wrong)
            return
        self._again_at, self.refused, self.fallback = inf, None, False
        self._use(opened.target, opened.answers, opened.hidden)
        self.swaps["taken"] += 1

    def _use(self, target: str, answers: Answers, state: HiddenState) -> None:
        self._used, self._suspect, self.damaged = target, None, None
        self._answer_from(answers, state)
        release = answers.release
        log.info("release %s answers: %d users, %d movies", release.id, len(release.users), len(release.names))

    def _answer_from(self, answers: Answers, state: HiddenState | None = None) -> None:
        before, self._hidden = self.answers, state or self._hidden
        if before is not None and before is not answers:
            self._faults += before.faults
        self.answers, self.ready = answers, None if answers.empty or self._hidden.movies is None else answers
        if self._suspect and self.ready:
            self.ready = answers.popular_only()
        if answers.unmatched and (before is None or answers.unmatched != before.unmatched):
            count, examples = len(answers.unmatched), ", ".join(answers.unmatched_examples)
            log.warning("%d lines of hidden.txt name no movie of %s: %s", count, answers.release.id, examples)
        if before is not None and before is not answers:
            held = [before]
            del before
            threading.Thread(target=_let_go, args=(held, answers.release), daemon=True).start()

    def _refuse(self, why: str) -> None:
        self._again_at, self._again_s = time.monotonic() + self._again_s, min(2 * self._again_s, _SELDOM_S)
        self._want_good = self.answers is None or not self.answers.whole
        why = why.encode(errors="backslashreplace").decode()  # it goes into JSON, and a link may point at any bytes
        if why == self.refused:
            return
        self.refused = why
        self.swaps["refused"] += 1
        log.error("release refused: %s", why)

    # The last good release

    def _read_good(self, progress: Progress) -> _Opened | None:
        """The first of the last good releases that is whole; None for none."""
        for target in good_releases(self._releases):
            if target not in (self._target, self._used):
                opened = self._opened(target, True, progress)
                if opened.answers is not None:
                    return opened
                log.error("the last good release is refused as well: %s", opened.wrong)
        return None

    def _take_good(self, opened: _Opened | None) -> None:
        if opened is None or opened.answers is None:
            return
        self.fallback = True
        self._use(opened.target, opened.answers, opened.hidden)
        self.swaps["last_good"] += 1
        if self.refused is None:
            self._refuse(f"{self._releases / 'current'} is gone")
        log.error("%s is the last good release, current was refused: %s", opened.target, self.refused)

    def _is_to_be_noted(self) -> bool:
        from_current = self._used is not None and self._used == self._target and not (self.refused or self.damaged)
        return from_current and self._noted != self._used and time.monotonic() >= self._note_at

    def _note(self, progress: Progress) -> str:
        """Why the release in use cannot be noted as the last good one; empty where it is."""
        try:
            note_good(self._releases, str(self._used))
        except OSError as error:
            return str(error)
        return ""

    def _noted_as(self, fault: str) -> None:
        if not fault:
            self._noted = str(self._used)
        elif fault != self._note_fault:
            log.warning("%s cannot be noted as the last good release: %s", self._used, fault)
        self._note_fault, self._note_at = fault, time.monotonic() + _SELDOM_S if fault else 0.0

    def _tell_once(self, why: str) -> None:
        if why != self._complaint:
            log.error(why)
        self._complaint = why
