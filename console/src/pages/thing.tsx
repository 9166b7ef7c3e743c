// One thing: how it is, why, and its charts.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Episode } from "../api";
import { ChartStack } from "../charts/stack";
import { thingAddress } from "../model/address";
import { rarity } from "../model/causes";
import { spans } from "../model/episodes";
import { between, columns, liveRange, type Point } from "../model/readings";
import { statusOf, statusWord } from "../model/status";
import { ago, moment, momentAfter, utc } from "../model/time";
import { keyOf, type Plant, type Shown } from "../plant";
import { Causes, Command, Empty, SeverityBadge, When } from "./words";

export function ThingPage({ plant }: { plant: Plant }) {
  const shown = plant.shown;
  if (!shown) return plant.tenants === null || plant.tenants.some((t) => t.things.length > 0) ? <Loading /> : <NoThing plant={plant} />;
  const points = shown.past ? shown.past.points : shown.live;
  const loaded = shown.past ? shown.past.loaded : shown.loaded;
  const open = plant.openEpisode(shown.tenant, shown.thing);
  return (
    <>
      <Head plant={plant} shown={shown} open={open} />
      <Why episode={shown.past?.episode ?? open} />
      {points.length > 0 ? (
        <Charts plant={plant} shown={shown} points={points} />
      ) : loaded ? (
        <NoReading shown={shown} />
      ) : (
        <Loading />
      )}
    </>
  );
}

function Loading() {
  return <p class="loading">Loading…</p>;
}

function NoThing({ plant }: { plant: Plant }) {
  return (
    <Empty title="No thing yet">
      <p>A thing is a machine or device with a certificate of its own:</p>
      <Command text={`kilter thing create pump-1 --tenant ${plant.tenants?.[0]?.tenant ?? "tenant001"}`} />
    </Empty>
  );
}

function NoReading({ shown }: { shown: Shown }) {
  if (shown.failure !== null) return <Empty title="The readings could not be loaded"><p>{shown.failure}</p></Empty>;
  if (shown.past) {
    return (
      <Empty title="These readings are no longer kept">
        <p>The results of that time have expired; the anomaly and its causes remain, and the lake keeps the raw records.</p>
      </Empty>
    );
  }
  return (
    <Empty title="No reading yet">
      <p>
        {shown.thing} publishes to <code>{`tenants/${shown.tenant}/devices/${shown.thing}/telemetry`}</code>. Its first
        message appears here at once. To replay a recorded file as this thing:
      </p>
      <Command text={`kilter replay FILE.csv --tenant ${shown.tenant} --thing ${shown.thing} --time-column COLUMN`} />
    </Empty>
  );
}

function Head({ plant, shown, open }: { plant: Plant; shown: Shown; open: Episode | undefined }) {
  const state = plant.things.get(keyOf(shown.tenant, shown.thing));
  const status = statusOf(state?.last, state?.gap ?? null, open, Date.now() / 1000);
  const live = shown.past === null && shown.zoom === null;
  return (
    <div class="head">
      <h1>{shown.thing}</h1>
      <span class="state" data-state={status.state} data-severity={status.state === "anomalous" ? status.severity : undefined}>
        {statusWord(status)}
      </span>
      {"age" in status && <span class="muted">last reading: {ago(status.age)}</span>}
      <span class="grow" />
      {!live && (
        <button type="button" class="button" onClick={() => leave(plant, shown)}>
          {shown.zoom !== null && shown.past !== null ? "Whole anomaly" : "Back to live"}
        </button>
      )}
    </div>
  );
}

/** Out of a zoom first, then out of the past. */
function leave(plant: Plant, shown: Shown): void {
  if (shown.zoom !== null) plant.zoom(null);
  else location.hash = thingAddress(shown.tenant, shown.thing);
}

/** The anomaly that is open now, or that was picked: when, how odd, why. */
function Why({ episode }: { episode: Episode | undefined }) {
  if (!episode) return null;
  return (
    <section class="why" data-severity={episode.severity} aria-label="Anomaly">
      <div class="why-facts">
        <SeverityBadge severity={episode.severity} />
        <span>
          <When at={episode.start} /> – {episode.end === null ? <strong>open</strong> : <When at={episode.end} since={episode.start} />}
        </span>
        <span title={rarity(episode)}>
          peak {episode.peak_score.toFixed(1)} at <When at={episode.peak} since={episode.start} />
        </span>
      </div>
      <Causes causes={episode.causes} most={3} />
    </section>
  );
}

function Charts({ plant, shown, points }: { plant: Plant; shown: Shown; points: Point[] }) {
  const host = useRef<HTMLDivElement>(null);
  const stack = useRef<ChartStack | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const full: [number, number] = shown.past ? wholeOf(points) : (liveRange(points) ?? [0, 1]);
  const [from, to] = shown.zoom ?? full;
  const visible = useMemo(() => between(points, [from, to]), [points, from, to]);
  const drawn = useMemo(() => columns(visible), [visible]);
  const shaded = useMemo(
    () => spans(plant.episodes ?? [], shown.tenant, shown.thing, [from, to]),
    [plant.episodes, shown.tenant, shown.thing, from, to],
  );
  const latest = useRef({ plant, shown, shaded });
  latest.current = { plant, shown, shaded };
  useEffect(() => {
    if (!host.current) return;
    const made = new ChartStack(host.current, {
      cursor: setCursor,
      zoom: (range) => latest.current.plant.zoom(range),
      reset: () => latest.current.plant.zoom(null),
      click: (at) => {
        const hit = latest.current.shaded.find((s) => at >= s.from && at <= s.to);
        const { tenant, thing } = latest.current.shown;
        if (hit) location.hash = thingAddress(tenant, thing, hit.id);
      },
    });
    stack.current = made;
    return () => {
      made.destroy();
      stack.current = null;
    };
  }, []);
  const selected = shown.past?.episode.id ?? null;
  useEffect(() => {
    stack.current?.update({ points: visible, columns: drawn, range: [from, to], spans: shaded, selected });
  }, [visible, drawn, shaded, selected, from, to]);
  const pointed = cursor === null ? undefined : visible[cursor];
  return (
    <>
      <div class="readout" aria-live="off">
        {pointed ? (
          <>
            <strong>{moment(pointed.at, Date.now() / 1000)}</strong> <span class="muted">{utc(pointed.at)}</span>
          </>
        ) : (
          <span class="muted shown" title={`${utc(from)} – ${utc(to)}`}>
            {moment(from, Date.now() / 1000)} – {momentAfter(from, to, Date.now() / 1000)} · {visible.length} readings
            <span class="tip"> · drag to zoom, double-click to leave</span>
          </span>
        )}
        <span class="grow" />
        <Legend />
      </div>
      <div class="stack" ref={host} tabIndex={0} role="group" aria-label="Charts: arrow keys move the cursor, Escape leaves a zoom" />
      {drawn.left_out > 0 && <p class="muted note">{drawn.left_out} more signals are not drawn.</p>}
    </>
  );
}

function wholeOf(points: Point[]): [number, number] {
  const first = points[0]?.at ?? 0;
  return [first, Math.max(points.at(-1)?.at ?? 0, first + 1)];
}

function Legend() {
  return (
    <span class="legend" aria-hidden="true">
      <i data-key="band" /> expected
      <i data-key="threshold" /> threshold
      <i data-key="anomaly" /> anomaly
    </span>
  );
}
