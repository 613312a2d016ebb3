// The cell as a mimic: units in the order of the process, with level, key values, quality and normal range.
import { html } from "./lib.js";
import { euText, pointOf, reading, valueText } from "./format.js";
import { shownRange, useSize } from "./parts.js";
import { T } from "./texts.js";

/** @import { Props, Reading, Unit } from "./types.js" */

// where material goes; a class that is not here is drawn as a plain box at the end
const ORDER = ["shredder", "weigh_hopper", "leach_tank", "purification_tank", "liquor_tank", "precipitator", "filter_dryer", "crystalliser", "laboratory"];
const OFF_PATH = new Set(["laboratory"]);
const LEVEL = ["volume", "weight", "level", "scrap"];
const ROWS = 2; // as long as there are not more than ten units

/** Outline of a vessel in a box of 100 x 100, what stands in it, and whether it holds a level.
 * @type {Record<string, { outline: string, inside?: string, level: boolean }>} */
const VESSELS = {
  shredder: { outline: "M5 5H95L80 45V95H20V45Z", inside: "M36 62m-13 0a13 13 0 1 0 26 0a13 13 0 1 0 -26 0M64 62m-13 0a13 13 0 1 0 26 0a13 13 0 1 0 -26 0", level: false },
  weigh_hopper: { outline: "M10 5H90V55L60 95H40L10 55Z", level: true },
  leach_tank: { outline: "M12 5H88V82Q88 95 50 95Q12 95 12 82Z", inside: "M50 -4V72M30 72H70", level: true },
  purification_tank: { outline: "M12 5H88V82Q88 95 50 95Q12 95 12 82Z", inside: "M50 -4V72M30 72H70", level: true },
  liquor_tank: { outline: "M12 5H88V95H12Z", level: true },
  precipitator: { outline: "M12 5H88V82Q88 95 50 95Q12 95 12 82Z", inside: "M50 -4V72M28 72H72M22 20V70M78 20V70", level: true },
  filter_dryer: { outline: "M12 12Q12 3 50 3Q88 3 88 12V75L60 95H40L12 75Z", inside: "M12 70H88M50 -4V60M30 60H70", level: true },
  crystalliser: { outline: "M12 5H88V60L58 95H42L12 60Z", inside: "M50 -4V62M34 62H66M24 18V52M76 18V52", level: true },
  laboratory: { outline: "M38 5H62V38L88 95H12L38 38Z", level: false },
};
const PLAIN = { outline: "M8 8H92V92H8Z", level: true };

/** @param {Unit[]} units */
export const inOrder = (units) => {
  const rank = (/** @type {Unit} */ unit) => (ORDER.includes(unit.unit_class) ? ORDER.indexOf(unit.unit_class) : ORDER.length);
  return [...units].sort((a, b) => rank(a) - rank(b));
};

/** @param {string} role */
export const roleText = (role) => (role.length <= 3 ? (role === "ph" ? "pH" : role.toUpperCase()) : role.replaceAll("_", " "));

/** @param {Props & { open: (unit: string) => void }} props */
export function Mimic({ view, places, open }) {
  const [box, { width, height }] = useSize();
  const units = inOrder(view.cell.units);
  const columns = Math.min(5, Math.max(4, Math.ceil(units.length / ROWS)));
  const rows = Math.max(1, Math.ceil(units.length / columns));
  const gap = Math.max(20, width * 0.026);
  const [w, h] = [(width - (columns - 1) * gap - 4) / columns, (height - (rows - 1) * gap - 4) / rows];
  const at = (/** @type {number} */ place) => ({ x: 2 + (place % columns) * (w + gap), y: 2 + Math.floor(place / columns) * (h + gap) });
  const path = units.map((unit, place) => ({ unit, place })).filter(({ unit }) => ORDER.includes(unit.unit_class) && !OFF_PATH.has(unit.unit_class));
  const pipes = path.slice(1).map(({ place }, index) => {
    const [from, to] = [at(path[index].place), at(place)];
    if (from.y === to.y) return `M${from.x + w} ${from.y + h * 0.62}H${to.x - 7}`;
    const turn = from.y + h + gap / 2;
    return `M${from.x + w / 2} ${from.y + h}V${turn}H${to.x + w / 2}V${to.y - 7}`;
  });
  return html`<section class="card mimic" aria-label=${T.mimic}><div class="fill" ref=${box}>${width > 0 && h > 60 ? html`<svg width=${width} height=${height}>
    <defs><marker id="arrow" viewBox="0 0 10 10" refX="2" refY="5" markerWidth="4" markerHeight="4" orient="auto"><path d="M0 0L10 5L0 10Z" class="arrow" /></marker></defs>
    <g class="pipes" aria-label=${T.pipes}>${pipes.map((line) => html`<path d=${line} marker-end="url(#arrow)" />`)}</g>
    ${units.map((unit, place) => html`<${UnitBox} key=${unit.name} view=${view} places=${places} unit=${unit} box=${{ ...at(place), w, h }} open=${open} />`)}
  </svg>` : null}</div></section>`;
}

/** @param {Props & { unit: Unit, box: { x: number, y: number, w: number, h: number }, open: (unit: string) => void }} props */
function UnitBox({ view, places, unit, box, open }) {
  const { cell, frame } = view;
  const state = frame.units.find((one) => one.name === unit.name);
  const alarms = frame.alarms.filter((alarm) => alarm.unit === unit.name && alarm.state !== "returned");
  const worst = alarms.length ? Math.min(...alarms.map((alarm) => alarm.priority)) : 0;
  const held = state?.interlocks ?? [];
  const font = Math.min(17, Math.max(13, box.w / 15));
  const vessel = VESSELS[unit.unit_class] ?? PLAIN;
  const head = font * 2.9;
  const vw = Math.min(box.w * 0.24, box.h - head - 14);
  const vh = Math.min(box.h - head - 12, vw * 1.9);
  const id = `clip-${unit.name.replace(/[^\w-]/g, "_")}`;
  const levelRole = vessel.level ? LEVEL.find((role) => role in unit.roles) : undefined;
  const level = levelRole ? reading(cell, frame, places, pointOf(cell, unit.roles[levelRole])) : null;
  const full = level?.value == null ? null : Math.min(1, Math.max(0, (level.value - level.point.low) / (level.point.high - level.point.low)));
  const left = vw + 16;
  const row = Math.max(font * 1.75, Math.min(font * 2.4, (box.h - head - 4) / Math.max(1, unit.key.length)));
  const count = Math.max(1, Math.floor((box.h - head + row * 0.25) / row));
  const says = `${unit.name} ${unit.description}, ${state?.state ?? "IDLE"}${state?.step ? `, ${state.step}` : ""}${alarms.length ? `, ${alarms.length} alarms` : ""}`;
  const press = () => open(unit.name);
  return html`<g class=${`unit ${worst ? `alarmed p${worst}` : ""} ${alarms.some((alarm) => alarm.state !== "acknowledged") ? "new" : ""} ${state?.step ? "busy" : ""}`} transform=${`translate(${box.x} ${box.y})`} role="button" tabindex="0"
    aria-label=${T.details(says)} data-unit=${unit.name} onClick=${press}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), press())}>
    <title>${unit.description}</title>
    <rect class="frame" width=${box.w} height=${box.h} rx="4" />
    <text x="9" y=${font * 1.25} font-size=${font * 1.05}><tspan class="name">${unit.name}</tspan><tspan class="class" dx=${font * 0.5} font-size=${font * 0.86}>${clip(unit.description || roleText(unit.unit_class), (box.w - (worst ? 52 : 30) - unit.name.length * font * 0.76) / (font * 0.47))}</tspan></text>
    <text class="state" x="9" y=${font * 2.45} font-size=${font * 0.86}>${clip(`${state?.state ?? "IDLE"}${state?.step ? ` · ${state.step.split("/").at(-1)}` : ""}`, (box.w - 18) / (font * (state?.step ? 0.56 : 0.5)))}</text>
    ${worst ? html`<g class=${`priority p${worst} ${alarms.some((alarm) => alarm.state !== "acknowledged") ? "" : "quiet"}`} transform=${`translate(${box.w - 25} 4)`}>
      <path d=${["", "M2 2h16v16H2z", "M10 1l9 17H1z", "M10 19L1 3h18z"][worst]} /><text x="10" y=${worst === 3 ? 12 : 15.5} text-anchor="middle">${worst}</text></g>` : null}
    <g transform=${`translate(9 ${head})`}>
      <clipPath id=${id}><path d=${vessel.outline} transform=${`scale(${vw / 100} ${vh / 100})`} /></clipPath>
      <path class="vessel" d=${vessel.outline} transform=${`scale(${vw / 100} ${vh / 100})`} vector-effect="non-scaling-stroke" />
      ${full !== null ? html`<rect class="level" clip-path=${`url(#${id})`} x="0" y=${vh * (0.95 - 0.9 * full)} width=${vw} height=${vh} data-level=${full.toFixed(3)} />` : null}
      <path class="outline" d=${vessel.outline} transform=${`scale(${vw / 100} ${vh / 100})`} vector-effect="non-scaling-stroke" />
      ${vessel.inside ? html`<path class="inside" d=${vessel.inside} transform=${`scale(${vw / 100} ${vh / 100})`} vector-effect="non-scaling-stroke" />` : null}
      ${levelRole && full === null ? html`<text class="bad" x=${vw / 2} y=${vh / 2 + 5} text-anchor="middle" font-size=${font}>?</text>` : null}
    </g>
    ${unit.key.slice(0, count).map((name, place) => html`<${KeyValue} key=${name} view=${view} places=${places} unit=${unit} name=${name} x=${left} y=${head + place * row} w=${box.w - left - 9} font=${font} />`)}
    ${held.length ? html`<g class="held" transform=${`translate(6 ${box.h - font * 1.7})`}><rect width=${vw + 6} height=${font * 1.4} rx="2" /><text x=${(vw + 6) / 2} y=${font} text-anchor="middle" font-size=${font * 0.82}>⚿ ${held.length > 1 ? held.length : clip(held[0].split(/[ :]/)[0], 7)}</text><title>${T.interlocked}: ${held.join("; ")}</title></g>` : null}
  </g>`;
}

/** @param {Props & { unit: Unit, name: string, x: number, y: number, w: number, font: number }} props */
function KeyValue({ view, places, unit, name, x, y, w, font }) {
  const { cell, frame } = view;
  const loop = cell.loops.find((one) => one.name === name || one.pv === name);
  const of = reading(cell, frame, places, pointOf(cell, name));
  const role = Object.entries(unit.roles).find(([, point]) => point === name || point === loop?.name || point === loop?.pv)?.[0] ?? name;
  if (of === null) return null;
  const sp = loop && frame.value[places.get(loop.mode) ?? -1] !== 0 ? reading(cell, frame, places, loop.sp)?.value ?? null : null;
  const eu = euText(of.point.eu);
  const value = valueText(of.value, of.point);
  return html`<g class=${`key q${of.quality}`} transform=${`translate(${x} ${y})`} data-point=${of.point.name} data-quality=${of.quality}>
    <title>${of.point.name} ${of.point.description}: ${value} ${eu}, ${T.quality[of.quality]}</title>
    <text class="label" x="0" y=${font * 0.9} font-size=${font * 0.84}>${clip(roleText(role), (w - (value.length + eu.length + 2 + of.quality * 1.5) * font * 0.56) / (font * 0.42))}</text>
    <text class="number" x=${w} y=${font * 0.9} font-size=${font} text-anchor="end">${of.quality === 2
      ? html`<tspan class="struck">—</tspan><tspan class="mark"> BAD</tspan>`
      : html`<tspan>${value}</tspan>${of.quality === 1 ? html`<tspan class="mark"> ?</tspan>` : null}<tspan class="eu" font-size=${font * 0.8}> ${eu === "pH" ? "" : eu}</tspan>`}</text>
    <${Indicator} of=${of} sp=${sp} y=${font * 1.12} w=${w} />
  </g>`;
}

/** @param {{ of: Reading, sp: number | null, y: number, w: number }} props */
function Indicator({ of, sp, y, w }) {
  const { normal } = of.point;
  const [low, high] = shownRange(of.point);
  const at = (/** @type {number} */ value) => Math.min(w, Math.max(0, (w * (value - low)) / (high - low)));
  const [pv, set] = [of.value === null ? null : at(of.value), sp === null ? null : at(sp)];
  return html`<g class="indicator" transform=${`translate(0 ${y})`}><rect class="track" width=${w} height="5" />
    ${normal ? html`<rect class="normal" x=${at(normal[0])} width=${at(normal[1]) - at(normal[0])} height="5" />` : null}
    ${set !== null ? html`<path class="sp" d=${`M${set - 4} -2H${set + 4}L${set} 4Z`} />` : null}
    ${pv !== null ? html`<rect class="pointer" x=${Math.min(w - 3, Math.max(0, pv - 1.5))} y="-2" width="3" height="9" />` : null}</g>`;
}

/** @param {string} text @param {number} letters */
const clip = (text, letters) => (text.length <= letters ? text : `${text.slice(0, Math.max(1, Math.floor(letters) - 1))}…`);
