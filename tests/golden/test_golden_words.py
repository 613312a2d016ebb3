"""What stands where on each device, as literal words and node ids.

Driver and simulator read the same profile, so a wrong address in it would go unnoticed between the two. Nothing here is
computed from it: change these only together with the device.
"""

import struct

import numpy as np
import pytest

from drivers.device import Address, Device, load_profile, profile_folder
from drivers.modbus_codec import BitBlock
from drivers.modbus_plan import plan
from simulators.bench import StaticPlant
from simulators.modbus_slave import ModbusSlave
from simulators.station import Station

PROFILES = {path.stem: load_profile(path) for path in sorted(profile_folder().glob("*.toml"))}
READS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}  # function codes

# signal: table, address counted from 0, words (or bit), value [eu of the signal]
WORDS: dict[str, dict[str, tuple[str, int, str, float]]] = {
    "crystalliser": {
        "identity": ("input", 0, "0103 8D51", 17010001.0),
        "heartbeat": ("holding", 0, "0002", 2.0),
        "safe_state": ("discrete", 0, "1", 1.0),
        "temperature": ("input", 2, "4035 E1B1", 2.8419),
        "ph": ("input", 4, "413B 645A", 11.712),
        "density": ("input", 6, "4504 A000", 2122.0),
        "volume": ("input", 8, "3FA3 3D08", 1.2753),
        "tank_volume": ("input", 10, "40CE 1A37", 6.4407),
        "feed_flow": ("input", 12, "4286 D917", 67.424),
        "clear_flow": ("input", 14, "42C3 7A5E", 97.739),
        "naoh_flow": ("input", 16, "40FC 63F1", 7.8872),
        "acid_flow": ("input", 18, "3F70 4817", 0.9386),
        "soda_flow": ("input", 20, "3F11 23A3", 0.56695),
        "air_flow": ("input", 22, "43D0 F0A4", 417.88),
        "condensate_flow": ("input", 24, "418A 7CEE", 17.311),
        "jacket_temperature": ("input", 26, "42EA 6B85", 117.21),
        "filtrate_flow": ("input", 28, "3ED7 A8D6", 0.42121),
        "wash_flow": ("input", 30, "41B2 26E9", 22.269),
        "cake_weight": ("input", 32, "4507 499A", 2164.6),
        "cake_temperature": ("input", 34, "41F2 9FBE", 30.328),
        "moisture": ("input", 36, "42BD 0DD3", 94.527),
        "feed_flow_sp": ("holding", 2, "4307 35C3", 135.21),
        "clear_flow_sp": ("holding", 4, "4092 D4FE", 4.5885),
        "naoh_flow_sp": ("holding", 6, "3E82 4895", 0.25446),
        "acid_flow_sp": ("holding", 8, "40AD 404F", 5.4141),
        "soda_flow_sp": ("holding", 10, "4196 4396", 18.783),
        "air_flow_sp": ("holding", 12, "433E 999A", 190.6),
        "jacket_valve": ("holding", 14, "C262 B852", -56.68),
        "transfer_pump": ("holding", 16, "4228 D917", 42.212),
        "wash_flow_sp": ("holding", 18, "3FB9 DB23", 1.452),
        "heater": ("holding", 20, "41B1 5A1D", 22.169),
        "collect": ("coil", 0, "1", 1.0),
        "recycle": ("coil", 1, "1", 1.0),
        "discharge": ("coil", 2, "1", 1.0),
    },
    "filter_dryer": {
        "identity": ("input", 0, "00E5 08D1", 15010001.0),
        "heartbeat": ("holding", 0, "0002", 2.0),
        "safe_state": ("discrete", 0, "1", 1.0),
        "pressure": ("input", 2, "4023 837B", 2.5549),
        "filtrate_flow": ("input", 4, "4285 449C", 66.634),
        "conductivity": ("input", 6, "43AB 95C3", 343.17),
        "filtrate_ph": ("input", 8, "409E 3886", 4.9444),
        "vessel_weight": ("input", 10, "4488 3052", 1089.51),
        "wash_flow": ("input", 12, "4215 449C", 37.317),
        "caustic_flow": ("input", 14, "4219 449C", 38.317),
        "temperature": ("input", 16, "429D 449C", 78.634),
        "moisture": ("input", 18, "4221 449C", 40.317),
        "slurry_level": ("input", 20, "4225 449C", 41.317),
        "heater_power": ("input", 22, "4229 449C", 42.317),
        "stirrer_speed": ("input", 24, "41CF EBEE", 25.9902),
        "pressure_sp": ("holding", 2, "403F 4396", 2.9885),
        "wash_flow_sp": ("holding", 4, "4235 449C", 45.317),
        "caustic_flow_sp": ("holding", 6, "4239 449C", 46.317),
        "heater": ("holding", 8, "423D 449C", 47.317),
        "stirrer_speed_sp": ("holding", 10, "41E7 EBEE", 28.9902),
        "drain": ("coil", 0, "1", 1.0),
        "discharge": ("coil", 1, "1", 1.0),
    },
    "icp_analyser": {
        "identity": ("input", 0, "00F4 4B11", 16010001.0),
        "heartbeat": ("holding", 0, "0002", 2.0),
        "safe_state": ("discrete", 0, "1", 1.0),
        "sample_done": ("input", 2, "0004", 4.0),
        "sample_source": ("input", 3, "0005", 5.0),
        "ni": ("input", 4, "48A7 9040", 343170.0),
        "co": ("input", 6, "48AC 7240", 353170.0),
        "mn": ("input", 8, "48B1 5440", 363170.0),
        "li": ("input", 10, "48B6 3640", 373170.0),
        "na": ("input", 12, "48BB 1840", 383170.0),
        "k": ("input", 14, "48BF FA40", 393170.0),
        "ca": ("input", 16, "48C4 DC40", 403170.0),
        "mg": ("input", 18, "48C9 BE40", 413170.0),
        "al": ("input", 20, "48CE A040", 423170.0),
        "fe": ("input", 22, "48D3 8240", 433170.0),
        "cu": ("input", 24, "48D8 6440", 443170.0),
        "zn": ("input", 26, "48DD 4640", 453170.0),
        "si": ("input", 28, "48E2 2840", 463170.0),
        "s": ("input", 30, "48E7 0A40", 473170.0),
        "f": ("input", 32, "48EB EC40", 483170.0),
        "cl": ("input", 34, "48F0 CE40", 493170.0),
        "c": ("input", 36, "48F5 B040", 503170.0),
        "acid_insolubles": ("input", 38, "48FA 9240", 513170.0),
        "moisture": ("input", 40, "4251 449C", 52.317),
        "density": ("input", 42, "4526 9D9A", 2665.85),
        "d10": ("input", 44, "4259 449C", 54.317),
        "d50": ("input", 46, "425D 449C", 55.317),
        "d90": ("input", 48, "42E1 449C", 112.634),
        "tap_density": ("input", 50, "4037 6AE8", 2.8659),
        "pb": ("input", 52, "4030 0000", 2.75),
        "sample_point": ("holding", 2, "0009", 9.0),
        "sample_request": ("holding", 3, "0009", 9.0),
    },
    "leach_tank": {
        "identity": ("input", 0, "00B7 4211", 12010001.0),
        "heartbeat": ("holding", 0, "0002", 2.0),
        "safe_state": ("discrete", 0, "1", 1.0),
        "temperature": ("input", 2, "421B 1F21", 38.7804),
        "ph": ("input", 4, "407F D70A", 3.9975),
        "orp": ("input", 6, "433A 570A", 186.34),
        "conductivity": ("input", 8, "43B0 95C3", 353.17),
        "density": ("input", 10, "44A2 6F96", 1299.487),
        "volume": ("input", 12, "3FEE D5D0", 1.8659),
        "hydrogen": ("input", 14, "4219 449C", 38.317),
        "pressure": ("input", 16, "410F 9BA6", 8.9755),
        "stirrer_speed": ("input", 18, "42A1 449C", 80.634),
        "acid_flow": ("input", 20, "4104 36E3", 8.2634),
        "peroxide_flow": ("input", 22, "40A2 7EFA", 5.078),
        "water_flow": ("input", 24, "4281 F375", 64.9755),
        "jacket_temperature": ("input", 26, "428D D07D", 70.9072),
        "press_pressure": ("input", 28, "40E8 05BC", 7.2507),
        "filtrate_flow": ("input", 30, "42B9 449C", 92.634),
        "press_cake": ("input", 32, "4431 7052", 709.755),
        "acid_flow_sp": ("holding", 2, "411A 9D49", 9.6634),
        "peroxide_flow_sp": ("holding", 4, "40BD 6042", 5.918),
        "water_flow_sp": ("holding", 6, "4296 F375", 75.4755),
        "jacket_valve": ("holding", 8, "4028 9375", 2.634),
        "stirrer_speed_sp": ("holding", 10, "42D1 449C", 104.634),
        "transfer_pump": ("holding", 12, "4255 449C", 53.317),
        "press_wash_flow_sp": ("holding", 14, "4259 449C", 54.317),
        "press_discharge": ("coil", 0, "1", 1.0),
        "drive_tripped": ("discrete", 1, "1", 1.0),
        "drive_reset": ("coil", 1, "1", 1.0),
    },
    "purification_tank": {
        "identity": ("input", 0, "00C6 8451", 13010001.0),
        "heartbeat": ("holding", 0, "0002", 2.0),
        "safe_state": ("discrete", 0, "1", 1.0),
        "temperature": ("input", 2, "421B 1F21", 38.7804),
        "ph": ("input", 4, "407F D70A", 3.9975),
        "orp": ("input", 6, "433A 570A", 186.34),
        "volume": ("input", 8, "4034 D35B", 2.8254),
        "stirrer_speed": ("input", 10, "4291 449C", 72.634),
        "naoh_flow": ("input", 12, "40EE D42C", 7.4634),
        "acid_flow": ("input", 14, "4075 3A93", 3.8317),
        "peroxide_flow": ("input", 16, "3FFB A29C", 1.9659),
        "water_flow": ("input", 18, "4221 449C", 40.317),
        "powder_rate": ("input", 20, "41A5 449C", 20.6585),
        "jacket_temperature": ("input", 22, "4287 6A16", 67.7072),
        "press_pressure": ("input", 24, "40DD C84B", 6.9307),
        "filtrate_flow": ("input", 26, "42B1 449C", 88.634),
        "press_cake": ("input", 28, "4462 95C3", 906.34),
        "clear_volume": ("input", 30, "406D 2546", 3.7054),
        "niso4_flow": ("input", 32, "4117 6A16", 9.4634),
        "coso4_flow": ("input", 34, "411A 9D49", 9.6634),
        "mnso4_flow": ("input", 36, "411D D07D", 9.8634),
        "hydrogen": ("input", 38, "4249 449C", 50.317),
        "naoh_flow_sp": ("holding", 2, "4124 36E3", 10.2634),
        "acid_flow_sp": ("holding", 4, "40A7 6A16", 5.2317),
        "peroxide_flow_sp": ("holding", 6, "402A 9E1B", 2.6659),
        "water_flow_sp": ("holding", 8, "4259 449C", 54.317),
        "powder_rate_sp": ("holding", 10, "41DD 449C", 27.6585),
        "jacket_valve": ("holding", 12, "414A 24DD", 12.634),
        "stirrer_speed_sp": ("holding", 14, "42E5 449C", 114.634),
        "transfer_pump": ("holding", 16, "4269 449C", 58.317),
        "press_wash_flow_sp": ("holding", 18, "426D 449C", 59.317),
        "niso4_flow_sp": ("holding", 20, "4141 03B0", 12.0634),
        "coso4_flow_sp": ("holding", 22, "4144 36E3", 12.2634),
        "mnso4_flow_sp": ("holding", 24, "4147 6A16", 12.4634),
        "repulp": ("coil", 0, "1", 1.0),
        "press_discharge": ("coil", 1, "1", 1.0),
        "drive_tripped": ("discrete", 1, "1", 1.0),
        "drive_reset": ("coil", 2, "1", 1.0),
    },
    "weigh_hopper": {
        "identity": ("input", 0, "00A7 FFD1", 11010001.0),
        "heartbeat": ("holding", 0, "0002", 2.0),
        "safe_state": ("discrete", 0, "1", 1.0),
        "weight": ("input", 2, "43C1 E6E9", 387.804),
        "feeder_rate": ("input", 4, "4385 449C", 266.536),
        "feeder_rate_sp": ("holding", 2, "4389 449C", 274.536),
    },
}

# signal: node, data type
NODES: dict[str, dict[str, tuple[str, str]]] = {
    "precipitation_reactor": {
        "identity": ("nsu=urn:blackmass:precipitation-reactor;s=identity", "uint16"),
        "heartbeat": ("nsu=urn:blackmass:precipitation-reactor;s=heartbeat", "uint16"),
        "safe_state": ("nsu=urn:blackmass:precipitation-reactor;s=safe_state", "bool"),
        "temperature": ("nsu=urn:blackmass:precipitation-reactor;s=temperature", "float64"),
        "ph_a": ("nsu=urn:blackmass:precipitation-reactor;s=ph_a", "float64"),
        "ph_b": ("nsu=urn:blackmass:precipitation-reactor;s=ph_b", "float64"),
        "ammonia": ("nsu=urn:blackmass:precipitation-reactor;s=ammonia", "float64"),
        "oxygen": ("nsu=urn:blackmass:precipitation-reactor;s=oxygen", "float64"),
        "volume": ("nsu=urn:blackmass:precipitation-reactor;s=volume", "float64"),
        "d50": ("nsu=urn:blackmass:precipitation-reactor;s=d50", "float64"),
        "stirrer_speed": ("nsu=urn:blackmass:precipitation-reactor;s=stirrer_speed", "float64"),
        "stirrer_power": ("nsu=urn:blackmass:precipitation-reactor;s=stirrer_power", "float64"),
        "feed_flow": ("nsu=urn:blackmass:precipitation-reactor;s=feed_flow", "float64"),
        "naoh_flow": ("nsu=urn:blackmass:precipitation-reactor;s=naoh_flow", "float64"),
        "ammonia_flow": ("nsu=urn:blackmass:precipitation-reactor;s=ammonia_flow", "float64"),
        "water_flow": ("nsu=urn:blackmass:precipitation-reactor;s=water_flow", "float64"),
        "nitrogen_flow": ("nsu=urn:blackmass:precipitation-reactor;s=nitrogen_flow", "float64"),
        "jacket_temperature": ("nsu=urn:blackmass:precipitation-reactor;s=jacket_temperature", "float64"),
        "room_ammonia": ("nsu=urn:blackmass:precipitation-reactor;s=room_ammonia", "float64"),
        "transfer_flow": ("nsu=urn:blackmass:precipitation-reactor;s=transfer_flow", "float64"),
        "feed_flow_sp": ("nsu=urn:blackmass:precipitation-reactor;s=feed_flow_sp", "float64"),
        "naoh_flow_sp": ("nsu=urn:blackmass:precipitation-reactor;s=naoh_flow_sp", "float64"),
        "ammonia_flow_sp": ("nsu=urn:blackmass:precipitation-reactor;s=ammonia_flow_sp", "float64"),
        "water_flow_sp": ("nsu=urn:blackmass:precipitation-reactor;s=water_flow_sp", "float64"),
        "nitrogen_flow_sp": ("nsu=urn:blackmass:precipitation-reactor;s=nitrogen_flow_sp", "float64"),
        "stirrer_speed_sp": ("nsu=urn:blackmass:precipitation-reactor;s=stirrer_speed_sp", "float64"),
        "jacket_valve": ("nsu=urn:blackmass:precipitation-reactor;s=jacket_valve", "float64"),
        "transfer_pump": ("nsu=urn:blackmass:precipitation-reactor;s=transfer_pump", "float64"),
        "seed_rate_sp": ("nsu=urn:blackmass:precipitation-reactor;s=seed_rate_sp", "float64"),
        "drive_tripped": ("nsu=urn:blackmass:precipitation-reactor;s=drive_tripped", "bool"),
        "drive_reset": ("nsu=urn:blackmass:precipitation-reactor;s=drive_reset", "bool"),
    },
    "shredder": {
        "identity": ("nsu=urn:blackmass:shredder;s=identity", "uint16"),
        "heartbeat": ("nsu=urn:blackmass:shredder;s=heartbeat", "uint16"),
        "safe_state": ("nsu=urn:blackmass:shredder;s=safe_state", "bool"),
        "oxygen": ("nsu=urn:blackmass:shredder;s=oxygen", "float64"),
        "temperature": ("nsu=urn:blackmass:shredder;s=temperature", "float64"),
        "hydrogen": ("nsu=urn:blackmass:shredder;s=hydrogen", "float64"),
        "hydrogen_fluoride": ("nsu=urn:blackmass:shredder;s=hydrogen_fluoride", "float64"),
        "motor_current": ("nsu=urn:blackmass:shredder;s=motor_current", "float64"),
        "torque": ("nsu=urn:blackmass:shredder;s=torque", "float64"),
        "rotor_speed": ("nsu=urn:blackmass:shredder;s=rotor_speed", "float64"),
        "feed_rate": ("nsu=urn:blackmass:shredder;s=feed_rate", "float64"),
        "nitrogen_flow": ("nsu=urn:blackmass:shredder;s=nitrogen_flow", "float64"),
        "scrap_weight": ("nsu=urn:blackmass:shredder;s=scrap_weight", "float64"),
        "feed_rate_sp": ("nsu=urn:blackmass:shredder;s=feed_rate_sp", "float64"),
        "rotor_speed_sp": ("nsu=urn:blackmass:shredder;s=rotor_speed_sp", "float64"),
        "nitrogen_flow_sp": ("nsu=urn:blackmass:shredder;s=nitrogen_flow_sp", "float64"),
        "drive_tripped": ("nsu=urn:blackmass:shredder;s=drive_tripped", "bool"),
        "drive_reset": ("nsu=urn:blackmass:shredder;s=drive_reset", "bool"),
    },
}

IDENTITIES = {
    "shredder": 1001,
    "weigh_hopper": 11010001,
    "leach_tank": 12010001,
    "purification_tank": 13010001,
    "precipitation_reactor": 1401,
    "filter_dryer": 15010001,
    "icp_analyser": 16010001,
    "crystalliser": 17010001,
}


def test_every_shipped_device_is_pinned() -> None:
    shipped = {name: profile for name, profile in PROFILES.items() if profile.protocol != "ascii"}  # those are in test_golden_transcripts.py
    assert sorted(shipped) == sorted([*WORDS, *NODES])
    assert {name: profile.identity.value for name, profile in shipped.items()} == IDENTITIES


@pytest.mark.parametrize("name", WORDS)
def test_the_driver_finds_every_value_in_the_words(name: str) -> None:
    memory: dict[tuple[str, int], int] = {}
    for table, address, words, _ in WORDS[name].values():
        for offset, word in enumerate(words.split()):
            memory[table, address + offset] = int(word, 16)
    profile = PROFILES[name]
    out = np.full(len(profile.signals) + 1, np.nan)
    for request in plan(profile):
        block = [memory.get((request.table, request.address + offset), 0xDEAD) for offset in range(request.count)]
        if isinstance(request.block, BitBlock):
            request.block.decode(np.packbits([word == 1 for word in block], bitorder="little").tobytes(), out)
        else:
            request.block.decode(struct.pack(f">{len(block)}H", *block), out)
    for signal, found in zip([*profile.names, "identity"], out, strict=True):
        assert found == pytest.approx(WORDS[name][signal][3], rel=1e-6), signal
    assert len(WORDS[name]) == len(out)


@pytest.mark.parametrize("name", WORDS)
def test_the_simulated_device_serves_these_words(name: str) -> None:
    profile = PROFILES[name]
    plant = StaticPlant({name: profile})
    for signal, (_, _, _, value) in WORDS[name].items():
        if signal != "identity":
            plant.values[name][profile.place(signal)] = value
    device = Device(name, profile, Address.parse("modbus-tcp://127.0.0.1:0"))
    slave = ModbusSlave(Station(device, plant, lambda: 0.0))
    for signal, (table, address, words, _) in WORDS[name].items():
        expected = [int(word, 16) for word in words.split()]
        reply = slave.answer(struct.pack(">BHH", READS[table], address, len(expected)))
        data = b"".join(word.to_bytes(2) for word in expected) if table in ("input", "holding") else bytes(expected)
        assert reply == bytes([READS[table], len(data)]) + data, signal


@pytest.mark.parametrize("name", NODES)
def test_the_nodes_of_an_opcua_device(name: str) -> None:
    profile = PROFILES[name]
    found = {signal: (its.at, its.type) for signal, its in profile.signals.items()}
    assert {"identity": (profile.identity.at, profile.identity.type), **found} == NODES[name]
