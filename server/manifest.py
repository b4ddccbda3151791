"""`manifest.json`: the identity, input and origin of a release.

`batch/releases/publish.py` writes it, and all readers use this module. Releases outlive the version that made them, so
reading is tolerant: unknown fields are ignored, and a missing or malformed part has its default. `release.py` checks
the fields that a worker needs.
"""

from contextlib import suppress
from types import UnionType
from typing import TypeVar, get_args

import msgspec

from server.errors import BadRelease
from stream.decoding import decode_json

Part = TypeVar("Part", bound=msgspec.Struct)


class FileDigest(msgspec.Struct, frozen=True, kw_only=True):
    """The required size and digest of a file of the release."""

    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""


class InputCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the history that the release was made from."""

    sessions: int = 0
    users: int = 0
    movies: int = 0
    ratings: int = 0
    """The latest of each user and movie."""
    unknown_movie: int = 0
    """Sessions and ratings that were left out, because the catalogue does not know their movie."""


class InputFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a release; also the content of `night/input.json`."""

    stream_time: int
    """Stream time when the archive was read, ms UTC."""
    offsets: dict[str, list[int]] = {}
    """By `topic-partition`: the first offset that was read and the last."""
    hash: str = ""
    """sha256 of the ledger entries that were read, without the times of their writing."""
    days: list[str] = []
    """The days of sessions, ascending."""
    counts: InputCounts = InputCounts()
    hidden: list[str] | None = None
    """The movies of `hidden.txt` that no list was to hold; None in releases that are too old to say."""


class ReleaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the lists and the index of similar movies."""

    lists: str | None = None
    """The model that made `lists.npy`, by its name in `batch.models`."""
    parameters: dict[str, float] = {}
    """Its tuned parameters."""
    chosen_by: str | None = None
    """Why it was chosen, in words."""
    index: str | None = None
    """The model of the embeddings in `items.npy`."""
    metric: str | None = None
    """Of the Annoy index."""
    dimensions: int | None = None
    trees: int | None = None


class Exploring(msgspec.Struct, frozen=True, kw_only=True):
    """The lists that were drawn by lot, see `batch.models.exploring`; `explorers.npy` says whose they are."""

    share: float = 0.0
    """The chance with which each user was drawn."""
    users: int = 0
    """How many were."""


class BlasLibrary(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded BLAS library; kernels round differently."""

    prefix: str | None = None
    """Of its file name."""
    version: str | None = None
    architecture: str | None = None
    """The kernel that it picked for this processor."""
    num_threads: int | None = None


class Versions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The software and the processor that made a release."""

    commit: str | None = None
    """Of Marquee, where it is known."""
    python: str | None = None
    annoy: str | None = None
    implicit: str | None = None
    lightgbm: str | None = None
    numpy: str | None = None
    orjson: str | None = None
    pandas: str | None = None
    pyarrow: str | None = None
    sanic: str | None = None
    scipy: str | None = None
    blas: list[BlasLibrary] = []
    cpu: str | None = None
    """Model of the processor: the last digits of floating-point results differ between some."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The manifest of a release. Fields that an older version did not write have their defaults."""

    layout: int = 0
    """Version of the layout of the files, see `release_layout.LAYOUT`."""
    id: str = ""
    stream_time: int | None = None
    """How far its night had read the stream, ms UTC."""
    input: InputFacts | None = None
    proven_movies: int = 0
    """Movies that only the stream proves, since the API gave no record: without runtimes, but watched by many users."""
    unwatched_movies: int = 0
    """Movies that the catalogue knows and nobody has watched: they are in the release, behind those of the history."""
    api_answered: bool | None = None
    """Whether the movie API did not fail, and had answered on at least half of the movies; None if that is unknown."""
    exploring: Exploring | None = None
    """None if no list was drawn."""
    settings: dict[str, object] = {}
    """`[batch]` of that night, by the names of its version; URLs without passwords and keys."""
    model: ReleaseModel = ReleaseModel()
    model_source: str | None = None
    """Version and source of the package of the model that made the lists, if that is not Marquee's own."""
    segments: list[str] = []
    """Name of each segment by its number; 0 is everyone."""
    restricted: list[str] = []
    """Movies that no list for everyone may hold: adult ones, and those whose licence costs too much, where capped."""
    versions: Versions = Versions()
    files: dict[str, FileDigest] = {}
    """By name, all but the manifest itself."""

    def require_stream_time(self) -> int:
        """`stream_time`. Raises `BadRelease` if the manifest lacks it."""
        if self.stream_time is None:
            raise BadRelease(f"{self.id}: manifest.json has no stream_time")
        return self.stream_time

    def require_input(self) -> InputFacts:
        """`input`. Raises `BadRelease` if the manifest lacks it."""
        if self.input is None:
            raise BadRelease(f"{self.id}: manifest.json has no input with a stream_time")
        return self.input


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest of any version. Raises `msgspec.DecodeError` for anything but a JSON object."""
    return _parse(data, Manifest)


def _parse(data: bytes | msgspec.Raw, struct: type[Part]) -> Part:
    """Parse an object field by field: one that is unreadable counts as missing, and costs no other field."""
    raw, fields = decode_json(data, dict[str, msgspec.Raw]), msgspec.structs.fields(struct)
    readable: dict[str, object] = {}
    for field in fields:
        nested = _struct_in(field.type)
        if field.name in raw:
            with suppress(msgspec.ValidationError):
                value = _parse(raw[field.name], nested) if nested else decode_json(raw[field.name], field.type)
                readable[field.name] = value
    if missing := [field.name for field in fields if field.required and field.name not in readable]:
        raise msgspec.ValidationError(f"Object missing required field `{missing[0]}`")
    return struct(**readable)


def _struct_in(kind: object) -> type[msgspec.Struct] | None:
    """The struct that a field holds, optional or not; None for a field of another type."""
    options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)), None)
