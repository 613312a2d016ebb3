"""How a type of device wants to be talked to over Modbus: the `[modbus]` table of a profile. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from drivers.shapes import STRICT, seconds

__all__ = ["AT", "ByteOrder", "ModbusOptions", "Span", "Table", "WordOrder", "span_of"]

Table = Literal["input", "discrete", "holding", "coil"]
ByteOrder = Literal["big", "little"]
# of the words w3 w2 w1 w0, most significant first: mid_big is w2 w3 w0 w1, mid_little is w1 w0 w3 w2
WordOrder = Literal["big", "little", "mid_big", "mid_little"]
AT: Final = re.compile(r"(coil|discrete|input|holding):(\d+)$")
_SPAN: Final = re.compile(r"(coil|discrete|input|holding):(\d+)-(\d+)$")
Span = tuple[Table, int, int]  # table, first and last address, both in it


def span_of(text: str) -> Span:
    """Return the addresses written as ``holding:0-99``; raise `ValueError` on anything else.

    >>> span_of("holding:0-99")
    ('holding', 0, 99)
    """
    match = _SPAN.fullmatch(text)
    if match is None or not int(match[2]) <= int(match[3]) <= 65536:
        raise ValueError(f"expected coil|discrete|input|holding:FIRST-LAST, got {text!r}")
    return match[1], int(match[2]), int(match[3])  # type: ignore[return-value]  # the pattern allows nothing else


def _is_span(text: str) -> str:
    span_of(text)
    return text


def _pause(text: str | float) -> float:
    return 0.0 if text == 0 else seconds(text)


_Spans = tuple[Annotated[str, AfterValidator(_is_span)], ...]


class ModbusOptions(BaseModel):
    """How a type of device wants to be talked to over Modbus."""

    model_config = STRICT

    address_base: Literal[0, 1] = 0
    byte_order: ByteOrder = "big"
    word_order: WordOrder = "big"
    max_registers: int = Field(default=125, ge=1, le=125)
    max_bits: int = Field(default=2000, ge=1, le=2000)
    max_write_registers: int = Field(default=123, ge=1, le=123)
    gap: int = Field(default=8, ge=0, le=125)  # unused registers that are cheaper to read than another request
    readable: _Spans = ()  # "holding:0-99"; a table without any is readable everywhere
    forbidden: _Spans = ()  # never asked for, not even as a gap
    pause: Annotated[float, BeforeValidator(_pause)] = 0.0  # [s] between two requests to one unit
    in_flight: int = Field(default=1, ge=1, le=8)  # requests that may wait for their replies at once; TCP only
    write_single: bool = True  # one register is written by function 6; else by 16
    write_runs: bool = False  # neighbours that are asked for together are written in one request, function 15 or 16
    mask_write: bool = False  # it has function 22, so one bit of a register can be written
