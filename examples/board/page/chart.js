// A chart of the last two minutes on one canvas: grid, axes with units, areas or lines, a cross-hair.

export const SPAN = 120;
const GAP = 3; // seconds without a sample: the line is broken rather than guessed
const MARGIN = { top: 6, right: 10, bottom: 22, left: 62 };

export class TimeChart {
  // `series`: {of: sample => number, color: CSS variable, fill: bool}; `scale`: samples => {top, step, mark?}.
  constructor(canvas, { series, scale, format }) {
    Object.assign(this, { canvas, series, scale, format });
    this.context = canvas.getContext("2d");
  }

  timeAt(clientX, end) {
    const { left, width } = this.canvas.getBoundingClientRect();
    const share = (clientX - left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
    return share < 0 || share > 1 ? null : end - SPAN * (1 - share);
  }

  draw(samples, end, hovered) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      Object.assign(this.canvas, { width: wide, height: high });
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);

    const style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    const scale = { ...this.scale(samples), known: samples.length > 0 };
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const x = (time) => right - ((end - time) / SPAN) * (right - MARGIN.left);
    const y = (value) => bottom - (Math.min(value, scale.top) / scale.top) * (bottom - MARGIN.top);

    this.drawAxes({ x, y, end, right, bottom, scale, color, font: style.fontFamily });
    this.context.save();
    this.context.beginPath();
    this.context.rect(MARGIN.left, 0, right - MARGIN.left + 1, bottom + 1);
    this.context.clip();
    for (const one of this.series) this.drawSeries(one, samples, { x, y, bottom, color });
    this.context.restore();
    if (hovered) this.drawCrossHair(hovered, { x, y, bottom, color });
  }

  drawAxes({ x, y, end, right, bottom, scale, color, font }) {
    const pen = this.context;
    pen.font = `11px ${font}`;
    pen.fillStyle = color("--soft");
    pen.strokeStyle = color("--grid");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let value = 0; value <= scale.top * 1.001; value += scale.step) {
      const at = Math.round(y(value)) + 0.5;
      this.line([MARGIN.left, at], [right, at]);
      if (scale.known) pen.fillText(this.format(value), MARGIN.left - 8, Math.max(at, 6));
    }
    if (scale.known && scale.mark) {
      pen.strokeStyle = color("--soft");
      pen.setLineDash([3, 4]);
      const at = Math.round(y(scale.mark.at)) + 0.5;
      this.line([MARGIN.left, at], [right, at]);
      pen.setLineDash([]);
      pen.textBaseline = "bottom";
      pen.textAlign = "left";
      pen.fillText(scale.mark.label, MARGIN.left + 4, y(scale.mark.at) - 2);
    }
    pen.textBaseline = "alphabetic";
    const labels = { 120: "−2 min", 90: "−1:30", 60: "−1 min", 30: "−0:30", 0: "now" };
    for (const [ago, label] of Object.entries(labels)) {
      if (ago % 60 && right - MARGIN.left < 320) continue;
      pen.textAlign = ago === "0" ? "right" : ago === "120" ? "left" : "center";
      pen.fillText(label, x(end - ago), bottom + 16);
    }
  }

  drawSeries({ of, color: name, fill }, samples, { x, y, bottom, color }) {
    const pen = this.context;
    pen.strokeStyle = color(name);
    pen.lineWidth = 1.75;
    pen.lineJoin = "round";
    for (const run of runs(samples)) {
      const path = new Path2D();
      run.forEach((sample, index) => path[index ? "lineTo" : "moveTo"](x(sample.time), y(of(sample))));
      if (run.length === 1) path.lineTo(x(run[0].time) + 1, y(of(run[0])));
      if (fill) {
        const area = new Path2D(path);
        area.lineTo(x(run.at(-1).time), bottom);
        area.lineTo(x(run[0].time), bottom);
        const shade = pen.createLinearGradient(0, MARGIN.top, 0, bottom);
        shade.addColorStop(0, color(name) + "66");
        shade.addColorStop(1, color(name) + "0d");
        pen.fillStyle = shade;
        pen.fill(area);
      }
      pen.stroke(path);
    }
  }

  drawCrossHair(sample, { x, y, bottom, color }) {
    const pen = this.context;
    const at = Math.round(x(sample.time)) + 0.5;
    pen.strokeStyle = color("--soft");
    this.line([at, MARGIN.top], [at, bottom]);
    for (const { of, color: name } of this.series) {
      pen.beginPath();
      pen.arc(at, y(of(sample)), 3.5, 0, 2 * Math.PI);
      pen.fillStyle = color(name);
      pen.fill();
    }
  }

  line(from, to) {
    this.context.beginPath();
    this.context.moveTo(...from);
    this.context.lineTo(...to);
    this.context.stroke();
  }
}

function runs(samples) {
  const found = [];
  for (const sample of samples) {
    const last = found.at(-1)?.at(-1);
    if (last && sample.time - last.time <= GAP) found.at(-1).push(sample);
    else found.push([sample]);
  }
  return found;
}
