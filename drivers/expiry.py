"""When the certificates of a link expire."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from cryptography import x509

__all__ = ["Ending", "Expiry", "endings"]

log = logging.getLogger(__name__)

_DAY: Final = 86400.0  # [s]
_WARN: Final = 30.0  # [d] before a certificate expires


class Ending(NamedTuple):
    """When a certificate expires [s since 1970], and whose it is."""

    time: float
    subject: str


def endings(certificates: Iterable[x509.Certificate]) -> list[Ending]:
    """Return when each certificate expires."""
    return [Ending(one.not_valid_after_utc.timestamp(), one.subject.rfc4514_string()) for one in certificates]


class Expiry:
    """When the first certificate of a link expires. The log warns once, 30 days ahead."""

    def __init__(self, link: str, ends: Iterable[Ending]) -> None:
        self._link = link
        self._first = min(ends, default=None)
        self._warned = False

    def days(self) -> float:
        """Return the days that are left now, to a tenth; infinite without certificates."""
        if self._first is None:
            return math.inf
        left = (self._first.time - time.time()) / _DAY
        if left < _WARN and not self._warned:
            self._warned = True
            log.warning("%s: the certificate of %s expires in %.1f days", self._link, self._first.subject, left)
        return round(left, 1)
