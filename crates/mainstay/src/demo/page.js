// The demo's page: sends requests, and shows who answered. No framework, nothing from elsewhere.
"use strict";

const $ = (id) => document.getElementById(id);
const ROWS_MAX = 200; // what a person can still scroll through
const STRIP_MAX = 90; // about two lines
const SAMPLES_MAX = 2000; // times the median is taken of
const AT_ONCE = 6; // as many as a browser opens connections to one host
const FEED_MAX = 50;

// Every element the script makes goes through here: text is always text.
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const instances = new Map(); // "pid@port" -> { number, pid, port, answers, gone }
const totals = { sent: 0, answered: 0, errors: 0, lost: 0, times: [] };

// ---- who answered -----------------------------------------------------------------------------------------------

function meet(key) {
  let found = instances.get(key);
  if (!found) {
    const [pid, port] = key.split("@");
    for (const other of instances.values()) {
      if (other.port === port) other.gone = true;
    }
    found = { number: instances.size + 1, pid, port, answers: 0, gone: false };
    instances.set(key, found);
  }
  return found;
}

const colour = (instance) => `w${((instance.number - 1) % 6) + 1}`;

function badge(instance) {
  const mark = make("span", `badge ${colour(instance)}`, instance.number);
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

const nameOf = (instance) => `pid ${instance.pid}, port ${instance.port}`;

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawBars();
    const { sent, answered, errors, lost, times } = totals;
    $("total-sent").textContent = sent;
    $("total-answered").textContent = answered;
    $("total-errors").textContent = errors;
    $("total-errors").className = errors ? "warn" : "";
    $("total-lost").textContent = lost;
    $("total-lost").className = lost ? "bad" : "";
    const sorted = [...times].sort((a, b) => a - b);
    $("total-median").textContent = sorted.length ? timeText(sorted[Math.floor(sorted.length / 2)]) : "–";
  });
}

function drawBars() {
  const all = [...instances.values()];
  const most = Math.max(1, ...all.map((instance) => instance.answers));
  const list = $("bars");
  while (list.children.length > all.length) list.lastChild.remove();
  all.forEach((instance, at) => {
    let line = list.children[at];
    if (!line) {
      line = make("li");
      const track = make("span", "track");
      track.append(make("span", `fill ${colour(instance)}`));
      track.setAttribute("aria-hidden", "true");
      line.append(badge(instance), make("span", "name"), track, make("span", "amount"));
      list.append(line);
    }
    line.classList.toggle("gone", instance.gone);
    line.querySelector(".name").textContent = instance.gone ? `pid ${instance.pid}, replaced` : nameOf(instance);
    line.querySelector(".fill").style.width = `${(100 * instance.answers) / most}%`;
    line.querySelector(".amount").textContent = `${instance.answers} ${instance.answers === 1 ? "answer" : "answers"}`;
  });
}

function square(instance, bad) {
  const strip = $("strip");
  const mark = make("i", bad || !instance ? "bad" : colour(instance));
  strip.append(mark);
  while (strip.children.length > STRIP_MAX) strip.firstChild.remove();
}

function say(text) {
  $("summary").textContent = text;
}

// ---- one answer -------------------------------------------------------------------------------------------------

function timeText(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 10000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// { what, status, note, ms, key, id }: status 0 is a cut connection, a word stands for itself.
function show(answer) {
  const instance = answer.key ? meet(answer.key) : null;
  const row = make("tr", "new");
  row.append(make("td", "what", answer.what));

  const word = answer.status === 0 ? "cut" : String(answer.status);
  const kind = answer.status === 0 || answer.status >= 500 ? "bad" : answer.status >= 400 ? "warn" : "good";
  const status = make("td");
  status.append(make("span", `mark ${kind}`, word));
  row.append(status, make("td", "time", answer.ms === undefined ? "" : timeText(answer.ms)));

  const who = make("td", "who");
  if (instance) {
    who.append(badge(instance), " ", nameOf(instance));
  } else {
    who.append(answer.status === 0 ? "nobody" : "the edge");
  }
  const why = make("td", "why");
  if (answer.id) why.append(copyButton(`mainstay why ${answer.id}`));
  else why.append(make("span", "hint", "no id: nobody is in front of this backend"));
  row.append(who, why);

  const rows = $("rows");
  rows.prepend(row);
  while (rows.children.length > ROWS_MAX) rows.lastChild.remove();
  $("empty").hidden = true;
  draw();
}

function copyButton(text) {
  const button = make("button", "copy");
  button.type = "button";
  button.title = text;
  const label = make("span", "", "Copy");
  button.append(make("code", "", text), label);
  button.setAttribute("aria-label", `Copy ${text}`);
  button.addEventListener("click", async () => {
    label.textContent = (await copy(text)) ? "Copied" : "Select it";
    say(label.textContent === "Copied" ? `Copied: ${text}` : `Could not copy: ${text}`);
    setTimeout(() => (label.textContent = "Copy"), 1500);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS, from another machine, there is no clipboard interface.
    const area = make("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.className = "skip";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

async function send(what, path, options = {}) {
  totals.sent += 1;
  draw();
  const began = performance.now();
  const answer = { what, status: 0 };
  try {
    const response = await fetch(path, { cache: "no-store", ...options });
    answer.status = response.status;
    answer.key = response.headers.get("demo-instance");
    answer.id = response.headers.get("mainstay-request-id") || response.headers.get("x-request-id");
    answer.body = await response.arrayBuffer();
  } catch {
    // The connection was cut, before the answer or in the middle of it.
    answer.status = 0;
  }
  answer.ms = performance.now() - began;
  if (answer.status === 0) totals.lost += 1;
  else {
    totals.answered += 1;
    if (answer.status >= 500) totals.errors += 1;
    totals.times.push(answer.ms);
    if (totals.times.length > SAMPLES_MAX) totals.times.shift();
  }
  if (answer.key) meet(answer.key).answers += 1;
  square(answer.key ? meet(answer.key) : null, answer.status === 0 || answer.status >= 500);
  show(answer);
  return answer;
}

function inWords(answer) {
  const time = timeText(answer.ms);
  if (answer.status === 0) return `${answer.what}: no answer, the connection was cut after ${time}.`;
  const by = answer.key ? `by ${nameOf(meet(answer.key))}` : "by the edge, because no instance could";
  return `${answer.what}: ${answer.status} after ${time}, answered ${by}.`;
}

// ---- many at once -----------------------------------------------------------------------------------------------

let busy = false;

async function burst(count, crashAt) {
  if (busy) return;
  busy = true;
  const buttons = [...$("many").querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  const results = [];
  let next = 0;
  let crash = null;
  say(`Sending ${count} requests …`);
  const worker = async () => {
    while (next < count) {
      next += 1;
      if (next === crashAt) crash = send("Crash", "/crash", { method: "POST" });
      results.push(await send("Hello", "/hello"));
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, worker));
  const crashed = await crash;
  buttons.forEach((button) => (button.disabled = false));
  busy = false;

  const good = results.filter((answer) => answer.status === 200).length;
  const who = new Set(results.map((answer) => answer.key).filter(Boolean)).size;
  const many = `${good} of ${count} answered, by ${who} ${who === 1 ? "instance" : "instances"}.`;
  if (!crashed) return say(many);
  const fate = crashed.status === 0 ? "was cut" : `got an honest ${crashed.status}`;
  say(`${many} The request that crashed an instance ${fate}.`);
}

// Read at once: the browser itself has checked the range.
const number = (id) => Number.parseInt($(id).value, 10);

$("many").addEventListener("submit", (event) => {
  event.preventDefault();
  burst(number("count"));
});
$("siege").addEventListener("click", () => {
  if ($("many").reportValidity()) burst(number("count"), Math.ceil(number("count") / 2));
});

// ---- one at a time ----------------------------------------------------------------------------------------------

async function single(what, path, options) {
  say(`${what}: waiting …`);
  const answer = await send(what, path, options);
  say(inWords(answer));
  return answer;
}

const singles = {
  hello: () => single("Hello", "/hello"),
  fail: () => single("Fail", "/fail"),
  // POST, so that nobody repeats it on the next instance.
  crash: () => single("Crash", "/crash", { method: "POST" }),
  headers: async () => {
    const answer = await single("Headers", "/headers");
    if (answer.status !== 200) return;
    const seen = JSON.parse(new TextDecoder().decode(answer.body));
    const lines = Object.entries(seen.headers).map(([name, value]) => `${name}: ${value}`);
    $("seen-text").textContent = [`${seen.method} ${seen.target}`, ...lines].join("\n");
    $("seen").hidden = false;
    $("seen").open = true;
  },
};
for (const button of document.querySelectorAll("[data-send]")) {
  button.addEventListener("click", singles[button.dataset.send]);
}
$("slow").addEventListener("submit", (event) => {
  event.preventDefault();
  single("Slow", `/slow?ms=${number("slow-ms")}`);
});

// ---- WebSocket --------------------------------------------------------------------------------------------------

let socket = null;
let waiting = []; // when each message was sent, oldest first

function state(id, open, text) {
  $(id).className = open ? "state open" : "state";
  $(id).textContent = text;
}

function feed(text) {
  const list = $("socket-feed");
  list.prepend(make("li", "", text));
  while (list.children.length > FEED_MAX) list.lastChild.remove();
}

function socketEnded(event) {
  if (event.target !== socket) return;
  socket = null;
  waiting = [];
  state("socket-state", false, `closed (${event.code})`);
  feed(`closed: ${event.code} ${event.reason}`);
  $("socket-send").disabled = true;
  $("socket-toggle").textContent = "Connect";
}

function connect() {
  const url = new URL("/ws?hello", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const began = performance.now();
  let greeted = false;
  socket = new WebSocket(url);
  state("socket-state", false, "connecting …");
  $("socket-toggle").textContent = "Close";
  socket.addEventListener("close", socketEnded);
  socket.addEventListener("message", (event) => {
    if (greeted) {
      const ms = performance.now() - (waiting.shift() ?? performance.now());
      return feed(`← ${event.data}   ${timeText(ms)}`);
    }
    greeted = true;
    const { instance, requestId } = JSON.parse(event.data);
    const key = `${instance.pid}@${instance.port}`;
    state("socket-state", true, `open, ${nameOf(meet(key))}`);
    $("socket-send").disabled = false;
    show({ what: "WebSocket", status: 101, ms: performance.now() - began, key, id: requestId });
  });
}

$("socket-toggle").addEventListener("click", () => {
  if (socket) socket.close(1000);
  else connect();
});
$("socket").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket?.readyState !== WebSocket.OPEN) return;
  waiting.push(performance.now());
  socket.send($("socket-text").value);
  feed(`→ ${$("socket-text").value}`);
});

// ---- events -----------------------------------------------------------------------------------------------------

let source = null;

function listen() {
  const began = performance.now();
  source = new EventSource("/events");
  state("events-state", false, "connecting …");
  $("events-toggle").textContent = "Stop";
  source.addEventListener("hello", (event) => {
    const { instance, requestId } = JSON.parse(event.data);
    const key = `${instance.pid}@${instance.port}`;
    state("events-state", true, `open, ${nameOf(meet(key))}`);
    show({ what: "Events", status: 200, ms: performance.now() - began, key, id: requestId });
  });
  source.addEventListener("message", (event) => {
    $("events-last").textContent = `Event ${JSON.parse(event.data).n} at ${new Date().toLocaleTimeString()}`;
  });
  source.addEventListener("error", (event) => {
    const ended = event.target.readyState === EventSource.CLOSED;
    state("events-state", false, ended ? "closed" : "reconnecting …");
    if (ended) hush();
  });
}

function hush() {
  source?.close();
  source = null;
  state("events-state", false, "closed");
  $("events-toggle").textContent = "Listen";
}

$("events-toggle").addEventListener("click", () => (source ? hush() : listen()));

// ---- upload -----------------------------------------------------------------------------------------------------

function sizeText(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function same(a, b) {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

async function upload(name, bytes) {
  $("upload-result").textContent = `Sending ${sizeText(bytes.length)} …`;
  const answer = await send(name, "/echo", { method: "POST", body: bytes });
  const back = answer.body ? new Uint8Array(answer.body) : new Uint8Array();
  const verdict = same(bytes, back) ? "byte for byte the same" : "NOT the same";
  const trip = `${sizeText(bytes.length)} there and back in ${timeText(answer.ms)}: ${verdict}.`;
  const result = answer.status === 200 ? trip : inWords(answer);
  $("upload-result").textContent = result;
  say(result);
}

$("upload").addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = $("upload-file").files[0];
  if (!file) return ($("upload-result").textContent = "Choose a file first.");
  upload("Upload", new Uint8Array(await file.arrayBuffer()));
});
$("upload-noise").addEventListener("click", () => {
  const noise = new Uint8Array(5e6);
  // The generator gives at most 65,536 bytes a call.
  for (let at = 0; at < noise.length; at += 65536) crypto.getRandomValues(noise.subarray(at, at + 65536));
  upload("Upload", noise);
});

$("clear").addEventListener("click", () => {
  instances.clear();
  Object.assign(totals, { sent: 0, answered: 0, errors: 0, lost: 0, times: [] });
  for (const id of ["rows", "strip", "bars"]) $(id).replaceChildren();
  $("empty").hidden = false;
  say("Nobody has answered yet. Send a few requests.");
  draw();
});
