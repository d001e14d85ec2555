// Parts of the playground: controls, a canvas with its numbers, an answer in the conversation.
//
// Text of the model, of the server and of the reader may be hostile: it enters the document only as text.

const byId = (id) => document.getElementById(id);
const { needs_key, strategies, defaults, mask_id } = JSON.parse(byId("facts").textContent);

// `strategy`: the only one that reads the field. An empty field is not sent: the server's default holds.
const SETTINGS = [
  { name: "strategy", label: "Strategy", options: strategies },
  { name: "threshold", label: "Threshold", strategy: "dynamic", range: [0.01, 1, 0.01] },
  { name: "factor", label: "Factor", strategy: "factor", range: [0, 8, 0.1] },
  { name: "entropy_bound", label: "Entropy bound", strategy: "entropy_bounded", range: [0, 3, 0.01] },
  { name: "temperature", label: "Temperature", range: [0, 2, 0.05] },
  { name: "block_size", label: "Block size", least: 1, hint: defaults.block_size },
  { name: "denoising_steps", label: "Steps per block", least: 1, hint: defaults.denoising_steps ?? "auto" },
];
const SHARED = [
  { name: "max_tokens", label: "Maximum tokens", least: 1, hint: defaults.max_tokens },
  { name: "seed", label: "Seed", hint: "random" },
];
const BOTH = "Both settings get the same conversation and the same seed, and run at the same time in one batch.";
const EXAMPLES = ["3+4+5=", "Write a haiku about rain.", "Why is the sky blue? Answer in two sentences."];

function make(name, properties = {}, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
}

// ---- controls

// A sentence for the reader, and the field at fault if it is one.
class Problem extends Error {
  constructor(message, field = null) {
    super(message);
    this.field = field;
  }
}

class Control {
  constructor({ name, label, options, strategy, range, least, hint }) {
    Object.assign(this, { name, label, strategy });
    if (options) {
      this.input = make("select", {}, ...options.map((value) => new Option(value.replaceAll("_", " "), value)));
    } else {
      const [min, max, step] = range ?? [least ?? "", "", 1];
      this.input = make("input", { type: "number", min, max, step, placeholder: hint ?? "" });
    }
    this.root = make("label", { className: `control ${name}` }, make("span", {}, label), this.input);
    // The number is exact; the slider is a shortcut for a pointer.
    if (range) {
      const [min, max, step] = range;
      this.slider = make("input", { type: "range", min, max, step, tabIndex: -1, ariaHidden: "true" });
      this.slider.addEventListener("input", () => { this.value = Number(this.slider.value); });
      this.root.append(this.slider);
    }
    if (options || range) this.value = defaults[name];
    this.input.addEventListener("input", () => this.#changed());
  }

  get value() {
    const { input, label, name } = this;
    if (input.validity.badInput) throw new Problem(`${label}: this is not a number.`, name);
    if (input.type !== "number") return input.value;
    const value = input.value === "" ? null : Number(input.value);
    if (Math.abs(value) > Number.MAX_SAFE_INTEGER) throw new Problem(`${label}: this number is too large.`, name);
    return value;
  }

  set value(value) {
    this.input.value = value ?? "";
    this.#changed();
  }

  #changed() {
    if (this.slider) this.slider.value = this.input.value;
    this.input.removeAttribute("aria-invalid");
    this.root.dispatchEvent(new Event("change", { bubbles: true }));
  }

  mark() {
    this.input.setAttribute("aria-invalid", "true");
    this.input.closest("details")?.setAttribute("open", "");
    this.input.focus();
  }
}

const fieldsOf = (controls) => Object.fromEntries(
  controls.filter((control) => !control.root.hidden).map((control) => [control.name, control.value]).filter(([, value]) => value !== null));

const rounded = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

// ---- one canvas with its setting

class Side {
  constructor(letter) {
    this.letter = letter;
    this.controls = SETTINGS.map((setting) => new Control(setting));
    this.fieldset = make("fieldset", {}, make("legend", { className: "letter", ariaLabel: `Setting ${letter}` }, letter), ...this.controls.map(({ root }) => root));
    this.fieldset.addEventListener("change", () => this.#onChange());
    this.setting = make("span");
    this.numbers = make("dl", { className: "numbers" });
    this.blank = make("p", { className: "blank" }, "The canvas appears here, one box per token.");
    this.player = make("unmask-player", { hidden: true });
    const head = make("p", { className: "head" }, make("b", { className: "letter" }, letter), this.setting);
    this.root = make("section", { className: "side", ariaLabel: `Canvas ${letter}` }, head, this.numbers, this.blank, this.player);
    this.#onChange();
    this.show(null);
  }

  get fields() { return fieldsOf(this.controls); }

  set fields(fields) {
    for (const control of this.controls) if (control.name in fields) control.value = fields[control.name];
  }

  #onChange() {
    const [{ input: { value: strategy } }] = this.controls;
    for (const control of this.controls) control.root.hidden = Boolean(control.strategy) && control.strategy !== strategy;
  }

  // Shows an answer, finished or not; what is written from now on appears as it comes.
  show(answer) {
    this.answer = answer;
    this.setting.textContent = answer?.setting ?? "";
    this.player.hidden = !answer?.canvas.length;
    this.blank.hidden = !this.player.hidden;
    answer?.canvas.forEach((event) => this.draw(event));
    if (answer && answer.state !== "running") this.end();
    this.count();
  }

  draw(event) {
    if (event.step) this.player.write(event);
    else this.player.begin(event);
    this.player.hidden = false;
    this.blank.hidden = true;
  }

  end() {
    if (this.answer.canvas.length) this.player.end({ num_response: this.answer.numTokens });
  }

  count() {
    this.numbers.replaceChildren(...numbersOf(this.answer).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }
}

// A setting in one line; the strategy names itself.
function worded(controls) {
  const given = controls.filter(({ root, input }) => !root.hidden && input.value !== "");
  return given.map(({ input, label, name }) => (name === "strategy" ? input.selectedOptions[0].text : `${label.toLowerCase()} ${input.value}`)).join(" · ");
}

// ---- an answer

class Answer {
  constructor(side, seed) {
    const setting = worded(side.controls);
    Object.assign(this, { side, seed, setting, canvas: [], written: new Set(), numTokens: null, meta: null, state: "running", start: performance.now() });
    this.text = document.createTextNode("");
    this.note = make("p", { className: "note" });
    this.problem = make("p", { className: "problem", hidden: true });
    this.problem.setAttribute("role", "alert");
    this.again = make("button", { type: "button", className: "plain", hidden: true }, "Show its canvas");
    this.again.addEventListener("click", () => show(this));
    this.keep = make("input", { type: "radio" });
    this.choice = make("label", { className: "choice", hidden: true }, this.keep, "Continue with this answer");
    const head = make("p", { className: "head" }, make("b", { className: "letter" }, side.letter), make("span", {}, setting));
    this.root = make("article", { className: "answer running" }, head, make("p", { className: "text", dir: "auto" }, this.text), this.problem,
      make("div", { className: "foot" }, this.note, this.choice, this.again));
  }

  take(chunk) {
    const { choices: [choice], canvas, usage } = chunk;
    if (canvas) this.#write(canvas);
    if (usage) this.numTokens = usage.completion_tokens;
    const piece = choice?.delta?.content;
    if (piece) this.text.appendData(piece);
    if (choice?.meta_info) this.meta = { ...choice.meta_info, finish: choice.finish_reason };
  }

  #write({ writes, ...rest }) {
    // The server masks a position again by writing the mask token, the player by writing no token.
    const shown = writes.map((write) => (write.token_id === mask_id ? { ...write, token_id: null } : write));
    for (const { position, token_id } of shown) {
      if (token_id === null) this.written.delete(position);
      else this.written.add(position);
    }
    const event = { ...rest, writes: shown };
    this.canvas.push(event);
    if (this.side.answer === this) this.side.draw(event);
  }

  finish(state, problem = "") {
    this.state = state;
    this.seconds = this.meta?.seconds ?? (performance.now() - this.start) / 1000;
    this.problem.textContent = problem;
    this.problem.hidden = !problem;
    this.root.className = `answer ${state}`;
    const words = numbersOf(this).slice(0, 3).filter(([, value]) => value !== NONE).map(([name, value]) => `${value} ${name}`);
    const why = state === "stopped" ? "stopped" : this.meta?.finish === "length" ? "cut off at the maximum of tokens" : "";
    this.note.textContent = state === "failed" ? "" : [...words, `seed ${this.seed}`, why].filter(Boolean).join(" · ");
    if (this.side.answer === this) {
      this.side.end();
      this.side.count();
    }
  }
}

const NONE = "–";

// Pairs of a name and a value. Forward passes are counted by the server, and are known at the end.
function numbersOf(answer) {
  const { written, numTokens, meta, canvas = [], start, state } = answer ?? {};
  const tokens = numTokens ?? written?.size, seconds = state === "running" ? (performance.now() - start) / 1000 : answer?.seconds;
  const shown = (value, digits = 0) => (Number.isFinite(value) ? rounded(value, digits) : NONE);
  return [
    ["tokens/s", tokens ? shown(tokens / seconds, tokens / seconds < 100 ? 1 : 0) : NONE],
    ["tokens per forward", shown(meta?.tokens_per_forward, 2)],
    ["forward passes", shown(meta?.num_forwards)],
    ["denoising steps", shown(canvas.at(-1)?.step)],
    ["tokens", shown(tokens)],
    ["seconds", shown(seconds, 2)],
  ];
}
