const isLong = (t) => texts[t].ids.length > 24;  // then weights are small: four decimals
const formatStep = (step, t, x) => format(x, step === "weights" && isLong(t));
const STEP_NAMES = { scores: ["score", "점수"], scaled: ["scaled score", "스케일링된 점수"],
  masked: ["masked score", "마스킹된 점수"], weights: ["weight", "가중치"] };

class Matrix {  // one head's n x n numbers; arrows or the mouse read a cell, Enter or a click picks its row
  constructor(t, step) {
    Object.assign(this, { t, step, n: texts[t].ids.length, cell: null });
    this.canvas = el("canvas", { tabindex: "0", role: "application", onkeydown: (e) => this.key(e),
      onmousemove: (e) => this.move(e), onmouseleave: () => this.point(null),
      onblur: () => this.point(null), onclick: (e) => { this.move(e); this.pick(); },
      "data-matrix": `${step}-${t}` });
    this.readout = el("p", { class: "read", "aria-live": "polite" }, this.note());
    this.node = el("div", { class: "matrix" }, this.canvas, this.readout);
  }
  draw() {
    const { canvas, n, t, step } = this, values = attention(t, step);
    const width = Math.min(canvas.parentNode.clientWidth || 400, n === 1 ? 180 : 99999);
    const labels = n <= 40, context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    const font = 'system-ui, "Segoe UI", "Malgun Gothic", "Noto Sans CJK KR", sans-serif';
    context.font = `bold 11px ${font}`;  // as the picked label is drawn: bold is wider
    const wide = labels ? Math.min(92, width / 4, 10 + Math.max(...texts[t].ids.map((id) =>
      context.measureText(visible(id)).width))) : 6;
    const right = labels ? Math.max(14, Math.min(wide, context.measureText(tokenAt(t, n - 1)).width) * 0.72) : 2;
    const size = Math.min(48, (width - wide - right) / n), high = labels ? wide * 0.72 + 6 : 6;
    Object.assign(this, { size, wide, high });
    canvas.style.width = width + "px";
    canvas.style.height = (high + n * size + 3) + "px";
    canvas.width = width * ratio;
    canvas.height = (high + n * size + 3) * ratio;
    context.scale(ratio, ratio);
    context.textBaseline = "middle";
    const [ink, soft, card, band, line, accent, pos, neg] = ["--ink", "--soft", "--card", "--band",
      "--line", "--accent", "--pos", "--neg"].map(shade);
    const clip = (text) => {
      while (context.measureText(text).width > wide - 8 && text.length > 1) text = text.slice(0, -2) + "…";
      return text;
    };
    const picked = state.tokens[t];
    if (labels) texts[t].ids.forEach((id, i) => {
      context.font = `${i === picked ? "bold " : ""}11px ${font}`;
      context.fillStyle = ink;
      context.textAlign = "right";
      context.fillText(clip(visible(id)), wide - 6, high + (i + 0.5) * size);
      context.save();
      context.translate(wide + (i + 0.5) * size, high - 5);
      context.rotate(-Math.PI / 4);
      context.textAlign = "left";
      context.fillText(clip(visible(id)), 0, 0);
      context.restore();
    });
    let top = 0;
    values.forEach((x) => { if (x > -1e9) top = Math.max(top, Math.abs(x)); });
    const tops = Array.from({ length: n }, (_, i) => isLong(t) ? Math.max(...values.subarray(i * n, i * n + n)) : 1);
    const gap = size > 8 ? 1 : 0, shades = {};
    for (const [name, colour] of Object.entries({ accent, pos, neg })) {
      shades[name] = Array.from({ length: 65 }, (_, k) => mix(card, colour, name === "accent" ? 0.04 + 0.9 * k / 64 : 0.65 * k / 64));
    }
    let longest = "0";  // as wide as the longest number; numbers need some room
    if (size > 16) for (const x of values) if (x > -1e9) longest = longest.padEnd(formatStep(step, t, x).length, "0");
    const figures = size > 16 && [11, 10, 9, 8, 7.5].map((px) => `${px}px ui-monospace, Consolas, "DejaVu Sans Mono", monospace`)
      .find((figures) => { context.font = figures; return context.measureText(longest).width < size - 2; });
    context.textAlign = "center";
    const image = gap ? null : new ImageData(n, n);  // many small cells: a picture of a dot each
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
      const x = values[i * n + j], left = wide + j * size, down = high + i * size;
      const hidden = j > i && (step === "masked" || step === "weights");
      const a = hidden ? 0 : step === "weights" ? x / tops[i] : Math.abs(x) / (top || 1);
      const fill = hidden ? band : shades[step === "weights" ? "accent" : x < 0 ? "neg" : "pos"][Math.round(64 * a)];
      if (image) {
        const [r, g, b] = channels(fill);
        image.data.set([r, g, b, 255], 4 * (i * n + j));
        continue;
      }
      context.fillStyle = fill;
      context.fillRect(left, down, size - gap, size - gap);
      if (hidden && size > 14) {  // what may not be looked at is crossed out
        context.strokeStyle = line;
        context.beginPath();
        context.moveTo(left + 3, down + size - 4);
        context.lineTo(left + size - 4, down + 3);
        context.stroke();
      }
      if (figures && !hidden) {
        context.font = figures;
        context.fillStyle = readable(fill, ink, shade("--on-accent"));
        context.fillText(formatStep(step, t, x), left + size / 2, down + size / 2);
      }
    }
    if (image) {
      const dots = el("canvas", { width: n, height: n });
      dots.getContext("2d").putImageData(image, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(dots, wide, high, n * size, n * size);
    }
    context.strokeStyle = ink;
    context.lineWidth = 2;
    context.strokeRect(wide - 1, high + picked * size - 1, n * size + 1, size + 1);
    if (this.cell) {
      context.strokeStyle = accent;
      context.lineWidth = 3;
      context.strokeRect(wide + this.cell[1] * size, high + this.cell[0] * size, size, size);
    }
    canvas.setAttribute("aria-label", say(
      `${STEP_NAMES[step][0]} matrix, ${n} by ${n}, text ${t + 1}: arrow keys read a cell, Enter picks its row`,
      `${STEP_NAMES[step][1]} 행렬, ${n}×${n}, 문장 ${t + 1}: 화살표로 칸을 읽고 Enter로 그 행을 고릅니다`));
  }
  point(cell) {
    if (String(cell) === String(this.cell)) return;
    this.cell = cell;
    this.readout.textContent = cell ? "" : this.note();
    if (cell) {
      const [i, j] = cell, x = attention(this.t, this.step)[i * this.n + j];
      this.readout.append(`${tokenAt(this.t, i)} → ${tokenAt(this.t, j)}: `,
        el("span", { class: "num" }, formatStep(this.step, this.t, x)));
    }
    this.draw();
  }
  note() {
    return this.step === "weights" && isLong(this.t) ? say("In a long text, a colour is relative to its row's largest weight.",
      "긴 문장에서는 행마다 가장 큰 가중치에 견준 색입니다.") : "";
  }
  move(event) {
    const box = this.canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - this.wide) / this.size);
    const i = Math.floor((event.clientY - box.top - this.high) / this.size);
    this.point(i >= 0 && j >= 0 && i < this.n && j < this.n ? [i, j] : null);
  }
  key(event) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter" || event.key === " ") { this.pick(); event.preventDefault(); }
    if (!by) return;
    event.preventDefault();
    const [i, j] = this.cell || [state.tokens[this.t], by[1] ? -by[1] : 0];
    const within = (x) => Math.min(this.n - 1, Math.max(0, x));
    this.point(this.cell ? [within(i + by[0]), within(j + by[1])] : [i, 0]);
  }
  pick() { if (this.cell) pickToken(this.t, this.cell[0]); }
}

function heaviest(t, i, most) {  // the tokens that token i looks at, the most weight first
  const n = texts[t].ids.length, weights = attention(t, "weights").subarray(i * n, i * n + i + 1);
  return [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b).slice(0, most).map((j) => [j, weights[j]]);
}

function rowOf(t, step) {  // the picked token's row of a matrix, as numbers
  const n = texts[t].ids.length, i = state.tokens[t], most = 24;
  const row = [...attention(t, step).subarray(i * n, i * n + n)];
  const shown = n > most ? heaviest(t, i, most).map(([j]) => j).sort((a, b) => a - b) : row.map((_, j) => j);
  const top = Math.max(...row.map((x) => x > -1e9 ? Math.abs(x) : 0)) || 1;
  return el("div", { class: "row", "data-row": `${step}-${t}` },
    el("h3", {}, say("The row of ", "고른 토큰의 행: "), el("span", { class: "tok" }, tokenAt(t, i)),
      n > most ? say(` (the ${most} that get most weight, of ${n})`, ` (${n}개 중 가중치가 큰 ${most}개)`) : ""),
    el("ol", {}, shown.map((j) => {
      const x = row[j], a = x <= -1e9 ? 0 : Math.abs(x) / (step === "weights" ? 1 : top);
      return el("li", { "data-key": j, style: `--a: ${a.toFixed(3)}; --tint: var(${
        step === "weights" ? "--accent" : x < 0 ? "--neg" : "--pos"})` },
        el("span", { class: "tok" }, tokenAt(t, j)), el("span", { class: "num" }, formatStep(step, t, x)));
    })));
}

function arcsOf(t) {
  const line = el("div", { class: "line" }, texts[t].ids.map((id, i) => el("button",
    { onclick: () => pickToken(t, i), "data-arc-token": `${t}-${i}` }, el("span", { class: "tok" }, visible(id)))));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say(`attention as arcs, text ${t + 1}`, `곡선으로 그린 어텐션, 문장 ${t + 1}`) },
    el("div", { class: "arcs", id: `arcs-${t}` }, el("svg", { role: "img" }), line));
}

function drawArcs(t) {  // from the picked token to what it looks at: the thicker, the more weight
  const box = $(`arcs-${t}`), i = state.tokens[t], svg = box.querySelector("svg");
  const buttons = [...box.querySelectorAll("button")], places = buttons.map((b) => b.offsetLeft + b.offsetWidth / 2);
  const looks = heaviest(t, i, 24).filter(([, w]) => w >= 0.002);
  const reach = Math.max(...looks.map(([j]) => places[i] - places[j]));
  const height = Math.min(170, 46 + reach * 0.3), width = buttons.at(-1).offsetLeft + buttons.at(-1).offsetWidth + 40;  // room for the last token's own weight
  svg.replaceChildren();
  svg.setAttribute("width", width);
  box.parentNode.scrollLeft = places[i] - box.parentNode.clientWidth * 0.7;  // now that it is as wide
  svg.setAttribute("height", height);
  svg.setAttribute("aria-label", looks.map(([j, w]) => `${tokenAt(t, j)} ${formatStep("weights", t, w)}`).join(", "));
  const written = [];
  for (const [j, w] of looks) {
    const a = places[i], b = places[j], up = 18 + (height - 40) * (a - b) / (reach || 1);
    const own = `M${a - 9} ${height}C${a - 16} ${height - 34} ${a + 16} ${height - 34} ${a + 9} ${height}`;
    svg.append(el("path", { fill: "none", stroke: "var(--accent)", "stroke-linecap": "round", "stroke-width": 1 + 9 * w, opacity: 0.35 + 0.65 * w,
      d: i === j ? own : `M${a} ${height}C${a} ${height - up * 1.33} ${b} ${height - up * 1.33} ${b} ${height}` }));
    const x = i === j ? a + 15 : b;
    if (written.length < 8 && written.every((other) => Math.abs(other - x) > 34)) {
      svg.append(el("text", { x, y: height - (i === j ? 16 : 4), "text-anchor": i === j ? "start" : "middle", "paint-order": "stroke",
        stroke: "var(--paper)", "stroke-width": 4 }, formatStep("weights", t, w)));
      written.push(x);
    }
  }
}
