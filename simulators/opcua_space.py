"""What asyncua's server lacks for a device: a quick start, and subscriptions that report as the standard says.

The 6,000 standard nodes are built once in a process (0.7 s); each server copies a node as it first looks at it. What a monitored
item reports is compared with its last *report*, so that a slow drift crosses its deadband, and filters that are not offered are refused.
"""

from __future__ import annotations

import copy
import functools
import gc
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.monitored_item_service import MonitoredItemData, MonitoredItemService
from asyncua.server.standard_address_space import standard_address_space
from asyncua.server.subscription_service import SubscriptionService
from asyncua.server.user_managers import UserManager
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

__all__ = ["SAMPLING", "DeviceServer", "status_code"]

SAMPLING: Final = 0.1  # [s] between two looks at a monitored value; no subscription publishes more often
_STATUS: Final = ua.NodeId(ua.Int32(ObjectIds.Server_ServerStatus))


def status_code(code: int) -> ua.StatusCode:
    """Return a status code of `StatusCodes`."""
    return ua.StatusCode(ua.UInt32(code))


@functools.cache
def _standard_nodes() -> dict[ua.NodeId, NodeData]:
    """Return the standard nodes; nobody may change them."""
    space = AddressSpace()
    collecting = gc.isenabled()
    gc.disable()  # thousands of nodes that all stay: collecting among them doubles the time
    try:
        standard_address_space.fill_address_space(NodeManagementService(space))  # type: ignore[no-untyped-call]
    finally:
        if collecting:
            gc.enable()
    return {node: space[node] for node in space.keys()}  # noqa: SIM118  # not a dict


class _Nodes(dict[ua.NodeId, NodeData]):
    """The nodes of one server: its own, and copies of the standard ones it has looked at."""

    def __missing__(self, key: ua.NodeId) -> NodeData:
        standard = _standard_nodes()[key]
        node = NodeData(standard.nodeid)
        node.references = list(standard.references)
        for attribute, held in standard.attributes.items():
            # a server changes values in their place, such as its status; all else it replaces
            value = copy.deepcopy(held.value) if attribute == AttributeIds.Value else held.value
            node.attributes[attribute] = AttributeValue(value)  # type: ignore[arg-type]  # none is a value that is not set
        self[key] = node
        return node

    def get(self, key: ua.NodeId, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in _standard_nodes()


class _MonitoredItems(MonitoredItemService):
    """The monitored items of one subscription."""

    async def _create_data_change_monitored_item(self, params: ua.MonitoredItemCreateRequest) -> ua.MonitoredItemCreateResult:
        asked = params.RequestedParameters
        if type(asked.Filter) is ua.ExtensionObject and asked.Filter.TypeId.is_null():
            asked.Filter = None  # no filter, as clients of other makes write it
        if (problem := self._filter_problem(params)) is not None:
            return ua.MonitoredItemCreateResult(StatusCode=status_code(problem))
        return await super()._create_data_change_monitored_item(params)

    def _filter_problem(self, params: ua.MonitoredItemCreateRequest) -> int | None:
        asked, item = params.RequestedParameters.Filter, params.ItemToMonitor
        if asked is None:
            return None
        if not isinstance(asked, ua.DataChangeFilter):
            return int(StatusCodes.BadMonitoredItemFilterUnsupported)
        if asked.DeadbandType == ua.DeadbandType.None_:
            return None
        if item.AttributeId != AttributeIds.Value or (asked.DeadbandType == ua.DeadbandType.Percent and self._span(item.NodeId) is None):
            return int(StatusCodes.BadFilterNotAllowed)
        good = 0.0 <= asked.DeadbandValue <= (100.0 if asked.DeadbandType == ua.DeadbandType.Percent else math.inf)
        return None if good else int(StatusCodes.BadDeadbandFilterInvalid)

    def _span(self, node: ua.NodeId) -> float | None:
        """Return high - low of the node's EURange; None when it has none."""
        data = self.aspace.get(node)
        for reference in data.references if data is not None else ():
            if reference.IsForward and reference.BrowseName.Name == "EURange":
                held = self.aspace.read_attribute_value(reference.NodeId, AttributeIds.Value).Value
                return float(held.Value.High - held.Value.Low) if held is not None else None
        return None

    async def datachange_callback(self, handle: int, value: ua.DataValue, error: ua.StatusCode | None = None) -> None:
        """Report `value` when it differs from the last report by what the client asked for."""
        if error is not None:
            await super().datachange_callback(handle, value, error)
            return
        place = self._monitored_datachange[handle]
        item = self._monitored_items[place]
        if item.mode == ua.MonitoringMode.Disabled:
            return
        if not self._due(item, item.mvalue.current_dvalue, value):
            return
        item.mvalue.current_dvalue = value
        event = ua.MonitoredItemNotification(ClientHandle=item.client_handle, Value=value)
        await self.isub.enqueue_datachange_event(place, event, item.queue_size)

    def _due(self, item: MonitoredItemData, last: ua.DataValue | None, now: ua.DataValue) -> bool:
        """Whether `now` is to be reported after `last` (OPC UA part 4, 7.22.2)."""
        asked = item.filter
        trigger = asked.Trigger if asked is not None else ua.DataChangeTrigger.StatusValue
        if last is None or last.StatusCode != now.StatusCode:
            return True
        if trigger == ua.DataChangeTrigger.StatusValueTimestamp and last.SourceTimestamp != now.SourceTimestamp:
            return True
        if trigger == ua.DataChangeTrigger.Status or last.Value == now.Value:
            return False
        if asked is None or asked.DeadbandType == ua.DeadbandType.None_ or last.Value is None or now.Value is None:
            return True
        change = abs(float(now.Value.Value) - float(last.Value.Value))
        if asked.DeadbandType == ua.DeadbandType.Percent:
            assert item.read_value_id is not None
            change *= 100.0 / (self._span(item.read_value_id.NodeId) or math.inf)
        return not change <= asked.DeadbandValue  # a value that is none, or is one again, is a change


class _Subscriptions(SubscriptionService):
    """The subscriptions of a server."""

    async def create_subscription(
        self, params: ua.CreateSubscriptionParameters, callback: Callable[..., Any], session_id: ua.NodeId, request_callback: Any = None
    ) -> ua.CreateSubscriptionResult:
        interval = params.RequestedPublishingInterval
        params.RequestedPublishingInterval = max(interval, SAMPLING * 1e3) if math.isfinite(interval) else SAMPLING * 1e3
        result = await super().create_subscription(params, callback, session_id, request_callback)
        made: InternalSubscription = self.subscriptions[result.SubscriptionId]
        made.monitored_item_srv = _MonitoredItems(made, self.aspace)
        return result


class DeviceServer(InternalServer):
    """asyncua's server of nodes, with the standard ones shared between servers and with the subscriptions above."""

    def __init__(self, user_manager: UserManager) -> None:
        super().__init__(user_manager)
        self.subscription_service = _Subscriptions(self.aspace, iserver=self)

    async def load_standard_address_space(self, shelf_file: Any = None) -> None:
        """Begin with the standard nodes."""
        _standard_nodes()
        self.aspace._nodes = _Nodes()  # noqa: SLF001  # as its own `load_aspace_shelf` does

    async def drop_sessions(self) -> None:
        """Forget the sessions that are left, as a device does that is switched off."""
        for session in tuple(self._external_sessions.values()):
            await session.close_session(True)

    async def start(self) -> None:
        """Run, and from then on tell the time of the day whenever it is asked for."""
        await super().start()
        held = self.aspace.read_attribute_value(_STATUS, AttributeIds.Value).Value
        assert held is not None  # `start` has written it
        status: ua.ServerStatusDataType = held.Value

        def told(node: ua.NodeId, _attribute: int) -> ua.DataValue:
            now = datetime.now(UTC)
            value = replace(status, CurrentTime=now) if node == _STATUS else now
            return ua.DataValue(ua.Variant(value), StatusCode=status_code(StatusCodes.Good), SourceTimestamp=now)  # type: ignore[arg-type]  # a datetime

        for node in (_STATUS, ua.NodeId(ua.Int32(ObjectIds.Server_ServerStatus_CurrentTime))):
            self.aspace.set_attribute_value_callback(node, AttributeIds.Value, told)
