"""Models behind one small interface (`model.Model`): fit to what users watched, score every movie for some users.

Each class says in its docstring what it is and where it comes from; `candidates` makes all that compete, `make` one
with the parameters that a night chose.
"""

from batch.models.als import ALS
from batch.models.blend import Blend
from batch.models.linear import EASE, Order
from batch.models.model import Model
from batch.models.popular import Popular, SegmentPopular
from batch.settings import BatchSettings

__all__ = ["ALS", "EASE", "Blend", "Model", "Order", "Popular", "SegmentPopular", "candidates", "make"]


def candidates(settings: BatchSettings) -> list[Model]:
    """All that compete, the popular list first; where the settings pin a model: the popular list and that one."""
    if settings.model == "popular":
        return [Popular()]
    if settings.model != "best":
        return [Popular(), make(settings.model, settings, {})]
    als, ease, order = ALS(settings, {}), EASE(settings, {}), Order(settings, {})
    return [Popular(), SegmentPopular(settings, {}), als, ease, order, Blend(als, ease, order, {})]


def make(name: str, settings: BatchSettings, parameters: dict[str, float]) -> Model:
    """The model of a name, with parameters as `Model.parameters` gave them; what is missing is as before any tuning."""
    if name == Popular.name:
        return Popular()
    if name == Blend.name:
        own: dict[str, dict[str, float]] = {part: {} for part in (ALS.name, EASE.name, Order.name)}
        for key, value in parameters.items():
            part, _, word = key.partition(".")
            if word:
                own[part][word] = value
        als, ease, order = ALS(settings, own["als"]), EASE(settings, own["ease"]), Order(settings, own["order"])
        return Blend(als, ease, order, {key: value for key, value in parameters.items() if "." not in key})
    classes = {cls.name: cls for cls in (SegmentPopular, ALS, EASE, Order)}
    return classes[name](settings, parameters)
