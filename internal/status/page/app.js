"use strict";

// Everything that comes from tasks is inserted as text, never as HTML.

const $ = (id) => document.getElementById(id);
const text = (id, value) => {
  const element = $(id);
  if (element.textContent !== value) element.textContent = value;
};
const numbers = new Intl.NumberFormat("en");
const count = (n) => numbers.format(n);

function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  if (seconds < 1e-3) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return (seconds * 1e3).toPrecision(3) + " ms";
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  const s = Math.round(seconds);
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let unit = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++; }
  return (unit === 0 || bytes >= 100 ? bytes.toFixed(0) : bytes.toPrecision(3)) + " " + units[unit];
}

function rate(perSecond) {
  if (perSecond >= 100 || perSecond === 0) return count(Math.round(perSecond));
  return perSecond.toPrecision(3);
}

// list replaces the content of a definition list. Elements are reused, so that a selection is kept.
function list(id, rows) {
  const dl = $(id);
  const shown = rows.filter((row) => row[1] !== null);
  while (dl.children.length > shown.length) dl.lastElementChild.remove();
  shown.forEach(([name, value, kind], i) => {
    let box = dl.children[i];
    if (!box) {
      box = document.createElement("div");
      box.append(document.createElement("dt"), document.createElement("dd"));
      dl.append(box);
    }
    box.className = kind || "";
    if (box.children[0].textContent !== name) box.children[0].textContent = name;
    if (box.children[1].textContent !== value) box.children[1].textContent = value;
  });
}

// table replaces the rows of a table. kinds are the classes of the columns: number, word or text.
function table(id, rows, kinds) {
  const body = $(id);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => {
    const row = body.rows[i] || body.insertRow();
    cells.forEach((value, j) => {
      const cell = row.cells[j] || row.insertCell();
      cell.className = kinds[j];
      if (cell.textContent !== value) cell.textContent = value;
    });
  });
}

function chart(history) {
  const svg = $("history");
  const completed = history.completed, failed = history.failed;
  const n = completed.length;
  const points = Math.max(n, 60);
  // The last interval has just begun, so its numbers are too low for a comparison.
  let peak = 0;
  for (let i = 0; i < n; i++) peak = Math.max(peak, completed[i] + failed[i]);
  svg.setAttribute("viewBox", "0 0 " + points + " 100");
  while (svg.children.length > 2 * n) svg.lastElementChild.remove();
  for (let i = 0; i < n; i++) {
    const x = points - n + i;
    const low = peak ? 100 * failed[i] / peak : 0;
    const high = peak ? 100 * completed[i] / peak : 0;
    bar(svg, 2 * i, x, 100 - low, low, "failed");
    bar(svg, 2 * i + 1, x, 100 - low - high, high, "done");
  }
  text("history-peak", " · at most " + rate(peak / history.interval_seconds) + " per second, each bar stands for " + duration(history.interval_seconds));
  text("history-from", duration(points * history.interval_seconds) + " ago");
}

function bar(svg, index, x, y, height, kind) {
  let rect = svg.children[index];
  if (!rect) {
    rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    svg.append(rect);
  }
  rect.setAttribute("class", kind);
  rect.setAttribute("x", x);
  rect.setAttribute("y", y.toFixed(2));
  rect.setAttribute("width", 0.86);
  rect.setAttribute("height", height.toFixed(2));
}

function show(s) {
  const t = s.tasks;
  const elapsed = (new Date(s.now) - new Date(s.started_at)) / 1000;
  document.title = (t.total ? Math.floor(100 * t.done / t.total) + "% · " : "") + s.program + " · ctworker";
  text("program", s.program);
  text("host", s.hostname);
  text("elapsed", (s.phase === "ended" ? "ended after " : "running for ") + duration(elapsed));
  text("slots", s.slots === 1 ? "1 slot" : count(s.slots) + " slots");
  const phase = $("phase");
  phase.className = "badge " + s.phase;
  text("phase", s.phase);
  text("version", s.version);
  text("run", s.run_id);
  notice(s.phase === "stopping" ? "The run is stopping: " + s.stop_reason + ". Running tasks may finish." : "");

  const share = t.total ? Math.min(1, t.done / t.total) : 0;
  const failedShare = t.done ? t.failed / t.done * share : 0;
  $("bar-done").style.width = 100 * (share - failedShare) + "%";
  $("bar-failed").style.width = 100 * failedShare + "%";
  if (t.total) $("bar").setAttribute("aria-valuenow", Math.floor(100 * share));
  else $("bar").removeAttribute("aria-valuenow");
  text("percent", t.total ? Math.floor(100 * share) + " %" : "");
  text("done-of", count(t.done) + (t.total ? " of " + (t.total_estimated ? "about " : "") + count(t.total) : "") + " tasks");
  text("earlier", t.done_earlier ? "(" + count(t.done_earlier) + " of them by earlier runs)" : "");
  list("cards", [
    ["Time left", s.phase === "ended" ? "–" : duration(s.remaining_seconds)],
    ["Tasks per second", rate(s.tasks_per_second)],
    ["Running", count(t.running)],
    ["Completed", count(t.completed)],
    ["Failed", count(t.failed), t.failed ? "failed" : ""],
    ["Exception", t.exception ? count(t.exception) : null, "failed"],
    ["Timed out", t.timed_out ? count(t.timed_out) : null, "failed"],
    ["Exited", t.exited ? count(t.exited) : null, "failed"],
    ["Retries", t.retries ? count(t.retries) : null],
    ["Waiting for a retry", t.waiting_for_retry ? count(t.waiting_for_retry) : null],
    ["Events to write", t.unreported ? count(t.unreported) : null],
    ["Leases lost", t.lease_lost ? count(t.lease_lost) : null, "failed"],
  ]);
  chart(s.history);

  table("failures", s.failures.map((f) => [
    new Date(f.at).toLocaleTimeString("en-GB"), f.task_id, count(f.attempt), f.outcome.replace("_", " ") + (f.retried ? ", retried" : ""), f.reason,
  ]), ["word", "text", "number", "word", "text"]);
  text("failures-note", s.failures.length === 0 ? "No attempt has failed." : s.failures.length === 50 ? "The last 50 failed attempts." : "");

  table("running", s.running.map((r) => [
    count(r.slot), r.task_id, count(r.attempt), duration(r.age_seconds), size(r.memory_bytes),
  ]), ["number", "text", "number", "number", "number"]);
  text("running-note", !s.running_known ? "The running tasks are unknown, because the process pool does not respond."
    : s.running.length === 0 ? "No task is running."
    : s.running.length < t.running && s.running.length === 200 ? "The 200 tasks that have run the longest." : "");

  table("slowest", (s.slowest || []).map((a) => [a.task_id, count(a.attempt), a.outcome.replace("_", " "), duration(a.seconds)]), ["text", "number", "word", "number"]);
  const q = s.queue;
  list("details", [
    ["Duration of attempts", quantiles(s.duration_seconds)],
    ["From receiving to event", quantiles(s.latency_seconds)],
    ["CPU time of ctworker", duration(s.engine.cpu_seconds) + ", " + duration(s.engine.cpu_seconds_per_task) + " per task"],
    ["Memory of ctworker", "at most " + size(s.engine.peak_memory_bytes)],
    ["Task queue", q ? q.name : null],
    ["Event queue", q && q.event_queue ? q.event_queue : null],
    ["In flight", q ? count(q.in_flight) : null],
    ["Malformed messages", q ? count(q.malformed) : null],
    ["Leases extended", q ? count(q.leases_extended) + (q.extend_failed ? ", " + count(q.extend_failed) + " attempts failed" : "") : null],
    ["Not settled", q ? count(q.settle_failed) : null],
  ]);
}

function quantiles(q) {
  if (!q.max) return "–";
  return "p50 " + duration(q.p50) + ", p90 " + duration(q.p90) + ", p99 " + duration(q.p99) + ", max " + duration(q.max);
}

function notice(message) {
  $("notice").hidden = message === "";
  text("notice", message);
}

let ended = false;
const stream = new EventSource("events");
stream.onmessage = (event) => show(JSON.parse(event.data));
stream.addEventListener("end", () => { ended = true; stream.close(); });
stream.onerror = () => {
  if (!ended) notice("No connection to ctworker. The numbers below are those of the last update.");
};
