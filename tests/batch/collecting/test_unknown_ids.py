"""Unknown ids: each new one is requested from the API once, and the answer is kept, also a negative one."""

from pathlib import Path

import pytest

from loadtest.settings import WorldSettings
from loadtest.simulation.world import World
from quality.catalog import Catalog, KnownIds
from stream.settings import Generation
from tests.batch.collecting.new_ids import (
    GENERATIONS,
    Scripted,
    Simulated,
    by,
    judged,
    lines,
    lookup_of,
    service,
    watched,
)


@pytest.mark.usefixtures("patient")
def test_a_new_movie_is_asked_once_and_then_known(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    with scripted(service) as server:
        lookup = lookup_of(tmp_path, server.root)
        for _ in range(3):
            known = lookup.known_for(watched("new+2022", "old+1999", "new+2022"))
            assert known.runtimes == {"old+1999": 90, "new+2022": 100}
        assert lookup_of(tmp_path, server.root).known_for(watched("new+2022")).runtimes == known.runtimes
        assert server.asked == ["/movie/new+2022"]
    assert catalog.statuses("movie") == {"old+1999": "known", "new+2022": "known"}


@pytest.mark.usefixtures("patient")
def test_movies_that_do_not_exist_are_remembered_as_well(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    with scripted(service) as server:
        lookup = lookup_of(tmp_path, server.root)
        for _ in range(3):
            assert lookup.known_for(watched("none+1901")).missing == {"none+1901"}
        assert lookup_of(tmp_path, server.root).known_for(watched("none+1901")).missing == {"none+1901"}
        assert server.asked == ["/movie/none+1901"]
    assert catalog.statuses("movie")["none+1901"] == "unknown"


@pytest.mark.usefixtures("patient")
def test_lines_of_a_movie_that_does_not_exist_are_quarantined_or_restored(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(service) as server:
        some = watched("old+1999", "new+2022", "none+1901", "oldd+1999", "nnew+2022")
        fates = judged(tmp_path, some, lookup_of(tmp_path, server.root).known_for(some))
        assert server.asked == ["/movie/new+2022,nnew+2022,none+1901,oldd+1999"]
    assert (fates.quarantined.tolist(), fates.reasons) == ([2], ["movie_unknown"])
    assert fates.kept["watch"].rules == {2: "one_character", 3: "one_character"}
    movies = fates.kept["watch"].table.column("movie").to_pylist()
    assert movies == ["old+1999", "new+2022", "old+1999", "new+2022"]


@pytest.mark.usefixtures("patient")
def test_movies_of_ratings_and_lists_are_asked_as_well(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    listed = "5,recommendation request a:1, status 200, result: old+1999, other+2022, 5 ms"
    with scripted(service) as server:
        known = lookup_of(tmp_path, server.root).known_for(lines("5,GET /rate/new+2022=3", listed))
        assert server.asked == ["/movie/new+2022,other+2022"]
    assert known.runtimes == {"old+1999": 90, "new+2022": 100, "other+2022": None}


@pytest.mark.usefixtures("patient")
def test_ids_in_malformed_lines_are_not_asked(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    with scripted(service) as server:
        some = lines("5,GET /data/m/t1983/3.mpg", "x,GET /rate/new+2022=3", "5,GET /rate/other+2022=333")
        lookup_of(tmp_path, server.root).known_for(some)
        assert server.asked == []


@pytest.mark.usefixtures("patient")
def test_only_users_above_the_largest_are_asked_and_only_once(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    some = by(7, 1_000, 5_000, 6_789)
    with scripted(service) as server:
        lookup = lookup_of(tmp_path, server.root)
        for _ in range(3):
            known = lookup.known_for(some)
            assert known.users == {5_000}
            assert known.no_users == {6_789}
        again = lookup_of(tmp_path, server.root).known_for(some)
        assert (again.users, again.no_users) == (known.users, known.no_users)
        assert server.asked == ["/user/5000,6789"]
    fates = judged(tmp_path, some, known)
    assert fates.kept["account"].table.column("user").to_pylist() == [7, 1_000, 5_000]
    assert fates.reasons == ["user_unknown"]


@pytest.mark.usefixtures("patient")
def test_with_an_empty_catalogue_no_ids_are_asked(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(service) as server:
        lookup = lookup_of(tmp_path, server.root)
        assert lookup.known_for(watched("new+2022")) == KnownIds()
        assert server.asked == []
        Catalog(tmp_path).keep("movie", [("old+1999", "known", {"id": "old+1999", "runtime": 90}, "")])
        assert lookup.known_for(watched("old+1999")).runtimes == {"old+1999": 90}
        assert server.asked == []


@pytest.mark.usefixtures("patient")
def test_records_that_other_processes_write_are_known_at_once(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(service) as server:
        lookup = lookup_of(tmp_path, server.root)
        for number in range(20):
            name = f"night+{number}+1999"
            catalog.keep("movie", [(name, "known", {"id": name, "runtime": number + 1}, "")])
            assert lookup.known_for(watched(name)).runtimes[name] == number + 1
        assert server.asked == []


@pytest.mark.usefixtures("patient")
def test_a_batch_asks_a_limited_number_of_ids_and_the_next_asks_the_rest(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    movies = [f"never+{number:03}+1999" for number in range(250)]
    with scripted(service) as server:
        lookup = lookup_of(tmp_path, server.root)
        first = lookup.known_for(watched(*movies))
        assert len(first.missing) == 200
        assert lookup.known_for(watched(*movies)).missing == set(movies)
        asked = [name for path in server.asked for name in path.removeprefix("/movie/").split(",")]
        assert sorted(asked) == movies
    assert judged(tmp_path, watched(*movies), first).reasons == ["movie_unknown"] * 200


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_simulated_service_answers_for_its_ids(
    simulated: Simulated, catalog: Catalog, tmp_path: Path, generation: Generation
) -> None:
    settings = WorldSettings(users=1_200, movies=50, generation=generation, api_rate_limit_per_s=10_000)
    movies = World(settings).catalogue.ids[:10]
    with simulated(settings) as root:
        lookup = lookup_of(tmp_path, root, generation)
        known = lookup.known_for(watched(*movies, "never+1999"))
        assert set(known.runtimes) == {"old+1999", *movies}
        assert known.missing == {"never+1999"}
        known = lookup.known_for(by(1_100, 1_201, 3))
        assert known.users == {1_100}
        assert known.no_users == {1_201}
    runtimes = {name: record["runtime"] for name, record in catalog.records("movie").items()}
    assert known.runtimes == runtimes
