"""The plant: the units coupled, their instruments, and the simulator's own ledger of what is true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from drivers.device import Profile, Signal
from drivers.image import dense
from drivers.tags import FloatArray, IndexArray
from simulators.actuators import Actuators, Output, actuator
from simulators.components import CO, HEAT, LI, LIQUOR, MN, NI, OXIDE, WATER, vector
from simulators.constants import draw_shifts
from simulators.crystalliser import Crystalliser
from simulators.equilibrium import Table
from simulators.faults import Fault, Faults, motor_of
from simulators.feed import Feed
from simulators.filtration import FilterDryer
from simulators.heats import Heats
from simulators.instance import PlantParameters, instance_parameters
from simulators.instruments import Instrument, StatusArray, Transmitters, instrument
from simulators.laboratory import Laboratory, Sample, liquid_sample, purity, solid_sample
from simulators.leach import LeachTank
from simulators.precipitation import Reactor
from simulators.protection import INTERLOCKS, Protection
from simulators.purification import PurificationTank
from simulators.readouts import Readout
from simulators.shredder import Hopper, Shredder, carry_over
from simulators.vessels import Content, Ledger, held

__all__ = ["Plant"]

_METALS = ("Ni", "Co", "Mn")
_CHARGE = 500.0  # [kg] black mass of a full batch
_CONVEYOR = 1e6  # [kg] scrap that can be loaded at once


class _Unit(Protocol):
    @property
    def measures(self) -> tuple[str, ...]: ...
    @property
    def sets(self) -> tuple[str, ...]: ...
    def measure(self) -> tuple[float, ...]: ...


class Plant:
    """Eight units in series, and two instruments beside them. Physics advance in whole steps; reading never changes anything.

    `profiles`: device name -> profile; the profile's id decides which unit it is. `scrap` [kg] lies on the shredder's conveyor, by
    default as much as makes a full batch of 500 kg black mass. A unit without a device stands still. `instance`: seed of a plant instance,
    whose assumed parameters, equilibrium constants and errors of instruments are drawn from their ranges; by default the nominal plant.
    `faults` come and go at their plant times; see `Plant.faults`.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        *,
        feed: Feed,
        seed: int = 0,
        step: float = 1.0,
        scrap: float | None = None,
        instance: int | None = None,
        faults: Faults | None = None,
    ) -> None:
        if not (math.isfinite(step) and 0.0 < step <= 10.0):
            raise ValueError(f"step: expected 0 to 10 s, got {step:g} s")
        self.time = 0.0
        self._step, self._due = step, 0.0
        self._rng = np.random.default_rng(seed)
        self.faults = Faults(seed=seed) if faults is None else faults
        self._failing: tuple[Fault, ...] = ()
        self.ledger = Ledger()
        parameters = PlantParameters() if instance is None else instance_parameters(instance)
        table = Table() if instance is None else Table(draw_shifts(instance))
        heats = Heats(parameters.heats)
        self.feed = feed = feed.with_foil(carry_over(parameters.shredder))
        self.shredder = Shredder(0.0, parameters.shredder)
        self.hopper = Hopper()
        self.leach = LeachTank(feed, parameters.leach, table, heats)
        self.load(_CHARGE / self.shredder.p.fines if scrap is None else scrap)
        self.purification = PurificationTank(parameters.purification, table, heats)
        self.reactor = Reactor(self.leach.metal_share, parameters.reactor, table, heats)
        self.filter = FilterDryer(parameters.filter, table, heats)
        self.crystalliser = Crystalliser(parameters.crystalliser, table, heats)
        self.laboratory = Laboratory(parameters.laboratory)
        self._wall = float(held(self._wet())[HEAT])  # [kJ] of the empty vessels at the start
        self._units: dict[str, _Unit] = {
            "shredder": self.shredder, "weigh_hopper": self.hopper, "leach_tank": self.leach, "purification_tank": self.purification,
            "precipitation_reactor": self.reactor, "filter_dryer": self.filter, "crystalliser": self.crystalliser,
            "icp_analyser": self.laboratory,
            "ph_transmitter": Readout({"ph": lambda: self.filter.mirror[1], "temperature": lambda: self.filter.temperature}),
            "balance": Readout({"weight": lambda: self.hopper.measure()[0] - self._set["balance"]["tare"]}, ("tare",)),
        }  # fmt: skip
        self._set: dict[str, dict[str, float]] = {kind: dict.fromkeys(unit.sets, 0.0) for kind, unit in self._units.items()}
        self._profiles = dict(profiles)
        self._values: dict[str, FloatArray] = {}
        self._places: dict[str, dict[str, int]] = {}
        # noise has a stream of its own: another instrument or fault does not move the jams of the shredder
        self._connect(np.random.default_rng([seed, 1]), None if instance is None else np.random.default_rng([instance, 2]))
        self._measure(step)

    def _connect(self, noise: np.random.Generator, errors: np.random.Generator | None) -> None:
        """Match every signal with what its unit measures or takes."""
        outputs: list[Output] = []
        self._takes: list[tuple[dict[str, float], list[str], int, int]] = []  # setpoints of a unit, their names, slice of the actuators
        self._felt = b""  # what the units felt in the last step
        self._writable: dict[str, dict[str, tuple[Signal, int]]] = {}  # device -> signal -> with its place in the profile
        self._sensors: dict[tuple[str, str], int] = {}  # (device, signal) -> place in the transmitters
        kinds: list[Instrument] = []
        signals = []
        self._spread: dict[str, tuple[IndexArray | slice, slice]] = {}  # device -> places in its profile, slice of the transmitters
        self._order: list[tuple[_Unit, list[int] | None]] = []  # None: everything that the unit measures, in its order
        self._devices: dict[str, str] = {}  # profile id -> device
        for device, profile in self._profiles.items():
            unit = self._units.get(profile.id)
            if unit is None:
                raise ValueError(f"device {device!r}: no simulated unit for profile {profile.id!r}; known: {', '.join(self._units)}")
            if profile.id in self._devices:
                raise ValueError(f"device {device!r}: unit {profile.id!r} is already {self._devices[profile.id]!r}")
            self._devices[profile.id] = device
            beat = profile.heartbeat.signal if profile.heartbeat else ""
            values = np.zeros(len(profile.names))  # all but what is measured
            measured, sources, names = list[int](), list[int](), list[str]()
            for place, (name, signal) in enumerate(profile.signals.items()):
                if name in (beat, "safe_state", "drive_tripped", "drive_reset"):
                    continue
                if signal.access == "write":
                    if name not in unit.sets:
                        raise ValueError(f"device {device!r}: the simulated {profile.id} takes no {name!r}; it takes {', '.join(unit.sets)}")
                    values[place] = self._set[profile.id][name] = signal.safe
                    names.append(name)
                    outputs.append(Output(device, name, signal, actuator(name, profile.id, signal)))
                else:
                    if name not in unit.measures:
                        raise ValueError(f"device {device!r}: the simulated {profile.id} does not measure {name!r}")
                    measured.append(place)
                    sources.append(unit.measures.index(name))
                    self._sensors[device, name] = len(kinds)
                    kinds.append(instrument(name, profile.id))
                    signals.append(signal)
            self._values[device] = values
            self._places[device] = {name: place for place, name in enumerate(profile.names)}
            self._spread[device] = dense(np.array(measured, dtype=np.intp)), slice(len(kinds) - len(measured), len(kinds))
            self._order.append((unit, None if sources == list(range(len(unit.measures))) else sources))
            writable = ((place, name, signal) for place, (name, signal) in enumerate(profile.signals.items()) if signal.access == "write")
            self._writable[device] = {name: (signal, place) for place, name, signal in writable}
            self._takes.append((self._set[profile.id], names, len(outputs) - len(names), len(outputs)))
        self._transmitters = Transmitters(kinds, signals, self._step, noise, errors)
        motors = {device: motor for device, profile in self._profiles.items() if (motor := motor_of(profile)) is not None}
        self._actuators = Actuators(outputs, motors, self._step)
        self._trips = [(drive, self._values[device], self._places[device]["drive_tripped"]) for device, drive in self._actuators.drives.items()]
        self._feedback = {
            row: self._sensors[device, name.removesuffix("_sp")]
            for (device, name), row in self._actuators.rows.items()
            if (device, name.removesuffix("_sp")) in self._sensors
        }
        rows = [
            (device, interlock, self._sensors[device, interlock.signal])
            for device, profile in self._profiles.items()
            for interlock in INTERLOCKS
            if interlock.profile == profile.id and (device, interlock.signal) in self._sensors
        ]
        self._protection = Protection(rows, self._actuators.rows)

    def load(self, scrap: float) -> None:
        """Put `scrap` [kg] of cells on the conveyor."""
        if not 0.0 <= scrap <= _CONVEYOR:  # true for NaN
            raise ValueError(f"scrap: expected 0 to {_CONVEYOR:g} kg, got {scrap:g} kg")
        self.shredder.scrap += scrap
        self.ledger.enter("black mass", self.leach.per_kg * (scrap * self.shredder.p.fines), OXIDE)

    def advance(self, dt: float) -> None:
        """Advance plant time by `dt` [s]; physics only when a whole step is due."""
        if not (math.isfinite(dt) and dt >= 0.0):
            raise ValueError(f"dt: expected at least 0 s, got {dt:g} s")
        self.time += dt
        self._due += dt
        while self._due >= self._step - 1e-9:
            self._due -= self._step
            self._physics(self._step)

    def _physics(self, dt: float) -> None:
        sp, ledger = self._set, self.ledger
        self._act()
        fines = self.shredder.step(sp["shredder"], dt, self._rng)
        charge = self.hopper.step(sp["weigh_hopper"], dt, fines)
        liquor, passed = self.leach.step(sp["leach_tank"], dt, charge, ledger)
        self.purification.step(sp["purification_tank"], dt, liquor, passed, ledger)
        slurry = self.reactor.step(sp["precipitation_reactor"], dt, self.purification, self.filter.room, ledger)
        filtrate = self.filter.step(sp["filter_dryer"], dt, slurry, ledger)
        self.crystalliser.step(sp["crystalliser"], dt, filtrate, self.purification, ledger)
        self.laboratory.step(sp["icp_analyser"], self.time - self._due, self._rng, self.sample)
        self._measure(dt)

    def _act(self) -> None:
        """Let faults come and go, and move the actuators."""
        failing = self.faults.active(self.time - self._due)
        if failing is not self._failing:
            self._failing = failing
            sensors, actuators = self._sensors, self._actuators
            at = [((fault.device, fault.signal), fault) for fault in failing if fault.signal]
            for target, fault in at:
                if target not in sensors and target not in actuators.rows:
                    raise ValueError(f"fault {fault}: this plant has no {fault.device}.{fault.signal}; make faults with simulators.faults.parse")
            self._transmitters.fail([(sensors[target], fault) for target, fault in at if target in sensors], self.faults.rng)
            actuators.fail([(actuators.rows[target], fault) for target, fault in at if target in actuators.rows])
        if self.shredder.overload:
            self.shredder.overload = False
            self._actuators.trip(self._devices["shredder"])
        felt = self._actuators.step(self._protection.forced)
        if felt.tobytes() != self._felt:
            self._felt = felt.tobytes()
            values = felt.tolist()
            for setpoints, names, start, stop in self._takes:
                setpoints.update(zip(names, values[start:stop], strict=True))
        for drive, shown, place in self._trips:
            shown[place] = drive.tripped

    def _measure(self, dt: float) -> None:
        true: list[float] = []
        for unit, sources in self._order:
            values = unit.measure()
            true += values if sources is None else [values[source] for source in sources]
        if true:
            for row in self._actuators.lost:
                if row in self._feedback:
                    true[self._feedback[row]] = float(self._actuators.position[row])
            out = self._transmitters.step(true, self.time - self._due)
            self._protection.judge(out, self._transmitters.status, dt)

    def read(self, device: str) -> FloatArray:
        """Return all signals of a device in the order of its profile [eu of each], shape (n,)."""
        values = self._values[device].copy()
        places, measured = self._spread[device]
        values[places] = self._transmitters.value[measured]
        return values

    def write(self, device: str, signal: str, value: float) -> None:
        """Take a setpoint; raise `ValueError` when it is not writable, not finite or out of range."""
        profile = self._profiles.get(device)
        if profile is None:
            raise ValueError(f"no device {device!r}; known: {', '.join(self._profiles)}")
        found = self._writable[device].get(signal)
        if found is None:
            raise ValueError(f"{device}.{signal}: expected a writable signal of {profile.id}, one of {', '.join(self._writable[device])}")
        entry, place = found
        low, high = entry.range
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{device}.{signal}: expected {low:g} to {high:g} {entry.eu}, got {value:g} {entry.eu}".replace("  ", " ").rstrip())
        if entry.discrete:
            value = 1.0 if value >= 0.5 else 0.0
        values, places = self._values[device], self._places[device]
        if signal == "drive_reset" and value > values[place]:
            self._reset(device)
        values[place] = value
        if profile.heartbeat is not None and signal == profile.heartbeat.signal:
            if "safe_state" in places:
                values[places["safe_state"]] = 0.0
            return
        if signal != "drive_reset":
            self._actuators.ask(self._actuators.rows[device, signal], value)

    def _reset(self, device: str) -> None:
        """Unlock a motor that has tripped and stands, after a person has taken away what stopped it."""
        if self._actuators.reset(device) and self._profiles[device].id == "shredder":
            self.shredder.clear()

    def status(self, device: str) -> StatusArray:
        """Return what the instruments of a device say of themselves (0 good, 1 uncertain, 2 failed), in the order of its profile, shape (n,)."""
        status = np.zeros(len(self._values[device]), dtype=np.uint8)
        places, measured = self._spread[device]
        status[places] = self._transmitters.status[measured]
        return status

    def protections(self) -> tuple[str, ...]:
        """Return the local interlocks that stand, as ``device: what``."""
        return self._protection.standing()

    def safe(self, device: str) -> None:
        """Put a device into its safe state; a later write of its heartbeat ends it."""
        profile = self._profiles[device]
        values, places = self._values[device], self._places[device]
        beat = profile.heartbeat.signal if profile.heartbeat else ""
        for name, signal in profile.signals.items():
            if signal.access == "write" and name != beat:
                values[places[name]] = signal.safe
                if name != "drive_reset":
                    self._actuators.ask(self._actuators.rows[device, name], signal.safe)
        if "safe_state" in places:
            values[places["safe_state"]] = 1.0

    def sample(self, point: int) -> Sample:
        """Return the true sample at a point of the analyser; an empty one where there is nothing."""
        if point == 1:
            return solid_sample(self.feed.per_kg(), 1.0, moisture=0.5)
        if point == 2:
            return liquid_sample(self.leach.liquor)
        if point == 3:
            return liquid_sample(self.purification.clear)
        if point == 4:
            reactor = self.reactor
            return solid_sample(reactor.solids, reactor.solid_mass, size=reactor.particles.percentiles(), tap=reactor.particles.tap(reactor.p))
        if point == 5:
            content = self.filter.content()
            if content is None:
                return Sample()
            size, tap = content.particles.percentiles(), content.particles.tap(self.reactor.p)
            return solid_sample(content.inventory, content.solid, moisture=content.moisture, size=size, tap=tap)
        if point in (6, 7):
            press = (self.leach if point == 6 else self.purification).press
            liquor, solids, dry = (press.liquor, press.solids, press.dry) if press.dry > 0.0 else press.last
            wet = float(liquor[WATER])
            return solid_sample(solids.sum(axis=0) + liquor, dry, moisture=100.0 * wet / (wet + dry) if dry > 0.0 else 0.0)
        if point == 8:
            return liquid_sample(self.crystalliser.liquor)
        if point == 9:
            crystals = self.crystalliser.content()
            return Sample() if crystals is None else solid_sample(crystals.inventory, crystals.dry, moisture=crystals.moisture)
        if point == 10:
            return liquid_sample(self.crystalliser.tank)
        return Sample()

    def truth(self) -> dict[str, float]:
        """Return what only the simulator knows.

        Ni+Co+Mn [mol] charged, added, in product, held and lost by outlet; recovery [%]; of the product composition and purity P [wt%];
        Li [mol] sold as carbonate.
        """
        ledger = self.ledger
        charged = self.leach.charged
        salts = sum(2.0 * ledger.dosed.get(name, 0.0) for name in ("niso4", "coso4", "mnso4"))
        solids = sum(_metal(ledger.into.get(name)) for name in ("nickel powder", "seed"))
        product = _metal(ledger.out.get("product"))
        out = {"charged": charged, "added": salts + solids, "added_salts": salts, "added_solids": solids, "product": product}
        for outlet, inventory in ledger.out.items():
            if outlet != "product":
                out[f"lost.{outlet}"] = _metal(inventory)
        out["held"] = _metal(held(self._wet()))
        out["recovery"] = 100.0 * (product - out["added"]) / charged if charged > 0.0 and product > 0.0 else math.nan
        sold = ledger.out.get("lithium_carbonate")
        if sold is not None:
            out["lithium_carbonate"] = float(sold[LI])
        content = self.filter.content()
        if content is not None:
            sample = self.sample(5)
            out.update({f"product.{element}": share * 1e-4 for element, share in sample.composition.items()})
            out["purity"] = purity(sample.composition)
            out["product_mass"] = content.solid
            out["moisture"] = content.moisture
            out["d10"], out["d50"], out["d90"] = sample.size
            out["tap_density"] = sample.tap
        out["leached"] = 100.0 * (1.0 - sum(self.leach.left) / sum(self.leach.fed)) if sum(self.leach.fed) > 0.0 else math.nan
        return out

    def _wet(self) -> Content:
        """Return all that the units behind the hopper hold."""
        return [part for unit in (self.leach, self.purification, self.reactor, self.filter, self.crystalliser) for part in unit.holds()]

    def balance(self) -> dict[str, float]:
        """Return the relative closure error, (in - out - held) / in, of each element and of the energy.

        The energy is counted from the black mass on: what the shredder takes and gives stays in its own chamber's balance.
        """
        black_mass = (self.shredder.scrap + self.shredder.held) * self.shredder.p.fines + self.hopper.weight
        return self.ledger.error([(self.leach.per_kg * black_mass, OXIDE), *self._wet(), (vector({HEAT: -self._wall}), LIQUOR)])


def _metal(inventory: FloatArray | None) -> float:
    if inventory is None:
        return 0.0
    return float(inventory[[NI, CO, MN]].sum())
