// Questions to people: they wait as long as it takes, on every page, answerable from any station.
import { html, useState } from "./lib.js";
import { send, whyMute } from "./link.js";
import { about, euText, prose } from "./format.js";
import { Act } from "./parts.js";
import { T } from "./texts.js";

/** @import { Prompt, Props } from "./types.js" */

/** @param {Props} props */
export function Prompts({ view }) {
  const prompts = view.frame.batch?.prompts ?? [];
  if (prompts.length === 0) return null;
  return html`<section class="prompts" aria-label=${T.prompts}>${prompts.map((prompt) => html`<${Question} key=${prompt.id} prompt=${prompt} age=${view.frame.time - prompt.since} />`)}</section>`;
}

/** @param {{ prompt: Prompt, age: number }} props */
function Question({ prompt, age }) {
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const number = Number(typed.trim().replace(",", "."));
  const why = whyMute() || (busy ? T.sent(T.answer) : "");
  const bad = prompt.kind === "number" ? typed.trim() === "" || !Number.isFinite(number) : prompt.kind === "text" && typed.trim() === "";
  const give = async (/** @type {boolean | number | string} */ value) => {
    if (why) return;
    setBusy(true);
    await send(`${T.answer} ${prompt.id}`, { do: "answer", prompt: prompt.id, value });
    setBusy(false);
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!bad) give(prompt.kind === "number" ? number : typed.trim());
  };
  return html`<form class="prompt" data-prompt=${prompt.id} onSubmit=${submit}>
    <i aria-hidden="true">?</i>
    <div class="question"><b>${prose(prompt.text)}</b><span class="muted">${prompt.step} · ${T.promptRole(prompt.role)} · ${T.promptSince(about(age))}</span></div>
    ${prompt.kind === "confirm"
      ? html`<${Act} label=${T.yes} kind="strong" why=${why} act=${() => give(true)} /><${Act} label=${T.no} why=${why} act=${() => give(false)} />`
      : html`<label>${T.yourAnswer} <input value=${typed} inputmode=${prompt.kind === "number" ? "decimal" : "text"} maxlength="2000" autocomplete="off"
            onInput=${(/** @type {InputEvent} */ event) => setTyped(/** @type {HTMLInputElement} */ (event.target).value)} /></label>
          <span class="eu">${euText(prompt.eu)}</span>
          <${Act} label=${T.answer} submit=${true} kind="strong" why=${why || (bad ? (prompt.kind === "number" ? T.notNumber : T.yourAnswer) : "")} act=${() => {}} />`}
  </form>`;
}
