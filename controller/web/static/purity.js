// Purity so far, what takes it away, and how long the batch will go on.
import { html } from "./lib.js";
import { about, prose, span } from "./format.js";
import { T } from "./texts.js";

/** @import { Props } from "./types.js" */

/** @param {Props} props */
export function PurityCard({ view }) {
  const batch = view.frame.batch;
  const speed = view.cell.speed;
  const purity = batch?.purity;
  const known = purity && purity.value !== null && purity.quality !== 2;
  const lines = [...(purity?.budget ?? [])].filter((line) => line.points !== null).sort((a, b) => Number(b.points) - Number(a.points));
  const most = Math.max(0.01, ...lines.map((line) => Number(line.points)));
  const shown = lines.slice(0, 8);
  const rest = lines.slice(8).reduce((sum, line) => sum + Number(line.points), 0);
  return html`<section class="card purity" aria-label=${T.purity}><h2>${T.purity}</h2>
    <div class=${`big q${purity?.quality ?? 2}`} data-test="purity" data-quality=${purity?.quality ?? 2}>${known
      ? html`<b>${Number(purity.value).toFixed(2)}</b><span class="eu"> wt%</span>${purity.quality === 1 ? html`<b class="mark" title=${T.quality[1]}>?</b>` : null}`
      : html`<b><s>—</s></b> <span class="mark">${T.purityUnknown}</span>`}</div>
    ${purity?.says ? html`<p class="says">${prose(purity.says)}</p>` : null}
    <dl><div><dt>${T.recovery}</dt><dd>${purity?.recovery != null ? `${purity.recovery.toFixed(1)} %` : "—"}</dd></div>
      <div><dt>${T.remaining}</dt><dd title=${batch?.remaining != null ? T.remainingReal(about(batch.remaining / speed)) : ""}>${batch?.remaining != null ? span(batch.remaining) : "—"}</dd></div>
      <div><dt>${T.deviations}</dt><dd class=${batch?.deviations ? "abnormal" : ""}>${batch ? batch.deviations : "—"}</dd></div>
      <div><dt>${T.release}</dt><dd class=${batch?.released === false ? "abnormal" : ""}>${batch ? (batch.released === null ? T.released.open : batch.released ? T.released.yes : T.released.no) : "—"}</dd></div></dl>
    ${shown.length ? html`<h3>${T.budget} <span class="muted">[wt%]</span></h3><ul class="budget">${shown.map((line) => html`<li key=${line.name}>
      <span>${line.name}</span><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class=${line.source} x="0" y="1" width=${(100 * Number(line.points)) / most} height="8" /></svg>
      <span class="number">${Number(line.points).toFixed(3)}</span><span class="muted">${T.source[line.source]}</span></li>`)}
      ${rest > 0 ? html`<li><span>…</span><span /><span class="number">${rest.toFixed(3)}</span><span class="muted" /></li>` : null}</ul>` : null}
  </section>`;
}
