// The ledger: what became of every received message, and whether it adds up.
import { useEffect, useState } from "preact/hooks";
import { api, type LedgerCounts, type LedgerEntry } from "../api";
import { thingAddress } from "../model/address";
import { count } from "../model/numbers";
import type { Plant } from "../plant";
import { Empty } from "./words";

const ASK_MS = 2_000;

const COLUMNS: [keyof LedgerCounts, string, string][] = [
  ["received", "Received", "acknowledged to the thing"],
  ["stored", "Stored", "usable, kept in the stream"],
  ["rejected", "Rejected", "unusable, kept with the reason"],
  ["scored", "Scored", "judged by the detectors"],
  ["late", "Late", "beyond the horizon, or a double"],
  ["waiting", "Waiting", "stored, to be scored next"],
];

export function Ledger({ plant }: { plant: Plant }) {
  const [lines, setLines] = useState<LedgerEntry[] | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(() => {
    let gone = false;
    const ask = async () => {
      try {
        const answer = await api.ledger();
        if (!gone) {
          setLines(answer);
          setFailure(null);
        }
      } catch (error) {
        if (!gone) setFailure(error instanceof Error ? error.message : String(error));
      }
    };
    void ask();
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") void ask();
    }, ASK_MS);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, []);
  return (
    <main class="page ledger">
      <h1>Ledger</h1>
      <p class="lead">
        Every message is accounted for: <b>received = stored + rejected</b>, and <b>stored = scored + late + waiting</b>.
      </p>
      {failure !== null && plant.failure === null && <p class="banner">{failure}</p>}
      {lines === null ? (
        <p class="loading">Loading…</p>
      ) : lines.length === 0 ? (
        <Empty title="No message yet">
          <p>A line appears here for each thing that sends.</p>
        </Empty>
      ) : (
        <Lines lines={lines} />
      )}
    </main>
  );
}

function Lines({ lines }: { lines: LedgerEntry[] }) {
  const wrong = lines.filter((line) => line.discrepancy !== null);
  const total = (column: keyof LedgerCounts) => lines.reduce((sum, line) => sum + line[column], 0);
  return (
    <>
      <p class="verdict" data-tone={wrong.length === 0 ? "good" : "bad"} role="status">
        {wrong.length === 0
          ? `Adds up: all ${count(total("received"))} messages of ${lines.length} ${lines.length === 1 ? "thing" : "things"} are accounted for.`
          : `Does not add up for ${wrong.length} of ${lines.length} things. “kilter ledger” says the same; docs/runbook says what to do.`}
      </p>
      <div class="sums">
        {COLUMNS.map(([column, title, meaning]) => (
          <div class="sum" key={column}>
            <span class="sum-title">{title}</span>
            <strong>{count(total(column))}</strong>
            <span class="muted">{meaning}</span>
          </div>
        ))}
      </div>
      <div class="table-wrap" tabIndex={0} role="region" aria-label="Ledger by thing">
        <table>
          <thead>
            <tr>
              <th scope="col">Tenant</th>
              <th scope="col">Thing</th>
              {COLUMNS.map(([column, title]) => (
                <th scope="col" class="number" key={column}>
                  {title}
                </th>
              ))}
              <th scope="col">Adds up</th>
            </tr>
          </thead>
          <tbody>
            {lines.map((line) => (
              <tr key={`${line.tenant}/${line.thing}`} data-tone={line.discrepancy === null ? undefined : "bad"}>
                <td>{line.tenant}</td>
                <th scope="row">
                  <a href={thingAddress(line.tenant, line.thing)}>{line.thing}</a>
                </th>
                {COLUMNS.map(([column]) => (
                  <td class="number" key={column}>
                    {count(line[column])}
                  </td>
                ))}
                <td>{line.discrepancy ?? "yes"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
