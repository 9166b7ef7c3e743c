// The frame: header, pages, and what the address bar says.
import { useEffect, useReducer, useState } from "preact/hooks";
import mark from "./mark.svg";
import { parseAddress, thingAddress, type Address } from "./model/address";
import { rate } from "./model/numbers";
import { Ledger } from "./pages/ledger";
import { PlantPage } from "./pages/plant";
import type { Plant } from "./plant";

export function App({ plant }: { plant: Plant }) {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const address = useAddress();
  useEffect(() => plant.subscribe(() => redraw(undefined)), [plant]);
  useFirstThing(plant, address);
  return (
    <>
      <Header plant={plant} address={address} />
      {plant.failure !== null && <Unreachable reason={plant.failure} />}
      {address.page === "ledger" ? <Ledger plant={plant} /> : <PlantPage plant={plant} address={address} />}
      <p class="unseen" aria-live="polite">
        {plant.alerts?.[0]?.summary}
      </p>
    </>
  );
}

function useAddress(): Address {
  const [address, setAddress] = useState(() => parseAddress(location.hash));
  useEffect(() => {
    const moved = () => setAddress(parseAddress(location.hash));
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  return address;
}

/** Shows the addressed thing; where none is, the one with an open anomaly, or the first. */
function useFirstThing(plant: Plant, address: Address): void {
  const addressed = address.page === "plant" && address.thing !== undefined;
  // An anomaly that the address names can be shown only once the list is there.
  const listed = plant.episodes !== null;
  useEffect(() => {
    if (address.page !== "plant") return;
    if (address.tenant && address.thing) plant.show(address.tenant, address.thing, address.episode);
  }, [plant, address, listed]);
  const tenants = plant.tenants;
  useEffect(() => {
    if (address.page !== "plant" || addressed || !tenants || !listed) return;
    const things = tenants.flatMap(({ tenant, things: names }) => names.map((thing) => ({ tenant, thing })));
    const first = things.find(({ tenant, thing }) => plant.openEpisode(tenant, thing)) ?? things[0];
    if (first) location.replace(thingAddress(first.tenant, first.thing));
  }, [plant, address, addressed, tenants, listed]);
}

function Header({ plant, address }: { plant: Plant; address: Address }) {
  const shown = plant.shown;
  const home = shown ? thingAddress(shown.tenant, shown.thing) : "#/";
  return (
    <header class="top">
      <a class="brand" href={home}>
        <img src={mark} alt="" width="26" height="26" />
        <span>Kilter</span>
      </a>
      <nav class="tabs" aria-label="Pages">
        <a href={home} aria-current={address.page === "plant" ? "page" : undefined}>
          Plant
        </a>
        <a href="#/ledger" aria-current={address.page === "ledger" ? "page" : undefined}>
          Ledger
        </a>
      </nav>
      <div class="vitals">
        <Rate plant={plant} />
        <Health plant={plant} />
        <LinkState plant={plant} />
      </div>
    </header>
  );
}

function Rate({ plant }: { plant: Plant }) {
  const messages = plant.rate;
  return (
    <span class="vital" title="Messages received per second, by all tenants' things">
      <strong>{messages === null ? "–" : rate(messages)}</strong> messages/s
    </span>
  );
}

function Health({ plant }: { plant: Plant }) {
  const { readiness, overview, failure } = plant;
  const waiting = readiness?.items.filter((item) => !item.ready) ?? [];
  const all = readiness?.items.map((item) => `${item.name}: ${item.detail}`).join("\n");
  const version = overview ? `Kilter ${overview.version}\n` : "";
  if (failure !== null || !readiness) {
    return <span class="vital pill" data-tone={failure === null ? "idle" : "bad"}>{failure === null ? "asking" : "no answer"}</span>;
  }
  const adds = overview?.ledger.adds_up !== false;
  const tone = waiting.length > 0 || !adds ? "bad" : "good";
  const words = waiting.length > 0 ? `waiting for ${waiting.map((item) => item.name).join(", ")}` : adds ? "healthy" : "ledger does not add up";
  return (
    <span class="vital pill" data-tone={tone} title={`${version}${all}`}>
      {words}
    </span>
  );
}

const linkWords = { connecting: "connecting", live: "live", lost: "reconnecting", resting: "resting" };

function LinkState({ plant }: { plant: Plant }) {
  const tone = plant.link === "live" ? "good" : plant.link === "lost" ? "bad" : "idle";
  return (
    <span class="vital pill" data-tone={tone} data-pulse={plant.link === "live"} title="The stream of live events" role="status">
      {linkWords[plant.link]}
    </span>
  );
}

function Unreachable({ reason }: { reason: string }) {
  return (
    <p class="banner" role="alert">
      Kilter does not answer ({reason}). What is shown may be old. Is <code>kilter serve</code> running? The console
      goes on trying.
    </p>
  );
}
