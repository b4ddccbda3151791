"""The gate's rules: what a candidate must be like to become current. A refusal names the rules; nothing is moved.

A rule is a function of the candidate that returns `Wrong`, or nothing, or a remark. `RULES` is all of them, and all
are judged, so that a refusal says everything at once. Data that make a rule impossible to judge break it.

What is judged is the sealed release, as a worker would open it, with the evaluation and the facts that lie in it; held
against it are the history that it was made of, the ledger, and the current release.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from batch.errors import GateRefusal
from batch.gate import evaluation_checks, ledger_gaps, list_checks, list_relevance, worker_trial
from batch.gate.candidate import PARTS, SEED, Candidate
from quality.alerts.alert_file import Alert, raise_alert
from server.errors import BadRelease
from stream.archive import stream_time
from stream.event import LIST_LENGTH
from stream.zone import DAY_MS, HOUR_MS

_SHRINK = 0.5
"""A release with fewer than this share of the current one's users, movies or sessions has lost its input somewhere."""
_LEAST_USERS, _LEAST_MOVIES = 20, 5
"""With a history, and at all: with fewer there is nothing to learn; a service has them within minutes."""
_BEHIND_MS = 2 * DAY_MS
"""How far the input may lie behind the stream."""
_FEW_USERS, _FEW_MOVIES = 100, 100
"""With fewer, lists that are alike may be chance, or all that there is to offer."""
_PERSONAL = 0.05
"""Share of pairs of users that get different rankings from any model that is personal at all."""
_WELL_SEEN, _MOSTLY = 0.75, 0.5
"""Of the popular list, how large a share is among the movies that are seen most: more than this share of all movies."""


class Wrong(str):
    """What a rule says where it is broken."""


Rule = Callable[[Candidate], str | None]


def files_verify(candidate: Candidate) -> str | None:
    """Every file is what the manifest promises, of the right form, and they fit together."""
    try:
        (release := candidate.release).test_index()
    except BadRelease as error:
        return Wrong(error)
    if release.id != candidate.folder.name:
        return Wrong(f"{candidate.folder.name} says that it is {release.id}")
    for item, vector in enumerate(release.items):
        if not np.array_equal(release.index.get_item_vector(item), vector):
            return Wrong(f"items.ann and items.npy do not hold the same of movie {item}")
    return None


def ledger_balances(candidate: Candidate) -> str | None:
    """Every line that was read has one fate, and the ledger holds all that the input was made of."""
    wrong = ledger_gaps.first_gap(candidate.entries, candidate.facts["offsets"])
    return Wrong(wrong) if wrong else None


def alerts_allow(candidate: Candidate) -> str | None:
    """The data are within the thresholds beyond which nothing is to be learnt from them."""
    if not candidate.alerts:
        return None
    first, *more = candidate.alerts
    return Wrong(f"{first.id} ({first.text})" + (f" and {len(more)} more" if more else ""))


def input_is_recent(candidate: Candidate) -> str | None:
    """What the release was made of reaches to within two days of the stream's now."""
    now = stream_time(candidate.entries)
    if now is None:
        return "nothing is archived"
    ends = {
        "the input": candidate.facts["stream_time"],
        "its newest day": evaluation_checks.day_ms(max(candidate.facts["days"])) + DAY_MS,
    }
    if ends["the input"] > now:
        return Wrong(f"the input ends {(ends['the input'] - now) / HOUR_MS:.0f} h ahead of the stream")
    behind = [f"{what} ends {(now - end) / HOUR_MS:.0f} h behind the stream" for what, end in ends.items()
              if now - end > _BEHIND_MS]  # fmt: skip
    return Wrong("; ".join(behind)) if behind else None


def input_goes_on(candidate: Candidate) -> str | None:
    """It goes at least as far as that of the current release, and nothing between has gone."""
    if candidate.current is None:
        return "there is no current release"
    now, before = candidate.facts, candidate.before
    wrong = []
    if now["stream_time"] < before.get("stream_time", now["stream_time"]):
        wrong.append(f"the input ends at {now['stream_time']}, that of the current release at {before['stream_time']}")
    if lost := [day for day in before.get("days", []) if day >= min(now["days"]) and day not in now["days"]]:
        wrong.append(f"days are gone that the current release was made of: {', '.join(sorted(lost)[-5:])}")
    for name, (_, last) in before.get("offsets", {}).items():
        if now["offsets"].get(name, [0, -1])[1] < last:
            wrong.append(f"{name} was read to {last} for the current release, and is no more")
    return Wrong("; ".join(wrong)) if wrong else None


def counts_hold(candidate: Candidate) -> str | None:
    """Half of what the current release had is there at least."""
    if candidate.current is None:
        return "there is no current release"
    sizes = {"users": (len(candidate.release.users), len(candidate.current.users))}
    sizes["movies"] = len(candidate.release.names), len(candidate.current.names)
    if "sessions" in (before := candidate.before.get("counts", {})):
        sizes["sessions"] = candidate.facts["counts"]["sessions"], before["sessions"]
    wrong = [
        f"{new} {what}, the current release has {old}" for what, (new, old) in sizes.items() if new < _SHRINK * old
    ]
    return Wrong("; ".join(wrong)) if wrong else None


def there_is_enough(candidate: Candidate) -> str | None:
    """There is something to learn from."""
    users, movies = len(candidate.history), len(candidate.release.names)
    if users < _LEAST_USERS or movies < _LEAST_MOVIES:
        return Wrong(
            f"{users} users with a history and {movies} movies; {_LEAST_USERS} and {_LEAST_MOVIES} are the least"
        )
    return None


def release_is_of_its_input(candidate: Candidate) -> str | None:
    """Users, their segments and movies are those of the history, in its order, and as many as were counted."""
    release, counts = candidate.release, candidate.facts["counts"]
    agree = {
        "users": np.array_equal(release.users, candidate.users) and len(release.users) == counts["users"],
        "movies": release.movies == candidate.movies and len(release.names) == counts["movies"],
        "segments": np.array_equal(release.segments, candidate.segments),
        "sessions": counts["sessions"] >= candidate.seen.nnz,
    }
    wrong = [what for what, is_so in agree.items() if not is_so]
    return Wrong(f"the {' and the '.join(wrong)} are not those of the input") if wrong else None


def movies_are_known(candidate: Candidate) -> str | None:
    """No movie that the catalogue does not know."""
    wrong = [movie for movie in candidate.release.movies if movie not in candidate.known]
    return Wrong(f"{len(wrong)} movies are not in the catalogue: {', '.join(wrong[:5])}") if wrong else None


def lists_are_full(candidate: Candidate) -> str | None:
    """20 movies for everybody with a history and in each popular list, or all that there are."""
    lacking = list_checks.count_short_lists(candidate.lists, candidate.seen, candidate.gone)
    fallbacks = candidate.release.fallbacks
    shown = (fallbacks != np.iinfo(fallbacks.dtype).max).sum(axis=1)
    lacking += int((shown < min(LIST_LENGTH, int((~candidate.gone).sum()))).sum())
    return Wrong(f"{lacking} lists are not as long as they could be") if lacking else None


def lists_are_fresh(candidate: Candidate) -> str | None:
    """No list holds what its user has seen, or what is hidden."""
    stale, hidden = list_checks.repeated_offers(candidate.lists, candidate.seen, candidate.gone)
    fallbacks = candidate.release.fallbacks
    hidden += int(candidate.gone[fallbacks[fallbacks < len(candidate.gone)]].sum())
    if stale or hidden:
        return Wrong(f"{stale} entries of lists were seen by their user before, {hidden} are hidden")
    return None


def lists_differ(candidate: Candidate) -> str | None:
    """The lists of a personal model are more than one ranking without what each user has seen; those of others not."""
    rows = candidate.sampled()
    if not candidate.is_personal:
        return _alike(candidate, rows)
    if len(rows) < _FEW_USERS or int((~candidate.gone).sum()) < _FEW_MOVIES:
        return "too few users or movies to tell"
    share = list_checks.personal_share(candidate.lists[rows], candidate.seen[rows])
    return Wrong(f"only {share:.1%} of the users get a ranking of their own") if share < _PERSONAL else None


def lists_suit_their_users(candidate: Candidate) -> str | None:
    """The lists of a personal model go with what their users have seen, better than with what others have."""
    if not candidate.is_personal:
        return "no personal model"
    rows = candidate.sampled()
    seen, lists, together = candidate.seen[rows], candidate.lists[rows], candidate.together
    match = list_relevance.lists_match(seen, lists, together, PARTS)
    if match is None:
        return "too little data to tell"
    if not match:
        return Wrong("the lists go with their users' histories no better than with those of others")
    return (
        None if list_relevance.is_best_first(seen, lists, together) else Wrong("the lists begin with what suits least")
    )


def embeddings_suit_their_movies(candidate: Candidate) -> str | None:
    """Movies that are near each other are watched by the same users."""
    items = candidate.release.items
    if not np.ptp(items, axis=0).any():
        return Wrong("all movies have the same embedding")
    watched = np.flatnonzero(np.bincount(candidate.seen.indices, minlength=len(items)))
    rows = np.random.default_rng(SEED).permutation(watched)[: list_relevance.ROWS]
    alone = sp.csr_matrix((np.ones(len(rows), np.float32), (np.arange(len(rows)), rows)), (len(rows), len(items)))
    match = list_relevance.lists_match(alone, list_relevance.neighbours(items, rows), candidate.together)
    if match is None:
        return "too little data to tell"
    return None if match else Wrong("movies that are near each other are watched together no more than others")


def popular_lists_are_popular(candidate: Candidate) -> str | None:
    """At least half of the popular list belongs to the quarter that is seen most; those of segments are as they saw."""
    release = candidate.release
    if wrong := list_checks.unlike_segments(candidate.seen, release.segments, release.fallbacks, candidate.gone):
        return Wrong(f"the popular lists of {len(wrong)} segments are not of what these have seen most")
    counts = np.bincount(candidate.seen.indices, minlength=len(candidate.release.names))
    shown = candidate.release.fallbacks[0, :LIST_LENGTH].astype(np.int64)
    shown = shown[shown < len(counts)]
    if int((~candidate.gone).sum()) < _FEW_MOVIES:
        return "too few movies to tell"
    share = (counts[shown] >= np.quantile(counts[~candidate.gone], _WELL_SEEN)).mean()
    return Wrong(f"only {share:.0%} of the popular list is seen much") if share < _MOSTLY else None


def evaluation_is_sound(candidate: Candidate) -> str | None:
    """It is of the model that made the lists and of this history, and its figures can be true."""
    evaluation, manifest = candidate.evaluation, candidate.release.manifest
    chosen = evaluation["chosen"]
    if chosen != manifest["model"]["lists"]:
        return Wrong(f"{chosen} was chosen, but {manifest['model']['lists']} made the lists")
    if not evaluation["slices"]:
        if chosen not in ("popular", manifest["settings"]["model"]):
            return Wrong(f"{chosen} was chosen without being measured")
        return "nothing could be held out"
    doubts = evaluation_checks.evaluation_problems(evaluation, len(candidate.release.names), candidate.until)
    return Wrong(doubts) if doubts else None


def not_below_popular(candidate: Candidate) -> str | None:
    """The chosen model does not rank below the popular list, which is itself a candidate."""
    if candidate.evaluation["chosen"] == "popular":
        return "the popular list won"
    if not candidate.evaluation["slices"]:
        return "nothing could be held out"
    return _below(candidate.evaluation["against_popular"], "the popular list")


def not_below_current(candidate: Candidate) -> str | None:
    """It does not rank below what the current release shows, on the same users and hours, beyond noise."""
    if candidate.current is None:
        return "there is no current release"
    if candidate.current.id == candidate.release.id:
        return "it is the current release"
    against = candidate.evaluation["against_current"]
    if candidate.evaluation["slices"] and (held := against.get("release")) != candidate.current.id:
        return Wrong(f"it was held against {held or 'none'}, the current release is {candidate.current.id}")
    if "none" in against:
        return f"not compared: {against['none']}"
    return _below(against, "the current release")


def a_worker_answers(candidate: Candidate) -> str | None:
    """A real worker answers 1,000 known users, and one unknown, from it as it should."""
    fault = worker_trial.first_wrong_answer(candidate.folder, candidate.release, candidate.hidden)
    return Wrong(fault) if fault else None


RULES: tuple[Rule, ...] = (
    files_verify, ledger_balances, alerts_allow, input_is_recent, input_goes_on, counts_hold, there_is_enough,
    release_is_of_its_input, movies_are_known, lists_are_full, lists_are_fresh, lists_differ, lists_suit_their_users,
    embeddings_suit_their_movies, popular_lists_are_popular, evaluation_is_sound, not_below_popular, not_below_current,
    a_worker_answers,
)  # fmt: skip


def judge(candidate: Candidate) -> dict[str, str]:
    """The verdict for the manifest: by rule, `passed` with its remark. Raises `GateRefusal` with the rules broken."""
    said: dict[str, str | None] = {}
    for rule in RULES:
        said[rule.__name__] = _said(rule, candidate)
        if rule is files_verify and said[rule.__name__]:
            break  # there is nothing to judge
    broken = {name: " ".join(what.split()) for name, what in said.items() if isinstance(what, Wrong)}
    if broken:
        reasons = "; ".join(f"{name}: {why}" for name, why in broken.items())
        raise GateRefusal(f"gate: {candidate.folder.name} is refused, current stays: {reasons}", broken)
    return {name: f"passed: {remark}" if remark else "passed" for name, remark in said.items()}


def raise_refusal_alert(var: Path, release: str, refusal: GateRefusal, day: str) -> bool:
    """Raise an alert, once a day of the stream for the same rules. Returns whether it is new."""
    return raise_alert(var, refusal_alert(release, refusal, day))


def refusal_alert(release: str, refusal: GateRefusal, day: str) -> Alert:
    """What is told of a refusal on a day of the stream."""
    why = "; ".join(f"{name}: {what}" for name, what in refusal.broken.items())
    text = f"the night of {day} made {release}, which the gate refuses; the last release stays: {why}"
    return Alert(id=f"night_refused:{day}:{'+'.join(refusal.broken)}", alert="night_refused", text=text)


def _said(rule: Rule, candidate: Candidate) -> str | None:
    try:
        return rule(candidate)
    except Exception as error:  # noqa: BLE001 - whatever data make a rule impossible, they are no release
        return Wrong(f"cannot be judged: {error!r}")


def _below(against: dict[str, Any], what: str) -> str | None:
    if not against["high"] >= 0:
        return Wrong(f"ranks below {what}: {against['metric']} {against['mean']:+.4f}, at best {against['high']:+.4f}")
    return None


def _alike(candidate: Candidate, rows: np.ndarray) -> str:
    """What a model shows that is not personal is one ranking: of all the popular list, or one for each segment."""
    lists, seen, segments = candidate.lists[rows], candidate.seen[rows], candidate.release.segments[rows]
    if candidate.evaluation["chosen"] == "popular":
        wrong = list_checks.unlike_ranking(lists, seen, candidate.release.fallbacks[0])
    else:
        of = [np.flatnonzero(segments == segment) for segment in np.unique(segments)]
        wrong = sum(len(own) > 1 and list_checks.personal_share(lists[own], seen[own]) > 0 for own in of)
    return Wrong("lists that are not personal are not of one ranking") if wrong else "no personal model"
