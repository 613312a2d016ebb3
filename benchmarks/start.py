"""From the command to the moment when all simulated devices of the demo cell answer, against its limit of 3 s; and against a bare interpreter.

make bench
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from controller.config import cell_path, load_cell

LIMIT = 3.0  # [s]


def start(devices: Path, folder: Path) -> float:
    """Return the time [s] until the simulators say that every device listens."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "simulators.serve", "--devices", str(devices), "--data", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        ready = json.loads(process.stdout.readline())
        took = time.perf_counter() - begun
        assert ready["ready"] is True
        process.stdin.close()
    return took


def bare() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import asyncua, pymodbus, numpy"], check=True)
    return time.perf_counter() - begun


def main() -> None:
    rows = []
    for place, (name, device) in enumerate(load_cell(cell_path("demo")).plan.devices.items()):
        profile = device.device.profile
        address = "opc.tcp://127.0.0.1:0" if profile.protocol == "opcua" else f"modbus-tcp://127.0.0.1:0?unit={place + 1}"
        if str(device.device.address).startswith("modbus-rtu"):
            address = str(device.device.address)
        rows.append({"name": name, "profile": profile.id, "address": address})
    with tempfile.TemporaryDirectory() as folder:
        devices = Path(folder) / "devices.json"
        devices.write_text(json.dumps(rows), encoding="utf-8")
        times = sorted(start(devices, Path(folder)) for _ in range(5))
    imports = statistics.median(bare() for _ in range(3))
    took = statistics.median(times)
    print(f"{len(rows)} devices listen after {took:.2f} s ({times[0]:.2f} to {times[-1]:.2f}), limit {LIMIT:g} s: {took / LIMIT:.2f} of it")
    print(f"importing asyncua, pymodbus and numpy alone takes {imports:.2f} s, {imports / took:.0%} of that")
    if took >= LIMIT:
        raise SystemExit(f"the start took {took:.2f} s, at most {LIMIT:g} s")


if __name__ == "__main__":
    main()
