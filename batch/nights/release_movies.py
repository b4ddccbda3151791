"""The movies of a release, which the step `history` writes down: those of the history, then those that nobody watched.

`night/content.json` has what is known of each of them, and the files of `LIST_FACTS` what lists are capped by.
"""

from collections.abc import Mapping
from pathlib import Path

from batch.history.interactions import TrainingHistory
from batch.history.list_facts import ListFacts, load_list_facts, save_list_facts
from batch.history.movie_content import MovieContent, contents_of
from batch.models.list_caps import ListCaps
from batch.nights import night_inputs
from batch.settings import BatchSettings
from quality.catalog import Catalog


def write_movies(
    folder: Path, history: TrainingHistory, catalog: Catalog, announced: Mapping[str, int], shown: Mapping[str, int]
) -> int:
    """Write the files; returns how many movies nobody has watched. `announced` and `shown` are as in `MovieContent`."""
    contents = contents_of(history.movies, catalog.records("movie"), announced, shown)
    names = [content.id for content in contents]
    night_inputs.write_contents(folder, contents)
    save_list_facts(folder, ListFacts.of(history.users, catalog.people(), names, catalog.movies()))
    return len(contents) - len(history.movies)


def read_movies(folder: Path) -> list[MovieContent]:
    """Read `content.json`. Raises `OSError`, `msgspec.DecodeError`, or `ValueError` if it is of another history."""
    contents = night_inputs.read_contents(folder)
    watched = (folder / "watched.txt").read_text("utf-8").splitlines()
    if [content.id for content in contents[: len(watched)]] != watched:
        raise ValueError(f"{night_inputs.CONTENT} does not belong to the history")
    return contents


def read_caps(folder: Path, settings: BatchSettings) -> ListCaps:
    """What lists may hold, of all movies of the release. Raises as `read_movies`."""
    facts = load_list_facts(folder)
    if len(facts.adult) != len(night_inputs.read_contents(folder)):
        raise ValueError(f"{night_inputs.CONTENT} has other movies than adult.npy and costs.npy")
    return ListCaps.of(facts, settings)
