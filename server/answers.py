"""The answers of one release: a list for every user id, without hidden movies.

For every user id there is an answer: the personal list, else the popular list of the user's segment, else that of
everyone. A hidden movie is in no answer; what it leaves open is filled from the fallback. Both ways of a release to
hold a list, as text and as indices, give the same answers.

A release whose files are written to while it answers (nobody should) can lead anywhere: `find` then answers with the
popular list, which is kept in memory, and counts it, so that the follower verifies the release anew.

Everything that does not depend on the user is made beforehand, so that an answer is a look-up, a slice and a write.
Memory views are used rather than arrays: reading one number of an array costs three times as much. What differs from
release to release (a table or a search, text or indices) is chosen once, as a function.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Literal, get_args

import numpy as np

from server.errors import BadRelease
from server.http_date import http_date
from server.release import Release, list_source
from server.status import examples_of
from stream.event import LIST_LENGTH

Source = Literal["personal", "segment", "popular"]
SOURCES: tuple[Source, ...] = get_args(Source)
_PERSONAL, _SEGMENT, _POPULAR = range(3)

Find = Callable[[int], int]
Render = Callable[[int], bytes]
_ROWS = 1 << 16


class Answers:
    """Answers of one release. n users, m movies."""

    def __init__(self, release: Release, hidden: frozenset[str] = frozenset(), whole: bool = True) -> None:
        self.release, self.hidden, self.whole = release, hidden, whole
        """Not `whole`: nothing that is mapped is used, and everyone is answered the popular list."""
        self._faults = _Faults()
        self._names = release.names
        self._gone = {self._items[movie] for movie in hidden if movie in self._items} if hidden else set()
        self.unmatched = hidden - self._items.keys() if hidden else frozenset()
        """Lines of `hidden.txt` that name no movie of this release, and so hide nothing."""
        self.unmatched_examples = examples_of(self.unmatched)
        self._touched = memoryview(_touched(release.lists, self._gone)) if self._gone and whole else None  # type: ignore[arg-type]
        left_out = self._gone | {int(np.iinfo(release.lists.dtype).max)}
        self._segments = memoryview(release.segments)  # type: ignore[arg-type]
        sources = [SOURCES.index(list_source(release, segment)) for segment in range(len(release.fallbacks))]
        self._list_sources = sources if any(sources) else None
        """By segment, what a list that the release holds for a user is; None where all are personal."""
        everyone, *segments = (_kept(items, left_out) for items in release.fallbacks.tolist())
        everyone = everyone or _kept(range(len(self._names)), left_out)[:LIST_LENGTH]  # all that are popular are hidden
        self._fallbacks = [everyone, *segments]
        popular = _joined(self._names, everyone), _POPULAR
        self._popular = [popular, *((_joined(self._names, own), _SEGMENT) if own else popular for own in segments)]
        self._without_hidden = _without_hidden(release.lists, self._segments, self._names, self._fallbacks, left_out)
        self.heads = [_Heads(release.id, source) for source in SOURCES]
        """What goes before an answer over a connection that stays open, by the place of its source, then its length."""
        self.find = self._make_find()
        """The answer for a user id, and the place of its source in `SOURCES`.

        Up to 20 movie ids separated by commas, best first; without any only where `empty`.
        """

    @cached_property
    def _items(self) -> dict[str, int]:
        """Items by movie. Made when it is asked for, which answering does not."""
        return {movie: item for item, movie in enumerate(self.release.movies)}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to answer with: every movie is hidden."""
        return not self._fallbacks[0]

    @property
    def faults(self) -> int:
        """How many answers could not be found in the release, and were the popular list instead."""
        return self._faults.count

    @property
    def last_fault(self) -> str:
        """The error of the last of them."""
        return self._faults.last

    def _make_find(self) -> Callable[[int], tuple[bytes, int]]:
        """`find`, as one function over local variables: each call and each attribute in it would cost 20 to 40 ns.

        It does not refer to these answers: a reference circle would keep an old release until Python looks for circles.
        """
        release, popular, segments, faults = self.release, self._popular, self._segments, self._faults
        if not self.whole:
            return lambda user: popular[0]
        touched, list_sources = self._touched, self._list_sources
        without_hidden = self._without_hidden
        users, join = release.users, _joins(release.lists, self._names)
        count, first = len(users), int(users[0]) if len(users) else 0
        has_gaps = count == 0 or int(users[-1]) - first != count - 1
        locate = finder(users) if has_gaps else None
        texts = release.rendered.texts if release.rendered else None
        begins = memoryview(release.rendered.begins) if release.rendered else memoryview(b"")  # type: ignore[arg-type]

        def find(user: int) -> tuple[bytes, int]:
            try:
                row = user - first if locate is None else locate(user)
                if not 0 <= row < count:
                    return popular[0]
                if touched is not None and touched[row]:
                    body = without_hidden(row)
                elif texts is None:
                    body = join(row)
                else:
                    body = texts[begins[row] : begins[row + 1]]
                if not body:
                    return popular[segments[row]]
                return body, _PERSONAL if list_sources is None else list_sources[segments[row]]
            except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to, the user gets an answer
                faults.count, faults.last = faults.count + 1, repr(error)
                return popular[0]

        return find

    def popular_only(self) -> "Answers":
        """The popular list for everyone, from memory alone: for a release whose files may be damaged."""
        return Answers(self.release, self.hidden, whole=False)

    def similar(self, movie: str, count: int) -> list[str] | None:
        """The movies nearest to a movie by the angle of their embeddings, nearest first; None for an unknown movie."""
        item = self._items.get(movie)
        if item is None:
            return None
        near = self.release.index.get_nns_by_item(item, count + 1 + len(self._gone), SEARCH)
        return [self.release.movies[one] for one in near if one != item and one not in self._gone][:count]

    def renew_heads(self) -> None:
        """Let the next answers tell the time anew; to be called at the turn of each second."""
        for heads in self.heads:
            heads.clear()

    @property
    def hidden_count(self) -> int:
        """How many movies of this release are hidden."""
        return len(self._gone)

    def self_test(self) -> None:
        """Raises `BadRelease` where the answer of some user is not as it must be."""
        users = self.release.users
        step = max(1, len(users) // 100)
        for user in [0, *users[::step].tolist()]:
            answer = self.find(user)[0].split(b",")
            whole = 1 <= len(answer) == len(set(answer)) <= LIST_LENGTH and all(answer)
            if not whole or not self.hidden.isdisjoint(movie.decode() for movie in answer):
                raise BadRelease(f"{self.release.id}: self-test: user {user} would be answered {answer}")
        if self.faults:
            raise BadRelease(f"{self.release.id}: self-test: {self.last_fault}")


@dataclass
class _Faults:
    """Answers that could not be found."""

    count: int = 0
    last: str = ""


def _kept(items: Iterable[int], left_out: set[int]) -> list[int]:
    return [item for item in items if item not in left_out]


def _joined(names: list[bytes], items: list[int]) -> bytes:
    return b",".join([names[item] for item in items[:LIST_LENGTH]])


def _without_hidden(
    lists: np.ndarray, segments: Sequence[int], names: list[bytes], fallbacks: list[list[int]], left_out: set[int]
) -> Render:
    """A function from a row to its answer without what is left out, filled up from its segment's popular list.

    The answer is empty where nothing of the row's own list is left.
    """

    def render(row: int) -> bytes:
        kept = _kept(lists[row].tolist(), left_out)
        more = (item for item in fallbacks[segments[row]] if item not in kept)
        return _joined(names, [*kept, *more]) if kept else b""

    return render


SEARCH = 20_000
"""Nodes that Annoy looks at for one query (its `search_k`)."""


class _Heads(dict[int, bytes]):
    """Heads of responses with answers of one source, by the length of the body; those of one second, for the date."""

    def __init__(self, release: str, source: Source) -> None:
        super().__init__()
        self._release, self._source = release, source

    def __missing__(self, length: int) -> bytes:
        head = (
            f"HTTP/1.1 200 OK\r\nx-marquee-release: {self._release}\r\nx-marquee-source: {self._source}\r\n"
            f"date: {http_date()}\r\ncontent-length: {length}\r\nconnection: keep-alive\r\n"
            f"content-type: {TEXT}\r\n\r\n"
        )
        self[length] = head.encode()
        return self[length]


TEXT = "text/plain; charset=utf-8"


def _joins(lists: np.ndarray, names: list[bytes]) -> Render:
    """A function from a row to its answer, where a release holds indices only.

    `itemgetter` gets 20 names in one call, which takes two thirds of the time of 20 look-ups.
    """
    none, flat = int(np.iinfo(lists.dtype).max), memoryview(lists.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    form = struct.Struct(f"={LIST_LENGTH}{'H' if lists.itemsize == 2 else 'I'}")  # numpy's uint16 or uint32
    unpack, size = form.unpack_from, form.size

    def join(row: int) -> bytes:
        items = unpack(flat, row * size)
        if items[-1] == none:
            return b",".join([names[item] for item in items if item != none])
        return b",".join(itemgetter(*items)(names))

    return join


def _no_row(user: int) -> int:
    return -1


def finder(users: np.ndarray) -> Find:
    """A function from a user id to its row in `users` (uint32, ascending), -1 for an id that is not there.

    Where ids have no gaps the row is the distance from the first; else a table where it takes no more than eight bytes
    a user, otherwise binary search.
    """
    count = len(users)
    first, last = (int(users[0]), int(users[-1])) if count else (0, -1)
    span = last - first + 1
    if span == count:
        return lambda user: user - first if first <= user <= last else -1
    if span > 2 * count:
        ids = memoryview(users)  # type: ignore[arg-type]

        def search(user: int) -> int:
            row = bisect_left(ids, user)
            return row if row < count and ids[row] == user else -1

        return search
    rows = np.full(span, -1, np.int32)
    rows[users - np.uint32(first)] = np.arange(count, dtype=np.int32)
    table = memoryview(rows)  # type: ignore[arg-type]

    def look_up(user: int) -> int:
        return table[user - first] if first <= user <= last else -1

    return look_up


def _touched(lists: np.ndarray, gone: set[int]) -> np.ndarray:
    """Which users' lists name one of some movies: bool [n]."""
    touched = np.zeros(len(lists), bool)
    items = np.array(sorted(gone), lists.dtype)
    for at in range(0, len(lists), _ROWS):
        touched[at : at + _ROWS] = np.isin(lists[at : at + _ROWS], items).any(axis=1)
    return touched
