import { describe, expect, test } from "vitest";
import { KEPT_MAX, SIGNALS_MAX, columns, liveRange, merge, point, spacing, valueRange } from "../src/model/readings";
import { START, at, cause, points, reading } from "./made";

const positions = (list: { reading: { position: string } }[]) => list.map((p) => p.reading.position);

describe("merging live readings", () => {
  test("appends what is new and drops what is known", () => {
    const merged = merge(points(0, 3), points(1, 5));
    expect(positions(merged)).toEqual(["0:0:0", "0:1:0", "0:2:0", "0:3:0", "0:4:0"]);
  });

  test("a window that was loaded after live events came first ends in order", () => {
    const merged = merge(points(5, 7), points(0, 6));
    expect(merged.map((p) => p.at - START)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test("readings of one moment keep the order of the stream", () => {
    const same = (position: string) => point(reading(0, { position }));
    const merged = merge([same("0:10:0")], [same("0:9:1"), same("0:9:0"), point(reading(-1))]);
    expect(positions(merged)).toEqual(["0:-1:0", "0:9:0", "0:9:1", "0:10:0"]);
  });

  test("keeps the newest and changes neither input", () => {
    const window = points(0, 10);
    const merged = merge(window, points(10, 12), 5);
    expect(positions(merged)).toEqual(["0:7:0", "0:8:0", "0:9:0", "0:10:0", "0:11:0"]);
    expect(window.length).toBe(10);
    expect(merge([], points(0, KEPT_MAX + 7)).length).toBe(KEPT_MAX);
  });

  test("a corrected reading takes the place of the one that it corrects, an older revision does not", () => {
    const corrected = (revision: number, score: number) =>
      point(reading(1, { score, corrected: { revision, known: at(9), offset: 9 } }));
    const merged = merge(points(0, 3), [corrected(2, 7), corrected(1, 6)]);
    expect(positions(merged)).toEqual(["0:0:0", "0:1:0", "0:2:0"]);
    expect(merged[1]?.reading.score).toBe(7);
    expect(merge(merged, points(0, 3))[1]?.reading.score).toBe(7);
  });

  test("a late reading stands where it belongs", () => {
    const late = point(reading(7, { event_time: at(1.5) }));
    expect(positions(merge(points(0, 4), [late]))).toEqual(["0:0:0", "0:1:0", "0:7:0", "0:2:0", "0:3:0"]);
  });

  test("doubles within one batch are dropped", () => {
    expect(merge([], [...points(0, 2), ...points(0, 2)]).length).toBe(2);
  });
});

describe("the live range", () => {
  test("is ten minutes of a thing that sends every second", () => {
    expect(liveRange(points(0, 2000))).toEqual([START + 1999 - 600, START + 1999]);
  });

  test("is six hundred readings of a slow or replayed thing", () => {
    expect(liveRange(points(0, 1000, 300))).toEqual([START + 400 * 300, START + 999 * 300]);
  });

  test("is at least a minute wide and starts with the first reading", () => {
    expect(liveRange(points(0, 5))).toEqual([START + 4 - 60, START + 4]);
    expect(liveRange(points(0, 120))).toEqual([START, START + 119]);
    expect(liveRange([])).toBeNull();
  });
});

test("spacing is the usual gap, whatever one pause says", () => {
  expect(spacing([...points(0, 10), point(reading(500))])).toBe(1);
  expect(spacing(points(0, 1))).toBeNull();
});

describe("columns", () => {
  test("have a hole where a signal is missing and none while warming", () => {
    const made = columns([
      point(reading(0, { values: { a: 1 }, score: null, threshold: null, verdict: { state: "warming", seen: 1, needed: 9 } })),
      point(reading(1, { values: { a: 2, b: 3 } })),
    ]);
    expect(made.score).toEqual([null, 0.5]);
    expect(made.signals.get("a")?.value).toEqual([1, 2]);
    expect(made.signals.get("b")?.value).toEqual([null, 3]);
  });

  test("join expected ranges over short gaps only", () => {
    const expecting = (n: number, low: number) => reading(n, { causes: [cause({ signal: "pressure", expected: [low, low + 1] })] });
    const list = [expecting(0, 1), reading(1), expecting(2, 3), ...points(3, 60).map((p) => p.reading), expecting(60, 9)];
    const low = columns(list.map(point)).signals.get("pressure")?.low ?? [];
    expect(low.slice(0, 4)).toEqual([1, 2, 3, null]);
    expect(low.slice(58)).toEqual([null, null, 9]);
  });

  test("are bounded, and signals to blame are not left out", () => {
    const values = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`s${String(i).padStart(4, "0")}`, i]));
    const blamed = reading(1, { values, verdict: { state: "anomalous" }, causes: [cause({ signal: "s0999" })] });
    const made = columns([point(reading(0, { values })), point(blamed)]);
    expect(made.signals.size).toBe(SIGNALS_MAX);
    expect(made.signals.has("s0999")).toBe(true);
    expect(made.left_out).toBe(1000 - SIGNALS_MAX);
  });
});

describe("the range of an axis", () => {
  const blank = (n: number) => new Array<number | null>(n).fill(null);

  test("shows the expected range but is not squeezed flat by it", () => {
    const [low, high] = valueRange({ value: [4, 5], low: [3.5, null], high: [5.5, null] });
    expect(low).toBeLessThan(3.5);
    expect(high).toBeGreaterThan(5.5);
    const wide = valueRange({ value: [4, 5], low: [-1e6, null], high: [1e6, null] });
    expect(wide[0]).toBeGreaterThan(2.5);
    expect(wide[1]).toBeLessThan(6.5);
  });

  test("has a height for a stuck signal and for none", () => {
    const [low, high] = valueRange({ value: [7, 7], low: blank(2), high: blank(2) });
    expect(low).toBeLessThan(7);
    expect(high).toBeGreaterThan(7);
    expect(valueRange({ value: blank(2), low: blank(2), high: blank(2) })).toEqual([0, 1]);
  });
});

test("a time in nanoseconds is parsed", () => {
  expect(point(reading(0, { event_time: "2023-11-14T22:13:20.123456789Z" })).at).toBeCloseTo(START + 0.123, 3);
  expect(at(0)).toBe("2023-11-14T22:13:20.000Z");
});
