// How a thing is, in one word, and how fast messages come in.
import type { Episode, ScoredReading, Severity } from "../api";
import { seconds } from "./time";

/** Without a reading for this long a thing is silent, unless it is a slow one. */
const SILENT_SECONDS = 30;
/** A slow thing is silent after as many of its usual gaps. */
const SILENT_GAPS = 6;

export type Status =
  | { state: "unknown" }
  | { state: "silent"; age: number }
  | { state: "warming"; age: number; seen: number; needed: number }
  | { state: "normal" | "paused"; age: number }
  | { state: "anomalous"; age: number; severity: Severity };

/** `gap`: usual seconds between arrivals, where known. `open`: the thing's open anomaly, where it has one. */
export function statusOf(
  last: ScoredReading | undefined,
  gap: number | null,
  open: Episode | undefined,
  now: number,
): Status {
  if (!last) return { state: "unknown" };
  const age = Math.max(0, now - seconds(last.arrival));
  if (age > Math.max(SILENT_SECONDS, SILENT_GAPS * (gap ?? 0))) return { state: "silent", age };
  if (last.verdict.state === "warming") {
    return { state: "warming", age, seen: last.verdict.seen, needed: last.verdict.needed };
  }
  if (open || last.verdict.state === "anomalous") {
    return { state: "anomalous", age, severity: open?.severity ?? "low" };
  }
  return { state: last.verdict.state, age };
}

/** The word beside the dot. */
export function statusWord(status: Status): string {
  switch (status.state) {
    case "unknown":
      return "no reading yet";
    case "warming":
      return `warming ${status.seen} of ${status.needed}`;
    case "anomalous":
      return `anomalous, ${status.severity}`;
    default:
      return status.state;
  }
}

/** Counts of received messages over time, from which the rate follows. */
export interface Sample {
  at: number;
  received: number;
}

/** Long enough to be steady, short enough to show a stop. */
const RATE_SECONDS = 20;

export function addSample(samples: readonly Sample[], sample: Sample): Sample[] {
  const last = samples.at(-1);
  // A count that shrank is another installation's, or a tenant was removed: begin anew.
  if (last && sample.received < last.received) return [sample];
  return [...samples.filter((old) => sample.at - old.at <= RATE_SECONDS), sample];
}

/** Messages per second; `null` until there are two samples. */
export function messageRate(samples: readonly Sample[]): number | null {
  const first = samples[0];
  const last = samples.at(-1);
  if (!first || !last || last.at <= first.at) return null;
  return (last.received - first.received) / (last.at - first.at);
}
