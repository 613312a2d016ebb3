"""What may stand in a cell file: its shape, key by key. What it means is in `controller.config`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from drivers import eu
from drivers.device import Policy

__all__ = [
    "Alarm",
    "CellFile",
    "DeviceEntry",
    "InfluxConfig",
    "Interlock",
    "Loop",
    "OutputRole",
    "Part",
    "Selector",
    "TagBinding",
    "Unit",
    "WebConfig",
]


class Part(BaseModel):
    """A part of the file: unknown keys are refused, and it never changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def in_eu(wanted: str) -> Callable[[str | float], float]:
    """Return a check that turns text with its eu into a value [`wanted`], at least 0."""

    def check(text: str | float) -> float:
        quantity = eu.parse(text)
        if quantity.eu == "" and wanted != "":
            raise ValueError(f"expected a value with its eu, such as '1 {wanted}', got {text!r}")
        value = quantity.to(wanted)
        if value < 0:
            raise ValueError(f"expected at least 0 {wanted}, got {text!r}")
        return value

    return check


Seconds = Annotated[str | float, AfterValidator(in_eu("s"))]
Period = Annotated[str | float, AfterValidator(in_eu("s"))]


class TagBinding(Part):
    """A tag: the signal behind it, and what the cell says differently from the profile."""

    signal: str
    description: str = ""
    range: tuple[float, float] | None = None
    rest: float | Literal["last"] | None = None


class DeviceEntry(Part):
    """A device: a profile at an address, and the names of its signals here."""

    profile: str
    address: str
    poll: Period | None = None
    security: Policy | None = None  # of OPC UA; "none" has to be written
    security_mode: Literal["sign", "sign_and_encrypt"] = "sign_and_encrypt"
    user: str = ""
    password_file: str = ""
    tags: dict[str, str | TagBinding]


class Selector(Part):
    """One measurement made of several."""

    of: list[str] = Field(min_length=2)
    agree_within: str
    description: str = ""


class FeedForward(Part):
    """What a loop adds before its limits."""

    of: str
    gain: float


class Loop(Part):
    """A controller. Gain [eu of OUT per eu of PV], reset [s] after loading."""

    description: str = ""
    pv: str
    out: str
    gain: float
    reset: Seconds
    beta: float = Field(default=1.0, ge=0, le=1)
    sp_range: tuple[float, float] | None = None
    out_range: tuple[float, float] | None = None
    feed_forward: FeedForward | None = None


class OutputRole(Part):
    """A role that is put out, and where its effect is measured."""

    output: str
    feedback: str | None = None


class Unit(Part):
    """An ISA-88 unit: its class, and its roles bound to tags or loops."""

    unit_class: str = Field(alias="class")
    description: str = ""
    key: list[str] = []
    roles: dict[str, str | OutputRole]


class Interlock(Part):
    """A permit and what stands while it is not given."""

    name: str
    permit: str
    hysteresis: str | None = None
    delay: Seconds = 0.0
    latch: bool = False
    effects: dict[str, float] = Field(min_length=1)
    text: str


class Alarm(Part):
    """A condition that a person should act on."""

    name: str
    when: str
    enable: str | None = Field(default=None, alias="while")
    hysteresis: str | None = None
    delay: Seconds = 0.0
    priority: Literal[1, 2, 3] = 3
    text: str
    cause: str = ""
    consequence: str = ""
    action: str = ""


class InfluxConfig(Part):
    """Where telemetry is streamed to."""

    url: str
    org: str
    bucket: str
    token_file: str | None = None
    token_env: str = "BLACKMASS_INFLUX_TOKEN"


class WebConfig(Part):
    """Where the page is served; anything but loopback needs TLS and users, which this version does not have."""

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)


class Head(Part):
    """The cell itself."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    description: str = ""
    scan: Period = 0.1
    simulated: bool = False


class CellFile(Part):
    """A whole cell file."""

    cell: Head
    devices: dict[str, DeviceEntry] = Field(min_length=1)
    selectors: dict[str, Selector] = {}
    loops: dict[str, Loop] = {}
    units: dict[str, Unit] = {}  # none: a cell that only looks
    interlocks: list[Interlock] = []
    alarms: list[Alarm] = []
    influx: InfluxConfig | None = None
    web: WebConfig = WebConfig()
