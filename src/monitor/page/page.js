// The page: one stream large, all of them in a grid, settings, events, outputs and load. All text goes in as text.

import { draw } from "/chart.js";
import { Events } from "/events.js";
import { Ignored } from "/ignore.js";
import { Player } from "/player.js";
import { explain, request } from "/requests.js";

const by = (id) => document.getElementById(id);
const HISTORY = 600;
const TILE_EVERY_MS = 1000;

const state = {
  selected: decodeURIComponent(location.hash.slice(1)),
  streams: [],
  history: new Map(),
  settings: null,
  range: null,
  stages: new Map(),
  feed: null,
};

function say(text) { by("said").textContent = text; }

// ---- logging in ----

function askForPassword() {
  stop();
  const dialog = by("login");
  if (!dialog.open) dialog.showModal();
}

window.addEventListener("locked", askForPassword);

by("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const response = await request("/login", { password: by("password").value });
  if (!response.ok) {
    const wait = response.headers.get("Retry-After");
    by("login-said").textContent = wait ? `Too many tries, again in ${wait} s` : await explain(response);
    return;
  }
  by("password").value = "";
  by("login-said").textContent = "";
  by("login").close();
  start();
});

by("login").addEventListener("cancel", (event) => event.preventDefault());

by("logout").addEventListener("click", async () => {
  await request("/logout", {});
  location.reload();
});

// ---- pictures ----

const large = new Player(by("picture"), 0, (seen) => {
  by("waiting").hidden = seen;
  ignored.show();
});
const tiles = new Map();

// ---- streams ----

function select(name) {
  state.selected = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  showStreams();
}

function tile(name) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const image = document.createElement("img");
  image.alt = "";
  const line = document.createElement("span");
  line.className = "name";
  const label = document.createElement("span");
  label.textContent = name;
  const badge = document.createElement("span");
  const figures = document.createElement("p");
  figures.className = "figures";
  line.append(label, badge);
  button.append(image, line, figures);
  button.addEventListener("click", () => select(name));
  item.append(button);
  by("streams").append(item);
  return { item, button, badge, figures, player: new Player(image, TILE_EVERY_MS) };
}

const known = (value) => value !== null && value !== undefined;
const number = (value, digits, unit) => (known(value) ? `${value.toFixed(digits)}${unit}` : "–");

function figures(stream) {
  return [`${number(stream.fps_out, 1, " fps")}`, `latency ${number(stream.latency_s, 2, " s")}`,
    `marked ${number(stream.share * 100, 2, " %")}`].join(" · ");
}

function showStreams() {
  const names = state.streams.map((stream) => stream.name);
  if (!names.includes(state.selected)) state.selected = names[0] ?? "";
  for (const [name, { item, player }] of tiles) {
    if (!names.includes(name)) { player.play(null); item.remove(); tiles.delete(name); }
  }
  // One stream alone is shown large only.
  by("others").hidden = names.length < 2;
  for (const stream of state.streams) {
    if (!tiles.has(stream.name)) tiles.set(stream.name, tile(stream.name));
    const { button, badge, figures: text, player } = tiles.get(stream.name);
    badge.className = `state ${stream.state}`;
    badge.textContent = stream.state;
    text.textContent = figures(stream);
    button.setAttribute("aria-pressed", String(stream.name === state.selected));
    button.setAttribute("aria-label", `${stream.name}, ${stream.state}`);
    player.play(state.feed && names.length > 1 ? stream.name : null);
  }
  const stream = state.streams.find(({ name }) => name === state.selected);
  if (!stream) return;
  by("title").textContent = stream.name;
  by("state").className = `state ${stream.state}`;
  by("state").textContent = stream.state;
  by("reason").hidden = !stream.reason;
  if (by("reason").textContent !== (stream.reason ?? "")) by("reason").textContent = stream.reason ?? "";
  by("picture").alt = `Live picture of ${stream.name}`;
  by("figures").textContent = [number(stream.fps_in, 1, " fps in"), figures(stream), `${stream.dropped} dropped`,
    `${stream.reconnects} reconnects`, `latency p95 ${number(stream.latency_p95_s, 2, " s")}`].join(" · ");
  large.play(state.feed ? stream.name : null);
  rows("outputs", stream.outputs.map((output) => (
    [output.name, output.up ? "up" : "down", output.clients, output.dropped, output.restarts])));
  showChart();
  fitThreshold(stream);
}

function rows(id, lines) {
  const body = by(id);
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      if (cell.textContent !== String(text)) cell.textContent = text;
    });
  });
}

function showStages(sample) {
  rows("stages", sample.stages.map((stage) => {
    const before = state.stages.get(stage.name);
    state.stages.set(stage.name, { t: sample.t, frames: stage.frames });
    const seconds = before ? (sample.t - before.t) / 1000 : 0;
    // The time of the source is that of its input.
    const rate = seconds > 0 && stage.name !== "source" ? (stage.frames - before.frames) / seconds : null;
    const load = rate === null ? null : rate * stage.busy_p50_s * 100;
    const ms = (value) => `${(value * 1000).toFixed(1)} ms`;
    return [stage.name, number(load, 0, " %"), ms(stage.busy_p50_s), ms(stage.busy_p95_s), stage.queue];
  }));
}

function showChart() {
  const points = state.history.get(state.selected) ?? [];
  draw(by("chart"), points, state.settings?.threshold, events.times(state.selected));
}

function remember(t, streams) {
  for (const [name, [share, score]] of Object.entries(streams)) {
    if (!state.history.has(name)) state.history.set(name, []);
    const points = state.history.get(name);
    points.push([t, share, score]);
    if (points.length > HISTORY) points.shift();
  }
}

// ---- events ----

const events = new Events({
  list: by("events"), none: by("no-events"), dialog: by("replay"), title: by("replay-title"), video: by("replay-video"),
  said: by("replay-said"), file: by("replay-file"), closeButton: by("replay-close"),
});

// ---- settings ----

let wanted = {};
let sending = false;
let touched = 0;

async function send() {
  if (sending) return;
  sending = true;
  while (Object.keys(wanted).length) {
    const change = wanted;
    wanted = {};
    try {
      const response = await request("/api/settings", change);
      if (response.ok) { showSettings(await response.json(), true); say(""); } else say(await explain(response));
    } catch {
      say("the server cannot be reached");
    }
  }
  sending = false;
}

function change(part) {
  touched = performance.now();
  Object.assign(wanted, part);
  send();
}

function fitThreshold(stream) {
  const threshold = state.settings?.threshold;
  if (state.range || !known(threshold) || !known(stream.low) || !known(stream.high)) return;
  const low = Math.min(stream.low, threshold);
  const high = Math.max(stream.high, threshold);
  const room = Math.max(high - low, 1e-3) / 2;
  state.range = [low - room, high + room];
  const slider = by("threshold");
  [slider.min, slider.max] = state.range;
  slider.step = (state.range[1] - state.range[0]) / 400;
  slider.value = threshold;
  slider.disabled = false;
}

function options(id, names, chosen) {
  const select = by(id);
  if (select.options.length !== names.length) {
    select.replaceChildren(...names.map((name) => new Option(name.replaceAll("-", " "), name)));
  }
  select.value = chosen;
}

function showSettings(settings, own) {
  if (!settings) return;
  state.settings = settings;
  // What is being changed here is not moved by the answer to the last change.
  const busy = own && (sending && Object.keys(wanted).length > 0);
  if (!busy) {
    if (state.range) by("threshold").value = settings.threshold;
    if (document.activeElement !== by("threshold-exact") || !own) {
      by("threshold-exact").value = settings.threshold === null ? "" : Number(settings.threshold.toFixed(4));
    }
    by("opacity").value = settings.opacity;
    by("opacity-exact").textContent = settings.opacity.toFixed(2);
    options("view", settings.views, settings.view);
    options("palette", settings.palettes, settings.palette);
    by("legend").checked = settings.legend;
  }
  for (const id of ["threshold-exact", "opacity", "view", "palette", "legend", "draw", "type"]) by(id).disabled = false;
  by("save").hidden = !settings.saves;
  ignored.set(settings.ignore, settings.view === "side-by-side" ? 0.5 : 1);
}

const ignored = new Ignored({
  frame: by("frame"), picture: by("picture"), svg: by("polygons"), list: by("ignored"), help: by("ignore-help"),
  drawButton: by("draw"), typeButton: by("type"), typed: by("typed"), cornersInput: by("corners"),
}, async (parts) => {
  const response = await request("/api/settings", { ignore: parts });
  if (response.ok) showSettings(await response.json(), false);
  say(response.ok ? "" : await explain(response));
  return response.ok;
});

by("threshold").addEventListener("input", (event) => change({ threshold: Number(event.target.value) }));
by("threshold-exact").addEventListener("change", (event) => {
  if (event.target.value !== "") change({ threshold: Number(event.target.value) });
});
by("opacity").addEventListener("input", (event) => {
  by("opacity-exact").textContent = Number(event.target.value).toFixed(2);
  change({ opacity: Number(event.target.value) });
});
by("view").addEventListener("change", (event) => change({ view: event.target.value }));
by("palette").addEventListener("change", (event) => change({ palette: event.target.value }));
by("legend").addEventListener("change", (event) => change({ legend: event.target.checked }));
by("settings").addEventListener("submit", (event) => event.preventDefault());
by("save").addEventListener("click", async () => {
  const response = await request("/api/save", {});
  say(response.ok ? `saved to ${(await response.json()).saved}` : await explain(response));
});

// ---- the feed ----

async function start() {
  if (state.feed || document.hidden) return;
  // An event source does not say why it was refused.
  try {
    const response = await request("/api/settings");
    if (response.status === 401) return;
  } catch {
    by("connection").textContent = "the server cannot be reached";
    setTimeout(start, 2000);
    return;
  }
  if (state.feed || document.hidden) return;
  const feed = new EventSource("/api/feed");
  state.feed = feed;
  const on = (name, handle) => feed.addEventListener(name, (message) => handle(JSON.parse(message.data)));
  on("hello", (hello) => {
    by("connection").textContent = `connected · version ${hello.version}`;
    by("logout").hidden = !hello.login;
    state.history.clear();
    hello.history.forEach(({ t, streams }) => remember(t, streams));
    hello.events.forEach((event) => events.show(event));
    showSettings(hello.settings, false);
  });
  on("settings", (settings) => { if (performance.now() - touched > 1000) showSettings(settings, false); });
  on("event", (event) => events.show(event));
  on("sample", (sample) => {
    state.streams = sample.streams;
    remember(sample.t, Object.fromEntries(sample.streams.map((stream) => (
      [stream.name, stream.seen ? [stream.share, stream.high] : [null, null]]))));
    showStreams();
    showStages(sample);
  });
  feed.addEventListener("error", () => {
    by("connection").textContent = "the connection is lost, trying again";
    if (feed.readyState === EventSource.CLOSED) { stop(); setTimeout(start, 2000); }
  });
}

// A page that nobody sees follows nothing.
function stop() {
  state.feed?.close();
  state.feed = null;
  large.play(null);
  for (const { player } of tiles.values()) player.play(null);
}

document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
window.addEventListener("resize", () => { showChart(); ignored.show(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showChart);
window.addEventListener("hashchange", () => select(decodeURIComponent(location.hash.slice(1))));
start();
