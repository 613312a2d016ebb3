// Small parts that several panels share.
import { html, useLayoutEffect, useRef, useState } from "./lib.js";
import { explain } from "./link.js";
import { euText, valueText } from "./format.js";
import { T } from "./texts.js";

/** @import { Reading } from "./types.js" */

/** A button that stays reachable while it is not valid, and then says why.
 * @param {{ label: string, act: () => void, why?: string, says?: string, kind?: string, pressed?: boolean, submit?: boolean, name?: string }} props */
export function Act({ label, act, why = "", says = "", kind = "", pressed, submit, name }) {
  return html`<button type=${submit ? "submit" : "button"} class=${`act ${kind}`} aria-disabled=${why ? "true" : "false"}
    aria-pressed=${pressed === undefined ? undefined : String(pressed)} aria-label=${name} title=${why || says} aria-description=${why || says || undefined}
    data-why=${why || undefined}
    onClick=${(/** @type {Event} */ event) => {
      if (why) {
        event.preventDefault();
        explain(T.notValid(label, why));
      } else if (!submit) act();
    }}>${label}</button>`;
}

/** A value with its eu and the mark of its quality; never colour alone.
 * @param {{ of: Reading | null }} props */
export function Value({ of }) {
  // a setpoint that nobody has given is not a lost measurement
  if (of !== null && of.value === null && of.point.kind === "setpoint") return html`<span class="value muted">${T.none}</span>`;
  if (of === null) return html`<span class="value bad"><s>—</s></span>`;
  const quality = of.quality;
  return html`<span class=${`value q${quality}`} title=${T.quality[quality]} data-quality=${quality}>
    ${quality === 2 ? html`<s>—</s> <b class="mark">BAD</b>` : valueText(of.value, of.point)}${quality === 1 ? html`<b class="mark">?</b>` : null}
    <span class="eu"> ${euText(of.point.eu)}</span></span>`;
}

/** What part of its range a bar shows: the normal one and as much again on both sides, so that a drift is seen.
 * @param {import("./types.js").Point} point @returns {[number, number]} */
export function shownRange({ low, high, normal }) {
  if (!normal) return [low, high];
  const width = normal[1] - normal[0];
  return [Math.max(low, normal[0] - width), Math.min(high, normal[1] + width)];
}

/** An analog indicator: the range, its normal part, the setpoint and where the value stands.
 * @param {{ of: Reading, sp?: number | null }} props */
export function Bar({ of, sp = null }) {
  const { normal } = of.point;
  const [low, high] = shownRange(of.point);
  const at = (/** @type {number} */ value) => Math.min(100, Math.max(0, (100 * (value - low)) / (high - low)));
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" x="0" y="2" width="100" height="6" />
    ${normal ? html`<rect class="normal" x=${at(normal[0])} y="2" width=${at(normal[1]) - at(normal[0])} height="6" />` : null}
    ${sp !== null ? html`<rect class="sp" x=${at(sp) - 0.5} y="0" width="1" height="10" />` : null}
    ${of.value !== null ? html`<rect class="pointer" x=${Math.max(0, at(of.value) - 1)} y="0" width="2" height="10" />` : null}
  </svg>`;
}

/** A path that may be broken at its slashes, its last part foremost.
 * @param {{ path: string }} props */
export function Path({ path }) {
  const parts = path.split("/");
  return html`<span class="steppath">${parts.slice(0, -1).map((part) => html`<span class="muted">${part}/</span><wbr />`)}<b>${parts.at(-1)}</b></span>`;
}

const SHAPES = { 1: "M2 2h16v16H2z", 2: "M10 1l9 17H1z", 3: "M10 19L1 3h18z" };

/** The symbol of an alarm's priority: shape, number and colour.
 * @param {{ priority: 1 | 2 | 3, quiet?: boolean }} props */
export function Priority({ priority, quiet = false }) {
  return html`<svg class=${`priority p${priority} ${quiet ? "quiet" : ""}`} viewBox="0 0 20 20" role="img" aria-label=${`priority ${priority}`}>
    <path d=${SHAPES[priority]} /><text x="10" y=${priority === 3 ? 12 : 15.5} text-anchor="middle">${priority}</text></svg>`;
}

/** A panel over the right side of the content; the banner and the batch stay visible.
 * @param {{ title: string, close: () => void, children?: any, wide?: boolean }} props */
export function Drawer({ title, close, children, wide = false }) {
  const panel = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => { // before anybody can press a key that is meant for it
    const before = document.activeElement;
    panel.current?.focus();
    return () => {
      if (before instanceof HTMLElement || before instanceof SVGElement) before.focus();
    };
  }, []);
  return html`<section class=${`drawer ${wide ? "wide" : ""}`} role="dialog" aria-label=${title} tabindex="-1" ref=${panel}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Escape" && close()}>
    <header><h2>${title}</h2><${Act} label=${T.close} act=${close} /></header>
    <div class="inside">${children}</div></section>`;
}

/** The size of an element in px, followed.
 * @returns {[any, { width: number, height: number }]} */
export function useSize() {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const follow = new ResizeObserver(() => {
      const [width, height] = [element.clientWidth, element.clientHeight];
      setSize((last) => (last.width === width && last.height === height ? last : { width, height }));
    });
    follow.observe(element);
    return () => follow.disconnect();
  }, []);
  return [place, size];
}
