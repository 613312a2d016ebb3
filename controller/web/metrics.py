"""What the service says of itself, as Prometheus text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.core.frame import Frame

__all__ = ["prometheus"]

# service point: (metric, help, type, factor to the metric's base unit)
_SERVICE = {
    "SERVICE.SCAN_MS": ("blackmass_scan_seconds", "Execution time of the last scan.", "gauge", 1e-3),
    "SERVICE.LATE_MS": ("blackmass_scan_lateness_seconds", "Lateness of the last scan.", "gauge", 1e-3),
    "SERVICE.QUEUE": ("blackmass_historian_queue_frames", "Frames that wait for the historian.", "gauge", 1.0),
    "SERVICE.DROPPED": ("blackmass_historian_dropped_frames_total", "Frames that the historian has lost since the start.", "counter", 1.0),
}
_DEVICE = {
    "UP": ("blackmass_device_up", "1 while the link to the device is up.", "gauge"),
    "RTT": ("blackmass_device_round_trip_seconds", "Round trip of the last read.", "gauge"),
    "LOSSES": ("blackmass_device_losses_total", "How often the link was lost since the start.", "counter"),
    "UNTAKEN": ("blackmass_device_untaken_outputs", "Outputs that the device does not take.", "gauge"),
    "DROPS": ("blackmass_device_drops_total", "Samples and events that were lost on the way.", "counter"),
    "CERT_DAYS": ("blackmass_device_certificate_days", "Days until a certificate of the link expires.", "gauge"),
    "CLOCK": ("blackmass_device_clock_offset_seconds", "How far the clock of the device, or of its server, is ahead of ours.", "gauge"),
}
_ONLY_IF_KNOWN = ("CERT_DAYS", "CLOCK")  # not every device has them
_ERRORS = "ERRORS_"  # and the kind


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _family(name: str, says: str, kind: str, rows: list[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {says}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        yield f"{name}{labels} {'NaN' if value != value else format(value, '.10g')}"


def prometheus(cell: dict[str, Any], frame: Frame | None, age: float, clients: int) -> str:
    """Return the metrics of one frame; `age` [s] is how long ago it came."""
    about = f"{{version={_quote(str(cell['version']))},cell={_quote(str(cell['cell']))},mode={_quote(str(cell['mode']))}}}"
    lines = [
        *_family("blackmass_info", "What runs here.", "gauge", [(about, 1.0)]),
        *_family("blackmass_frame_age_seconds", "How long ago control gave the newest frame.", "gauge", [("", age)]),
        *_family("blackmass_page_clients", "Pages that are open.", "gauge", [("", float(clients))]),
    ]
    if frame is None:
        return "\n".join(lines) + "\n"
    value = {point["name"]: float(frame.value[place]) for place, point in enumerate(cell["points"])}
    for point, (name, says, kind, factor) in _SERVICE.items():
        if point in value:
            lines += _family(name, says, kind, [("", value[point] * factor)])
    for part, (name, says, kind) in _DEVICE.items():
        rows = [(f"{{device={_quote(device['name'])}}}", value.get(f"{device['name']}.{part}")) for device in cell["devices"]]
        lines += _family(
            name,
            says,
            kind,
            [(label, reading) for label, reading in rows if reading is not None and (reading == reading or part not in _ONLY_IF_KNOWN)],
        )
    errors = [
        (f"{{device={_quote(device['name'])},kind={_quote(point.rpartition(_ERRORS)[2].lower())}}}", reading)
        for device in cell["devices"]
        for point, reading in value.items()
        if point.startswith(f"{device['name']}.{_ERRORS}")
    ]
    lines += _family("blackmass_device_errors_total", "Errors of the link by kind.", "counter", errors)
    waiting = [alarm.priority for alarm in frame.alarms if alarm.state != "acknowledged"]
    counts = [(f'{{priority="{level}"}}', float(waiting.count(level))) for level in (1, 2, 3)]
    lines += _family("blackmass_alarms_unacknowledged", "Alarms that nobody has acknowledged.", "gauge", counts)
    lines += _family("blackmass_scans_total", "Scans since the start of control.", "counter", [("", float(frame.seq + 1))])
    return "\n".join(lines) + "\n"
