// The plant: things at the left, the chosen thing's charts in the middle, what was found at the right.
import type { Address } from "../model/address";
import type { Plant } from "../plant";
import { Findings } from "./findings";
import { ThingPage } from "./thing";
import { Things } from "./things";
import { Command, Empty } from "./words";

export function PlantPage({ plant, address }: { plant: Plant; address: Extract<Address, { page: "plant" }> }) {
  const { tenants } = plant;
  if (tenants !== null && tenants.length === 0) {
    return (
      <main class="page">
        <Empty title="No tenant yet">
          <p>A tenant owns things, their certificates and their results. Make the first one with its first thing:</p>
          <Command text="kilter tenant onboard tenant001 --thing pump-1" />
          <p>Or see a simulated plant with faults injected:</p>
          <Command text="kilter demo" />
        </Empty>
      </main>
    );
  }
  return (
    <div class="plant">
      <Things plant={plant} address={address} />
      <main class="main">
        <ThingPage plant={plant} />
      </main>
      <Findings plant={plant} address={address} />
    </div>
  );
}
