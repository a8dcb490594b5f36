// ---- the page

function pickToken(t, i) { state.tokens[t] = i; update(); }

function picker() {
  const range = (name, label, n) => el("div", { class: `pick ${name}` }, el("label", { for: name }, label),
    name === "block" ? el("button", { id: "play", "aria-pressed": String(Boolean(playing)), "aria-label": say("play through the blocks", "블록을 차례로 재생"), onclick: play }, playing ? "❚❚" : "▶") : null,
    el("input", { type: "range", id: name, min: 0, max: Math.max(n - 1, 0), value: state[name], disabled: n < 2, oninput: (e) => { if (playing) play(); state[name] = +e.target.value; update(); } }),
    el("output", { id: name + "-out", for: name }));
  return el("div", { class: "picker", role: "region", "aria-label": say("block, head and token", "블록, 헤드, 토큰") }, el("div", { class: "wrap" },
    range("block", say("block", "블록"), config.n_layer), range("head", say("head", "헤드"), config.n_head),
    texts.map((text, t) => el("div", { class: "pick token" }, el("label", { for: `token-${t}` }, texts.length > 1 ? say(`text ${t + 1}`, `문장 ${t + 1}`) : say("token", "토큰")),
      el("select", { id: `token-${t}`, onchange: (e) => pickToken(t, +e.target.value) }, text.ids.map((id, i) => el("option", { value: i }, `${i} ${visible(id)}`))))),
    live && live.changesLine()));
}

let playing = null;
function play() {  // the only thing that moves by itself, and only when asked
  if (playing) { clearInterval(playing); playing = null; }
  else {
    const last = config.n_layer - 1;
    if (state.block >= last) state.block = -1;
    const step = () => { state.block = Math.min(state.block + 1, last); if (state.block === last) play(); update(); };
    playing = setInterval(step, 1200);
    step();
  }
  $("play").setAttribute("aria-pressed", String(Boolean(playing)));
  $("play").textContent = playing ? "❚❚" : "▶";
}

const steps = () => texts.length ? STEPS.filter((step) => !step.only || step.only()) : [];

function switchLanguage() {
  const typed = ["text", "and"].map((id) => $(id)?.value);  // what is not sent yet stays
  language = language === "ko" ? "en" : "ko";
  build();
  ["text", "and"].forEach((id, i) => { if ($(id)) $(id).value = typed[i]; });
  $("language").focus();
}

function header() {
  const title = say("A sentence on its way through GPT-2", "문장 하나가 GPT\u20112를 통과하는 과정");
  document.title = texts.length ? `${texts[0].text.slice(0, 60)} · ${title}` : title;
  const sentence = ({ text, appended }) => el("blockquote", {}, text || (appended.length ? "" : "<|endoftext|>"), appended.map((id) => el("mark", { class: "tok" }, visible(id))));
  return el("header", { class: "wrap" },
    el("div", { class: "top" },
      el("button", { id: "language", lang: language === "ko" ? "en" : "ko", onclick: switchLanguage }, language === "ko" ? "English" : "한국어"),
      el("button", { id: "theme", onclick: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark") }, say("Light / dark", "밝게 / 어둡게"))),
    el("h1", {}, title),
    live && live.form(),
    DATA.error ? el("p", { class: "caution", role: "alert", id: "refused" }, say(...DATA.error)) : null,
    texts.map(sentence),
    texts.length ? el("p", { class: "lead", id: "model" }, say(
      `Every number on this page comes from one real forward pass of the model ${DATA.name}: ${config.n_layer} blocks of ${config.n_head} heads, vectors of ${config.n_embd} components, ${count(vocab.length)} tokens. Counting starts at 0, as in the code. In vectors and scores orange is positive and blue negative; weights, losses and norms are the darker the larger.` + (DATA.lecture ? "" : " The page opens on the head to which, by an estimate, the prediction owes most."),
      `이 페이지의 모든 수는 모델 ${DATA.name}의 실제 순전파 한 번에서 나왔습니다. 블록 ${config.n_layer}개, 블록마다 헤드 ${config.n_head}개, 벡터의 성분 ${config.n_embd}개, 토큰 ${count(vocab.length)}개. 코드처럼 0부터 셉니다. 벡터와 점수에서 주황은 양수, 파랑은 음수이고, 가중치·손실·노름은 클수록 진합니다.` + (DATA.lecture ? "" : " 처음에는 예측에 가장 크게 기여한다고 어림되는 헤드를 보여 줍니다."))) : null,
    texts.some((_, t) => mostlyBytes(t)) ? el("p", { class: "caution", id: "bytes" }, say(
      "Most tokens here are only parts of a letter: the model's tokens were learned from text with little of this writing, and so were its weights. The steps are the same; what it predicts means little.",
      "여기서는 토큰 대부분이 한 글자도 되지 않는 바이트 조각입니다. 이 모델은 토큰과 가중치를 학습할 때 이런 글을 거의 보지 못했습니다. 계산 과정은 같지만 예측에는 의미가 거의 없습니다.")) : null,
    DATA.disagreement > 1e-3 ? el("p", { class: "caution", id: "disagreement" }, say(
      "kernels.gpt2 gives other logits than the steps shown here, which are those of gradients.block_forward: if these are kernels of your own, one of mha, attention, ffn or transformer_block is not right yet.",
      "kernels.gpt2의 로그잇이 여기 보이는 단계(gradients.block_forward)의 것과 다릅니다. 직접 작성한 커널이라면 mha, attention, ffn, transformer_block 중 하나가 아직 맞지 않습니다.")) : null,
    DATA.lecture ? el("p", { class: "lead" }, say(
      `The lecture's two sentences, its steps in their order, with its formulas. Guess first: every step asks a question, and shows its numbers when you press Reveal. Block ${DATA.lecture.head[0]}, head ${DATA.lecture.head[1]} is chosen because “mouse” looks most at “wireless” and “tiny” there (${format(DATA.lecture.weight)} on average).`,
      `강의의 두 문장을 강의의 순서와 공식대로 보여 줍니다. 먼저 예상해 보세요. 단계마다 질문이 있고, ‘답 보기’를 누르면 수가 나타납니다. “mouse”가 “wireless”와 “tiny”를 가장 많이 보는 헤드(블록 ${DATA.lecture.head[0]}, 헤드 ${DATA.lecture.head[1]})를 미리 골라 두었습니다(가중치 평균 ${format(DATA.lecture.weight)}).`)) : null,
    live || !texts.length ? null : el("p", { class: "whose", id: "offline" }, say("This file is whole by itself. To type sentences of your own, put tokens at the end, silence heads and patch activations: ",
      "이 파일은 서버 없이도 모두 볼 수 있습니다. 직접 문장을 입력하고, 토큰을 추가하고, 헤드를 끄고, 활성값을 바꾸려면 다음을 실행하세요: "), el("code", {}, "python -m picogpt.explain --serve")),
    texts.length ? el("nav", { "aria-label": say("the steps", "단계") }, el("ol", {}, steps().map((step) => el("li", { class: step.inBlock ? "in" : null },
      jump(step.id, {}, say(step.en, step.ko).replace(/^[^:]*[65]: /, "")))))) : null);
}

const revealed = new Set();
function question(step) {  // the lecture: first guess, then see
  const open = revealed.has(step.id);
  const button = el("button", { id: `reveal-${step.id}`, "aria-expanded": String(open), "aria-controls": `main-${step.id}`, onclick: () => {
    if (!revealed.delete(step.id)) revealed.add(step.id);
    reveal(step);
  } });
  return el("div", { class: "ask" }, el("p", {}, el("b", {}, say("Guess: ", "예상: ")), el("span", { id: `ask-${step.id}` })), button,
    el("p", { id: `tell-${step.id}`, class: "tell", "aria-live": "polite" }));
}
function reveal(step) {
  const open = revealed.has(step.id);
  $(`main-${step.id}`).hidden = !open;
  $(`reveal-${step.id}`).setAttribute("aria-expanded", String(open));
  $(`reveal-${step.id}`).textContent = open ? say("Hide", "숨기기") : say("Reveal", "답 보기");
  update();
}
const asks = (step) => DATA.lecture && step.ask;

function section(step, k) {
  const shapes = [...new Set(texts.map((text) => step.shape(text.ids.length)))];
  const columns = () => el("div", { class: "columns", style: `--n: ${texts.length}` }, texts.map((text, t) => el("div", { class: "column" },
    texts.length > 1 ? el("p", { class: "whose" }, `${t + 1}. `, el("span", { class: "tok", id: `whose-${step.id}-${t}` })) : null,
    el("div", { class: step.look ? "look" : null }, step.build && step.id !== "next" ? step.build(t) : null, el("div", { id: `fill-${step.id}-${t}`, class: step.look ? "row" : null })),
    step.arcs ? arcsOf(t) : null,
    step.after ? el("div", { id: `after-${step.id}-${t}` }) : null)));
  return el("section", { id: `s-${step.id}`, "aria-labelledby": `h-${step.id}`, class: step.inBlock ? "in" : null }, el("div", { class: "wrap" },
    el("header", {}, el("h2", { id: `h-${step.id}`, tabindex: "-1" }, el("span", { class: "n" }, String(k + 1)), el("span", {}, say(step.en, step.ko))),
      el("p", { id: `text-${step.id}` }), asks(step) ? question(step) : null),
    el("div", { class: "shapes" }, formula(step.id),
      DATA.lecture && step.slide ? el("p", { class: "slide" }, say("in the lecture: ", "강의에서는: "), el("code", {}, step.slide)) : null,
      el("p", { class: "goes" }, say("in ", "입력 "), el("code", {}, step.goes[0]), " → ", say("out ", "출력 "), el("code", {}, step.goes[1])),
      shapes.map((shape) => el("span", { class: "shape", title: say("shape", "모양") }, shape))),
    el("div", { class: "source" },
      step.source.map(([{ name, at }, label]) => el("figure", {}, el("figcaption", {}, el("b", {}, el("code", {}, label || name)), " ", at[0]), el("pre", {}, el("code", {}, at[1]))))),
    el("div", { class: "main", id: `main-${step.id}`, hidden: Boolean(asks(step)) && !revealed.has(step.id) },
      step.whole && !step.each ? [step.build ? step.build() : null, el("div", { id: `fill-${step.id}-0` })]
        : [step.id === "next" ? step.build(0) : null, columns()],
      step.end ? step.end() : null)));
}

function build() {
  document.documentElement.lang = language;
  matrices.length = strips.length = 0;
  $("app").replaceChildren(
    texts.length ? el("a", { class: "skip", href: "#s-way" }, say("Skip to the first step", "첫 단계로 건너뛰기")) : "",
    header(),
    texts.length ? picker() : "",
    el("main", {}, steps().map((step, k) => [step.id === "norm" ? el("div", { class: "inside" }, el("div", { class: "wrap", id: "inside" })) : null, section(step, k)])),
    texts.length ? el("footer", {}, el("div", { class: "wrap" }, el("p", {}, say(
      `Made by picogpt.explain with the model ${DATA.name}. Numbers are rounded to what is shown; of vectors the first 16 components are here, attention matrices and the last token's distribution are whole.`,
      `picogpt.explain이 만든 페이지입니다. 모델: ${DATA.name}. 수는 보이는 자리까지 반올림했습니다. 벡터는 처음 16개 성분만, 어텐션 행렬과 마지막 토큰의 분포는 전부 담고 있습니다.`)))) : "");
  if (texts.length) update();
}

function update(only) {
  for (const [name, text] of [["block", `${state.block}`], ["head", `${state.head}`],
    ["temperature", state.temperature.toFixed(2)], ["top_k", state.top_k ? String(state.top_k) : say("all", "모두")], ["top_p", state.top_p.toFixed(2)]]) {
    $(name + "-out").textContent = text;
  }
  if (!only) {
    document.documentElement.style.setProperty("--picker", document.querySelector(".picker").offsetHeight + "px");
    $("inside").textContent = say(
      `Inside block ${state.block}, head ${state.head}: the steps down to the second residual sum run in each of the ${config.n_layer} blocks, one after the other.`,
      `블록 ${state.block}, 헤드 ${state.head} 내부: 둘째 잔차 연결까지의 단계가 블록 ${config.n_layer}개에서 차례로 되풀이됩니다.`);
    $("block").value = state.block;
    $("head").value = state.head;
    texts.forEach((text, t) => { $(`token-${t}`).value = state.tokens[t]; });
    for (const kind of ["token", "arc-token"]) document.querySelectorAll(`[data-${kind}]`).forEach((button) => {
      const [t, i] = button.getAttribute(`data-${kind}`).split("-").map(Number);
      button.setAttribute("aria-pressed", String(state.tokens[t] === i));
    });
    document.querySelectorAll("[data-block]").forEach((button) => button.setAttribute("aria-pressed", String(+button.dataset.block === state.block)));
  }
  for (const step of steps()) {
    if (only && step.id !== only) continue;
    $(`text-${step.id}`).textContent = step.text();
    if (asks(step)) {
      $(`ask-${step.id}`).textContent = step.ask();
      $(`tell-${step.id}`).textContent = revealed.has(step.id) ? step.tell() : "";
      $(`reveal-${step.id}`).textContent = revealed.has(step.id) ? say("Hide", "숨기기") : say("Reveal", "답 보기");
    }
    (step.whole && !step.each ? [0] : texts).forEach((_, t) => {
      const whose = $(`whose-${step.id}-${t}`), place = $(`fill-${step.id}-${t}`), i = state.tokens[t];
      if (whose) whose.textContent = step.each ? texts[t].text : step.inBlock || step.id === "embed" ? tokenAt(t, i) : texts[t].text;
      if (step.fill) keepFocus(place, () => place.replaceChildren(...[step.fill(t, i, Math.min(690, place.clientWidth || 690))].flat().filter(Boolean)));
      if (step.after) $(`after-${step.id}-${t}`).replaceChildren(step.after(t, i));
    });
  }
  if (!only) paint();
}

function keepFocus(place, change) {  // what is made anew under the reader's hand keeps it
  const id = place.contains(document.activeElement) ? document.activeElement.id : "";
  change();
  if (id && $(id)) $(id).focus({ preventScroll: true });
}

function paint() {
  matrices.forEach((matrix) => matrix.draw());
  strips.forEach((strip) => strip.draw());
  texts.forEach((_, t) => drawArcs(t));
}

addEventListener("click", (event) => {  // a link to a step scrolls there, in a notebook's frame too
  const link = event.target.closest?.('a[href^="#"]'), place = link && $(link.getAttribute("href").slice(1));
  if (!place) return;
  event.preventDefault();
  goTo(place);
});
function goTo(place) {
  place.scrollIntoView();
  (place.querySelector("h2") || place).focus({ preventScroll: true });
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
addEventListener("resize", () => { if (innerWidth !== width && texts.length) { width = innerWidth; update(); } });
