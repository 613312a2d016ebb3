"""What the models of files share: how strict they are, an eu that is known, a time with its eu."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from drivers import eu

__all__ = ["STRICT", "Eu", "Seconds", "seconds"]

STRICT: Final = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _known_eu(text: str) -> str:
    try:
        eu.factor(text, text)
    except eu.EuError as error:
        near = eu.nearest(text)
        raise ValueError(f"eu {text!r} is not known; did you mean {near!r}?" if near else str(error)) from None
    return text


def seconds(text: str | float) -> float:
    """Return the time [s] written as text with its eu; raise `ValueError` without one, and for what is not above 0."""
    quantity = eu.parse(text)
    if quantity.eu == "":
        raise ValueError(f"expected a time with its eu, such as '100 ms', got {text!r}")
    if (value := quantity.to("s")) <= 0.0:
        raise ValueError(f"expected a time above 0 s, got {text!r}")
    return value


Eu = Annotated[str, AfterValidator(_known_eu)]
Seconds = Annotated[float, BeforeValidator(seconds)]  # written as text with its eu
