"""What a cell finds out about itself: devices that cannot be worked with, and the alarms that it raises by itself. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from controller.batch.procedure import Procedure
from controller.core.alarms import Raised
from controller.core.plan import CellPlan
from controller.core.states import State
from drivers.tags import FloatArray, IndexArray

__all__ = ["Diagnosis"]

_EXPIRES_SOON = 30.0  # [d]
_HOLD = (State.HOLDING, State.HELD, State.RESTARTING)


class Diagnosis:
    """Looks at the inputs (n,) of a scan, the image and the selectors behind it."""

    def __init__(self, plan: CellPlan) -> None:
        self.plan = plan
        self._certificates = np.array([row.certificate for row in plan.devices.values()], dtype=np.intp)
        ups = np.array([row.up for row in plan.devices.values()], dtype=np.intp)
        untaken = np.array([row.untaken for row in plan.devices.values()], dtype=np.intp)
        safes = np.array([row.safe for row in plan.devices.values() if row.safe >= 0], dtype=np.intp)
        # one comparison for what nearly every scan finds: all devices up, none with an output untaken or in its safe state
        self._fitness = np.concatenate((ups, untaken, safes))
        self._fit = np.concatenate((np.ones(len(ups)), np.zeros(len(untaken) + len(safes))))

    def unfit(self, values: FloatArray) -> dict[str, str]:
        """Return the devices that cannot be worked with, and what is wrong with each."""
        wrong: dict[str, str] = {}
        if np.count_nonzero(values[self._fitness] == self._fit) == len(self._fit):
            return wrong
        for name, row in self.plan.devices.items():
            if values[row.up] != 1.0:
                wrong[name] = f"has lost device {name} ({row.device.address})"
            elif row.safe >= 0 and values[row.safe] > 0.5:
                wrong[name] = f"cannot use device {name}: it has fallen to its own safe state"
            elif values[row.untaken] > 0.0:
                wrong[name] = f"cannot use device {name}: it does not take {values[row.untaken]:.0f} of its outputs"
        return wrong

    def first_out(self, name: str, values: FloatArray) -> str:
        """Return what an interlock does, which permit is not given, and by what."""
        rows = self.plan.interlocks
        row = rows.names.index(name)
        tag = self.plan.inputs[int(rows.permit.place[row])]
        value = values[rows.permit.place[row]]
        now = f"{tag.name} is {value:.4g} {tag.eu}" if np.isfinite(value) else f"{tag.name} is not known"
        return f"{rows.texts[row]} (permit {rows.says[row]}, {now})"

    def alarms(
        self,
        values: FloatArray,
        lost: Mapping[str, str],
        acting: Sequence[str],
        blind: IndexArray,
        doubted: Sequence[int],
        procedure: Procedure | None,
    ) -> dict[str, Raised]:
        """Return the alarms that are so now.

        `lost` says why devices do not answer, `acting` are the interlocks that hold, `blind` the loops in AUTO without a measurement, and `doubted`
        the selectors whose measurements disagree.
        """
        raised: dict[str, Raised] = {}
        for name, wrong in self.unfit(values).items():
            if values[self.plan.devices[name].up] != 1.0:
                address, why = str(self.plan.devices[name].device.address), lost.get(name, "")
                at = "" if address in why else f" at {address}"
                raised[f"LINK-{name}"] = Raised(
                    "",
                    1,
                    f"Device {name} does not answer{at}" + (f": {why}" if why else ""),
                    "cable, power, address or certificate",
                    "its values are BAD; units that need it hold",
                    "bring it back, then RESTART the batch",
                    follows=True,
                )
            else:
                raised[f"DEVICE-{name}"] = Raised(
                    "", 1, f"The cell {wrong}", "see the device", "outputs are not what was asked; units that need it hold", "mend it, then RESTART"
                )
        names = tuple(self.plan.devices)
        for place in (values[self._certificates] < _EXPIRES_SOON).nonzero()[0]:
            days = values[self._certificates[place]]
            raised[f"CERT-{names[place]}"] = Raised(
                "",
                3,
                f"A certificate of the link to device {names[place]} expires in {days:.0f} d",
                "its time is over",
                "the link is refused from then on",
                "see blackmass certificates; renew it, and let the other side trust the new one",
            )
        rows = self.plan.interlocks
        for name in acting:
            row = rows.names.index(name)
            raised[name] = Raised(
                rows.units[row], 1, f"Interlock {name} holds: {self.first_out(name, values)}", "see the permit", rows.texts[row], "remove the cause"
            )
        loops = self.plan.loops
        for place in blind:
            name, tag = loops.names[place], self.plan.inputs[int(loops.pv[place])].name
            raised[f"PV-{name}"] = Raised(
                "",
                2,
                f"Loop {name} in AUTO does not know {tag}",
                "sensor or device",
                "its output stays where it is",
                "take it to MAN, mend the sensor",
            )
        for selector in doubted:
            name = self.plan.inputs[len(self.plan.image) + selector].name
            raised[f"DIFF-{name}"] = Raised(
                "",
                2,
                f"The measurements behind {name} disagree, or one is lost",
                "drift or coating",
                f"{name} is UNCERTAIN",
                "compare with a grab sample",
            )
        if values[self.plan.service["SERVICE.UNSTORED"]] > 0.5:
            raised["HISTORIAN"] = Raised("", 2, "The historian cannot write", "disk full or gone", "telemetry is lost and ledgered", "free some disk")
        if procedure is not None:
            for name, why in procedure.warnings().items():
                raised[name] = Raised("", 3, why, "see the recipe", "a deviation of this batch", "look at the unit")
            state = procedure.state
            if state.state in _HOLD:
                raised["BATCH-HELD"] = Raised(
                    "", 2, f"Batch {state.id} is held: {state.why}", "see the reason", "the product waits", "remove the cause, then RESTART"
                )
        return raised
