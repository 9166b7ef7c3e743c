// What the console knows: asked for at first, kept up to date by live events, asked for again after a gap.
import { api, type Alert, type Episode, type LiveEvent, type Overview, type Readiness, type ScoredReading, type Tenant } from "./api";
import { follow, type Link } from "./live";
import { LISTED_MAX, around, upsertAlert, upsertEpisode } from "./model/episodes";
import { KEPT_MAX, SHOWN_READINGS, SHOWN_SECONDS, merge, point, spacing, type Point } from "./model/readings";
import { addSample, messageRate, type Sample } from "./model/status";
import { iso, seconds } from "./model/time";

/** Live events are drawn together this often: the eye sees no difference, the processor does. */
const DRAW_MS = 250;
const POLL_MS = 5_000;
/** Things whose last reading is asked for at the start; the others show once they send. */
const ASKED_THINGS_MAX = 200;
const ASKED_AT_ONCE = 4;

export interface ThingState {
  tenant: string;
  thing: string;
  last?: ScoredReading;
  /** Usual seconds between arrivals. */
  gap: number | null;
}

/** The thing whose charts are shown. */
export interface Shown {
  tenant: string;
  thing: string;
  live: Point[];
  loaded: boolean;
  failure: string | null;
  /** Readings around an anomaly that was picked; instead of the live ones. */
  past: { episode: Episode; points: Point[]; loaded: boolean } | null;
  /** What the viewer zoomed to. */
  zoom: [number, number] | null;
}

export const keyOf = (tenant: string, thing: string) => `${tenant}/${thing}`;

export class Plant {
  overview: Overview | null = null;
  readiness: Readiness | null = null;
  tenants: Tenant[] | null = null;
  episodes: Episode[] | null = null;
  alerts: Alert[] | null = null;
  things = new Map<string, ThingState>();
  shown: Shown | null = null;
  link: Link = "connecting";
  /** Why the server could not be asked, while it cannot. */
  failure: string | null = null;
  #samples: Sample[] = [];
  #waiting: LiveEvent[] = [];
  #drawing: ReturnType<typeof setTimeout> | undefined;
  #listeners = new Set<() => void>();

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed(): void {
    for (const listener of this.#listeners) listener();
  }

  start(): void {
    follow({
      event: (event) => this.#receive(event),
      link: (link, anew) => {
        this.link = link;
        if (anew) void this.refresh();
        this.changed();
      },
    });
    void this.refresh();
    setInterval(() => {
      if (document.visibilityState === "visible") void this.#poll();
    }, POLL_MS);
    setInterval(() => this.changed(), 1000);
  }

  /** Messages per second that the installation receives. */
  get rate(): number | null {
    return messageRate(this.#samples);
  }

  openEpisode(tenant: string, thing: string): Episode | undefined {
    return this.episodes?.find((e) => e.end === null && e.tenant === tenant && e.thing === thing);
  }

  /** Asks for everything again: at the start, and after events were missed. */
  async refresh(): Promise<void> {
    await Promise.all([this.#poll(), this.#findings()]);
    await Promise.all([this.#lastReadings(), this.shown ? this.#load(this.shown) : null]);
  }

  async #poll(): Promise<void> {
    try {
      const [overview, readiness, tenants] = await Promise.all([api.overview(), api.readiness(), api.tenants()]);
      Object.assign(this, { overview, readiness, tenants, failure: null });
      this.#samples = addSample(this.#samples, { at: Date.now() / 1000, received: overview.ledger.received });
      this.#keepThings(tenants);
    } catch (error) {
      this.failure = error instanceof Error ? error.message : String(error);
    }
    this.changed();
  }

  #keepThings(tenants: Tenant[]): void {
    const there = new Map<string, ThingState>();
    for (const { tenant, things } of tenants) {
      for (const thing of things) {
        const key = keyOf(tenant, thing);
        there.set(key, this.things.get(key) ?? { tenant, thing, gap: null });
      }
    }
    this.things = there;
  }

  async #findings(): Promise<void> {
    try {
      [this.episodes, this.alerts] = await Promise.all([
        api.anomalies({ limit: LISTED_MAX }),
        api.alerts({ limit: LISTED_MAX }),
      ]);
    } catch {
      // The poll says that the server cannot be reached; the lists keep what they have.
    }
    this.changed();
  }

  async #lastReadings(): Promise<void> {
    const asked = [...this.things.values()].slice(0, ASKED_THINGS_MAX);
    const worker = async () => {
      for (let thing = asked.shift(); thing; thing = asked.shift()) {
        const newest = await api.readings(thing.tenant, thing.thing, 10).catch(() => []);
        const last = newest.at(-1);
        if (!last) continue;
        thing.last = last;
        thing.gap = spacing(newest.map((reading) => ({ at: seconds(reading.arrival), reading })));
      }
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, worker));
    this.changed();
  }

  /** Shows a thing's charts: live, or around an anomaly. */
  show(tenant: string, thing: string, episodeId?: string): void {
    const same = this.shown?.tenant === tenant && this.shown.thing === thing;
    if (!same) {
      this.shown = { tenant, thing, live: [], loaded: false, failure: null, past: null, zoom: null };
      void this.#load(this.shown);
    }
    const shown = this.shown;
    if (!shown) return;
    shown.zoom = null;
    const episode = this.episodes?.find((e) => e.id === episodeId && e.tenant === tenant);
    if (!episode) {
      shown.past = null;
    } else if (shown.past?.episode.id !== episode.id) {
      shown.past = { episode, points: [], loaded: false };
      void this.#loadPast(shown, episode);
    }
    this.changed();
  }

  zoom(range: [number, number] | null): void {
    if (!this.shown) return;
    this.shown.zoom = range;
    this.changed();
  }

  async #load(shown: Shown): Promise<void> {
    try {
      let newest = await api.readings(shown.tenant, shown.thing, SHOWN_READINGS);
      const first = newest[0];
      const last = newest.at(-1);
      const short = first && last && seconds(last.event_time) - seconds(first.event_time) < SHOWN_SECONDS;
      if (short && newest.length === SHOWN_READINGS) newest = await api.readings(shown.tenant, shown.thing, KEPT_MAX);
      shown.live = merge(newest.map(point), shown.live);
      shown.failure = null;
    } catch (error) {
      shown.failure = error instanceof Error ? error.message : String(error);
    }
    shown.loaded = true;
    this.changed();
  }

  async #loadPast(shown: Shown, episode: Episode): Promise<void> {
    try {
      // How far apart readings were then, as far as the first of two questions tells.
      const near = await api.readings(shown.tenant, shown.thing, 50, episode.peak);
      const { before, limit } = around(episode, spacing(near.map(point)));
      const points = await api.readings(shown.tenant, shown.thing, limit, iso(before));
      if (shown.past?.episode.id !== episode.id) return;
      shown.past = { episode, points: points.map(point), loaded: true };
    } catch (error) {
      shown.failure = error instanceof Error ? error.message : String(error);
    }
    this.changed();
  }

  #receive(event: LiveEvent): void {
    this.#waiting.push(event);
    this.#drawing ??= setTimeout(() => {
      this.#drawing = undefined;
      this.#apply(this.#waiting.splice(0));
      this.changed();
    }, DRAW_MS);
  }

  #apply(events: LiveEvent[]): void {
    const fresh: Point[] = [];
    for (const event of events) {
      if (event.type === "reading") this.#reading(event.tenant, event.reading, fresh);
      else if (event.type === "anomaly") this.#anomaly(event.episode);
      else if (event.type === "alert") this.alerts = upsertAlert(this.alerts ?? [], event.alert);
      else void this.refresh();
    }
    if (this.shown && fresh.length > 0) this.shown.live = merge(this.shown.live, fresh);
  }

  #reading(tenant: string, reading: ScoredReading, fresh: Point[]): void {
    const key = keyOf(tenant, reading.thing);
    const thing: ThingState = this.things.get(key) ?? { tenant, thing: reading.thing, gap: null };
    const corrects = thing.last?.position === reading.position;
    // What came late says nothing of how the thing is now.
    const newest = !thing.last || seconds(reading.event_time) >= seconds(thing.last.event_time);
    if (thing.last && newest && !corrects) {
      const gap = Math.max(0, seconds(reading.arrival) - seconds(thing.last.arrival));
      thing.gap = thing.gap === null ? gap : 0.8 * thing.gap + 0.2 * gap;
    }
    if (newest) thing.last = reading;
    this.things.set(key, thing);
    if (this.shown && keyOf(this.shown.tenant, this.shown.thing) === key) fresh.push(point(reading));
  }

  #anomaly(episode: Episode): void {
    this.episodes = upsertEpisode(this.episodes ?? [], episode);
    const past = this.shown?.past;
    if (past && past.episode.id === episode.id && past.episode.tenant === episode.tenant) past.episode = episode;
  }
}
