"""Run a command and print its lines: text from files and machines must not control the terminal or the log that shows it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from speedgate.results.exit_status import ExitStatus
from speedgate.results.text import ascii_line, plain_markdown


def add_command(commands: Any, name: str, purpose: str, **options: Any) -> argparse.ArgumentParser:
    """Add a command to the sub-parsers of argparse; its own `--help` begins with the purpose that the list of commands has."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", **options
    )
    return parser


def print_line(text: str) -> None:
    """Print one line of a command's output."""
    print(ascii_line(text), flush=True)


def print_markdown(text: str) -> None:
    """Print a page of Markdown as it is, or without HTML if it goes to a terminal."""
    print(
        "".join(f"{ascii_line(line)}\n" for line in plain_markdown(text).splitlines()) if sys.stdout.isatty() else text,
        end="",
    )


def print_error(text: str) -> None:
    """Print one error on stderr, with the name of the program before it."""
    with contextlib.suppress(BrokenPipeError):
        print("speedgate:", ascii_line(text), file=sys.stderr, flush=True)


def run_command(function: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run one command and return its exit status. A `ValueError` or an `OSError` becomes one line on stderr and `FAILED`.

    If nobody reads the output any more, as after `| head`, the command ends without a word.
    """
    try:
        status = function(options)
        print(end="", flush=True)
    except BrokenPipeError:
        status = ExitStatus.CLOSED_PIPE
    except (ValueError, OSError) as error:
        print_error(_message(error))
        status = ExitStatus.FAILED
    _discard_unwritten_output()
    return status


def _message(error: Exception) -> str:
    """Leave out the number and the class of an error of the operating system: they mean nothing to most users."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    place = error.filename or ("the output" if error.errno == errno.ENOSPC else None)
    return f"{place}: {error.strerror}" if place else error.strerror


def _discard_unwritten_output() -> None:
    """Keep Python from trying again, and failing in its own words, when it exits.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: the shell has closed it
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
