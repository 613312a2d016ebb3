// The form that starts a batch: a recipe, its formula with ranges, and the lot.
import { html, useState } from "./lib.js";
import { send, whyMute } from "./link.js";
import { euText, quantity } from "./format.js";
import { Act, Drawer } from "./parts.js";
import { T } from "./texts.js";

/** @import { Parameter, Props, Recipe } from "./types.js" */

/** @param {Parameter} parameter */
export function rangeOf(parameter) {
  const [low, high] = [quantity(parameter.low), quantity(parameter.high)];
  const eu = euText(quantity(parameter.value)?.eu ?? "");
  if (low && high) return `${low.value} to ${high.value} ${eu}`.trim();
  if (low) return `≥ ${low.value} ${eu}`.trim();
  return high ? `≤ ${high.value} ${eu}`.trim() : "";
}

/** What is wrong with a value; empty if nothing is.
 * @param {string} text @param {Parameter} parameter */
export function wrong(text, parameter) {
  const normal = quantity(parameter.value);
  if (normal === null) return text.trim() === "" ? T.notNumber : "";
  if (!/^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$/.test(text)) return T.notNumber;
  const value = Number(text);
  const [low, high] = [quantity(parameter.low), quantity(parameter.high)];
  // limits in another eu are left to the server, which converts
  if ((low && low.eu === normal.eu && value < low.value) || (high && high.eu === normal.eu && value > high.value)) return T.outOfRange(rangeOf(parameter));
  return "";
}

/** @param {Recipe} recipe @returns {Record<string, string>} */
const defaults = (recipe) =>
  Object.fromEntries(Object.entries(recipe.formula).map(([name, one]) => [name, String(quantity(one.value)?.value ?? one.value)]));

/** @param {Props & { close: () => void }} props */
export function StartForm({ view, close }) {
  const recipes = view.cell.recipes;
  const [chosen, choose] = useState(recipes[0]?.id ?? "");
  const recipe = recipes.find((one) => one.id === chosen);
  const [typed, setTyped] = useState(recipe ? defaults(recipe) : {});
  const [lot, setLot] = useState("");
  if (!recipe) return html`<${Drawer} title=${T.start} close=${close}><p>${T.noRecipes}</p><//>`;
  const rows = Object.entries(recipe.formula);
  const errors = rows.filter(([name, one]) => wrong(typed[name] ?? "", one) !== "").length;
  const start = new Map(view.frame.commands).get("START") ?? "";
  const why = whyMute() || start || (errors ? T.fixFirst(errors) : "");
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (why) return;
    const parameters = Object.fromEntries(rows.map(([name, one]) => {
      const eu = quantity(one.value)?.eu ?? "";
      return [name, `${typed[name].trim()} ${eu}`.trim()];
    }));
    if (await send(`START ${recipe.title}`, { do: "start", recipe: recipe.id, parameters, lot: lot.trim() })) close();
  };
  return html`<${Drawer} title=${T.start} close=${close} wide=${true}><form class="start" onSubmit=${submit} noValidate>
    <label class="field">${T.recipe}<select value=${chosen} data-test="recipe" onChange=${(/** @type {Event} */ event) => {
      const id = /** @type {HTMLSelectElement} */ (event.target).value;
      const next = recipes.find((one) => one.id === id);
      choose(id);
      if (next) setTyped(defaults(next));
    }}>${recipes.map((one) => html`<option value=${one.id}>${one.title} (${one.id}, version ${one.version})</option>`)}</select></label>
    <label class="field">${T.lot}<input value=${lot} maxlength="200" onInput=${(/** @type {InputEvent} */ event) => setLot(/** @type {HTMLInputElement} */ (event.target).value)} /></label>
    <table><thead><tr><th>${T.parameter}</th><th>${T.value}</th><th>${T.range}</th></tr></thead><tbody>${rows.map(([name, one]) => {
      const error = wrong(typed[name] ?? "", one);
      const number = quantity(one.value);
      return html`<tr key=${name}><td><label for=${`f-${name}`}><b>${name}</b><br /><span class="muted">${one.description ?? ""}</span></label></td>
        <td class="enter"><input id=${`f-${name}`} data-parameter=${name} inputmode=${number ? "decimal" : "text"} value=${typed[name] ?? ""} aria-invalid=${error ? "true" : "false"} aria-describedby=${`e-${name}`}
          onInput=${(/** @type {InputEvent} */ event) => setTyped({ ...typed, [name]: /** @type {HTMLInputElement} */ (event.target).value })} /> <span class="eu">${euText(number?.eu ?? "")}</span></td>
        <td id=${`e-${name}`}>${error ? html`<b class="error">✕ ${error}</b>` : html`<span class="muted">${rangeOf(one)}</span>`}</td></tr>`;
    })}</tbody></table>
    <div class="row"><${Act} label="START" submit=${true} kind="strong" why=${why} name=${`START ${recipe.title}`} act=${() => {}} /><${Act} label=${T.cancel} act=${close} />
    ${why ? html`<span class="error" role="status">${why}</span>` : null}</div></form><//>`;
}
