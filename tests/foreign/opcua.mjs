// A client of another make (node-opcua) looks at a served device and says what it found, as one JSON object on standard output.
// usage: node opcua.mjs ENDPOINT SIGNAL VALUE BEYOND [METHOD]
//   SIGNAL: browse name of a writable variable, written with VALUE (must be taken) and with BEYOND (must be refused)
import {
  AttributeIds, BrowseDirection, ClientMonitoredItem, DataType, NodeClass, OPCUAClient, TimestampsToReturn, resolveNodeId,
} from "node-opcua-client";

const [endpoint, signal, value, beyond, method] = process.argv.slice(2);
const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 1, initialDelay: 200 } });
const found = { variables: {}, methods: [], changes: [] };

const children = async (session, nodeId) => {
  const result = await session.browse({ nodeId, browseDirection: BrowseDirection.Forward, referenceTypeId: "HierarchicalReferences", includeSubtypes: true, resultMask: 63 });
  return result.references ?? [];
};

const walk = async (session, nodeId, parent, depth) => {
  for (const reference of await children(session, nodeId)) {
    if (reference.nodeId.namespace === 0 && depth === 0 && reference.browseName.name !== "Devices") continue;
    const { name } = reference.browseName;
    if (reference.nodeClass === NodeClass.Method) found.methods.push({ name, object: parent.toString(), node: reference.nodeId.toString() });
    else if (reference.nodeClass === NodeClass.Variable) {
      const variable = { node: reference.nodeId.toString() };
      for (const property of await children(session, reference.nodeId)) {
        const of = await session.read({ nodeId: property.nodeId, attributeId: AttributeIds.Value });
        variable[property.browseName.name] = of.value?.value ?? null;
      }
      const data = await session.read({ nodeId: reference.nodeId, attributeId: AttributeIds.Value }, 0);
      const access = await session.read({ nodeId: reference.nodeId, attributeId: AttributeIds.UserAccessLevel });
      Object.assign(variable, {
        value: data.value?.value ?? null,
        type: DataType[data.value?.dataType ?? 0],
        status: data.statusCode.name,
        time: data.sourceTimestamp?.toISOString() ?? null,
        writable: (access.value.value & 2) !== 0,
      });
      found.variables[name] = variable;
    } else await walk(session, reference.nodeId, reference.nodeId, depth + 1);
  }
};

const write = (session, variable, number) =>
  session.write({ nodeId: variable.node, attributeId: AttributeIds.Value, value: { value: { dataType: DataType[variable.type], value: number } } });

await client.connect(endpoint);
const session = await client.createSession();
found.namespaces = (await session.read({ nodeId: resolveNodeId("Server_NamespaceArray"), attributeId: AttributeIds.Value })).value.value;
await walk(session, resolveNodeId("ObjectsFolder"), null, 0);

if (found.variables.heartbeat) await write(session, found.variables.heartbeat, 1); // else the device stays in its safe state
const target = found.variables[signal];
const subscription = await session.createSubscription2({
  requestedPublishingInterval: 100, requestedLifetimeCount: 100, requestedMaxKeepAliveCount: 10, maxNotificationsPerPublish: 100, publishingEnabled: true, priority: 1,
});
const seen = new Promise((resolve, reject) => {
  const item = ClientMonitoredItem.create(
    subscription, { nodeId: target.node, attributeId: AttributeIds.Value }, { samplingInterval: 50, discardOldest: true, queueSize: 10 }, TimestampsToReturn.Both,
  );
  const late = setTimeout(() => reject(new Error(`no change of ${signal} within 10 s: ${JSON.stringify(found)}`)), 10000);
  let asked = false;
  item.on("err", (text) => reject(new Error(`monitored item refused: ${text}`)));
  item.on("changed", async (data) => {
    found.changes.push(data.value.value);
    if (data.value.value === Number(value)) {
      clearTimeout(late);
      resolve();
    } else if (!asked) {
      asked = true; // the first notification is the value as it is
      found.written = (await write(session, target, Number(value))).name;
    }
  });
});
await seen;
found.refused = (await write(session, target, Number(beyond))).name;
found.after = (await session.read({ nodeId: target.node, attributeId: AttributeIds.Value })).value.value;
if (method) {
  const { object, node } = found.methods.find((one) => one.name === method);
  const answer = await session.call({ objectId: object, methodId: node, inputArguments: [] });
  found.called = answer.statusCode.name;
}
await subscription.terminate();
await session.close();
await client.disconnect();
process.stdout.write(`${JSON.stringify(found)}\n`);
