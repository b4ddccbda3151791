"""Watches `releases/current` and `hidden.txt`, and swaps releases by replacing one reference.

A new release is opened beside the one in use, verified and tested. A damaged one is refused: the reason goes to the log
and to readiness, and the old release keeps answering. A worker that starts while `current` is bad answers from the
last good release (`good_releases.py`). If files of the release in use change, it is verified again, and replaced
by the last good one if it is damaged. Hidden movies are never in an answer, also right after a swap; while the hidden
movies are unknown, no list is answered.

A check consists of steps. Each reads in a thread that may be abandoned (`limited.py`), and then changes the answers on
the event loop, so two steps never change them at once, and a late thread never does.
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
from server.opening_notes import FATAL_DEATHS, deaths, noted_opening
from server.release import Release, forget
from server.release_files import Progress, no_progress
from server.status import ReleaseStatus

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 5.0
"""Delay before a refused release is tried again, doubled each time: the fault may have been the disk's."""
_LONGEST_RETRY_S = 320.0
"""Largest delay."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Step(Generic[T]):
    """A step of a check."""

    resource: str
    read: Callable[[Progress], T]
    """Runs in a thread; changes nothing."""
    apply: Callable[[T], object]
    """Runs on the event loop, with the result of `read`."""
    give_up: Callable[[str], object]
    """Runs instead if reading hangs, with the reason."""


@dataclass(frozen=True)
class _OpenedRelease:
    """An opened release, or the reason why it could not be opened."""

    target: str
    """The target of the link."""
    answers: Answers | None
    hidden: HiddenState
    wrong: str
    """Why there are no answers."""


def _drop(held: list[Answers], used: Release) -> None:
    """Drop the answers whose last reference is in a list, and their release if another one is in use.

    Runs in a thread: unmapping half a gigabyte takes some 20 ms.
    """
    if held[0].release is not used:
        held[0].release.free_pages()
    held.clear()


class ReleaseWatcher:
    """The answers in use, for one `var` folder. Reads without progress for `hung_s` seconds are abandoned."""

    def __init__(self, var: Path, hung_s: float = 30.0) -> None:
        self._var, self._releases, self._limited = var, var / "releases", Limited(hung_s)
        self._hidden, self._hidden_hung = HiddenState(), ""
        self._target: str | None = None
        """The target of `current` in the last check."""
        self._used: str | None = None
        """The target that the release in use was opened from."""
        self._again_at, self._again_s = 0.0, _FIRST_RETRY_S
        """Time of the next attempt to open `current`, and the delay after it if it is refused."""
        self._suspect: str | None = None
        """Why the release in use has to be verified again; None if it does not."""
        self._recheck_at = 0.0
        self._want_good = False
        """Whether to try the last good release, because no whole release answers."""
        self._noted, self._note_fault, self._note_at, self._complaint = "", "", 0.0, ""
        self._first, self._faults = True, 0
        self._checked_at = time.monotonic()
        self.answers: Answers | None = None
        self.ready: Answers | None = None
        """The answers of `/recommend`: None while every movie is hidden, or it is unknown which are."""
        self.refused: str | None = None
        """Why the target of `current` is not in use; None if it is."""
        self.fallback = False
        """Whether the last good release answers instead of the target of `current`."""
        self.damaged: str | None = None
        """The damage of the release in use, if there is no other; everyone then gets the popular list."""
        self.swaps = {"taken": 0, "refused": 0, "last_good": 0}

    def check_now(self) -> None:
        """Apply changes of `current` and `hidden.txt`, waiting for reads as long as they take."""
        for step in self._steps():
            step.apply(step.read(no_progress))
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Apply changes without blocking the event loop; reads that hang are abandoned."""
        hung = False
        for step in self._steps():
            try:
                result = await self._limited.run(step.resource, step.read)
            except Hung as error:
                step.give_up(str(error))
                hung = True
            else:
                step.apply(result)
        if not hung:
            self._checked_at = time.monotonic()

    async def follow(self, poll_s: float) -> None:
        """Check every `poll_s` seconds, for ever."""
        while True:
            await asyncio.sleep(poll_s)
            await self.check()

    @property
    def searchable(self) -> bool:
        """Whether the index and the embeddings of `answers` can be trusted."""
        return self.answers is not None and self._hidden.movies is not None and not (self._suspect or self.damaged)

    def status(self) -> ReleaseStatus:
        """The state for readiness and metrics."""
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
            last_look_age_s=time.monotonic() - self._checked_at,
        )

    def _steps(self) -> Iterator[_Step[Any]]:
        """The steps of one check; later steps depend on the outcome of earlier ones."""
        yield _Step("hidden.txt", self._read_hidden, self._hide, self._log_hung)
        yield _Step("releases", self._read_releases, self._follow_link, self._refuse)
        if self._suspect and self._used and time.monotonic() >= self._recheck_at:
            trust = not (self.answers and self.answers.faults)  # an answer that failed disproves the note
            verify = partial(self._open, self._used, trust)
            yield _Step(f"releases/{self._used}", verify, self._judge, self._log_once)
        if self._target is not None and time.monotonic() >= self._again_at:
            take = partial(self._open_new, self._target)
            yield _Step(f"releases/{self._target}", take, self._take, self._refuse)
        if self._want_good:
            self._want_good = False
            yield _Step("the last good release", self._open_good, self._take_good, self._log_once)
        if self._is_to_be_noted():
            yield _Step("releases/last-good.json", self._note, self._noted_as, self._log_once)

    def _open(self, target: str, trust: bool, progress: Progress) -> _OpenedRelease:
        """Open, verify and test a release. Reads the hidden movies again: `var` may have been mounted since."""
        state = self._hidden if self._hidden_hung else hidden.read_hidden_state(self._var, self._hidden)
        try:
            movies = frozenset[str]() if state.movies is None else state.movies
            answers = Answers(Release.open(self._releases / target, progress, trust), movies)
            answers.self_test()
        except BadRelease as error:
            return _OpenedRelease(target, None, state, str(error))
        except Exception as error:  # noqa: BLE001 - no fault of a new release may stop the one in use
            return _OpenedRelease(target, None, state, f"{target}: {error!r}")
        return _OpenedRelease(target, answers, state, "")

    def _open_new(self, target: str, progress: Progress) -> _OpenedRelease:
        """Open the target of `current`, unless workers died while opening it and another release is good."""
        good = good_releases(self._releases)
        if not good or target in good:
            return self._open(target, True, progress)
        if (count := deaths(self._releases, target)) >= FATAL_DEATHS:
            why = f"{target}: {count} workers died while opening it; is there enough memory, is its disk broken?"
            return _OpenedRelease(target, None, self._hidden, why)
        with noted_opening(self._releases, target):
            return self._open(target, True, progress)

    # What is hidden

    def _read_hidden(self, progress: Progress) -> tuple[HiddenState, Answers | None]:
        """The hidden movies now, and new answers if they have changed."""
        state, answers = hidden.read_hidden_state(self._var, self._hidden), self.answers
        if answers is None or state.movies is None or state.movies is answers.hidden:
            return state, None
        return state, Answers(answers.release, state.movies, answers.whole and not self._suspect)

    def _hide(self, read: tuple[HiddenState, Answers | None]) -> None:
        before, (self._hidden, answers) = self._hidden, read
        self._hidden_hung = ""
        if self._hidden.fault and self._hidden.fault != before.fault:
            effect = "the last list is used" if self._hidden.movies is not None else "nothing is answered"
            log.error("%s; until then %s", self._hidden.fault, effect)
        if self.refused and self._hidden.movies != before.movies:
            self._again_at = 0.0  # a release refused because of hidden movies may pass now
        if answers is not None:
            self._answer_from(answers)
            log.info("%d movies are hidden now", answers.hidden_count)
        elif self._hidden.movies is not None and before.movies is None and self.answers is not None:
            self._answer_from(self.answers)

    def _log_hung(self, why: str) -> None:
        if not self._hidden_hung:
            log.error("%s; what was hidden stays so", why)
        self._hidden_hung = why

    # Which release

    def _read_releases(self, progress: Progress) -> tuple[str | None, tuple[str, bool] | None]:
        """The target of `current`, and the file of the release in use that was changed."""
        try:
            target = str((self._releases / "current").readlink())
        except OSError:
            target = None
        whole = self.answers is not None and self.answers.whole
        return target, self.answers.release.changed_in_place() if self.answers and whole else None

    def _follow_link(self, read: tuple[str | None, tuple[str, bool] | None]) -> None:
        target, changed = read
        if target != self._target:
            self._target, self._again_at, self._again_s = target, 0.0, _FIRST_RETRY_S
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
        """Have the release in use verified again; if it was written to, only its popular lists are used meanwhile."""
        self._suspect = why
        log.error("release %s is verified again: %s", self._used, why)
        if written and self.answers is not None and self.ready is not None:
            self.ready = self.answers.popular_only()

    def _judge(self, opened: _OpenedRelease) -> None:
        """Apply the outcome of verifying the release in use again."""
        self._suspect, self._recheck_at = None, time.monotonic() + _FIRST_RETRY_S
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

    def _take(self, opened: _OpenedRelease) -> None:
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
            threading.Thread(target=_drop, args=(held, answers.release), daemon=True).start()

    def _refuse(self, why: str) -> None:
        self._again_at, self._again_s = time.monotonic() + self._again_s, min(2 * self._again_s, _LONGEST_RETRY_S)
        self._want_good = self.answers is None or not self.answers.whole
        why = why.encode(errors="backslashreplace").decode()  # for JSON: a link may point at any bytes
        if why == self.refused:
            return
        self.refused = why
        self.swaps["refused"] += 1
        log.error("release refused: %s", why)

    # The last good release

    def _open_good(self, progress: Progress) -> _OpenedRelease | None:
        """The first of the last good releases that is whole; None for none."""
        for target in good_releases(self._releases):
            if target not in (self._target, self._used):
                opened = self._open(target, True, progress)
                if opened.answers is not None:
                    return opened
                log.error("the last good release is refused as well: %s", opened.wrong)
        return None

    def _take_good(self, opened: _OpenedRelease | None) -> None:
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
        """Note the release in use as the last good one; returns why that failed, empty if it did not."""
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
        self._note_fault, self._note_at = fault, time.monotonic() + _LONGEST_RETRY_S if fault else 0.0

    def _log_once(self, why: str) -> None:
        if why != self._complaint:
            log.error(why)
        self._complaint = why
