"""One process a data directory: the lock that a service holds while it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

__all__ = ["DataInUseError", "lock"]


class DataInUseError(RuntimeError):
    """Another process works on the same data directory: `owner`."""

    def __init__(self, data: Path, owner: str) -> None:
        self.owner = f"process {owner}"
        super().__init__(f"data directory {data} is used by another service ({self.owner}); stop it, or choose another with --data")


def lock(data: Path) -> IO[str]:
    """Return the locked lock file of a data directory, until it is closed; raise `DataInUseError` if another process holds it."""
    data.mkdir(parents=True, exist_ok=True)
    file = (data / "lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DataInUseError(data, owner) from None
    try:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            file.close()
        raise OSError(error.errno, error.strerror, str(data / "lock")) from None
    return file
