// A device of another make: a node-opcua server with security on, driven by one JSON object a line on standard input, answering with one each.
// usage: node server.mjs CONFIGURATION   (JSON: folder, certificate, key, port, uri, spaces, user, password, anonymous)
//   commands: {do: "restart", ...changes}, {do: "trust", certificate}, {do: "set", name, value}, {do: "status", name, code},
//             {do: "event", severity, message}, {do: "unit", name, unit}, {do: "forget"}, {do: "stop"}
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { OPCUACertificateManager } from "node-opcua-certificate-manager";
import { DataType, MessageSecurityMode, SecurityPolicy, StatusCodes, Variant, VariantArrayType } from "node-opcua-client";
import { Range, standardUnits } from "node-opcua-data-access";
import { OPCUAServer } from "node-opcua-server";

const MAIN = "urn:foreign:press";
const configuration = JSON.parse(process.argv[2]);
configuration.sampling ??= 50; // [ms]
configuration.more ??= 0; // variables with long names
configuration.message ??= 0; // [B] the largest; 0: as the client says
let server, press, variables, ticking, calls;

const say = (object) => process.stdout.write(`${JSON.stringify(object)}\n`);

const build = (addressSpace) => {
  for (const uri of configuration.spaces) addressSpace.registerNamespace(uri); // their order gives the indices
  const space = addressSpace.getNamespace(MAIN);
  const make = (name, dataType, value, more = {}) => {
    const analog = more.engineeringUnitsRange !== undefined;
    const options = { componentOf: press, browseName: name, nodeId: `s=${name}`, dataType, value: new Variant({ dataType, ...value }), ...more };
    variables[name] = analog ? space.addAnalogDataItem(options) : space.addVariable(options);
  };
  press = space.addObject({ organizedBy: addressSpace.rootFolder.objects, browseName: "Press", nodeId: "s=press", eventNotifier: 1, eventSourceOf: addressSpace.rootFolder.objects.server });
  variables = {};
  const readOnly = { accessLevel: "CurrentRead", userAccessLevel: "CurrentRead" };
  make("Serial", DataType.UInt32, { value: 471100 }, readOnly);
  make("Temperature", DataType.Double, { value: 20.0 }, { ...readOnly, engineeringUnitsRange: { low: 0, high: 200 }, engineeringUnits: standardUnits.degree_celsius, minimumSamplingInterval: configuration.sampling });
  make("Pressure", DataType.Float, { value: 1.5 }, { ...readOnly, engineeringUnitsRange: { low: 0, high: 16 }, engineeringUnits: standardUnits.bar, minimumSamplingInterval: configuration.sampling });
  make("Speed", DataType.Float, { value: 10 }, { instrumentRange: { low: 0, high: 100 }, engineeringUnitsRange: { low: 0, high: 100 }, engineeringUnits: standardUnits.percent });
  make("Level", DataType.Int16, { value: -5 });
  make("Count", DataType.UInt32, { value: 0 }, { ...readOnly, minimumSamplingInterval: configuration.sampling });
  make("Running", DataType.Boolean, { value: true });
  make("Mode", DataType.UInt16, { value: 2 });
  make("Steps", DataType.Int32, { value: 7 });
  make("Curve", DataType.Double, { arrayType: VariantArrayType.Array, value: new Float64Array([1, 2, 3, 4]) }, { valueRank: 1 });
  make("Limits", "Range", { dataType: DataType.ExtensionObject, value: new Range({ low: 2.5, high: 97.5 }) }, readOnly);
  make("Name", DataType.String, { value: "press 7" }, readOnly);
  for (let place = 0; place < configuration.more; place += 1) make(`${"Zone".repeat(15)}${place}`, DataType.Double, { value: place }, { accessLevel: "CurrentRead | CurrentWrite" });
  space.addObject({ organizedBy: press, browseName: "Ring", nodeId: "s=ring" }).addReference({ referenceType: "Organizes", nodeId: press });
  // Each other namespace has a node of the same name: a stale index would read it
  for (const uri of configuration.spaces.filter((one) => one !== MAIN)) {
    const other = addressSpace.getNamespace(uri);
    other.addVariable({ organizedBy: addressSpace.rootFolder.objects, browseName: "Temperature", nodeId: "s=Temperature", dataType: DataType.Double, value: new Variant({ dataType: DataType.Double, value: -999 }) });
    other.addVariable({ organizedBy: addressSpace.rootFolder.objects, browseName: "Serial", nodeId: "s=Serial", dataType: DataType.UInt32, value: new Variant({ dataType: DataType.UInt32, value: 1 }) });
  }
  const method = space.addMethod(press, {
    browseName: "Dose",
    nodeId: "s=dose",
    inputArguments: [
      { name: "Speed", dataType: DataType.Float },
      { name: "Steps", dataType: DataType.Int32 },
    ],
    outputArguments: [{ name: "Total", dataType: DataType.Double }],
  });
  method.bindMethod((given, _context, callback) => {
    const [speed, steps] = given.map((one) => one.value);
    calls += 1;
    if (speed > 100 || steps < 0) {
      const codes = [speed > 100 ? StatusCodes.BadOutOfRange : StatusCodes.Good, steps < 0 ? StatusCodes.BadOutOfRange : StatusCodes.Good];
      callback(null, { statusCode: StatusCodes.BadInvalidArgument, inputArgumentResults: codes });
    } else if (steps === 13) {
      configuration.silent = true; // it does what it was asked, and its answer is lost
      setTimeout(() => server.endpoints[0].abruptlyInterruptChannels(), 50);
    } else callback(null, { statusCode: StatusCodes.Good, outputArguments: [{ dataType: DataType.Double, value: speed * steps }] });
  });
  space.addMethod(press, { browseName: "Dose2", nodeId: "s=dose2", inputArguments: [{ name: "Word", dataType: DataType.String }] })
    .bindMethod((_given, _context, callback) => callback(null, { statusCode: StatusCodes.Good }));
  let tick = 0;
  ticking = setInterval(() => {
    tick += 1;
    variables.Count.setValueFromSource({ dataType: DataType.UInt32, value: tick });
  }, 50);
};

const start = async () => {
  calls = 0;
  const manager = new OPCUACertificateManager({ rootFolder: configuration.folder, automaticallyAcceptUnknownCertificate: false, disableFileWatchers: true });
  await manager.initialize();
  server = new OPCUAServer({
    port: configuration.port,
    host: "127.0.0.1",
    hostname: "127.0.0.1",
    certificateFile: configuration.certificate,
    privateKeyFile: configuration.key,
    serverCertificateManager: manager,
    userCertificateManager: manager,
    serverInfo: { applicationUri: configuration.uri, productUri: "urn:foreign:product" },
    buildInfo: { productName: "press", manufacturerName: "another make", productUri: "urn:foreign:product" },
    securityPolicies: configuration.policies.map((name) => SecurityPolicy[name]),
    securityModes: configuration.modes.map((name) => MessageSecurityMode[name]),
    allowAnonymous: configuration.anonymous,
    serverCapabilities: configuration.capabilities,
    ...(configuration.message && {
      transportSettings: {
        adjustTransportLimits: ({ receiveBufferSize, sendBufferSize }) => ({ receiveBufferSize, sendBufferSize, maxMessageSize: configuration.message, maxChunkCount: 16 }),
      },
    }),
    userManager: { isValidUser: (user, password) => user === configuration.user && password === configuration.password },
  });
  await server.initialize();
  build(server.engine.addressSpace);
  await server.start();
  configuration.port = server.endpoints[0].port; // kept when it starts again
  say({ endpoint: `opc.tcp://127.0.0.1:${configuration.port}` });
};

const stop = async () => {
  clearInterval(ticking);
  await server.shutdown(0);
};

const obey = async ({ do: verb, ...asked }) => {
  if (verb === "restart") {
    await stop();
    Object.assign(configuration, asked);
    return start();
  }
  if (verb === "stop") {
    await stop();
    say({});
    process.exit(0);
  }
  if (verb === "trust") await server.serverCertificateManager.trustCertificate(readFileSync(asked.certificate));
  if (verb === "set") variables[asked.name].setValueFromSource({ dataType: variables[asked.name].dataType.value, value: asked.value });
  if (verb === "status") variables[asked.name].setValueFromSource(variables[asked.name].readValue().value, StatusCodes[asked.code]);
  if (verb === "unit") variables[asked.name].engineeringUnits.setValueFromSource({ dataType: DataType.ExtensionObject, value: standardUnits[asked.unit] });
  if (verb === "forget") for (const session of Object.values(server.engine._sessions)) session._registeredNodes = session._registeredNodesInv = {}; // what was registered
  if (verb === "event") for (let left = asked.times ?? 1; left > 0; left -= 1) press.raiseEvent("BaseEventType", { message: { dataType: DataType.LocalizedText, value: { text: asked.message } }, severity: { dataType: DataType.UInt16, value: asked.severity }, sourceName: { dataType: DataType.String, value: "Press" } });
  return say({ calls, value: asked.name ? variables[asked.name].readValue().value.value : null });
};

await start();
let last = Promise.resolve();
createInterface({ input: process.stdin }).on("line", (line) => {
  last = last.then(() => obey(JSON.parse(line))).catch((error) => say({ error: String(error.stack) }));
}).on("close", () => process.exit(0));
