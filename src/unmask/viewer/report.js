// Reads curves out under the pointer, starts the player, and draws the page anew while the run goes on.
"use strict";

(() => {
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const curves = data("curves-data");

  function written(value, isShare) {
    if (value === null || value === undefined) return "-";
    if (isShare) return `${Number((100 * value).toFixed(1))} %`;
    const size = Math.abs(value);
    if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
    return size >= 1000 ? Math.round(value).toLocaleString("en-US") : `${Number(value.toPrecision(4))}`;
  }

  function nearest(sorted, wanted) {
    let low = 0, high = sorted.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= wanted) low = middle; else high = middle;
    }
    return wanted - sorted[low] <= sorted[high] - wanted ? low : high;
  }

  function valueAt(line, index) {
    if (!line.at) return line.values[Math.min(index, line.values.length - 1)];
    return line.values[nearest(line.at, index)];
  }

  function listen(figure) {
    const chart = curves.charts[Number(figure.dataset.chart)];
    const plot = figure.querySelector(".plot"), cross = figure.querySelector(".cross");
    const fields = [...figure.querySelectorAll(".entry b")], at = figure.querySelector(".at");
    const atRest = fields.map((field) => field.textContent);
    const { steps, first } = curves, span = Math.max(steps[steps.length - 1] - first, 1);
    const read = (event) => {
      const frame = plot.getBoundingClientRect();
      const part = ((event.clientX - frame.left) / frame.width - chart.left) / (chart.right - chart.left);
      const index = nearest(steps, first + part * span);
      const place = chart.left + ((steps[index] - first) / span) * (chart.right - chart.left);
      cross.hidden = false;
      cross.style.left = `${100 * place}%`;
      at.textContent = `step ${steps[index].toLocaleString("en-US")}`;
      chart.lines.forEach((line, number) => {
        fields[number].textContent = written(valueAt(line, index), chart.is_share);
      });
    };
    const leave = () => {
      cross.hidden = true;
      at.textContent = "";
      fields.forEach((field, number) => { field.textContent = atRest[number]; });
    };
    plot.addEventListener("pointermove", read);
    plot.addEventListener("pointerdown", read);
    plot.addEventListener("pointerleave", leave);
    plot.addEventListener("pointercancel", leave);
  }

  // Without a script the page has a meta refresh; with one it waits until nobody is playing.
  function keepFresh(seconds) {
    let quietSince = Date.now();
    for (const kind of ["pointermove", "pointerdown", "keydown", "wheel", "touchmove"]) {
      addEventListener(kind, () => { quietSince = Date.now(); }, { passive: true });
    }
    const start = Date.now();
    setInterval(() => {
      const isDue = Date.now() - start > 1000 * seconds && Date.now() - quietSince > 5000;
      if (isDue && !document.hidden && !Player.isBusy()) location.reload();
    }, 1000);
  }

  function sayAge() {
    const drawn = document.getElementById("drawn"), age = (Date.now() - Date.parse(drawn.dateTime)) / 60000;
    if (document.body.dataset.running && age > 10) {
      const span = age < 120 ? `${Math.round(age)} minutes` : `${Math.round(age / 60)} hours`;
      document.getElementById("age").textContent = ` That is ${span} ago: the run may have been killed.`;
    }
  }

  // What a reader has chosen outlives the page being drawn anew.
  function keepChoices() {
    for (const id of ["smoothing", "filter", "speed", "colour"]) {
      const control = document.getElementById(id);
      if (!control) continue;
      const field = control.type === "checkbox" ? "checked" : "value";
      try {
        const kept = sessionStorage.getItem(`unmask-${id}`);
        if (kept !== null) control[field] = JSON.parse(kept);
        control.addEventListener("change", () => sessionStorage.setItem(`unmask-${id}`, JSON.stringify(control[field])));
      } catch { /* no storage in a sandboxed frame */ }
    }
  }

  for (const figure of document.querySelectorAll("figure.chart")) listen(figure);
  keepChoices();
  Player.start(data("traces-data"));
  if (document.body.dataset.running) keepFresh(Number(document.body.dataset.running));
  sayAge();
  document.documentElement.dataset.report = "ready";
})();
