// The connection to the server: frames in, commands out. Nothing is ever queued: a command is sent now or refused.
import { T } from "./texts.js";
import { about } from "./format.js";

/** @import { View } from "./types.js" */

const STALE = 3; // [s]
const ANSWER = 4000; // [ms] for the answer to a command
const RETRY = 1000; // [ms]

/** @type {View} */
const view = { cell: null, frame: null, came: 0, connected: false, age: Infinity, stale: true, echo: null, links: 0 };
/** @type {Set<() => void>} */
const watchers = new Set();
const opened = performance.now();

/** @param {() => void} watcher */
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

export const look = () => view;

function changed() {
  view.age = (performance.now() - (view.frame ? view.came : opened)) / 1000;
  view.stale = view.frame === null || view.age > Math.max(STALE, (3 * (view.cell?.scan ?? 0)) / (view.cell?.speed || 1));
  for (const watcher of watchers) watcher();
}

/** @param {MessageEvent} event */
function take(event) {
  const said = JSON.parse(event.data);
  if (said.type === "cell") {
    // a server of another version brings other scripts
    if (view.cell && view.cell.version !== said.cell.version) location.reload();
    view.cell = said.cell;
    view.frame = said.frame;
    view.links += 1;
  } else if (said.type === "frame") {
    view.frame = said;
  }
  view.came = performance.now() - said.age * 1000;
  changed();
}

export function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  let heard = performance.now();
  socket.onopen = () => {
    view.connected = true;
    changed();
  };
  socket.onmessage = (event) => {
    heard = performance.now();
    take(event);
  };
  // a half-open socket says nothing: give it up, unless control itself is what is silent
  const watchdog = setInterval(() => {
    if (performance.now() - heard > 15000) socket.close();
  }, 1000);
  socket.onclose = () => {
    clearInterval(watchdog);
    view.connected = false;
    changed();
    setTimeout(connect, RETRY);
  };
}

/** Start: connect, and let the age run when nothing comes. */
export function begin() {
  connect();
  setInterval(changed, 500);
}

/** @param {View["echo"]} echo */
function say(echo) {
  view.echo = echo;
  changed();
}

const NAME = "blackmass.user";
export const user = () => localStorage.getItem(NAME) ?? "operator";
/** @param {string} name */
export function setUser(name) {
  localStorage.setItem(NAME, name);
  changed();
}

/** Why no command at all can be given now; empty if one can. */
export function whyMute() {
  if (view.stale) return T.staleWhy(view.frame ? about(view.age) : "a while");
  if (user().trim() === "") return T.userNeeded;
  return "";
}

/** Send a command and show what became of it; `what` is how people call it.
 * @param {string} what @param {Record<string, unknown>} command @returns {Promise<boolean>} */
export async function send(what, command) {
  const mute = whyMute();
  if (mute) {
    refuse(what, mute);
    return false;
  }
  say({ kind: "sent", text: T.sent(what), at: Date.now() });
  let why = T.noAnswer;
  try {
    const response = await fetch("/api/commands", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Blackmass": "1" },
      body: JSON.stringify({ who: user().trim(), ...command }),
      signal: AbortSignal.timeout(ANSWER),
    });
    const receipt = await response.json();
    if (response.ok && receipt.accepted) {
      say({ kind: "accepted", text: T.accepted(what), at: Date.now() });
      return true;
    }
    why = receipt.why || String(response.status);
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError)) throw error;
  }
  refuse(what, why);
  return false;
}

/** Show why something is not done.
 * @param {string} what @param {string} why */
export function refuse(what, why) {
  say({ kind: "refused", text: T.refused(what, why), at: Date.now() });
}

/** Show why a command is not possible, without sending it. @param {string} text */
export function explain(text) {
  say({ kind: "refused", text, at: Date.now() });
}
