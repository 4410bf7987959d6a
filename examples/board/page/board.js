// The page: one socket for the samples, one look at the cluster each second, and what is done when either fails.

import { changes, drawCluster, workerName } from "./cluster.js";
import { $, element, small } from "./dom.js";
import { addSamples, draw, silence } from "./machine.js";

const pageWorker = JSON.parse(document.body.dataset.servedBy);
let socket = null;
let socketWorker = null; // the worker behind the socket; null while there is none
let attempts = 0;
let status = null;

// ---------------------------------------------------------------- the socket

function connect() {
  const opened = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/ws`);
  opened.onmessage = ({ data }) => take(JSON.parse(data));
  opened.onclose = lost;
  socket = opened;
  setTimeout(() => socket === opened && !socketWorker && leave(), 3000); // a worker that hangs does not even refuse
}

// Drops a socket whose worker would not answer the closing handshake either.
function leave() {
  socket.onmessage = socket.onclose = null;
  socket.close();
  lost();
}

function take({ served_by, history, sample }) {
  if (served_by) connected(served_by);
  addSamples(history ?? [sample]);
  showLink();
}

function connected(worker) {
  const text = attempts ? "socket is back" : "socket connected";
  note(attempts ? "good" : "", text, `${workerName(worker)}, generation ${worker.generation}`);
  attempts = 0;
  socketWorker = worker;
  showWorker("socket-worker", worker);
}

function lost() {
  if (socketWorker) note("wait", "socket lost", workerName(socketWorker));
  socket = socketWorker = null;
  attempts += 1;
  setTimeout(connect, Math.min(100 * 2 ** attempts, 3000)); // soon at first: another worker is there already
  showLink();
  if (status) drawCluster(status, null, crash);
  look();
}

function showLink() {
  const silent = Math.floor(silence());
  const state = socketWorker ? (silent > 2 ? "silent" : "live") : attempts ? "lost" : "connecting";
  const texts = {
    live: "live",
    silent: `connected, no sample for ${silent} s`,
    connecting: "connecting…",
    lost: `reconnecting… attempt ${attempts}`,
  };
  document.body.dataset.link = state;
  $("link").textContent = texts[state];
  $("crash").disabled = !socketWorker;
  if (state === "lost") showWorker("socket-worker", null, "reconnecting…");
  // A worker that hangs keeps its sockets open: it is left when the agent is known to be sending.
  const agentSends = status?.agent.state === "listening" && status.agent.age > 5;
  if (state === "silent" && silent > 5 && agentSends) leave();
}

// ---------------------------------------------------------------- the cluster

let looking = null;
let hurry = 0; // until then the page looks four times a second: something is about to happen

async function look() {
  clearTimeout(looking);
  let settled = false;
  try {
    const answer = await fetch("/api/cluster", { cache: "no-store", signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const { cluster, served_by } = await answer.json();
    settled = [cluster.agent, ...cluster.workers].every(({ state }) => state === "listening");
    showStatus(cluster, served_by);
  } catch {
    showWorker("api-worker", null, "no answer");
    document.body.dataset.status = "stale";
  }
  clearTimeout(looking); // another call may have set its own meanwhile
  looking = setTimeout(look, settled && performance.now() > hurry ? 1000 : 250);
}

function showStatus(cluster, servedBy) {
  status = cluster;
  document.body.dataset.status = "fresh";
  for (const { kind, text, detail } of changes(cluster)) note(kind, text, detail);
  drawCluster(cluster, socketWorker, crash);
  showWorker("api-worker", servedBy);
  showWorker("page-worker", pageWorker);
  const { name, phase, env, address, workers } = cluster;
  const slot = workers.find((one) => one.slot === pageWorker.slot);
  $("page-worker").classList.toggle("gone", slot?.generation !== pageWorker.generation);
  const up = workers.filter(({ state }) => state === "listening").length;
  $("name").textContent = name;
  $("where").textContent = [env, address].filter(Boolean).join(" · ");
  $("summary").textContent = `${phase}, ${up} of ${workers.length} workers listening`;
  document.title = `${up}/${workers.length} · ${name}`;
}

async function crash(who) {
  hurry = performance.now() + 4000;
  note("wait", `asked ${who === "agent" ? "the agent" : who.replace("app", "app_worker")} to crash`);
  await fetch(`/api/crash?who=${encodeURIComponent(who)}`, { method: "POST" }).catch(() => null);
  look();
}

// ---------------------------------------------------------------- words

function showWorker(id, worker, otherwise) {
  $(id).classList.toggle("lost", !worker);
  if (worker) $(id).replaceChildren(workerName(worker), small(`gen ${worker.generation}`));
  else $(id).replaceChildren(otherwise);
}

function note(kind, text, detail) {
  const item = element("li", "", kind);
  item.append(element("time", new Date().toLocaleTimeString("en-GB")), element("b", text));
  if (detail) item.append(small(detail));
  $("events").prepend(item);
  while ($("events").children.length > 9) $("events").lastChild.remove();
}

// ---------------------------------------------------------------- start

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  draw(); // the canvases take their colours from the style sheet
}

const dark = matchMedia("(prefers-color-scheme: dark)");
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", theme);
  setTheme(theme);
});
setTheme(localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light"));

$("crash").addEventListener("click", () => crash(`app#${socketWorker.slot}`));
connect();
look();
setInterval(() => {
  showLink();
  if (document.body.dataset.link !== "live") draw(); // the charts move on, the pause is seen
}, 1000);
