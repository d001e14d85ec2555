// Colours of tokens: a background from a scale, and a text colour legible on it.
"use strict";

const Colours = (() => {
  // ColorBrewer YlGnBu and OrRd (colour-blind safe): lightness alone tells the order.
  const STEPS = ["#fff7c9", "#d6efb3", "#a3dbb7", "#6cc5be", "#40a9c1", "#2c86ba", "#255da8", "#1f3880"];
  const DOUBT = ["#eef1f4", "#fde8cf", "#fdd0a2", "#fdae6b", "#f9893f", "#e4601b", "#b93b0a", "#7f2704"];

  function mix(stops, part) {
    const place = Math.min(Math.max(part, 0), 1) * (stops.length - 1);
    const left = Math.min(Math.floor(place), stops.length - 2);
    const channel = (stop, at) => parseInt(stops[stop].slice(at, at + 2), 16);
    return [1, 3, 5].map((at) => {
      const from = channel(left, at);
      return Math.round(from + (channel(left + 1, at) - from) * (place - left));
    });
  }

  function inkOn(rgb) {
    const linear = rgb.map((c) => (c / 255 <= 0.04 ? c / 3295 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.22 ? "#15181c" : "#fff";
  }

  function paint(box, stops, part) {
    const rgb = mix(stops, part);
    box.style.setProperty("--fill", `rgb(${rgb.join(",")})`);
    box.style.setProperty("--ink", inkOn(rgb));
  }

  return { STEPS, DOUBT, paint };
})();
