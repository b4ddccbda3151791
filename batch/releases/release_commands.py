"""The commands that list and move releases: `python -m batch releases | rollback | pin | unpin | prune`.

| command | what happens | not |
|---|---|---|
| `releases` | nothing; a table of all that are there | – |
| `rollback` | `current` moves to the one before, or to any (`--to`) | if one is pinned; to a bad or refused one |
| `pin` | a release becomes current and stays so, whatever nights make | to a bad or refused one |
| `unpin` | the next night's release becomes current again | – |
| `prune` | old releases are removed; never the current, the pinned, the last good ones, or what reports need | – |

Before `current` moves to a release, it is opened and verified as by a worker. Commands that move or remove something
hold the lock that nights hold. A release that the gate refused becomes current only by `rollback --even-refused`, and
stays marked as refused. Workers follow `current` by themselves, within seconds.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import numpy as np
import orjson

from batch.errors import EvaluationDamaged, ReleaseError
from batch.evaluation_file import CountedStarts, Evaluation, read_evaluation
from batch.lock import holding
from batch.releases import publish
from batch.releases.length_table import LengthRow, length_rows, length_table
from batch.settings import BatchSettings
from quality.telemetry.release_history import ReleaseChange
from server.errors import BadRelease
from server.manifest import Manifest, parse_manifest
from server.release import Release
from stream.archive import Archive
from stream.errors import ArchiveError
from stream.ledger_clock import stream_time
from stream.settings import StreamSettings, load
from stream.zone import Zone, zone_named

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


log = logging.getLogger(__name__)

_BOUNDS = ("mean", "low", "high")


class ReleaseRow(msgspec.Struct, frozen=True):
    """One release in the list. None stands for what its files do not say."""

    release: str
    current_since_ms: int | None
    """When it last became current, by the stream's clock; None if it never was."""
    moved_by: str | None
    data_until_ms: int | None
    """How far its night had read the stream."""
    model: str | None
    chosen_by: str | None
    """Why that model was chosen, in one sentence."""
    ndcg_at_20: dict[str, float] | None
    """`mean`, `low`, `high` of its model on the test slice."""
    history_lengths: list[LengthRow]
    """The same by length of history, beside the popular list; [] where they were not measured."""
    counted: CountedStarts | None
    """The starts that they were measured by."""
    users: int | None
    movies: int | None
    bytes: int
    state: str
    """`current`, `pinned`, `refused: <rules>`, `damaged: <file>`, several of them, or `kept`."""
    refused: dict[str, str]
    """By rule: why the gate refused it."""


def release_rows(var: Path) -> list[ReleaseRow]:
    """All releases, oldest first."""
    changes = {change.release: change for change in publish.read_publications(var)}
    refused = publish.refused_releases(var)
    return [_row(var, release, changes.get(release), refused.get(release, {})) for release in publish.sealed(var)]


def roll_back(var: Path, now_ms: int, to: str | None = None, even_refused: bool = False) -> tuple[str | None, Release]:
    """Make the release before the current one, or `to`, current; returns where `current` pointed, and the release.

    Raises `ReleaseError`; then nothing has moved.
    """
    if held := publish.pinned(var):
        raise ReleaseError(f"rollback: {held} is pinned and stays current; first: python -m batch unpin")
    current = publish.current_release(var)
    release = _open_release(var, to or _release_before(var), even_refused)
    if publish.is_current(var, release.id):
        raise ReleaseError(f"rollback: {release.id} is current already")
    publish.make_current(var, release.id, now_ms, "rollback")
    return current.name if current else None, release


def pin(var: Path, now_ms: int, which: str) -> tuple[str | None, Release]:
    """Make a release current and pin it; `which` is an id or `current`. Returns and raises as `roll_back` does."""
    current = publish.current_release(var)
    if which == "current" and current is None:
        raise ReleaseError(f"pin: there is no current release in {var / 'releases'}; name one: python -m batch pin ID")
    name = current.name if current and which == "current" else which
    release = _open_release(var, name, even_refused=current is not None and current.name == name)
    publish.make_current(var, release.id, now_ms, "pin")
    publish.pin(var, release.id, now_ms)
    return current.name if current else None, release


def _release_before(var: Path) -> str:
    whole, refused = publish.sealed(var), publish.refused_releases(var)
    earlier = [name for name in publish.line(var)[:-1] if name in whole and name not in refused]
    if not earlier:
        raise ReleaseError(
            f"rollback: no release in {var / 'releases'} was current before and is still there; list all of them:"
            " python -m batch releases; move to any: python -m batch rollback --to ID"
        )
    return earlier[-1]


def _open_release(var: Path, name: str, even_refused: bool) -> Release:
    if name not in publish.sealed(var):
        raise ReleaseError(
            f"releases: there is no release '{name}' in {var / 'releases'}; list all: python -m batch releases"
        )
    if not even_refused and (broken := publish.refused_releases(var).get(name)):
        raise ReleaseError(
            f"releases: the gate refused {name} ({'; '.join(f'{rule}: {why}' for rule, why in broken.items())});"
            f" to make it current anyway: python -m batch rollback --to {name} --even-refused"
        )
    try:
        release = Release.open(var / "releases" / name)
    except BadRelease as error:
        raise ReleaseError(f"releases: {name} is damaged, current stays where it is: {error}") from error
    if release.id != name:
        raise ReleaseError(f"releases: the manifest of {name} names {release.id}, current stays where it is")
    return release


def _row(var: Path, release: str, change: ReleaseChange | None, broken: dict[str, str]) -> ReleaseRow:
    folder = var / "releases" / release
    manifest = _manifest(folder)
    model, evaluation = manifest.model.lists, _evaluation(folder)
    current, states = publish.current_release(var), []
    states += ["current"] if current and current.name == release else []
    states += ["pinned"] if publish.pinned(var) == release else []
    states += [f"refused: {', '.join(broken)}"] if broken else []
    states += [f"damaged: {name}"] if (name := _damaged_file(folder, manifest)) else []
    return ReleaseRow(
        release,
        change.stream_time if change else None,
        change.by if change else None,
        manifest.stream_time,
        model,
        manifest.model.chosen_by,
        _ndcg(evaluation, model),
        length_rows(evaluation, model) if evaluation and model else [],
        evaluation.slices.test.counted if evaluation and evaluation.slices.test else None,
        _rows(folder / "users.npy"),
        _rows(folder / "items.npy"),
        sum(path.stat().st_size for path in folder.iterdir()),
        ", ".join(states) or "kept",
        broken,
    )


def _evaluation(folder: Path) -> Evaluation | None:
    """The evaluation of a release; None if it cannot be read."""
    try:
        return read_evaluation(folder)
    except EvaluationDamaged:
        return None


def _ndcg(evaluation: Evaluation | None, model: str | None) -> dict[str, float] | None:
    """NDCG@20 of the model on the test slice; None if it was not measured."""
    figures = evaluation.test_models.get(model or "") if evaluation else None
    ndcg: dict[str, float | None] = msgspec.to_builtins(figures.ndcg) if figures else {}
    bounds = {name: value for name, value in ndcg.items() if value is not None}
    return bounds if bounds.keys() == {*_BOUNDS} else None


def _manifest(folder: Path) -> Manifest:
    """The manifest of a release; one without files where it cannot be read."""
    try:
        return parse_manifest((folder / "manifest.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return Manifest()


def _damaged_file(folder: Path, manifest: Manifest) -> str | None:
    """The first file of another size than was published; `rollback`, `pin` and `provenance` read every byte."""
    if not manifest.files:
        return "manifest.json"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    return next((name for name, file in manifest.files.items() if sizes.get(name) != file.size), None)


def _rows(path: Path) -> int | None:
    try:
        return len(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError, TypeError):
        return None


def releases_table(rows: list[ReleaseRow], clock: Zone) -> "Table":
    """The releases as a table, with times of the service's zone."""
    from rich.table import Table

    table = Table(caption=f"times of the stream, {clock.name}", caption_justify="left")
    for name in ("release", "current since", "data until", "model", "NDCG@20 (95 %)"):
        table.add_column(name, no_wrap=True)
    for name in ("users", "movies", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    for row in rows:
        counts = [_or_dash(row.users, "{:,}"), _or_dash(row.movies, "{:,}"), f"{row.bytes / 1e6:,.1f}"]
        times = [_clock_time(row.current_since_ms, clock), _clock_time(row.data_until_ms, clock)]
        table.add_row(row.release, *times, row.model or "–", _interval(row.ndcg_at_20), *counts, row.state)
    return table


def _print_quality(row: ReleaseRow, console: "Console") -> None:
    """Why a release has its model, and how good the current one is by length of history."""
    is_current = "current" in row.state.split(", ")
    if row.chosen_by and (is_current or row.model == "popular"):
        console.print(
            f"{row.release}: {row.model} makes the lists: {row.chosen_by}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    if is_current and row.model and row.history_lengths:
        console.print(length_table(row.release, row.model, row.history_lengths))
        if row.counted:
            console.print(f"measured on {row.counted}", soft_wrap=True, highlight=False)


def _or_dash(value: int | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _clock_time(time_ms: int | None, clock: Zone) -> str:
    return "–" if time_ms is None else str(np.datetime64(clock.to_local(int(time_ms)), "ms"))[:16].replace("T", " ")


def _interval(figures: dict[str, float] | None) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*(figures[name] for name in _BOUNDS)) if figures else "–"


@click.command("releases")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_releases(as_json: bool) -> None:
    """List all releases: when current, of which data and model, how good, how large, in which state.

    Below stands why the current release, or any that shows everyone the popular list, has its model, and how good the
    current one is by length of history.
    """
    from rich.console import Console

    streaming = load("stream", StreamSettings)
    rows = release_rows(streaming.var)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(rows), option=orjson.OPT_INDENT_2))
    elif rows:
        console = Console()
        console.width = console.width if console.is_terminal else 200
        console.print(releases_table(rows, zone_named(streaming.timezone)))
        for row in rows:
            _print_quality(row, console)
    else:
        click.echo(f"no releases in {streaming.var / 'releases'} yet; python -m batch nightly makes one")


@click.command()
@click.option("--to", metavar="ID", help="To this release, instead of the one that was current before.")
@click.option("--even-refused", is_flag=True, help="Even to a release that the gate refused.")
def rollback(to: str | None, even_refused: bool) -> None:
    """Verify an earlier release and make it current again. The next night may make a newer one current."""
    if even_refused and to is None:
        raise click.UsageError("--even-refused needs --to ID")
    streaming = load("stream", StreamSettings)
    with holding(streaming.var):
        before, release = roll_back(streaming.var, _now(streaming.var), to, even_refused)
    _print_move(before, release, streaming)
    click.echo("the next night may make a newer release current; to keep this one: python -m batch pin current")


@click.command("pin")
@click.argument("release", metavar="ID|current")
def pin_release(release: str) -> None:
    """Make a release current and keep it so: nights still make releases, but none becomes current until `unpin`."""
    streaming = load("stream", StreamSettings)
    with holding(streaming.var):
        before, pinned = pin(streaming.var, _now(streaming.var), release)
    _print_move(before, pinned, streaming)
    click.echo(f"pinned: {pinned.id}; until `python -m batch unpin` no night makes another one current")


@click.command("unpin")
def unpin_release() -> None:
    """Let nights make their releases current again."""
    streaming = load("stream", StreamSettings)
    with holding(streaming.var):
        try:
            held = publish.pinned(streaming.var)
        except ReleaseError as error:  # `unpin` is the remedy for an unreadable pin
            held = f"a pin that cannot be read ({error})"
        publish.unpin(streaming.var)
    if held is None:
        click.echo("no release is pinned")
        return
    click.echo(
        f"unpinned: {held}; the current release stays until the next night, or `python -m batch rollback --to ID`"
    )


@click.command("prune")
@click.option("--keep", type=click.IntRange(1), help="Instead of the setting: keep_releases.")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
def prune_releases(keep: int | None, dry_run: bool) -> None:
    """Remove old releases: all but the newest, the newest refused, the current, the pinned and the last good ones, and
    those in force in the last three days."""
    var = load("stream", StreamSettings).var
    keep = keep or load("batch", BatchSettings).keep_releases
    if dry_run:
        names = publish.prunable(var, keep)
    else:
        with holding(var):
            names = publish.prune(var, keep)
    for name in names:
        click.echo(name)
    click.echo(f"{len(names)} releases {'would be ' if dry_run else ''}removed", err=True)


def _print_move(before: str | None, release: Release, streaming: StreamSettings) -> None:
    manifest = release.manifest
    until = _clock_time(manifest.stream_time, zone_named(streaming.timezone))
    description = f"{release.id} (model {manifest.model.lists or 'unknown'}, data until {until})"
    if before == release.id:
        click.echo(f"current stays {description}")
    else:
        click.echo(f"current: {before or 'none'} -> {description}")


def _now(var: Path) -> int:
    """The stream's time, ms UTC; that of the last move if the archive is empty or damaged."""
    changes = publish.read_publications(var)
    last = changes[-1].stream_time if changes else 0
    try:
        return stream_time(Archive(var).condensed()) or last
    except ArchiveError as error:  # a damaged archive must not prevent leaving a bad release
        log.warning("%s; this move gets the time of the last one", error)
        return last
