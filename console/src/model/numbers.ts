// Numbers as people read them.

/** Four significant digits, without an exponent where a plain number is as short. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(2);
  const decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(decimals);
}

const grouped = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });

export function count(value: number): string {
  return grouped.format(value);
}

/** Messages per second. */
export function rate(value: number): string {
  return value >= 100 ? grouped.format(value) : value.toFixed(1);
}

/** Labels of an axis: as many decimals as its step has, so that none is rounded into a wrong place. */
export function axisLabels(splits: number[]): string[] {
  const step = Math.abs((splits[1] ?? 1) - (splits[0] ?? 0)) || 1;
  let decimals = 0;
  while (decimals < 6 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6) decimals += 1;
  const largest = Math.max(...splits.map(Math.abs));
  return splits.map((value) => (largest >= 1e6 ? value.toPrecision(3) : value.toFixed(decimals)));
}
