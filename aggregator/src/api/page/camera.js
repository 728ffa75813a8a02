// One camera: how long it learns, what it would see and what not. Every value is set as text, never as markup.
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

async function load() {
  const status = document.getElementById("status");
  const id = new URLSearchParams(location.search).get("id") ?? "";
  document.getElementById("name").textContent = id;
  const response = await fetch(`/api/v1/cameras/${encodeURIComponent(id)}/detectability`);
  if (response.status === 401) location.assign("/login");
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail);
  show(body);
  status.textContent = `Read ${new Date().toLocaleTimeString()}`;
}

load().catch((error) => {
  document.getElementById("status").textContent = `Cannot read: ${error.message}`;
});
