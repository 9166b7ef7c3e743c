// Causes in words: which signal, how, what was expected, how much of the score.
import type { Cause, Episode } from "../api";
import { count, short } from "./numbers";

/** Beyond so many readings the estimate of a tail only says "never seen". */
const READINGS_MAX = 1e6;
/** What they find is measured, not rare. */
const MEASURED = ["limits", "silence", "reference"];

/** How rare the peak is, as the alert's sentence has it; nothing where the score is no chance. */
export function rarity(episode: Episode): string | undefined {
  const [first] = episode.causes;
  if (first === undefined || MEASURED.includes(first.detector)) return undefined;
  const readings = 10 ** episode.peak_score;
  return readings >= READINGS_MAX
    ? `seen less than once in ${count(READINGS_MAX)} readings of normal running`
    : `seen once in ${count(Number(readings.toPrecision(2)))} readings of normal running`;
}

/** `discharge_pressure low: 2.1, expected 3.8…4.4 (61 %)`; the same cases as the alert's sentence has. */
export function inWords(cause: Cause): string {
  const { value, low, high } = together(cause.value, cause.expected);
  const share = `(${Math.round(cause.share * 100)} %)`;
  if (cause.detector === "silence") return `no data for ${Math.round(cause.value)} s`;
  if (cause.detector === "gap") return `no data for ${short(cause.value)} s, usually at most ${short(cause.expected[1])} s`;
  if (cause.detector === "stuck") return `${cause.signal} stuck at ${short(cause.value)} ${share}`;
  if (cause.detector === "limits") {
    return `${cause.signal} ${short(cause.value)}, beyond the limit ${short(cause.expected[cause.direction === "low" ? 0 : 1])} ${share}`;
  }
  const ordinary = cause.expected[0] <= cause.value && cause.value <= cause.expected[1];
  if (cause.detector === "forest" && ordinary) {
    return `${cause.signal} ${value}, ordinary alone, unusual with the other signals ${share}`;
  }
  return `${cause.signal} ${cause.direction}: ${value}, expected ${low}…${high} ${share}`;
}

/** The three numbers with as many decimals as it takes to tell them apart, two digits of the range's width. */
export function together(value: number, [low, high]: [number, number]): { value: string; low: string; high: string } {
  const width = Math.abs(high - low);
  const largest = Math.max(Math.abs(value), Math.abs(low), Math.abs(high));
  if (!(width > 0) || !Number.isFinite(largest) || largest >= 1e7 || width < 1e-5) {
    return { value: short(value), low: short(low), high: short(high) };
  }
  let decimals = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(width))));
  const written = () => [value, low, high].map((number) => number.toFixed(decimals));
  while (decimals > 0 && written().every((text) => text.endsWith("0"))) decimals -= 1;
  const [v = "", l = "", h = ""] = written();
  return { value: v, low: l, high: h };
}
