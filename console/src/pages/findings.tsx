// What was found: anomalies and alerts, newest first; a click shows the charts of that time.
import { useState } from "preact/hooks";
import type { Alert, Episode } from "../api";
import { thingAddress, type Address } from "../model/address";
import { rarity } from "../model/causes";
import { correctionOf } from "../model/episodes";
import { seconds, span } from "../model/time";
import type { Plant } from "../plant";
import { Causes, SeverityBadge, When } from "./words";

type PlantAddress = Extract<Address, { page: "plant" }>;

export function Findings({ plant, address }: { plant: Plant; address: PlantAddress }) {
  const [kind, setKind] = useState<"anomalies" | "alerts">("anomalies");
  const [onlyThis, setOnlyThis] = useState(false);
  const wanted = (episode: Episode) => !onlyThis || (episode.tenant === address.tenant && episode.thing === address.thing);
  const episodes = plant.episodes?.filter(wanted);
  const alerts = plant.alerts?.filter((alert) => wanted(alert.episode));
  return (
    <aside class="findings" aria-label="Anomalies and alerts">
      <div class="findings-head">
        <div class="switch" role="group" aria-label="Show">
          <Choice now={kind} value="anomalies" choose={setKind} label="Anomalies" count={episodes?.length} />
          <Choice now={kind} value="alerts" choose={setKind} label="Alerts" count={alerts?.length} />
        </div>
        <label class="only">
          <input type="checkbox" checked={onlyThis} onChange={(event) => setOnlyThis(event.currentTarget.checked)} /> only
          this thing
        </label>
      </div>
      {kind === "anomalies" ? (
        <List items={episodes} keyOf={(e) => `${e.tenant}/${e.id}`} empty={<NoAnomaly plant={plant} />}>
          {(episode) => <EpisodeItem episode={episode} current={isCurrent(episode, address)} />}
        </List>
      ) : (
        <List items={alerts} keyOf={(a) => `${a.episode.tenant}/${a.key}`} empty={<NoAlert plant={plant} />}>
          {(alert) => <AlertItem alert={alert} current={isCurrent(alert.episode, address)} />}
        </List>
      )}
    </aside>
  );
}

function isCurrent(episode: Episode, address: PlantAddress): boolean {
  return address.episode === episode.id && address.tenant === episode.tenant;
}

function Choice<T extends string>(props: {
  now: T;
  value: T;
  choose: (value: T) => void;
  label: string;
  count: number | undefined;
}) {
  return (
    <button type="button" aria-pressed={props.now === props.value} onClick={() => props.choose(props.value)}>
      {props.label} <span class="count">{props.count ?? ""}</span>
    </button>
  );
}

function List<T>(props: {
  items: T[] | undefined;
  keyOf: (item: T) => string;
  empty: preact.ComponentChildren;
  children: (item: T) => preact.ComponentChildren;
}) {
  if (!props.items) return <p class="loading">Loading…</p>;
  if (props.items.length === 0) return <div class="hint">{props.empty}</div>;
  return (
    <ol class="found">
      {props.items.map((item) => (
        <li key={props.keyOf(item)}>{props.children(item)}</li>
      ))}
    </ol>
  );
}

function NoAnomaly({ plant }: { plant: Plant }) {
  const warming = [...plant.things.values()].filter((thing) => thing.last?.verdict.state === "warming").length;
  return (
    <>
      <p>Nothing odd so far.</p>
      {warming > 0 && <p>{warming === 1 ? "One thing is" : `${warming} things are`} still learning what is ordinary; until then there are no scores.</p>}
    </>
  );
}

function NoAlert({ plant }: { plant: Plant }) {
  const budget = plant.tenants?.[0]?.budget.per_asset_and_week;
  return (
    <>
      <p>No alert so far.</p>
      {budget !== undefined && <p>The budget is {budget} alerts per thing and week; thresholds follow from it.</p>}
    </>
  );
}

function EpisodeItem({ episode, current }: { episode: Episode; current: boolean }) {
  return (
    <a
      class="finding"
      data-severity={episode.severity}
      href={thingAddress(episode.tenant, episode.thing, episode.id)}
      aria-current={current ? "true" : undefined}
    >
      <span class="finding-head">
        <SeverityBadge severity={episode.severity} />
        <strong class="finding-thing">{episode.thing}</strong>
        <span class="peak" title={rarity(episode)}>
          peak {episode.peak_score.toFixed(1)}
        </span>
      </span>
      <span class="finding-time">
        <When at={episode.start} /> – {episode.end === null ? <b class="open">open</b> : <When at={episode.end} since={episode.start} />}
        <span class="muted"> · {lasted(episode)}</span>
      </span>
      <Corrected episode={episode} />
      <Causes causes={episode.causes} most={2} />
    </a>
  );
}

/** That late readings have changed it, and when that and the anomaly itself became known. */
function Corrected({ episode }: { episode: Episode }) {
  const correction = correctionOf(episode);
  if (!correction) return null;
  return (
    <span class="finding-time muted">
      {correction.what} by late readings <When at={correction.known} />, first known <When at={episode.known} />
    </span>
  );
}

function lasted(episode: Episode): string {
  if (episode.end === null || seconds(episode.end) === seconds(episode.start)) {
    return `${episode.readings} ${episode.readings === 1 ? "reading" : "readings"}`;
  }
  return span(seconds(episode.end) - seconds(episode.start));
}

function AlertItem({ alert, current }: { alert: Alert; current: boolean }) {
  const { episode } = alert;
  return (
    <a
      class="finding"
      data-severity={episode.severity}
      href={thingAddress(episode.tenant, episode.thing, episode.id)}
      aria-current={current ? "true" : undefined}
    >
      <span class="finding-head">
        <SeverityBadge severity={episode.severity} />
        <strong class="finding-thing">{alert.event}</strong>
        <span class="muted">
          <When at={alert.raised} />
        </span>
      </span>
      <span class="summary">{alert.summary}</span>
      <span class="muted">
        happened <When at={episode.start} />, first known <When at={episode.known} />
      </span>
      <span class="deliveries muted">
        {alert.deliveries.length === 0
          ? "not delivered yet"
          : alert.deliveries.map((d) => (d.error === null ? `told ${d.to}` : `${d.to}: ${d.error}`)).join(" · ")}
      </span>
    </a>
  );
}
