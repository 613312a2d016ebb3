// One unit in detail: its interlocks, the faceplates of its loops, all its values.
import { html, useState } from "./lib.js";
import { send, whyMute } from "./link.js";
import { euText, pointOf, prose, reading } from "./format.js";
import { Act, Bar, Drawer, shownRange, Value } from "./parts.js";
import { roleText } from "./mimic.js";
import { T } from "./texts.js";

/** @import { Loop, Props, Unit } from "./types.js" */

/** @param {Props & { unit: Unit, close: () => void }} props */
export function UnitDetail({ view, places, unit, close }) {
  const { cell, frame } = view;
  const state = frame.units.find((one) => one.name === unit.name);
  const own = new Set(Object.values(unit.roles).map((name) => pointOf(cell, name)));
  const loops = cell.loops.filter((loop) => loop.unit === unit.name || own.has(loop.pv));
  const interlocks = cell.interlocks.filter((one) => one.unit === unit.name || (state?.interlocks ?? []).some((held) => held.startsWith(one.name)));
  const acts = (/** @type {string} */ name) => (state?.interlocks ?? []).some((held) => held.split(/[ :]/)[0] === name);
  return html`<${Drawer} title=${`${unit.name} · ${unit.description || roleText(unit.unit_class)}`} close=${close}>
    <p><b>${state?.state ?? "IDLE"}</b>${state?.step ? ` · ${state.step}` : ""}${state?.why ? html`<br /><span class="why">${prose(state.why)}</span>` : null}</p>
    ${loops.map((loop) => html`<${Faceplate} key=${loop.name} view=${view} places=${places} loop=${loop} />`)}
    ${interlocks.length ? html`<h3>${T.interlock}</h3><ul class="interlocks">${interlocks.map((one) => html`<li key=${one.name} class=${acts(one.name) ? "acts" : ""}>
      <span><b>${one.name}</b> ${prose(one.text)}${acts(one.name) ? html` <b class="mark">⚿ ${T.interlocked}</b>` : null}</span>
      ${acts(one.name) ? html`<${Act} label=${T.resetInterlock} name=${`${T.resetInterlock} ${one.name}`} why=${whyMute()} act=${() => send(`${T.resetInterlock} ${one.name}`, { do: "reset_interlock", interlock: one.name })} />` : null}</li>`)}</ul>` : null}
    <table class="values"><thead><tr><th>${T.role}</th><th>${T.tag}</th><th>${T.value}</th><th>${T.range}</th></tr></thead><tbody>${Object.entries(unit.roles).map(([role, name]) => {
      const of = reading(cell, frame, places, pointOf(cell, name));
      return of && html`<tr key=${role}><td>${roleText(role)}</td><td title=${of.point.description}>${of.point.name}</td><td><${Value} of=${of} /></td>
        <td class="wide"><${Bar} of=${of} /><span class="muted ends"><span>${trim(shownRange(of.point)[0])}</span><span>${trim(shownRange(of.point)[1])}</span></span></td></tr>`;
    })}</tbody></table><//>`;
}

const trim = (/** @type {number} */ value) => Number(value.toPrecision(6));

/** @param {Props & { loop: Loop }} props */
function Faceplate({ view, places, loop }) {
  const { cell, frame } = view;
  const [sp, setSp] = useState("");
  const [out, setOut] = useState("");
  const [pv, spNow, outNow] = [loop.pv, loop.sp, loop.out].map((name) => reading(cell, frame, places, name));
  const mode = frame.value[places.get(loop.mode) ?? -1];
  const name = mode == null ? "" : T.modes[mode];
  const mute = whyMute();
  /** @param {"MAN" | "AUTO" | "REMOTE"} to */
  const take = (to) => send(`${loop.name} ${to}`, { do: "tune", loop: loop.name, mode: to });
  /** @param {string} what @param {string} text @param {import("./types.js").Reading | null} now @param {string} needs */
  const why = (what, text, now, needs) => {
    if (mute) return mute;
    if (name !== needs) return `${what} is set by hand in ${needs} only; ${loop.name} is in ${name || T.unknown}`;
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) return T.notNumber;
    return now && (value < now.point.low || value > now.point.high) ? T.outOfRange(`${now.point.low} to ${now.point.high} ${euText(now.point.eu)}`) : "";
  };
  /** @param {string} what @param {string} text @param {(text: string) => void} setText @param {import("./types.js").Reading | null} now @param {string} needs @param {string} field */
  const entry = (what, text, setText, now, needs, field) => html`<div class="entry"><span class="label">${what}</span><${Value} of=${now} />
    <input aria-label=${`${loop.name} ${what}`} inputmode="decimal" value=${text} onInput=${(/** @type {InputEvent} */ event) => setText(/** @type {HTMLInputElement} */ (event.target).value)} />
    <${Act} label=${T.set} name=${`${T.set} ${loop.name} ${what}`} why=${why(what, text, now, needs)} act=${() => { send(`${loop.name} ${what} ${text}`, { do: "tune", loop: loop.name, [field]: Number(text) }); setText(""); }} /></div>`;
  return html`<section class="faceplate" aria-label=${loop.name}><h3>${loop.name} <span class="muted">${loop.description}</span></h3>
    <div class="entry"><span class="label">${T.pv}</span><${Value} of=${pv} />${pv ? html`<${Bar} of=${pv} sp=${spNow?.value ?? null} />` : null}</div>
    ${entry(T.sp, sp, setSp, spNow, "AUTO", "setpoint")}${entry(T.out, out, setOut, outNow, "MAN", "output")}
    <div class="row" role="group" aria-label=${T.loop}>${/** @type {("MAN" | "AUTO" | "REMOTE")[]} */ (["MAN", "AUTO", "REMOTE"]).map((to) => html`<${Act} key=${to} label=${to} says=${T.modeSays[to]} pressed=${name === to} why=${mute || (name === to ? `${loop.name} is in ${to} already` : "")} act=${() => take(to)} />`)}</div>
  </section>`;
}
