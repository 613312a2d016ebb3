// The batch: its state, its commands, its steps.
import { html, useLayoutEffect, useRef, useState } from "./lib.js";
import { send, whyMute } from "./link.js";
import { clock, day, prose, span } from "./format.js";
import { Act, Path } from "./parts.js";
import { T } from "./texts.js";

/** @import { Frame, Props, Recipe, Step } from "./types.js" */

/** @param {Recipe[]} recipes @param {string} id */
export const titleOf = (recipes, id) => recipes.find((recipe) => recipe.id === id)?.title ?? id;

const LOUD = new Set(["HOLDING", "HELD", "STOPPING", "STOPPED", "ABORTING", "ABORTED", "PAUSED", "PAUSING"]);

/** The strip under the banner: what runs, and what can be done with it.
 * @param {Props & { start: () => void }} props */
export function BatchStrip({ view, start }) {
  const { frame, cell } = view;
  const [asked, setAsked] = useState(/** @type {string | null} */ (null));
  const [reason, setReason] = useState("");
  const mute = whyMute();
  const why = new Map(frame.commands);
  const batch = frame.batch;
  // the question goes when what it asks is no longer valid
  const asks = asked !== null && !mute && why.get(asked) === "" ? asked : null;
  /** @param {string} verb */
  const give = (verb) => {
    setAsked(null);
    send(verb, { do: "transition", verb, why: reason.trim() });
    setReason("");
  };
  /** @param {string} verb */
  const press = (verb) => (verb === "START" ? start() : verb in T.confirm ? setAsked(verb) : give(verb));
  return html`<section class="batch" aria-label=${T.batch}>
    <div class="what">
      <div class="name">${batch ? html`<b>${titleOf(cell.recipes, batch.recipe)}</b> <span data-test="batch-id">${batch.id}</span>` : html`<b>${T.noBatch}</b>`}</div>
      <div class="why" title=${batch?.why ?? ""}>${batch ? prose(batch.why) || `${T.started} ${day(batch.started)} ${clock(batch.started)}` : T.noBatchSays}</div>
    </div>
    <div class=${`state ${LOUD.has(frame.state) ? "loud" : ""}`} data-test="batch-state">${frame.state}</div>
    ${asks
      ? html`<${Confirm} verb=${asks} reason=${reason} setReason=${setReason} yes=${() => give(asks)} no=${() => setAsked(null)} />`
      : html`<div class="verbs" role="group" aria-label=${T.batch}>${frame.commands.map(
          ([verb, no]) => html`<${Act} key=${verb} label=${verb} why=${mute || no} says=${T.verbs[verb] ?? ""} kind=${`verb ${verb.toLowerCase()}`} act=${() => press(verb)} />`,
        )}</div>`}
  </section>`;
}

/** @param {{ verb: string, reason: string, setReason: (text: string) => void, yes: () => void, no: () => void }} props */
function Confirm({ verb, reason, setReason, yes, no }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => box.current?.querySelector("input")?.focus(), []);
  return html`<form class="confirm" role="alertdialog" aria-label=${T.confirm[verb]} ref=${box}
    onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); yes(); }}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Escape" && no()}>
    <span class="question">${T.confirm[verb]}</span>
    <input placeholder=${T.reason} aria-label=${T.reason} maxlength="500" value=${reason}
      onInput=${(/** @type {InputEvent} */ event) => setReason(/** @type {HTMLInputElement} */ (event.target).value)} />
    <${Act} label=${T.confirmYes(verb)} submit=${true} kind="strong" act=${yes} /><${Act} label=${T.confirmNo} act=${no} />
  </form>`;
}

/** @param {Step} step @param {Frame} frame */
export const elapsed = (step, frame) => (step.started === null ? null : (step.ended ?? frame.time) - step.started);

/** @param {{ step: Step, frame: Frame }} props */
export function StepTime({ step, frame }) {
  const passed = elapsed(step, frame);
  if (passed === null) return step.limit ? html`<span class="muted">${T.column.of} ${span(step.limit)}</span>` : "";
  const over = step.limit !== null && passed > step.limit;
  return html`<span class=${`time ${over ? "over" : ""}`}>${over ? html`<b title=${T.overtime}>! </b>` : null}${span(passed)}
    ${step.limit ? html`<span class="muted"> ${T.column.of} ${span(step.limit)}</span><progress max=${step.limit} value=${Math.min(passed, step.limit)} aria-hidden="true" />` : null}</span>`;
}

const MARKS = { idle: "○", running: "▶", held: "‖", done: "✓", failed: "✕", stopped: "■" };

/** @param {{ state: Step["state"] }} props */
export const StepState = ({ state }) =>
  html`<span class=${`stepstate ${state}`}><i aria-hidden="true">${MARKS[state]}</i> ${T.stepState[state]}</span>`;

/** Every step of the procedure.
 * @param {Props} props */
export function Steps({ view }) {
  const steps = view.frame.batch?.steps ?? [];
  return html`<section class="card steps" aria-label=${T.steps}><h2>${T.steps}</h2>
    <div class="scroll"><table><thead><tr><th>${T.column.state}</th><th>${T.column.step}</th><th>${T.column.unit}</th><th>${T.column.phase}</th><th>${T.column.why}</th><th>${T.column.time}</th></tr></thead>
    <tbody>${steps.map((step) => html`<tr key=${step.path} class=${step.state} data-step=${step.path}>
      <td><${StepState} state=${step.state} /></td><td><${Path} path=${step.path} /></td><td>${step.unit}</td><td>${step.phase}</td>
      <td class="why">${prose(step.why)}</td><td><${StepTime} step=${step} frame=${view.frame} /></td></tr>`)}</tbody></table>
    ${steps.length ? null : html`<p class="muted">${T.noBatch}. ${T.noBatchSays}</p>`}</div></section>`;
}

/** What runs now, and why it waits.
 * @param {Props} props */
export function RunningNow({ view }) {
  const live = (view.frame.batch?.steps ?? []).filter((step) => step.state === "running" || step.state === "held" || step.state === "failed");
  return html`<section class="card now" aria-label=${T.running}><h2>${T.running}</h2>
    ${live.length === 0 ? html`<p class="muted">${view.frame.batch ? T.nothingRuns : `${T.noBatch}. ${T.noBatchSays}`}</p>` : null}
    <ul>${live.map((step) => html`<li key=${step.path}><div><${Path} path=${step.path} /> <span class="muted nowrap">${step.unit}</span><${StepState} state=${step.state} /></div>
      <div class="why">${prose(step.why)}</div><${StepTime} step=${step} frame=${view.frame} /></li>`)}</ul></section>`;
}
