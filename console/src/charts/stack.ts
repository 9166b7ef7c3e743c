// The stack of charts: one time axis, one cursor, as many rows as the thing has signals.
import { readTheme } from "./theme";
import { Row, type RowEvents, type StackView } from "./row";

const SCORE_HEIGHT_MIN = 108;
const SCORE_HEIGHT_MAX = 160;
const SIGNAL_HEIGHT_MIN = 48;
const SIGNAL_HEIGHT_MAX = 150;
/** Of a signal where the page scrolls as a whole. */
const NARROW_HEIGHT = 76;
/** As in the stylesheet. */
const LABEL_WIDTH = 196;
const NARROW = "(max-width: 860px)";

export class ChartStack {
  #rows: Row[] = [];
  #view: StackView | null = null;
  #index: number | null = null;
  #sizes: ResizeObserver;
  #scheme = window.matchMedia("(prefers-color-scheme: dark)");
  #rebuild = () => {
    this.#clear();
    if (this.#view) this.update(this.#view);
  };

  constructor(
    private readonly host: HTMLElement,
    private readonly events: RowEvents,
  ) {
    this.#sizes = new ResizeObserver(() => this.#resize());
    this.#sizes.observe(host);
    this.#scheme.addEventListener("change", this.#rebuild);
    host.addEventListener("keydown", this.#key);
  }

  update(view: StackView): void {
    this.#view = view;
    const wanted = [null, ...view.columns.signals.keys()];
    const same = wanted.length === this.#rows.length && wanted.every((signal, i) => this.#rows[i]?.signal === signal);
    if (same) {
      for (const row of this.#rows) row.update(view);
      return;
    }
    this.#clear();
    const theme = readTheme(this.host);
    for (const signal of wanted) {
      this.#rows.push(new Row(signal, view, theme, this.#told, this.#size(signal, wanted.length - 1)));
    }
    this.host.append(...this.#rows.map((row) => row.element));
    this.#resize();
  }

  destroy(): void {
    this.#clear();
    this.#sizes.disconnect();
    this.#scheme.removeEventListener("change", this.#rebuild);
    this.host.removeEventListener("keydown", this.#key);
  }

  #told: RowEvents = {
    cursor: (index) => {
      this.#index = index;
      this.events.cursor(index);
    },
    zoom: (range) => this.events.zoom(range),
    reset: () => this.events.reset(),
    click: (at) => this.events.click(at),
  };

  #clear(): void {
    for (const row of this.#rows) row.destroy();
    this.#rows = [];
  }

  #resize(): void {
    for (const row of this.#rows) row.resize(this.#size(row.signal, this.#rows.length - 1));
  }

  #size(signal: string | null, signals: number): { width: number; height: number } {
    const narrow = window.matchMedia(NARROW).matches;
    const width = Math.max(120, this.host.clientWidth - (narrow ? 0 : LABEL_WIDTH));
    const score = Math.min(SCORE_HEIGHT_MAX, Math.max(SCORE_HEIGHT_MIN, Math.round(this.host.clientHeight * 0.2)));
    if (signal === null) return { width, height: narrow ? SCORE_HEIGHT_MIN : score };
    const share = narrow ? NARROW_HEIGHT : Math.floor((this.host.clientHeight - score - 2) / Math.max(1, signals)) - 1;
    return { width, height: Math.min(SIGNAL_HEIGHT_MAX, Math.max(SIGNAL_HEIGHT_MIN, share)) };
  }

  /** The arrow keys move the cursor, by one reading or with Shift by ten; Escape leaves a zoom. */
  #key = (event: KeyboardEvent): void => {
    const count = this.#view?.points.length ?? 0;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.events.reset();
    if (step === undefined || count === 0) return;
    event.preventDefault();
    const from = this.#index ?? count - 1;
    const index = Math.min(count - 1, Math.max(0, from + step * (event.shiftKey ? 10 : 1)));
    for (const row of this.#rows) row.point(index);
  };
}
