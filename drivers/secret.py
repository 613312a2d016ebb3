"""Secrets in files that nobody else may read. What stands in them never reaches a log or an error."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["SecretError", "read_secret"]

_LONGEST: Final = 4096  # bytes


class SecretError(Exception):
    """A secret that cannot be had: why, and what to do."""


def read_secret(path: Path, what: str) -> str:
    """Return the text in a file of mode 0600 without its line end; raise `SecretError`. `what` is the secret's name in errors."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer would hang
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise SecretError(f"{what} {path} is not a file")
            if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
                raise SecretError(f"{what} {path} can be used by others (mode {mode:04o}); chmod 600 it")
            content = os.read(handle, _LONGEST + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise SecretError(f"{what} {path} is not there; write the secret into it as a single line, and chmod 600 it") from None
    except OSError as error:
        raise SecretError(f"{what} {path}: {error.strerror}") from None
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretError(f"{what} {path} is not text in UTF-8") from None
    if not text or len(content) > _LONGEST:
        raise SecretError(f"{what} {path} " + ("is empty" if not text else f"has more than {_LONGEST} bytes"))
    return text
