// ---- the whole at a glance: the way from tokens to a prediction, every head on it as a picture

const thumbnails = new Map();
function thumbnail(t, block, head) {  // one head's weights as an n x n picture
  const name = document.documentElement.dataset.theme, key = [t, block, head, name].join();
  if (!thumbnails.has(key)) {
    const n = texts[t].ids.length, { weights } = attentionOf(t, block, head);
    const dots = el("canvas", { width: n, height: n }), image = new ImageData(n, n);
    const shades = Array.from({ length: 65 }, (_, k) => channels(mix(shade("--card"), shade("--accent"), 0.04 + 0.96 * k / 64)));
    const hidden = channels(shade("--band"));
    for (let i = 0; i < n; i++) {
      const row = weights.subarray(i * n, i * n + n), top = isLong(t) ? Math.max(...row) : 1;
      for (let j = 0; j < n; j++) image.data.set([...(j > i ? hidden : shades[Math.round(64 * row[j] / top)]), 255], 4 * (i * n + j));
    }
    dots.getContext("2d").putImageData(image, 0, 0);
    thumbnails.set(key, dots);
  }
  return thumbnails.get(key);
}

const effectOf = (t, block, head) => texts[t].effects[block][head];
const strips = [];

class Strip {  // the heads of one block, side by side; arrows move, and a press picks
  constructor(t, block) {
    Object.assign(this, { t, block });
    this.canvas = el("canvas", { role: "application", "data-strip": `${t}-${block}`,
      onkeydown: (e) => this.key(e), onclick: (e) => this.pick(this.at(e)), onmousemove: (e) => { this.canvas.title = this.name(this.at(e)); } });
    strips.push(this);
  }
  name(head) { return say(`block ${this.block}, head ${head}`, `블록 ${this.block}, 헤드 ${head}`); }
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return Math.min(config.n_head - 1, Math.max(0, Math.floor((event.clientX - box.left) / this.size)));
  }
  key(event) {
    const [down, right] = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const within = (x, n) => Math.min(n - 1, Math.max(0, x));
    state.block = within(this.block + down, config.n_layer);
    this.pick(within(state.head + right, config.n_head), state.block);
    strips.find((strip) => strip.t === this.t && strip.block === state.block).canvas.focus();
  }
  pick(head, block = this.block) { Object.assign(state, { block, head }); update(); }
  draw() {
    const { canvas, t, block } = this, n = config.n_head, ratio = window.devicePixelRatio || 1;
    const on = block === state.block, room = canvas.parentNode.clientWidth;
    const size = this.size = Math.max(4, Math.min(58, room / n)), gap = size > 14 ? 5 : 1, bar = size > 14 ? 4 : 2;
    canvas.style.width = n * size + "px";
    canvas.style.height = size + bar + "px";
    canvas.width = n * size * ratio;
    canvas.height = (size + bar) * ratio;
    canvas.tabIndex = on ? 0 : -1;
    canvas.setAttribute("aria-label", say(`heads of block ${block}, text ${t + 1}: arrow keys pick a head; picked: ${state.block}, ${state.head}`,
      `블록 ${block}의 헤드, 문장 ${t + 1}: 화살표로 헤드를 고릅니다. 고른 헤드: ${state.block}, ${state.head}`));
    const context = canvas.getContext("2d"), top = Math.max(...texts[t].effects.flat().map(Math.abs)) || 1;
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = texts[t].ids.length > size;
    for (let head = 0; head < n; head++) {
      const left = head * size + gap / 2, side = size - gap, effect = effectOf(t, block, head) / top;
      context.drawImage(thumbnail(t, block, head), left, gap / 2, side, side);
      context.fillStyle = shade(effect < 0 ? "--neg" : "--pos");
      context.fillRect(left, size - gap / 2 + 1, side * Math.abs(effect), bar);
      if (!(on && head === state.head)) continue;
      context.strokeStyle = shade("--ink");
      context.lineWidth = size > 14 ? 2.5 : 1.5;
      context.strokeRect(left - 1, gap / 2 - 1, side + 2, side + 2);
    }
  }
}

function wayOf(t) {
  const order = orderOf(t), p = spread(t, 1), { ids } = texts[t];
  const blocks = Array.from({ length: config.n_layer }, (_, i) => config.n_layer - 1 - i);
  return el("div", { class: "way", "data-way": t },
    jump("next", { class: "stage out" }, el("span", { class: "name" }, say("probabilities", "확률")),
      el("span", { class: "tokens" }, [0, 1, 2].filter((k) => k < order.length).map((k) =>
        el("span", { class: "chip" }, el("span", { class: "tok" }, visible(order[k])), " ", el("span", { class: "num" }, percent(p[k])))))),
    jump("lens", { class: "stage" }, el("span", { class: "name" }, say("logits", "로그잇")), el("span", { class: "num" }, `ln_f(y) · ${outputMatrix}ᵀ → [${count(vocab.length)}]`)),
    blocks.map((block) => el("div", { class: "stage block" },
      el("button", { class: "name", "data-block": block, onclick: () => { state.block = block; update(); } }, say(`block ${block}`, `블록 ${block}`)),
      el("div", { class: "strip" }, new Strip(t, block).canvas),
      el("span", { class: "after" }, jump("qkv", { onclick: () => { state.block = block; update(); } }, say("attention", "어텐션")), " + ",
        jump("ffn", { onclick: () => { state.block = block; update(); } }, say("feed-forward", "피드포워드"))))),
    jump("embed", { class: "stage" }, el("span", { class: "name" }, say("embeddings", "임베딩")), el("span", { class: "num" }, `wte + wpe → [${ids.length}, ${config.n_embd}]`)),
    jump("tokens", { class: "stage" }, el("span", { class: "name" }, say("tokens", "토큰")),
      el("span", { class: "tokens" }, wordsOf(t).map(({ text }) => el("span", { class: "chip tok" }, text)))));
}

function headReading(t, i) {  // what the picked head does for the picked token, in a sentence
  const { block, head } = state, [[j, w]] = heaviest(t, i, 1), [id, p] = unchangedBest(t), best = visible(id);
  const without = percent(Math.min(1, p * Math.exp(-effectOf(t, block, head))));
  const now = percent(spread(t, 1)[orderOf(t).indexOf(id)]);
  const what = live && isSilenced(block, head)
    ? say(`It is silenced: “${best}” comes next with ${now} now, ${percent(p)} with nothing changed. What is left is carried by other heads.`,
      `지금은 꺼져 있습니다. 다음에 “${best}”가 올 확률은 아무것도 바꾸지 않았을 때 ${percent(p)}, 지금 ${now}입니다. 남은 확률은 다른 헤드들이 만듭니다.`)
    : say(`By a first estimate from the gradient, “${best}” would come next with ${without} without this head, instead of ${percent(p)}. Silence it to see what becomes of it: it may be far more or less.`,
      `그래디언트로 거칠게 어림하면, 다음에 “${best}”가 올 확률은 이 헤드가 없을 때 ${percent(p)}에서 ${without}로 바뀝니다. 헤드를 꺼서 실제로 얼마나 달라지는지 확인해 보세요. 어림과 많이 다를 수도 있습니다.`);
  return [el("p", { class: "reading", "aria-live": "polite", "data-reading": t }, say(
    `Block ${block}, head ${head}: ${tokenAt(t, i)} looks most at ${tokenAt(t, j)} (${format(w)}). ${what}`,
    `블록 ${block}, 헤드 ${head}: ${tokenAt(t, i)} 토큰은 ${tokenAt(t, j)} 토큰을 가장 많이 봅니다(${format(w)}). ${what}`)),
    el("p", {}, jump("weights", { class: "go" }, say("See its weights large ↓", "가중치 크게 보기 ↓")), " ", live && live.silenceButton(block, head, t, true))];
}
function unchangedBest(t) {  // what an unchanged model puts first, and how likely
  const order = ranked(texts[t].before || texts[t].logits);
  return [order[1][0], softmaxInOrder(order, 1)[0]];
}
