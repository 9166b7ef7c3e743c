// The API as the door serves it (see /openapi.json), and how to ask for it.

export type Direction = "high" | "low" | "odd";
export type Severity = "low" | "medium" | "high" | "critical";

export interface Cause {
  signal: string;
  /** Part of the whole score, 0 to 1. */
  share: number;
  direction: Direction;
  value: number;
  expected: [number, number];
  detector: string;
}

export type Verdict = { state: "warming"; seen: number; needed: number } | { state: "normal" | "anomalous" | "paused" };

/** Late readings have changed a result. */
export interface Correction {
  revision: number;
  /** Since when the present result is known. */
  known: string;
  offset: number;
}

export interface ScoredReading {
  thing: string;
  event_time: string;
  arrival: string;
  /** `shard:offset:index`: unique within a tenant. */
  position: string;
  verdict: Verdict;
  score: number | null;
  threshold: number | null;
  values: Record<string, number>;
  causes: Cause[];
  corrected?: Correction;
}

export interface Episode {
  id: string;
  tenant: string;
  thing: string;
  start: string;
  peak: string;
  /** `null` while open. */
  end: string | null;
  severity: Severity;
  peak_score: number;
  threshold: number;
  readings: number;
  causes: Cause[];
  /** When it was first known. */
  known: string;
  corrected: Correction | null;
  /** When late readings showed that it never was. */
  withdrawn: string | null;
}

export interface Alert {
  key: string;
  event: "opened" | "closed" | "amended" | "withdrawn";
  raised: string;
  episode: Episode;
  summary: string;
  deliveries: { to: string; at: string; attempts: number; error: string | null }[];
}

export interface LedgerCounts {
  received: number;
  stored: number;
  rejected: number;
  scored: number;
  late: number;
  waiting: number;
}

export interface LedgerEntry extends LedgerCounts {
  tenant: string;
  thing: string;
  discrepancy: string | null;
}

export interface Overview {
  version: string;
  ready: boolean;
  tenants: { tenant: string; things: number }[];
  ledger: LedgerCounts & { adds_up: boolean };
}

export interface Readiness {
  ready: boolean;
  items: { name: string; ready: boolean; detail: string }[];
}

export interface Tenant {
  tenant: string;
  things: string[];
  budget: { per_asset_and_week: number };
}

export type LiveEvent =
  | { type: "reading"; tenant: string; reading: ScoredReading }
  | { type: "anomaly"; episode: Episode }
  | { type: "alert"; alert: Alert }
  | { type: "missed"; events: number };

export type EventFilter = { tenant?: string; thing?: string; limit: number };

const base = "/api/v1";

/** Answers other than success become errors with the server's own words. `accept` lists statuses that are answers too. */
async function get<T>(path: string, accept: number[] = []): Promise<T> {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok && !accept.includes(response.status)) {
    const problem = (await response.json().catch(() => null)) as { message?: string } | null;
    throw new Error(problem?.message ?? `${path} answered ${response.status}`);
  }
  return (await response.json()) as T;
}

function query(parameters: Record<string, string | number | undefined>): string {
  const given = Object.entries(parameters).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]]));
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

export const api = {
  overview: () => get<Overview>(`${base}/overview`),
  readiness: () => get<Readiness>("/readyz", [503]),
  tenants: () => get<Tenant[]>(`${base}/tenants`),
  readings: (tenant: string, thing: string, limit: number, before?: string) =>
    get<ScoredReading[]>(
      `${base}/tenants/${encodeURIComponent(tenant)}/things/${encodeURIComponent(thing)}/readings${query({ before, limit })}`,
    ),
  anomalies: (filter: EventFilter) => get<Episode[]>(`${base}/anomalies${query(filter)}`),
  alerts: (filter: EventFilter) => get<Alert[]>(`${base}/alerts${query(filter)}`),
  ledger: () => get<LedgerEntry[]>(`${base}/ledger`),
  live: () => new EventSource(`${base}/live`),
};
