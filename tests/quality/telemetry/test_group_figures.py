"""Every figure against its definition in plain Python: of the day, its hours, segments, sources and releases."""

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from quality.catalog import KnownMovie
from quality.metrics.intervals import Interval, interval_text, mean_interval
from quality.telemetry.attribution import Attribution
from quality.telemetry.day_rows import RatingRows
from quality.telemetry.group_figures import GroupFigures, figures_by, total_figures
from quality.telemetry.judged_day import Grouping, judge_day
from quality.telemetry.rated_starts import rated_starts
from stream.zone import HOUR_MS
from tests.quality.telemetry.drawn_days import (
    END,
    FIRST,
    FIRST_RELEASE,
    GONE,
    KNOWN,
    MINUTE,
    MOVIES,
    SECOND_RELEASE,
    SETTINGS,
    ZONE,
    Answer,
    DrawnDay,
    PublishedRelease,
    Rating,
    Session,
    days,
    judged,
    rows_of,
    write_releases,
)

GROUPINGS: tuple[Grouping, ...] = ("hour", "segment", "source", "release")


@pytest.fixture(scope="module")
def releases() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        write_releases(Path(folder))
        yield Path(folder)


def release_at(time: int) -> PublishedRelease | None:
    """The release in force whose files are there."""
    return None if time >= GONE else next(
        (release for release in (SECOND_RELEASE, FIRST_RELEASE) if release.since <= time), None
    )  # fmt: skip


def given_by(release: PublishedRelease, user: int) -> tuple[str, str, tuple[str, ...]]:
    """Segment, source and list that a release has for a user, as `server/answers.py` decides."""
    segment = release.segments.get(user, 0)
    name = release.segment_names[segment] if segment else "no segment"
    if own := release.lists.get(user):
        source = "personal" if release.model == "blend" else "segment" if segment else "popular"
        source = "exploring" if user in release.explorers else source
        return name, source, tuple(release.movies[item] for item in own)
    popular = release.fallbacks[segment]
    source = "segment" if popular and segment else "popular"
    return name, source, tuple(release.movies[item] for item in popular or release.fallbacks[0])


@dataclass
class PlainDay:
    """The definitions, request by request."""

    day: DrawnDay

    def __post_init__(self) -> None:
        answers = sorted((answer for answer in self.day.answers if answer.status == 200), key=lambda each: each.time)
        self.requests = [answer for answer in self.day.answers if answer.time < END]
        self.known_until = min(self.day.watermark, END + SETTINGS.window_ms)
        self.credited: dict[Answer, list[Session]] = {answer: [] for answer in answers}
        for session in sorted(self.day.sessions, key=lambda each: each.start):
            before = [each for each in answers if each.user == session.user and each.time < session.start]
            if before and session.start <= before[-1].time + SETTINGS.window_ms:
                self.credited[before[-1]].append(session)

    def groups_of(self, request: Answer) -> dict[Grouping, str | None]:
        release = release_at(request.time)
        segment, source, _ = given_by(release, request.user) if release else (None, None, ())
        name = "gone" if request.time >= GONE else release.name if release else None
        hour = f"{ZONE.to_local(request.time) // HOUR_MS % 24:02}:00"
        return {"hour": hour, "segment": segment, "source": source, "release": name}

    def closed(self, answer: Answer) -> bool:
        return answer.status == 200 and answer.time + SETTINGS.window_ms <= self.day.watermark

    def hit(self, answer: Answer) -> tuple[int, Session] | None:
        """Rank and session."""
        listed = [each for each in self.credited[answer] if each.movie in answer.movies]
        if not listed:
            return None
        first = min(listed, key=lambda each: (each.start, answer.movies.index(each.movie)))
        return answer.movies.index(first.movie) + 1, first

    def popular_hit(self, answer: Answer) -> bool | None:
        release = release_at(answer.time)
        if release is None:
            return None
        popular = {release.movies[item] for item in release.baseline_of(answer.user)}
        return any(MOVIES[session.movie - 1] in popular for session in self.credited[answer])

    def ratings(self) -> Iterator[tuple[Answer, Rating, bool]]:
        known = [rating for rating in self.day.ratings if rating.time <= self.known_until]
        latest = {(each.user, each.movie): each for each in sorted(known, key=lambda each: (each.time, each.rating))}
        for rating in latest.values():
            starts = [
                (session.start, answer)
                for answer, sessions in self.credited.items()
                if answer.time < END and self.closed(answer)
                for session in sessions
                if (session.user, session.movie) == (rating.user, rating.movie) and session.start <= rating.time
            ]
            if starts:
                answer = max(starts, key=lambda each: each[0])[1]
                yield answer, rating, rating.movie in answer.movies

    def bits(self, movie: int) -> float:
        started = {(each.user, each.movie) for each in self.day.sessions if each.start < END}
        watchers = sum(other == movie for _, other in started)
        return -math.log2(max(1, watchers) / max(1, len({user for user, _ in started})))


def share(values: list[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def nearest_rank(values: list[int], percent: int) -> int | None:
    return sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1] if values else None


def check_mean(interval: Interval, total: float, count: int) -> None:
    if not count:
        assert interval == Interval(None, None, None)
        return
    assert interval.mean == pytest.approx(total / count)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= interval.high


def check_requests(figures: GroupFigures, plain: PlainDay, requests: list[Answer]) -> None:
    latencies = [request.latency_ms for request in requests]
    answers = [request for request in requests if request.status == 200]
    statuses = Counter(str(request.status) for request in requests)
    assert figures.answers.requests == len(requests)
    assert figures.answers.by_status == statuses
    assert figures.availability == share([request.status == 200 for request in requests])
    latency = figures.latency_ms
    expected = [nearest_rank(latencies, percent) for percent in (50, 95, 99, 100)]
    assert [latency.p50, latency.p95, latency.p99, latency.max] == expected
    assert latency.over_deadline == share([each > 600 for each in latencies])
    sources = [plain.groups_of(answer)["source"] for answer in answers]
    assert figures.sources.personalised == share([each == "personal" for each in sources if each])
    assert figures.sources.exploring == share([each == "exploring" for each in sources if each])
    assert figures.sources.unknown == sources.count(None)
    expected_lists = [(release_at(answer.time), answer) for answer in answers]
    assert figures.sources.unlike_release == sum(
        given_by(release, answer.user)[2] != tuple(MOVIES[movie - 1] for movie in answer.movies)
        for release, answer in expected_lists if release
    )  # fmt: skip


def check_shown(figures: GroupFigures, plain: PlainDay, requests: list[Answer]) -> None:
    answers = [request for request in requests if request.status == 200]
    counts = Counter(movie for answer in answers for movie in answer.movies)
    known = [release for answer in answers if (release := release_at(answer.time))]
    catalogue = {movie for release in known for movie in release.movies}
    shown = figures.shown
    assert (shown.movies, shown.catalogue) == (len(counts), len(catalogue))
    assert shown.coverage == share([any(MOVIES[each - 1] == movie for each in counts) for movie in catalogue])
    differences = sum(abs(one - other) for one in counts.values() for other in counts.values())
    mean_difference = differences / (2 * len(counts) * counts.total()) if counts else None
    assert shown.gini == (None if mean_difference is None else pytest.approx(mean_difference))
    bits = [plain.bits(movie) for movie in counts.elements()]
    assert shown.novelty_bits == (pytest.approx(sum(bits) / len(bits)) if bits else None)


def check_hits(figures: GroupFigures, plain: PlainDay, requests: list[Answer]) -> None:
    closed = [request for request in requests if plain.closed(request)]
    hits = [(answer, *hit) for answer in closed if (hit := plain.hit(answer))]
    ranks = [rank for _, rank, _ in hits]
    assert (figures.answers.closed, figures.hits) == (len(closed), len(hits))
    assert figures.hits_by_rank == [ranks.count(rank) for rank in range(1, 21)]
    check_mean(figures.hit_rate, len(ranks), len(closed))
    at = figures.hit_rate_at
    for last, interval in ((1, at.rank_1), (5, at.rank_5), (10, at.rank_10)):
        check_mean(interval, sum(rank <= last for rank in ranks), len(closed))
    reciprocal = sum(1 / rank for rank in ranks) / len(closed) if closed else None
    assert figures.mean_reciprocal_rank == (None if reciprocal is None else pytest.approx(reciprocal))
    delays = [(session.start - answer.time) // 1000 for answer, _, session in hits]
    delay = figures.start_delay_s
    assert (delay.median, delay.p90) == (nearest_rank(delays, 50), nearest_rank(delays, 90))
    popular = [(plain.hit(answer), other) for answer in closed if (other := plain.popular_hit(answer)) is not None]
    baseline = figures.baseline
    assert (baseline.answers, baseline.unknown) == (len(popular), len(closed) - len(popular))
    assert baseline.hits == sum(other for _, other in popular)
    check_mean(baseline.hit_rate, baseline.hits, len(popular))
    check_mean(figures.uplift, sum(bool(shown) - other for shown, other in popular), len(popular))


def check_after_hits(figures: GroupFigures, plain: PlainDay, requests: list[Answer]) -> None:
    closed = [request for request in requests if plain.closed(request)]
    watched = [hit[1] for answer in closed if (hit := plain.hit(answer))]
    over = [each for each in watched if each.last <= plain.known_until - SETTINGS.gap_ms]
    minutes = [((each.last - each.start) // MINUTE + 1, known(each.movie).runtime) for each in over]
    sessions = figures.hit_sessions
    assert (sessions.over, sessions.unknown) == (len(over), len(watched) - len(over))
    capped = [min(watched_minutes, runtime or watched_minutes) for watched_minutes, runtime in minutes]
    assert sessions.minutes == (pytest.approx(sum(capped) / len(capped)) if capped else None)
    finished = [watched_minutes >= 0.9 * runtime for watched_minutes, runtime in minutes if runtime]
    assert (sessions.with_runtime, sessions.finished) == (len(finished), share(finished))
    rated = [(rating.rating, is_listed) for answer, rating, is_listed in plain.ratings() if answer in requests]
    for kind, mean in ((True, figures.ratings.recommended), (False, figures.ratings.other)):
        own = [rating for rating, is_listed in rated if is_listed == kind]
        assert mean.ratings == len(own)
        check_mean(mean.mean, sum(own), len(own))


def known(number: int) -> KnownMovie:
    return KNOWN.get(MOVIES[number - 1], KnownMovie())


def check_costs_and_minors(figures: GroupFigures, plain: PlainDay, requests: list[Answer]) -> None:
    answers = [request for request in requests if request.status == 200]
    listed = [cost for answer in answers for movie in answer.movies if (cost := known(movie).cost) is not None]
    closed = [request for request in requests if plain.closed(request)]
    movies = [hit[1].movie for answer in closed if (hit := plain.hit(answer))]
    costs, of_hits = figures.licence_costs, [cost for movie in movies if (cost := known(movie).cost) is not None]
    assert costs is not None
    assert costs.listed == (pytest.approx(sum(listed) / len(listed)) if listed else None)
    assert costs.known == len(of_hits)
    assert costs.hits == (pytest.approx(sum(of_hits)) if of_hits else None)
    assert costs.per_hit == (pytest.approx(sum(of_hits) / len(of_hits)) if of_hits else None)
    assert costs.per_answer == (pytest.approx(sum(of_hits) / len(closed)) if of_hits else None)
    by_kind: dict[int, list[Answer]] = {0: [], 1: [], 2: []}
    for answer in answers:
        release = release_at(answer.time)
        by_kind[(release.minors or {}).get(answer.user, 2) if release else 2].append(answer)
    shown = figures.adult_listed
    assert shown is not None
    assert (shown.minors, shown.unknown_age) == (len(by_kind[1]), len(by_kind[2]))
    for kind, reported in ((1, shown.share_minors), (2, shown.share_unknown_age)):
        assert reported == share([known(movie).adult is True for answer in by_kind[kind] for movie in answer.movies])


@hypothesis_settings(max_examples=30, deadline=None)
@given(days)
def test_figures_are_what_their_definitions_say(releases: Path, day: DrawnDay) -> None:
    judged_day, plain = judged(day, releases), PlainDay(day)
    parts = [(total_figures(judged_day), plain.requests)]
    for grouping in GROUPINGS:
        groups = figures_by(grouping)(judged_day)
        names = [group.name for group in groups]
        assert set(names) == {plain.groups_of(request)[grouping] for request in plain.requests}
        assert len(names) == len(set(names))
        for group in groups:
            own = [request for request in plain.requests if plain.groups_of(request)[grouping] == group.name]
            parts.append((group, own))
    for figures, requests in parts:
        check_requests(figures, plain, requests)
        check_shown(figures, plain, requests)
        check_hits(figures, plain, requests)
        check_after_hits(figures, plain, requests)
        check_costs_and_minors(figures, plain, requests)


@hypothesis_settings(max_examples=10, deadline=None)
@given(days)
def test_groups_add_up_to_the_day(releases: Path, day: DrawnDay) -> None:
    judged_day = judged(day, releases)
    total = total_figures(judged_day)
    for grouping in GROUPINGS:
        groups = figures_by(grouping)(judged_day)

        def summed(count: str, groups: list[GroupFigures] = groups) -> int:
            field, _, inner = count.partition(".")
            return sum(getattr(getattr(group, field), inner) if inner else getattr(group, field) for group in groups)

        assert summed("answers.requests") == total.answers.requests
        assert summed("answers.closed") == total.answers.closed
        assert summed("answers.provisional") == total.answers.provisional
        assert summed("hits") == total.hits
        assert summed("baseline.hits") == total.baseline.hits
        assert summed("sources.unlike_release") == total.sources.unlike_release
        assert summed("hit_sessions.over") == total.hit_sessions.over
        assert sum(group.ratings.recommended.ratings for group in groups) == total.ratings.recommended.ratings
        assert [sum(counts) for counts in zip(*(group.hits_by_rank for group in groups), strict=True)] == (
            total.hits_by_rank if groups else []
        )


@hypothesis_settings(max_examples=10, deadline=None)
@given(days, st.integers(0, 10**7))
def test_minutes_after_the_windows_change_nothing(releases: Path, day: DrawnDay, more: int) -> None:
    day = replace(day, watermark=END + 2 * SETTINGS.window_ms)
    still_open = END + SETTINGS.window_ms - SETTINGS.gap_ms
    longer = [replace(each, last=each.last + more) if each.last > still_open else each for each in day.sessions]
    later = [*longer, Session(END + SETTINGS.window_ms + 1, 1, 1, END + SETTINGS.window_ms + 1)]
    assert total_figures(judged(replace(day, sessions=later), releases)) == total_figures(judged(day, releases))


def test_ratings_in_a_group_are_of_the_users_who_gave_them(releases: Path) -> None:
    begin = FIRST + 3 * HOUR_MS
    asked = [Answer(begin - HOUR_MS // 2, 3, 200, 5, (1,)), *(Answer(begin, user, 200, 5, (1,)) for user in (1, 2))]
    sessions = [Session(begin + MINUTE, user, 1, begin + MINUTE) for user in (1, 2)]
    rated = [Rating(begin + 2 * MINUTE, user, 1, rating) for user, rating in ((1, 2), (2, 9))]
    day = judged(DrawnDay(asked, sessions, rated, END + SETTINGS.window_ms), releases)
    (hour,) = [group for group in figures_by("hour")(day) if group.name == "03:00"]
    # users who differ so much; had one user given both, answers to one user would seem to differ
    of_two = mean_interval(np.array([0.2, 0.9]))
    assert hour.ratings.recommended.ratings == 2
    assert interval_text(hour.ratings.recommended.mean) == interval_text(of_two, scale=10)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_simultaneous_ratings_the_better_one_counts_in_any_order(order: list[int]) -> None:
    ratings = RatingRows(*np.array([[9, 1, 5, 3], [9, 1, 5, 8]])[order].T)
    starts = Attribution(*(np.array([value]) for value in (0, 5, 7, 7)))
    rated = rated_starts(ratings, starts, np.array([1]), np.array([True]))
    assert (rated.answer.tolist(), rated.rating.tolist(), rated.is_listed.tolist()) == ([0], [8], [True])


def test_an_hour_that_the_clock_shows_twice_is_one_group(tmp_path: Path) -> None:
    first, end = ZONE.bounds("2026-11-01")  # the clock is set back from 2:00 to 1:00
    asked = [Answer(first + hour * HOUR_MS, 1, 200, 5, (1,)) for hour in range(25)]
    rows = replace(rows_of(DrawnDay(asked, [], [], end)), first=first, end=end)
    day = judge_day(rows, tmp_path, end, SETTINGS, ZONE, {})
    counts = {group.name: group.answers.requests for group in figures_by("hour")(day)}
    assert counts == {f"{hour:02}:00": 2 if hour == 1 else 1 for hour in range(24)}
