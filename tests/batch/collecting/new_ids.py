"""Lines with ids that the catalogue does not have, and a scripted API that knows some of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import orjson
import pyarrow as pa

from batch.collecting.unknown_ids import UnknownIdLookup
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from quality.catalog import KnownIds, Record
from quality.lines.context_checks import make_context
from quality.lines.verdicts import ParsedLines, Verdicts, judge
from quality.settings import QualitySettings
from stream.settings import Generation, StreamSettings
from stream.zone import zone_named

ROOT = Path(__file__).parents[3]
CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
Reply = tuple[int, bytes, dict[str, str]]
"""Status, body, headers of an answer."""
Scripted = Callable[[Callable[[str, int], Reply]], AbstractContextManager[Any]]
Simulated = Callable[[WorldSettings], AbstractContextManager[str]]
GENERATIONS: tuple[Generation, ...] = get_args(Generation)


def lines(*texts: str) -> ParsedLines:
    """Lines of 09:40: `<user>,<request>` each."""
    values = pa.array([f"2022-10-07T09:40,{text}".encode() for text in texts], pa.binary())
    return ParsedLines.read(values, np.full(len(texts), NOW), CLOCK)


def watched(*movies: str, user: int = 5) -> ParsedLines:
    return lines(*(f"{user},GET /data/m/{movie}/3.mpg" for movie in movies))


def by(*users: int) -> ParsedLines:
    return lines(*(f"{user},GET /create_account" for user in users))


def streaming(var: Path, generation: Generation = "2026") -> StreamSettings:
    return StreamSettings(var=var, generation=generation, max_user=1_000)


def lookup_of(var: Path, root: str, generation: Generation = "2026", **more: Any) -> UnknownIdLookup:
    return UnknownIdLookup(streaming(var, generation), BatchSettings(api=root, **{"api_timeout_s": 60.0, **more}))


def judged(var: Path, some: ParsedLines, known: KnownIds) -> Verdicts:
    return judge(some, make_context(streaming(var), QualitySettings(), known))


RECORDS: dict[str, dict[str, Record]] = {
    "movie": {"new+2022": {"id": "new+2022", "runtime": 100}, "other+2022": {"id": "other+2022", "runtime": None}},
    "user": {"5000": {"user_id": 5000, "age": 28, "occupation": "farmer", "gender": "M"}},
}


def service(path: str, _: int) -> Reply:
    """The service of 2026, which knows two movies and one user that are new."""
    subject, ids = path.split("/")[1:]
    records = [RECORDS[subject].get(record_id, {"message": f"{subject} not found"}) for record_id in ids.split(",")]
    return 200, orjson.dumps(records if len(records) > 1 else records[0]), {}
