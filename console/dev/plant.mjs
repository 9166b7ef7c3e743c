// A made-up pump station with plausible physics and a few faults. For the mock server only: the real
// simulation and the real detectors live in the Rust crates.

const TENANT = "tenant001";
const THINGS = ["booster-pump-1", "booster-pump-2", "feed-pump-1", "feed-pump-2", "transfer-pump-1", "well-pump-1"];
const HISTORY_SECONDS = 1500;
const THRESHOLD = 3.4;

// [thing, begins seconds ago, lasts seconds (null: still open), severity, what it does]
const FAULTS = [
  ["feed-pump-1", 1260, 40, "low", "stuck"],
  ["booster-pump-2", 1010, 75, "high", "cavitation"],
  ["transfer-pump-1", 690, 30, "medium", "leak"],
  ["booster-pump-1", 455, 62, "high", "cavitation"],
  ["well-pump-1", 330, 24, "low", "leak"],
  ["booster-pump-1", 96, null, "critical", "bearing"],
];

const EFFECTS = {
  cavitation: [["discharge_pressure", -1.7, "low", 0.61], ["vibration", 3.1, "high", 0.27], ["flow", -9, "low", 0.12]],
  bearing: [["bearing_temperature", 17, "high", 0.52], ["vibration", 2.6, "high", 0.36], ["motor_current", 3.1, "high", 0.12]],
  leak: [["flow", 8, "high", 0.55], ["discharge_pressure", -0.8, "low", 0.45]],
  stuck: [["suction_pressure", 0, "odd", 1.0]],
};

const BAND = { discharge_pressure: 0.32, vibration: 0.45, flow: 2.2, bearing_temperature: 2.6, motor_current: 0.9, suction_pressure: 0.08, speed: 14, tank_level: 2 };

function noise(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 + ((Math.imul(state, 22695477) >>> 8) & 0xffff) / 65536 - 1) * 1.2;
  };
}

export class Simulation {
  constructor(scenario) {
    this.scenario = scenario;
    this.started = Math.floor(Date.now() / 1000);
    this.shift = scenario === "replay" ? Date.parse("2013-12-16T17:25:00Z") / 1000 - this.started : 0;
    this.random = noise(42);
    this.sequence = 0;
    this.log = new Map(this.names().map((name) => [name, []]));
    this.episodes = [];
    this.alertList = [];
    this.received = 0;
    if (scenario === "noreadings") return;
    const history = scenario === "warming" ? 90 : HISTORY_SECONDS;
    for (let t = this.started - history; t <= this.started; t += 1) this.step(t);
  }

  names() {
    if (this.scenario === "empty" || this.scenario === "nothings") return [];
    return THINGS;
  }

  step(now) {
    if (["empty", "nothings", "noreadings"].includes(this.scenario)) return [];
    const t = Math.round(now);
    const events = [];
    for (const [i, name] of this.names().entries()) {
      // One pump fell silent five minutes ago.
      if (name === "feed-pump-2" && t > this.started - 300) continue;
      const reading = this.reading(name, i, t, events);
      this.log.get(name).push(reading);
      this.received += 1;
      events.push({ type: "reading", tenant: TENANT, reading });
    }
    return events;
  }

  reading(name, i, t, events) {
    const r = this.random;
    const slow = Math.sin((t + i * 311) / 95) + 0.5 * Math.sin((t + i * 97) / 37);
    const speed = 1480 + 9 * slow + 2.2 * r();
    const values = {
      speed,
      suction_pressure: 1.2 + 0.02 * slow + 0.008 * r(),
      discharge_pressure: 4.1 + 0.011 * (speed - 1480) + 0.035 * r(),
      flow: 62 + 0.18 * (speed - 1480) + 0.5 * r(),
      motor_current: 31 + 0.06 * (speed - 1480) + 0.15 * r(),
      bearing_temperature: 63 + 1.1 * Math.sin((t + i * 500) / 260) + 0.12 * r(),
      vibration: 1.9 + 0.12 * Math.abs(r()) + 0.03 * slow,
      tank_level: 55 + 12 * Math.sin((t + i * 900) / 420) + 0.1 * r(),
    };
    const faults = this.scenario === "warming" ? [] : FAULTS;
    let causes = [];
    let strength = 0;
    let fault;
    for (const candidate of faults) {
      const [thing, ago, lasts] = candidate;
      const into = t - (this.started - ago);
      if (thing !== name || into < 0 || into > (lasts ?? Infinity)) continue;
      fault = candidate;
      strength = candidate[4] === "bearing" ? Math.min(1, into / 60) : Math.min(1, into / 6, ((lasts ?? 1e9) - into) / 6 + 0.2);
    }
    const ordinary = { ...values };
    if (fault) {
      for (const [signal, by, direction, share] of EFFECTS[fault[4]]) {
        values[signal] = direction === "odd" ? 1.2 : values[signal] + by * strength * (1 + 0.12 * r());
        causes.push(this.cause(signal, direction, share, values[signal], ordinary[signal]));
      }
    }
    const seen = this.log.get(name).length;
    const needed = this.scenario === "warming" ? 300 : 240;
    const warming = seen < needed;
    const base = 0.42 + Math.abs(r()) * 0.55 + (r() > 1.05 ? 0.7 : 0);
    const peak = { low: 4.1, medium: 5.2, high: 7.4, critical: 9.6 }[fault?.[3]] ?? 0;
    const score = Math.max(base, fault ? strength * peak * (0.94 + 0.06 * r()) : 0);
    const anomalous = !warming && score >= THRESHOLD;
    if (!anomalous && score > 0.9) {
      causes = ["flow", "vibration"].map((s, k) => this.cause(s, "high", k ? 0.4 : 0.6, values[s], ordinary[s]));
    }
    const reading = {
      thing: name,
      event_time: this.time(t),
      arrival: new Date(t * 1000 + 40).toISOString(),
      position: `0:${this.sequence++}:0`,
      verdict: warming ? { state: "warming", seen: seen + 1, needed } : { state: anomalous ? "anomalous" : "normal" },
      score: warming ? null : score,
      threshold: warming ? null : THRESHOLD,
      values,
      causes,
    };
    this.follow(name, reading, fault, anomalous, events);
    return reading;
  }

  cause(signal, direction, share, value, ordinary) {
    const half = BAND[signal] ?? 1;
    return { signal, share, direction, value, expected: [ordinary - half, ordinary + half], detector: share > 0.4 ? "forest" : "cusum" };
  }

  follow(name, reading, fault, anomalous, events) {
    let open = this.episodes.find((e) => e.thing === name && e.end === null);
    if (anomalous && !open) {
      open = {
        id: `${name}@${reading.event_time}`, tenant: TENANT, thing: name, start: reading.event_time, peak: reading.event_time,
        end: null, severity: fault[3], peak_score: reading.score, threshold: THRESHOLD, readings: 0, causes: reading.causes,
        known: reading.arrival, corrected: null, withdrawn: null,
      };
      this.episodes.unshift(open);
      this.tell(open, reading, "opened", events);
    }
    if (!open) return;
    if (anomalous) {
      open.readings += 1;
      if (reading.score > open.peak_score) Object.assign(open, { peak: reading.event_time, peak_score: reading.score, causes: reading.causes });
    } else {
      open.end = reading.event_time;
      this.tell(open, reading, "closed", events);
    }
    events.push({ type: "anomaly", episode: { ...open } });
  }

  tell(episode, reading, event, events) {
    const [first] = episode.causes;
    const alert = {
      key: `${episode.id}/${event}`, event, raised: reading.arrival, episode: { ...episode },
      summary: event === "opened"
        ? `${episode.thing}: ${first.signal} is ${first.direction} (${first.value.toFixed(1)}, expected ${first.expected[0].toFixed(1)} to ${first.expected[1].toFixed(1)}).`
        : `${episode.thing} is back to normal after ${episode.readings} anomalous readings.`,
      deliveries: [{ to: "console", at: reading.arrival, attempts: 1, error: null }, { to: "terminal", at: reading.arrival, attempts: 1, error: null }],
    };
    this.alertList.unshift(alert);
    events.push({ type: "alert", alert });
  }

  /** In the replay scenario readings lie five minutes apart, in 2013. */
  time(t) {
    const replayed = this.scenario === "replay" ? (t - this.started) * 300 + this.started : t;
    return new Date((replayed + this.shift) * 1000).toISOString();
  }

  readings(name, before, limit) {
    const all = this.log.get(decodeURIComponent(name)) ?? [];
    const until = before === null ? Infinity : Date.parse(before);
    return all.filter((r) => Date.parse(r.event_time) <= until).slice(-limit);
  }
  anomalies() {
    return this.episodes;
  }
  alerts() {
    return this.alertList;
  }
  ledger() {
    return [...this.log].filter(([, all]) => all.length > 0).map(([thing, all]) => {
      const stored = all.length;
      const late = thing.length % 3;
      return { tenant: TENANT, thing, received: stored + 2, stored, rejected: 2, scored: stored - late - 1, late, waiting: 1, discrepancy: null };
    });
  }
  overview() {
    const names = this.names();
    const received = this.received;
    return {
      version: "0.1.0", ready: true, tenants: this.scenario === "empty" ? [] : [{ tenant: TENANT, things: names.length }],
      ledger: { received, stored: received, rejected: 0, scored: received, late: 0, waiting: 0, adds_up: true },
    };
  }
  readiness() {
    return { ready: true, items: [{ name: "mqtt", ready: true, detail: "127.0.0.1:8883" }, { name: "console", ready: true, detail: "127.0.0.1:8080" }] };
  }
  tenants() {
    if (this.scenario === "empty") return [];
    return [{ tenant: TENANT, things: this.names(), budget: { per_asset_and_week: 3 } }];
  }
}
