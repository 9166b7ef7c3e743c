// The charts' colours, taken from the stylesheet so that light and dark stay in one place.
import type { Severity } from "../api";

export interface Theme {
  text: string;
  grid: string;
  line: string;
  score: string;
  scoreFill: string;
  threshold: string;
  band: string;
  warming: string;
  severity: Record<Severity, string>;
  font: string;
}

export function readTheme(element: HTMLElement): Theme {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: of("--muted"),
    grid: of("--grid"),
    line: of("--accent"),
    score: of("--score"),
    scoreFill: of("--score-fill"),
    threshold: of("--threshold"),
    band: of("--band"),
    warming: of("--warming-fill"),
    severity: { low: of("--low"), medium: of("--medium"), high: of("--high"), critical: of("--critical") },
    font: `11px ${style.fontFamily}`,
  };
}
