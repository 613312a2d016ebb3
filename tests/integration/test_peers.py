"""The peers of the benchmarks do what their figures rest on: the source's values, the line's speed and its silences. Nothing is timed here."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from benchmarks.peers import Missing, Peer, modbus
from tests.integration.test_foreign import needs

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    try:
        for name in ("modbus_source", "modbus_client", "paced_line"):
            modbus.program(name)
    except Missing as why:
        needs(False, str(why))


def test_the_source_counts_what_a_client_of_another_make_reads_from_it() -> None:
    with modbus.source() as source:
        found = modbus.libmodbus("tcp", source.hello["port"], requests=300)  # it checks the values
        assert found["requests"] == 300
        assert source.ask()["requests"] == 300
        assert source.ask()["requests"] == 0


@pytest.mark.parametrize("request_", ["-r 125 -c 62 -t 3:float", "-r 0 -c 62 -t 4:float"])
def test_mbpoll_reads_the_blocks_of_the_source(request_: str) -> None:
    needs(shutil.which("mbpoll") is not None, "no mbpoll: apt-get install mbpoll")
    with modbus.source() as source:
        command = ["mbpoll", "-0", "-1", "-B", "-m", "tcp", "-p", str(source.hello["port"]), *request_.split(), "127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    values = [float(text.split()[-1]) for text in done.stdout.splitlines() if text.startswith("[")]
    first = modbus.FLOATS if "125" in request_ else 0
    assert values == [first + k + 0.25 for k in range(modbus.FLOATS)]


@pytest.mark.parametrize("baud", [19_200, 115_200])
def test_the_line_takes_the_time_of_a_real_one(baud: int) -> None:
    with modbus.SerialBench(baud) as bench:
        found = modbus.libmodbus("rtu", bench.near, baud, requests=5)
        line = bench.report()
    assert line["frames"] == [5, 5]
    assert line["bytes"] == [5 * modbus.REQUEST, 5 * modbus.REPLY]
    assert (line["requests"], line["collisions"], line["device_below"]) == (5, 0, 0)
    assert line["silence_us"] == pytest.approx(1e6 * bench.silence, abs=0.2)
    fastest = 5 * ((modbus.REQUEST + modbus.REPLY) * 10 / baud + bench.silence)  # whatever the machine does meanwhile
    assert line["line_s"] >= fastest - 1e-3
    assert found["wall_s"] >= line["line_s"] - 1e-3
    assert line["device_gap_us"]["min"] >= line["silence_us"]
    assert 0.0 < line["share"] < 1.1


def test_a_peer_that_ends_says_so() -> None:
    with pytest.raises(RuntimeError, match="ended with 2"):
        Peer([modbus.program("paced_line"), "no baud"])
