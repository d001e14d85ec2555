// Plays a trajectory: shows the tokens of its canvas as they were after each denoising step.
//
// All text of a run may be hostile. It enters the document only through textContent and text nodes;
// there is no innerHTML here, and the page's Content Security Policy admits no other script.
"use strict";

const Player = (() => {
  const { DOUBT, STEPS, paint } = Colours;
  const byId = (id) => document.getElementById(id);
  const LEAST_LOGPROB = Math.log(0.01);
  const PLAY_MS = 8000; // duration of a trajectory at speed 1, within the bounds of a delay per step
  const MAX_BARS = 160;
  const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|[^\S ]| /gu;
  const MARKS = { " ": "·", "\n": "↵", "\t": "⇥" };

  let all = [], shown = [], current = null, step = 0, timer = 0, boxes = [], isStarted = false, inspected = null;

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // ---- colours

  const fraction = (low, value, high) => (high > low ? (value - low) / (high - low) : 0.35);

  function shadeOf(position) {
    const mode = byId("colour").value;
    if (mode === "logprob") return [DOUBT, current.logprobs[position] / LEAST_LOGPROB];
    if (mode === "block") return [STEPS, fraction(1, current.order[position], current.longest)];
    return [STEPS, fraction(1, current.steps[position], current.last)];
  }

  function colourBoxes() {
    boxes.forEach((box, position) => {
      if (current.steps[position]) paint(box, ...shadeOf(position));
    });
    const mode = byId("colour").value;
    const ends = {
      step: ["step 1", `step ${current.last}`],
      block: ["first", `step ${current.longest} of its block`],
      logprob: ["p = 1", "p ≤ 0.01"],
    }[mode];
    const swatches = element("span", "swatches");
    for (let part = 0; part < 16; part += 1) {
      const swatch = element("i");
      paint(swatch, mode === "logprob" ? DOUBT : STEPS, part / 15);
      swatches.append(swatch);
    }
    byId("scale").replaceChildren(element("span", "", ends[0]), swatches, element("span", "", ends[1]));
  }

  // ---- one trajectory

  function prepare(trace) {
    // order[position]: rank of the position's denoising step among those of its block, from 1.
    const size = trace.block || trace.ids.length;
    const offset = trace.block ? trace.tail.length : 0;
    trace.blockOf = trace.ids.map((_, position) => Math.floor((offset + position) / size));
    const seen = new Map();
    trace.steps.forEach((at, position) => {
      if (!at) return;
      const block = trace.blockOf[position];
      if (!seen.has(block)) seen.set(block, new Set());
      seen.get(block).add(at);
    });
    for (const [block, found] of seen) seen.set(block, [...found].sort((a, b) => a - b));
    trace.order = trace.steps.map((at, position) => (at ? seen.get(trace.blockOf[position]).indexOf(at) + 1 : 0));
    trace.reveals = Object.fromEntries([...seen].map(([block, found]) => [block, found.length]));
    trace.longest = trace.order.reduce((a, b) => Math.max(a, b), 1);
    trace.last = trace.steps.reduce((a, b) => Math.max(a, b), 0);
    trace.fresh = new Array(trace.last + 1).fill(0);
    trace.steps.forEach((at) => { if (at) trace.fresh[at] += 1; });
    trace.isPrepared = true;
  }

  // Makes spaces, line ends, control characters and direction marks visible: they are tokens too.
  function writePiece(box, piece, id) {
    if (piece === null || piece === "") {
      box.append(element("i", "mark", piece === null ? `${id}` : "∅"));
      return;
    }
    let from = 0;
    for (const found of piece.matchAll(UNPRINTABLE)) {
      box.append(piece.slice(from, found.index));
      const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      box.append(element("i", "mark", MARKS[found[0]] || `U+${code}`));
      from = found.index + found[0].length;
    }
    box.append(piece.slice(from));
  }

  const pieceOf = (position) => (current.pieces ? current.pieces[current.tail.length + position] : null);

  function drawCanvas() {
    const canvas = byId("canvas");
    canvas.replaceChildren();
    boxes = [];
    let block = null, open = -1;
    const into = (number) => {
      if (number !== open) {
        block = element("span", "block");
        canvas.append(block, " ");
        open = number;
      }
      return block;
    };
    current.tail.forEach((id, place) => {
      const box = element("span", "token of-prompt");
      box.dataset.prompt = place;
      writePiece(box, current.pieces ? current.pieces[place] : null, id);
      into(0).append(box);
    });
    current.ids.forEach((id, position) => {
      const box = element("span", "token");
      box.dataset.position = position;
      if (position >= current.num_response) box.classList.add("beyond");
      const piece = pieceOf(position);
      if (current.steps[position]) writePiece(box, piece, id);
      into(current.blockOf[position]).append(box);
      if (piece && piece.includes("\n") && position < current.num_response) block.append(element("br"));
      boxes.push(box);
    });
  }

  function drawPulse() {
    const bars = Math.min(current.last, MAX_BARS);
    const heights = new Array(bars).fill(0);
    for (let at = 1; at <= current.last; at += 1) {
      const bar = Math.floor(((at - 1) * bars) / current.last);
      heights[bar] = Math.max(heights[bar], current.fresh[at]);
    }
    const most = Math.max(1, ...heights);
    byId("timeline").style.maxWidth = `${Math.max(220, 64 * current.last)}px`;
    byId("pulse").replaceChildren(...heights.map((height, bar) => {
      const made = element("i");
      made.style.setProperty("--height", `${(100 * height) / most}%`);
      made.dataset.from = Math.floor((bar * current.last) / bars) + 1;
      return made;
    }));
  }

  const number = (value) => `${Number(Number(value).toPrecision(4))}`;

  function drawFacts() {
    const prompt = byId("prompt");
    prompt.replaceChildren(...current.messages.map((message) => {
      const turn = element("div", "turn");
      turn.append(element("span", "role", message.role), element("span", "content", message.content));
      return turn;
    }));
    const written = current.steps.slice(0, current.num_response).filter(Boolean).length;
    const chips = [
      ["reward", number(current.reward), current.reward >= 1 ? "good" : current.reward <= 0 ? "bad" : ""],
      ...Object.entries(current.parts).map(([name, value]) => [name, number(value), ""]),
      ["ended by", current.finish === "stop" ? "stop token" : "max_tokens", ""],
      ["tokens", `${current.num_response}`, ""],
      ["denoising steps", `${current.last}`, ""],
      ["tokens per step", current.last ? number(written / current.last) : "-", ""],
    ];
    if (current.variation) chips.push(["variation", current.variation, ""]);
    if (current.step) chips.push(["step", `${current.step}`, ""]);
    if (current.policy_version) chips.push(["policy version", `${current.policy_version}`, ""]);
    const sampling = current.sampling;
    const how = ["strategy", "threshold", "temperature"].filter((name) => name in sampling);
    if (how.length) chips.push(["sampling", how.map((n) => `${n === "strategy" ? "" : `${n} `}${sampling[n]}`).join(", "), ""]);
    byId("chips").replaceChildren(...chips.map(([name, value, kind]) => {
      const chip = element("li", kind);
      chip.append(element("span", "", name), " ", element("b", "", value));
      return chip;
    }));
  }

  // ---- time

  function goTo(wanted) {
    step = Math.min(Math.max(wanted, 0), current.last);
    let revealed = 0, newest = null;
    boxes.forEach((box, position) => {
      const at = current.steps[position];
      const isShown = at > 0 && at <= step;
      box.classList.toggle("veiled", !isShown);
      box.classList.toggle("fresh", isShown && at === step);
      if (isShown) revealed += 1;
      if (isShown && at === step && !newest) newest = box;
    });
    byId("slider").value = step;
    byId("slider").setAttribute("aria-valuetext", `denoising step ${step} of ${current.last}`);
    for (const bar of byId("pulse").children) bar.classList.toggle("past", Number(bar.dataset.from) <= step);
    byId("counter").textContent =
      `denoising step ${step} of ${current.last} · ${revealed} of ${boxes.length} revealed` +
      (step ? ` · ${current.fresh[step]} now` : "");
    if (newest && (timer || step < current.last)) keepInSight(newest);
    if (inspected) showDetails(inspected);
    if (!timer && isStarted) remember();
  }

  // Scroll the canvas, never the page.
  function keepInSight(box) {
    const canvas = byId("canvas"), top = box.offsetTop;
    if (top < canvas.scrollTop || top + box.offsetHeight > canvas.scrollTop + canvas.clientHeight) {
      canvas.scrollTop = top - canvas.clientHeight / 3;
    }
  }

  function pause() {
    clearInterval(timer);
    timer = 0;
    byId("play").classList.remove("is-playing");
    byId("play").setAttribute("aria-label", "Play");
  }

  function play() {
    if (timer) { pause(); return; }
    if (step >= current.last) goTo(0);
    const delay = Math.min(Math.max(PLAY_MS / Math.max(current.last, 1), 60), 700);
    timer = setInterval(() => {
      goTo(step + 1);
      if (step >= current.last) pause();
    }, delay / Number(byId("speed").value));
    byId("play").classList.add("is-playing");
    byId("play").setAttribute("aria-label", "Pause");
  }

  // ---- details of a token

  function showDetails(box) {
    const details = byId("details");
    inspected?.classList.remove("inspected");
    inspected = box;
    details.hidden = !box;
    if (!box) return;
    box.classList.add("inspected");
    details.replaceChildren(...detailsOf(box).map(([name, value]) => {
      const pair = element("div", "pair");
      pair.append(element("span", "", name), element("b", "", value));
      return pair;
    }));
    const token = box.getBoundingClientRect(), own = details.getBoundingClientRect();
    const above = token.top - own.height - 9;
    const left = token.left + token.width / 2 - own.width / 2;
    details.style.left = `${Math.max(12, Math.min(left, document.documentElement.clientWidth - own.width - 12))}px`;
    details.style.top = `${above >= 8 ? above : token.bottom + 9}px`;
  }

  function detailsOf(box) {
    if (box.dataset.prompt !== undefined) {
      return [["prompt token", ""], ["id", `${current.tail[Number(box.dataset.prompt)]}`]];
    }
    const position = Number(box.dataset.position), at = current.steps[position];
    const pairs = [["position", `${position}`], ["block", `${current.blockOf[position]}`]];
    if (!at) return [...pairs, ["never revealed", ""]];
    if (at > step) return [...pairs, ["hidden until denoising step", `${at}`]];
    const logprob = current.logprobs[position], probability = Math.exp(logprob);
    pairs.push(
      ["id", `${current.ids[position]}`],
      ["denoising step", `${at}`],
      ["reveal of its block", `${current.order[position]} of ${current.reveals[current.blockOf[position]]}`],
      ["log-probability", logprob.toFixed(4)],
      ["probability", probability >= 0.001 ? `${(100 * probability).toFixed(1)} %` : probability.toExponential(1)],
    );
    if (current.token_rewards && position < current.token_rewards.length) pairs.push(["reward", number(current.token_rewards[position])]);
    if (position >= current.num_response) pairs.push(["past the stop: context, not response", ""]);
    return pairs;
  }

  // ---- many trajectories

  const snippet = (text, most) => {
    const line = text.replace(/\s+/g, " ").trim();
    return line.length > most ? `${line.slice(0, most)}…` : line;
  };

  function drawList() {
    const wanted = byId("filter").value;
    shown = all.filter((trace) => !wanted || trace.why.includes(wanted));
    if (wanted === "lowest") shown.sort((a, b) => a.reward - b.reward);
    else shown.reverse();
    byId("list").replaceChildren(...shown.map((trace) => {
      const item = element("li"), button = element("button", "item");
      const mark = element("span", `mark-of ${trace.reward >= 1 ? "good" : trace.reward <= 0 ? "bad" : ""}`, number(trace.reward));
      const question = trace.messages.length ? trace.messages[trace.messages.length - 1].content : "";
      const words = element("span", "words");
      words.append(element("span", "prompt-text", snippet(question, 90)), element("span", "response-text", snippet(trace.text, 90)));
      button.type = "button";
      button.dataset.key = trace.key;
      button.append(mark, words, element("span", "when", trace.step ? `step ${trace.step}` : ""));
      button.addEventListener("click", () => show(trace));
      item.append(button);
      return item;
    }));
    byId("count").textContent = `${shown.length} of ${all.length}`;
  }

  function show(trace, at) {
    pause();
    if (!trace.isPrepared) prepare(trace);
    current = trace;
    byId("slider").max = trace.last;
    showDetails(null);
    drawFacts();
    drawCanvas();
    drawPulse();
    colourBoxes();
    byId("canvas").scrollTop = 0;
    goTo(at === undefined ? trace.last : at);
    for (const button of byId("list").querySelectorAll("button")) {
      button.setAttribute("aria-current", button.dataset.key === trace.key ? "true" : "false");
    }
  }

  function move(by) {
    const place = shown.indexOf(current) + by;
    if (place < 0 || place >= shown.length) return;
    show(shown[place]);
    byId("list").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  }

  // The address names trajectory and step, so that a reloaded page returns to them.
  function remember() {
    const place = new URLSearchParams({ trajectory: current.key, "denoising-step": step });
    try { history.replaceState(null, "", `#${place}`); } catch { /* not allowed in a sandboxed frame */ }
  }

  function remembered() {
    const place = new URLSearchParams(location.hash.slice(1));
    const trace = all.find((one) => one.key === place.get("trajectory"));
    return trace ? [trace, Number(place.get("denoising-step"))] : null;
  }

  const KEYS = {
    ArrowLeft: () => { pause(); goTo(step - 1); },
    ArrowRight: () => { pause(); goTo(step + 1); },
    " ": play,
    Home: () => { pause(); goTo(0); },
    End: () => { pause(); goTo(current.last); },
    ArrowUp: () => move(-1),
    ArrowDown: () => move(1),
  };

  function onKey(event) {
    const player = byId("player"), focused = document.activeElement;
    const isOurs = player.contains(focused) || (focused === document.body && player.matches(":hover"));
    const isVertical = event.key === "ArrowUp" || event.key === "ArrowDown";
    if (!isOurs || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    if (focused.tagName === "SELECT" || (focused.tagName === "BUTTON" && event.key === " ")) return;
    if (isVertical && !byId("list").contains(focused)) return;
    event.preventDefault();
    KEYS[event.key]();
    if (isVertical) byId("list").querySelector("[aria-current=true]")?.focus();
  }

  function listen() {
    const canvas = byId("canvas"), boxAt = (event) => event.target.closest(".token");
    canvas.addEventListener("pointerover", (event) => showDetails(boxAt(event)));
    canvas.addEventListener("click", (event) => showDetails(boxAt(event)));
    canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") showDetails(null); });
    for (const target of [canvas, window]) target.addEventListener("scroll", () => showDetails(null), { passive: true });
    byId("slider").addEventListener("input", (event) => { pause(); goTo(Number(event.target.value)); });
    for (const [id, key] of [["first", "Home"], ["back", "ArrowLeft"], ["play", " "], ["forward", "ArrowRight"], ["last", "End"]]) {
      byId(id).addEventListener("click", KEYS[key]);
    }
    byId("speed").addEventListener("change", () => { if (timer) { pause(); play(); } });
    byId("colour").addEventListener("change", colourBoxes);
    byId("filter").addEventListener("change", () => { drawList(); if (shown.length) show(shown[0]); });
    document.addEventListener("keydown", onKey);
  }

  return {
    start(traces) {
      all = traces;
      if (!all.length) return;
      for (const option of byId("filter").options) {
        option.disabled = Boolean(option.value) && !all.some((trace) => trace.why.includes(option.value));
      }
      drawList();
      if (!shown.length) { byId("filter").value = ""; drawList(); } // the kept choice has no trajectory here
      listen();
      const place = remembered();
      if (place) show(...place);
      else show(shown[0]);
      isStarted = true;
    },
    isBusy: () => Boolean(timer),
  };
})();
