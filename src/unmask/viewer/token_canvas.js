// Draws one trajectory: a box per token in reading order, blocks around them, as they were after a step.
//
// All text of a run may be hostile: it enters the document only through textContent and text nodes.

// Blocks stand in chunks, of which the browser draws those in sight. A chunk ends a line: at a token that ends
// one itself, if one comes early enough.
const CHUNK = 150, MOST_CHUNK = 300;
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|[^\S ]/gu, BLANK = /[\p{C}\p{Zl}\p{Zp}\s]/gu;
const MARKS = { " ": "·", "\n": "↵", "\t": "⇥" };

function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

// Makes line ends, control characters and direction marks visible, and spaces that are a token of their own.
function pieceNodes(piece, id) {
  if (piece == null || piece === "") return [element("i", "mark", piece == null ? `${id}` : "∅")];
  const nodes = [];
  let from = 0;
  for (const found of piece.matchAll(piece.trim() ? UNPRINTABLE : BLANK)) {
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    nodes.push(piece.slice(from, found.index), element("i", "mark", MARKS[found[0]] || `U+${code}`));
    from = found.index + found[0].length;
  }
  return [...nodes, piece.slice(from)];
}

class TokenCanvas {
  constructor(writes, choice, context) {
    Object.assign(this, { writes, choice, context, step: 0, boxes: [], blocks: [], chunk: null, inChunk: 0 });
    this.root = element("div", "canvas");
  }

  // Adds the boxes up to the end of the block that holds a position.
  extendTo(position) {
    const { writes } = this;
    const end = position < 0 ? 0 : writes.positionsOf(writes.blockOf(position))[1];
    if (end <= this.boxes.length && this.blocks.length) return;
    if (!this.boxes.length) this.#drawPrompt();
    for (let next = this.boxes.length; next < end; next += 1) {
      const box = element("span", "");
      box.dataset.position = next;
      this.boxes.push(box);
      this.#block(writes.blockOf(next)).append(box);
      this.#update(next);
    }
    this.blocks.forEach((_, number) => this.#updateBlock(number));
  }

  goTo(step) {
    const [low, high] = [Math.min(this.step, step), Math.max(this.step, step)];
    this.step = step;
    const changed = new Set();
    // The tokens of `low` are no longer fresh, or fresh again.
    for (let at = low; at <= high; at += 1) for (const position of this.writes.touched[at] ?? []) changed.add(position);
    const blocks = new Set();
    for (const position of changed) {
      this.#update(position);
      blocks.add(this.writes.blockOf(position));
    }
    for (const number of blocks) this.#updateBlock(number);
  }

  // Draws every token again, after the end of the response has become known.
  refresh() {
    this.boxes.forEach((_, position) => this.#update(position));
    this.blocks.forEach((_, number) => this.#updateBlock(number));
  }

  colour(choice, context) {
    Object.assign(this, { choice, context });
    this.boxes.forEach((_, position) => this.#paint(position));
  }

  get newest() {
    const positions = this.writes.touched[this.step];
    return this.step && positions ? this.boxes[Math.min(...positions)] : null;
  }

  // Scrolls the canvas, never the page.
  keepInSight(box) {
    const { root } = this, top = box.offsetTop + box.closest(".chunk").offsetTop;
    if (top < root.scrollTop || top + box.offsetHeight > root.scrollTop + root.clientHeight) root.scrollTop = top - root.clientHeight / 3;
  }

  detailsOf(box) {
    const { writes, step } = this;
    if (box.dataset.prompt !== undefined) {
      const id = writes.tail[Number(box.dataset.prompt)];
      return [["end of the prompt", ""], id < 0 ? ["vectors of an image", ""] : ["id", `${id}`]];
    }
    const position = Number(box.dataset.position), block = writes.blockOf(position), write = writes.at(position, step);
    const pairs = [["position", `${position}`], ["block", `${block}`]];
    if (!write) {
      const next = writes.history[position].find((one) => one.step > step), masked = writes.maskedAt(position, step);
      if (masked) pairs.push(["masked again in denoising step", `${masked.step}`]);
      return [...pairs, next ? ["hidden until denoising step", `${next.step}`] : ["never revealed", ""]];
    }
    pairs.push(["id", `${write.id}`]);
    if (!write.step) return [...pairs, ["given, not drawn", ""]];
    pairs.push(["denoising step", `${write.step}`], ["step of its block", `${write.order} of ${writes.stepsOf[block].length}`]);
    const share = (p) => (p >= 0.001 ? `${(100 * p).toFixed(1)} %` : p.toExponential(1));
    if (write.logprob !== undefined) pairs.push(["probability when drawn", share(Math.exp(write.logprob))], ["log-probability", write.logprob.toFixed(4)]);
    if (write.confidence !== undefined) pairs.push(["confidence of the model", share(write.confidence)]);
    if (write.entropy !== undefined) pairs.push(["entropy", `${write.entropy.toFixed(3)} nats`]);
    for (const name of ["advantage", "value", "reward"]) if (write[name] !== undefined) pairs.push([name, rounded(write[name])]);
    if (write.number > 1) pairs.push(["earlier writes", `${write.number - 1}`]);
    if (position >= writes.numResponse) pairs.push(["past the stop: context, not response", ""]);
    return pairs;
  }

  // The part of a block that takes the next token; a block longer than a chunk has several.
  #block(number) {
    const parts = (this.blocks[number] ??= []), isLineEnd = this.boxes.at(-2)?.nextSibling?.nodeName === "BR";
    const isFull = this.inChunk >= MOST_CHUNK || (!parts.length && isLineEnd && this.inChunk >= CHUNK);
    if (!this.chunk || isFull) {
      this.chunk = element("div", "chunk");
      this.inChunk = 0;
      this.root.append(this.chunk);
    }
    if (!parts.length || !this.inChunk) {
      parts.push(element("span", ""));
      this.chunk.append(parts.at(-1), " ");
    }
    this.inChunk += 1;
    return parts.at(-1);
  }

  #drawPrompt() {
    const { tail, pieces } = this.writes;
    tail.forEach((id, place) => {
      // The vectors of an image have ids below 0: one box stands for all of them.
      if (id < 0 && tail[place - 1] < 0) return;
      const box = element("span", "token of-prompt", ...pieceNodes(id < 0 ? "▣" : pieces ? pieces[place] : null, id));
      box.dataset.prompt = place;
      this.#block(0).append(box);
    });
  }

  // A hidden box holds the text of its next write, unseen, so that revealing it moves nothing.
  #update(position) {
    const { writes, step } = this, box = this.boxes[position], shown = writes.at(position, step);
    const write = shown ?? writes.history[position].find((one) => one.id !== null);
    if (box.write !== write) {
      box.write = write;
      box.replaceChildren(...(write ? pieceNodes(write.piece, write.id) : []));
      const isLineEnd = Boolean(write?.piece?.includes("\n")) && position < writes.numResponse;
      const hasLineEnd = box.nextSibling?.nodeName === "BR";
      if (hasLineEnd && !isLineEnd) box.nextSibling.remove();
      if (isLineEnd && !hasLineEnd) box.after(element("br"));
      this.#paint(position);
    }
    const names = ["token"];
    if (!shown) names.push("veiled", ...(writes.maskedAt(position, step) ? ["again"] : []));
    else if (!shown.step) names.push("given");
    else if (shown.step === step) names.push("fresh");
    if (shown && writes.history[position][0] !== shown) names.push("edited");
    if (position >= writes.numResponse) names.push("beyond");
    if (box.classList.contains("inspected")) names.push("inspected");
    const className = names.join(" ");
    if (box.className !== className) box.className = className;
  }

  #paint(position) {
    const box = this.boxes[position], { write } = box;
    const isColoured = write?.step && position < this.writes.numResponse && this.choice.has(write);
    paint(box, isColoured ? this.choice.stops : null, isColoured ? this.choice.part(write, this.context) : 0);
  }

  #updateBlock(number) {
    const { writes, step } = this, begun = (writes.stepsOf[number]?.[0] ?? Infinity) <= step;
    const isDone = begun && writes.isComplete(number, step);
    for (const part of this.blocks[number]) part.className = `block${isDone ? " done" : begun ? " open" : ""}`;
  }
}
