"""Telegraf as a peer: it polls or listens, throws away what it got, and is charged for what the source says it asked for or was sent."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import Peer, built, cpu_time, opcua
from ..modbus import BLOCK, FLOATS

__all__ = ["THRIFTY", "listen", "poll", "program"]

AGENT = """
[agent]
  interval = "{interval}"
  quiet = true
{settings}
[[outputs.discard]]
"""
THRIFTY = """
  flush_interval = "1s"
  metric_batch_size = 5000
  metric_buffer_limit = 200000
  omit_hostname = true
  skip_processors_after_aggregators = true
"""
"""Settings of its agent with which it takes some 15 % less for a change than with those it comes with."""
_START = 60.0  # [s] that it may take until it asks for something


def program() -> str:
    """Return the path of a Telegraf, built when there is none yet; raise `Missing`."""
    return built(Path(__file__).parent / "build", slow="Telegraf; a minute or two")


def _modbus(port: int, requests: int) -> str:
    """Return a plugin that reads `requests` blocks of 62 float32 in each of its rounds."""
    lines = ["[[inputs.modbus]]", '  name = "bench"', f'  controller = "tcp://127.0.0.1:{port}"', '  configuration_type = "request"']
    for block in range(requests):
        fields = [f'{{address={BLOCK * block + 2 * k}, name="f{block}_{k}", type="FLOAT32"}}' for k in range(FLOATS)]
        fields.append(f'{{address={BLOCK * block + BLOCK - 1}, name="i{block}", type="UINT16"}}')
        lines += ["  [[inputs.modbus.request]]", "    slave_id = 1", '    byte_order = "ABCD"', '    register = "input"']
        lines += [f"    fields = [{', '.join(fields)}]"]
    return "\n".join(lines)


def _opcua(port: int, namespace: int, items: int, interval: float) -> str:
    nodes = "".join(f'    {{name="v{k}", identifier="v{k}"}},\n' for k in range(items))
    return f"""[[inputs.opcua_listener]]
  endpoint = "opc.tcp://127.0.0.1:{port}/"
  subscription_interval = "{round(1000 * interval)}ms"
  security_policy = "None"
  security_mode = "None"
  auth_method = "Anonymous"
  [[inputs.opcua_listener.group]]
  namespace = "{namespace}"
  identifier_type = "s"
  sampling_interval = "1ms"
  nodes = [
{nodes}  ]
"""


def _charged(source: Peer, configuration: str, counted: str, seconds: float) -> dict[str, Any]:
    """Run Telegraf for `seconds` in full swing; return the `cpu_s` it used meanwhile and what the source `counted`."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder, "telegraf.conf"), Path(folder, "telegraf.log")
        path.write_text(configuration)
        with (
            log.open("w") as output,
            subprocess.Popen([program(), "--config", path], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            try:
                late = time.monotonic() + _START
                source.ask()
                while source.ask()[counted] == 0:
                    if process.poll() is not None or time.monotonic() > late:
                        raise RuntimeError(f"Telegraf asks for nothing: {log.read_text()[-1000:]}")
                    time.sleep(0.1)
                time.sleep(2.0)  # set up, first values and first flushes are not what is measured
                source.ask()
                before, begun = cpu_time(process.pid), time.monotonic()
                time.sleep(seconds)
                count = source.ask()[counted]
                used, passed = cpu_time(process.pid) - before, time.monotonic() - begun
            finally:
                process.terminate()
                process.wait(10)
        if count == 0:
            raise RuntimeError(f"Telegraf has stopped asking: {log.read_text()[-1000:]}")
    return {counted: count, "cpu_s": used, "wall_s": passed}


def poll(source: Peer, *, seconds: float = 5.0, requests: int = 1, interval: float = 0.001) -> dict[str, Any]:
    """Let it read `requests` blocks of 125 registers (62 float32 and the identity) every `interval` [s]; return requests, cpu_s and wall_s.

    By default one block, as fast as it can. Several in a round cost it less each, and pauses between rounds more.
    """
    configuration = AGENT.format(interval=f"{round(1000 * interval)}ms", settings="") + _modbus(source.hello["port"], requests)
    return _charged(source, configuration, "requests", seconds)


def listen(*, items: int = 1000, changes: float = 10_000.0, seconds: float = 5.0, interval: float = 0.1, settings: str = "") -> dict[str, Any]:
    """Let it monitor variables of an OPC UA source, published every `interval` [s]; return notifications, cpu_s and wall_s."""
    with opcua.source(items, changes) as source:
        configuration = AGENT.format(interval="10s", settings=settings) + _opcua(source.hello["port"], source.hello["namespace"], items, interval)
        return _charged(source, configuration, "notifications", seconds)
