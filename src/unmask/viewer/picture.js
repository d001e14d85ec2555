// The canvas as it is shown, as SVG or PNG, and a trajectory as a line of JSON.

const SVG = "http://www.w3.org/2000/svg";
const PADDING = 16;
const MOST_PIXELS = 16000; // of a side: browsers draw no larger canvas

function shape(name, attributes, ...content) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}

// The boxes of canvases as one SVG element; rectangles are measured where the browser has put them.
function pictureOf(roots) {
  const areas = roots.map((root) => root.getBoundingClientRect());
  const left = Math.min(...areas.map((area) => area.left)), top = Math.min(...areas.map((area) => area.top));
  const heights = roots.map((root, i) => areas[i].top - top + root.scrollHeight);
  const width = Math.max(...areas.map((area) => area.right)) - left + 2 * PADDING, height = Math.max(...heights) + 2 * PADDING;
  const picture = shape("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
  picture.append(shape("rect", { width, height, fill: getComputedStyle(roots[0].closest(".player")).backgroundColor }));
  for (const root of roots) {
    const place = (rect) => ({ x: rect.left - left + PADDING, y: rect.top - top + root.scrollTop + PADDING, width: rect.width, height: rect.height });
    for (const block of root.querySelectorAll(".block")) {
      const stroke = getComputedStyle(block).borderTopColor;
      for (const rect of block.getClientRects()) picture.append(shape("rect", { ...place(rect), rx: 6, fill: "none", stroke }));
    }
    for (const box of root.querySelectorAll(".token")) picture.append(...boxShapes(box, place(box.getBoundingClientRect())));
  }
  return picture;
}

function boxShapes(box, area) {
  const style = getComputedStyle(box), isVeiled = box.classList.contains("veiled");
  const outline = box.classList.contains("fresh") ? { stroke: style.outlineColor, "stroke-width": 2 } : {};
  const back = shape("rect", { ...area, rx: 4, fill: isVeiled ? style.getPropertyValue("--hatch") : style.backgroundColor, ...outline });
  if (isVeiled) return [back];
  const text = { x: area.x + area.width / 2, y: area.y + area.height * 0.72, fill: style.color, "text-anchor": "middle" };
  const font = { "font-family": style.fontFamily, "font-size": style.fontSize, "xml:space": "preserve" };
  return [back, shape("text", { ...text, ...font }, box.textContent.trim())];
}

function save(name, blob) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function pngOf(picture) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(picture))}`;
  await image.decode();
  const scale = Math.min(2, MOST_PIXELS / image.width, MOST_PIXELS / image.height);
  const canvas = element("canvas");
  canvas.width = scale * image.width;
  canvas.height = scale * image.height;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

// Writes what is shown to a file: `jsonl` the records, one a line (`unmask view` reads them), `svg` or `png` the picture.
async function exportAs(format, name, roots, records) {
  if (format === "jsonl") {
    const text = records.map((record) => `${JSON.stringify(record)}\n`).join("");
    save(`${name}.jsonl`, new Blob([text], { type: "application/jsonl" }));
    return;
  }
  const picture = pictureOf(roots);
  if (format === "png") save(`${name}.png`, await pngOf(picture));
  else save(`${name}.svg`, new Blob([new XMLSerializer().serializeToString(picture)], { type: "image/svg+xml" }));
}
