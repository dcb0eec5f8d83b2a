// The trust court: draws one frame of the data that monitor/ui/trust_court.py sends, plays the frames, sends a click.
const SVG = "http://www.w3.org/2000/svg";
const STEP_MILLISECONDS = 900;

function element(name, attributes = {}, parent = null, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
}

function tag(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// One format for many numbers: toLocaleString makes one for each.
let percents, counts;
const percent = (value) => (value === null ? "–" : `${percents.format(100 * value)}%`);
const count = (value) => counts.format(value);

function corners(radius) {
  return [...Array(6).keys()]
    .map((k) => (Math.PI / 2 + (k * Math.PI) / 3))
    .map((angle) => `${(radius * Math.cos(angle)).toFixed(3)},${(-radius * Math.sin(angle)).toFixed(3)}`)
    .join(" ");
}

function hatching(radius) {
  const inner = (radius * Math.sqrt(3)) / 2, slope = Math.SQRT1_2;
  return [-0.5, 0, 0.5].map((part) => {
    const offset = part * radius, reach = Math.sqrt(inner ** 2 - offset ** 2) * slope, shift = offset * slope;
    return `M${(-reach + shift).toFixed(3)} ${(reach + shift).toFixed(3)}L${(reach + shift).toFixed(3)} ${(-reach + shift).toFixed(3)}`;
  }).join("");
}

function fill(level) {
  return level < 0 ? "transparent" : `var(--level-${level})`;
}

// On a dark page the strong classes are the bright ones.
function paint(root, data) {
  const probe = tag("span");
  probe.style.cssText = "display:none;color:var(--st-background-color)";
  root.appendChild(probe);
  const [red, green, blue] = (getComputedStyle(probe).color.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  probe.remove();
  const colors = 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? data.dark : data.colors;
  colors.forEach((color, level) => root.style.setProperty(`--level-${level}`, color));
}

function legend(data, frames) {
  const box = tag("div", "legend"), words = data.words;
  const entry = (svg, text) => {
    const one = tag("span");
    one.append(svg, text);
    box.appendChild(one);
  };
  const scale = element("svg", { viewBox: "0 0 130 36", class: "scale", role: "img" });
  element("title", {}, scale, words.points);
  data.colors.forEach((_, level) =>
    element("polygon", { points: corners(10), transform: `translate(${13 + 26 * level} 11)`, style: `fill:${fill(level)};stroke:var(--dim);stroke-width:.6` }, scale));
  data.edges.forEach((edge, k) => element("text", { x: 26 + 26 * k, y: 34 }, scale, `${edge > 0 ? "+" : "−"}${Math.abs(edge)}`));
  const colors = tag("span");
  colors.append(tag("span", "", words.legend_fewer), scale, tag("span", "", words.legend_more));
  box.appendChild(colors);
  const sizes = element("svg", { viewBox: "0 0 60 24", "aria-hidden": "true" });
  [0.34, 0.66, 1].forEach((size, k) =>
    element("polygon", { points: corners(10 * size), transform: `translate(${8 + 20 * k} 12)`, style: "fill:none;stroke:currentColor" }, sizes));
  entry(sizes, words.legend_size);
  const one = (style, more) => {
    const svg = element("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
    const group = element("g", { transform: "translate(12 12)" }, svg);
    element("polygon", { points: corners(10), style }, group);
    if (more) element("path", { d: hatching(9), style: "stroke:currentColor;stroke-width:.9;fill:none" }, group);
    return svg;
  };
  entry(one(`fill:${fill(0)};fill-opacity:.38;stroke:var(--dim)`), words.legend_faded);
  entry(one("fill:none;stroke:var(--dim)", true), words.legend_hatched);
  if (frames.some((frame) => frame.cells.level.includes(-1)))
    entry(one("fill:none;stroke:var(--dim)"), words.legend_hollow);
  return box;
}

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  const root = parentElement.querySelector(".court");
  const signature = JSON.stringify([data.digest, data.words.play, data.marks]);
  if (root.dataset.signature === signature) {
    root.update?.(data, setStateValue, setTriggerValue);
    return root.dispose;
  }
  root.dataset.signature = signature;
  root.replaceChildren();
  const words = data.words, frames = JSON.parse(data.frames), [left, top, width, height] = data.box;
  percents = new Intl.NumberFormat(words.locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  counts = new Intl.NumberFormat(words.locale);
  let send = setTriggerValue, keep = setStateValue;
  let place = Math.max(0, frames.findIndex((frame) => frame.name === data.selected)), timer = null;

  const stage = tag("div", "stage");
  stage.style.setProperty("--ratio", `${width} / ${height}`);
  const svg = element("svg", { class: "plan", viewBox: data.box.join(" "), role: "img" });
  const title = element("title", {}, svg, words.title);
  title.id = "court-title";
  svg.setAttribute("aria-label", words.title);
  data.lines.forEach((d) => element("path", { class: "line", d }, svg));
  const hexes = element("g", {}, svg);
  data.outlines.forEach((d) => element("path", { class: "outline", d }, svg));
  const zones = element("g", {}, svg);
  const star = element("circle", { class: "star", r: 1.1, visibility: "hidden" }, svg);
  const tip = tag("div", "tip");
  stage.append(svg, tip);
  root.appendChild(stage);

  const known = new Map();
  function drawHexes(frame) {
    const cells = frame.cells, seen = new Set();
    cells.x.forEach((x, k) => {
      const name = `${x} ${cells.y[k]}`;
      seen.add(name);
      let group = known.get(name);
      if (!group) {
        group = element("g", { class: "cell", transform: `translate(${x} ${-cells.y[k]})` }, hexes);
        element("polygon", { points: corners(frame.radius), class: "hex", style: "transform:scale(0)" }, group);
        element("path", { class: "hatch", d: hatching(frame.radius * 0.92) }, group);
        known.set(name, group);
      }
      group.dataset.k = k;
      const [shape, hatch] = group.children, level = cells.level[k];
      shape.setAttribute("class", `hex${level < 0 ? " hollow" : ""}${cells.significant[k] ? "" : " faded"}`);
      shape.style.fill = fill(level);
      shape.style.transform = `scale(${cells.size[k]})`;
      // Lines in the color of the background are visible on the two strong classes only.
      hatch.setAttribute("class", `hatch${cells.significant[k] && (level === 0 || level === 4) ? " on-strong" : ""}`);
      hatch.style.transform = `scale(${cells.size[k]})`;
      hatch.style.display = cells.hatched[k] ? "" : "none";
    });
    for (const [name, group] of known) {
      if (seen.has(name)) continue;
      delete group.dataset.k;
      group.children[0].style.transform = "scale(0)";
      group.children[1].style.display = "none";
    }
  }
  function drawZones(frame) {
    zones.replaceChildren();
    const texts = frame.zones.filter((zone) => zone.labeled && zone.x !== null).map((zone) => {
      const text = element("text", { class: "zone", x: zone.x, y: -zone.y }, zones);
      element("tspan", { class: "rate", x: zone.x, dy: "-0.1em" }, text, percent(zone.rate));
      element("tspan", { class: "more" }, text, ` ${words.of} ${count(zone.n)}`);
      element("tspan", { class: "more", x: zone.x, dy: "1.35em" }, text, `${words.expected} ${percent(zone.expected)}`);
      return text;
    });
    // All sizes are read before anything changes them: one layout for all labels.
    texts.map((text) => text.getBBox()).forEach((area, k) => {
      const edge = area.height / 10;
      zones.insertBefore(element("rect", { class: "plate", x: area.x - edge, y: area.y, width: area.width + 2 * edge, height: area.height, rx: edge }), texts[k]);
    });
    body.replaceChildren(...frame.zones.map((zone) => {
      const row = tag("tr");
      row.append(tag("td", "", words.zones[zone.name] ?? zone.name), tag("td", "", percent(zone.rate)), tag("td", "", percent(zone.expected)), tag("td", "", count(zone.shots)));
      return row;
    }));
  }

  const bar = tag("div", "bar"), button = tag("button"), track = tag("div", "track"), slider = tag("input"), name = tag("span", "name");
  button.type = "button";
  slider.type = "range"; slider.min = 0; slider.max = frames.length - 1; slider.step = 1;
  slider.setAttribute("aria-label", words.season);
  track.appendChild(slider);
  if (frames.length > 1) {
    data.marks.forEach((mark) => {
      const at = frames.findIndex((frame) => frame.name === mark.frame);
      if (at < 0) return;
      const flag = tag("span", "mark", `▾ ${mark.label}`);
      flag.title = `${words.promotion}: ${mark.label}`;
      const part = at / (frames.length - 1);
      flag.style.left = `calc(${100 * part}% + ${8 - 16 * part}px)`;
      track.appendChild(flag);
    });
    bar.classList.toggle("marked", data.marks.length > 0);
    bar.append(button, track, name);
    root.appendChild(bar);
  }
  root.appendChild(legend(data, frames));
  const note = tag("div", "legend");
  root.appendChild(note);
  const details = tag("details"), body = tag("tbody"), table = tag("table"), head = tag("tr");
  details.appendChild(tag("summary", "", words.table));
  [words.zone, words.fg, words.expected, words.shots].forEach((word) => head.appendChild(tag("th", "", word)));
  const thead = tag("thead");
  thead.appendChild(head);
  table.append(thead, body);
  details.appendChild(table);
  root.appendChild(details);

  function draw() {
    const frame = frames[place], shown = frame.name || words.all;
    drawHexes(frame);
    drawZones(frame);
    name.textContent = shown;
    slider.value = place;
    slider.setAttribute("aria-valuetext", shown);
    const far = frame.not_drawn ? ` · ${count(frame.not_drawn)} ${words.not_drawn}` : "";
    note.textContent = `${count(frame.shots)} ${words.shots} · ${Math.round(100 * frame.out_of_support)}% ${words.support}${far} · ${words.click}`;
    svg.setAttribute("aria-label", `${words.title}, ${shown}: ${note.textContent}`);
  }
  function pause() {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", words.play);
    button.title = words.play;
  }
  function stop() {
    pause();
    keep("frame", frames[place].name);
  }
  function play() {
    if (place === 0 || place === frames.length - 1) place = Math.min(1, frames.length - 1);
    draw();
    button.textContent = "❚❚";
    button.setAttribute("aria-label", words.pause);
    button.title = words.pause;
    timer = setInterval(() => {
      place += 1;
      if (place >= frames.length) { place = 0; draw(); stop(); return; }
      draw();
    }, STEP_MILLISECONDS);
  }
  button.onclick = () => (timer ? stop() : play());
  slider.oninput = () => { pause(); place = Number(slider.value); draw(); };
  slider.onchange = stop;

  function point(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [at.x, -at.y];
  }
  svg.onclick = (event) => {
    const [x, y] = point(event);
    mark([x, y]);
    send("spot", { x: Math.round(x * 10) / 10, y: Math.round(y * 10) / 10, frame: frames[place].name });
  };
  svg.onpointermove = (event) => {
    const group = event.target.closest?.("g.cell"), frame = frames[place];
    if (!group || group.dataset.k === undefined) { tip.style.display = "none"; return; }
    const k = Number(group.dataset.k), cells = frame.cells;
    const lines = [`${count(cells.n[k])} ${words.shots}`];
    if (cells.labeled[k]) lines.push(`${words.fg} ${percent(cells.rate[k])} [${percent(cells.low[k])}, ${percent(cells.high[k])}]`, `${words.expected} ${percent(cells.expected[k])}`);
    else lines.push(words.without);
    if (cells.out_of_support[k] > 0) lines.push(`${Math.round(100 * cells.out_of_support[k])}% ${words.support}`);
    tip.replaceChildren(...lines.map((line) => tag("div", "", line)));
    tip.style.display = "block";
    const area = stage.getBoundingClientRect();
    const x = event.clientX - area.left, y = event.clientY - area.top;
    tip.style.left = `${Math.min(x + 14, area.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(0, y - tip.offsetHeight - 10)}px`;
  };
  svg.onpointerleave = () => { tip.style.display = "none"; };
  function mark(spot) {
    star.setAttribute("visibility", spot ? "visible" : "hidden");
    if (spot) { star.setAttribute("cx", spot[0]); star.setAttribute("cy", -spot[1]); }
  }
  // The size of a label depends on that of the court.
  let drawn = 0;
  const scale = () => {
    drawn = stage.clientWidth;
    root.style.setProperty("--u", width / Math.max(drawn, 1));
  };
  const observer = new ResizeObserver(() => {
    if (stage.clientWidth === drawn) return;
    scale();
    drawZones(frames[place]);
  });
  observer.observe(stage);
  scale();
  paint(root, data);
  pause();
  mark(data.spot);
  draw();
  root.update = (later, laterKeep, laterSend) => {
    paint(root, later);
    keep = laterKeep;
    send = laterSend;
    mark(later.spot);
  };
  root.dispose = () => { clearInterval(timer); observer.disconnect(); delete root.dataset.signature; };
  return root.dispose;
}
