// Draws the charts of a page with uPlot.
"use strict";

const Charts = (() => {
  let steps = [], charts = [];
  const NUM_COLOURS = 6, HEIGHT = 176, FONT = "11px system-ui, sans-serif";
  const DOTS = 40; // a curve of at most this many points is drawn with dots and not smoothed
  const SMOOTHING = 0.03; // half the width of the smoothing window, as a share of the points

  // ---- numbers

  function formatNumber(value) {
    const size = Math.abs(value);
    if (value !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
    return size >= 1000 ? Math.round(value).toLocaleString("en-US") : `${Number(value.toPrecision(4))}`;
  }
  const formatShare = (value) => `${Number((100 * value).toFixed(Math.abs(value) < 0.01 ? 3 : 1))} %`;
  const formatStep = (value) => value.toLocaleString("en-US");
  const format = (chart) => (chart.is_share ? formatShare : formatNumber);

  // Running mean with a centred triangular window, which does not lag; gaps stay gaps.
  function smooth(values, [low, high]) {
    const reach = Math.max(2, Math.round(values.length * SMOOTHING));
    return values.map((value, place) => {
      if (value === null) return null;
      let sum = 0, total = 0;
      for (let i = Math.max(0, place - reach); i <= Math.min(values.length - 1, place + reach); i += 1) {
        if (values[i] === null) continue;
        const weight = reach + 1 - Math.abs(i - place);
        // An outlier counts as the end of the axis, so that it does not lift its whole neighbourhood.
        sum += weight * Math.min(Math.max(values[i], low), high);
        total += weight;
      }
      return sum / total;
    });
  }

  // Values on the common axis of steps. uPlot breaks a line at null and passes over undefined.
  function spread(line, values) {
    if (!line.at) return values;
    const full = new Array(steps.length).fill(undefined);
    line.at.forEach((place, i) => { full[place] = values[i]; });
    return full;
  }

  function nearest(values, index) {
    for (let far = 0; far < values.length; far += 1) {
      if (values[index - far] != null) return values[index - far];
      if (values[index + far] != null) return values[index + far];
    }
    return null;
  }

  // ---- charts

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (index) => css(`--c${index % NUM_COLOURS}`);
  const faint = (index, alpha) => `color-mix(in srgb, ${colour(index)} ${100 * alpha}%, transparent)`;
  const isSmooth = () => document.getElementById("smoothing")?.checked ?? false;
  const HIDDEN = { class: "unlisted", points: { show: false } };

  function axis(values, size) {
    const line = { stroke: css("--grid"), width: 1 };
    return { stroke: css("--muted"), font: FONT, grid: line, ticks: { ...line, size: 4 }, gap: 4, size, values };
  }

  // The axis of shares: a margin around the values, within 0 and 1.
  function shareRange(low, high) {
    const margin = 0.08 * (high - low || Math.abs(high) || 1);
    return [Math.max(Math.min(low, 0), low - margin), Math.min(Math.max(high, 1), high + margin)];
  }

  function base(chart, xValues) {
    const text = format(chart);
    return {
      height: HEIGHT,
      padding: [8, 10, 0, 0],
      cursor: { points: { size: 6 }, y: false, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { distr: chart.is_log ? 3 : 1 } },
      axes: [
        { ...axis((u, ticks) => ticks.map((tick) => (tick === null ? "" : xValues(tick))), 26), space: 60 },
        { ...axis((u, ticks) => ticks.map((tick) => (tick === null ? "" : text(tick))), 54), space: 26 },
      ],
      legend: { markers: { width: 0, fill: (u, index) => u.series[index].stroke?.(u, index) ?? "transparent" } },
    };
  }

  function linesPlot(chart) {
    const range = chart.range || [-Infinity, Infinity];
    // Without a pointer the legend has the last value of each curve: of one step, if all end there.
    const isEven = chart.lines.every((line) => (line.at?.at(-1) ?? line.values.length - 1) === steps.length - 1);
    const series = [{ label: "at", value: (u, step) => (step == null && !isEven ? "each end" : `step ${formatStep(step ?? steps[steps.length - 1])}`) }];
    const data = [steps], bands = [];
    const add = (line, values, options) => { data.push(spread(line, values)); series.push(options); };
    chart.lines.forEach((line, place) => {
      const index = line.colour ?? place;
      const isSmoothed = isSmooth() && chart.is_noisy && !line.at && line.values.length > DOTS;
      if (line.high) {
        bands.push({ series: [series.length, series.length + 1], fill: faint(index, 0.16) });
        for (const values of [line.high, line.low]) add(line, values, { ...HIDDEN, width: 0, stroke: "transparent" });
      }
      const last = line.values.findLast((value) => value !== null);
      add(line, line.values, {
        label: line.label,
        stroke: colour(index),
        width: isSmoothed ? 1 : 1.6,
        alpha: isSmoothed ? 0.3 : 1,
        points: { show: line.values.length <= DOTS, size: 5, fill: colour(index) },
        value: (u, value, at, place) => format(chart)(place === null ? last : nearest(u.data[at], place) ?? last),
      });
      if (isSmoothed) add(line, smooth(line.values, range), { ...HIDDEN, stroke: colour(index), width: 1.8 });
    });
    const options = { ...base(chart, (tick) => (Number.isInteger(tick) ? formatStep(tick) : "")), series, bands };
    options.cursor.sync = { key: "steps" };
    if (chart.range) options.scales.y.range = chart.range;
    else if (chart.is_share) options.scales.y.range = (u, low, high) => shareRange(low ?? 0, high ?? 1);
    return [options, data];
  }

  function pointsPlot(chart) {
    const points = [...chart.points].sort((a, b) => a.x - b.x);
    const data = [points.map((point) => point.x), ...points.map((point, own) => points.map((_, i) => (i === own ? point.y : null)))];
    const ups = points.flatMap((point) => [point.y, ...point.up]);
    const options = base(chart, formatNumber);
    // A single result has the colour of held-out results; several have one each.
    const hue = (index) => colour(points.length === 1 ? 1 : index);
    options.scales.x.range = [0, 1.1 * Math.max(...points.flatMap((point) => [point.x, ...point.across])) || 1];
    options.scales.y.range = shareRange(Math.min(...ups), Math.max(...ups));
    options.legend.markers.fill = (u, index) => hue(index - 1);
    options.series = [{ ...HIDDEN }, ...points.map((point, index) => ({
      label: point.label,
      stroke: hue(index),
      points: { show: true, size: 9, fill: hue(index) },
      value: () => `${formatShare(point.y)} at ${formatNumber(point.x)}`,
    }))];
    options.hooks = { draw: [(u) => points.forEach((point, index) => drawWhiskers(u, point, hue(index)))] };
    return [options, data];
  }

  function drawWhiskers(u, point, stroke) {
    const x = (value) => u.valToPos(value, "x", true), y = (value) => u.valToPos(value, "y", true);
    u.ctx.save();
    u.ctx.strokeStyle = stroke;
    u.ctx.lineWidth = 1.5 * devicePixelRatio;
    u.ctx.beginPath();
    u.ctx.moveTo(x(point.across[0]), y(point.y));
    u.ctx.lineTo(x(point.across[1]), y(point.y));
    u.ctx.moveTo(x(point.x), y(point.up[0]));
    u.ctx.lineTo(x(point.x), y(point.up[1]));
    u.ctx.stroke();
    u.ctx.restore();
  }

  function barsPlot(chart) {
    const bars = chart.bars, sum = (name) => bars.reduce((total, bar) => total + bar[name], 0);
    const data = [
      bars.map((bar) => (bar.first + bar.last) / 2),
      bars.map((bar) => bar.right + bar.others),
      bars.map((bar) => bar.right),
    ];
    const options = base(chart, formatNumber);
    const paths = uPlot.paths.bars({ size: [0.9, Infinity] });
    // The bar of all responses is drawn first and the correct ones over it: what remains are the others.
    const layer = (label, index, name) => ({
      label,
      stroke: colour(index),
      fill: colour(index),
      width: 0,
      paths,
      points: { show: false },
      value: (u, value, at, place) => formatStep(place === null ? sum(name) : bars[place][name]),
    });
    options.legend.markers.fill = (u, index) => colour(index === 1 ? 3 : 2);
    options.scales.x.range = [bars[0].first - 1, bars[bars.length - 1].last + 1];
    options.scales.y.range = (u, low, high) => [0, 1.05 * high];
    options.series = [
      { label: "tokens", value: (u, value, at, place) => (place === null ? "all" : `${bars[place].first} to ${bars[place].last}`) },
      layer("others", 3, "others"),
      layer("right", 2, "right"),
    ];
    return [options, data];
  }

  const KINDS = { lines: linesPlot, points: pointsPlot, bars: barsPlot };
  const plots = new Map();

  function draw(figure) {
    const plot = figure.querySelector(".plot"), width = plot.clientWidth;
    if (!width) return; // inside a closed <details>
    plots.get(figure)?.destroy();
    const [options, data] = KINDS[charts[Number(figure.dataset.chart)].kind](charts[Number(figure.dataset.chart)]);
    options.width = width;
    options.legend.mount = (u, table) => figure.querySelector("figcaption").append(table);
    plots.set(figure, new uPlot(options, data, plot));
  }

  // `keepChoice` restores a control's value and keeps it over reloads.
  function start(data, keepChoice) {
    ({ steps, charts } = data);
    const figures = [...document.querySelectorAll("figure.chart")], drawAll = () => figures.forEach(draw);
    const isLong = charts.some((chart) => chart.is_noisy && chart.lines.some((line) => !line.at && line.values.length > DOTS));
    const head = figures[0]?.closest("section")?.querySelector(".section-head");
    if (isLong && head) {
      const option = document.createElement("label"), box = document.createElement("input");
      option.className = "option";
      Object.assign(box, { type: "checkbox", id: "smoothing", checked: true });
      option.append(box, " smooth");
      head.append(option);
      keepChoice("smoothing");
      box.addEventListener("change", drawAll);
    }
    drawAll();
    const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => {
      const figure = target.closest("figure"), plot = plots.get(figure);
      if (!plot) draw(figure);
      else if (target.clientWidth && target.clientWidth !== plot.width) plot.setSize({ width: target.clientWidth, height: HEIGHT });
    }));
    figures.forEach((figure) => resized.observe(figure.querySelector(".plot")));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  }
  return { start };
})();
