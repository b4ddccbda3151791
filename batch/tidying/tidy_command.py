"""`python -m batch tidy`: removes what the settings no longer keep, and more while the disk is short."""

import errno
import shutil
from collections.abc import Iterator

import click

from batch import lock
from batch.settings import BatchSettings
from batch.tidying.removal import Removal
from batch.tidying.retention import Retention
from quality.settings import QualitySettings
from stream.settings import StreamSettings, load


def tidy(retention: Retention, make_room: bool) -> Iterator[Removal]:
    """Remove what is due; with `make_room` also the least valuable until `least_free_mb` is free. Yields what went.

    The caller holds the night's lock. A disk may be too full even for the note of a day that goes: such a day goes once
    something else has gone. Raises `OSError` if there is nothing else.
    """
    postponed = list[Removal]()
    for removal in retention.due():
        if not _is_disk_full(removal):
            yield removal
        elif make_room:
            postponed.append(removal)
        else:
            removal.remove()  # raises again
    # looked at anew: what was due is gone
    anew = Retention(retention.streaming, retention.quality, retention.settings)
    for removal in anew.spare() if make_room else ():
        if is_enough_free(retention):
            break
        if not _is_disk_full(removal):
            yield removal
    for removal in postponed:
        removal.remove()
        yield removal


def _is_disk_full(removal: Removal) -> bool:
    """Remove something, unless its note finds no room; then nothing of it is removed."""
    try:
        removal.remove()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return True
    return False


def is_enough_free(retention: Retention) -> bool:
    """Whether so much is free on the disk of `var` as the settings want."""
    return shutil.disk_usage(retention.var).free >= retention.settings.least_free_mb << 20


@click.command("tidy")
@click.option("--dry-run", is_flag=True, help="Only print what would go.")
@click.option("--make-room", is_flag=True, help="Remove more, until [batch] least_free_mb is free.")
def command(dry_run: bool, make_room: bool) -> None:
    """Remove what the settings (keep_…) no longer keep; print what went, and its size.

    What nights, reports or answers still need stays. The lines of a day that is dropped from the archive can no longer
    be read: its sessions and reports stay, but cannot be made again.
    """
    streaming, settings = load("stream", StreamSettings), load("batch", BatchSettings)
    retention = Retention(streaming, load("quality", QualitySettings), settings)
    with lock.holding(streaming.var):
        total = 0
        for removal in _would_go(retention, make_room) if dry_run else tidy(retention, make_room):
            total += removal.size
            click.echo(f"{'would remove' if dry_run else 'removed'} {removal.what}: {_megabytes(removal.size)}")
        if waiting := retention.days.waiting(settings.keep_archive_days):
            click.echo(
                f"kept {len(waiting)} old days of the archive, from {waiting[0]} on: their sessions are not made, or a"
                " report that reads them is not final"
            )
        click.echo(f"{_megabytes(total)} {'would go' if dry_run else 'removed'}, {_free(retention)} free")
        if make_room and not dry_run and not is_enough_free(retention):
            raise click.ClickException(f"tidy: less than {settings.least_free_mb} MB are free, and nothing more may go")


def _would_go(retention: Retention, make_room: bool) -> Iterator[Removal]:
    yield from retention.due()
    if make_room:
        yield from retention.spare()


def _free(retention: Retention) -> str:
    return _megabytes(shutil.disk_usage(retention.var).free)


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MB"
