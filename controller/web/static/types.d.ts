// What comes over the wire: docs/reference/page-api.md. Times are plant clock [s since 1970-01-01 UTC]; null is BAD or not known.
export type Kind = "input" | "output" | "setpoint" | "mode" | "device" | "service" | "batch";

export interface Point {
  name: string; eu: string; low: number; high: number; description: string; kind: Kind; unit: string; device: string;
  normal?: [number, number] | null;
}
export interface Unit { name: string; unit_class: string; description: string; roles: Record<string, string>; key: string[] }
export interface Loop { name: string; description: string; unit: string; pv: string; sp: string; out: string; mode: string }
export interface Device { name: string; profile: string; address: string; description: string; texts: Record<string, string> }
export interface Interlock { name: string; unit: string; text: string }
export interface Parameter { value: string; low?: string | null; high?: string | null; description?: string }
export interface Recipe { id: string; version: number | string; title: string; path: string; formula: Record<string, Parameter> }

export interface Cell {
  version: string; cell: string; description: string; simulated: boolean; mode: string; speed: number; scan: number; boot: number;
  points: Point[]; units: Unit[]; loops: Loop[]; devices: Device[]; interlocks: Interlock[]; recipes: Recipe[];
}

export interface Step {
  path: string; unit: string; phase: string; state: "idle" | "running" | "held" | "done" | "failed" | "stopped";
  why: string; started: number | null; ended: number | null; limit: number | null;
}
export interface Prompt { id: string; step: string; text: string; role: string; kind: "confirm" | "number" | "text"; eu: string; since: number }
export interface Purity {
  value: number | null; quality: 0 | 1 | 2; says: string; recovery: number | null;
  budget: { name: string; points: number | null; source: "assay" | "estimate" }[];
}
export interface Batch {
  id: string; recipe: string; version: number; state: string; started: number; ended: number | null; why: string;
  steps: Step[]; prompts: Prompt[]; purity: Purity; remaining: number | null; deviations: number; released: boolean | null;
}
export interface UnitState { name: string; unit_class: string; state: string; step: string; why: string; interlocks: string[] }
export interface Alarm {
  name: string; unit: string; priority: 1 | 2 | 3; state: "unacknowledged" | "acknowledged" | "returned";
  text: string; cause: string; consequence: string; action: string; since: number;
}
export interface Frame {
  boot: number; seq: number; time: number; wall: number; value: (number | null)[]; quality: (0 | 1 | 2)[];
  state: string; commands: [string, string][]; batch: Batch | null; units: UnitState[]; alarms: Alarm[];
}
export interface History { time: number[]; value: (number | null)[][]; quality: (0 | 1 | 2)[][] }

/** One value as it is shown. */
export interface Reading { point: Point; value: number | null; quality: 0 | 1 | 2 }

export interface Echo { kind: "sent" | "accepted" | "refused"; text: string; at: number }

/** Everything that the page knows. */
export interface View {
  cell: Cell | null;
  frame: Frame | null;
  /** performance.now() [ms] of the newest frame's arrival at the server */
  came: number;
  connected: boolean;
  /** [s] since the newest frame */
  age: number;
  stale: boolean;
  echo: Echo | null;
  /** how often the connection was made; a trend reads its history anew after each */
  links: number;
}

/** What a part of the page gets. */
export interface Props { view: View & { cell: Cell; frame: Frame }; places: Map<string, number> }
