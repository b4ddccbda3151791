"""The API of the service, against the simulated one and servers that misbehave: asked once, kept, never poisoned."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from batch.collecting import api as api_module
from batch.collecting.api import ServiceApi, fetch_into_catalog, refresh_catalog
from batch.errors import CatalogError
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from loadtest.simulation.record_api import world_records
from loadtest.simulation.world import World
from quality.catalog import Catalog
from stream.settings import Generation
from tests.batch.collecting.new_ids import Reply, Scripted

Simulated = Callable[[WorldSettings], AbstractContextManager[str]]
WORLD = WorldSettings(users=60, movies=50, generation="2026", api_rate_limit_per_s=10_000)


@pytest.fixture(scope="module", params=["2022", "2026"])
def service(request: pytest.FixtureRequest, simulated: Simulated) -> Iterator[tuple[str, World]]:
    settings = msgspec.structs.replace(WORLD, generation=request.param)
    with simulated(settings) as root:
        yield root, World(settings)


def api(root: str, generation: Generation = "2026", **more: Any) -> ServiceApi:
    return ServiceApi(BatchSettings(api=root, **{"api_retries": 2, "api_timeout_s": 60.0, **more}), generation)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path)


def test_the_records_are_those_of_the_service(service: tuple[str, World], catalog: Catalog) -> None:
    root, world = service
    movies, progress = world.catalogue.ids, list[int]()
    asked = api(root, world.settings.generation)
    counts = refresh_catalog(catalog, "movie", [*movies, "no+such+movie+1901"], asked, progress.append)
    assert counts == {"known": 50, "unknown": 1}
    assert sum(progress) == 51
    assert set(catalog.records("movie")) == set(movies)
    assert catalog.records("movie")[movies[3]]["title"] == world.catalogue.record(3)["title"]
    assert catalog.statuses("movie")["no+such+movie+1901"] == "unknown"
    users = [str(user) for user in range(1, 62)]
    assert refresh_catalog(catalog, "user", users, asked) == {"known": 60, "unknown": 1}
    record = world_records(world).user("60")
    assert record is not None
    assert catalog.records("user")["60"] == record
    assert refresh_catalog(catalog, "movie", movies, asked) == refresh_catalog(catalog, "user", users, asked) == {}


def test_a_rate_limit_is_waited_for(simulated: Simulated, catalog: Catalog) -> None:
    with simulated(msgspec.structs.replace(WORLD, api_rate_limit_per_s=3.0, generation="2022")) as root:
        users = [str(user) for user in range(1, 6)]
        assert refresh_catalog(catalog, "user", users, api(root, "2022", api_retries=8)) == {"known": 5}


def user(number: int | str, **changed: object) -> dict[str, object]:
    return {"user_id": int(number), "age": 28, "occupation": "farmer", "gender": "M", **changed}


def good(path: str) -> Reply:
    return 200, orjson.dumps([user(number) for number in path.rpartition("/")[2].split(",")]), {}


def says(value: object, status: int = 200) -> Reply:
    return status, orjson.dumps(value), {}


@pytest.mark.parametrize(
    "bad",
    [
        (500, b"oops", {}),
        (503, b"", {"retry-after": "0"}),
        (429, b"{}", {"retry-after": "0"}),
        (429, b"", {}),
        (200, b"[", {"content-length": "100", "connection": "close"}),
    ],
    ids=["500", "503", "429", "bare 429", "cut off"],
)
def test_a_failed_request_is_retried(scripted: Scripted, catalog: Catalog, bad: Reply) -> None:
    with scripted(lambda path, before: bad if before == 0 else good(path)) as server:
        assert refresh_catalog(catalog, "user", ["1", "2"], api(server.root)) == {"known": 2}
        assert server.asked == ["/user/1,2"] * 2


def test_a_retry_after_is_obeyed(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda path, before: good(path) if before else (429, b"", {"retry-after": "1"})) as server:
        began = time.monotonic()
        assert refresh_catalog(catalog, "user", ["1"], api(server.root)) == {"known": 1}
    assert time.monotonic() - began >= 1


def test_a_failed_request_affects_its_ids_only_and_only_they_are_asked_next_time(
    scripted: Scripted, catalog: Catalog
) -> None:
    users = [str(number) for number in range(1, 601)]
    down = threading.Event()
    down.set()
    with scripted(lambda path, _: says({}, 500) if down.is_set() and ",250," in path else good(path)) as server:
        client = api(server.root, api_connections=1, api_retries=0)
        assert refresh_catalog(catalog, "user", users, client) == {"known": 400, "bad": 200}
        down.clear()
        progress: list[int] = []
        server.asked.clear()
        assert refresh_catalog(catalog, "user", users, client, progress.append) == {"known": 200}
        assert [len(path.split(",")) for path in server.asked] == [200]
        assert progress == [400, 200]


@pytest.mark.parametrize("judging_s", [0, 0.02], ids=["quick", "slow disk"])
def test_an_api_that_always_fails_is_an_error(
    scripted: Scripted, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, judging_s: float
) -> None:
    keep, slowly = catalog.keep, threading.Event()
    monkeypatch.setattr(catalog, "keep", lambda *records: (slowly.wait(judging_s), keep(*records)))
    users = [str(number) for number in range(1, 40_001)]
    with scripted(lambda path, _: says({}, 500)) as server:
        with pytest.raises(CatalogError, match="in a row held no records"):
            refresh_catalog(catalog, "user", users, api(server.root, api_retries=0))
        assert len(server.asked) <= 20 + 2 * 4 + 1  # four threads go on asking while the twenty are judged
    assert "known" not in set(catalog.statuses("user").values())


@pytest.mark.parametrize("root", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_an_unreachable_api_is_an_error(catalog: Catalog, root: str) -> None:
    with pytest.raises(CatalogError):
        refresh_catalog(catalog, "user", ["1"], api(root, api_retries=0))
    assert catalog.statuses("user") == {}


def test_a_hanging_api_is_an_error_after_the_timeout(catalog: Catalog) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = api(f"http://127.0.0.1:{silent.getsockname()[1]}", api_retries=0, api_timeout_s=0.2)
        with pytest.raises(CatalogError):
            refresh_catalog(catalog, "user", ["1"], asked)


BAD = {
    "no JSON": (200, b"<html>", {}),
    "cut off": (200, b'{"user_id": 1, "age"', {}),
    "empty": (200, b"", {}),
    "a number": says(5),
    "null": says(None),
    "an empty list": says([]),
    "an empty object": says({}),
    "a wrong type": says(user(1, age="old")),
    "another gender": says(user(1, gender="X")),
    "nothing but its id": says({"user_id": 1}),
    "another user": says(user(2)),
    "a list of lists": says([[user(1)]]),
    "an id that is a list": says({**user(1), "user_id": [1]}),
    "400": says({"message": "at most 200 ids"}, 400),
    "403": says({"message": "forbidden"}, 403),
    "404 that is no message": says({"error": "nothing here"}, 404),
    "not UTF-8": (200, b'{"user_id": "\xff"}', {}),
    "nested deeply": (200, b"[" * 5000 + b"]" * 5000, {}),
}


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD.keys())
def test_a_malformed_answer_is_bad_and_asked_again(scripted: Scripted, catalog: Catalog, reply: Reply) -> None:
    with scripted(lambda path, before: good(path) if before else reply) as server:
        asked = api(server.root)
        assert refresh_catalog(catalog, "user", ["1"], asked) == {"bad": 1}
        assert catalog.statuses("user") == {"1": "bad"}
        assert catalog.records("user") == {}
        assert refresh_catalog(catalog, "user", ["1"], asked) == {"known": 1}
        assert catalog.statuses("user") == {"1": "known"}


@pytest.mark.parametrize(("generation", "status"), [("2022", 200), ("2022", 404), ("2026", 404), ("2026", 200)])
def test_an_unknown_user_is_asked_once_in_either_dialect(
    scripted: Scripted, catalog: Catalog, generation: Generation, status: int
) -> None:
    with scripted(lambda *_: says({"message": "user not found"}, status)) as server:
        asked = api(server.root, generation)
        assert refresh_catalog(catalog, "user", ["7"], asked) == {"unknown": 1}
        assert refresh_catalog(catalog, "user", ["7"], asked) == {}
        assert server.asked == ["/user/7"]


def test_one_answer_can_hold_known_unknown_and_bad_ids(scripted: Scripted, catalog: Catalog) -> None:
    answer = [user(1), {"message": "user not found"}, user(3, age=200), user(4)]
    with scripted(lambda *_: says(answer)) as server:
        assert refresh_catalog(catalog, "user", ["1", "2", "3", "4"], api(server.root)) == {
            "known": 2,
            "unknown": 1,
            "bad": 1,
        }
    assert catalog.statuses("user") == {"1": "known", "2": "unknown", "3": "bad", "4": "known"}


def test_an_id_that_is_written_as_a_float_is_found_at_any_position(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda *_: says([{**user(3), "user_id": 3.0}, {**user(1), "age": 28.0}])) as server:
        assert refresh_catalog(catalog, "user", ["1", "2", "3"], api(server.root)) == {"known": 2, "bad": 1}
    assert catalog.records("user") == {"1": user(1), "3": user(3)}


def test_two_records_of_one_id_that_contradict_each_other_are_bad(scripted: Scripted, catalog: Catalog) -> None:
    records = [user(1), user(2), user(2, age=29)]
    with scripted(lambda *_: says(records)) as server:
        assert refresh_catalog(catalog, "user", ["1", "2", "3"], api(server.root)) == {"known": 1, "bad": 2}
    assert catalog.statuses("user") == {"1": "known", "2": "bad", "3": "bad"}
    assert list(catalog.records("user")) == ["1"]


@pytest.mark.parametrize("order", [[28, 29, 28], [28, 28, 29], [29, 28, 28]])
def test_three_records_contradict_even_if_two_of_them_agree(
    scripted: Scripted, catalog: Catalog, order: list[int]
) -> None:
    with scripted(lambda *_: says([user(1, age=age) for age in order])) as server:
        assert refresh_catalog(catalog, "user", ["1"], api(server.root)) == {"bad": 1}


def test_two_equal_records_of_one_id_are_one(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda *_: says([user(1), user(1), user(2)])) as server:
        assert refresh_catalog(catalog, "user", ["1", "2"], api(server.root)) == {"known": 2}
    assert catalog.records("user")["1"] == user(1)


def test_a_contradiction_is_asked_again(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda path, before: good(path) if before else says([user(1), user(1, age=29)])) as server:
        asked = api(server.root)
        assert refresh_catalog(catalog, "user", ["1"], asked) == {"bad": 1}
        assert refresh_catalog(catalog, "user", ["1"], asked) == {"known": 1}


def test_bad_ids_are_asked_last(scripted: Scripted, catalog: Catalog) -> None:
    catalog.keep("user", [("1", "bad", None, "HTTP 500"), ("2", "bad", None, "HTTP 500")])
    with scripted(lambda path, _: (200, orjson.dumps(user(path.rpartition("/")[2])), {})) as server:
        client = api(server.root, "2022", api_connections=1)
        assert refresh_catalog(catalog, "user", ["1", "3", "2", "4"], client) == {"known": 4}
        assert server.asked == ["/user/3", "/user/4", "/user/1", "/user/2"]


def test_a_record_that_was_not_requested_is_not_kept(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda *_: says([user(1), user(2), user(99)])) as server:
        assert refresh_catalog(catalog, "user", ["1", "2"], api(server.root)) == {"known": 2}
    assert set(catalog.statuses("user")) == {"1", "2"}


def test_ids_asked_at_once_are_asked_even_if_their_status_is_settled(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda path, _: good(path)) as server:
        asked = api(server.root)
        for _ in range(2):
            assert fetch_into_catalog(catalog, "user", ["1", "2"], asked) == {"known": 2}
        assert server.asked == ["/user/1,2"] * 2


@pytest.mark.parametrize("message", ["internal error", "too many requests", "Requested URL /api/user/1 not found"])
def test_only_the_not_found_message_makes_an_id_unknown(scripted: Scripted, catalog: Catalog, message: str) -> None:
    with scripted(lambda *_: says({"message": message})) as server:
        assert refresh_catalog(catalog, "user", ["1"], api(server.root)) == {"bad": 1}


def test_an_id_that_the_answer_left_out_is_not_unknown(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda *_: says([user(1), {"message": "user not found"}])) as server:
        refresh_catalog(catalog, "user", ["1", "2", "3"], api(server.root))
    assert list(catalog.statuses("user").values()).count("unknown") <= 1


def test_a_number_that_cannot_be_kept_is_unknown_and_counted_and_harms_no_other(
    scripted: Scripted, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    records = [{"id": f"{name}+1984", "budget": "9" * 30, "runtime": 95.0} for name in "ac"]
    records.append({"id": "b+1984", "budget": "5", "vote_count": "null"})
    with scripted(lambda *_: says(records)) as server:
        assert refresh_catalog(catalog, "movie", ["a+1984", "c+1984", "b+1984"], api(server.root)) == {"known": 3}
    assert catalog.records("movie") == {
        "a+1984": {"id": "a+1984", "budget": None, "runtime": 95, "genres": []},
        "b+1984": {"id": "b+1984", "budget": 5, "vote_count": None, "genres": []},
        "c+1984": {"id": "c+1984", "budget": None, "runtime": 95, "genres": []},
    }
    assert catalog.known(1).runtimes == {"a+1984": 95, "b+1984": None, "c+1984": 95}
    [warning] = caplog.messages
    assert warning.startswith("2 partly unknown movie records: budget: ")
    assert warning.endswith("(a+1984, …)")


def test_partly_unknown_records_are_asked_again_a_few_a_night_until_they_are_whole(
    scripted: Scripted, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "_MOST_PARTLY_KNOWN", 2)
    movies, corrected, progress = ["a+1984", "b+1984", "c+1984"], threading.Event(), list[int]()

    def reply(path: str, _: int) -> Reply:
        ids = path.removeprefix("/movie/").split(",")
        return says([{"id": movie, "runtime": 95 if corrected.is_set() else "long"} for movie in ids])

    with scripted(reply) as server:
        asked = api(server.root)
        assert refresh_catalog(catalog, "movie", movies, asked) == {"known": 3}
        movies.append("d+1984")
        assert refresh_catalog(catalog, "movie", movies, asked, progress.append) == {"known": 3}
        corrected.set()
        for expected in ({"known": 2}, {"known": 2}, {}):
            assert refresh_catalog(catalog, "movie", movies, asked) == expected
        assert [len(path.split(",")) for path in server.asked] == [3, 3, 2, 2]
    assert progress == [1, 3]
    assert catalog.known(1).runtimes == dict.fromkeys(movies, 95)


def test_records_that_stay_partly_unknown_do_not_keep_others_from_being_asked_again(
    scripted: Scripted, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "_MOST_PARTLY_KNOWN", 10)
    movies = [f"{number:02}+1984" for number in range(40)]

    def reply(path: str, _: int) -> Reply:
        return says([{"id": movie, "runtime": "long"} for movie in path.removeprefix("/movie/").split(",")])

    with scripted(reply) as server:
        for night in range(40):
            refresh_catalog(catalog, "movie", movies, api(server.root), seed=night)
        again = [path.removeprefix("/movie/").split(",") for path in server.asked[1:]]
    assert [len(ids) for ids in again] == [10] * 39
    assert {movie for ids in again for movie in ids} == set(movies)


@pytest.mark.parametrize("reply", [says({}, 500), says({"message": "movie not found"}), says([])])
def test_a_known_record_stays_if_the_api_has_no_better_one(scripted: Scripted, catalog: Catalog, reply: Reply) -> None:
    partly = says({"id": "a+1984", "runtime": 95, "budget": "much"})
    with scripted(lambda _, before: reply if before else partly) as server:
        for _ in range(2):
            refresh_catalog(catalog, "movie", ["a+1984"], api(server.root, api_retries=0))
        assert server.asked == ["/movie/a+1984"] * 2
    assert catalog.known(1).runtimes == {"a+1984": 95}


def test_long_ids_are_split_into_requests_of_accepted_length(scripted: Scripted, catalog: Catalog) -> None:
    movies = [f"{'x' * 290}{number:03}+1999" for number in range(60)] + ["y+1999"] * 1
    with scripted(lambda path, _: says([{"id": movie} for movie in path.rpartition("/")[2].split(",")])) as server:
        assert refresh_catalog(catalog, "movie", movies, api(server.root)) == {"known": 61}
        assert max(map(len, server.asked)) < 8_000
        assert 3 <= len(server.asked) <= 5


def test_one_id_longer_than_any_request_is_still_asked(scripted: Scripted, catalog: Catalog) -> None:
    with scripted(lambda path, _: says([{"id": movie} for movie in path.rpartition("/")[2].split(",")])) as server:
        assert refresh_catalog(catalog, "movie", ["a+1999", "x" * 7_000, "b+1999"], api(server.root)) == {
            "known": 2,
            "bad": 1,
        }


def test_every_character_of_a_movie_id_reaches_the_api(scripted: Scripted, catalog: Catalog) -> None:
    movies = ["m*a*s*h+1970", "you_+the+living+2007", "+nos+amours+1983", "++++++1959", "..+2001", "a.b-c+"]
    with scripted(lambda path, _: says([{"id": movie} for movie in path.rpartition("/")[2].split(",")])) as server:
        assert refresh_catalog(catalog, "movie", movies, api(server.root)) == {"known": 6}


def test_no_ids_make_no_requests(catalog: Catalog) -> None:
    assert refresh_catalog(catalog, "user", [], api("http://127.0.0.1:1")) == {}
    assert (catalog.statuses("user"), catalog.records("movie")) == ({}, {})
    assert not catalog.path.exists()
