// Colours of tokens: what each choice of the reader shows, its scale, and a text colour legible on it.

// ColorBrewer YlGnBu, OrRd and RdBu (colour-blind safe); in the first two, lightness alone tells the order.
const STEPS = ["#fff7c9", "#d6efb3", "#a3dbb7", "#6cc5be", "#40a9c1", "#2c86ba", "#255da8", "#1f3880"];
const DOUBT = ["#eef1f4", "#fde8cf", "#fdd0a2", "#fdae6b", "#f9893f", "#e4601b", "#b93b0a", "#7f2704"];
const SIGNED = ["#a31a2c", "#d6604d", "#f4a582", "#f3ece6", "#92c5de", "#4393c3", "#2066ac"];

const LEAST_LOGPROB = Math.log(0.01);
const MOST_ENTROPY = 3; // nats: 20 equally likely tokens

const fraction = (low, value, high) => (high > low ? (value - low) / (high - low) : 0.35);
const rounded = (value) => `${Number(Number(value).toPrecision(4))}`;
const signed = (name) => ({
  stops: SIGNED,
  has: (write) => write[name] !== undefined,
  part: (write, { ranges }) => 0.5 + write[name] / (2 * ranges[name] || 1),
  ends: ({ ranges }) => [rounded(-ranges[name]), rounded(ranges[name])],
});

// Each choice: `part(write, context)` from 0 to 1 along the stops, and the texts at both ends of its key.
// context: `last` denoising step, `longest` (steps of a block), `mostWrites` of a position, and `ranges`, the largest
// absolute value by name.
const CHOICES = {
  step: {
    label: "denoising step",
    stops: STEPS,
    has: () => true,
    part: (write, { last }) => fraction(1, write.step, last),
    ends: ({ last }) => ["step 1", `step ${last}`],
  },
  block: {
    label: "step within its block",
    stops: STEPS,
    has: () => true,
    part: (write, { longest }) => fraction(1, write.order, longest),
    ends: ({ longest }) => ["first", `step ${longest} of its block`],
  },
  writes: {
    label: "times written again",
    stops: DOUBT,
    has: (write) => write.number > 1,
    part: (write, { mostWrites }) => (write.number - 1) / Math.max(2, mostWrites - 1),
    ends: ({ mostWrites }) => ["once", mostWrites > 2 ? `${mostWrites - 1} times` : "twice"],
  },
  logprob: {
    label: "probability when drawn",
    stops: DOUBT,
    has: (write) => write.logprob !== undefined,
    part: (write) => write.logprob / LEAST_LOGPROB,
    ends: () => ["p = 1", "p ≤ 0.01"],
  },
  confidence: {
    label: "confidence",
    stops: DOUBT,
    has: (write) => write.confidence !== undefined,
    part: (write) => 1 - write.confidence,
    ends: () => ["1", "0"],
  },
  entropy: {
    label: "entropy",
    stops: DOUBT,
    has: (write) => write.entropy !== undefined,
    part: (write) => write.entropy / MOST_ENTROPY,
    ends: () => ["0", `≥ ${MOST_ENTROPY} nats`],
  },
  advantage: { label: "advantage", ...signed("advantage") },
  value: { label: "value", ...signed("value") },
  reward: { label: "reward", ...signed("reward") },
  plain: { label: "none", stops: null, has: () => true, part: () => null, ends: () => ["", ""] },
};

function mixed(stops, part) {
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
  if (!stops || Number.isNaN(part)) {
    box.style.removeProperty("--fill");
    box.style.removeProperty("--ink");
    return;
  }
  const rgb = mixed(stops, part);
  box.style.setProperty("--fill", `rgb(${rgb.join(",")})`);
  box.style.setProperty("--ink", inkOn(rgb));
}
