// ---- what a server behind the page makes possible: typing, growing, changing

const asked = () => DATA.request;
const twoTexts = () => texts.length > 1;

function addressOf({ texts: [text, second], appended, silenced, patched, learn, lecture }) {
  const query = new URLSearchParams();
  if (lecture) query.set("lecture", "1");
  else query.set("text", text);
  if (!lecture && second) query.set("and", second);
  ["then", "and_then"].forEach((name, t) => { if ((appended[t] || []).length) query.set(name, appended[t].join(".")); });
  if (silenced.length) query.set("silence", silenced.map((place) => place.join(".")).join(","));
  if (patched.length) query.set("patch", patched.map((place) => place.join(".")).join(","));
  if (learn) query.set("learn", "1");
  return "?" + query;
}

let underway = null, waiting = null;  // one question at a time; of those that come meanwhile, the last
async function ask(address, options = {}) {
  if (underway) { waiting = [address, options]; return; }
  underway = address;
  announce(address.includes("learn=1") ? say("The model learns: twenty-one steps, which take some seconds …", "모델이 학습하는 중입니다. 스물한 단계라 몇 초 걸립니다 …")
    : say("The model is computing …", "모델이 계산하는 중 …"));
  document.body.setAttribute("aria-busy", "true");
  let data;
  try {
    const answer = await fetch("/data" + address);
    data = answer.status === 414 ? { error: ["This is far more than a page holds: give a shorter text", "한 페이지에 들어가기에는 너무 깁니다. 더 짧은 문장을 쓰세요."] } : await answer.json();
  } catch {
    data = { error: ["The server doesn't answer: is python -m picogpt.explain --serve still running?", "서버가 응답하지 않습니다. python -m picogpt.explain --serve가 실행 중인가요?"] };
  }
  document.body.removeAttribute("aria-busy");
  underway = null;
  if (waiting) { const next = waiting; waiting = null; return ask(...next); }
  if (options.push !== false && data.texts?.length && address !== location.search) history.pushState(null, "", "/" + address);
  receive(data, options.opens);
  const step = options.shows && $(`s-${options.shows}`);
  if (step) goTo(step);
}

function receive(data, opens) {
  if (playing) play();  // to a stop: another model's answer may have other blocks
  announce("");
  if (data.error && texts.length) { announce(say(...data.error), true); return; }  // what is there stays
  const old = { ids: texts.map(({ ids }) => ids.length), ...state }, focused = document.activeElement?.id;
  const place = [...document.querySelectorAll("main > section")].find((one) => one.getBoundingClientRect().bottom > 160);
  const at = opens ? null : place && [place.id, place.getBoundingClientRect().top];
  for (const name of ["error", "learning", "lecture"]) delete DATA[name];
  Object.assign(DATA, data);
  ({ texts, words } = DATA);
  for (const memory of [kept, thumbnails, sorted]) memory.clear();
  if (opens || !old.ids.length) start();
  else {
    const within = texts.map(({ ids }, t) => ids.length === old.ids[t] ? old.tokens[t] : ids.length - 1);
    Object.assign(state, { tokens: within, drawn: [], word: 0 });
  }
  build();
  if (at && $(at[0])) scrollBy(0, $(at[0]).getBoundingClientRect().top - at[1]);
  if (focused && $(focused)) $(focused).focus({ preventScroll: true });
}

function announce(text, bad = false) {
  const line = $("answer");
  if (!line) return;
  line.textContent = text;
  line.className = bad ? "caution" : "whose";
}

const change = (changes, options) => ask(addressOf({ ...asked(), ...changes }), options);
const isSilenced = (block, head) => asked().silenced.some((place) => place[0] === block && place[1] === head);
function toggleSilence(block, head) {
  const others = asked().silenced.filter((place) => place[0] !== block || place[1] !== head);
  change({ silenced: isSilenced(block, head) ? others : [...others, [block, head]] });
}

live = {
  form() {  // a plain form: without scripts' help it would go to the same address
    const { texts: [text, second], lecture } = asked();
    const shown = lecture ? texts.map((one) => one.text) : [text, second];
    const typed = () => ({ texts: [$("text").value, $("and").value].filter((one, t) => !t || one.trim()), appended: [[], []], silenced: [], patched: [], lecture: false });
    const isNew = () => $("text").value !== (shown[0] || "") || $("and").value !== (shown[1] || "");
    const learn = () => isNew() ? change({ ...typed(), learn: true }, { opens: true, shows: "learn-loss" }) : change({ learn: !DATA.learning }, { shows: "learn-loss" });
    return el("form", { id: "ask", action: "/", method: "get", onsubmit: (event) => {
      event.preventDefault();
      change({ ...typed(), learn: false }, { opens: true });
    } },
    el("label", { for: "text" }, say("sentence", "문장")), el("input", { id: "text", name: "text", type: "text", value: shown[0] || "", autocomplete: "off", spellcheck: "false" }),
    el("button", { id: "send" }, say("Show", "보기")),
    el("label", { for: "and" }, say("and, beside it", "나란히 볼 문장")), el("input", { id: "and", name: "and", type: "text", value: shown[1] || "", placeholder: say("(a second one, if you like)", "(원하면 두 번째 문장을 입력하세요)"), autocomplete: "off", spellcheck: "false" }),
    el("span", { class: "doing" },
      texts.length ? el("button", { id: "learn", type: "button", "aria-pressed": String(Boolean(DATA.learning)), onclick: learn }, say("One step of learning", "학습 한 단계")) : null,
      el("button", { id: "lecture", type: "button", "aria-pressed": String(Boolean(DATA.lecture)), onclick: () => DATA.lecture ? ask("?text=" + encodeURIComponent(texts[0].text), { opens: true })
        : ask("?lecture=1", { opens: true }) }, say("The lecture's example", "강의 예제"))),
    el("p", { id: "answer", class: "whose", "aria-live": "polite" }));
  },
  appendButton(t, id, name, label) {
    const put = () => change({ appended: texts.map((_, k) => [...(asked().appended[k] || []), ...(k === t ? [id] : [])]) });
    return el("button", { class: "tok append", id: name, onclick: put, title: say("put it at the end of the sentence", "문장 끝에 추가") }, label || visible(id));
  },
  silenceButton(block, head, t, long = false) {
    const on = isSilenced(block, head), where = long ? say(` block ${block}, head ${head}`, `블록 ${block}, 헤드 ${head} `) : "";
    const name = on ? say(`Restore${where}`, `${where}되살리기`) : say(`Silence${where}`, `${where}끄기`);
    return el("button", { class: "silence", id: `silence-${long ? "way" : "joined"}-${t}-${long ? "" : head}`, "aria-pressed": String(on), onclick: () => toggleSilence(block, head),
      "aria-label": say(`silence block ${block}, head ${head}`, `블록 ${block}, 헤드 ${head} 끄기`) }, name);
  },
  changesLine() {  // under the picks: what is changed, what became of the prediction
    const { silenced, patched, appended } = asked();
    if (!silenced.length && !patched.length && !appended.flat().length) return null;
    const changed = [...silenced.map(([block, head]) => say(`block ${block}, head ${head} silenced`, `블록 ${block}, 헤드 ${head} 꺼짐`)),
      ...patched.map(([block, there, here]) => say(`after block ${block}, ${tokenAt(1, there)} of text 2 put in ${tokenAt(0, here)}'s place`, `블록 ${block} 뒤: 문장 2의 ${tokenAt(1, there)} 벡터를 ${tokenAt(0, here)} 자리에 넣음`)),
      ...appended.filter((ids) => ids.length).map((ids) => say(`${ids.length} appended`, `토큰 ${ids.length}개 추가`))];
    const moved = texts.map((text, t) => {
      if (!text.before) return "";
      const was = ranked(text.before), id = was[1][0], now = spread(t, 1)[orderOf(t).indexOf(id)];
      return ` · ${visible(id)} ${percent(softmaxInOrder(was, 1)[0])} → ${percent(now)}`;
    }).join("");
    return el("p", { class: "changes", id: "changes" }, changed.join(" · ") + moved, " ", el("button", { id: "undo", onclick: () => change({ appended: [[], []], silenced: [], patched: [] }) }, say("Reset", "초기화")));
  },
};

STEPS.splice(STEPS.findIndex((step) => step.id === "next") + 1, 0, {
  id: "change", each: true, whole: true, en: "Change something on its way", ko: "도중에 바꾸어 보기",
  shape: () => `[${count(vocab.length)}]`,
  goes: ["heads, y", "p"],
  source: [[src("teaching.request", "Request", "for head in heads", 4), "picogpt.trace(edit=)"]],
  text: () => say("Looking shows where a head looks; changing shows what depends on it. Silence the picked head (its output becomes 0), or put what one sentence's picked token holds after the picked block into the other sentence, and see the prediction move.",
    "그림을 보면 헤드가 어디를 보는지 알 수 있고, 값을 바꾸어 보면 예측이 무엇에 달려 있는지 알 수 있습니다. 선택한 헤드를 끄거나(출력을 0으로), 선택한 블록을 지난 뒤의 토큰 벡터를 다른 문장에 넣고 예측이 어떻게 달라지는지 보세요."),
  fill: changePlace,
});

function changePlace(t) {
  const { block, head, tokens } = state, after = ranked(texts[t].logits), was = texts[t].before && ranked(texts[t].before);
  const top = Math.max(...[was, after].filter(Boolean).map((which) => softmaxInOrder(which, 1)[0]));  // one length for both
  const list = (which, name) => {
    const p = softmaxInOrder(which, 1);
    return el("div", { class: "column" }, el("p", { class: "whose" }, name), el("ol", { class: "bars", style: "--name: 5.5rem", "data-change": `${t}-${which === was ? "before" : "after"}` },
      [...which[1].subarray(0, 8)].map((id, i) => bar(visible(id), p[i] / top, percent(p[i])))));
  };
  const patch = t === 0 && twoTexts() ? el("button", { id: "patch", onclick: () => change({ patched: [...asked().patched, [block, tokens[1], tokens[0]]] }) },
    say(`Put ${tokenAt(1, tokens[1])} of text 2 into text 1 at ${tokenAt(0, tokens[0])}, after block ${block}`, `블록 ${block} 뒤: 문장 2의 ${tokenAt(1, tokens[1])} 벡터를 문장 1의 ${tokenAt(0, tokens[0])} 자리에 넣기`)) : null;
  const reset = asked().silenced.length || asked().patched.length ? el("button", { id: `unchange-${t}`, onclick: () => change({ silenced: [], patched: [] }) }, say("Reset", "초기화")) : null;
  return [el("p", { class: "find" }, el("button", { id: `change-silence-${t}`, "aria-pressed": String(isSilenced(block, head)), onclick: () => toggleSilence(block, head) },
    say(`Silence block ${block}, head ${head}`, `블록 ${block}, 헤드 ${head} 끄기`)), patch, reset),
  el("div", { class: "columns two" }, was ? list(was, say("before", "전")) : null, list(after, was ? say("after", "후") : say("now", "지금")))];
}

addEventListener("popstate", () => ask(location.search, { push: false, opens: true }));
