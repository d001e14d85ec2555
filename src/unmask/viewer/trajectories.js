// The trajectories of a page: a list with search and filter, and the chosen ones in the player.
//
// All text of a run may be hostile: it enters the document only through textContent and text nodes.
"use strict";

const Trajectories = (() => {
  const byId = (id) => document.getElementById(id);
  const MOST_COLUMNS = 8, NUM_WORDS = 90;
  const MARKER = "<image>", TINY = 64;
  let all = [], listed = [], chosen = [], items = new Map(), pictures = {};

  function element(name, className, ...content) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...content);
    return made;
  }

  const number = (value) => `${Number(Number(value).toPrecision(4))}`;
  const kind = (reward) => (reward == null ? "" : reward >= 1 ? "good" : reward <= 0 ? "bad" : "");
  const snippet = (text) => {
    const line = text.slice(0, 4 * NUM_WORDS).replace(/\s+/g, " ").trim();
    return line.length > NUM_WORDS ? `${line.slice(0, NUM_WORDS)}…` : line;
  };
  const wordsOf = ({ content, images }) => (images ?? []).reduce((text) => text.replace(MARKER, ""), content);
  const question = (trace) => (trace.messages.length ? wordsOf(trace.messages.at(-1)) : "");
  const lastStep = (trace) => trace.steps.reduce((most, at) => Math.max(most, at), 0);
  const samePrompt = (trace) => all.filter((one) => one.prompt === trace.prompt);

  function captionOf(trace) {
    const parts = [trace.variation, trace.step ? `step ${trace.step}` : ""];
    if (trace.reward != null) parts.push(`reward ${number(trace.reward)}`);
    parts.push(`${trace.num_response} tokens in ${lastStep(trace)} denoising steps`);
    return parts.filter(Boolean).join(" · ");
  }

  // ---- the chosen ones

  function drawFacts() {
    const [first] = chosen, isOne = chosen.length === 1;
    const prompts = chosen.every((trace) => trace.prompt === first.prompt) ? first.messages : [];
    const turns = prompts.map((turn) => element("div", "turn", element("span", "role", turn.role), element("span", "content", ...nodesOf(turn))));
    const drawn = chosen.filter(({ drawing }) => drawing).map(({ drawing }) => pictureOf(drawing));
    if (drawn.length) turns.push(element("div", "turn", element("span", "role", "drawn"), element("span", "content", ...drawn)));
    byId("prompt").replaceChildren(element("div", "turns", ...turns), ...compareButton(first, isOne));
    const chips = isOne ? chipsOf(first) : [];
    byId("chips").replaceChildren(...chips.map(([name, value, mark]) => element("li", mark ?? "", element("span", "", name), " ", element("b", "", value))));
  }

  // The texts of a message and its images in the places of their markers; a name where the page has no copy.
  function nodesOf({ content, images }) {
    if (!images) return [content];
    const nodes = [];
    let rest = content;
    for (const image of images) {
      const at = rest.indexOf(MARKER), before = at < 0 ? rest : rest.slice(0, at);
      nodes.push(before, pictureOf(image));
      rest = rest.slice(before.length + (at < 0 ? 0 : MARKER.length)).replace(/^\n(?=<image>)/, "");
    }
    return [...nodes, rest];
  }

  function pictureOf({ name, digest }) {
    if (!Object.hasOwn(pictures, digest)) return element("code", "picture-name", name);
    const image = element("img", "picture");
    image.alt = image.title = name;
    image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth <= TINY && image.naturalHeight <= TINY));
    image.src = pictures[digest];
    return image;
  }

  function compareButton(first, isOne) {
    const group = samePrompt(first), columns = [first, ...group.filter((one) => one !== first)].slice(0, MOST_COLUMNS);
    if (isOne && columns.length === 1) return [];
    const button = element("button", "compare", isOne ? `${columns.length} responses side by side` : "One response");
    button.type = "button";
    button.addEventListener("click", () => show(isOne ? columns : [first]));
    return [button];
  }

  function chipsOf(trace) {
    const written = trace.steps.slice(0, trace.num_response).filter(Boolean).length, last = lastStep(trace);
    const chips = trace.reward == null ? [] : [["reward", number(trace.reward), kind(trace.reward)]];
    chips.push(...Object.entries(trace.parts).map(([name, value]) => [name, number(value)]));
    if (trace.advantage != null) chips.push(["advantage", number(trace.advantage)]);
    if (trace.finish) chips.push(["ended by", trace.finish === "stop" ? "stop token" : trace.finish === "length" ? "max_tokens" : trace.finish]);
    chips.push(["tokens", `${trace.num_response}`], ["denoising steps", `${last}`], ["tokens per denoising step", last ? number(written / last) : "-"]);
    if (trace.variation) chips.push(["variation", trace.variation]);
    if (trace.step) chips.push(["step", `${trace.step}`]);
    if (trace.policy_version) chips.push(["policy version", `${trace.policy_version}`]);
    const { sampling } = trace, how = ["strategy", "threshold", "temperature"].filter((name) => name in sampling);
    if (how.length) chips.push(["sampling", how.map((name) => (name === "strategy" ? sampling[name] : `${name} ${sampling[name]}`)).join(", ")]);
    return chips;
  }

  function show(traces, at) {
    chosen = traces;
    drawFacts();
    const isOnePrompt = traces.every((trace) => trace.prompt === traces[0].prompt);
    for (const trace of traces) trace.caption = isOnePrompt ? captionOf(trace) : `${snippet(question(trace))} · ${captionOf(trace)}`;
    const player = byId("player");
    player.trajectories = traces;
    if (at !== undefined) player.step = at;
    mark();
  }

  function mark() {
    for (const [trace, item] of items) {
      const [button, add] = item.children;
      button.setAttribute("aria-current", `${chosen.includes(trace)}`);
      button.tabIndex = trace === chosen[0] ? 0 : -1;
      add.setAttribute("aria-pressed", `${chosen.includes(trace)}`);
      add.tabIndex = button.tabIndex;
    }
  }

  // ---- the list

  function itemOf(trace) {
    const reward = trace.reward == null ? element("span") : element("span", `mark-of ${kind(trace.reward)}`, number(trace.reward));
    const words = element("span", "words", element("span", "prompt-text", snippet(question(trace))), element("span", "response-text", snippet(trace.text)));
    const button = element("button", "item", reward, words, element("span", "when", trace.step ? `step ${trace.step}` : trace.variation));
    const add = element("button", "add", "+");
    button.type = add.type = "button";
    add.title = "Show side by side with what is shown";
    add.setAttribute("aria-label", add.title);
    button.addEventListener("click", () => show([trace]));
    add.addEventListener("click", () => {
      const rest = chosen.filter((one) => one !== trace);
      if (rest.length === chosen.length) show([...chosen, trace].slice(-MOST_COLUMNS));
      else if (rest.length) show(rest);
    });
    return element("li", "", button, add);
  }

  function drawList() {
    const wanted = byId("filter").value, words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    listed = all.filter((trace) => {
      if (wanted && !trace.why.includes(wanted)) return false;
      if (!words.length) return true;
      trace.haystack ??= [...trace.messages.map(({ content }) => content), trace.text, trace.task, trace.uid, trace.variation].join("\n").toLowerCase();
      return words.every((word) => trace.haystack.includes(word));
    });
    listed.sort((a, b) => (b.step ?? 0) - (a.step ?? 0)); // the latest step first, each in the order of the file
    if (wanted === "lowest") listed.sort((a, b) => (a.reward ?? 0) - (b.reward ?? 0));
    items = new Map(listed.map((trace) => [trace, itemOf(trace)]));
    byId("list").replaceChildren(...items.values());
    byId("count").textContent = `${listed.length} of ${all.length}`;
    if (chosen.length) mark();
  }

  function move(by) {
    const next = listed[listed.indexOf(chosen[0]) + by];
    if (!next) return;
    show([next]);
    items.get(next).firstChild.focus();
    items.get(next).scrollIntoView({ block: "nearest" });
  }

  // ---- keys, and the place in the address

  // The keys of the player work wherever nothing else takes them: on a fresh page and in the list.
  function onKey(event) {
    const player = byId("player"), { target } = event, isInList = byId("list").contains(target);
    const area = player.getBoundingClientRect(), isSeen = area.bottom > 0 && area.top < innerHeight;
    if (isInList && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      move(event.key === "ArrowUp" ? -1 : 1);
    } else if (isInList || (target === document.body && isSeen && [" ", "ArrowLeft", "ArrowRight"].includes(event.key))) {
      player.onKey(event);
    }
  }

  // The address names trajectory and step, so that a reloaded page returns to them.
  function remember() {
    const player = byId("player");
    if (player.isPlaying || !chosen.length) return;
    const place = new URLSearchParams({ trajectory: chosen[0].key, "denoising-step": player.step });
    try { history.replaceState(null, "", `#${place}`); } catch { /* not allowed in a sandboxed frame */ }
  }

  function listen() {
    byId("filter").addEventListener("change", () => { drawList(); if (listed.length) show([listed[0]]); });
    byId("search").addEventListener("input", drawList);
    byId("player").addEventListener("pointerup", remember);
    byId("player").addEventListener("keyup", remember);
    document.addEventListener("keydown", onKey);
    // A button of the list is pressed by the enter key alone: the space bar plays.
    byId("list").addEventListener("keyup", (event) => { if (event.key === " ") event.preventDefault(); });
  }

  return {
    start(traces, images) {
      all = traces;
      pictures = images;
      const most = (name, each) => all.reduce((found, trace) => Math.max(found, Math.abs(trace[name] ?? 0), ...(trace[each] ?? []).map(Math.abs)), 0);
      byId("player").ranges = { advantage: most("advantage", "advantages"), value: most("value", "values"), reward: most("reward", "token_rewards") };
      for (const option of byId("filter").options) option.disabled = Boolean(option.value) && !all.some((trace) => trace.why.includes(option.value));
      byId("filter").hidden = !all.some((trace) => trace.why.length);
      drawList();
      if (!listed.length) { byId("filter").value = ""; drawList(); } // the kept choice has no trajectory here
      listen();
      const place = new URLSearchParams(location.hash.slice(1)), kept = all.find((trace) => trace.key === place.get("trajectory"));
      if (kept) show([kept], Number(place.get("denoising-step")));
      else show([listed[0]]);
    },
  };
})();
