"""What is known after a write or a call that an OPC UA server answers with a bad status code."""

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes, code_to_name_doc

from drivers.driver import WriteResult
from drivers.opcua_value import no_to_action


@pytest.mark.parametrize(
    "name", ["NotWritable", "UserAccessDenied", "TypeMismatch", "OutOfRange", "NodeIdUnknown", "InvalidArgument", "InvalidState"]
)
def test_a_server_that_did_not_begin_has_refused(name: str) -> None:
    assert no_to_action(getattr(StatusCodes, f"Bad{name}")) == (WriteResult.REFUSED, f"Bad{name}")


@pytest.mark.parametrize(
    "name",
    ["Timeout", "RequestTimeout", "CommunicationError", "NoCommunication", "DeviceFailure", "WaitingForResponse", "OperationAbandoned",
     "InternalError", "SecureChannelClosed", "ConnectionClosed", "RequestInterrupted",
     "Shutdown", "OutOfService", "UnexpectedError", "ResourceUnavailable"],
)  # fmt: skip
def test_one_that_may_have_begun_tells_nothing(name: str) -> None:
    assert no_to_action(getattr(StatusCodes, f"Bad{name}")) == (WriteResult.UNKNOWN, f"Bad{name}")


def test_only_the_code_itself_counts() -> None:
    assert no_to_action(StatusCodes.BadTimeout | 0x0400) == (WriteResult.UNKNOWN, "BadTimeout")
    assert no_to_action(StatusCodes.BadOutOfRange | 0x0400) == (WriteResult.REFUSED, "BadOutOfRange")


def test_a_code_of_a_vendor_is_no_refusal_and_is_shown_as_it_is() -> None:
    assert no_to_action(0x80000000) == (WriteResult.UNKNOWN, "Bad")
    assert no_to_action(0x8FAB0000) == (WriteResult.UNKNOWN, "0x8FAB0000")


def test_most_codes_are_no_refusals() -> None:
    """What is added to the standard counts as unknown until somebody has looked at it."""
    bad = [code for code in code_to_name_doc if code >> 30 == 2]
    assert sum(no_to_action(code)[0] is WriteResult.REFUSED for code in bad) < len(bad) / 5
    assert all(no_to_action(code)[1] == ua.StatusCode(ua.UInt32(code)).name for code in bad)
