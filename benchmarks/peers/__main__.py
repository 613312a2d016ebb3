"""What each peer costs on this machine, by itself, and which ones cannot be run here and why: ``cd benchmarks && python -m peers``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from . import Missing, modbus, opcua, telegraf

SECONDS = 3.0


def modbus_tcp() -> Iterator[str]:
    with modbus.source() as source:
        found = modbus.libmodbus("tcp", source.hello["port"], requests=20_000)
        own = source.ask()
        stock = modbus.pymodbus("tcp", source.hello["port"], requests=3_000)
    rate = found["requests"] / found["wall_s"]
    yield f"libmodbus, 125 registers to float32: {1e6 * found['cpu_s'] / found['requests']:.1f} us a request, {rate:,.0f} requests/s"
    yield f"pymodbus, the same: {1e6 * stock['cpu_s'] / stock['requests']:.0f} us a request, {stock['requests'] / stock['wall_s']:,.0f} requests/s"
    yield f"modbus_source, that it answers: {1e6 * own['cpu_s'] / own['requests']:.1f} us a request"


def modbus_line() -> Iterator[str]:
    with modbus.SerialBench(19_200) as bench:
        found = modbus.libmodbus("rtu", bench.near, bench.baud, requests=20)
        line = bench.report()
    yield (
        f"libmodbus, 125 registers at {bench.baud:,} baud: {1e6 * found['cpu_s'] / found['requests']:.0f} us a request, "
        f"{line['share']:.3f} of the t3.5 limit; {line['client_below']} of {line['frames'][0]} requests broke t3.5"
    )
    yield f"paced_line, bytes handed over late: {line['late_us']['mean']:.0f} us on average, {line['late_us']['max']:.0f} us at most"


def telegraf_modbus() -> Iterator[str]:
    with modbus.source() as source:
        found = telegraf.poll(source, seconds=SECONDS)
    yield f"Telegraf, 125 registers to float32: {1e6 * found['cpu_s'] / found['requests']:.0f} us a request"


def telegraf_opcua() -> Iterator[str]:
    found = telegraf.listen(seconds=SECONDS)
    yield f"Telegraf, 1,000 monitored items: {1e5 * found['cpu_s'] / found['notifications']:.2f} CPU-s per 100 k notifications"


def opcua_client(measure: Callable[..., opcua.Measured], name: str) -> Iterator[str]:
    found = measure(seconds=SECONDS)
    monitor, read, write = found["monitor"], found["read"], found["write"]
    yield (
        f"{name}, 1,000 monitored items: {1e5 * monitor['cpu_s'] / monitor['count']:.2f} CPU-s per 100 k notifications; "
        f"read of 1,000: {1e3 * read['cpu_s'] / read['count']:.2f} ms, write of 100: {1e3 * write['cpu_s'] / write['count']:.2f} ms"
    )


def main() -> int:
    """Print a line for each peer; return 0, since what is missing does not make a benchmark fail."""
    peers: list[Callable[[], Iterator[str]]] = [
        modbus_tcp,
        modbus_line,
        telegraf_modbus,
        lambda: opcua_client(opcua.node_opcua, "node-opcua"),
        lambda: opcua_client(opcua.asyncua, "asyncua"),
        telegraf_opcua,
    ]
    for peer in peers:
        try:
            for line in peer():
                print(line, flush=True)
        except Missing as why:
            print(f"not run: {why}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
