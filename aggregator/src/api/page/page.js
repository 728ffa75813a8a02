// Refreshes the promise and the two tables. Every value is set as text, never as markup.
const INTERVAL_MS = 5000;

function cell(value, className) {
  const td = document.createElement("td");
  td.textContent = value ?? "–";
  if (className) td.className = className;
  return td;
}

function fill(id, rows, columns, emptyText) {
  const body = document.getElementById(id);
  if (rows.length === 0) {
    const td = cell(emptyText, "empty");
    td.colSpan = columns;
    const tr = document.createElement("tr");
    tr.append(td);
    body.replaceChildren(tr);
    return;
  }
  body.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  }));
}

const time = (text) => (text ? new Date(text).toLocaleString() : null);

// Which alerts show their effect sizes, so that a refresh does not close them.
const unfolded = new Set();

function movedCell(id, features) {
  const moved = features.slice(0, 4).map((f) => `${f.name ?? "?"} ${f.shift > 0 ? "+" : ""}${f.shift.toPrecision(2)}`);
  const td = cell(features.length ? "" : "no single feature");
  if (features.length === 0) return td;
  const details = document.createElement("details");
  details.open = unfolded.has(id);
  details.addEventListener("toggle", () => (details.open ? unfolded.add(id) : unfolded.delete(id)));
  const summary = document.createElement("summary");
  summary.textContent = moved.join(", ");
  const table = document.createElement("table");
  table.createCaption().textContent = "How large the differences are beyond chance; sizes, not tests";
  const head = table.createTHead().insertRow();
  for (const title of ["Feature", "Shift", "Wasserstein", "Unit", "PSI", "Jensen-Shannon"]) {
    const th = document.createElement("th");
    th.scope = "col";
    th.textContent = title;
    head.append(th);
  }
  const body = table.createTBody();
  for (const f of features) {
    const size = (value) => cell(value === null ? null : figure(value), "number");
    body.insertRow().append(cell(f.name), size(f.shift), size(f.wasserstein), cell(f.unit), size(f.psi), size(f.js));
  }
  details.append(summary, table);
  td.append(details);
  return td;
}

function alertRow(alert) {
  return [
    cell(alert.severity, alert.severity),
    cell(alert.cause),
    cell(alert.subject),
    cell(alert.state, alert.state),
    cell(time(alert.first_window)),
    movedCell(alert.id, alert.features),
    cell(alert.recommended_action),
    verdictCell(alert),
  ];
}

// Whoever may not do this is told so by the answer.
async function change(alert, path) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: "{}",
  });
  if (response.ok) return refresh();
  const problem = await response.json().catch(() => ({ detail: response.status }));
  document.getElementById("status").textContent = `Alert ${alert.id}: ${problem.detail}`;
}

function verdictCell(alert) {
  const td = cell("");
  if (alert.verdict !== null) td.append(alert.verdict === "right" ? "right" : "false alert", " ");
  for (const [verdict, move, text] of [["right", "confirm", "Right"], ["false", "dismiss", "False alert"]]) {
    if (alert.verdict === verdict) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", `${text}: alert ${alert.id} at ${alert.subject}`);
    button.addEventListener("click", () => change(alert, `/api/v1/alerts/${alert.id}/${move}`));
    td.append(button);
  }
  if (alert.camera_id !== null && alert.state !== "resolved") {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Accept as normal";
    button.setAttribute("aria-label", `Accept as normal what ${alert.camera_id} shows since alert ${alert.id} began`);
    button.addEventListener("click", () => change(alert, `/api/v1/baselines/${encodeURIComponent(alert.camera_id)}/promote`));
    td.append(button);
  }
  return td;
}

const figure = (number) => number.toLocaleString(undefined, { maximumSignificantDigits: 2 });
const limits = (interval) => `${figure(interval.estimate)} (${figure(interval.low)} to ${figure(interval.high)})`;

function epochText(seconds) {
  const [count, unit] = seconds % 86400 === 0 ? [seconds / 86400, "day"] : [seconds / 3600, "hour"];
  return count === 1 ? `one ${unit}` : `${figure(count)} ${unit}s`;
}

function showPromise(promise) {
  const share = `of the alerts of ${epochText(promise.epoch_seconds)} at most ${figure(promise.q * 100)} % false on average`;
  const budget = promise.budget_per_site_month;
  const capped = promise.capped ? "; the budget would allow more" : "";
  document.getElementById("promised").textContent = budget === null
    ? `${share}: at most ${figure(promise.expected_per_site_month ?? 0)} false alerts per site and month while nothing is wrong`
    : `at most ${figure(budget)} false alerts per site and month (${share}${capped})`;
  const { right, false: wrong, unjudged, site_days, false_per_site_month } = promise.realised;
  const rate = false_per_site_month === null
    ? "too early to say"
    : `${limits(false_per_site_month)} false alerts per site and month`;
  document.getElementById("realised").textContent =
    `${rate}; ${right} right, ${wrong} false, ${unjudged} not judged in ${figure(site_days)} site-days`;
}

function cameraCell(camera) {
  const link = document.createElement("a");
  link.href = `/camera?id=${encodeURIComponent(camera.id)}`;
  link.textContent = camera.id;
  const td = cell("");
  td.append(link);
  return td;
}

function cameraRow(camera) {
  return [
    cameraCell(camera),
    cell(camera.state, camera.state),
    cell(camera.connected ? "connected" : "offline", camera.connected ? "connected" : "offline"),
    cell(camera.frames_total.toLocaleString(), "number"),
    cell(camera.windows_total.toLocaleString(), "number"),
    cell(time(camera.last_window?.end)),
    cell(camera.baseline_version === null ? "learning" : `version ${camera.baseline_version}`),
    cell(camera.model ? `${camera.model.name} ${camera.model.version}` : null),
  ];
}

async function list(path) {
  const response = await fetch(path);
  if (response.status === 401) location.assign("/login");
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

let next;

async function refresh() {
  clearTimeout(next);
  const status = document.getElementById("status");
  try {
    const [alerts, cameras, promise] = await Promise.all([
      list("/api/v1/alerts?limit=100"), list("/api/v1/cameras?limit=500"), list("/api/v1/promise"),
    ]);
    showPromise(promise);
    fill("alerts", alerts.items.map(alertRow), 8, "No alerts.");
    fill("cameras", cameras.items.map(cameraRow), 8, "No camera has sent anything yet.");
    const more = cameras.next_offset === null ? "" : " (the first 500 cameras are shown)";
    status.textContent = `Updated ${new Date().toLocaleTimeString()}${more}`;
  } catch (error) {
    status.textContent = `Cannot read: ${error.message}`;
  }
  clearTimeout(next);
  next = setTimeout(refresh, INTERVAL_MS);
}

async function showWhoIsSignedIn() {
  const response = await fetch("/api/v1/session");
  if (!response.ok) return;
  const { name, role } = await response.json();
  if (name === null) return;
  document.getElementById("who").textContent = `${name} (${role})`;
  const button = document.getElementById("sign-out");
  button.addEventListener("click", async () => {
    await fetch("/api/v1/session", { method: "DELETE" });
    location.assign("/login");
  });
  document.getElementById("account").hidden = false;
}

showWhoIsSignedIn();
refresh();
