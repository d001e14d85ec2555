// The playground: requests to the server, the conversation, and what the reader does.

// ---- the server

const headers = () => ({ "Content-Type": "application/json", ...(byId("key").value && { Authorization: `Bearer ${byId("key").value}` }) });

// Fetches a path; raises a `Problem` for an answer that is an error.
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(`The server cannot be reached (${error.message}). Does it run?`);
  }
  if (response.ok) return response;
  const wait = response.headers.get("Retry-After");
  const { error } = await response.json().catch(() => ({ error: { message: `status ${response.status}` } }));
  if (response.status === 401) throw new Problem("The server needs its API key: the key is missing or wrong.", "key");
  throw new Problem(`${sentence(error.message)}${wait ? ` Try again in ${wait} s.` : ""}`, error.param);
}

const sentence = (message) => `The server answered: ${message}${/[.!?]$/.test(message) ? "" : "."}`;

// Yields the objects of a stream of server-sent events.
async function* chunksOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) throw new Problem("The connection ended before the answer did.");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (event === "data: [DONE]") return;
      if (event.startsWith("data: ")) yield JSON.parse(event.slice(6)); // others are comments
    }
  }
}

async function write(answer, body, signal) {
  const { side } = answer;
  try {
    const response = await ask("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    for await (const chunk of chunksOf(response)) {
      if (chunk.error) throw new Problem(sentence(chunk.error.message), chunk.error.param);
      answer.take(chunk);
      drawSoon();
    }
    answer.finish("done");
  } catch (error) {
    if (error.name === "AbortError") answer.finish("stopped");
    else answer.finish("failed", error instanceof Problem ? error.message : `The page failed: ${error.message}.`);
    if (error.field) mark(error.field, side);
  }
}

// ---- the page

const sides = [new Side("A"), new Side("B")], shared = SHARED.map((setting) => new Control(setting));
let turns = [], running = null, frame = 0;
const isNarrow = () => matchMedia("(max-width: 820px)").matches;
const isComparing = () => byId("compare").ariaPressed === "true";

// Many chunks may arrive between two frames of the screen.
function drawSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const side of sides) if (side.answer?.state === "running") side.count();
    follow();
  });
}

// Keeps the end of the conversation in sight, unless the reader has scrolled up.
let isFollowing = true;
function follow() {
  if (isFollowing) byId("log").scrollTop = byId("log").scrollHeight;
}

function complain(message, field, side = sides[0]) {
  byId("problem").textContent = message;
  byId("problem").hidden = !message;
  if (field) mark(field, side);
}

function mark(field, side) {
  if (field === "key") byId("key").focus();
  else [...side.controls, ...shared].find(({ name, root }) => name === field && !root.hidden)?.mark();
}

function show(answer) {
  (isComparing() ? answer.side : sides[0]).show(answer);
  markShown();
  if (isNarrow()) byId("sides").scrollIntoView({ block: "start" });
}

function markShown() {
  for (const { answers } of turns) for (const answer of answers) answer.again.hidden = answer.state === "running" || !answer.canvas.length || sides.some((side) => side.answer === answer);
}

// Requests of all sides, or a complaint about a value that is none.
function bodies(question) {
  if (needs_key && !byId("key").value) throw new Problem("This server needs its API key.", "key");
  const messages = turns.flatMap(({ question: asked, answers }) => {
    const kept = answers.find(({ keep }) => keep.checked) ?? answers[0];
    return kept.text.data ? [{ role: "user", content: asked }, { role: "assistant", content: kept.text.data }] : [];
  });
  const common = {
    messages: [...messages, { role: "user", content: question }],
    stream: true, stream_canvas: true, stream_options: { include_usage: true },
    seed: crypto.getRandomValues(new Uint32Array(1))[0],
    ...fieldsOf(shared),
  };
  return sides.slice(0, isComparing() ? 2 : 1).map((side) => ({ ...common, ...side.fields }));
}

async function send(question) {
  if (running || !question.trim()) return;
  let asked;
  try {
    asked = bodies(question);
  } catch (error) {
    complain(error.message, error.field);
    return;
  }
  complain("");
  const answers = asked.map(({ seed }, at) => new Answer(sides[at], seed));
  const turn = { question, answers };
  turns.push(turn);
  begin(turn);
  await Promise.all(answers.map((answer, at) => write(answer, asked[at], running.signal)));
  end(turn);
}

function begin({ question, answers }) {
  running = new AbortController();
  answers.forEach((answer) => {
    answer.keep.name = `turn-${turns.length}`;
    answer.side.show(answer);
  });
  byId("question").value = "";
  byId("welcome").hidden = true;
  byId("verdict").textContent = BOTH;
  byId("log").append(make("p", { className: "question", dir: "auto" }, question), make("div", { className: "answers" }, ...answers.map(({ root }) => root)));
  isFollowing = true;
  follow();
  markRunning();
  if (isNarrow()) {
    byId("question").blur(); // closes the keyboard of the screen
    byId("composer").scrollIntoView({ block: "start" });
  }
}

function end({ question, answers }) {
  running = null;
  const [first, second] = answers;
  first.keep.checked = true;
  if (second) for (const answer of answers) answer.choice.hidden = !answer.text.data;
  if (answers.every(({ state, text }) => state === "failed" && !text.data)) byId("question").value ||= question;
  if (second && answers.every(({ state }) => state === "done")) compare(first, second);
  markRunning();
  follow();
}

function compare(first, second) {
  const rate = second.meta.tokens_per_forward / first.meta.tokens_per_forward;
  const than = rate === 1 ? "as many tokens per forward pass as" : `${rounded(rate > 1 ? rate : 1 / rate, 2)} times the tokens per forward pass of`;
  const [more, less] = rate < 1 ? ["A", "B"] : ["B", "A"];
  const texts = first.text.data === second.text.data ? "Their texts are equal." : "Their texts differ.";
  byId("verdict").textContent = `${more} wrote ${than} ${less}. ${texts}`;
}

function markRunning() {
  byId("send").hidden = Boolean(running);
  byId("stop").hidden = !running;
  byId("log").ariaBusy = Boolean(running);
  byId("compare").disabled = byId("clear").disabled = Boolean(running);
  markShown();
}

function toggleCompare(isOn) {
  byId("compare").ariaPressed = isOn;
  document.body.classList.toggle("comparing", isOn);
  byId("verdict").hidden = !isOn;
  byId("verdict").textContent = BOTH;
  sides[1].root.hidden = sides[1].fieldset.hidden = !isOn;
  for (const { player } of sides) player.toggleAttribute("compact", isOn);
  summarise();
}

function summarise() {
  const all = sides.slice(0, isComparing() ? 2 : 1).map(({ controls }) => worded(controls));
  byId("summary").textContent = [all.join("  |  "), worded(shared)].filter(Boolean).join(" · ");
}

function clear() {
  turns = [];
  for (const turn of byId("log").querySelectorAll(".question, .answers")) turn.remove();
  byId("welcome").hidden = false;
  byId("verdict").textContent = BOTH;
  for (const side of sides) side.show(null);
  complain("");
  byId("question").focus();
}

async function nameModel() {
  try {
    const { data: [model] } = await (await ask("v1/models")).json();
    byId("model").textContent = model.id;
    complain("");
  } catch (error) {
    byId("model").textContent = "";
    complain(error.message);
  }
}

function listen() {
  const question = byId("question"), stop = () => running?.abort();
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send(question.value);
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send(question.value);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.defaultPrevented) stop(); });
  byId("stop").addEventListener("click", () => { stop(); question.focus(); });
  byId("clear").addEventListener("click", clear);
  byId("compare").addEventListener("click", () => toggleCompare(!isComparing()));
  byId("key").addEventListener("change", nameModel);
  byId("controls").addEventListener("change", summarise);
  byId("log").addEventListener("scroll", () => {
    const { scrollTop, scrollHeight, clientHeight } = byId("log");
    isFollowing = scrollHeight - scrollTop - clientHeight < 24;
  }, { passive: true });
}

byId("controls").append(...sides.map(({ fieldset }) => fieldset), make("fieldset", { className: "shared" }, ...shared.map(({ root }) => root)));
byId("settings").open = !isNarrow();
byId("sides").append(...sides.map(({ root }) => root));
byId("examples").append(...EXAMPLES.map((example) => {
  const button = make("button", { type: "button" }, example);
  button.addEventListener("click", () => send(example));
  return button;
}));
sides[1].fields = { strategy: defaults.strategy === "left_to_right" ? "dynamic" : "left_to_right" };
toggleCompare(false);
listen();
byId("key-field").hidden = !needs_key;
if (!needs_key) nameModel();
