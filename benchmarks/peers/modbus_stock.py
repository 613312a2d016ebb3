"""The client of pymodbus as it comes, to be measured against: N reads of 125 input registers, each turned into 62 float32 and checked.

usage: python modbus_stock.py tcp PORT UNIT REQUESTS, or rtu PATH BAUD UNIT REQUESTS; prints what modbus_client.c prints.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

REGISTERS, FLOATS = 125, 62


async def main(where: list[str], unit: int, requests: int) -> None:
    tcp = where[0] == "tcp"
    client = AsyncModbusTcpClient("127.0.0.1", port=int(where[1])) if tcp else AsyncModbusSerialClient(where[1], baudrate=int(where[2]))
    if not await client.connect():
        raise SystemExit(f"modbus_stock: cannot connect to {where[1]}")
    cpu, begun = time.process_time(), time.perf_counter()
    for _ in range(requests):
        reply = await client.read_input_registers(0, count=REGISTERS, device_id=unit)
        values = client.convert_from_registers(reply.registers[: 2 * FLOATS], client.DATATYPE.FLOAT32)
        if values[0] != 0.25 or values[-1] != FLOATS - 1 + 0.25:
            raise SystemExit("modbus_stock: a value is wrong")
    used, passed = time.process_time() - cpu, time.perf_counter() - begun
    client.close()
    sys.stdout.write(json.dumps({"requests": requests, "cpu_s": used, "wall_s": passed}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:-2], int(sys.argv[-2]), int(sys.argv[-1])))
