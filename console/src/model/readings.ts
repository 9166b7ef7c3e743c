// A window of one thing's readings: kept in order, without doubles, cut to what the charts show.
import type { Cause, ScoredReading } from "../api";
import { seconds } from "./time";

/** Readings that a window holds: ten minutes at ten a second. */
export const KEPT_MAX = 6000;
/** The live window shows this long… */
export const SHOWN_SECONDS = 600;
/** …or as many readings, whichever is longer: slow or replayed things send hours apart. */
export const SHOWN_READINGS = 600;
/** A window of a thing that has only just begun is at least this wide. */
const SHOWN_SECONDS_MIN = 60;

/** A reading with its event time in seconds, so that it is parsed once. */
export interface Point {
  at: number;
  reading: ScoredReading;
}

export function point(reading: ScoredReading): Point {
  return { at: seconds(reading.event_time), reading };
}

/** Both in order of event time, each position once in its newest revision, the newest `max`. Neither input is changed. */
export function merge(window: readonly Point[], incoming: readonly Point[], max = KEPT_MAX): Point[] {
  const known = new Map(window.map((p) => [p.reading.position, p]));
  const fresh: Point[] = [];
  const revised = new Map<string, Point>();
  for (const p of incoming) {
    const { position } = p.reading;
    const other = known.get(position);
    if (other && revision(p) <= revision(other)) continue;
    known.set(position, p);
    if (other) revised.set(position, p);
    else fresh.push(p);
  }
  if (fresh.length === 0 && revised.size === 0) return window.slice(-max);
  const all = [...window, ...fresh].map((p) => revised.get(p.reading.position) ?? p);
  const last = window.at(-1);
  const inOrder = fresh.every((p, i) => p.at >= (fresh[i - 1]?.at ?? last?.at ?? -Infinity));
  if (!inOrder) all.sort((a, b) => a.at - b.at || comparePositions(a.reading.position, b.reading.position));
  return all.slice(-max);
}

function revision(p: Point): number {
  return p.reading.corrected?.revision ?? 0;
}

function comparePositions(a: string, b: string): number {
  const left = a.split(":").map(Number);
  const right = b.split(":").map(Number);
  for (let i = 0; i < left.length; i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Typical seconds between readings; `null` with fewer than two. */
export function spacing(points: readonly Point[]): number | null {
  const gaps = points.slice(-100).flatMap((p, i, all) => (i === 0 ? [] : [p.at - (all[i - 1]?.at ?? p.at)]));
  gaps.sort((a, b) => a - b);
  return gaps[Math.floor(gaps.length / 2)] ?? null;
}

/** From and to of the live view, in seconds; `null` without readings. It ends at the newest reading, whenever that was. */
export function liveRange(points: readonly Point[]): [number, number] | null {
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last) return null;
  const byCount = points.at(-SHOWN_READINGS)?.at ?? first.at;
  const wanted = Math.min(last.at - SHOWN_SECONDS, byCount);
  return [Math.min(Math.max(wanted, first.at), last.at - SHOWN_SECONDS_MIN), last.at];
}

export function between(points: readonly Point[], [from, to]: [number, number]): Point[] {
  return points.filter((p) => p.at >= from && p.at <= to);
}

/** What the charts draw: one column per line, all of one length. */
export interface Columns {
  at: number[];
  score: (number | null)[];
  threshold: (number | null)[];
  signals: Map<string, SignalColumns>;
  /** Signals that are there but not drawn. */
  left_out: number;
}

export interface SignalColumns {
  value: (number | null)[];
  /** What would have been ordinary, where a reading says so. */
  low: (number | null)[];
  high: (number | null)[];
}

/** Charts on one page; a device may send thousands of fields. */
export const SIGNALS_MAX = 24;
/** Expected ranges this many readings apart are joined: a reading tells them only for its own three largest causes. */
const JOINED_READINGS = 20;

export function columns(points: readonly Point[]): Columns {
  const names = chosen(points);
  const blank = () => new Array<number | null>(points.length).fill(null);
  const signals = new Map<string, SignalColumns>();
  for (const name of names.drawn) signals.set(name, { value: blank(), low: blank(), high: blank() });
  points.forEach(({ reading }, i) => {
    for (const [name, column] of signals) column.value[i] = reading.values[name] ?? null;
    for (const cause of reading.causes) {
      const column = signals.get(cause.signal);
      if (!column) continue;
      column.low[i] = cause.expected[0];
      column.high[i] = cause.expected[1];
    }
  });
  for (const column of signals.values()) {
    join(column.low);
    join(column.high);
  }
  return {
    at: points.map((p) => p.at),
    score: points.map((p) => p.reading.score),
    threshold: points.map((p) => p.reading.threshold),
    signals,
    left_out: names.left_out,
  };
}

/** The signals to draw, by name; where there are too many, those that were ever a cause go first. */
function chosen(points: readonly Point[]): { drawn: string[]; left_out: number } {
  const all = new Set<string>();
  const blamed = new Set<string>();
  for (const { reading } of points) {
    for (const name in reading.values) all.add(name);
    if (reading.verdict.state === "anomalous") for (const cause of reading.causes) blamed.add(cause.signal);
  }
  const sorted = [...all].sort();
  if (sorted.length <= SIGNALS_MAX) return { drawn: sorted, left_out: 0 };
  const first = sorted.filter((name) => blamed.has(name)).slice(0, SIGNALS_MAX);
  const rest = sorted.filter((name) => !blamed.has(name)).slice(0, SIGNALS_MAX - first.length);
  return { drawn: [...first, ...rest].sort(), left_out: sorted.length - first.length - rest.length };
}

function join(column: (number | null)[]): void {
  let last = -1;
  for (let i = 0; i < column.length; i += 1) {
    const here = column[i];
    if (here === null || here === undefined) continue;
    const before = last < 0 ? null : (column[last] ?? null);
    if (before !== null && i - last > 1 && i - last <= JOINED_READINGS) {
      for (let k = last + 1; k < i; k += 1) column[k] = before + ((here - before) * (k - last)) / (i - last);
    }
    last = i;
  }
}

/** Low and high of an axis: all values, and the expected range as far as it does not squeeze them flat. */
export function valueRange(column: SignalColumns): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of column.value) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const room = Math.max(high - low, Math.abs(high) * 1e-3, 1e-9);
  let [bottom, top] = [low, high];
  column.low.forEach((value, i) => {
    const other = column.high[i];
    if (value === null || other === null || other === undefined) return;
    bottom = Math.min(bottom, Math.max(value, low - room));
    top = Math.max(top, Math.min(other, high + room));
  });
  const margin = Math.max((top - bottom) * 0.08, room * 0.08);
  return [bottom - margin, top + margin];
}

export function causeOf(reading: ScoredReading, signal: string): Cause | undefined {
  return reading.causes.find((cause) => cause.signal === signal);
}
