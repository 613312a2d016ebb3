"""A serial line that is none: a pseudo-terminal with a link to it at the path of the port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from pathlib import Path

from drivers.device import Address

__all__ = ["PtyLine"]


class PtyLine:
    """The far end of the line at `path`; whoever opens the path is at the near one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends: tuple[int, int] | None = None

    async def open(self) -> None:
        """Make the pseudo-terminal and the link; raise `OSError` when the machine has none or the path is taken."""
        if self._ends is not None:
            return
        if self.path.exists() and not self.path.is_symlink():
            raise FileExistsError(f"{self.path} exists and is no link of a simulator")
        master, slave = os.openpty()
        self._ends = (master, slave)  # its own end stays open, else the line would hang up whenever a client closes
        tty.setraw(slave)
        os.set_blocking(master, False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        asyncio.get_running_loop().add_reader(master, self._readable, master)

    async def close(self) -> None:
        """Hang up and remove the link."""
        ends, self._ends = self._ends, None
        if ends is None:
            return
        asyncio.get_running_loop().remove_reader(ends[0])
        if self.path.is_symlink() and os.readlink(self.path) == os.ttyname(ends[1]):
            self.path.unlink()
        for end in ends:
            os.close(end)

    async def changed(self) -> None:
        """A device that is switched off is silent; the line stays."""

    def address(self, asked: Address) -> Address:
        """Return the address as it was asked for."""
        return asked

    def _readable(self, master: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self.come(os.read(master, 4096))

    def come(self, data: bytes) -> None:
        """Take what has come from the near end."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send to the near end. Nobody reads the line: what is sent into a full buffer is lost, as on a wire."""
        if self._ends is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._ends[0], data)
