// A trajectory as its writes: which token stands at which position after each denoising step.
//
// A position that is edited or masked again has several writes; a write whose id is null masks it. Steps are
// counted from 1 over the whole trajectory; what is written at step 0 (pinned tokens) was given, not drawn.

class Writes {
  constructor({ length, block = null, offset = 0, tail = [], pieces = null, numResponse = length }) {
    Object.assign(this, { length, block, offset, tail, pieces, numResponse });
    this.history = Array.from({ length }, () => []); // writes of each position, in the order of steps
    this.touched = []; // positions written at each step
    this.stepsOf = []; // steps that wrote into each block, ascending
    this.last = 0;
  }

  // A record as the report embeds it.
  static of(record) {
    const made = new Writes({
      length: record.ids.length,
      block: record.block,
      offset: record.block ? record.tail.length : 0,
      tail: record.tail,
      pieces: record.pieces ? record.pieces.slice(0, record.tail.length) : null,
      numResponse: record.num_response,
    });
    const each = (name, whole) => (position) => record[name]?.[position] ?? (position < record.num_response ? record[whole] : undefined) ?? undefined;
    const fields = {
      logprob: each("logprobs"),
      // "logprobs": tokens were drawn from the model's own distribution.
      confidence: record.confidences === "logprobs" ? (position) => Math.exp(record.logprobs[position]) : each("confidences"),
      entropy: each("entropies"),
      advantage: each("advantages", "advantage"),
      value: each("values"),
      reward: each("token_rewards", "reward"),
    };
    const given = new Set(record.pinned ?? []), positions = record.ids.map((_, position) => position);
    const byStep = positions.filter((position) => record.steps[position] || given.has(position));
    const events = byStep.map((position) => {
      const write = { position, id: record.ids[position], piece: record.pieces ? record.pieces[record.tail.length + position] : null };
      if (record.steps[position]) for (const [name, at] of Object.entries(fields)) write[name] = at(position);
      return [record.steps[position], write];
    });
    // Earlier writes of positions, and new masks, whose id is null; their pieces follow those of the canvas.
    for (const [number, [step, position, id, logprob]] of (record.revisions ?? []).entries()) {
      const write = { position, id, piece: record.pieces ? record.pieces[record.tail.length + record.ids.length + number] : null };
      if (id !== null) Object.assign(write, { logprob, advantage: fields.advantage(position) });
      if (id !== null && record.confidences === "logprobs") write.confidence = Math.exp(logprob);
      events.push([step, write]);
    }
    for (const [step, write] of events.sort(([a], [b]) => a - b)) made.add(step, write);
    return made;
  }

  blockOf(position) {
    return this.block ? Math.floor((this.offset + position) / this.block) : 0;
  }

  get numBlocks() {
    return this.length ? this.blockOf(this.length - 1) + 1 : 0;
  }

  positionsOf(block) {
    const first = this.block ? Math.max(0, block * this.block - this.offset) : 0;
    return [first, this.block ? Math.min(this.length, (block + 1) * this.block - this.offset) : this.length];
  }

  // Steps must come in ascending order.
  add(step, write) {
    while (this.length <= write.position) this.length = this.history.push([]);
    const steps = (this.stepsOf[this.blockOf(write.position)] ??= []);
    if (step && steps[steps.length - 1] !== step) steps.push(step);
    const history = this.history[write.position], number = history.filter(({ id }) => id !== null).length + 1;
    history.push({ ...write, step, order: steps.length, number });
    (this.touched[step] ??= []).push(write.position);
    this.last = Math.max(this.last, step);
  }

  // The write that stands at a position after a step; undefined where it is hidden.
  at(position, step) {
    const found = this.history[position].findLast((write) => write.step <= step);
    return found?.id == null ? undefined : found;
  }

  // Whether every position of a block holds a token after a step.
  isComplete(block, step) {
    const [first, end] = this.positionsOf(block);
    for (let position = first; position < end; position += 1) if (!this.at(position, step)) return false;
    return true;
  }

  // The steps after which a further block is complete.
  get commits() {
    const found = [];
    for (let block = 0; block < this.numBlocks; block += 1) {
      const step = this.stepsOf[block]?.at(-1);
      if (step && this.isComplete(block, step)) found.push(step);
    }
    return found;
  }

  // The most times that a position was written.
  get mostWrites() {
    return this.history.reduce((most, writes) => Math.max(most, writes.at(-1)?.number ?? 1), 1);
  }

  get longest() {
    return this.stepsOf.reduce((most, steps) => Math.max(most, steps.length), 1);
  }

  // The event that masked a position again, if it is the last one there up to a step.
  maskedAt(position, step) {
    const found = this.history[position].findLast((write) => write.step <= step);
    return found?.id === null ? found : undefined;
  }

  numShown(step) {
    let count = 0;
    for (let position = 0; position < this.length; position += 1) count += this.at(position, step) ? 1 : 0;
    return count;
  }
}
