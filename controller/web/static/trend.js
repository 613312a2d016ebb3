// Live trends: history from the server, then every new frame; gaps are drawn as gaps, phases as bands.
import { html, useEffect, useRef, useState } from "./lib.js";
import uPlot from "./vendor/uplot.js";
import { clock, euText, pointOf, reading } from "./format.js";
import { inOrder } from "./mimic.js";
import { useSize, Value } from "./parts.js";
import { T } from "./texts.js";

/** @import { Cell, Frame, Props, History } from "./types.js" */
/** @typedef {{ time: number, values: (number | null)[] }} Cursor */
/** @typedef {{ time: number[], columns: (number | null)[][], gap: number }} Store */

const MOST = 6;
const FEW = 4; // where there is little room
const LANE = 17; // [px] one unit's phases above the plot
const LONGEST = 12000; // columns kept
const INK = ["#1d4f7c", "#8a4b08", "#2f6b3a", "#6d2e6d", "#3d3d3d", "#00696b"];
const DASH = [[], [9, 4], [3, 3], [12, 3, 3, 3], [6, 2], [2, 5]];
const GRID = { stroke: "#cfd3d4", width: 1 };

/** The key points of the units that do something, at most `most`.
 * @param {Cell} cell @param {Frame} frame @param {number} most */
export function usual(cell, frame, most) {
  const busy = new Set(frame.units.filter((unit) => unit.step !== "").map((unit) => unit.name));
  const ordered = inOrder(cell.units).filter((unit) => unit.unit_class !== "laboratory");
  const running = ordered.filter((unit) => busy.has(unit.name));
  const units = running.length ? running : ordered.slice(0, 2);
  const each = Math.max(1, Math.floor(most / units.length));
  return units.flatMap((unit) => unit.key.slice(0, each).map((name) => pointOf(cell, name))).slice(0, most);
}

/** Add a column; a hole in time becomes a column of nulls, so that no line bridges it.
 * @param {Store} store @param {number} time @param {(number | null)[]} values */
export function append(store, time, values) {
  const last = store.time.at(-1);
  if (last !== undefined && time <= last) return;
  if (last !== undefined && time - last > store.gap) {
    store.time.push(last + store.gap / 2);
    for (const column of store.columns) column.push(null);
  }
  store.time.push(time);
  store.columns.forEach((column, place) => column.push(values[place] ?? null));
}

/** @param {string[]} names @param {number} start @param {number} stop @returns {Promise<History & { step: number | null }>} */
async function readHistory(names, start, stop) {
  const query = new URLSearchParams({ points: names.join(","), start: String(start), stop: String(stop) });
  const response = await fetch(`/api/history?${query}`, { signal: AbortSignal.timeout(15000) });
  const said = await response.json();
  if (!response.ok) throw new Error(said.why ?? String(response.status));
  return said;
}

/** @param {Props & { tall?: boolean }} props */
export function TrendPanel({ view, places, tall = false }) {
  const { cell, frame } = view;
  const [chosen, choose] = useState(/** @type {string[] | null} */ (null));
  const [length, setLength] = useState(3600);
  const names = (chosen ?? usual(cell, frame, tall ? MOST : FEW)).filter((name) => places.has(name));
  const [cursor, setCursor] = useState(/** @type {Cursor | null} */ (null));
  /** @param {string} name @param {number} place @returns {import("./types.js").Reading | null} */
  const shown = (name, place) => {
    const now = reading(cell, frame, places, name);
    if (!cursor || !now) return now;
    const value = cursor.values[place] ?? null;
    return { point: now.point, value, quality: value === null ? 2 : 0 };
  };
  const windows = Object.entries(T.windows).sort(([a], [b]) => (Number(a) || 1e9) - (Number(b) || 1e9));
  const free = cell.points.filter((point) => !names.includes(point.name) && point.kind !== "mode");
  /** @param {Event} event */
  const add = (event) => {
    const select = /** @type {HTMLSelectElement} */ (event.target);
    if (select.value === "") choose(null);
    else choose([...names.slice(0, MOST - 1), select.value]);
    select.value = "…";
  };
  return html`<section class=${`card trend ${tall ? "tall" : ""}`} aria-label=${T.trends}>
    <div class="tools">
      <div class="legend">${names.map((name, place) => html`<button type="button" key=${name} class="chip" title=${T.removePoint(name)} aria-label=${T.removePoint(name)} data-trace=${name}
          onClick=${() => names.length > 1 && choose(names.filter((other) => other !== name))}>
        <svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" stroke=${INK[place % INK.length]} stroke-width="2.5" stroke-dasharray=${DASH[place % DASH.length].join(" ")} /></svg>
        <span>${name}</span> <${Value} of=${shown(name, place)} /></button>`)}${cursor ? html`<span class="cursor">${T.at} ${clock(cursor.time)}</span>` : null}</div>
      ${tall ? html`<select aria-label=${T.addPoint} class="add" onChange=${add} value="…"><option value="…" disabled>${T.addPoint}</option><option value="">${T.trendAuto}</option>
        ${free.map((point) => html`<option key=${point.name} value=${point.name}>${point.name} ${point.description}</option>`)}</select>
      <div class="windows" role="group" aria-label=${T.window}>${windows.map(([seconds, label]) =>
        html`<button type="button" key=${seconds} class="act small" aria-pressed=${String(length === Number(seconds))} onClick=${() => setLength(Number(seconds))}>${label}</button>`)}</div>` : html`<select class="window" aria-label=${T.window} value=${String(length)} onChange=${(/** @type {Event} */ event) => setLength(Number(/** @type {HTMLSelectElement} */ (event.target).value))}>${windows.map(([seconds, label]) => html`<option key=${seconds} value=${seconds}>${label}</option>`)}</select>`}
    </div>
    <${Plot} view=${view} places=${places} names=${names} length=${length} point=${setCursor} /></section>`;
}

/** @param {Props & { names: string[], length: number, point: (at: Cursor | null) => void }} props */
function Plot({ view, places, names, length, point }) {
  const [box, size] = useSize();
  const [note, setNote] = useState("");
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const store = useRef(/** @type {Store} */ ({ time: [], columns: [], gap: Infinity }));
  const newest = useRef(view);
  newest.current = view;
  const { cell, frame } = view;
  const from = () => {
    const now = newest.current.frame;
    return length > 0 ? now.time - length : (now.batch?.started ?? now.time - 3600);
  };
  const which = names.join(",");
  const worked = new Set((frame.batch?.steps ?? []).filter((step) => step.started !== null).map((step) => step.unit));
  const lanes = [...new Set(names.map((name) => cell.points[places.get(name) ?? 0].unit))].filter((unit) => worked.has(unit)).slice(0, 3);
  const ready = size.width > 0 && size.height > 40;

  useEffect(() => {
    let gone = false;
    const pace = Math.max(5 * cell.scan, 1.25 * cell.speed);
    const waiting = /** @type {Store} */ ({ time: [], columns: names.map(() => []), gap: pace });
    store.current = waiting;
    setNote(T.historyLoading);
    const start = from();
    readHistory(names, start, newest.current.frame.time).then((past) => {
      if (gone) return;
      const full = /** @type {Store} */ ({ time: [], columns: names.map(() => []), gap: Math.max(pace, 5 * (past.step ?? cell.scan)) });
      past.time.forEach((time, at) => append(full, time, past.value.map((row, k) => (past.quality[k][at] === 2 ? null : row[at]))));
      waiting.time.forEach((time, at) => append(full, time, waiting.columns.map((column) => column[at])));
      store.current = full;
      setNote("");
    }).catch((/** @type {Error} */ error) => {
      if (!gone) setNote(T.historyFailed(error.message));
    });
    return () => {
      gone = true;
    };
  }, [which, length, view.links, cell.boot]);

  useEffect(() => {
    if (!ready) return undefined;
    const made = new uPlot(options(cell, places, names, size, newest, point, lanes), [[], ...names.map(() => [])], box.current);
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [which, lanes.join(","), size.width, size.height, cell.boot]);

  useEffect(() => {
    const kept = store.current;
    if (kept.columns.length !== names.length) return;
    append(kept, frame.time, names.map((name) => frame.value[places.get(name) ?? -1] ?? null));
    const start = from();
    // cut rarely: a splice a frame would copy everything each time
    const old = kept.time.findIndex((time) => time >= start);
    if (old > 500 || kept.time.length > LONGEST) {
      const cut = Math.max(old, kept.time.length - LONGEST, 0);
      kept.time.splice(0, cut);
      for (const column of kept.columns) column.splice(0, cut);
    }
    plot.current?.batch(() => {
      plot.current?.setData([kept.time, ...kept.columns], true);
      plot.current?.setScale("x", { min: start, max: frame.time });
    });
  });

  return html`<div class="plot" role="img" aria-label=${T.trendSays}><div class="fill" ref=${box}></div>${note ? html`<div class="note" role="status">${note}</div>` : null}</div>`;
}

/** @param {Cell} cell @param {Map<string, number>} places @param {string[]} names @param {{ width: number, height: number }} size @param {{ current: Props["view"] }} newest @param {(at: Cursor | null) => void} point @param {string[]} lanes
 * @returns {uPlot.Options} */
function options(cell, places, names, size, newest, point, lanes) {
  const points = names.map((name) => cell.points[places.get(name) ?? 0]);
  const eus = [...new Set(points.map((point) => point.eu))];
  const style = getComputedStyle(document.body).fontFamily;
  /** @type {uPlot.Scales} */
  const scales = { x: { time: true } };
  for (const eu of eus) {
    const of = points.filter((point) => point.eu === eu);
    const least = 0.02 * Math.max(...of.map((point) => point.high - point.low));
    scales[`y${eu}`] = {
      // a scale never blows noise up to the whole height
      range: (_, low, high) => {
        if (low === null || high === null) return [of[0].low, of[0].high];
        const pad = Math.max((high - low) * 0.08, (least - (high - low)) / 2);
        return [low - pad, high + pad];
      },
    };
  }
  // two eu have their axis beside the plot; the others have their value in the legend
  const axes = eus.slice(0, 2).map((eu, place) => {
    return { scale: `y${eu}`, side: place === 0 ? 3 : 1, grid: place === 0 ? GRID : { show: false }, ticks: { show: false }, size: 58, font: `12px ${style}`, labelFont: `12px ${style}`, stroke: "#2b3338", label: euText(eu) || T.value, labelSize: 18, space: 34,
      values: (/** @type {uPlot} */ _, /** @type {number[]} */ splits, /** @type {number} */ _axis, /** @type {number} */ _space, /** @type {number} */ step) => splits.map((value) => value.toFixed(Math.max(0, Math.min(4, Math.ceil(-Math.log10(step)))))) };
  });
  return {
    ...size, scales, legend: { show: false }, cursor: { drag: { x: false, y: false }, y: false }, padding: [6 + LANE * lanes.length, 12, 0, 0],
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
    axes: [{ grid: GRID, ticks: { show: false }, font: `12px ${style}`, stroke: "#2b3338", size: 30, values: [[86400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 0], [60, "{HH}:{mm}", null, null, null, null, null, null, 0], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0]] }, ...axes],
    series: [{}, ...points.map((point, place) => ({ label: point.name, scale: `y${point.eu}`, stroke: INK[place % INK.length], width: 2, dash: DASH[place % DASH.length], spanGaps: false, points: { show: false } }))],
    hooks: { drawClear: [(plot) => bands(plot, newest.current, lanes)],
      setCursor: [(plot) => {
        const at = plot.cursor.idx;
        point(at == null || plot.data[0][at] === undefined ? null : { time: plot.data[0][at], values: names.map((_, place) => plot.data[place + 1][at] ?? null) });
      }],
    },
  };
}

/** The phases of each unit in a lane above the plot, those of the first one as bands in it; alarms as marks at the foot.
 * @param {uPlot} plot @param {Props["view"]} view @param {string[]} lanes */
function bands(plot, view, lanes) {
  const { ctx, bbox } = plot;
  const px = devicePixelRatio;
  const [end, foot] = [bbox.left + bbox.width, bbox.top + bbox.height];
  ctx.save();
  ctx.font = `${11 * px}px ${getComputedStyle(document.body).fontFamily}`;
  ctx.textBaseline = "middle";
  lanes.forEach((unit, lane) => {
    const top = bbox.top - (lanes.length - lane) * LANE * px;
    ctx.fillStyle = "#39434a";
    ctx.textAlign = "right";
    ctx.fillText(unit, bbox.left - 5 * px, top + (LANE * px) / 2);
    ctx.textAlign = "left";
    (view.frame.batch?.steps ?? []).forEach((step, place) => {
      if (step.unit !== unit || step.started === null) return;
      const left = Math.max(bbox.left, plot.valToPos(step.started, "x", true));
      const right = Math.min(end, plot.valToPos(step.ended ?? view.frame.time, "x", true));
      if (right <= left) return;
      ctx.fillStyle = place % 2 ? "#d3d8da" : "#c3cacd";
      ctx.fillRect(left, top + px, right - left, (LANE - 2) * px);
      if (lane === 0) {
        ctx.fillStyle = place % 2 ? "#e5e8e9" : "#dde1e2";
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
      }
      const name = step.path.split("/").at(-1) ?? step.path;
      if (right - left > ctx.measureText(name).width + 8 * px) {
        ctx.fillStyle = "#20282c";
        ctx.fillText(name, left + 4 * px, top + (LANE * px) / 2);
      }
    });
  });
  for (const alarm of view.frame.alarms.filter((one) => lanes.includes(one.unit))) {
    const x = plot.valToPos(alarm.since, "x", true);
    if (x < bbox.left || x > end) continue;
    ctx.fillStyle = alarm.priority === 1 ? "#c8102e" : "#8a5a00";
    ctx.beginPath();
    ctx.moveTo(x, foot - 10 * px);
    ctx.lineTo(x + 6 * px, foot);
    ctx.lineTo(x - 6 * px, foot);
    ctx.fill();
  }
  ctx.restore();
}
