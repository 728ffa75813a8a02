// Refreshes the two tables. Every value is set as text, never as markup.
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

function alertRow(alert) {
  const moved = alert.features.slice(0, 4).map((f) => `${f.name ?? "?"} ${f.shift > 0 ? "+" : ""}${f.shift.toPrecision(2)}`);
  return [
    cell(alert.severity, alert.severity),
    cell(alert.cause),
    cell(alert.subject),
    cell(alert.state, alert.state),
    cell(time(alert.first_window)),
    cell(moved.join(", ")),
    cell(alert.recommended_action),
  ];
}

function cameraRow(camera) {
  return [
    cell(camera.id),
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

async function refresh() {
  const status = document.getElementById("status");
  try {
    const [alerts, cameras] = await Promise.all([list("/api/v1/alerts?limit=100"), list("/api/v1/cameras?limit=500")]);
    fill("alerts", alerts.items.map(alertRow), 7, "No alerts.");
    fill("cameras", cameras.items.map(cameraRow), 8, "No camera has sent anything yet.");
    const more = cameras.next_offset === null ? "" : " (the first 500 cameras are shown)";
    status.textContent = `Updated ${new Date().toLocaleTimeString()}${more}`;
  } catch (error) {
    status.textContent = `Cannot read: ${error.message}`;
  }
  setTimeout(refresh, INTERVAL_MS);
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
