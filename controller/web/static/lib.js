// The libraries under the names the page uses.
import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export { Component, h, render } from "./vendor/preact.js";
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
export const html = htm.bind(h);
