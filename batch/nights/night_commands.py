"""Commands of the night: `nightly`, and each step alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click
import msgspec
import orjson

from batch import models
from batch.lock import holding
from batch.nights import runner
from batch.nights.step_results import StepName
from batch.settings import BatchSettings
from quality.alerts.webhook import posting
from quality.settings import QualitySettings
from stream.errors import SettingsError
from stream.settings import StreamSettings, load


@click.command()
@click.option("--model", help="Instead of the setting: model.")
@click.option("--factors", type=click.IntRange(1), help="Instead of the setting: factors.")
@click.option("--seed", type=int, help="Instead of the setting: seed.")
@click.option("--despite-alerts", is_flag=True, help="Run even if alerts hold the night.")
def nightly(despite_alerts: bool, **changed: Any) -> None:
    """Run all steps of the night, or the remaining ones of an interrupted night; print a JSON summary."""
    streaming, quality = load("stream", StreamSettings), load("quality", QualitySettings)
    with _unwinding(), holding(streaming.var), posting(streaming.var, quality):
        summary = runner.run_night(streaming, quality, _settings(changed), despite_alerts)
    click.echo(orjson.dumps(msgspec.to_builtins(summary), option=orjson.OPT_INDENT_2))


def _step_command(name: StepName) -> click.Command:
    summary = (runner.STEPS[name].__doc__ or "").splitlines()[0]

    @click.command(name, help=f"The step of the night alone: {summary}")
    def alone() -> None:
        streaming, quality = load("stream", StreamSettings), load("quality", QualitySettings)
        with _unwinding(), holding(streaming.var), posting(streaming.var, quality):
            result = runner.run_step(name, streaming, quality, _settings({}))
        click.echo(orjson.dumps(msgspec.to_builtins(result), option=orjson.OPT_INDENT_2))

    return alone


sessions = _step_command("sessions")
catalog = _step_command("catalog")
history = _step_command("history")
evaluate = _step_command("evaluate")
train = _step_command("train")
publish = _step_command("publish")


@contextmanager
def _unwinding() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP when a terminal is closed, end the block as Ctrl-C does, so that it removes half-written
    files and stops the gate's worker. Signals ignored at start (nohup) stay ignored."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in (heard := [number for number in before if before[number] is not signal.SIG_IGN]):
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _settings(changed: dict[str, object]) -> BatchSettings:
    settings = load("batch", BatchSettings)
    given = {key: value for key, value in changed.items() if value is not None}
    try:
        changed_settings = msgspec.convert({**msgspec.to_builtins(settings), **given}, BatchSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: an option is out of range: {error}") from error
    models.require_model(changed_settings.model)
    return changed_settings
