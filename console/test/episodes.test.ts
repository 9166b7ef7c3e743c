import { describe, expect, test } from "vitest";
import type { Alert, Episode } from "../src/api";
import { LISTED_MAX, around, correctionOf, spans, upsertAlert, upsertEpisode } from "../src/model/episodes";
import { START, at, cause, episode } from "./made";

describe("shading", () => {
  const shade = (list: Episode[], from: number, to: number) =>
    spans(list, "tenant001", "pump-1", [START + from, START + to]).map((s) => [s.from - START, s.to - START]);

  test("is cut to what is shown", () => {
    expect(shade([episode(-50, 20)], 0, 100)).toEqual([[0, 20]]);
    expect(shade([episode(90, 150)], 0, 100)).toEqual([[90, 100]]);
    expect(shade([episode(-50, 150)], 0, 100)).toEqual([[0, 100]]);
  });

  test("leaves out what lies outside, and other things", () => {
    expect(shade([episode(-50, -1), episode(101, 102), episode(200, null)], 0, 100)).toEqual([]);
    expect(shade([episode(10, 20, { thing: "pump-2" }), episode(10, 20, { tenant: "tenant002" })], 0, 100)).toEqual([]);
  });

  test("of an open anomaly lasts until now", () => {
    const [span] = spans([episode(40, null)], "tenant001", "pump-1", [START, START + 100]);
    expect(span).toMatchObject({ from: START + 40, to: START + 100, open: true, peak: START + 41 });
  });

  test("knows its signals, and its peak where that is shown", () => {
    const list = [episode(10, 60, { peak: at(50), causes: [cause({ signal: "a" }), cause({ signal: "b" })] })];
    const [span] = spans(list, "tenant001", "pump-1", [START, START + 30]);
    expect(span?.peak).toBeNull();
    expect([...(span?.signals ?? [])]).toEqual(["a", "b"]);
  });

  test("leaves out what was withdrawn", () => {
    const corrected = { revision: 1, known: at(70), offset: 7 };
    const list = [episode(10, 20, { withdrawn: at(70), corrected }), episode(40, 50, { corrected })];
    expect(shade(list, 0, 100)).toEqual([[40, 50]]);
    expect(list.map(correctionOf).map((c) => c?.what)).toEqual(["withdrawn", "amended"]);
    expect(correctionOf(episode(10, 20))).toBeNull();
  });

  test("of a single reading has no width but is there", () => {
    expect(shade([episode(10, 10)], 0, 100)).toEqual([[10, 10]]);
  });
});

describe("the list of anomalies", () => {
  test("replaces what is known and keeps newest starts first", () => {
    let list: Episode[] = [];
    for (const start of [20, 10, 30]) list = upsertEpisode(list, episode(start, null));
    expect(list.map((e) => e.start)).toEqual([at(30), at(20), at(10)]);
    list = upsertEpisode(list, episode(20, 25, { peak_score: 9 }));
    expect(list.map((e) => [e.start, e.end])).toEqual([[at(30), null], [at(20), at(25)], [at(10), null]]);
  });

  test("tells tenants apart whose things share a name", () => {
    const list = upsertEpisode([episode(20, null)], episode(20, null, { tenant: "tenant002" }));
    expect(list.length).toBe(2);
  });

  test("is bounded", () => {
    let list: Episode[] = [];
    for (let n = 0; n < LISTED_MAX + 9; n += 1) list = upsertEpisode(list, episode(n, n));
    expect(list.length).toBe(LISTED_MAX);
    expect(list[0]?.start).toBe(at(LISTED_MAX + 8));
  });
});

test("alerts are replaced when their delivery becomes known", () => {
  const alert = (n: number, deliveries: Alert["deliveries"] = []): Alert => ({
    key: `k${n}`,
    event: "opened",
    raised: at(n),
    episode: episode(n, null),
    summary: "",
    deliveries,
  });
  const told = { to: "webhook", at: at(3), attempts: 2, error: null };
  const list = upsertAlert(upsertAlert([alert(1)], alert(2)), alert(1, [told]));
  expect(list.map((a) => [a.key, a.deliveries.length])).toEqual([["k2", 0], ["k1", 1]]);
});

test("what to load puts the anomaly in the middle", () => {
  const { before, limit } = around(episode(1000, 1100, { readings: 100 }), 1);
  expect(before - START).toBe(1190);
  expect(limit).toBe(280);
  expect(around(episode(0, null), 300).before - START).toBe(1 + 90 * 300);
  expect(around(episode(0, 9, { readings: 1_000_000 }), 1).limit).toBeLessThanOrEqual(6000);
});
