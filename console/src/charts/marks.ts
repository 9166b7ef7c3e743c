// What is drawn under and over the lines: shaded anomalies, their peaks, the warming-up.
import type uPlot from "uplot";
import type { Span } from "../model/episodes";
import type { Theme } from "./theme";

/** Shades each span; strongly where the signal is among its causes (or in the score), faintly elsewhere. */
export function shade(u: uPlot, spans: Span[], theme: Theme, signal: string | null, selected: string | null): void {
  const { ctx, bbox } = u;
  ctx.save();
  clip(u);
  for (const span of spans) {
    const [left, right] = edges(u, span);
    const concerned = signal === null || span.signals.has(signal);
    ctx.fillStyle = theme.severity[span.severity];
    ctx.globalAlpha = concerned ? 0.2 : 0.06;
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    if (span.id === selected) {
      ctx.globalAlpha = 0.7;
      ctx.fillRect(left, bbox.top, ratio(), bbox.height);
      ctx.fillRect(right - ratio(), bbox.top, ratio(), bbox.height);
    }
  }
  ctx.restore();
}

/** A dashed line at each peak, with a triangle on it where `head` says so. */
export function peaks(u: uPlot, spans: Span[], theme: Theme, head: boolean): void {
  const { ctx, bbox } = u;
  const scale = ratio();
  ctx.save();
  clip(u);
  for (const span of spans) {
    if (span.peak === null) continue;
    const x = Math.round(u.valToPos(span.peak, "x", true));
    ctx.strokeStyle = theme.severity[span.severity];
    ctx.fillStyle = theme.severity[span.severity];
    ctx.globalAlpha = head ? 0.9 : 0.55;
    ctx.lineWidth = scale;
    ctx.setLineDash([3 * scale, 3 * scale]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (!head) continue;
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x - 5 * scale, bbox.top);
    ctx.lineTo(x + 5 * scale, bbox.top);
    ctx.lineTo(x, bbox.top + 8 * scale);
    ctx.closePath();
    ctx.fill();
  }
  ctx.restore();
}

/** Says that there is no score yet, over the readings that have none. */
export function warming(u: uPlot, theme: Theme, until: number): void {
  const { ctx, bbox } = u;
  const left = bbox.left;
  const right = Math.min(u.valToPos(until, "x", true), bbox.left + bbox.width);
  if (right <= left) return;
  ctx.save();
  ctx.fillStyle = theme.warming;
  ctx.fillRect(left, bbox.top, right - left, bbox.height);
  const words = "warming: learning what is ordinary";
  ctx.font = theme.font.replace("11px", `${11 * ratio()}px`);
  if (ctx.measureText(words).width < right - left - 12) {
    ctx.fillStyle = theme.text;
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillText(words, (left + right) / 2, bbox.top + bbox.height / 2);
  }
  ctx.restore();
}

function edges(u: uPlot, span: Span): [number, number] {
  const left = u.valToPos(span.from, "x", true);
  const right = u.valToPos(span.to, "x", true);
  // An anomaly of a single reading must be seen too.
  return right - left < 2 * ratio() ? [left - ratio(), left + ratio()] : [left, right];
}

function clip(u: uPlot): void {
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
}

function ratio(): number {
  return window.devicePixelRatio || 1;
}
