"""What the benchmarks measure against: clients of other makes, and sources that do not hold them up. Each is a process of its own.

From a benchmark: ``from peers import modbus`` and the like. A peer that this machine cannot run raises `Missing`: one line that says what to
install.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["ROOT", "Missing", "Peer", "built", "cpu_time", "node_folder", "once", "program"]

ROOT = Path(__file__).parent.parent.parent
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")  # [s]


class Missing(Exception):
    """A peer cannot be run here: what it needs, and how to get it."""


def built(script: Path, *arguments: str | Path, slow: str = "") -> str:
    """Return the path that a build script prints; raise `Missing`. `slow` says what it takes when there is nothing built yet."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, *arguments, *options], capture_output=True, text=True, timeout=1800, check=False)

    if slow:
        if (found := run("--find")).returncode == 0:
            return found.stdout.strip()
        print(f"building {slow} ...", file=sys.stderr, flush=True)
    made = run()
    if made.returncode:
        raise Missing(made.stderr.strip().splitlines()[-1])
    return made.stdout.strip()


def program(name: str) -> str:
    """Return the path of a peer written in C, ``benchmarks/peers/NAME.c``, compiled when it has to be; raise `Missing`."""
    return built(ROOT / "tests/foreign/build", ROOT / f"benchmarks/peers/{name}.c")


def node_folder() -> Path:
    """Return the folder where node finds the npm packages of the peers; raise `Missing`."""
    folder = ROOT / "tests/foreign"
    if shutil.which("node") is None:
        raise Missing("node-opcua: needs node; on Debian: apt-get install npm")
    if not (folder / "node_modules/node-opcua-client").is_dir():
        raise Missing("node-opcua: not installed; make tests/foreign/node_modules/.done")
    return folder


def cpu_time(pid: int) -> float:
    """Return the CPU time [s] that a process has used, user and system, all threads; exact to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def once(command: Sequence[str | Path], *, within: float = 120.0, folder: Path | None = None) -> dict[str, Any]:
    """Run a peer that does its work and ends; return the last line it printed, which is JSON."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False, cwd=folder)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


class Peer:
    """A peer that runs until it is closed: it prints one line of JSON when it is ready, and one for each line that it is sent.

    Used as ``with Peer([...]) as peer:``. Its standard error is the benchmark's own.
    """

    def __init__(self, command: Sequence[str | Path], *, within: float = 30.0, folder: Path | None = None) -> None:
        self._command = [str(part) for part in command]
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.hello = self._answer(within)
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _answer(self, within: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=within)
        except queue.Empty:
            raise RuntimeError(f"{self._command[0]} says nothing for {within:g} s") from None
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.wait(5)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu(self) -> float:
        """Return the CPU time [s] that it has used so far; exact to 10 ms."""
        return cpu_time(self.pid)

    def ask(self, question: str = "report", *, within: float = 30.0) -> dict[str, Any]:
        """Send a line and return the answer; by default what it has done since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer(within)

    def close(self) -> None:
        """Let it end, and make it when it does not within 5 s."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
