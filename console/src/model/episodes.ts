// Anomalies as lists and as shaded spans of a chart.
import type { Alert, Episode, Severity } from "../api";
import { seconds } from "./time";

/** What the lists hold; older ones are asked for with `kilter anomalies list`. */
export const LISTED_MAX = 200;

/** Puts a new or changed episode into a list that is sorted by newest start. */
export function upsertEpisode(list: readonly Episode[], episode: Episode): Episode[] {
  const others = list.filter((known) => known.id !== episode.id || known.tenant !== episode.tenant);
  const at = others.findIndex((known) => seconds(known.start) <= seconds(episode.start));
  const place = at < 0 ? others.length : at;
  return [...others.slice(0, place), episode, ...others.slice(place)].slice(0, LISTED_MAX);
}

/** Puts a new or changed alert (deliveries are added later) into a list that is sorted by newest first. */
export function upsertAlert(list: readonly Alert[], alert: Alert): Alert[] {
  const place = list.findIndex((known) => known.key === alert.key && known.episode.tenant === alert.episode.tenant);
  if (place >= 0) return list.map((known, i) => (i === place ? alert : known));
  return [alert, ...list].sort((a, b) => seconds(b.raised) - seconds(a.raised)).slice(0, LISTED_MAX);
}

export interface Span {
  id: string;
  from: number;
  to: number;
  /** `null` where the peak lies outside the range. */
  peak: number | null;
  severity: Severity;
  open: boolean;
  signals: Set<string>;
}

/** The episodes of a thing as far as they lie in a range. An open one lasts until the range's end. */
export function spans(
  episodes: readonly Episode[],
  tenant: string,
  thing: string,
  [from, to]: [number, number],
): Span[] {
  const found: Span[] = [];
  for (const episode of episodes) {
    if (episode.tenant !== tenant || episode.thing !== thing || episode.withdrawn !== null) continue;
    const start = seconds(episode.start);
    const end = episode.end === null ? Math.max(to, start) : seconds(episode.end);
    if (start > to || end < from) continue;
    const peak = seconds(episode.peak);
    found.push({
      id: episode.id,
      from: Math.max(start, from),
      to: Math.min(end, to),
      peak: peak >= from && peak <= to ? peak : null,
      severity: episode.severity,
      open: episode.end === null,
      signals: new Set(episode.causes.map((cause) => cause.signal)),
    });
  }
  return found;
}

/** What late readings have made of it, and since when that is known; `null` where they have not. */
export function correctionOf(episode: Episode): { what: string; known: string } | null {
  if (episode.corrected === null) return null;
  return { what: episode.withdrawn === null ? "amended" : "withdrawn", known: episode.corrected.known };
}

/** Which readings to load so that an episode stands in the middle: up to when, and how many. */
export function around(episode: Episode, spacingSeconds: number | null): { before: number; limit: number } {
  const gap = spacingSeconds ?? 1;
  const margin = Math.min(Math.max(Math.round(episode.readings / 2), 90), 1500);
  const end = seconds(episode.end ?? episode.peak);
  return { before: end + margin * gap, limit: Math.min(episode.readings + 2 * margin, 6000) };
}
