// The machine: four charts, the bars of the cores, and the figure above each of them.

import { SPAN, TimeChart } from "./chart.js";
import { $, element, small } from "./dom.js";
import { gib, mean, niceScale, percent, plain, rate } from "./figures.js";

const GIB = 2 ** 30;
let samples = [];
let received = 0; // performance.now() at the latest sample
let pointer = null; // {chart, x}: where the mouse is, in whichever chart

const charts = {
  cpu: new TimeChart($("cpu"), {
    series: [{ of: ({ cpu }) => mean(cpu), color: "--cpu", fill: true }],
    scale: () => ({ top: 100, step: 25 }),
    format: percent,
  }),
  memory: new TimeChart($("memory"), {
    series: [{ of: ({ memory }) => memory.used, color: "--memory", fill: true }],
    scale: memoryScale,
    format: gib,
  }),
  network: new TimeChart($("network"), {
    series: [
      { of: ({ network }) => network.loopback, color: "--loop" },
      { of: ({ network }) => network.received, color: "--down", fill: true },
      { of: ({ network }) => network.sent, color: "--up" },
    ],
    scale: (all) => niceScale(highest(all, 4000, ({ network }) => Object.values(network))),
    format: rate,
  }),
  load: new TimeChart($("load"), {
    series: [
      { of: ({ load }) => load[2], color: "--load15" },
      { of: ({ load }) => load[1], color: "--load5" },
      { of: ({ load }) => load[0], color: "--load1", fill: true },
    ],
    scale: loadScale,
    format: plain,
  }),
};

function highest(all, floor, valuesOf) {
  return all.reduce((top, sample) => Math.max(top, ...valuesOf(sample)), floor);
}

function memoryScale(all) {
  const total = (all.at(-1)?.memory.total ?? GIB) / GIB;
  const mark = { at: total * GIB, label: `${total.toFixed(1)} GiB installed` };
  return { top: total * 1.12 * GIB, step: niceScale(total).step * GIB, mark };
}

function loadScale(all) {
  const cores = all.at(-1)?.cpu.length ?? 1;
  const mark = { at: cores, label: `${cores} cores` };
  return { ...niceScale(highest(all, cores * 1.25, ({ load }) => load)), mark };
}

// Takes what is new; what is known already (a new socket brings its whole history) is left out.
export function addSamples(more) {
  const known = new Set(samples.map(({ time }) => time));
  samples = [...samples, ...more.filter(({ time }) => !known.has(time))].sort((a, b) => a.time - b.time);
  samples = samples.filter(({ time }) => time > samples.at(-1).time - SPAN - 2);
  received = performance.now();
  draw();
}

export const silence = () => (received ? (performance.now() - received) / 1000 : 0);

// The right edge: the latest sample, or later when samples are overdue, so that a pause is seen as one.
const rightEdge = () => (samples.at(-1)?.time ?? Date.now() / 1000) + Math.max(0, silence() - 2);

export function draw() {
  const end = rightEdge();
  const pointed = pointer && nearest(pointer.chart.timeAt(pointer.x, end));
  for (const chart of Object.values(charts)) chart.draw(samples, end, pointed);
  if (!samples.length) return;
  drawFigures(pointed ?? samples.at(-1), pointed ? `${Math.round(end - pointed.time)} s ago` : null);
  drawCores(samples.at(-1).cpu);
}

function nearest(time) {
  const away = (sample) => Math.abs(sample.time - time);
  const found = samples.reduce((best, sample) => (best && away(best) <= away(sample) ? best : sample), null);
  return time && found && away(found) < 3 ? found : null;
}

function drawFigures({ cpu, memory, network, load }, when) {
  const figures = {
    cpu: [percent(mean(cpu)), ""],
    memory: [gib(memory.used), `${percent((100 * memory.used) / memory.total)} of ${gib(memory.total)}`],
    network: [`↓ ${rate(network.received)}  ↑ ${rate(network.sent)}`, `loopback ${rate(network.loopback)}`],
    load: [load[0].toFixed(2), `${load[1].toFixed(2)} · ${load[2].toFixed(2)}`],
  };
  for (const [name, [figure, aside]] of Object.entries(figures)) {
    $(`${name}-value`).replaceChildren(figure, small(when ?? aside));
  }
}

function drawCores(cpu) {
  const box = $("cores");
  while (box.children.length > cpu.length) box.lastChild.remove();
  while (box.children.length < cpu.length) box.append(newCore(box.children.length, cpu.length));
  box.classList.toggle("many", cpu.length > 16);
  cpu.forEach((use, index) => {
    const core = box.children[index];
    core.style.setProperty("--use", `${use}%`);
    core.title = `core ${index}: ${percent(use)}`;
    core.firstChild.dataset.use = cpu.length > 6 ? "" : percent(use);
  });
  const busiest = cpu.indexOf(Math.max(...cpu));
  $("cores-note").textContent = `${cpu.length}, one bar each`;
  $("cores-value").replaceChildren(percent(cpu[busiest]), small(`busiest: core ${busiest}`));
}

function newCore(index, all) {
  const core = element("div", "", "core");
  core.append(element("i", ""), element("span", all > 4 ? index : `core ${index}`));
  return core;
}

for (const chart of Object.values(charts)) {
  chart.canvas.addEventListener("pointermove", ({ clientX }) => point({ chart, x: clientX }));
  chart.canvas.addEventListener("pointerleave", () => point(null));
}

function point(at) {
  pointer = at;
  draw();
}

new ResizeObserver(draw).observe(document.querySelector(".charts"));
