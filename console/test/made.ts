// Readings and anomalies made to order.
import type { Cause, Episode, ScoredReading } from "../src/api";
import { point, type Point } from "../src/model/readings";

/** 2023-11-14T22:13:20Z. */
export const START = 1_700_000_000;

export function at(secondsLater: number): string {
  return new Date((START + secondsLater) * 1000).toISOString();
}

export function cause(more: Partial<Cause> = {}): Cause {
  return {
    signal: "discharge_pressure",
    share: 0.61,
    direction: "low",
    value: 2.1,
    expected: [3.8, 4.4],
    detector: "cusum",
    ...more,
  };
}

export function reading(n: number, more: Partial<ScoredReading> = {}): ScoredReading {
  return {
    thing: "pump-1",
    event_time: at(n),
    arrival: at(n),
    position: `0:${n}:0`,
    verdict: { state: "normal" },
    score: 0.5,
    threshold: 3,
    values: { pressure: 4 + n / 100 },
    causes: [],
    ...more,
  };
}

export function points(from: number, to: number, step = 1): Point[] {
  const made: Point[] = [];
  for (let n = from; n < to; n += 1) made.push(point(reading(n, { event_time: at(n * step) })));
  return made;
}

export function episode(start: number, end: number | null, more: Partial<Episode> = {}): Episode {
  return {
    id: `pump-1@${at(start)}`,
    tenant: "tenant001",
    thing: "pump-1",
    start: at(start),
    peak: at(start + 1),
    end: end === null ? null : at(end),
    severity: "high",
    peak_score: 6,
    threshold: 3,
    readings: 10,
    causes: [cause({ signal: "pressure" })],
    known: at(start),
    corrected: null,
    withdrawn: null,
    ...more,
  };
}
