"""A certificate that expires soon is an alarm of the cell. No sockets."""

from __future__ import annotations

from controller.config import cell_path, load_cell
from controller.runtime.lockstep import Lockstep
from simulators.bench import StaticPlant


class Plant(StaticPlant):
    def advance(self, dt: float) -> None:
        self.time += dt


def test_a_certificate_that_expires_within_30_days_is_an_alarm_of_priority_3() -> None:
    plan = load_cell(cell_path("demo")).plan
    step = Lockstep(plan, Plant({name: row.device.profile for name, row in plan.devices.items()}), dt=5.0)

    def alarms() -> dict[str, tuple[int, str, str]]:
        return {view.name: (view.priority, view.text, view.state) for view in step.step().frame.alarms if view.name.startswith("CERT-")}

    assert alarms() == {}  # there is none
    step.drivers["shredder"].metrics.certificate_days = 31.0
    assert alarms() == {}
    step.drivers["shredder"].metrics.certificate_days = 12.3
    assert alarms() == {"CERT-shredder": (3, "A certificate of the link to device shredder expires in 12 d", "unacknowledged")}
    step.drivers["shredder"].metrics.certificate_days = 1800.0
    assert alarms()["CERT-shredder"][2] == "returned"
