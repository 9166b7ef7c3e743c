import { describe, expect, test } from "vitest";
import { inWords, rarity } from "../src/model/causes";
import { parseAddress, thingAddress } from "../src/model/address";
import { axisLabels, short } from "../src/model/numbers";
import { addSample, messageRate, statusOf, statusWord } from "../src/model/status";
import { ago, span, utc } from "../src/model/time";
import { START, cause, episode, reading } from "./made";

describe("causes in words", () => {
  test("say signal, direction, value, expectation and share", () => {
    expect(inWords(cause())).toBe("discharge_pressure low: 2.1, expected 3.8…4.4 (61 %)");
  });

  test("say what a range does not", () => {
    const said = (detector: string, value: number, expected: [number, number]) =>
      inWords(cause({ signal: "speed", direction: "high", detector, value, expected }));
    expect(said("silence", 26.4, [0, 15])).toBe("no data for 26 s");
    expect(said("gap", 26.2, [0, 0.6])).toBe("no data for 26.20 s, usually at most 0.600 s");
    expect(said("stuck", 1441, [1441, 1441])).toBe("speed stuck at 1441 (61 %)");
    expect(said("limits", 1601, [1600, 1600])).toBe("speed 1601, beyond the limit 1600 (61 %)");
    expect(said("forest", 1450, [1440, 1460])).toBe("speed 1450, ordinary alone, unusual with the other signals (61 %)");
    expect(said("forest", 1470, [1440, 1460])).toBe("speed high: 1470, expected 1440…1460 (61 %)");
  });

  test.each([
    [1480.23, [1490, 1510], "speed high: 1480, expected 1490…1510 (61 %)"],
    [0.00213, [0.0018, 0.0019], "speed high: 0.00213, expected 0.00180…0.00190 (61 %)"],
    [66.04, [60.9, 64.123], "speed high: 66.0, expected 60.9…64.1 (61 %)"],
    [5, [4, 4], "speed high: 5.00, expected 4.00…4.00 (61 %)"],
    [3e9, [1e9, 2e9], "speed high: 3.00e+9, expected 1.00e+9…2.00e+9 (61 %)"],
    [-12, [-10, 10], "speed high: -12, expected -10…10 (61 %)"],
  ] as const)("%d against %j", (value, expected, said) => {
    expect(inWords(cause({ signal: "speed", direction: "high", value, expected: [...expected] }))).toBe(said);
  });
});

test("how rare a peak is, where its score is a chance", () => {
  const said = (detector: string, peak_score: number) =>
    rarity({ ...episode(90, null), peak_score, causes: [cause({ detector })] });
  expect(said("cusum", 4.59)).toMatch(/^seen once in 39.?000 readings of normal running$/);
  expect(said("forest", 1.4)).toBe("seen once in 25 readings of normal running");
  expect(said("windows", 6)).toMatch(/^seen less than once in 1.?000.?000 readings of normal running$/);
  expect(["limits", "silence", "reference"].map((detector) => said(detector, 4))).toEqual([undefined, undefined, undefined]);
});

describe("numbers", () => {
  test("have about four digits", () => {
    expect([1480.3, 612.34, 4.125, 0.0421, 0, -3.5, 2.5e8, 1e-7].map(short)).toEqual([
      "1480", "612.3", "4.13", "0.042", "0.000", "-3.50", "2.50e+8", "1.00e-7",
    ]);
    expect(short(Number.NaN)).toBe("–");
  });

  test("of an axis are exact", () => {
    expect(axisLabels([0, 2.5, 5])).toEqual(["0.0", "2.5", "5.0"]);
    expect(axisLabels([0, 5, 10])).toEqual(["0", "5", "10"]);
    expect(axisLabels([1.18, 1.2])).toEqual(["1.18", "1.20"]);
  });
});

describe("the state of a thing", () => {
  const now = START + 100;
  const last = reading(98);

  test("is silent after half a minute, or six of its usual gaps", () => {
    expect(statusOf(reading(50), null, undefined, now).state).toBe("silent");
    expect(statusOf(reading(50), 10, undefined, now).state).toBe("normal");
    expect(statusOf(reading(30), 10, undefined, now).state).toBe("silent");
    expect(statusOf(undefined, null, undefined, now).state).toBe("unknown");
  });

  test("is measured by arrival, so that replayed readings are not old", () => {
    const replayed = reading(98, { event_time: "2013-12-02T21:15:00Z" });
    expect(statusOf(replayed, 1, undefined, now)).toEqual({ state: "normal", age: 2 });
  });

  test("is warming, paused, anomalous or normal", () => {
    const warming = reading(98, { verdict: { state: "warming", seen: 3, needed: 9 } });
    expect(statusWord(statusOf(warming, 1, undefined, now))).toBe("warming 3 of 9");
    expect(statusWord(statusOf(reading(98, { verdict: { state: "paused" } }), 1, undefined, now))).toBe("paused");
    expect(statusWord(statusOf(last, 1, episode(90, null), now))).toBe("anomalous, high");
    expect(statusWord(statusOf(last, 1, undefined, now))).toBe("normal");
  });
});

test("the message rate follows from two counts, and begins anew when counts shrink", () => {
  let samples = addSample([], { at: 0, received: 100 });
  expect(messageRate(samples)).toBeNull();
  samples = addSample(samples, { at: 5, received: 150 });
  expect(messageRate(samples)).toBe(10);
  samples = addSample(samples, { at: 100, received: 150 });
  expect(messageRate(addSample(samples, { at: 105, received: 150 }))).toBe(0);
  expect(addSample(samples, { at: 110, received: 3 })).toEqual([{ at: 110, received: 3 }]);
});

test("spans of time", () => {
  expect([0.4, 45, 119, 120, 7300, 86400 * 3].map(span)).toEqual(["0 s", "45 s", "119 s", "2 min", "2 h", "3 d"]);
  expect([0, 1.9, 30].map(ago)).toEqual(["now", "now", "30 s ago"]);
  expect(utc(START)).toBe("2023-11-14 22:13:20 UTC");
});

test("addresses survive a round trip", () => {
  const id = "line:1@2023-11-14T22:13:20Z";
  expect(parseAddress(thingAddress("tenant001", "line:1", id))).toEqual({
    page: "plant",
    tenant: "tenant001",
    thing: "line:1",
    episode: id,
  });
  expect(parseAddress("#/ledger")).toEqual({ page: "ledger" });
  for (const odd of ["", "#", "#/things", "#/things/a", "#/%E0%A4%A", "#/nowhere/at/all"]) {
    expect(parseAddress(odd)).toEqual({ page: "plant" });
  }
});
