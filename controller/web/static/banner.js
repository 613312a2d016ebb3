// The banner: always visible, on every page.
import { html } from "./lib.js";
import { send, setUser, user, whyMute } from "./link.js";
import { about, clock, day, prose, reading } from "./format.js";
import { Act, Priority } from "./parts.js";
import { T } from "./texts.js";

/** @import { Alarm, View } from "./types.js" */

const RANK = { unacknowledged: 0, returned: 1, acknowledged: 2 };

/** Those that are on and nobody has seen first, then those that are gone again, then by priority, then the newest.
 * @param {Alarm[]} alarms */
export const ordered = (alarms) => [...alarms].sort((a, b) => RANK[a.state] - RANK[b.state] || a.priority - b.priority || b.since - a.since);

/** @param {Alarm} alarm */
export const acknowledge = (alarm) => send(`${T.acknowledge} ${alarm.name}`, { do: "acknowledge", alarm: alarm.name });

/** @param {{ view: View, places: Map<string, number>, open: (tab: string) => void }} props */
export function Banner({ view, places, open }) {
  const { cell, frame } = view;
  const scan = cell && frame ? reading(cell, frame, places, "SERVICE.SCAN_MS") : null;
  const alarms = ordered(frame?.alarms ?? []).filter((alarm) => alarm.state !== "acknowledged");
  const top = alarms[0];
  const link = !view.connected ? T.linkDown : view.stale ? T.linkSilent : scan?.value == null ? T.linkUpPlain : T.linkUp(scan.value.toFixed(1));
  return html`<header class="banner">
    <div class="who"><strong>${T.product}</strong><span>${cell?.cell ?? ""}</span></div>
    ${cell && html`<div class=${`mode ${cell.simulated ? "simulated" : "live"}`} title=${cell.simulated ? T.simulatedSays : ""} data-test="mode">
      ${cell.simulated ? T.simulated(cell.speed) : T.live}</div>`}
    <div class=${`link ${view.connected && !view.stale ? "" : "lost"}`} role="status" data-test="link"><i aria-hidden="true">${view.connected && !view.stale ? "●" : "✕"}</i>${link}</div>
    <div class="clock" title=${T.plantClock}><b>${frame ? clock(frame.time) : "--:--:--"}</b><span>${frame ? `${day(frame.time)} UTC` : ""}</span></div>
    <label class="user">${T.user}<input value=${user()} maxlength="80" autocomplete="off" spellcheck=${false} data-test="user"
      onInput=${(/** @type {InputEvent} */ event) => setUser(/** @type {HTMLInputElement} */ (event.target).value)} /></label>
    <div class=${`alarm ${top ? (top.state === "returned" ? "gone" : `a${top.priority}`) : "none"}`} role="alert" data-test="top-alarm">
      ${top
        ? html`<${Priority} priority=${top.priority} quiet=${top.state === "returned"} /><button type="button" class="text" onClick=${() => open("alarms")} title=${top.text}>
            <span><b>${top.name}</b> ${top.state === "returned" ? html`<i>${T.gone}</i> ` : null}${prose(top.text)}</span></button><span class="count">${T.moreAlarms(alarms.length)}</span>
            <${Act} label=${T.acknowledge} name=${`${T.acknowledge} ${top.name}`} why=${whyMute()} act=${() => acknowledge(top)} />`
        : html`<span>${view.frame ? T.noAlarm : ""}</span>`}
    </div>
  </header>
  ${view.stale ? html`<div class="stalebar" role="alert" data-test="stale">${frame ? T.stale(about(view.age)) : T.waiting}</div>` : null}`;
}
