// One camera: how long it learns, versions of what is normal, what it would see and what not. Every value is set as text, never as markup.
const figure = (number) => number.toLocaleString(undefined, { maximumSignificantDigits: 3 });

function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, length] = units.find(([, length]) => seconds >= length) ?? units[3];
  const count = Math.ceil(seconds / length);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function learningText(learning) {
  const parts = [];
  if (learning.remaining_seconds > 0) parts.push(`${duration(learning.remaining_seconds)} more`);
  if (learning.windows_missing > 0) parts.push(`${learning.windows_missing} more windows`);
  const rest = parts.length ? `It needs ${parts.join(" and ")}.` : "It is about to begin.";
  return `It still learns what is normal here (${learning.windows} windows so far) and is not judged yet. ${rest}`;
}

function show(found) {
  const learning = document.getElementById("learning");
  learning.hidden = found.learning === null;
  if (found.learning !== null) learning.textContent = learningText(found.learning);
  const known = found.features.length > 0;
  const unseen = found.unseen.map((fault) => element("li", fault.because));
  const nothing = known ? "No fault is known that it could not show." : "Too little is known of it yet.";
  document.getElementById("unseen").replaceChildren(...(unseen.length ? unseen : [element("li", nothing)]));
  document.getElementById("within").textContent = known
    ? `Shifts of one feature alone that would raise an alert within ${duration(found.within_seconds)} in most cases` +
      (found.in_force ? "." : ", once it has learned; from what is known so far.")
    : "";
  document.getElementById("features").replaceChildren(...found.features.map((feature) => {
    const row = document.createElement("tr");
    const reach = (value) => element("td", value === null ? "none would be found" : figure(value));
    row.append(element("td", feature.name), reach(feature.up), reach(feature.down), element("td", feature.unit));
    return row;
  }));
}

const id = new URLSearchParams(location.search).get("id") ?? "";
const baselines = `/api/v1/baselines/${encodeURIComponent(id)}`;

// Whoever may not do this is told so by the answer.
async function change(move, body) {
  const response = await fetch(`${baselines}/${move}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (response.ok) return refresh();
  const problem = await response.json().catch(() => ({ detail: response.status }));
  document.getElementById("status").textContent = problem.detail;
}

function versionRow(version) {
  const row = document.createElement("tr");
  const learned = version.learned_at ? new Date(version.learned_at).toLocaleString() : "–";
  const force = element("td", version.in_force ? "yes" : "");
  if (!version.in_force) {
    const button = element("button", "Go back to this");
    button.type = "button";
    button.setAttribute("aria-label", `Go back to version ${version.version}`);
    button.addEventListener("click", () => change("rollback", { to: version.version }));
    force.append(button);
  }
  row.append(...[version.version, learned, version.origin, version.author, version.note].map((text) => element("td", text)), force);
  return row;
}

function showVersions({ versions }) {
  const none = document.createElement("tr");
  const cell = element("td", "None yet.");
  cell.colSpan = 6;
  none.append(cell);
  const rows = versions.map(versionRow).reverse();
  document.getElementById("versions").replaceChildren(...(rows.length ? rows : [none]));
}

async function read(path) {
  const response = await fetch(path);
  if (response.status === 401) location.assign("/login");
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail);
  return body;
}

async function refresh() {
  const status = document.getElementById("status");
  document.getElementById("name").textContent = id;
  try {
    const [found, normal] = await Promise.all([
      read(`/api/v1/cameras/${encodeURIComponent(id)}/detectability`), read(baselines),
    ]);
    show(found);
    showVersions(normal);
    status.textContent = `Read ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    status.textContent = `Cannot read: ${error.message}`;
  }
}

document.getElementById("promote").addEventListener("click", () => change("promote", {}));
refresh();
