"""The end of every command: what went wrong becomes lines on stderr (or one JSON object on stdout) and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai.errors import GenaiError

EXIT_CODES_HELP = (
    "\b\nExit codes: 0 done, 1 failed, 2 wrong command line or config, 3 a threshold was not met, 4 credentials,\n"
    "70 a bug of ours, 130 interrupted, 143 stopped after saving."
)
BUG, INTERRUPTED, READER_GONE = 70, 130, 141

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def run(command: click.Command, arguments: list[str]) -> int:
    """Carry out a command line and report how it ended.

    Args:
        command: the root command.
        arguments: the words after the program's name.

    Returns:
        the exit code.
    """
    as_json = "--json" in arguments
    debug = "--debug" in arguments
    try:
        code = _invoke(command, arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence_stdout()
        return READER_GONE
    except (click.Abort, KeyboardInterrupt):
        return _report(INTERRUPTED, "interrupted", [("interrupted", None, None)], as_json)
    except Exception as error:
        known = _explain(error)
        if debug:
            _print_traceback(error)
        if known is not None:
            rows = [(problem.message, problem.where, problem.fix) for problem in known.problems]
            return _report(known.exit_code, known.code, rows, as_json)
        where = "" if debug else _save_traceback(error)
        message = f"this is a bug in genai: {type(error).__name__}: {error}"
        fix = None if debug else "please report it with that file; --debug prints it"
        return _report(BUG, "bug", [(message, where or None, fix)], as_json)


def redact(text: str) -> str:
    """Replace the value of every environment variable that is named like a secret."""
    for name, value in os.environ.items():
        if len(value) >= 8 and any(
            word in name.upper() for word in ("TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIAL")
        ):
            text = text.replace(value, "***")
    return text


def printable(text: str) -> str:
    """The text on one line and without control characters, so that a file's content cannot steer the terminal."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def _invoke(command: click.Command, arguments: list[str]) -> int:
    try:
        with command.make_context("genai", arguments) as context:
            command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message(), err=True)
        return 2
    return 0


def _explain(error: Exception) -> GenaiError | None:
    """The user's side of an error, or None when only we can mend it."""
    from genai.errors import GenaiError, UsageError

    if isinstance(error, GenaiError):
        return error
    if isinstance(error, click.UsageError):
        return UsageError(_one_sentence(error.format_message()), fix=_usage_hint(error))
    if isinstance(error, click.ClickException):
        return UsageError(_one_sentence(error.format_message()))
    if isinstance(error, MemoryError):
        fix = "give the job more memory, or lower device_train_microbatch_size or max_seq_len"
        return GenaiError("out of memory", fix=fix)
    if isinstance(error, PermissionError):
        return GenaiError("permission denied", where=_path_of(error), fix="check who owns it, or choose another place")
    if isinstance(error, OSError) and error.errno in _FULL:
        return GenaiError(_FULL[error.errno], where=_path_of(error), fix="genai cache gc and genai runs gc make room")
    return None


def _usage_hint(error: click.UsageError) -> str | None:
    if isinstance(error, click.exceptions.NoSuchOption):
        if "." in error.option_name or "_" in error.option_name or "=" in error.option_name:
            return f"an override is written without dashes: {error.option_name.lstrip('-')}=VALUE"
        if error.possibilities:
            return None
    return f"see {error.ctx.command_path} --help" if error.ctx else None


def _one_sentence(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]


def _path_of(error: OSError) -> str | None:
    return str(error.filename) if error.filename is not None else None


def _report(exit_code: int, code: str, rows: Sequence[tuple[str, str | None, str | None]], as_json: bool) -> int:
    try:
        if as_json:
            click.echo(redact(_as_json(code, rows)))
        else:
            for message, where, fix in rows:
                text = f"{where}: {message}" if where else message
                click.echo(f"{_label()} {printable(redact(f'{text} ({fix})' if fix else text))}", err=True)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    return exit_code


def _as_json(code: str, rows: Sequence[tuple[str, str | None, str | None]]) -> str:
    import json

    problems = [{"message": message, "where": where, "fix": fix} for message, where, fix in rows]
    error: dict[str, Any] = {"code": code, **problems[0]}
    if len(problems) > 1:
        error["problems"] = problems
    return json.dumps({"schema_version": 1, "error": error}, ensure_ascii=False)


def _label() -> str:
    plain = "NO_COLOR" in os.environ or not sys.stderr.isatty()
    return "error:" if plain else click.style("error:", fg="red", bold=True)


def _print_traceback(error: Exception) -> None:
    import traceback

    click.echo(redact("".join(traceback.format_exception(error))), err=True)


def _save_traceback(error: Exception) -> str:
    """Write the traceback to a file; its path, or an empty text where no place can be written to."""
    import platform
    import tempfile
    import time
    import traceback
    from pathlib import Path

    from genai import __version__

    text = f"genai {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    text += redact("".join(traceback.format_exception(error)))
    name = f"genai-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    cache = Path(os.environ.get("GENAI_CACHE") or Path.home() / ".cache" / "genai")
    for folder in (cache / "crashes", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return str(folder / name)
    return ""


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere once the reader of a pipe has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
