// Values, times and eu as text.
import { EU } from "./texts.js";

/** @import { Point, Reading, Cell, Frame } from "./types.js" */

/** @param {string} eu */
export const euText = (eu) => EU[eu] ?? eu;

const WORDS = /(?<=\d )(degC(?:\/min)?|m3(?:\/h)?|um|uS\/cm|kg\/m3|Nm3(?:\/h)?)(?![\w/])/g;
/** A sentence of the server with its eu written for people.
 * @param {string} text */
export const prose = (text) => text.replace(WORDS, (eu) => euText(eu));

/** Digits after the point, from the range: about one part in a thousand of it.
 * @param {number} low @param {number} high */
export function decimals(low, high) {
  const span = Math.abs(high - low);
  if (!(span > 0)) return 1;
  if (span <= 1 && Number.isInteger(low) && Number.isInteger(high)) return 2;
  return Math.min(3, Math.max(0, 3 - Math.floor(Math.log10(span))));
}

/** A value without its eu; the dash of a value that is not known.
 * @param {number | null | undefined} value @param {Point} point */
export function valueText(value, point) {
  if (value === null || value === undefined) return "—";
  if (point.eu === "" && point.low === 0 && point.high === 1) return value >= 0.5 ? "on" : "off";
  if (point.kind === "service") return value.toFixed(point.eu === "" ? 0 : 1);
  const text = value.toFixed(decimals(point.low, point.high));
  return Number(text) === 0 ? text.replace("-", "") : text;
}

/** @param {number} value @param {number} low @param {number} high */
export const rangeText = (value, low, high) => value.toFixed(decimals(low, high)).replace(/\.0+$/, "");

/** "1 d 04:05", "4:05:06" or "5:06".
 * @param {number | null | undefined} seconds */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "—";
  const s = Math.max(0, Math.floor(seconds));
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return `${d} d ${two(h)}:${two(m)} h`;
  if (h > 0) return `${h}:${two(m)}:${two(s % 60)}`;
  return `${m}:${two(s % 60)}`;
}

/** "40 s", "5 min", "3.2 h": for people who estimate.
 * @param {number | null | undefined} seconds */
export function about(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "—";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number} time [s] plant clock */
export const clock = (time) => new Date(time * 1000).toISOString().slice(11, 19);
/** @param {number} time [s] plant clock */
export const day = (time) => new Date(time * 1000).toISOString().slice(0, 10);

/** @param {Cell} cell @param {Frame} frame @param {Map<string, number>} places @param {string} name
 * @returns {Reading | null} */
export function reading(cell, frame, places, name) {
  const place = places.get(name);
  if (place === undefined) return null;
  const value = frame.value[place] ?? null;
  return { point: cell.points[place], value, quality: value === null ? 2 : frame.quality[place] };
}

/** The point that a key or a role of a unit names: itself, or the measurement of a loop.
 * @param {Cell} cell @param {string} name */
export const pointOf = (cell, name) => cell.loops.find((loop) => loop.name === name)?.pv ?? name;

/** "500 kg" as value and eu; null if it is no quantity.
 * @param {string | null | undefined} text */
export function quantity(text) {
  const found = /^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*$/.exec(text ?? "");
  return found ? { value: Number(found[1]), eu: found[2] ?? "" } : null;
}
