// Numbers as people read them.

const GIB = 2 ** 30;

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
export const percent = (value) => `${Math.round(value)} %`;
export const gib = (value) => `${(value / GIB).toFixed(value > 0 && value < 10 * GIB ? 1 : 0)} GiB`;
export const plain = (value) => String(Math.round(value * 100) / 100);

export function rate(value) {
  const units = ["B/s", "kB/s", "MB/s", "GB/s"];
  let size = value;
  while (size >= 1000 && units.length > 1) {
    size /= 1000;
    units.shift();
  }
  const whole = size >= 100 || units[0] === "B/s" || Number.isInteger(size);
  return `${whole ? Math.round(size) : size.toFixed(1)} ${units[0]}`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

// The smallest of 1, 2, 2.5, 5 × 10ⁿ that is not below `rough`: steps a person would have chosen.
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
}

// An axis from 0 to at least `top`, with about `lines` grid lines.
export function niceScale(top, lines = 4) {
  const step = niceStep(top / lines);
  return { top: step * Math.ceil(top / step - 0.001), step };
}
