// The operator page: what is where. link.js knows the server, texts.js the words, the other modules one panel each.
import { html, render, useEffect, useMemo, useState } from "./lib.js";
import { begin, look, watch } from "./link.js";
import { Banner } from "./banner.js";
import { BatchStrip, RunningNow, Steps } from "./batch.js";
import { Alarms, Devices } from "./lists.js";
import { Mimic } from "./mimic.js";
import { Prompts } from "./prompts.js";
import { PurityCard } from "./purity.js";
import { StartForm } from "./start.js";
import { TrendPanel } from "./trend.js";
import { UnitDetail } from "./unit.js";
import { T } from "./texts.js";

/** @import { Props } from "./types.js" */

const TABS = /** @type {(keyof typeof T.tabs)[]} */ (Object.keys(T.tabs));
const SHOWN = 20000; // [ms] an answer stays on the screen
const tabOf = () => TABS.find((tab) => location.hash === `#${tab}`) ?? "overview";

function App() {
  const [, again] = useState(0);
  const [tab, setTab] = useState(tabOf());
  const [drawer, setDrawer] = useState(/** @type {string | null} */ (null));
  useEffect(() => watch(() => again((n) => n + 1)), []);
  useEffect(() => {
    const follow = () => setTab(tabOf());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const view = look();
  const { cell, frame, echo } = view;
  const places = useMemo(() => new Map((cell?.points ?? []).map((point, place) => [point.name, place])), [cell]);
  const open = (/** @type {string} */ to) => {
    location.hash = to;
  };
  const waiting = frame?.alarms.filter((alarm) => alarm.state !== "acknowledged").length ?? 0;
  const all = /** @type {Props} */ ({ view, places });
  const unit = drawer?.startsWith("unit:") ? cell?.units.find((one) => one.name === drawer.slice(5)) : undefined;
  const close = () => setDrawer(null);
  return html`<${Banner} view=${view} places=${places} open=${open} />
    ${cell && frame ? html`<${BatchStrip} ...${all} start=${() => setDrawer("start")} />
    <nav class="tabs" aria-label=${T.product}>${TABS.map((name) => html`<a key=${name} href=${`#${name}`} aria-current=${tab === name ? "page" : undefined}>${T.tabs[name]}${name === "alarms" && waiting ? html` <b class="badge">${waiting}</b>` : null}</a>`)}
      <output class=${`echo ${echo?.kind ?? ""}`} data-test="echo" role="status" aria-live="polite">${echo && Date.now() - echo.at < SHOWN ? html`<i aria-hidden="true">${{ sent: "…", accepted: "✓", refused: "✕" }[echo.kind]}</i> ${echo.text}` : null}</output></nav>
    <${Prompts} ...${all} />
    <main class=${`at-${tab} ${view.stale ? "stale" : ""}`} data-test="main">
      ${tab === "overview" ? html`<div class="left"><${Mimic} ...${all} open=${(/** @type {string} */ name) => setDrawer(`unit:${name}`)} /><${TrendPanel} ...${all} /></div><div class="right"><${RunningNow} ...${all} /><${PurityCard} ...${all} /></div>` : null}
      ${tab === "batch" ? html`<${Steps} ...${all} /><${PurityCard} ...${all} />` : null}
      ${tab === "trends" ? html`<${TrendPanel} ...${all} tall=${true} />` : null}
      ${tab === "alarms" ? html`<${Alarms} ...${all} />` : null}
      ${tab === "devices" ? html`<${Devices} ...${all} />` : null}
      ${drawer === "start" ? html`<${StartForm} ...${all} close=${close} />` : null}
      ${unit ? html`<${UnitDetail} key=${unit.name} ...${all} unit=${unit} close=${close} />` : null}
    </main>` : null}`;
}

const page = document.getElementById("page");
if (page) {
  page.replaceChildren();
  render(html`<${App} />`, page);
  begin();
}
