// The list of tenants and their things, each with its state and the age of its last reading.
import type { Address } from "../model/address";
import { thingAddress } from "../model/address";
import { statusOf, statusWord } from "../model/status";
import { ago } from "../model/time";
import { keyOf, type Plant, type ThingState } from "../plant";
import { Command } from "./words";

type PlantAddress = Extract<Address, { page: "plant" }>;

export function Things({ plant, address }: { plant: Plant; address: PlantAddress }) {
  return (
    <nav class="things" aria-label="Things">
      {(plant.tenants ?? []).map(({ tenant, things }) => (
        <section key={tenant}>
          <h2>
            {tenant} <span class="count">{things.length}</span>
          </h2>
          {things.length === 0 ? (
            <div class="hint">
              No thing yet.
              <Command text={`kilter thing create pump-1 --tenant ${tenant}`} />
            </div>
          ) : (
            <ul>
              {things.map((thing) => (
                <Thing
                  key={thing}
                  plant={plant}
                  state={plant.things.get(keyOf(tenant, thing)) ?? { tenant, thing, gap: null }}
                  current={address.tenant === tenant && address.thing === thing}
                />
              ))}
            </ul>
          )}
        </section>
      ))}
    </nav>
  );
}

function Thing({ plant, state, current }: { plant: Plant; state: ThingState; current: boolean }) {
  const open = plant.openEpisode(state.tenant, state.thing);
  const status = statusOf(state.last, state.gap, open, Date.now() / 1000);
  const severity = status.state === "anomalous" ? status.severity : undefined;
  return (
    <li>
      <a href={thingAddress(state.tenant, state.thing)} aria-current={current ? "true" : undefined}>
        <span class="dot" data-state={status.state} data-severity={severity} aria-hidden="true" />
        <span class="thing-name">{state.thing}</span>
        <span class="thing-state">
          {statusWord(status)}
          {"age" in status && <span class="age"> · {ago(status.age)}</span>}
        </span>
      </a>
    </li>
  );
}
