"""The gate's rules: what a candidate must satisfy to become current. A refusal names the rules; nothing is moved.

A rule is a function of the candidate that returns `Wrong` with the reason, or None, or a remark. `RULES` has all of
them, and all are checked, so that a refusal reports every problem at once. A rule that cannot be checked is broken.

The gate judges the sealed release, as a worker would open it, with its evaluation and input facts, against
the history that it was made from, the ledger, and the current release.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from batch import models
from batch.errors import GateRefusal
from batch.evaluation_file import LEAST_USERS, ScoreDifference, enough_users
from batch.gate import evaluation_checks, ledger_gaps, worker_trial
from batch.gate.candidate import Candidate
from batch.gate.list_rules import (
    baseline_is_popular,
    embeddings_suit_their_movies,
    explorers_are_drawn,
    first_lists_suit_their_users,
    lists_are_fresh,
    lists_are_full,
    lists_differ,
    lists_keep_to_caps,
    lists_suit_their_users,
    popular_lists_are_popular,
)
from batch.gate.new_movie_rules import new_movies_keep_to_their_budget, new_movies_lie_near_their_like
from batch.gate.verdict import GateVerdict, RuleResult, Wrong
from quality.alerts.alert_file import Alert, raise_alert
from server.errors import BadRelease
from stream.ledger_clock import stream_time
from stream.zone import DAY_MS, HOUR_MS

_SHRINK = 0.5
"""A release with fewer than this share of the current one's users, movies or sessions has lost part of its input."""
_LEAST_USERS, _LEAST_MOVIES = 20, 5
"""Least users with a history, and least movies, to learn from. A service has them within minutes."""
_LARGE_HISTORY = 4 * LEAST_USERS
"""In a history of so many users, slices that grow hold enough of them; if they do not, the history is wrong."""
_UNCONFIRMED = "the API has answered on movies of the current release that none had confirmed"
_BEHIND_MS = 2 * DAY_MS
"""How far the input may be behind the stream."""
Rule = Callable[[Candidate], str | None]


def files_verify(candidate: Candidate) -> str | None:
    """Every file matches the manifest and the layout, and the files are consistent."""
    try:
        (release := candidate.release).test_index()
    except BadRelease as error:
        return Wrong(error)
    if release.id != candidate.folder.name:
        return Wrong(f"the manifest of {candidate.folder.name} names {release.id}")
    for item, vector in enumerate(release.items):
        if not np.array_equal(release.index.get_item_vector(item), vector):
            return Wrong(f"items.ann and items.npy hold different embeddings of movie {item}")
    return None


def ledger_balances(candidate: Candidate) -> str | None:
    """Every line that was read is counted once, and the ledger covers the whole input."""
    gap = ledger_gaps.first_gap(candidate.entries, candidate.facts.offsets)
    return Wrong(gap) if gap else None


def alerts_allow(candidate: Candidate) -> str | None:
    """The data are within the thresholds beyond which a night does not learn from them."""
    if not candidate.alerts:
        return None
    first, *more = candidate.alerts
    return Wrong(f"{first.id} ({first.text})" + (f" and {len(more)} more" if more else ""))


def input_is_recent(candidate: Candidate) -> str | None:
    """The input ends at most two days behind the stream."""
    now = stream_time(candidate.entries)
    if now is None:
        return "nothing is archived"
    ends = {
        "the input": candidate.facts.stream_time,
        "its newest day": evaluation_checks.day_ms(max(candidate.facts.days)) + DAY_MS,
    }
    if ends["the input"] > now:
        return Wrong(f"the input ends {(ends['the input'] - now) / HOUR_MS:.0f} h ahead of the stream")
    behind = [f"{name} ends {(now - end) / HOUR_MS:.0f} h behind the stream" for name, end in ends.items()
              if now - end > _BEHIND_MS]  # fmt: skip
    return Wrong("; ".join(behind)) if behind else None


def input_goes_on(candidate: Candidate) -> str | None:
    """The input ends no earlier than that of the current release, and no day or line in between is missing."""
    if candidate.current is None:
        return "there is no current release"
    now, before = candidate.facts, candidate.current_facts
    if before is None:
        return "the current release does not say what it was made of"
    losses = []
    # an input that has read more lines and yet ends earlier proves that the other one went by a wrong clock
    has_more = any(last > before.offsets.get(partition, [0, -1])[1] for partition, (_, last) in now.offsets.items())
    if now.stream_time < before.stream_time and not has_more:
        losses.append(f"the input ends at {now.stream_time}, that of the current release at {before.stream_time}")
    if lost := _lost_days(candidate, before.days):
        losses.append(f"days are gone that the current release was made of: {', '.join(lost[-5:])}")
    for partition, (_, last) in before.offsets.items():
        if now.offsets.get(partition, [0, -1])[1] < last:
            losses.append(f"{partition} was read to {last} for the current release, and not as far now")
    return Wrong("; ".join(losses)) if losses else None


def counts_hold(candidate: Candidate) -> str | None:
    """The candidate has at least half as many users, movies and sessions as the current release.

    If that was made without the API, movies that it has denied since do not count, and sessions of unknown ones do.
    """
    if candidate.current is None:
        return "there is no current release"
    denied = candidate.denied_of_current if candidate.is_better_confirmed else 0
    sizes = {
        "users": (len(candidate.release.users), len(candidate.current.users)),
        "movies": (candidate.watched, _watched_of_current(candidate) - denied),
    }
    if candidate.current_facts is not None:
        new, old = candidate.facts.counts, candidate.current_facts.counts
        of_unknown = (new.unknown_movie, old.unknown_movie) if candidate.is_better_confirmed else (0, 0)
        sizes["sessions"] = new.sessions + of_unknown[0], old.sessions + of_unknown[1]
    losses = [
        f"{new} {name}, the current release has {old}" for name, (new, old) in sizes.items() if new < _SHRINK * old
    ]
    if losses:
        return Wrong("; ".join(losses))
    return _UNCONFIRMED if candidate.is_better_confirmed else None


def there_is_enough(candidate: Candidate) -> str | None:
    """There are enough users and movies to learn from."""
    users, movies = len(candidate.with_history), candidate.watched
    if users < _LEAST_USERS or movies < _LEAST_MOVIES:
        return Wrong(f"{users} users with a history and {movies} movies; {_LEAST_USERS} and {_LEAST_MOVIES} are needed")
    return None


def release_is_of_its_input(candidate: Candidate) -> str | None:
    """Users, segments and movies equal those of the history, in the same order, and their counts equal the facts'."""
    release, counts = candidate.release, candidate.facts.counts
    unwatched = release.manifest.unwatched_movies
    agreements = {
        "users": np.array_equal(release.users, candidate.users) and len(release.users) == counts.users,
        "movies": release.movies == candidate.movies and len(release.names) == counts.movies + unwatched,
        "segments": np.array_equal(release.segments, candidate.segments),
        "watched movies": counts.movies == candidate.watched,
        "sessions": counts.sessions >= candidate.seen.nnz,
    }
    differing = [name for name, agrees in agreements.items() if not agrees]
    return Wrong(f"the {' and the '.join(differing)} are not those of the input") if differing else None


def movies_are_known(candidate: Candidate) -> str | None:
    """The catalogue knows every movie, or while the API does not answer, many users have watched it."""
    movies, counts = candidate.movies, np.bincount(candidate.seen.indices, minlength=len(candidate.movies))
    unknown = {movie: count for movie, count in zip(movies, counts.tolist(), strict=True)
               if movie not in candidate.catalog_movies}  # fmt: skip
    if not unknown:
        return None
    named = candidate.release.manifest.proven_movies
    if len(unknown) > named:
        but = f", but the manifest says so of {named}" if named else ""
        return Wrong(f"{len(unknown)} movies are not in the catalogue{but}: {', '.join([*unknown][:5])}")
    if denied := [movie for movie in unknown if movie in candidate.denied_movies]:
        return Wrong(f"the API denies {len(denied)} movies: {', '.join(denied[:5])}")
    if unproven := [movie for movie, count in unknown.items() if count < candidate.proven_users]:
        return Wrong(f"{len(unproven)} movies that no API confirms were watched by few: {', '.join(unproven[:5])}")
    return f"the API has not answered on {len(unknown)} movies, which many users watched"


def evaluation_is_sound(candidate: Candidate) -> str | None:
    """The evaluation belongs to the model that made the lists and to this history, and its figures are possible."""
    evaluation, manifest = candidate.evaluation, candidate.release.manifest
    chosen = evaluation.chosen
    if chosen != manifest.model.lists:
        return Wrong(f"{chosen} was chosen, but {manifest.model.lists} made the lists")
    if not evaluation.is_measured:
        if chosen not in ("popular", manifest.settings.get("model")):
            return Wrong(f"{chosen} was chosen without being measured")
        return "nothing could be held out"
    problems = evaluation_checks.evaluation_problems(evaluation, candidate.watched, candidate.until)
    if problems:
        return Wrong(problems)
    test = evaluation.slices.test
    return f"the test slice has {test.counted}" if test and test.counted else None


def measured_on_enough(candidate: Candidate) -> str | None:
    """What replaces a personal release was measured on enough users, or has the model that the settings name."""
    evaluation, users = candidate.evaluation, len(candidate.with_history)
    if candidate.current is None:
        return "there is no current release"
    if not models.is_personal(candidate.current.manifest.model.lists or ""):  # it may be too old to say
        return "the current release is not personal"
    if evaluation.chosen == candidate.release.manifest.settings.get("model"):
        return f"the settings name {evaluation.chosen}"
    if users < _LARGE_HISTORY:
        return f"too few users with a history to ask for more: {users}"
    if not evaluation.is_measured:
        return Wrong(f"{evaluation.chosen} is to replace a personal model, but {evaluation.chosen_by}")
    # of few users a personal model may not be seen to be better, so it gives way to another kind only among many
    needed = {"choice": LEAST_USERS if candidate.is_personal else enough_users(users), "test": LEAST_USERS}
    few = [
        f"on {count} users of the {part} slice, {needed[part]} are needed"
        for part, count in evaluation.measured_users(evaluation.chosen).items()
        if count < needed[part]
    ]
    return Wrong(f"{evaluation.chosen} is to replace a personal model: measured {'; '.join(few)}") if few else None


def not_below_popular(candidate: Candidate) -> str | None:
    """The chosen model does not rank below the popular list, which is itself a model; nor does a personal one, where it
    chose, for users with histories of any length that get its lists.
    """
    if candidate.evaluation.chosen == "popular":
        return "the popular list won"
    if not candidate.evaluation.is_measured:
        return "nothing could be held out"
    if candidate.is_personal and (lengths := evaluation_checks.badly_served(candidate.evaluation)):
        return Wrong(f"users with {' or '.join(lengths)} events are better off with the popular list")
    return _below(candidate.evaluation.against_popular, "the popular list")


def not_below_current(candidate: Candidate) -> str | None:
    """The chosen model does not rank below the current release beyond noise, on the same users and hours."""
    if candidate.current is None:
        return "there is no current release"
    if candidate.current.id == candidate.release.id:
        return "it is the current release"
    if candidate.is_better_confirmed:
        return _UNCONFIRMED
    against = candidate.evaluation.against_current
    if candidate.evaluation.is_measured and against.release != candidate.current.id:
        compared_with = against.release or "none"
        return Wrong(f"it was compared with {compared_with}, the current release is {candidate.current.id}")
    if against.reason is not None:
        return f"not compared: {against.reason}"
    if against.difference is None:
        return Wrong("the evaluation lacks the comparison with the current release")
    return _below(against.difference, "the current release")


def a_worker_answers(candidate: Candidate) -> str | None:
    """A real worker gives 1,000 known users, and one unknown user, the answers in the release."""
    wrong_answer = worker_trial.first_wrong_answer(candidate.folder, candidate.release, candidate.hidden)
    return Wrong(wrong_answer) if wrong_answer else None


RULES: tuple[Rule, ...] = (
    files_verify, ledger_balances, alerts_allow, input_is_recent, input_goes_on, counts_hold, there_is_enough,
    release_is_of_its_input, movies_are_known, lists_are_full, lists_are_fresh, lists_keep_to_caps, lists_differ,
    lists_suit_their_users, explorers_are_drawn, first_lists_suit_their_users, embeddings_suit_their_movies,
    popular_lists_are_popular, baseline_is_popular, new_movies_keep_to_their_budget, new_movies_lie_near_their_like,
    evaluation_is_sound, measured_on_enough, not_below_popular, not_below_current, a_worker_answers,
)  # fmt: skip


def judge(candidate: Candidate) -> GateVerdict:
    """Check all rules."""
    results: dict[str, RuleResult] = {}
    for rule in RULES:
        results[rule.__name__] = _result(rule, candidate)
        if rule is files_verify and not results[rule.__name__].passed:
            break  # nothing else can be judged
    return GateVerdict(candidate.folder.name, results)


def require_passed(verdict: GateVerdict) -> None:
    """Raise `GateRefusal` if a rule is broken."""
    if verdict.broken:
        message = f"gate: {verdict.release} is refused, current stays: {verdict.reasons}"
        raise GateRefusal(message, verdict.broken)


def raise_refusal_alert(var: Path, release: str, refusal: GateRefusal, day: str) -> bool:
    """Raise the alert of a refusal, once a day of the stream for the same rules. Returns whether it is new."""
    return raise_alert(var, refusal_alert(release, refusal, day))


def refusal_alert(release: str, refusal: GateRefusal, day: str) -> Alert:
    """The alert of a refusal on a day of the stream."""
    reasons = "; ".join(f"{rule}: {reason}" for rule, reason in refusal.broken.items())
    text = f"the night of {day} made {release}, which the gate refuses; the last release stays: {reasons}"
    return Alert(id=f"night_refused:{day}:{'+'.join(refusal.broken)}", alert="night_refused", text=text)


def _result(rule: Rule, candidate: Candidate) -> RuleResult:
    try:
        text = rule(candidate)
    except Exception as error:  # noqa: BLE001 - data that make a rule impossible to judge are no release
        text = Wrong(f"cannot be judged: {error!r}")
    return RuleResult(passed=not isinstance(text, Wrong), text=" ".join((text or "").split()))


def _watched_of_current(candidate: Candidate) -> int:
    """How many movies of the current release were watched by anyone."""
    assert candidate.current is not None
    return len(candidate.current.names) - candidate.current.manifest.unwatched_movies


def _lost_days(candidate: Candidate, before: list[str]) -> list[str]:
    """Days of the current release that the input should have and lacks, ascending.

    A day that the stream has not come to held wrong times only, and the history no longer holds these.
    """
    now, days = stream_time(candidate.entries), candidate.facts.days
    to_come_ms = (candidate.facts.stream_time if now is None else now) + DAY_MS  # in any zone
    return sorted(
        day for day in before if day >= min(days) and day not in days and evaluation_checks.day_ms(day) <= to_come_ms
    )


def _below(difference: ScoreDifference, what: str) -> str | None:
    """Wrong if the candidate ranks below `what` beyond noise."""
    if difference.mean is None or difference.high is None:
        return Wrong(f"the evaluation lacks the difference from {what}")
    if difference.high >= 0:
        return None
    return Wrong(f"ranks below {what}: {difference.metric} {difference.mean:+.4f}, at best {difference.high:+.4f}")
