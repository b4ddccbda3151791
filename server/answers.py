"""The answers of one release: a list for every user id, without hidden movies.

Every user id has an answer: the personal list, else the popular list of the user's segment, else that of everyone.
Hidden movies are left out of every answer, and movies of the popular list replace them. A release stores its lists as
text or as indices; both give the same answers.

If a file of a release in use is modified (which must not happen), a look-up may fail in any way. `find` then
answers the popular list, which is kept in memory, and counts the fault, so that the release is verified again.

Everything independent of the user is prepared, so that an answer is a look-up, a slice and a write. Memory
views are used instead of arrays, since reading one number of an array takes three times as long. Variants that depend
on the release (a table or a search, text or indices) are chosen once, as a function.
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

Source = Literal["personal", "segment", "popular", "exploring"]
SOURCES: tuple[Source, ...] = get_args(Source)
_PERSONAL, _SEGMENT, _POPULAR, _EXPLORING = range(4)

Find = Callable[[int], int]
Render = Callable[[int], bytes]
_ROWS = 1 << 16


class Answers:
    """Answers of one release. n users, m movies."""

    def __init__(self, release: Release, hidden: frozenset[str] = frozenset(), whole: bool = True) -> None:
        self.release, self.hidden, self.whole = release, hidden, whole
        """If not `whole`, mapped files are not used and everyone gets the popular list."""
        self._faults = _Faults()
        self._names = release.names
        self._hidden_items = {self._items[movie] for movie in hidden if movie in self._items} if hidden else set()
        self.unmatched = hidden - self._items.keys() if hidden else frozenset()
        """Entries of `hidden.txt` that are not movies of this release and so hide nothing."""
        self.unmatched_examples = examples_of(self.unmatched)
        self._has_hidden = None
        """By row, whether the list of the release holds a hidden movie; None if no movie is hidden."""
        if self._hidden_items and whole:
            self._has_hidden = memoryview(_lists_with(release.lists, self._hidden_items))  # type: ignore[arg-type]
        left_out = self._hidden_items | {int(np.iinfo(release.lists.dtype).max)}
        self._segments = memoryview(release.segments)  # type: ignore[arg-type]
        self._list_sources = _list_sources(release) if whole else None
        """By row, the source of the list that the release holds; None if all are personal."""
        everyone, *segments = (_kept(items, left_out) for items in release.fallbacks.tolist())
        if not everyone:  # every popular movie is hidden
            everyone = _kept(range(len(self._names)), left_out | self._restricted)[:LIST_LENGTH]
        self._fallbacks = [everyone, *segments]
        popular = _joined(self._names, everyone), _POPULAR
        self._popular = [popular, *((_joined(self._names, own), _SEGMENT) if own else popular for own in segments)]
        self._without_hidden = _without_hidden(release.lists, self._segments, self._names, self._fallbacks, left_out)
        self.heads = [_Heads(release.id, source) for source in SOURCES]
        """HTTP heads of answers on connections that stay open, by index of the source, then by length of the body."""
        self.find = self._make_find()
        """The answer for a user id, and the index of its source in `SOURCES`.

        Up to 20 movie ids separated by commas, best first; none only if `empty`.
        """

    @cached_property
    def _items(self) -> dict[str, int]:
        """Item index by movie id. Built on first use; `find` does not need it."""
        return {movie: item for item, movie in enumerate(self.release.movies)}

    @cached_property
    def _restricted(self) -> set[int]:
        """Items that nobody may be shown who may be anyone."""
        movies = self.release.manifest.restricted
        return {self._items[movie] for movie in movies if movie in self._items} if movies else set()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to answer, because every movie is hidden."""
        return not self._fallbacks[0]

    @property
    def faults(self) -> int:
        """How many look-ups failed and were answered with the popular list."""
        return self._faults.count

    @property
    def last_fault(self) -> str:
        """The error of the last failed look-up."""
        return self._faults.last

    def _make_find(self) -> Callable[[int], tuple[bytes, int]]:
        """`find` as one function over local variables: each call or attribute access in it would cost 20 to 40 ns.

        It holds no reference to this object: a reference cycle would keep an old release in memory until the next
        garbage collection.
        """
        release, popular, segments, faults = self.release, self._popular, self._segments, self._faults
        if not self.whole:
            return lambda user: popular[0]
        has_hidden, list_sources = self._has_hidden, self._list_sources
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
                if has_hidden is not None and has_hidden[row]:
                    body = without_hidden(row)
                elif texts is None:
                    body = join(row)
                else:
                    body = texts[begins[row] : begins[row + 1]]
                if not body:
                    return popular[segments[row]]
                return body, _PERSONAL if list_sources is None else list_sources[row]
            except Exception as error:  # noqa: BLE001 - whatever error a damaged file causes, the user gets an answer
                faults.count, faults.last = faults.count + 1, repr(error)
                return popular[0]

        return find

    def popular_only(self) -> "Answers":
        """Answers from memory alone, the popular list for everyone: for a release whose files may be damaged."""
        return Answers(self.release, self.hidden, whole=False)

    def similar(self, movie: str, count: int) -> list[str] | None:
        """The movies nearest to `movie` by the angle between their embeddings, nearest first; None if it is unknown.

        Left out are hidden movies, and restricted ones, since anyone may ask.
        """
        item = self._items.get(movie)
        if item is None:
            return None
        movies, left_out = self.release.movies, self._hidden_items | self._restricted
        nearest = self.release.index.get_nns_by_item(item, count + 1 + len(left_out), SEARCH)
        return [movies[near] for near in nearest if near != item and near not in left_out][:count]

    def renew_heads(self) -> None:
        """Drop the heads, which carry the date; called at the turn of each second."""
        for heads in self.heads:
            heads.clear()

    @property
    def hidden_count(self) -> int:
        """Movies of this release that are hidden."""
        return len(self._hidden_items)

    def self_test(self) -> None:
        """Check a hundred answers. Raises `BadRelease` unless each is 1 to 20 distinct movies, none of them hidden."""
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
    """Failed look-ups."""

    count: int = 0
    last: str = ""


def _list_sources(release: Release) -> Sequence[int] | None:
    """By row, the index in `SOURCES` of the list that a release holds; None if all are personal."""
    by_segment = [SOURCES.index(list_source(release, segment)) for segment in range(len(release.fallbacks))]
    if not any(by_segment) and release.explored is None:
        return None
    sources = np.array(by_segment, np.uint8)[release.segments]
    if release.explored is not None:
        sources[release.explored.rows] = _EXPLORING
    return memoryview(sources)


def _kept(items: Iterable[int], left_out: set[int]) -> list[int]:
    return [item for item in items if item not in left_out]


def _joined(names: list[bytes], items: list[int]) -> bytes:
    return b",".join([names[item] for item in items[:LIST_LENGTH]])


def _without_hidden(
    lists: np.ndarray, segments: Sequence[int], names: list[bytes], fallbacks: list[list[int]], left_out: set[int]
) -> Render:
    """A function from a row to its answer without `left_out`, filled up from the popular list of its segment.

    The answer is empty if nothing of the row's own list is left.
    """

    def render(row: int) -> bytes:
        kept = _kept(lists[row].tolist(), left_out)
        more = (item for item in fallbacks[segments[row]] if item not in kept)
        return _joined(names, [*kept, *more]) if kept else b""

    return render


SEARCH = 20_000
"""Nodes that Annoy inspects per query (its `search_k`)."""


class _Heads(dict[int, bytes]):
    """HTTP heads of the answers of one source within one second, by the length of the body."""

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
    """A function from a row to its answer, for a release that holds indices only.

    `itemgetter` gets 20 names in one call, in two thirds of the time of 20 look-ups.
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
    """A function from a user id to its row in `users` (uint32, ascending), -1 for an unknown id.

    If ids have no gaps the row is the distance to the first id; else it is looked up in a table, if that takes no more
    than eight bytes per user, or by binary search.
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


def _lists_with(lists: np.ndarray, some_items: set[int]) -> np.ndarray:
    """bool [n]: which users' lists hold one of the items."""
    has_item = np.zeros(len(lists), bool)
    items = np.array(sorted(some_items), lists.dtype)
    for first in range(0, len(lists), _ROWS):
        has_item[first : first + _ROWS] = np.isin(lists[first : first + _ROWS], items).any(axis=1)
    return has_item
