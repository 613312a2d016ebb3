// A client of another make (node-opcua), to be measured against: it monitors, reads and writes what opcua_source serves.
// usage: node opcua_client.mjs PORT ITEMS SECONDS CALLS     in the folder that has node-opcua-client in its node_modules
// Prints {"monitor": {"count": notifications, "cpu_s": C, "wall_s": W}, "read": {"count": calls, ...}, "write": {"count": calls, ...}}:
// ITEMS variables monitored for SECONDS, then read CALLS times, and 100 written CALLS times.
import { createRequire } from "node:module";

const { AttributeIds, DataType, OPCUAClient, TimestampsToReturn } = createRequire(`${process.cwd()}/`)("node-opcua-client");
const [port, items, seconds, calls] = process.argv.slice(2).map(Number);
const URI = "urn:blackmass:bench";

const measured = async (work) => {
  const before = process.cpuUsage(), begun = performance.now();
  const count = await work();
  const used = process.cpuUsage(before);
  return { count, cpu_s: (used.user + used.system) / 1e6, wall_s: (performance.now() - begun) / 1e3 };
};
const pause = (time) => new Promise((resolve) => setTimeout(resolve, 1000 * time));

const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 1, initialDelay: 200 } });
await client.connect(`opc.tcp://127.0.0.1:${port}/`);
const session = await client.createSession();
const namespace = (await session.readNamespaceArray()).indexOf(URI);
if (namespace < 0) throw new Error(`no namespace ${URI}`);
const nodes = Array.from({ length: items }, (_, place) => `ns=${namespace};s=v${place}`);
const written = Array.from({ length: 100 }, (_, place) => `ns=${namespace};s=w${place}`);
const value = (nodeId) => ({ nodeId, attributeId: AttributeIds.Value });
const found = {};

const subscription = await session.createSubscription2({
  requestedPublishingInterval: 100, requestedLifetimeCount: 600, requestedMaxKeepAliveCount: 10, maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
});
const group = await subscription.monitorItems(nodes.map(value), { samplingInterval: 1, discardOldest: true, queueSize: 10 }, TimestampsToReturn.Both);
let notifications = 0;
group.on("changed", () => { notifications += 1; });
await pause(1.5);
found.monitor = await measured(async () => {
  notifications = 0;
  await pause(seconds);
  return notifications;
});
await subscription.terminate();

await session.read(nodes.map(value)); // compiled before it is measured
found.read = await measured(async () => {
  for (let call = 0; call < calls; call += 1) {
    const data = await session.read(nodes.map(value));
    if (data.some((one) => !one.statusCode.isGood())) throw new Error(`a read failed: ${data.filter((one) => !one.statusCode.isGood()).length} of ${data.length}, ${data.find((one) => !one.statusCode.isGood()).toString()}`);
  }
  return calls;
});
const change = (number) => written.map((nodeId) => ({ ...value(nodeId), value: { value: { dataType: DataType.Double, value: number } } }));
await session.write(change(0.5));
found.write = await measured(async () => {
  for (let call = 0; call < calls; call += 1) {
    const codes = await session.write(change(call));
    if (codes.some((one) => !one.isGood())) throw new Error(`a write failed: ${codes[0].toString()}`);
  }
  return calls;
});
await session.close();
await client.disconnect();
process.stdout.write(`${JSON.stringify(found)}\n`);
