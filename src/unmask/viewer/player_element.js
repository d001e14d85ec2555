// <unmask-player>: plays trajectories side by side, or shows one while it is written.
//
//   player.trajectory = record         a record as the report embeds it; or the attribute, as JSON
//   player.trajectories = [record...]  side by side on one timeline
//   player.begin({length, block_size, offset, writes}); player.write({step, writes}); player.end({num_response})
//   player.step, player.colour, player.speed, player.isPlaying, play(), pause(), toggle(), onKey(event)
//
// A trajectory opens with every token hidden and plays once as soon as it is in sight; where the reader prefers
// reduced motion it opens at its last step. Events: `unmask-step` after each change of the step.

const MOST_MS = 9000, MOST_MS_PER_STEP = 500; // of a whole trajectory, and of a step, at speed 1
const MAX_BARS = 400, MAX_COMMITS = 100;
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const ICONS = {
  first: "M3 3h2v10H3zM13 3v10L6 8z",
  back: "M11 3v10L4 8z",
  play: "M4 2v12l9-6z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  forward: "M5 3v10l7-5z",
  last: "M11 3h2v10h-2zM3 3v10l7-5z",
};
const sheet = new CSSStyleSheet();
sheet.replaceSync(PLAYER_STYLE);

function button(icon, title, onClick) {
  const made = element("button", icon, shape("svg", { viewBox: "0 0 16 16" }, shape("path", { d: ICONS[icon] })));
  Object.assign(made, { type: "button", title });
  made.setAttribute("aria-label", title);
  made.addEventListener("click", onClick);
  // A click leaves the focus where it is, so that the space bar goes on playing.
  made.addEventListener("pointerdown", (event) => event.preventDefault());
  made.addEventListener("mousedown", (event) => event.preventDefault());
  return made;
}

class UnmaskPlayer extends HTMLElement {
  static observedAttributes = ["trajectory"];
  #records = []; #all = []; #canvases = []; #step = 0; #last = 0; #frame = 0; #inspected = null;
  #isLive = false; #isDue = false; #isInSight = false; #stale = 0; #ranges = {};
  #colour = "step"; #speed = 1; #parts;

  constructor() {
    super();
    this.#build();
    new IntersectionObserver(([entry]) => {
      this.#isInSight = entry.isIntersecting;
      if (this.#isDue && this.#isInSight) this.play();
    }, { threshold: 0.3 }).observe(this.#parts.stage);
  }

  #hide = () => this.#inspect(null);
  connectedCallback() { addEventListener("scroll", this.#hide, { passive: true }); }
  disconnectedCallback() { removeEventListener("scroll", this.#hide); this.pause(); }

  attributeChangedCallback(name, old, text) {
    if (text) this.trajectory = JSON.parse(text);
  }

  // ---- what is shown

  get trajectory() { return this.#records[0] ?? null; }
  set trajectory(record) { this.trajectories = record ? [record] : []; }

  get trajectories() { return this.#records; }
  set trajectories(records) {
    this.#records = records;
    this.#isLive = false;
    this.#show(records.map((record) => Writes.of(record)));
    this.#canvases.forEach((canvas) => canvas.extendTo(canvas.writes.length - 1));
    this.#isDue = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#goTo(this.#isDue ? 0 : this.#last);
    if (this.#isDue && this.#isInSight) this.play();
  }

  // The largest absolute value of each of advantage, value and reward, for colours that mean the same in several players.
  set ranges(ranges) { this.#ranges = ranges; this.#recolour(); }

  begin({ length, block_size = null, offset = 0, writes = [] }) {
    this.#records = [];
    this.#isLive = true;
    this.#show([new Writes({ length, block: block_size, offset, numResponse: Infinity })]);
    this.#canvases[0].extendTo(0);
    this.write({ step: 0, writes });
  }

  write({ step, writes }) {
    const [canvas] = this.#canvases, isFollowing = this.#step >= this.#last;
    for (const { position, token_id, text, logprob, confidence } of writes) {
      canvas.extendTo(position);
      canvas.writes.add(step, { position, id: token_id, piece: text, logprob: logprob ?? undefined, confidence: confidence ?? undefined });
    }
    this.#last = canvas.writes.last;
    if (isFollowing) this.#step = this.#last;
    // Many steps may arrive between two frames of the screen: all are drawn at once.
    this.#stale ||= requestAnimationFrame(() => this.#catchUp());
  }

  #catchUp() {
    cancelAnimationFrame(this.#stale);
    this.#stale = 0;
    this.#parts.slider.max = this.#last;
    this.#goTo(this.#step);
    this.#recolour();
    this.#drawTimeline();
  }

  end({ num_response = null } = {}) {
    if (!this.#isLive) return;
    this.#isLive = false;
    const [{ writes }] = this.#canvases;
    writes.length = Math.min(writes.length, this.#canvases[0].boxes.length);
    writes.numResponse = num_response ?? writes.length;
    this.#catchUp();
    this.#canvases[0].refresh();
    this.#recolour();
  }

  // ---- time

  get step() { return this.#step; }
  set step(step) { this.pause(); this.#goTo(Math.min(Math.max(Math.round(step), 0), this.#last)); }

  get last() { return this.#last; }
  get isPlaying() { return this.#frame !== 0; }

  play() {
    this.pause();
    if (this.#step >= this.#last) this.#goTo(0);
    const from = this.#step, delay = Math.min(MOST_MS / Math.max(this.#last, 1), MOST_MS_PER_STEP) / this.#speed;
    let start = null;
    const tick = (now) => {
      start ??= now;
      const at = Math.min(from + Math.floor((now - start) / delay), this.#last);
      this.#frame = at < this.#last ? requestAnimationFrame(tick) : 0;
      if (at !== this.#step) this.#goTo(at);
      if (!this.#frame) this.#markPlaying();
    };
    if (this.#last) this.#frame = requestAnimationFrame(tick);
    this.#markPlaying();
  }

  pause() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#isDue = false;
    this.#markPlaying();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  #goTo(step) {
    this.#step = step;
    for (const canvas of this.#canvases) canvas.goTo(Math.min(step, canvas.writes.last));
    const { slider, ahead, counter } = this.#parts;
    slider.value = step;
    slider.setAttribute("aria-valuetext", `denoising step ${step} of ${this.#last}`);
    ahead.style.left = `${this.#last ? (100 * step) / this.#last : 0}%`;
    counter.textContent = `denoising step ${step} of ${this.#last}${this.#canvases.length === 1 ? this.#progress() : ""}`;
    // Measured last, when nothing else changes the layout any more.
    for (const canvas of this.#canvases) {
      if (canvas.newest && step <= canvas.writes.last && (this.#isLive || step < this.#last)) canvas.keepInSight(canvas.newest);
    }
    if (this.#inspected) this.#inspect(this.#inspected);
    this.dispatchEvent(new CustomEvent("unmask-step", { bubbles: true, composed: true, detail: step }));
  }

  #progress() {
    const { writes } = this.#canvases[0], now = writes.touched[this.#step]?.length ?? 0;
    return ` · ${writes.numShown(this.#step)} of ${this.#canvases[0].boxes.length} revealed${this.#step ? ` · ${now} now` : ""}`;
  }

  // ---- colours

  get colour() { return this.#colour; }
  set colour(name) { this.#colour = name in CHOICES ? name : "step"; this.#recolour(); }

  get speed() { return this.#speed; }
  set speed(speed) {
    this.#speed = SPEEDS.includes(Number(speed)) ? Number(speed) : 1;
    this.#parts.speed.value = this.#speed;
    if (this.isPlaying) this.play();
  }

  #recolour() {
    const all = this.#canvases.map((canvas) => canvas.writes), written = all.flatMap((writes) => writes.history).flat();
    const most = (name) => written.reduce((found, write) => Math.max(found, Math.abs(write[name] ?? 0)), 0);
    const context = {
      last: Math.max(1, this.#last),
      longest: Math.max(1, ...all.map((writes) => writes.longest)),
      mostWrites: Math.max(1, ...all.map((writes) => writes.mostWrites)),
      ranges: Object.fromEntries(["advantage", "value", "reward"].map((name) => [name, this.#ranges[name] ?? most(name)])),
    };
    const { colour, scale, key } = this.#parts;
    key.classList.toggle("revises", all.some((writes) => writes.history.some((history) => history.length > 1)));
    for (const option of colour.options) option.hidden = option.disabled = !written.some((write) => CHOICES[option.value].has(write));
    const chosen = colour.namedItem(this.#colour)?.disabled === false ? this.#colour : "step";
    colour.value = chosen;
    const choice = CHOICES[chosen], [low, high] = choice.ends(context), swatches = element("span", "swatches");
    for (let part = 0; choice.stops && part < 16; part += 1) {
      const swatch = element("i", "");
      paint(swatch, choice.stops, part / 15);
      swatches.append(swatch);
    }
    scale.replaceChildren(element("span", "", low), swatches, element("span", "", high));
    for (const canvas of this.#canvases) canvas.colour(choice, context);
  }

  // ---- parts

  #build() {
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    const select = (options, onChange) => {
      const made = element("select", "", ...options.map(([value, label]) => Object.assign(new Option(label, value), { id: value })));
      let isByPointer = false;
      made.addEventListener("pointerdown", () => { isByPointer = true; });
      made.addEventListener("change", () => {
        onChange(made.value);
        if (isByPointer) stage.focus({ preventScroll: true }); // so that the space bar plays again
        isByPointer = false;
      });
      return made;
    };
    const stage = element("div", "stage");
    stage.tabIndex = 0;
    stage.setAttribute("role", "group");
    stage.setAttribute("aria-label", "The response, one box per token");
    const slider = Object.assign(element("input", ""), { type: "range", min: 0, max: 0, value: 0 });
    slider.setAttribute("aria-label", "Denoising step");
    const pulse = shape("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
    const ahead = element("div", "ahead"), timeline = element("div", "timeline", pulse, ahead, slider);
    const counter = element("output", "counter");
    // The names of the controls are hidden on a phone.
    const speed = select(SPEEDS.map((value) => [value, `${value}×`]), (value) => { this.speed = value; this.#announce(); });
    speed.value = 1;
    speed.setAttribute("aria-label", "Speed");
    const colour = select(Object.entries(CHOICES).map(([name, { label }]) => [name, label]), (value) => { this.colour = value; this.#announce(); });
    colour.setAttribute("aria-label", "Colour");
    const toggle = button("play", "Play or pause (space)", () => this.toggle());
    toggle.append(shape("svg", { viewBox: "0 0 16 16", class: "to-pause" }, shape("path", { d: ICONS.pause })));
    const controls = element("div", "controls",
      element("span", "buttons",
        button("first", "All hidden (Home)", () => { this.step = 0; }),
        button("back", "One step back (left)", () => { this.step = this.#step - 1; }),
        toggle,
        button("forward", "One step on (right)", () => { this.step = this.#step + 1; }),
        button("last", "All steps (End)", () => { this.step = this.#last; })),
      element("label", "", element("span", "label", "Speed "), speed), element("label", "", element("span", "label", "Colour "), colour), this.#exports());
    const scale = element("span", "scale");
    const sample = (className, label) => element("span", "sample", element("i", className), ` ${label}`);
    const key = element("div", "key", scale, sample("token veiled", "hidden"), sample("token fresh", "revealed now"), sample("token beyond", "past the stop"),
      sample("token edited", "written again"), sample("token veiled again", "masked again"), sample("token of-prompt", "given"), sample("block open", "block being written"), sample("block done", "block finished"));
    const details = element("div", "details");
    details.setAttribute("role", "tooltip");
    details.hidden = true;
    const player = element("div", "player", stage, counter, timeline, controls, key, details);
    root.append(player);
    this.#parts = { player, stage, slider, pulse, ahead, timeline, counter, speed, colour, scale, key, details, toggle };
    this.#listen();
  }

  #exports() {
    const menu = element("select", "export", new Option("Export", ""), ...["jsonl", "svg", "png"].map((name) => new Option(name.slice(0, 4).toUpperCase(), name)));
    menu.setAttribute("aria-label", "Export what is shown");
    menu.addEventListener("focus", () => { // what is written live has no record
      menu.querySelector('[value="jsonl"]').disabled = !this.#records.length;
    });
    menu.addEventListener("change", () => {
      const format = menu.value;
      menu.value = "";
      exportAs(format, `trajectory-${this.trajectory?.key ?? "live"}-step-${this.#step}`, this.#canvases.map(({ root }) => root), this.#records);
    });
    return menu;
  }

  #show(all) {
    this.pause();
    this.#inspect(null);
    const choice = CHOICES[this.#colour];
    this.#last = Math.max(0, ...all.map((writes) => writes.last));
    this.#step = 0;
    this.#canvases = all.map((writes) => new TokenCanvas(writes, choice, { last: 1, longest: 1, mostWrites: 1, ranges: {} }));
    this.#parts.stage.replaceChildren(...this.#canvases.map(({ root }, index) => {
      const caption = this.#records[index]?.caption;
      return element("div", "column", ...(caption && all.length > 1 ? [element("div", "caption", caption)] : []), root);
    }));
    this.#parts.stage.classList.toggle("several", all.length > 1);
    this.#parts.slider.max = this.#last;
    this.#recolour();
    this.#drawTimeline();
  }

  // Bars of the tokens revealed by each step, and a tick below each step that completes a block.
  #drawTimeline() {
    const { pulse, timeline } = this.#parts, bars = Math.min(this.#last, MAX_BARS), heights = new Array(bars).fill(0);
    for (const { writes } of this.#canvases) {
      for (let at = 1; at <= writes.last; at += 1) {
        const bar = Math.floor(((at - 1) * bars) / this.#last);
        heights[bar] = Math.max(heights[bar], writes.touched[at]?.length ?? 0);
      }
    }
    const most = Math.max(1, ...heights);
    const gap = bars > 120 ? 0 : 0.12;
    const path = heights.map((height, bar) => `M${bar + gap / 2} 1v${-height / most}h${1 - gap}v${height / most}z`).join("");
    pulse.setAttribute("viewBox", `0 0 ${bars || 1} 1.12`);
    const commits = new Set(this.#canvases.length === 1 ? this.#canvases[0].writes.commits : []);
    const ticks = commits.size > MAX_COMMITS ? [] : [...commits].map((at) => `M${(at * bars) / this.#last - 0.08} 1.04h0.16v0.08h-0.16z`);
    pulse.replaceChildren(shape("path", { d: path, class: "bars" }), shape("path", { d: ticks.join(""), class: "commits" }));
    timeline.style.maxWidth = `${Math.max(240, 48 * this.#last)}px`;
  }

  #markPlaying() {
    this.#parts.toggle.classList.toggle("is-playing", this.isPlaying);
    this.#parts.toggle.setAttribute("aria-pressed", this.isPlaying);
  }

  // The reader has chosen a speed or colour.
  #announce() {
    this.dispatchEvent(new CustomEvent("unmask-choice", { bubbles: true, composed: true }));
  }

  // ---- details of a token

  #canvasOf(box) {
    return this.#canvases.find((canvas) => canvas.root.contains(box));
  }

  #inspect(box) {
    const { details } = this.#parts;
    this.#inspected?.classList.remove("inspected");
    this.#inspected = box;
    details.hidden = !box;
    if (!box) return;
    box.classList.add("inspected");
    details.replaceChildren(...this.#canvasOf(box).detailsOf(box).map(([name, value]) => element("div", "pair", element("span", "", name), element("b", "", value))));
    const token = box.getBoundingClientRect(), own = details.getBoundingClientRect(), above = token.top - own.height - 9;
    const left = token.left + token.width / 2 - own.width / 2;
    details.style.left = `${Math.max(12, Math.min(left, document.documentElement.clientWidth - own.width - 12))}px`;
    details.style.top = `${above >= 8 ? above : token.bottom + 9}px`;
  }

  // Moves the details to the next or previous token: the tooltip without a mouse.
  #inspectNext(by) {
    const boxes = this.#canvases.flatMap((canvas) => canvas.boxes), place = boxes.indexOf(this.#inspected);
    const next = boxes[place < 0 ? 0 : Math.min(Math.max(place + by, 0), boxes.length - 1)];
    if (!next) return;
    this.#canvasOf(next).keepInSight(next);
    this.#inspect(next);
  }

  // ---- input

  // Handles a key of the player, also for a page whose focus is elsewhere; returns whether it was one.
  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && event.shiftKey) this.#inspectNext(by);
    else if (by) this.step = this.#step + by;
    else if (event.key === " ") this.toggle();
    else if (event.key === "Home") this.step = 0;
    else if (event.key === "End") this.step = this.#last;
    else if (event.key === "Escape" && this.#inspected) this.#inspect(null);
    else return false;
    event.preventDefault();
    return true;
  }

  #listen() {
    const { player, stage, slider } = this.#parts, boxAt = (event) => event.target.closest(".token");
    stage.addEventListener("pointerover", (event) => this.#inspect(boxAt(event)));
    stage.addEventListener("click", (event) => this.#inspect(boxAt(event)));
    stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") this.#inspect(null); });
    stage.addEventListener("scroll", this.#hide, { passive: true, capture: true });
    slider.addEventListener("input", () => { this.step = Number(slider.value); });
    player.addEventListener("keydown", (event) => {
      const isOwn = event.target.tagName === "SELECT" || (event.target.tagName === "BUTTON" && event.key === " ");
      if (!isOwn) this.onKey(event);
    });
  }
}

customElements.define("unmask-player", UnmaskPlayer);
