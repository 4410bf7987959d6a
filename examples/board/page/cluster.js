// The processes as cards, and what changed between two looks at them as events.

import { $, element, small } from "./dom.js";
import { duration } from "./figures.js";

const cards = new Map();
let before = null;

export const workerName = ({ slot, worker_id }) => `app_worker#${slot}:${worker_id}`;

// Draws the whole cluster; `mine` is the worker behind the socket, or null while there is none.
export function drawCluster(status, mine, onCrash) {
  const wanted = [masterLook(status), workerLook("agent", "agent", status.agent)];
  for (const one of status.workers) wanted.push(workerLook(`app#${one.slot}`, `app_worker#${one.slot}`, one));
  for (const look of wanted) {
    if (!cards.has(look.key)) cards.set(look.key, $("processes").appendChild(newCard(look, onCrash)));
    const connected = mine !== null && look.key === `app#${mine.slot}` && look.id === mine.worker_id;
    update(cards.get(look.key), look, connected);
  }
}

function masterLook({ phase, pid, started_at, start_mode, version }) {
  return {
    key: "master", role: "master", state: phase === "serving" ? "listening" : "starting", word: phase,
    id: pid, generation: null, death: null,
    facts: { up: duration(Date.now() / 1000 - started_at), mode: start_mode, version },
  };
}

function workerLook(key, role, { state, worker_id, generation, age, deaths, last_death }) {
  return {
    key, role, state, word: key === "agent" && state === "listening" ? "running" : state,
    id: worker_id, generation, death: last_death,
    facts: { generation, age: duration(age), deaths },
  };
}

function newCard({ key }, onCrash) {
  const card = $("process").content.firstElementChild.cloneNode(true);
  const button = card.querySelector(".crash");
  if (key === "master") button.remove();
  else button.addEventListener("click", () => onCrash(key));
  return card;
}

function update(card, look, connected) {
  const generation = String(look.generation);
  if (card.dataset.generation && card.dataset.generation !== generation) flash(card);
  Object.assign(card.dataset, { state: look.state, generation });
  card.classList.toggle("connected", connected);
  card.querySelector(".role").textContent = look.role;
  card.querySelector(".word").textContent = look.word;
  card.querySelector(".death").textContent = look.death ? `last death: ${look.death}` : "";
  card.querySelector(".id").replaceChildren(
    String(look.id ?? "–"), small(look.key === "master" ? "pid" : "worker id"));
  const facts = Object.entries(look.facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  card.querySelector(".facts").replaceChildren(...facts);
  const button = card.querySelector(".crash");
  if (button) button.disabled = look.state !== "listening";
}

function flash(card) {
  card.classList.remove("fresh");
  void card.offsetWidth; // without a layout in between the animation would not start again
  card.classList.add("fresh");
}

// What happened since the last look: [{kind, text, detail}].
export function changes({ agent, workers }) {
  const now = new Map([["agent", agent], ...workers.map((one) => [`app_worker#${one.slot}`, one])]);
  const events = [];
  for (const [role, one] of now) {
    const old = before?.get(role);
    if (!old) continue;
    const replaced = old.generation !== one.generation;
    if (one.deaths > old.deaths) {
      events.push({ kind: "bad", text: `${role}:${old.worker_id} died`, detail: one.last_death });
    }
    if (one.state === "listening" && (replaced || old.state !== "listening")) {
      events.push({ kind: "good", text: `${role}:${one.worker_id} is up`, detail: `generation ${one.generation}` });
    }
  }
  before = now;
  return events;
}
