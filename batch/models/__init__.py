"""Models behind one small interface (`model.Model`): fitted to what users watched, they score every movie for a user.

`MODELS` is the table of all models: a new model is one entry. Each class says in its docstring what it is and where it
comes from.
"""

from collections.abc import Callable, Mapping

from batch.models import plugged_in
from batch.models.als import ALS
from batch.models.blend import Blend, BlendParts
from batch.models.linear import EASE, Order
from batch.models.model import Model
from batch.models.plugged_in import PluggedIn
from batch.models.popular import Popular, SegmentPopular
from batch.models.reranker import Reranker
from batch.settings import BatchSettings

__all__ = ["ALS", "EASE", "MODELS", "Blend", "Model", "Order", "PluggedIn", "Popular", "Reranker", "SegmentPopular",
           "candidates", "is_personal", "make", "require_model", "source_version"]  # fmt: skip

MODELS: Mapping[str, Callable[[BatchSettings, dict[str, float]], Model]] = {
    "popular": Popular,
    "segment": SegmentPopular,
    "als": ALS,
    "ease": EASE,
    "order": Order,
    "blend": Blend,
    "reranker": Reranker,
}
"""By name: the class of a model, called with settings and parameters. Simple models come first: of models that rank
equally well the first is chosen."""


def candidates(settings: BatchSettings) -> list[Model]:
    """All models that compete, the popular list first; if the settings pin a model: the popular list and that one."""
    if settings.model != "best":
        return [make(name, settings, {}) for name in dict.fromkeys((Popular.name, settings.model))]
    parts = BlendParts.make(settings, {})  # they also compete, and are fitted and tuned once
    blend = Blend(settings, {}, parts)
    shared: dict[str, Model] = {
        **parts.by_name,
        Blend.name: blend,
        Reranker.name: Reranker(settings, {}, blend),
    }
    return [shared.get(name) or make(name, settings, {}) for name in MODELS]


def make(name: str, settings: BatchSettings, parameters: dict[str, float], learned: bytes = b"") -> Model:
    """The model of a name, with what tuning found: `Model.parameters` and `Model.learned`.

    Missing parameters have their untuned values.
    """
    model = MODELS[name](settings, parameters) if name in MODELS else PluggedIn(name, settings, parameters)
    model.learned = learned
    return model


def require_model(name: str) -> None:
    """Raise `ModelError` if a setting names no model: a night would find out after an hour."""
    if name != "best" and name not in MODELS:
        plugged_in.load_class(name)


def source_version(name: str) -> str | None:
    """The version of the package and source of a model; None for Marquee's own, which are of its commit."""
    return None if name == "best" or name in MODELS else plugged_in.source_version(name)


def is_personal(name: str) -> bool:
    """`Model.personal` of the model of a name. An unknown model counts as personal: the gate then asks more of it."""
    return name not in MODELS or make(name, BatchSettings(), {}).personal
