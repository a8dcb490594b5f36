// ---- the next token: generation.distribution, step by step

const sorted = new Map();  // {packed logits: [the logits, ids with the likeliest first]}
function ranked(packed) {
  if (!sorted.has(packed)) {
    const logits = unpack(packed, 0, vocab.length, 4);
    sorted.set(packed, [logits, Uint32Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b)]);
  }
  return sorted.get(packed);
}
const orderOf = (t) => ranked(texts[t].logits)[1];

function softmaxInOrder([logits, order], temperature) {
  const best = logits[order[0]];
  const e = Float64Array.from(order, (id) => Math.exp((logits[id] - best) / temperature)), sum = e.reduce((a, b) => a + b);
  return e.map((x) => x / sum);
}

function spread(t, temperature) {  // probabilities in the order of the likeliest
  if (temperature === 0) return Float64Array.from(orderOf(t), (_, i) => i ? 0 : 1);
  return softmaxInOrder(ranked(texts[t].logits), temperature);
}

function filtered(t) {  // how many of the likeliest stay in, and their probabilities, before and after
  const [logits, order] = ranked(texts[t].logits), before = spread(t, state.temperature), n = before.length;
  let stay = state.temperature === 0 ? 1 : n;
  if (state.top_k && state.top_k < stay) {
    stay = state.top_k;
    while (stay < n && logits[order[stay]] === logits[order[stay - 1]]) stay++;
  }
  const inK = before.subarray(0, stay).reduce((a, b) => a + b);
  let tail = 0;
  while (state.top_p < 1 && stay > 1 && (tail += before[stay - 1] / inK) <= 1 - state.top_p) stay--;
  const mass = before.subarray(0, stay).reduce((a, b) => a + b);
  return { before, stay, after: before.map((p, i) => i < stay ? p / mass : 0) };
}

function samplingControls(t) {
  if (t > 0) return null;
  const slider = (name, label, low, high, step) => el("div", {}, el("label", { for: name }, label), el("output", { id: name + "-out", for: name }),
    el("input", { type: "range", id: name, min: low, max: high, step, value: state[name], oninput: (e) => { state[name] = +e.target.value; update("next"); } }));
  return [el("div", { class: "controls" },
    slider("temperature", say("temperature", "온도 (temperature)"), 0, 2, 0.05), slider("top_k", "top-k", 0, 100, 1), slider("top_p", "top-p", 0.05, 1, 0.01)),
  el("div", { class: "find" },
    el("label", { for: "find" }, say("find a token", "토큰 찾기")),
    el("input", { type: "search", id: "find", value: state.find, size: 12, oninput: (e) => { state.find = e.target.value; update("next"); } }),
    el("button", { id: "draw", onclick: () => { state.drawn = texts.map((_, k) => draw(k)); update("next"); } }, say("Draw one", "하나 뽑기")),
    el("button", { id: "reset", onclick: () => { Object.assign(state, { temperature: 1, top_k: 0, top_p: 1, find: "", drawn: [] });
      for (const name of ["temperature", "top_k", "top_p", "find"]) $(name).value = state[name]; update("next"); } }, say("Reset", "초기화")))];
}

function draw(t) {
  const { after, stay } = filtered(t);
  let left = Math.random(), i = 0;
  while (i < stay - 1 && (left -= after[i]) > 0) i++;
  return orderOf(t)[i];
}

function nextTokens(t, room) {
  const { before, after, stay } = filtered(t), own = spread(t, 1), order = orderOf(t), n = before.length, rows = [];
  const mass = own.subarray(0, stay).reduce((a, b) => a + b);
  const wanted = state.find.trim();
  const found = wanted ? [...order.keys()].filter((i) => plain(order[i]).trim() === wanted).slice(0, 5) : [];
  const shown = Array.from({ length: Math.min(15, n) }, (_, i) => i);
  const top = Math.max(after[0], own[0]);
  const item = (i) => bar(visible(order[i]), after[i] / top, i < stay ? percent(after[i]) : say("out", "제외"),
    { out: i >= stay, was: own[i] / top, key: i, act: live && live.appendButton(t, order[i], `candidate-${t}-${i}`) });
  rows.push(el("p", { "data-stay": t }, say(`${count(stay)} of ${count(n)} tokens stay in; the model itself gives them ${percent(mass)} together.`,
    `토큰 ${count(n)}개 중 ${count(stay)}개가 남습니다. 모델이 이들에 준 확률의 합은 ${percent(mass)}입니다.`)));
  if (live) rows.push(el("p", { class: "whose" }, say("Press a token to put it at the end of the sentence.", "토큰을 누르면 문장 끝에 추가됩니다.")));
  rows.push(el("ol", { class: "bars", style: "--name: 7rem", "data-next": t }, shown.map(item)));
  rows.push(el("p", { "aria-live": "polite" }, wanted && !found.length ? say(`No token is “${wanted}”: it is several, or none.`, `“${wanted}”: 이와 똑같은 토큰이 없습니다(여러 토큰으로 나뉩니다).`)
    : found.map((i) => `${visible(order[i])}: ${say("rank", "순위")} ${count(i + 1)}, ${percent(own[i])} → ${i < stay ? percent(after[i]) : say("out", "제외")}. `).join("")));
  if (state.drawn.length) rows.push(el("p", { "aria-live": "polite", "data-drawn": t }, say("Drawn: ", "뽑은 토큰: "), el("b", { class: "tok" }, visible(state.drawn[t])),
    " ", live && live.appendButton(t, state.drawn[t], `append-drawn-${t}`, say("Put it at the end", "문장 끝에 붙이기"))));
  rows.push(rankCurve(before, stay, room));
  return rows;
}

function rankCurve(before, stay, room) {  // the whole distribution: probabilities added up, the likeliest first
  const n = before.length, x = (rank) => 46 + (room - 70) * Math.log(rank) / Math.log(Math.max(n, 2)), y = (p) => 150 - 130 * p;
  let sum = 0, path = "";
  for (let i = 0, next = 1; i < n; i++) {
    sum += before[i];
    if (i + 1 >= next || i === n - 1) { path += `${path ? "L" : "M"}${x(i + 1).toFixed(1)} ${y(sum).toFixed(1)}`; next = (i + 1) * 1.04; }
  }
  const marks = [1, 10, 100, 1000, 10000].filter((rank) => rank <= n);
  return el("svg", { viewBox: `0 0 ${room} 190`, class: "chart", role: "img", "aria-label": say(`probabilities added up from the likeliest token on; ${stay} of ${n} stay in`, `확률이 높은 토큰부터 더한 확률; ${n}개 중 ${stay}개가 남음`) },
    el("path", { d: `M${x(1)} ${y(0)}H${x(stay)}V${y(1)}H${x(1)}Z`, fill: "var(--band)" }),
    [0, 0.5, 1].map((p) => [el("line", { x1: 42, x2: room - 20, y1: y(p), y2: y(p), stroke: "var(--line)" }), el("text", { x: 36, y: y(p) + 4, "text-anchor": "end", class: "soft" }, percent(p).replace(".0", ""))]).flat(),
    el("path", { d: path, fill: "none", stroke: "var(--accent)", "stroke-width": 2.5 }),
    el("line", { x1: x(stay), x2: x(stay), y1: y(1) - 8, y2: y(0), stroke: "var(--k)", "stroke-width": 2, "stroke-dasharray": "5 3" }),
    marks.map((rank) => el("text", { x: x(rank), y: 168, "text-anchor": "middle", class: "soft" }, count(rank))),
    el("text", { x: room / 2, y: 186, "text-anchor": "middle", class: "soft" }, say("rank (shaded: what stays in)", "순위 (칠한 곳: 남는 것)")));
}
