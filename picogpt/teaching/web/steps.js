// ---- the steps, in the lecture's order

const d = config.n_embd / config.n_head;
const matrices = [];
const matrixStep = (step) => ({
  build: (t) => { const matrix = new Matrix(t, step); matrices.push(matrix); return matrix.node; },
  fill: (t) => rowOf(t, step), look: true,
});

const STEPS = [
  { id: "tokens", en: "Tokens", ko: "토큰", shape: (n) => `[${n}]`, source: [[src("tokenizer.encoder", "Encoder", "for piece in PIECES", 2), "Encoder.encode"]],
    text: () => say("The text becomes UTF-8 bytes, and byte-level BPE joins them into tokens: pieces of text that have a number, the id. ␣ is a space; it belongs to the word that follows. Press a token to follow it.",
      "문장은 UTF-8 바이트가 되고, 바이트 수준 BPE가 바이트를 토큰으로 합칩니다. 토큰은 번호(id)를 가진 글 조각입니다. ␣는 빈칸이며 뒤따르는 단어에 붙습니다. 토큰을 누르면 그 토큰을 따라갑니다."),
    build: (t) => el("ol", { class: "tokens" }, texts[t].ids.map((id, i) => el("li", {},
      el("button", { onclick: () => pickToken(t, i), "data-token": `${t}-${i}` },
        el("span", { class: "tok" }, visible(id)), el("small", { class: "num" }, hex(id)),
        el("small", { class: "num" }, `id ${id}`))))) },
  { id: "embed", en: "Embeddings: what and where", ko: "임베딩: 무엇이, 어디에", shape: (n) => `[${n}] → [${n}, ${config.n_embd}]`,
    source: [[src("kernels", "hidden_states", "x = wte[inputs]", 1)]],
    text: () => say("An id picks its row of the table wte, a position its row of wpe. Their sum x enters block 0. (The lecture adds sinusoids; GPT-2 learns wpe instead.) Beside each vector stands its norm, its length in space.",
      "id는 표 wte에서, 위치는 표 wpe에서 한 행을 고릅니다. 둘의 합 x가 블록 0에 들어갑니다. (강의에서는 사인·코사인을 더하지만, GPT-2는 wpe를 학습합니다.) 벡터 옆의 노름은 공간에서의 길이입니다."),
    fill: (t, i) => [vec("wte", vector(texts[t], "wte", i)), op("+"), vec("wpe", vector(texts[t], "wpe", i)), op("="),
      vec("x", vector(texts[t].blocks[0], "x", i))] },
  { id: "norm", inBlock: true, en: "Layer norm", ko: "층 정규화", shape: (n) => `[${n}, ${config.n_embd}]`,
    source: [[src("kernels", "layer_norm", "x = x - x.sum", 3)]],
    text: () => say("Before attention, every token's vector is brought to mean 0 and variance 1, then stretched by g and shifted by b, which are learned.",
      "어텐션에 앞서 토큰마다 벡터를 평균 0, 분산 1로 맞추고, 학습된 g를 곱하고 b를 더합니다."),
    fill: (t, i) => [vec("x", inBlock(t, "x", i)), op("↓"), vec("ln_1", inBlock(t, "ln_1", i))] },
  { id: "qkv", inBlock: true, en: "Attention 1/6: query, key, value", ko: "어텐션 1/6: 쿼리·키·값", shape: (n) => `[${n}, ${config.n_embd}] → 3 × [${config.n_head}, ${n}, ${d}]`,
    source: [[src("kernels", "mha", "qkv = linear", 1)], [src("kernels", "mha", "q, k, v =", 1)]],
    text: () => say("One product with the matrix c_attn gives every token a query (what it looks for), a key (what it is found by) and a value (what it hands over). Each head has columns of its own.",
      "행렬 c_attn과의 곱 한 번으로 토큰마다 쿼리(무엇을 찾는가), 키(무엇으로 찾아지는가), 값(무엇을 건네는가)이 나옵니다. 헤드마다 자기 열을 씁니다."),
    fill: (t, i) => ["q", "k", "v"].map((name) => vec(name, inBlock(t, name, i, state.head), name)) },
  { id: "scores", inBlock: true, en: "Attention 2/6: scores q · k", ko: "어텐션 2/6: 점수 q · k", shape: (n) => `[${n}, ${d}] · [${d}, ${n}] → [${n}, ${n}]`,
    source: [[src("kernels", "attention", "return softmax", 1)], [src("gradients", "attention_forward", "scores =", 1)]],
    text: () => say("Every query meets every key: q · k = |q||k| cos, large where both are long and point the same way. A row is the token that looks, a column the one looked at.",
      "모든 쿼리가 모든 키와 만납니다. q · k = |q||k| cos는 두 벡터가 길고 방향이 같을수록 큽니다. 행은 보는 토큰, 열은 보이는 토큰입니다."),
    ...matrixStep("scores"), after: worked },
  { id: "scaled", inBlock: true, en: "Attention 3/6: scale", ko: "어텐션 3/6: 스케일링", shape: (n) => `[${n}, ${n}]`,
    source: [[src("gradients", "attention_forward", "scaled =", 1)]],
    text: () => say(`Every score × ${Number(config.scales[state.block].toPrecision(4))} (1/√d_k is ${Number((d ** -0.5).toPrecision(4))}): a sum of d_k = ${d} products grows like √d_k, and from large numbers softmax would give nearly everything to one token.`,
      `모든 점수에 ${Number(config.scales[state.block].toPrecision(4))}을(를) 곱합니다 (1/√d_k = ${Number((d ** -0.5).toPrecision(4))}). d_k = ${d}개 곱의 합은 √d_k만큼 커지고, 큰 수를 받은 소프트맥스는 거의 모든 것을 한 토큰에 주기 때문입니다.`),
    ...matrixStep("scaled") },
  { id: "masked", inBlock: true, en: "Attention 4/6: causal mask", ko: "어텐션 4/6: 인과 마스크", shape: (n) => `[${n}, ${n}]`,
    source: [[src("gradients", "attention_forward", "masked =", 1)], [src("kernels", "causal_mask", "return", 1)]],
    text: () => say("A token may not look at what comes after it, or it would be told the answer: −10¹⁰ is added there.",
      "토큰은 자기 뒤에 오는 것을 볼 수 없습니다. 보면 정답을 미리 아는 셈입니다. 그 자리에 −10¹⁰을 더합니다."),
    ...matrixStep("masked") },
  { id: "weights", inBlock: true, en: "Attention 5/6: softmax", ko: "어텐션 5/6: 소프트맥스", shape: (n) => `[${n}, ${n}]`,
    source: [[src("gradients", "attention_forward", "weights =", 1)], [src("kernels", "softmax", "exp_x =", 2)]],
    text: () => say("exp of every score, divided by its row's sum: every row is positive and sums to 1; the masked places become 0. Below, the same row as arcs over the sentence.",
      "점수마다 exp를 취하고 행의 합으로 나눕니다. 각 행의 값은 모두 양수이고 합은 1이며, 가린 자리는 0이 됩니다. 아래에는 같은 행을 문장 위의 호로 그렸습니다."),
    ...matrixStep("weights"), arcs: true },
  { id: "heads", inBlock: true, en: "Attention 6/6: weighted sum", ko: "어텐션 6/6: 가중합", shape: (n) => `[${n}, ${n}] · [${n}, ${d}] → [${n}, ${d}]`,
    source: [[src("gradients", "attention_forward", "return hook", 1)]],
    text: () => say("What the head hands to this token: the values of all the tokens that it may see, each times its weight.",
      "헤드가 이 토큰에 건네는 것: 볼 수 있는 모든 토큰의 값에 가중치를 곱해 더한 것입니다."),
    fill: (t, i) => {
      const best = heaviest(t, i, 4), rest = 1 - best.reduce((sum, [, w]) => sum + w, 0);
      return [...best.flatMap(([j, w], at) => [at ? op("+") : null,
        vec(`${formatStep("weights", t, w)} × v(${tokenAt(t, j)})`, inBlock(t, "v", j, state.head), "v")]),
        i > 3 ? el("p", { class: "whose" }, say(`+ ${i - 3} others, whose weights are ${format(rest)} together`,
          `+ 나머지 ${i - 3}개, 가중치의 합 ${format(rest)}`)) : null,
        op("="), vec("heads", inBlock(t, "heads", i, state.head))];
    } },
  { id: "joined", inBlock: true, en: "Many heads, joined", ko: "여러 헤드를 잇기", shape: (n) => `[${config.n_head}, ${n}, ${d}] → [${n}, ${config.n_embd}]`,
    source: [[src("kernels", "merge_heads", "return", 1)], [src("kernels", "mha", "return linear", 1)]],
    text: () => say(`All ${config.n_head} heads did the same with columns of their own. Their outputs are laid side by side, and one more matrix, c_proj, mixes them. The bars show each head's norm.`,
      `${config.n_head}개 헤드가 각자의 열로 같은 일을 했습니다. 그 결과를 나란히 잇고, 행렬 c_proj가 섞습니다. 막대는 헤드마다의 노름입니다.`),
    fill: (t, i) => {
      const norms = Array.from({ length: config.n_head }, (_, h) => inBlock(t, "heads", i, h).norm);
      const top = Math.max(...norms) || 1;
      return [el("ol", { class: "bars", "data-heads": t }, norms.map((norm, h) =>
        bar(say(`head ${h}`, `헤드 ${h}`), norm / top, format(norm), { on: h === state.head }))),
        vec("joined", inBlock(t, "joined", i)), op("↓"), vec("attn", inBlock(t, "attn", i))];
    } },
  { id: "x_mid", inBlock: true, en: "First residual sum", ko: "첫째 잔차 연결", shape: (n) => `[${n}, ${config.n_embd}]`,
    source: [[src("kernels", "transformer_block", "a = mha", 4), src("kernels", "transformer_block", "x = x + a", 1)]],
    text: () => say("What attention found is added to what was there: nothing is overwritten, and gradients find their way back.",
      "어텐션이 찾은 것을 원래 있던 것에 더합니다. 아무것도 덮어쓰지 않으며, 기울기가 되돌아갈 길이 됩니다."),
    fill: (t, i) => [vec("x", inBlock(t, "x", i)), op("+"), vec("attn", inBlock(t, "attn", i)), op("="), vec("x_mid", inBlock(t, "x_mid", i))] },
  { id: "ffn", inBlock: true, en: "Feed-forward: each token by itself", ko: "피드포워드: 토큰마다 따로", shape: (n) => `[${n}, ${config.n_embd}] → [${n}, ${config.d_inner}] → [${n}, ${config.n_embd}]`,
    source: [[src("kernels", "ffn", "h = linear", 2)], [src("kernels", "gelu", "return", 1)]],
    text: () => say(`After a second layer norm: widen to ${config.d_inner}, bend (max(0, x) in the lecture, dashed; ${config.activation_function} here), narrow again. No token sees another here. The dots are the 16 components below.`,
      `둘째 층 정규화 뒤에 ${config.d_inner}차원으로 넓히고, 비선형 함수를 거쳐(강의에서는 점선인 max(0, x), 여기서는 ${config.activation_function}), 다시 좁힙니다. 여기서는 토큰끼리 서로 보지 않습니다. 점은 아래 16개 성분입니다.`),
    fill: (t, i) => [vec("ln_2", inBlock(t, "ln_2", i)), op("↓"), bend(t, i), vec("c_fc", inBlock(t, "c_fc", i)), op("↓"),
      vec("act", inBlock(t, "act", i)), op("↓"), vec("mlp", inBlock(t, "mlp", i))] },
  { id: "y", inBlock: true, en: "Second residual sum", ko: "둘째 잔차 연결", shape: (n) => `[${n}, ${config.n_embd}]`,
    source: [[src("kernels", "transformer_block", "return x + ffn", 1)]],
    text: () => state.block < config.n_layer - 1
      ? say(`Added again: y is what block ${state.block + 1} takes for its x. Move the block to go on.`, `다시 더합니다. y는 블록 ${state.block + 1}의 x가 됩니다. 블록을 옮기면 이어집니다.`)
      : say("Added again. This was the last block: y goes to the final layer norm, ln_f.", "다시 더합니다. 마지막 블록이므로 y는 마지막 층 정규화 ln_f로 갑니다."),
    fill: (t, i) => [vec("x_mid", inBlock(t, "x_mid", i)), op("+"), vec("mlp", inBlock(t, "mlp", i)), op("="), vec("y", inBlock(t, "y", i))] },
  { id: "word", only: () => texts.length > 1, whole: true, en: "One word, two contexts", ko: "한 단어, 두 문맥", shape: () => `[${config.n_embd}] · [${config.n_embd}]`,
    source: [[src("teaching.record", "cosine", "return", 1)]],
    text: () => !words.length ? say("These two texts share no word.", "두 문장에 함께 나오는 단어가 없습니다.")
      : (words[state.word].same ? say("In both sentences the word starts as the same row of wte. ", "이 단어는 두 문장에서 wte의 같은 행으로 출발합니다. ")
        : say("The two sentences write this word with different tokens (a capital letter, or no space before it), so it starts as two rows of wte. ", "두 문장은 이 단어를 다른 토큰으로 씁니다(대문자이거나 앞에 빈칸이 없음). 그래서 wte의 서로 다른 두 행으로 출발합니다. "))
      + say("Block after block, attention mixes in what stands around it, until each sentence has a vector of its own for it. The cosine says how alike the two still are: 1 is the same direction. This is why attention exists. (Of a word that is several tokens, the last is followed.)",
      "블록을 지날 때마다 어텐션이 주변의 내용을 섞어 넣어, 문장마다 다른 벡터가 됩니다. 코사인은 두 벡터가 아직 얼마나 닮았는지를 말합니다(1이면 같은 방향). 어텐션이 있는 까닭입니다. (토큰이 여럿인 단어는 마지막 토큰을 따라갑니다.)"),
    build: () => words.length ? el("div", {}, el("p", {}, el("label", { for: "word" }, say("word ", "단어 ")),
      el("select", { id: "word", onchange: (e) => { state.word = +e.target.value; state.tokens = [...words[state.word].at]; update(); } },
        words.map(({ word }, i) => el("option", { value: i, selected: i === state.word }, word))))) : null,
    fill: (t, i, room) => words.length ? followed(room) : [] },
  { id: "lens", whole: true, each: true, en: "How the prediction forms", ko: "예측이 만들어지는 과정", shape: () => `[${config.n_embd}] → [${count(vocab.length)}]`,
    source: [[src("kernels", "gpt2", "x = layer_norm", 2)]],
    text: () => say("The last token's vector as each block leaves it, read as if the model ended there: through the final layer norm, ln_f, and times wte. The table begins with the model's final choice and how it rises, then shows the five tokens that would come next there.",
      "블록마다 내놓은 마지막 토큰의 벡터를, 모델이 거기서 끝난 것처럼 마지막 층 정규화 ln_f를 거쳐 wte와 곱해 읽습니다. 먼저 모델의 최종 선택이 올라오는 모습을, 이어서 그때 다음에 올 토큰 다섯 개를 보입니다."),
    fill: (t) => lensTable(t) },
  { id: "next", whole: true, each: true, en: "The next token", ko: "다음 토큰", shape: () => `[${count(vocab.length)}] → 1`,
    source: [[src("generation", "distribution", "scores = scores / temp", 5)], [src("generation", "keep_top_k", "kth_best", 2)], [src("generation", "keep_top_p", "order =", 6)]],
    text: () => say("Softmax of the last token's logits, over the whole vocabulary. Temperature sharpens or flattens it; top-k and top-p keep only the likeliest; one of those that stay in is drawn, put at the end of the text, and everything starts anew: the model is autoregressive. The mark in a bar is the probability before filtering.",
      "마지막 토큰의 로짓을 어휘 전체에 대해 소프트맥스한 것입니다. 온도는 분포를 뾰족하게 또는 평평하게 하고, top-k와 top-p는 가능성 높은 것만 남깁니다. 남은 것에서 하나를 뽑아 문장 끝에 붙이고 처음부터 다시 합니다. 이것이 자기 회귀입니다. 막대 속 표시는 거르기 전의 확률입니다."),
    build: samplingControls, fill: (t, i, room) => nextTokens(t, room) },
];

function worked(t, i) {  // q . k = |q||k| cos, for the key that gets most weight
  const n = texts[t].ids.length, [[j]] = heaviest(t, i, 1), score = attention(t, "scores")[i * n + j];
  const q = inBlock(t, "q", i, state.head).norm, k = inBlock(t, "k", j, state.head).norm;
  return el("p", { class: "num worked", "data-worked": t }, `q(${tokenAt(t, i)}) · k(${tokenAt(t, j)}) = |q||k| cos = ${format(q)} × ${format(k)} × ${format(score / (q * k))} = ${format(score)}`);
}

function bend(t, i) {  // the activation function, and where this token's components lie on it
  const x = (v) => 200 + 45 * Math.max(-4.4, Math.min(4.4, v)), y = (v) => 112 - 22 * Math.max(-0.9, Math.min(4.6, v));
  const path = DATA.act.map((v, k) => `${k ? "L" : "M"}${x(k / 8 - 4).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const ins = inBlock(t, "c_fc", i).values, outs = inBlock(t, "act", i).values;
  return el("svg", { viewBox: "0 0 400 135", class: "chart", style: "max-width: 25rem", role: "img",
    "aria-label": say(`${config.activation_function} and max(0, x), from −4 to 4`, `${config.activation_function}와 max(0, x), −4부터 4까지`) },
    el("path", { d: "M10 112H390M200 8V130", stroke: "var(--line)", fill: "none" }),
    el("path", { d: `M${x(-4)} ${y(0)}H${x(0)}L${x(4)} ${y(4)}`, stroke: "var(--soft)", fill: "none", "stroke-dasharray": "4 4" }),
    el("path", { d: path, stroke: "var(--accent)", "stroke-width": 2.5, fill: "none" }),
    [...ins].map((v, k) => el("circle", { cx: x(v), cy: y(outs[k]), r: 4, fill: "var(--pos)", stroke: "var(--card)" })));
}

function followed(room) {
  const { word, at, cosines } = words[state.word], low = Math.min(0, ...cosines), n = cosines.length;
  const x = (i) => 52 + (n > 1 ? i * (room - 76) / (n - 1) : 300), y = (c) => 20 + (1 - c) * 150 / (1 - low);
  const names = cosines.map((_, i) => i ? say(`block ${i - 1}`, `블록 ${i - 1}`) : "wte + wpe");
  return [
    el("svg", { viewBox: `0 0 ${room} 215`, class: "chart", role: "img", "aria-label": say(`cosine of ${word} in the two texts, block by block`, `두 문장 속 ${word}의 코사인, 블록마다`) },
      [1, 0.5, 0, -0.5].filter((c) => c >= low).map((c) => [el("line", { x1: 36, x2: room, y1: y(c), y2: y(c), stroke: "var(--line)" }),
        el("text", { x: 30, y: y(c) + 4, "text-anchor": "end", class: "soft" }, format(c))]).flat(),
      el("path", { d: cosines.map((c, i) => `${i ? "L" : "M"}${x(i)} ${y(c)}`).join(""), fill: "none", stroke: "var(--accent)", "stroke-width": 2.5 }),
      cosines.map((c, i) => el("circle", { cx: x(i), cy: y(c), r: i === state.block + 1 ? 7 : 4, fill: i === state.block + 1 ? "var(--pos)" : "var(--accent)" })),
      cosines.map((c, i) => i % Math.ceil(46 * n / room) ? null : [el("text", { x: x(i), y: y(c) - 11, "text-anchor": "middle" }, format(c)),
        el("text", { x: x(i), y: 208, "text-anchor": "middle", class: "soft" }, i ? String(i - 1) : "wte+wpe")]).flat()),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("the cosines as a table", "코사인 표") },
      el("table", { "data-cosines": word }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("after", "통과한 층")), names.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, el("tr", {}, el("th", { scope: "row" }, say("cosine", "코사인")), cosines.map((c) => el("td", { class: "num" }, format(c))))))),
    el("div", { class: "columns", style: "--n: 2; margin-top: .8rem" }, texts.map((_, t) => el("div", { class: "column" },
      el("p", { class: "whose" }, say(`Where ${word} looks in text ${t + 1} (block ${state.block}, head ${state.head}):`, `문장 ${t + 1}에서 ${word}이(가) 보는 곳 (블록 ${state.block}, 헤드 ${state.head}):`)),
      looks(t, at[t])))),
  ];
}
const looks = (t, i) => el("ol", { class: "bars" }, heaviest(t, i, 5).map(([j, w]) => bar(tokenAt(t, j), w, formatStep("weights", t, w))));

function lensTable(t) {
  const rows = texts[t].lens, choice = rows[rows.length - 1][0][0];
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say(`predictions block by block, text ${t + 1}`, `블록마다의 예측, 문장 ${t + 1}`) },
    el("table", { "data-lens": t }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("after", "통과한 층")),
      el("th", { scope: "col" }, el("b", { class: "tok" }, visible(choice))), el("th", { scope: "col" }, say("its rank", "그 순위")),
      [1, 2, 3, 4, 5].map((k) => el("th", { scope: "col" }, say(`no. ${k}`, `${k}위`))))),
    el("tbody", {}, rows.map((row, i) => el("tr", { class: i === state.block + 1 ? "on" : null },
      el("th", { scope: "row" }, i ? say(`block ${i - 1}`, `블록 ${i - 1}`) : "wte + wpe"),
      el("td", { class: "num" }, percent(row[5][0])), el("td", { class: "num" }, count(row[5][1])),
      row.slice(0, 5).map(([id, p]) => el("td", { class: "p", style: `--a: ${p.toFixed(3)}` },
        el(id === choice ? "b" : "span", { class: "tok" }, visible(id)), " ", el("span", { class: "num" }, percent(p)))))))));
}
