// An explorer of the site: buttons and sliders choose one of the stored pictures. No library, no request but a picture.
"use strict";

function explorer(root) {
  const { controls, states } = JSON.parse(root.querySelector("script").textContent);
  const picture = root.querySelector("img");
  const said = root.querySelector(".said");
  const chosen = controls.map(() => 0);
  const refresh = []; // one for each control: show what is chosen
  let revealed = false; // whether a state that is asked about first shows its answer
  const reveal = document.createElement("button");
  Object.assign(reveal, { type: "button", className: "reveal-way", textContent: "Show the way" });
  const counts = document.createElement("table"); // of all ways of an episode
  const note = document.createElement("p");
  reveal.addEventListener("click", () => {
    revealed = !revealed;
    show();
  });
  if (states.some((state) => state.before)) {
    said.before(reveal);
    said.after(counts, note);
  }

  function index(values) {
    return values.reduce((number, value, k) => number * controls[k].values.length + value, 0);
  }

  function show() {
    const full = states[index(chosen)];
    const state = full.before && !revealed ? full.before : full;
    reveal.textContent = revealed ? "Hide the way" : "Show the way";
    const table = states[index([...chosen.slice(0, -1), 0])].table; // it stands at the first of an episode
    if (table) {
      counts.createCaption().textContent = table.caption;
      counts.replaceChildren(counts.caption);
      for (const cells of table.rows) {
        const row = counts.insertRow();
        cells.forEach((cell) => (row.insertCell().textContent = cell));
      }
      note.textContent = table.note;
      note.hidden = counts.hidden = !revealed; // it would give the answer away
    }
    picture.src = state.picture;
    picture.alt = state.alt;
    picture.width = state.width;
    picture.height = state.height;
    said.textContent = state.said;
    picture.style.cursor = full.at ? "crosshair" : "";
    refresh.forEach((update) => update());
  }

  function choose(k, value) {
    chosen[k] = value;
    revealed = false;
    show();
  }

  controls.forEach((control, k) => {
    const group = document.createElement("div");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", control.name);
    const name = document.createElement("span");
    name.textContent = control.name;
    group.append(name);
    if (control.slider) {
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: 0, max: control.values.length - 1, value: 0 });
      slider.setAttribute("aria-label", control.name);
      const shown = document.createElement("output");
      slider.addEventListener("input", () => choose(k, Number(slider.value)));
      refresh.push(() => {
        slider.value = chosen[k];
        slider.setAttribute("aria-valuetext", `${control.name} ${control.values[chosen[k]]}`);
        shown.textContent = control.values[chosen[k]];
        slider.setAttribute("aria-valuetext", shown.textContent);
      });
      group.append(slider, shown);
    } else {
      const buttons = control.values.map((value, number) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = value;
        button.addEventListener("click", () => choose(k, number));
        return button;
      });
      refresh.push(() => buttons.forEach((button, n) => button.setAttribute("aria-pressed", n === chosen[k])));
      group.append(...buttons);
    }
    root.querySelector(".controls").append(group);
  });

  // A click goes to the state of the last control whose place in the picture is nearest.
  picture.addEventListener("click", (event) => {
    const last = controls.length - 1;
    const box = picture.getBoundingClientRect();
    const distance = (n) => {
      const at = states[index([...chosen.slice(0, last), n])].at;
      if (!at) return Infinity;
      return Math.hypot((event.clientX - box.left) - at[0] * box.width, (event.clientY - box.top) - at[1] * box.height);
    };
    const near = controls[last].values.map((_, n) => n).sort((a, b) => distance(a) - distance(b))[0];
    if (distance(near) < 0.08 * box.width) choose(last, near);
  });
  show();
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".explorer").forEach(explorer));
