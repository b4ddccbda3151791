"""Shared by all command lines: errors in one line, Ctrl-C without a traceback, logs as plain lines on stderr, UTF-8."""

import io
import logging
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import click

import stream
from stream.errors import MarqueeError
from stream.supervised import end_with_supervisor

INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports the module of a command only when the command is called or `--help` describes it.

    `modules` maps the command's name to `module:attribute`.
    """

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._modules])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._modules[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


def run(commands: click.Command, name: str) -> NoReturn:
    """Run a room's commands and exit: 0, the error's own code, 2 for wrong usage, 130 after Ctrl-C."""
    _ensure_utf8()
    if all(option.name != "version" for option in commands.params):
        commands = click.version_option(stream.__version__, prog_name="marquee")(commands)
    end_with_supervisor()
    if isinstance(sys.stdout, io.TextIOWrapper):  # "?" on a terminal without dashes and accents
        sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # aiokafka retries or raises all errors that it logs; what it raises is reported once, as our own error
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # a shell makes its background jobs ignore SIGINT, and Python inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        commands.main(prog_name=f"python -m {name}", standalone_mode=False)
    except click.exceptions.Abort:
        _leave("interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        # a full disk or a read-only folder is not a bug: the message and the file name suffice
        _leave(f"error: {error.strerror or error}: {error.filename or name}", MarqueeError.exit_code)
    except MarqueeError as error:
        _leave(f"error: {error}", error.exit_code)
    sys.exit(0)


def _ensure_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the locale has another encoding.

    Python would name files in the locale's encoding, and pyarrow and Annoy in UTF-8.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - there is no shell


def _leave(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)
