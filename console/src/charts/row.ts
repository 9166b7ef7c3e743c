// One chart of the stack: a label with the value under the cursor, and the plot.
import uPlot from "uplot";
import type { Span } from "../model/episodes";
import { causeOf, valueRange, type Columns, type Point } from "../model/readings";
import { together } from "../model/causes";
import { axisLabels, short } from "../model/numbers";
import { peaks, shade, warming } from "./marks";
import type { Theme } from "./theme";

export interface StackView {
  points: Point[];
  columns: Columns;
  range: [number, number];
  spans: Span[];
  /** The anomaly that was picked. */
  selected: string | null;
}

export interface RowEvents {
  cursor(index: number | null): void;
  zoom(range: [number, number]): void;
  reset(): void;
  /** A click at a time, without a drag. */
  click(at: number): void;
}

const AXIS_WIDTH = 46;
const TIME_AXIS_HEIGHT = 26;
const SYNC = "kilter";
const DAY = 86_400;
/** Seconds between labels of the time axis. */
const TIME_STEPS = [
  ...[0.001, 0.01, 0.1, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200],
  ...[1, 2, 5, 10, 20, 30, 60, 90, 180, 365, 730, 1825, 3650].map((days) => days * DAY),
];

/** `signal` null: the score. */
export class Row {
  readonly element = document.createElement("div");
  #value = document.createElement("span");
  #note = document.createElement("span");
  #plotHost = document.createElement("div");
  #plot: uPlot;
  #view: StackView;

  constructor(
    readonly signal: string | null,
    view: StackView,
    private readonly theme: Theme,
    private readonly events: RowEvents,
    size: { width: number; height: number },
  ) {
    this.#view = view;
    this.element.className = signal === null ? "row row-score" : "row";
    const label = document.createElement("div");
    label.className = "row-label";
    const name = document.createElement("span");
    name.className = "row-name";
    name.textContent = signal ?? "Anomaly score";
    name.title = name.textContent;
    this.#value.className = "row-value";
    this.#note.className = "row-note";
    const second = document.createElement("span");
    second.className = "row-second";
    second.append(this.#value, this.#note);
    label.append(name, second);
    this.#plotHost.className = "row-plot";
    this.#plotHost.setAttribute("role", "img");
    this.element.append(label, this.#plotHost);
    this.#plot = new uPlot(this.#options(size), this.#data(), this.#plotHost);
    this.say(null);
  }

  update(view: StackView): void {
    this.#view = view;
    // The ranges are functions of the view, so new data sets both scales.
    this.#plot.setData(this.#data());
    const index = this.#plot.cursor.idx;
    if (index === null || index === undefined) this.say(null);
  }

  resize(size: { width: number; height: number }): void {
    this.#plot.setSize(size);
  }

  destroy(): void {
    this.#plot.destroy();
    this.element.remove();
  }

  /** Puts the cursor on a reading, as the keyboard does. */
  point(index: number): void {
    const at = this.#view.columns.at[index];
    if (at !== undefined) this.#plot.setCursor({ left: this.#plot.valToPos(at, "x"), top: 0 });
  }

  /** Shows the values of a reading in the label; `null`: of the newest. */
  say(index: number | null): void {
    const { points } = this.#view;
    const point = index === null ? points.at(-1) : points[index];
    const score = point?.reading.score ?? null;
    let tone = "";
    if (!point) {
      this.#value.textContent = "–";
      this.#note.textContent = "";
    } else if (this.signal === null) {
      const { verdict, threshold } = point.reading;
      this.#value.textContent = score === null ? "–" : score.toFixed(2);
      if (verdict.state === "warming") this.#note.textContent = `warming ${verdict.seen} of ${verdict.needed}`;
      else if (verdict.state === "paused") this.#note.textContent = "paused";
      else this.#note.textContent = threshold === null ? "" : `threshold ${threshold.toFixed(2)}`;
      if (verdict.state === "anomalous") tone = "bad";
    } else {
      const value = point.reading.values[this.signal];
      const cause = causeOf(point.reading, this.signal);
      this.#value.textContent = value === undefined ? "–" : short(value);
      if (cause && point.reading.verdict.state === "anomalous") {
        const { low, high } = together(cause.value, cause.expected);
        this.#note.textContent = `expected ${low}…${high}`;
        tone = "bad";
      } else {
        this.#note.textContent = "";
      }
    }
    this.element.dataset["tone"] = tone;
    this.#describe();
  }

  /** The chart in words, for those who do not see it. */
  #describe(): void {
    const name = this.signal ?? "Anomaly score";
    const anomalies = this.#view.spans.filter((span) => this.signal === null || span.signals.has(this.signal)).length;
    const said = `${name}: ${this.#value.textContent} ${this.#note.textContent}; ${anomalies} anomalies shown`;
    if (this.#plotHost.ariaLabel !== said) this.#plotHost.ariaLabel = said;
  }

  #data(): uPlot.AlignedData {
    const { columns, points } = this.#view;
    if (this.signal === null) {
      const flagged = points.map((p) => (p.reading.verdict.state === "anomalous" ? p.reading.score : null));
      return [columns.at, columns.score, columns.threshold, flagged];
    }
    const column = columns.signals.get(this.signal);
    const none = () => columns.at.map(() => null);
    return [columns.at, column?.value ?? none(), column?.low ?? none(), column?.high ?? none()];
  }

  #yRange(): [number, number] {
    const { columns } = this.#view;
    if (this.signal !== null) {
      const column = columns.signals.get(this.signal);
      return column ? valueRange(column) : [0, 1];
    }
    const highest = [...columns.score, ...columns.threshold].reduce<number>((max, v) => Math.max(max, v ?? 0), 1);
    return [0, highest * 1.12];
  }

  #options(size: { width: number; height: number }): uPlot.Options {
    const { theme } = this;
    const isScore = this.signal === null;
    const axis = { stroke: theme.text, font: theme.font, ticks: { show: false } };
    const grid = { stroke: theme.grid, width: 1 };
    return {
      ...size,
      padding: [6, 10, isScore ? 0 : 6, 0],
      legend: { show: false },
      scales: { x: { time: true, range: () => this.#view.range }, y: { range: () => this.#yRange() } },
      axes: [
        isScore
          ? { ...axis, grid, size: TIME_AXIS_HEIGHT, gap: 4, space: 60, incrs: TIME_STEPS, values: timeLabels }
          : { ...axis, grid, size: 0, space: 60, incrs: TIME_STEPS, values: () => [] },
        { ...axis, grid, size: AXIS_WIDTH, gap: 6, space: 20, values: (_, splits) => axisLabels(splits) },
      ],
      series: isScore ? this.#scoreSeries() : this.#signalSeries(),
      bands: isScore ? [] : [{ series: [3, 2], fill: theme.band }],
      cursor: {
        y: false,
        points: { size: 7, show: (_, i) => cursorPoint(theme, i === 1) },
        sync: { key: SYNC, setSeries: false },
        drag: { x: true, y: false, setScale: false, dist: 6 },
        bind: { dblclick: () => () => (this.events.reset(), null) },
      },
      hooks: {
        ready: [(u) => this.#listen(u)],
        drawClear: [(u) => shade(u, this.#view.spans, theme, this.signal, this.#view.selected)],
        drawAxes: [(u) => this.#drawWarming(u)],
        draw: [(u) => peaks(u, this.#view.spans, theme, isScore)],
        setCursor: [(u) => this.#moved(u)],
        setSelect: [(u) => this.#zoomed(u)],
      },
    };
  }

  #scoreSeries(): uPlot.Series[] {
    const { theme } = this;
    // A single anomalous reading makes no line, so each has a dot as wide as one.
    const points = { show: true, size: 3, width: 0, fill: theme.severity.high };
    return [
      {},
      { stroke: theme.score, width: 1.5, fill: theme.scoreFill, points: { show: false } },
      { stroke: theme.threshold, width: 1.5, dash: [5, 4], points: { show: false } },
      { stroke: theme.severity.high, width: 2, points },
    ];
  }

  #signalSeries(): uPlot.Series[] {
    const edge = { stroke: this.theme.band, width: 1, points: { show: false } };
    return [{}, { stroke: this.theme.line, width: 1.5, points: { show: false } }, edge, edge];
  }

  #drawWarming(u: uPlot): void {
    if (this.signal !== null) return;
    const { points } = this.#view;
    const firstScored = points.findIndex((p) => p.reading.verdict.state !== "warming");
    if (firstScored === 0 || points.length === 0) return;
    const until = firstScored < 0 ? points.at(-1) : points[firstScored];
    if (until) warming(u, this.theme, until.at);
  }

  #moved(u: uPlot): void {
    const index = u.cursor.left !== undefined && u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null;
    this.say(index);
    if (this.signal === null) this.events.cursor(index);
  }

  #zoomed(u: uPlot): void {
    if (u.select.width < 6) return;
    const from = u.posToVal(u.select.left, "x");
    const to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    // The drag is told to all charts of the stack; the one under the pointer answers.
    if (u.over.matches(":hover")) this.events.zoom([from, to]);
  }

  #listen(u: uPlot): void {
    u.over.addEventListener("click", (event) => {
      const { left } = u.over.getBoundingClientRect();
      this.events.click(u.posToVal(event.clientX - left, "x"));
    });
  }
}

function cursorPoint(theme: Theme, seen: boolean): HTMLElement {
  const dot = document.createElement("div");
  dot.className = "cursor-dot";
  if (seen) dot.style.background = theme.line;
  else dot.style.display = "none";
  return dot;
}

const hm = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const hms = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const monthDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** The day where it changes (or days apart), else the time, with seconds where they matter. */
function timeLabels(_: uPlot, splits: number[], _axis: number, _space: number, increment: number): string[] {
  let day = "";
  return splits.map((at, i) => {
    const date = new Date(at * 1000);
    const today = monthDay.format(date);
    const turned = i > 0 && today !== day;
    day = today;
    if (increment >= DAY || turned) return today;
    return (increment < 60 ? hms : hm).format(date);
  });
}

