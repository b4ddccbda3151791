"""What the manifest of a candidate says of the night that made it."""

from collections.abc import Sequence

from batch import models
from batch.evaluation_file import Evaluation
from batch.history.segments import NAMES
from batch.nights.night_inputs import MovieAnswers
from batch.settings import BatchSettings
from server.manifest import Exploring, InputFacts, Manifest, ReleaseModel
from server.release import METRIC
from stream.redaction import public_settings


def made_of(
    facts: InputFacts,
    evaluation: Evaluation,
    answers: MovieAnswers,
    settings: BatchSettings,
    dimensions: int,
    restricted: Sequence[str],
    exploring: Exploring | None,
) -> Manifest:
    """The manifest, without what `publish` fills in.

    `dimensions` are those of the embeddings, `restricted` the movies that no list for everyone may hold, `exploring`
    says who explores.
    """
    return Manifest(
        stream_time=facts.stream_time,
        input=facts,
        proven_movies=len(answers.proven),
        api_answered=answers.api_answered,
        exploring=exploring,
        settings=public_settings(settings),
        model=ReleaseModel(
            lists=evaluation.chosen,
            parameters=evaluation.parameters.get(evaluation.chosen, {}),
            chosen_by=evaluation.chosen_by,
            index="als",
            metric=METRIC,
            dimensions=dimensions,
            trees=settings.trees,
        ),
        model_source=models.source_version(evaluation.chosen),
        segments=list(NAMES),
        restricted=list(restricted),
    )
