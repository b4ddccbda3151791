"""The record API over HTTP, in a process of its own for each way to run it."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import pytest

from loadtest.demo.processes import answers, free_port
from loadtest.errors import LoadtestError
from loadtest.settings import WorldSettings
from loadtest.simulation.record_api import TokenBucket, movie_lookup, records_of, serve, user_lookup, world_records
from loadtest.simulation.world import World
from tests.polling import until

REAL = Path(__file__).parents[4] / "shared/real"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"NO REAL RECORDS: {REAL} is missing")

PROGRAM = (
    "import sys, msgspec; from loadtest.settings import WorldSettings;"
    "from loadtest.simulation.record_api import serve;"
    "serve(msgspec.json.decode(sys.argv[1], type=WorldSettings))"
)
MOVIE_HEADER = (
    "id,title,year,genres,original_language,vote_average,vote_count,popularity,runtime,release_date,"
    "tmdb_id,imdb_id,length_binned\n"
)
USER_HEADER = "user_id,age,occupation,gender,source\n"


@contextmanager
def api(settings: WorldSettings) -> Iterator[httpx.Client]:
    """A server process and a client to it; on leaving, SIGTERM must end it with status 0."""
    settings = msgspec.structs.replace(settings, api_port=free_port())
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, msgspec.json.encode(settings).decode()])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{settings.api_port}") as client:
            until(lambda: answers(f"http://127.0.0.1:{settings.api_port}/healthz") or process.poll() is not None)
            assert process.poll() is None, "the API did not come up"
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldSettings(users=500, movies=400, generation="2026", api_rate_limit_per_s=10_000))


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    with api(world.settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def client_2022(world: World) -> Iterator[httpx.Client]:
    with api(msgspec.structs.replace(world.settings, generation="2022")) as opened:
        yield opened


def test_records_are_those_of_the_world(client: httpx.Client, world: World) -> None:
    assert client.get("/user/1").json() == world.people.record(0)
    assert client.get("/user/500").json() == world.people.record(499)
    response = client.get(f"/movie/{world.catalogue.ids[3]}")
    assert response.json() == world.catalogue.record(3)
    assert response.headers["content-type"] == "application/json"


def test_every_movie_is_found_by_its_id_plain_and_percent_encoded(client: httpx.Client, world: World) -> None:
    for first in range(0, 400, 100):
        ids = world.catalogue.ids[first : first + 100]
        for asked in (",".join(ids), quote(",".join(ids), safe="")):
            assert [record["id"] for record in client.get(f"/movie/{asked}").json()] == ids


@pytest.mark.parametrize("unknown", ["0", "501", "-1", "+1", "01", "1.0", "abc", "१", "99999999999999999999"])
def test_unknown_users_in_both_generations(client: httpx.Client, client_2022: httpx.Client, unknown: str) -> None:
    for either, status in ((client, 404), (client_2022, 200)):
        response = either.get(f"/user/{quote(unknown)}")
        assert (response.status_code, response.json()) == (status, {"message": "user not found"})


def test_unknown_movies_in_both_generations(client: httpx.Client, client_2022: httpx.Client) -> None:
    for either, status in ((client, 404), (client_2022, 200)):
        response = either.get("/movie/no+such+movie+1901")
        assert (response.status_code, response.json()) == (status, {"message": "movie not found"})


def test_a_bulk_answer_is_in_the_order_of_the_request_and_names_unknown_ids(client: httpx.Client, world: World) -> None:
    response = client.get("/user/3,nobody,1,3")
    assert response.status_code == 200
    records = [world.people.record(i) for i in (2, 0)]
    assert response.json() == [records[0], {"message": "user not found"}, records[1], records[0]]
    assert client.get("/movie/nothing+1900,neither+1900").json() == [{"message": "movie not found"}] * 2


def test_a_bulk_request_may_hold_200_ids(client: httpx.Client) -> None:
    two_hundred = ",".join(str(user) for user in range(1, 201))
    assert [user["user_id"] for user in client.get(f"/user/{two_hundred}").json()] == list(range(1, 201))
    refused = client.get(f"/user/{two_hundred},201")
    assert refused.status_code == 400
    assert "200" in refused.json()["message"]


def test_200_long_ids_fit_into_a_request_but_not_any_number_of_letters(client: httpx.Client) -> None:
    asked = [quote("ten+letter" * 6, safe="")] * 200
    assert client.get(f"/movie/{','.join(asked)}").json() == [{"message": "movie not found"}] * 200
    refused = client.get(f"/movie/{','.join(asked * 2)}")
    assert refused.status_code == 413
    assert "message" in refused.json()


def test_2022_has_no_bulk_requests_and_no_later_fields(client_2022: httpx.Client, world: World) -> None:
    assert client_2022.get("/user/1,2").json() == {"message": "user not found"}
    assert set(client_2022.get("/user/1").json()) == {"user_id", "age", "occupation", "gender"}
    assert "cost" not in client_2022.get(f"/movie/{world.catalogue.ids[0]}").json()


def test_other_addresses_and_methods_are_refused_in_json(client: httpx.Client) -> None:
    assert client.get("/nothing").status_code == 404
    assert client.post("/user/1").status_code == 405
    assert "message" in client.get("/nothing").json()


def test_requests_beyond_the_rate_limit_get_retry_after() -> None:
    # so low a rate that a busy machine asks more often as well
    with api(WorldSettings(users=5, movies=5, api_rate_limit_per_s=1)) as client:
        began, responses, refused = time.monotonic(), list[httpx.Response](), list[httpx.Response]()
        while len(refused) < 6:
            responses.append(client.get("/user/1"))
            refused += [response for response in responses[-1:] if response.status_code == 429]
        assert responses[0].status_code == 200
        assert len(responses) - len(refused) <= 2 + (time.monotonic() - began)
        assert all(int(response.headers["retry-after"]) == 1 for response in refused)
        assert client.get("/healthz").status_code == 200
        time.sleep(int(refused[-1].headers["retry-after"]))
        assert client.get("/user/1").status_code == 200


def test_a_token_bucket_passes_its_rate_and_a_burst_of_one_second() -> None:
    bucket = TokenBucket(10.0)
    assert sum(bucket.take(100.0) == 0.0 for _ in range(30)) == 10
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.11) == 0.0
    passed = sum(bucket.take(200.0 + tick / 1000) == 0.0 for tick in range(10_000))
    assert passed == pytest.approx(10 + 100, abs=1)


def test_a_slow_token_bucket_says_how_long_to_wait() -> None:
    bucket = TokenBucket(0.25)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(0.0) == pytest.approx(4.0)


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LoadtestError, match=f"127.0.0.1:{port}: Address already in use.*api_port"):
            serve(WorldSettings(users=1, movies=1, api_port=port))


@needs_real
def test_real_movies_are_served_without_invention() -> None:
    movie = movie_lookup(REAL / "movies.csv", "2026")
    record = movie("you_+the+living+2007")
    assert record is not None
    assert record["title"] == "You, the Living"
    assert record["runtime"] == 95
    assert record["genres"][0] == {"id": 35, "name": "Comedy"}
    assert {record[name] for name in ("homepage", "overview", "poster_path", "status", "release_date")} == {"null"}
    assert (record["belongs_to_collection"], record["budget"], record["revenue"]) == ({}, "0", "0")
    assert movie("no+such+movie+1901") is None


@needs_real
def test_real_movies_have_the_fields_of_simulated_ones(world: World) -> None:
    made = set(world.catalogue.record(0))
    movie = movie_lookup(REAL / "movies.csv", "2026")
    with (REAL / "movies.csv").open(encoding="utf-8") as file:
        ids = [line.split(",", 1)[0] for line in file][1:]
    records = [record for record in map(movie, ids) if record]
    assert len(records) == len(ids)
    assert all(set(record) == made and record["id"] for record in records)


@needs_real
def test_real_users_and_simulated_movies_can_be_mixed() -> None:
    records = records_of(WorldSettings(users=3, movies=3, generation="2026", users_csv=str(REAL / "users-sample.csv")))
    assert records.user("4") is None
    user = records.user("5")
    assert user is not None
    assert (user["age"], user["occupation"], user["gender"]) == (26, "scientist", "M")
    assert records.movie(World(WorldSettings(users=3, movies=3, generation="2026")).catalogue.ids[0])


def test_empty_cells_are_marked_unknown_as_the_service_does(tmp_path: Path) -> None:
    path = tmp_path / "movies.csv"
    path.write_text(MOVIE_HEADER + "endeavour+,,,,,,,,,,,,\nx+2001,X,2001,NAN|sciencefiction|'Drama',,,,,0,,7,,\n")
    movie = movie_lookup(path, "2022")
    bare, other = movie("endeavour+"), movie("x+2001")
    assert bare is not None
    assert other is not None
    assert (bare["genres"], bare["runtime"], bare["title"], bare["vote_count"]) == ([], None, "null", "0")
    assert [genre["name"] for genre in other["genres"]] == ["Science Fiction", "Drama"]
    assert (other["runtime"], other["tmdb_id"]) == (0, 7)
    assert "cost" not in bare


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no column id, title"),
        (b"id,title\n", "no column year"),
        (MOVIE_HEADER.encode() + b"a+2000,A\n", "line 2 has more or fewer cells"),
        (MOVIE_HEADER.encode() + b"a+2000,A,,,,,,,,,,,,,\n", "line 2 has more or fewer cells"),
        (MOVIE_HEADER.encode() + b"a+2000,A,,,,,,,long,,,,\n", "line 2, runtime: 'long' is no whole number"),
        (MOVIE_HEADER.encode() + b",A,,,,,,,,,,,\n", "line 2 has an empty id"),
        (MOVIE_HEADER.encode() + b"a+2000,\xff,,,,,,,,,,,\n", "utf-8"),
        (MOVIE_HEADER.encode() + b'a+2000,"A,,,,,,,,,,,\n', "end of data"),
    ],
)
def test_a_malformed_file_is_an_error_with_its_path_and_line(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "movies.csv"
    path.write_bytes(content)
    with pytest.raises(LoadtestError, match=text) as caught:
        movie_lookup(path, "2026")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("row", ["5,,scientist,M,x", "five,26,scientist,M,x", "5,-3,scientist,M,x"])
def test_a_user_without_a_number_is_malformed(tmp_path: Path, row: str) -> None:
    path = tmp_path / "users.csv"
    path.write_text(USER_HEADER + row + "\n")
    with pytest.raises(LoadtestError, match="line 2"):
        user_lookup(path, "2026")


def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LoadtestError, match=r"cannot read .*nowhere.csv: No such file.*catalog_csv"):
        records_of(WorldSettings(users=1, movies=1, catalog_csv=str(tmp_path / "nowhere.csv")))


def test_a_mistyped_or_impossible_setting_is_an_error() -> None:
    for text in ('{"user": 5}', '{"users": 0}', '{"generation": "2021"}', '{"api_rate_limit_per_s": 0}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=WorldSettings)


def test_records_of_a_world_can_be_written_as_json(world: World) -> None:
    records = world_records(world)
    assert json.loads(json.dumps(records.user("9"))) == world.people.record(8)
    assert json.loads(json.dumps(records.movie(world.catalogue.ids[9]))) == world.catalogue.record(9)
