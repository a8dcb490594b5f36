// ---- one step of learning: python -m picogpt.explain "..." --learn

const lessons = () => DATA.learning;
const pOf = (loss) => percent(Math.exp(-loss));
const exact = (x) => x === 0 ? "0" : (Math.abs(x) >= 0.001 && Math.abs(x) < 1000 ? x.toPrecision(5) : x.toExponential(3)).replace(/-/g, "−");
const mean = (row) => row.reduce((a, b) => a + b, 0) / row.length;

const LEARNING_STEPS = [
  {
    id: "learn-loss", only: lessons, whole: true, en: "Learning 1/5: what was wrong", ko: "학습 1/5: 무엇이 틀렸나",
    shape: () => `[${lessons().ids.length - 1}]`,
    goes: ["logits, ids", "loss"],
    source: [[src("backprop", "softmax_cross_entropy_in_place", "at_target =", 4)]],
    text: () => say("Training shows the model the sentence and asks for every next token at once. The loss of a place is −log p(true next token); their mean is what one step of learning tries to lower. The last column is the loss after that one step; a place may get worse while the mean falls. A copy of the model learns, with no head silenced: what the page shows elsewhere stays.",
      "학습에서는 모델에 문장을 주고 모든 자리의 다음 토큰을 한꺼번에 묻습니다. 한 자리의 손실은 −log p(실제 다음 토큰)이고, 학습 한 단계는 그 평균을 낮추려 합니다. 마지막 열은 그 한 단계 뒤의 손실입니다. 평균이 낮아져도 어떤 자리는 나빠질 수 있습니다. 학습하는 것은 헤드를 끄지 않은 모델의 복사본이므로, 페이지의 다른 곳은 그대로입니다."),
    fill: learnedTable,
  },
  {
    id: "learn-gradient", only: lessons, whole: true, en: "Learning 2/5: the gradient", ko: "학습 2/5: 그래디언트",
    shape: () => `[${config.n_layer}, ${lessons().step.norms.parts.length}]`,
    goes: ["loss", "dw"],
    source: [[src("gradients", "linear_backward", "dw =", 2)], [src("backprop", "stack_backward", "for i in reversed", 6)]],
    text: () => say("The gradient says, for every one of the model's weights, how the loss would change if that weight grew. It is found by the chain rule, from the last block back to the first. The table shows its norm in every part of every block: where the sentence pulls most.",
      "그래디언트는 모델의 가중치 하나하나에 대해, 그 가중치가 커지면 손실이 어떻게 달라지는지 나타냅니다. 연쇄 법칙으로 마지막 블록에서 첫 블록까지 거슬러 올라가며 계산합니다. 표는 각 블록, 각 부분의 그래디언트 노름입니다. 이 문장이 모델의 어느 부분을 가장 크게 바꾸려 하는지 보여 줍니다."),
    fill: gradientTable,
  },
  {
    id: "learn-check", only: lessons, whole: true, en: "Learning 3/5: one gradient, checked", ko: "학습 3/5: 그래디언트 하나 검산",
    shape: () => "1",
    goes: ["w", "dw"],
    source: [[src("teaching.learning", "finite_difference", "up, down =", 2)]],
    text: () => say("Is it right? Move one weight by h to either side, run the whole model twice, and see how the loss changes: that slope must be the gradient's entry.",
      "맞는 값일까요? 가중치 하나를 양쪽으로 h만큼 옮겨 모델 전체를 두 번 실행하고 손실의 변화를 봅니다. 그 기울기가 그래디언트의 값과 같아야 합니다."),
    fill: checkedEntry,
  },
  {
    id: "learn-step", only: lessons, whole: true, en: "Learning 4/5: AdamW's step", ko: "학습 4/5: AdamW의 한 단계",
    shape: () => "w → w",
    goes: ["w, dw", "w"],
    source: [[src("optim", "adamw", "m += (1", 5)]],
    text: () => say("AdamW keeps a running mean of the gradient, m, and of its square, v. At the first step both, corrected for having started at 0, are the gradient and its square, so that m̂ / √v̂ is its sign: every weight moves by the learning rate, whether its gradient is large or small. The decay λ shrinks the weight by itself.",
      "AdamW는 그래디언트의 이동 평균 m과 그 제곱의 이동 평균 v를 유지합니다. 첫 단계에서는 0에서 시작한 것을 보정하면 그래디언트와 그 제곱이 되므로 m̂ / √v̂은 부호입니다. 그래디언트가 크든 작든 모든 가중치가 학습률만큼 움직입니다. 감쇠 λ는 가중치 자체를 줄입니다."),
    fill: adamwTable,
  },
  {
    id: "learn-more", only: lessons, whole: true, en: "Learning 5/5: twenty steps", ko: "학습 5/5: 스무 단계 뒤",
    shape: () => `${lessons().losses.length - 1} ×`,
    goes: ["w", "w"],
    source: [[src("teaching.learning", "learn", "optim.adamw", 1)]],
    text: () => say("The same sentence again and again: the model learns it by heart. What becomes of another sentence that it isn't shown? At first it may gain from what the two have in common; then it is forgotten. Real training therefore shows each sentence seldom, among many others.",
      "같은 문장을 되풀이해 학습하면 모델은 그 문장을 외웁니다. 보여 주지 않은 다른 문장은 어떻게 될까요? 처음에는 두 문장의 공통점 덕분에 손실이 줄 수도 있지만, 곧 잊힙니다. 그래서 실제 학습에서는 수많은 문장을 섞어 한 문장을 드물게 보여 줍니다."),
    fill: (t, i, room) => twentySteps(room),
  },
];

function learnedTable() {
  const { ids, losses } = lessons(), [before, after] = losses;
  return [el("p", { "data-learned": "" }, say(`Mean loss: ${format(mean(before))} before, ${format(mean(after))} after one step.`, `평균 손실: 한 단계 전 ${format(mean(before))}, 뒤 ${format(mean(after))}.`)),
    scrolled(say("losses before and after one step", "한 단계 전후의 손실"), el("table", { "data-table": "learned" },
      el("thead", {}, el("tr", {}, [say("after", "이 토큰 뒤"), say("true next", "실제 다음"), say("p before", "확률 (전)"), say("loss before", "손실 (전)"),
        say("p after", "확률 (후)"), say("loss after", "손실 (후)")].map(column))),
      el("tbody", {}, before.map((loss, i) => el("tr", {},
        el("th", { scope: "row", class: "tok" }, visible(ids[i])), el("td", { class: "tok" }, visible(ids[i + 1])),
        el("td", { class: "num" }, pOf(loss)), el("td", { class: "num" }, format(loss)),
        el("td", { class: "num" }, pOf(after[i])), el("td", { class: "num" }, format(after[i])))))))];
}

function gradientTable() {
  const { parts, blocks, ends, all } = lessons().step.norms, top = Math.max(...blocks.flat());
  const cell = (x) => el("td", { class: "p", style: `--a: ${Math.min(1, x / top).toFixed(3)}` }, el("span", { class: "num" }, exact(x)));
  return [scrolled(say("gradient norms", "그래디언트 노름"), el("table", { "data-table": "gradients" },
    el("thead", {}, el("tr", {}, column(say("block", "블록")), parts.map((part) => column(el("code", {}, part))))),
    el("tbody", {}, blocks.map((row, i) => ({ row, i })).reverse().map(({ row, i }) => el("tr", {}, el("th", { scope: "row" }, String(i)), row.map(cell)))))),
    el("p", {}, Object.entries(ends).map(([name, x]) => `${name} ${exact(x)}`).join(" · "), " · ", say(`all together ${exact(all)}`, `전체 ${exact(all)}`))];
}

function checkedEntry() {
  const { block, places: [[row, at]], gradients: [g], before: [w], checked } = lessons().step;
  const third = Math.floor(at / config.n_embd), head = Math.floor(at % config.n_embd / d);
  return el("div", { class: "worked num", "data-checked": "" },
    el("p", {}, say(`The weight: block ${block}, attn.c_attn.w[${row}, ${at}] = ${exact(w)}: component ${row} of ln_1 on its way into ${"QKV"[third]} of head ${head}.`,
      `가중치: 블록 ${block}, attn.c_attn.w[${row}, ${at}] = ${exact(w)}. ln_1의 ${row}번 성분을 헤드 ${head}의 ${"QKV"[third]}로 보내는 가중치입니다.`)),
    el("p", {}, `(L(w + h) − L(w − h)) / 2h = (${checked.up.toFixed(8)} − ${checked.down.toFixed(8)}) / ${2 * checked.h} = `, el("b", {}, exact(checked.slope))),
    el("p", {}, say("the gradient's entry, by the chain rule: ", "연쇄 법칙으로 구한 값: "), el("b", {}, exact(g))));
}

function adamwTable() {
  const { rate, decay, step: { block, places, before, gradients, after } } = lessons();
  const moved = (k) => rate * (after.m[k] / 0.1) / (Math.sqrt(after.v[k] / 0.001) + 1e-8);
  return [scrolled(say("one step of AdamW", "AdamW 한 단계"), el("table", { "data-table": "adamw" },
    el("thead", {}, el("tr", {}, [`blocks.${block}.attn.c_attn.w`, say("w before", "w (전)"), "g", "m", "v", say("decay ηλw", "감쇠 ηλw"), "η m̂/(√v̂ + ε)", say("w after", "w (후)")].map(column))),
    el("tbody", {}, places.map(([row, at], k) => el("tr", { class: k ? null : "on" }, el("th", { scope: "row", class: "num" }, `[${row}, ${at}]`),
      [before[k], gradients[k], after.m[k], after.v[k], rate * decay * before[k], moved(k), after.w[k]].map((x) => el("td", { class: "num" }, exact(x)))))))),
    el("div", { class: "worked num", "data-worked-step": "" },
      el("p", {}, say("The first row by hand, with ", "첫 행을 손으로: "), `β = (0.9, 0.999), η = ${rate}, λ = ${decay}, ε = 1e−8`),
      el("p", {}, `m = 0 + (1 − 0.9) · ${exact(gradients[0])} = ${exact(after.m[0])}`),
      el("p", {}, `v = 0 + (1 − 0.999) · (${exact(gradients[0])})² = ${exact(after.v[0])}`),
      el("p", {}, `m̂ = m / (1 − 0.9) = ${exact(after.m[0] / 0.1)}, v̂ = v / (1 − 0.999) = ${exact(after.v[0] / 0.001)}`),
      el("p", {}, `w ← (1 − ${rate} · ${decay}) · ${exact(before[0])} − ${rate} · ${exact(after.m[0] / 0.1 / (Math.sqrt(after.v[0] / 0.001) + 1e-8))} = ${exact(after.w[0])}`))];
}

function twentySteps(room) {
  const own = lessons().losses.map(mean), other = lessons().other_losses, n = own.length - 1, top = Math.max(...own, ...other) * 1.05;
  const x = (i) => 46 + (room - 76) * i / n, y = (loss) => 190 - 170 * loss / top;
  const line = (losses, colour, dash) => el("path", { d: losses.map((loss, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(loss).toFixed(1)}`).join(""), fill: "none",
    stroke: `var(${colour})`, "stroke-width": 2.5, "stroke-dasharray": dash });
  const sentence = (ids) => decoded(Uint8Array.from(ids.flatMap((id) => [...toBytes(id)]))) ?? ids.map(visible).join("");
  const at = [...new Set([0, 1, 2, 5, 10, n].filter((i) => i <= n))];
  return [el("svg", { viewBox: `0 0 ${room} 230`, class: "chart", role: "img", "aria-label": say("mean loss of both sentences, step by step", "두 문장의 단계별 평균 손실") },
    [0, 0.25, 0.5, 0.75, 1].map((part) => [el("line", { x1: 42, x2: room - 24, y1: y(part * top), y2: y(part * top), stroke: "var(--line)" }),
      el("text", { x: 36, y: y(part * top) + 4, "text-anchor": "end", class: "soft" }, format(part * top))]).flat(),
    line(own, "--accent"), line(other, "--k", "6 4"),
    [0, 5, 10, 15, 20].filter((i) => i <= n).map((i) => el("text", { x: x(i), y: 208, "text-anchor": "middle", class: "soft" }, String(i))),
    el("text", { x: room / 2, y: 226, "text-anchor": "middle", class: "soft" }, say("steps", "단계"))),
  scrolled(say("mean losses", "평균 손실"), el("table", { "data-table": "steps" },
    el("thead", {}, el("tr", {}, column(say("mean loss after … steps", "…단계 뒤 평균 손실")), at.map((i) => column(String(i))))),
    el("tbody", {}, [[lessons().ids, own, "——"], [lessons().other, other, "– –"]].map(([ids, losses, mark]) => el("tr", {},
      el("th", { scope: "row" }, mark, " ", el("span", { class: "tok" }, sentence(ids).slice(0, 60))), at.map((i) => el("td", { class: "num" }, format(losses[i]))))))))];
}
