// ---- the page

function pickToken(t, i) { state.tokens[t] = i; update(); }

function picker() {
  const range = (name, label, n) => el("div", { class: `pick ${name}` }, el("label", { for: name }, label),
    name === "block" ? el("button", { id: "play", "aria-pressed": String(Boolean(playing)), "aria-label": say("play through the blocks", "블록을 차례로 재생"), onclick: play }, playing ? "❚❚" : "▶") : null,
    el("input", { type: "range", id: name, min: 0, max: Math.max(n - 1, 0), value: state[name], disabled: n < 2, oninput: (e) => { state[name] = +e.target.value; update(); } }),
    el("output", { id: name + "-out", for: name }));
  return el("div", { class: "picker", role: "region", "aria-label": say("block, head and token", "블록, 헤드, 토큰") }, el("div", { class: "wrap" },
    range("block", say("block", "블록"), config.n_layer), range("head", say("head", "헤드"), config.n_head),
    texts.map((text, t) => el("div", { class: "pick token" }, el("label", { for: `token-${t}` }, texts.length > 1 ? say(`text ${t + 1}`, `문장 ${t + 1}`) : say("token", "토큰")),
      el("select", { id: `token-${t}`, onchange: (e) => pickToken(t, +e.target.value) }, text.ids.map((id, i) => el("option", { value: i }, `${i} ${visible(id)}`)))))));
}

let playing = null;
function play() {  // the only thing that moves by itself, and only when asked
  if (playing) { clearInterval(playing); playing = null; }
  else {
    if (state.block >= config.n_layer - 1) state.block = -1;
    const step = () => { state.block++; if (state.block >= config.n_layer - 1) play(); update(); };
    playing = setInterval(step, 1200);
    step();
  }
  $("play").setAttribute("aria-pressed", String(Boolean(playing)));
  $("play").textContent = playing ? "❚❚" : "▶";
}

const steps = () => STEPS.filter((step) => !step.only || step.only());

function build() {
  document.documentElement.lang = language;
  matrices.length = 0;
  const title = say("A sentence on its way through GPT-2", "문장 하나가 GPT\u20112를 지나가는 길");
  document.title = `${texts[0].text.slice(0, 60)} · ${title}`;
  const lengths = texts.map((text) => text.ids.length);
  $("app").replaceChildren(
    el("a", { class: "skip", href: "#s-tokens" }, say("Skip to the first step", "첫 단계로 건너뛰기")),
    el("header", { class: "wrap" },
      el("div", { class: "top" },
        el("button", { id: "language", lang: language === "ko" ? "en" : "ko", onclick: () => { language = language === "ko" ? "en" : "ko"; build(); $("language").focus(); } }, language === "ko" ? "English" : "한국어"),
        el("button", { id: "theme", onclick: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark") }, say("Light / dark", "밝게 / 어둡게"))),
      el("h1", {}, title),
      texts.map(({ text }) => el("blockquote", {}, text || "<|endoftext|>")),
      el("p", { class: "lead", id: "model" }, say(
        `Every number on this page comes from one real forward pass of the model ${DATA.name}: ${config.n_layer} blocks of ${config.n_head} heads, vectors of ${config.n_embd} components, ${count(vocab.length)} tokens. Counting starts at 0, as in the code. Orange is positive, blue negative.`,
        `이 페이지의 모든 수는 모델 ${DATA.name}의 실제 순전파 한 번에서 나왔습니다. 블록 ${config.n_layer}개, 블록마다 헤드 ${config.n_head}개, 벡터의 성분 ${config.n_embd}개, 토큰 ${count(vocab.length)}개. 코드처럼 0부터 셉니다. 주황은 양수, 파랑은 음수입니다.`)),
      el("p", { class: "caution" }, say(
        "Attention weights are not explanations: they say where a head looked, not why the model answers as it does (Jain & Wallace 2019, “Attention is not Explanation”).",
        "어텐션 가중치는 설명이 아닙니다. 헤드가 어디를 보았는지 말할 뿐, 모델이 왜 그렇게 답하는지는 말하지 않습니다 (Jain & Wallace 2019, “Attention is not Explanation”).")),
      el("nav", { "aria-label": say("the steps", "단계") }, el("ol", {}, steps().map((step) => el("li", {}, el("a", { href: `#s-${step.id}` },
        say(step.en, step.ko).replace(/^[^:]*6: /, ""))))))),
    picker(),
    el("main", {}, steps().map((step, k) => [step.id === "norm" ? el("div", { class: "inside" }, el("div", { class: "wrap", id: "inside" })) : null,
      el("section", { id: `s-${step.id}`, "aria-labelledby": `h-${step.id}`, class: step.inBlock ? "in" : null }, el("div", { class: "wrap" },
      el("header", {}, el("h2", { id: `h-${step.id}` }, el("span", { class: "n" }, String(k + 1)), el("span", {}, say(step.en, step.ko))),
        el("p", { id: `text-${step.id}` })),
      el("div", { class: "shapes" }, [...new Set(lengths.map((n) => step.shape(n)))].map((shape) =>
        el("span", { class: "shape", title: say("shape", "형태") }, shape))),
      el("div", { class: "source" },
        step.source.map(([{ name, at }, label]) => el("figure", {}, el("figcaption", {}, el("b", {}, el("code", {}, label || name)), " ", at[0]), el("pre", {}, el("code", {}, at[1]))))),
      el("div", { class: "main" }, step.whole && !step.each ? [step.build ? step.build() : null, el("div", { id: `fill-${step.id}-0` })]
        : [step.id === "next" ? step.build(0) : null, el("div", { class: "columns", style: `--n: ${texts.length}` }, texts.map((text, t) => el("div", { class: "column" },
          texts.length > 1 ? el("p", { class: "whose" }, `${t + 1}. `, el("span", { class: "tok", id: `whose-${step.id}-${t}` })) : null,
          el("div", { class: step.look ? "look" : null }, step.build && step.id !== "next" ? step.build(t) : null, el("div", { id: `fill-${step.id}-${t}`, class: step.look ? "row" : null })),
          step.arcs ? arcsOf(t) : null,
          step.after ? el("div", { id: `after-${step.id}-${t}` }) : null)))])))])),
    el("footer", {}, el("div", { class: "wrap" }, el("p", {}, say(
      `Made by picogpt.explain with the model ${DATA.name}. Numbers are rounded to what is shown; of vectors the first 16 components are here, attention matrices and the last token's distribution are whole.`,
      `picogpt.explain이 모델 ${DATA.name}(으)로 만들었습니다. 수는 보이는 자리까지 반올림했습니다. 벡터는 처음 16개 성분만, 어텐션 행렬과 마지막 토큰의 분포는 전부 들어 있습니다.`)))));
  update();
}

function update(only) {
  for (const [name, text] of [["block", `${state.block}`], ["head", `${state.head}`],
    ["temperature", state.temperature.toFixed(2)], ["top_k", state.top_k ? String(state.top_k) : say("all", "모두")], ["top_p", state.top_p.toFixed(2)]]) {
    $(name + "-out").textContent = text;
  }
  if (!only) {
    $("inside").textContent = say(
      `Inside block ${state.block}, head ${state.head}: the steps down to the second residual sum run in each of the ${config.n_layer} blocks, one after the other.`,
      `블록 ${state.block}, 헤드 ${state.head}의 안: 둘째 잔차 연결까지의 단계를 ${config.n_layer}개 블록이 차례로 되풀이합니다.`);
    $("block").value = state.block;
    $("head").value = state.head;
    texts.forEach((text, t) => { $(`token-${t}`).value = state.tokens[t]; });
    for (const kind of ["token", "arc-token"]) document.querySelectorAll(`[data-${kind}]`).forEach((button) => {
      const [t, i] = button.getAttribute(`data-${kind}`).split("-").map(Number);
      button.setAttribute("aria-pressed", String(state.tokens[t] === i));
    });
  }
  for (const step of steps()) {
    if (only && step.id !== only) continue;
    $(`text-${step.id}`).textContent = step.text();
    (step.whole && !step.each ? [0] : texts).forEach((_, t) => {
      const whose = $(`whose-${step.id}-${t}`), place = $(`fill-${step.id}-${t}`), i = state.tokens[t];
      if (whose) whose.textContent = step.each ? texts[t].text : step.inBlock || step.id === "embed" ? tokenAt(t, i) : texts[t].text;
      if (step.fill) place.replaceChildren(...[step.fill(t, i, Math.min(690, place.clientWidth || 690))].flat().filter(Boolean));
      if (step.after) $(`after-${step.id}-${t}`).replaceChildren(step.after(t, i));
    });
  }
  if (!only) paint();
}

function paint() {
  matrices.forEach((matrix) => matrix.draw());
  texts.forEach((_, t) => drawArcs(t));
}

function theme(name) { document.documentElement.dataset.theme = name; paint(); }
const dark = matchMedia("(prefers-color-scheme: dark)");
document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
let before;
addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; theme("light"); });
addEventListener("afterprint", () => theme(before));
build();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; update(); } });
