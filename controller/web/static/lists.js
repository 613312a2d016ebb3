// The alarm list and the device list.
import { html } from "./lib.js";
import { whyMute } from "./link.js";
import { about, clock, prose, reading } from "./format.js";
import { Act, Priority, Value } from "./parts.js";
import { acknowledge, ordered } from "./banner.js";
import { T } from "./texts.js";

/** @import { Alarm, Props } from "./types.js" */

/** @param {Props} props */
export function Alarms({ view }) {
  const alarms = ordered(view.frame.alarms);
  const c = T.alarmColumn;
  return html`<section class="card alarms" aria-label=${T.alarms}><h2>${T.alarms}</h2>
    ${alarms.length === 0 ? html`<p class="muted">${T.noAlarms}</p>` : html`<div class="scroll"><table><thead><tr><th>${c.priority}</th><th>${c.since}</th><th>${c.text}</th><th>${c.cause}</th><th>${c.consequence}</th><th>${c.action}</th><th>${c.state}</th></tr></thead>
    <tbody>${alarms.map((alarm) => html`<tr key=${alarm.name} class=${alarm.state} data-alarm=${alarm.name}>
      <td><${Priority} priority=${alarm.priority} quiet=${alarm.state !== "unacknowledged"} /></td>
      <td class="nowrap">${clock(alarm.since)}<br /><span class="muted">${about(view.frame.time - alarm.since)}</span></td>
      <td><b>${alarm.name}</b> <span class="muted">${alarm.unit}</span><br />${prose(alarm.text)}</td><td>${prose(alarm.cause)}</td><td>${prose(alarm.consequence)}</td><td><b>${prose(alarm.action)}</b></td>
      <td><${AckState} alarm=${alarm} /></td></tr>`)}</tbody></table></div>`}</section>`;
}

/** @param {{ alarm: Alarm }} props */
function AckState({ alarm }) {
  if (alarm.state === "acknowledged") return html`<span class="muted">✓ ${T.alarmState.acknowledged}</span>`;
  return html`<span class="nowrap">${T.alarmState[alarm.state]}</span><br /><${Act} label=${T.acknowledge} name=${`${T.acknowledge} ${alarm.name}`} why=${whyMute()} act=${() => acknowledge(alarm)} />`;
}

/** @param {Props} props */
export function Devices({ view, places }) {
  const { cell, frame } = view;
  const c = T.deviceColumn;
  const service = cell.points.filter((point) => point.kind === "service");
  return html`<section class="card" aria-label=${T.devices}><h2>${T.devices}</h2>
    <div class="scroll"><table class="devices"><thead><tr><th>${c.link}</th><th>${c.name}</th><th class="nowrap">${c.rtt}</th><th>${c.losses}</th><th>${c.errors}</th><th>${c.profile}</th><th>${c.address}</th></tr></thead><tbody>${cell.devices.map((device) => {
      const up = reading(cell, frame, places, `${device.name}.UP`);
      const rtt = reading(cell, frame, places, `${device.name}.RTT`);
      const losses = reading(cell, frame, places, `${device.name}.LOSSES`);
      const ahead = reading(cell, frame, places, `${device.name}.CLOCK`)?.value ?? 0;
      const words = Object.entries(device.texts).map(([name, text]) => `${name} ${text}`);
      if (Math.abs(ahead) >= 1) words.push(T.clockAhead(ahead));
      const well = up?.value === 1;
      return html`<tr key=${device.name} data-device=${device.name}><td class="nowrap"><span class=${well ? "" : "abnormal"}>${up?.value == null ? `? ${T.unknown}` : well ? `● ${T.up}` : `✕ ${T.down}`}</span></td>
        <td><b>${device.name}</b><br /><span class="muted">${device.description}</span>${words.length ? html`<br /><span class="muted" data-test="texts">${words.join(" · ")}</span>` : null}</td>
        <td class="number">${rtt?.value == null ? "—" : `${(rtt.value * 1000).toFixed(1)} ms`}</td><td class="number">${losses?.value ?? "—"}</td><td class="errors">${errors(device.name, view, places)}</td><td>${device.profile}</td><td class="path">${device.address}</td></tr>`;
    })}</tbody></table>
    ${service.length ? html`<h3>${T.service}</h3><table class="devices service"><tbody>${service.map((point) => html`<tr key=${point.name}><td>${point.description || point.name}</td><td class="number"><${Value} of=${reading(cell, frame, places, point.name)} /></td></tr>`)}</tbody></table>` : null}
    <p class="muted">${T.product} ${cell.version} · ${cell.description}</p></div></section>`;
}

/** What has gone wrong on a device's link since the start, by kind; a dash where nothing has.
 * @param {string} device @param {Props["view"]} view @param {Props["places"]} places */
function errors(device, { cell, frame }, places) {
  const start = `${device}.ERRORS_`;
  const kinds = cell.points.filter((point) => point.name.startsWith(start)).map((point) => point.name);
  const counts = [...kinds, `${device}.DROPS`].map((name) => /** @type {const} */ ([name, reading(cell, frame, places, name)?.value ?? 0])).filter(([, count]) => count > 0);
  const kind = (/** @type {string} */ name) => (name.startsWith(start) ? name.slice(start.length).toLowerCase() : T.drops);
  return counts.length ? counts.map(([name, count]) => `${count} ${kind(name)}`).join(", ") : "—";
}
