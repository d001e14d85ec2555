// Starts the parts of a page, and reloads it while its run goes on.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const data = (id) => JSON.parse(byId(id)?.textContent ?? "null");

  // Without a script the page has a meta refresh; with one it reloads only while the reader is idle.
  function keepFresh(seconds) {
    let quietSince = Date.now();
    for (const kind of ["pointermove", "pointerdown", "keydown", "wheel", "touchmove"]) {
      addEventListener(kind, () => { quietSince = Date.now(); }, { passive: true });
    }
    const start = Date.now();
    setInterval(() => {
      const isDue = Date.now() - start > 1000 * seconds && Date.now() - quietSince > 5000;
      if (isDue && !document.hidden && !byId("player")?.isPlaying) location.reload();
    }, 1000);
  }

  function showAge() {
    if (!byId("drawn")) return;
    const age = (Date.now() - Date.parse(byId("drawn").dateTime)) / 60000;
    if (document.body.dataset.running && age > 10) {
      const span = age < 120 ? `${Math.round(age)} minutes` : `${Math.round(age / 60)} hours`;
      byId("age").textContent = ` That is ${span} ago: the run may have been killed.`;
    }
  }

  // A choice of the reader survives a reload.
  function keepChoice(control, name = control.id, field = control.type === "checkbox" ? "checked" : "value", event = "change") {
    try {
      const kept = sessionStorage.getItem(`unmask-${name}`);
      if (kept !== null) control[field] = JSON.parse(kept);
      control.addEventListener(event, () => sessionStorage.setItem(`unmask-${name}`, JSON.stringify(control[field])));
    } catch { /* a sandboxed frame has no storage */ }
  }

  const charts = data("charts-data"), traces = data("traces-data");
  if (charts) Charts.start(charts, keepChoice);
  if (traces && byId("player")) {
    keepChoice(byId("filter"));
    for (const name of ["speed", "colour"]) keepChoice(byId("player"), name, name, "unmask-choice");
    Trajectories.start(traces, data("images-data") ?? {});
  }
  if (document.body.dataset.running) keepFresh(Number(document.body.dataset.running));
  showAge();
  document.documentElement.dataset.report = "ready";
})();
