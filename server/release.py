"""A release as a worker opens it: verified, memory-mapped, immutable.

The first time, `Release.open` verifies everything: layout, size and sha256 of every file, shapes, dtypes and ranges of
the arrays against each other (`release_layout.py`), and the structure of the Annoy file before it is loaded
(`annoy_file.py`). The host remembers which releases were verified. Each file is opened once, must be a regular file,
and is checked and mapped through the same descriptor. Arrays are mapped read-only, so workers share one copy in the
page cache. Files of a published release are never written to. Answers are made from it in `answers.py`.
"""

import ctypes
import mmap
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import annoy
import msgspec
import numpy as np

from server import verification_cache
from server.annoy_file import structure_fault
from server.errors import BadRelease
from server.manifest import Manifest, parse_manifest
from server.release_files import Progress, ReleaseFiles, no_progress
from server.release_files import sha256 as sha256
from server.release_layout import ARRAYS, wrong_files
from server.release_layout import BASELINE as BASELINE
from server.release_layout import EXPLORED as EXPLORED
from server.release_layout import FILES as FILES
from server.release_layout import LAYOUT as LAYOUT
from server.release_layout import METRIC as METRIC
from server.release_layout import MINORS as MINORS
from server.release_layout import RENDERED as RENDERED
from server.release_layout import Explored as Explored
from server.release_layout import Rendered as Rendered
from stream.event import LIST_LENGTH


@dataclass(frozen=True)
class Release:
    """One release: n users, m movies, s segments.

    A short list ends with the largest value of its dtype.
    """

    id: str
    manifest: Manifest
    names: list[bytes]
    """[m] movie ids by item index, as bytes for answers."""
    users: np.ndarray
    """uint32 [n], ascending."""
    lists: np.ndarray
    """uint16 or uint32 [n, 20] item indices, best first."""
    fallbacks: np.ndarray
    """As `lists`, [s + 1, 20 or more]: the popular list of everyone, then of each segment. The first 20 are shown."""
    segments: np.ndarray
    """uint8 [n]: each user's segment, 0 for none."""
    items: np.ndarray
    """float32 [m, d] item embeddings."""
    index: annoy.AnnoyIndex
    rendered: Rendered | None
    published: float
    """Time of publication, seconds since 1970."""
    explored: Explored | None = None
    """The lists that were drawn by lot; None if there are none."""
    folder: Path = Path()
    state: verification_cache.State = field(default_factory=list)
    """State of `manifest.json` and of `file_names` when they were opened, see `verification_cache.state_of`."""

    @staticmethod
    def open(folder: Path, progress: Progress = no_progress, trust: bool = True) -> "Release":
        """Open and verify a release. Raises `BadRelease`.

        `progress` is called between the pieces of long work. Without `trust`, everything is verified even if it was
        before.
        """
        with ReleaseFiles(folder) as files:
            manifest = _manifest(files)
            names = _file_names(folder, manifest)
            files.open(names)
            state = verification_cache.state_of([files.status(name) for name in ("manifest.json", *names)])
            is_verified = trust and verification_cache.is_known(folder, state)
            for name in () if is_verified else names:
                _verify(files, name, manifest, progress)
            release = _map_files(files, manifest, state, is_verified, progress)
        release.test_index()
        if not is_verified:
            verification_cache.remember(folder, state)
        return release

    @property
    def file_names(self) -> list[str]:
        """The files that are read of it, besides the manifest."""
        return [*FILES, *(RENDERED if self.rendered else ()), *(EXPLORED if self.explored else ())]

    @cached_property
    def movies(self) -> list[str]:
        """[m] movie ids by item index. Decoded on first use: answers do not need it, and a swap has to be quick."""
        return [name.decode() for name in self.names]

    @property
    def explorers(self) -> np.ndarray:
        """uint32: ids of the users whose lists were drawn by lot, ascending."""
        return self.users[:0] if self.explored is None else self.users[self.explored.rows]

    def shown_lists(self, user_ids: np.ndarray) -> np.ndarray:
        """The items shown to each user while nothing is hidden, best first: int32 [len(user_ids), 20], -1 for none.

        A user's own list; without one the popular list of the segment; without that, and for an unknown user, the
        popular list of everyone. `answers.py` answers the same, one user at a time.
        """
        popular = _signed(self.fallbacks[:, :LIST_LENGTH])
        popular[popular[:, 0] < 0] = popular[0]
        if not len(self.users):
            return popular[np.zeros(len(user_ids), np.int64)]
        rows = np.minimum(np.searchsorted(self.users, user_ids), len(self.users) - 1)
        is_known = self.users[rows] == user_ids
        has_list = is_known & (self.lists[rows, 0] != np.iinfo(self.lists.dtype).max)
        shown: np.ndarray = popular[np.where(is_known, self.segments[rows], 0)]
        shown[has_list] = _signed(self.lists[rows[has_list]])
        return shown

    def changed_in_place(self) -> tuple[str, bool] | None:
        """The name of a file that was changed since it was opened, and whether it was written to; None for none.

        Removed and replaced files do not count: the map still shows the opened file. A file whose links or permissions
        changed, as by a backup with hard links, was changed but not written to.
        """
        names = ["manifest.json", *self.file_names]
        for name, (device, inode, *before) in zip(names, self.state[1:], strict=True):
            try:
                file = (self.folder / name).stat()
            except OSError:
                continue
            now = [file.st_size, file.st_mtime_ns, file.st_ctime_ns]
            if (file.st_dev, file.st_ino) == (device, inode) and now != before:
                return name, now[:2] != before[:2]
        return None

    def free_pages(self) -> None:
        """Free the page table of the rendered answers piece by piece; a later answer maps its page again.

        Unmapping everything at once would block the event loop for 20 ms if it starts a thread: Linux starts no thread
        of the process meanwhile. Python's own `mmap.madvise` holds the GIL for each piece; a foreign function does not.
        """
        texts = self.rendered.texts if self.rendered else b""
        if isinstance(texts, mmap.mmap):
            begin = np.frombuffer(texts, np.uint8).ctypes.data
            for start in range(0, len(texts), _PIECE):
                length = min(_PIECE, len(texts) - start)
                # a failure does not matter: unmapping frees the rest later, all at once
                _MADVISE(ctypes.c_void_p(begin + start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)

    def test_index(self) -> None:
        """Raise `BadRelease` if the index holds other embeddings, or a movie is not its own nearest neighbour."""
        step = max(1, len(self.items) // _SAMPLE)
        item = step * int(np.argmax(np.linalg.norm(self.items[::step], axis=1)))
        if not self.items[item].any() or not np.allclose(self.index.get_item_vector(item), self.items[item]):
            raise BadRelease(f"{self.id}: self-test: items.ann and items.npy do not hold the same of movie {item}")
        distance = self.index.get_nns_by_item(item, 1, include_distances=True)[1]
        if not distance or distance[0] > _NEAR:
            raise BadRelease(f"{self.id}: self-test: movie {item} is not its own nearest neighbour")


def list_source(release: Release, segment: int) -> Literal["personal", "segment", "popular"]:
    """The source of the list in `lists.npy` for a user of a segment whose list was not drawn (`explored`).

    Popular models fill it too, with the popular list less the movies that the user has seen; the model `segment` gives
    users without a segment (0) the list of everyone.
    """
    name = release.manifest.model.lists
    if name == "segment" and segment:
        return "segment"
    return "popular" if name in ("popular", "segment") else "personal"


def _signed(indices: np.ndarray) -> np.ndarray:
    """Item indices as int32, with -1 where the largest value of their dtype stands for none."""
    signed = indices.astype(np.int32)
    signed[indices == np.iinfo(indices.dtype).max] = -1
    return signed


_ID = re.compile(r"[!-~]{1,100}")
"""Allowed ids: the id is sent in a header of each answer."""
_SAMPLE = 1000
_PIECE = 4 << 20
"""Bytes that are freed at a time, which takes some 0.2 ms."""
_MADVISE = ctypes.CDLL(None).madvise
_NEAR = 1e-3
"""Largest angular distance of equal float32 vectors."""


def read_manifest_text(folder: Path) -> bytes:
    """`manifest.json` as it stands, of a release of this layout. Raises `BadRelease`."""
    with ReleaseFiles(folder) as files:
        _manifest(files)
        return files.read("manifest.json")


def _manifest(files: ReleaseFiles) -> Manifest:
    folder = files.folder
    files.open(["manifest.json"])
    try:
        manifest = parse_manifest(files.read("manifest.json"))
    except (OSError, msgspec.DecodeError) as error:
        raise BadRelease(f"{folder}: manifest.json cannot be read: {error}") from error
    if manifest.layout != LAYOUT:
        raise BadRelease(f"{folder}: this version reads layout {LAYOUT}, not what manifest.json says")
    if not _ID.fullmatch(manifest.id) or not manifest.files:
        raise BadRelease(f"{folder}: manifest.json has no files, or no id of visible ASCII")
    return manifest


def _file_names(folder: Path, manifest: Manifest) -> list[str]:
    """The files of a release. Raises `BadRelease` if it has one of two that belong together."""
    names = [*FILES]
    for pair in (RENDERED, EXPLORED):
        given = [name for name in pair if name in manifest.files]
        if given not in ([], [*pair]):
            raise BadRelease(f"{folder}: manifest.json names {given[0]} without the other of {', '.join(pair)}")
        names += given
    return names


def _verify(files: ReleaseFiles, name: str, manifest: Manifest, progress: Progress) -> None:
    folder, promised, size = files.folder, manifest.files.get(name), files.status(name).st_size
    if promised is None:
        raise BadRelease(f"{folder}: manifest.json does not name {name}")
    if size != promised.size:
        raise BadRelease(f"{folder}: {name} has {size} bytes, the manifest says {promised.size}")
    try:
        digest = files.sha256(name, progress)
    except OSError as error:
        raise BadRelease(f"{folder}: {name}: {error.strerror}") from error
    if digest != promised.sha256:
        raise BadRelease(f"{folder}: {name} is not what was published: its sha256 differs")


def forget(folder: Path) -> None:
    """Remove the note that a release was verified. Raises `OSError`."""
    verification_cache.forget(folder)


def _map_files(
    files: ReleaseFiles, manifest: Manifest, state: verification_cache.State, is_verified: bool, progress: Progress
) -> Release:
    """Map the files of a release; check their contents unless they were verified before."""
    text, drawn = (pair[0] in manifest.files for pair in (RENDERED, EXPLORED))
    try:
        names = files.read("movies.txt").splitlines()
        arrays = {name: _array(files, f"{name}.npy") for name in ARRAYS}
        arrays["fallbacks"] = arrays["fallbacks"].copy()  # it answers even if a file is damaged later
        arrays["fallbacks"].flags.writeable = False
        rendered = Rendered(files.map("answers.bin"), _array(files, "answers.npy")) if text else None
        explored = Explored(*(_array(files, name) for name in EXPLORED)) if drawn else None
        published = files.status("manifest.json").st_mtime
    except (OSError, ValueError) as error:
        raise BadRelease(f"{files.folder}: {error!r}") from error
    if not is_verified and (wrong := wrong_files(names, arrays, rendered, explored, progress)):
        raise BadRelease(
            f"{files.folder}: {', '.join(wrong)}: not of the layout, or in contradiction to the other files"
        )
    index = _index(files, manifest, arrays["items"], is_verified, progress)
    return Release(
        id=manifest.id,
        manifest=manifest,
        names=names,
        users=arrays["users"],
        lists=arrays["lists"],
        fallbacks=arrays["fallbacks"],
        segments=arrays["segments"],
        items=arrays["items"],
        index=index,
        rendered=rendered,
        explored=explored,
        published=published,
        folder=files.folder,
        state=state,
    )


def _array(files: ReleaseFiles, name: str) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(files.path(name), mode="r")
    except Exception as error:  # NumPy raises errors of many kinds for a garbled header
        raise BadRelease(f"{files.folder}: {name}: {error!r}") from error


def _index(
    files: ReleaseFiles, manifest: Manifest, items: np.ndarray, is_verified: bool, progress: Progress
) -> annoy.AnnoyIndex:
    folder, model, dimensions = files.folder, manifest.model, items.shape[1]
    if model.metric not in (None, METRIC) or model.dimensions not in (None, dimensions):
        raise BadRelease(
            f"{folder}: items.ann is not of {dimensions} dimensions and metric {METRIC}, says manifest.json"
        )
    index = annoy.AnnoyIndex(dimensions, METRIC)
    try:
        if not is_verified and (fault := structure_fault(files.map("items.ann"), items, progress)):
            raise BadRelease(f"{folder}: items.ann {fault}")
        index.load(str(files.path("items.ann")))
    except (OSError, ValueError) as error:
        raise BadRelease(f"{folder}: items.ann: {error}") from error
    return index
