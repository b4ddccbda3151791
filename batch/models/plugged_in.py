"""Models of other packages: `[batch] model = "package.module:Class"`, or the name of an entry point of `GROUP`.

`docs/models.md` says what such a class gets and must give. What it gives is checked here, so that a mistake in it is
one line that names the class and the method, and no release.
"""

import hashlib
import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from batch.errors import ModelError
from batch.history.interactions import Interactions
from batch.settings import BatchSettings

GROUP = "marquee.models"
"""The group of entry points."""
_NEEDED = ("fit", "tune", "score")


def load_class(name: str) -> type[Any]:
    """The class that a setting names. Raises `ModelError` if there is none, or it lacks what a model has."""
    module, _, attribute = _target(name).partition(":")
    with _named(name, f"importing {module}"):
        loaded = import_module(module)
    model_class = getattr(loaded, attribute, None)
    if not isinstance(model_class, type):
        raise ModelError(f"models: {name}: {module} has no class {attribute}")
    if missing := [method for method in _NEEDED if not callable(getattr(model_class, method, None))]:
        raise ModelError(f"models: {name}: the class lacks {', '.join(missing)}")
    if getattr(model_class, "personal", None) is not True:
        raise ModelError(f"models: {name}: `personal` is not True; for one ranking there are `popular` and `segment`")
    return model_class


def source_version(name: str) -> str:
    """The version of a model's package, if it is installed, and a digest of the file of its class.

    Raises `ModelError` as `load_class`.
    """
    module = load_class(name).__module__
    file = inspect.getsourcefile(import_module(module))
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else "unknown"
    packages = metadata.packages_distributions().get(module.partition(".")[0], [])
    return " ".join([*(f"{package} {metadata.version(package)}" for package in packages), f"source {digest}"])


def _target(name: str) -> str:
    if ":" in name:
        return name
    points = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    if name not in points:
        named = f"; entry points of {GROUP}: {', '.join(sorted(points)) or 'none'}"
        raise ModelError(f"models: there is no model {name!r}{named}; or give package.module:Class")
    return points[name]


class PluggedIn:
    """A model of another package, whose results are checked. Raises `ModelError` for wrong ones."""

    personal = True

    def __init__(self, name: str, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self.name = name
        made = load_class(name)
        with _named(name, "making it"):
            self._model = made(settings, parameters)
        self.learned = b""
        self._movies: int | None = None

    @property
    def learned(self) -> bytes:
        learned: bytes = self._checked("learned", getattr(self._model, "learned", b""), bytes)
        return learned

    @learned.setter
    def learned(self, learned: bytes) -> None:
        with _named(self.name, "learned"):
            self._model.learned = learned

    @property
    def parameters(self) -> dict[str, float]:
        parameters = self._checked("parameters", getattr(self._model, "parameters", {}), dict)
        if not all(isinstance(key, str) and _is_number(value) for key, value in parameters.items()):
            raise ModelError(f"models: {self.name}: parameters are not finite numbers by name")
        return {key: float(value) for key, value in parameters.items()}

    def fit(self, data: Interactions) -> None:
        with _named(self.name, "fit"):
            self._model.fit(data)
        self._movies = data.shape[1]

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        with _named(self.name, "tune"):
            self._model.tune(data, relevant, users)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        with _named(self.name, "score"):
            scores = self._model.score(data, users)
        scores = self._array("score", scores, len(users), data.shape[1])
        if not scores.flags.writeable:
            raise ModelError(f"models: {self.name}: score gave an array that cannot be written to")
        return scores

    @property
    def has_embeddings(self) -> bool:
        """Whether the model has embeddings of its own; without them, neighbours of movies are those of `als`."""
        return "item_embeddings" in dir(self._model)  # set by its class, or by `fit`; not computed here

    @property
    def item_embeddings(self) -> np.ndarray:
        with _named(self.name, "item_embeddings"):
            items = self._model.item_embeddings
        items = self._array("item_embeddings", items, self._movies, None)
        if not np.isfinite(items).all():
            raise ModelError(f"models: {self.name}: item_embeddings are not finite")
        return items

    def _array(self, method: str, given: object, rows: int | None, columns: int | None) -> np.ndarray:
        """The float32 array that a method gave, of a shape; None for any."""
        array: np.ndarray = self._checked(method, given, np.ndarray)
        if array.dtype != np.float32:
            raise ModelError(f"models: {self.name}: {method} gave {array.dtype}, not float32")
        fits = array.ndim == 2 and all(
            expected in (None, length) for expected, length in zip((rows, columns), array.shape, strict=True)
        )
        if not fits:
            raise ModelError(f"models: {self.name}: {method} gave the shape {array.shape}, not {(rows, columns)}")
        if np.isnan(array).any():
            raise ModelError(f"models: {self.name}: {method} gave values that are not a number")
        return array

    def _checked(self, what: str, value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            raise ModelError(f"models: {self.name}: {what} is {type(value).__name__}, not {kind.__name__}")
        return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@contextmanager
def _named(name: str, doing: str) -> Iterator[None]:
    """Map whatever the other package's code raises to one line that names it."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())
        raise ModelError(f"models: {name}: {doing} raised {type(error).__name__}: {text}") from error
