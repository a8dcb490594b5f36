// ---- the steps, in the lecture's order

// What a step has: id, its names, `shape` of what it computes, `goes` (which numbers go in and come
// out), `source` (lines of the code), `text`. `build(t)` makes what stays, `fill(t, i)` what follows
// the picks. `slide`, `ask` and `tell` are for the lecture: its formula, a question, the answer.

const d = config.n_embd / config.n_head;
const matrices = [];
const matrixStep = (step) => ({
  build: (t) => { const matrix = new Matrix(t, step); matrices.push(matrix); return matrix.node; },
  fill: (t) => rowOf(t, step),
  look: true,
});

const STEPS = [
  {
    id: "way", each: true, en: "The whole at a glance", ko: "한눈에 보기",
    shape: (n) => `[${n}] → [${n}, ${config.n_embd}] → [${count(vocab.length)}]`,
    goes: ["text", "p"],
    source: [[src("reference", "gpt2", "x = wte", 4)]],
    text: () => say("Read it from the bottom up: the tokens become vectors, every block adds to them what its attention heads find in other tokens and what its feed-forward part makes of each by itself, and the last vector says what may come next. Each small picture is one head's attention weights (a row: who looks; a column: who is looked at); the bar below it estimates how much that head raises (orange) or lowers (blue) the prediction. Press one to see it large.",
      "아래에서 위로 읽습니다. 토큰은 벡터가 되고, 블록마다 어텐션 헤드가 다른 토큰에서 찾은 것과 피드포워드가 토큰마다 따로 만든 것을 더하며, 마지막 벡터로 다음에 올 토큰을 예측합니다. 작은 그림 하나는 헤드 하나의 어텐션 가중치입니다(행: 보는 토큰, 열: 보는 대상). 그 아래 막대는 그 헤드가 예측을 얼마나 높이는지(주황) 낮추는지(파랑) 어림한 것입니다. 그림을 누르면 크게 볼 수 있습니다."),
    build: wayOf,
    fill: headReading,
  },
  {
    id: "tokens", en: "Tokens", ko: "토큰", shape: (n) => `[${n}]`,
    goes: ["text", "ids"],
    source: [[src("teaching.tokens", "encode", "for pre_token in PRE_TOKENS", 5)]],
    text: () => say("The text becomes UTF-8 bytes, and byte-level BPE joins them into tokens: pieces of text that have a number, the id. ␣ is a space; it belongs to the word that follows. Press a token to follow it.",
      "문장을 UTF-8 바이트로 바꾸고, 바이트 수준 BPE로 바이트를 합쳐 토큰을 만듭니다. 토큰은 번호(id)가 붙은 텍스트 조각입니다. ␣는 공백이며 뒤에 오는 단어에 붙습니다. 토큰을 누르면 그 토큰을 따라갑니다."),
    build: tokenList,
    ask: () => say("How many tokens does each sentence have, and where do the spaces go?", "두 문장의 토큰은 각각 몇 개이고, 공백은 어디에 붙을까요?"),
    tell: () => say(`${texts.map(({ ids }) => ids.length).join(" and ")} tokens; a space is the first sign of the token after it.`, `토큰은 ${texts.map(({ ids }) => ids.length).join("개, ")}개입니다. 공백은 뒤 토큰의 첫 글자입니다.`),
  },
  {
    id: "embed", en: "Embeddings: what and where", ko: "임베딩: 무엇이, 어디에",
    shape: (n) => `[${n}] → [${n}, ${config.n_embd}]`,
    goes: ["ids", "x"],
    source: [[src("kernels", "hidden_states", "x = wte[inputs]", 1)]],
    text: () => say("An id picks its row of the table wte, a position its row of wpe. Their sum x enters block 0. (The lecture adds sinusoids; GPT-2 learns wpe instead.) Beside each vector stands its norm: its length.",
      "id로 표 wte에서, 위치로 표 wpe에서 한 행씩 가져옵니다. 둘의 합 x가 블록 0의 입력입니다. (강의에서는 사인·코사인을 더하지만, GPT-2는 wpe를 학습합니다.) 벡터 옆의 노름은 벡터의 크기(길이)입니다."),
    fill: (t, i) => [vec("wte", vector(texts[t], "wte", i)), op("+"), vec("wpe", vector(texts[t], "wpe", i)), op("="),
      vec("x", vector(texts[t].blocks[0], "x", i))],
    slide: "embedding + PE(pos)",
    ask: () => say("“mouse” stands at another place in each sentence. Which of the two rows, wte or wpe, is the same in both?", "“mouse”는 두 문장에서 다른 위치에 있습니다. wte와 wpe 중 어느 행이 두 문장에서 같을까요?"),
    tell: () => say("wte, the token's own row, is the same; wpe, the place's row, differs. And what if one laid all embeddings side by side and gave them to an MLP? That keeps the order: every place has weights of its own. What it lacks is another thing: it takes one length only, and what it learns about a word at one place it doesn't know at another.",
      "토큰의 행인 wte는 같고, 위치의 행인 wpe는 다릅니다. 임베딩을 모두 이어 붙여 MLP에 넣으면 어떨까요? 위치마다 가중치가 따로 있으므로 순서는 유지됩니다. 문제는 다른 데 있습니다. 입력 길이가 하나로 고정되고, 한 위치에서 배운 단어를 다른 위치에서는 알지 못합니다(가중치를 공유하지 않음)."),
  },
  {
    id: "norm", inBlock: true, en: "Layer norm", ko: "레이어 정규화", shape: (n) => `[${n}, ${config.n_embd}]`,
    goes: ["x", "ln_1"],
    source: [[src("kernels", "layer_norm", "x = x - x.sum", 3)]],
    text: () => say("Before attention, every token's vector is brought to mean 0 and variance 1, then stretched by g and shifted by b, which are learned.",
      "어텐션에 앞서 토큰마다 벡터를 평균 0, 분산 1로 맞추고, 학습된 g를 곱하고 b를 더합니다."),
    fill: (t, i) => [vec("x", inBlock(t, "x", i)), op("↓"), vec("ln_1", inBlock(t, "ln_1", i))],
    slide: "layer_norm(x, g, b)",
    ask: () => say("The norm of x is printed. Will ln_1 be longer or shorter, and how much does that differ from token to token?", "x의 노름이 나와 있습니다. ln_1의 노름은 더 클까요, 작을까요? 토큰마다 많이 다를까요?"),
    tell: () => say(`Before g and b every token's vector has the norm √${config.n_embd} ≈ ${format(config.n_embd ** 0.5)}, whatever it was; g and b, the same for all tokens, make ${normsOf("ln_1")} of it here.`, `g와 b를 적용하기 전에는 어느 토큰이든 노름이 √${config.n_embd} ≈ ${format(config.n_embd ** 0.5)}입니다. 모든 토큰에 같은 g와 b를 적용하면 여기서는 ${normsOf("ln_1")}입니다.`),
  },
  {
    id: "qkv", inBlock: true, en: "Attention 1/6: query, key, value", ko: "어텐션 1/6: 쿼리·키·값",
    shape: (n) => `[${n}, ${config.n_embd}] → 3 × [${config.n_head}, ${n}, ${d}]`,
    goes: ["ln_1", "q, k, v"],
    source: [[src("kernels", "mha", "qkv = linear", 1)], [src("kernels", "mha", "q, k, v =", 1)]],
    text: () => say("One product with the matrix c_attn gives every token a query (what it looks for), a key (what it is found by) and a value (what it hands over): W_Q, W_K and W_V are the thirds of c_attn, and GPT-2 adds a bias to each. Each head has columns of its own.",
      "행렬 c_attn을 한 번 곱해 토큰마다 쿼리(무엇을 찾는가), 키(무엇으로 검색되는가), 값(무엇을 건네는가)을 얻습니다. W_Q, W_K, W_V는 c_attn을 셋으로 나눈 것이며, GPT-2는 각각에 편향을 더합니다. 헤드마다 자기 열을 씁니다."),
    fill: (t, i) => ["q", "k", "v"].map((name) => vec(name, inBlock(t, name, i, state.head), name)),
    slide: "(1) Q = XW_Q, K = XW_K, V = XW_V",
    ask: () => say("Three matrices, one vector: will the query and the key of “mouse” look alike?", "벡터 하나에 행렬 세 개를 곱합니다. “mouse”의 쿼리와 키는 서로 비슷할까요?"),
    tell: () => say("No: what one looks for and what one is found by are learned apart.", "아닙니다. 무엇을 찾는가와 무엇으로 검색되는가는 따로 학습됩니다."),
  },
  {
    id: "scores", inBlock: true, en: "Attention 2/6: scores q · k", ko: "어텐션 2/6: 점수 q · k",
    shape: (n) => `[${n}, ${d}] · [${d}, ${n}] → [${n}, ${n}]`,
    goes: ["q, k", "scores"],
    source: [[src("kernels", "attention", "return softmax", 1)], [src("gradients", "attention_forward", "scores =", 1)]],
    text: () => say("Every query meets every key: q · k = |q||k| cos, large where both are long and point the same way. A row is the token that looks, a column the one looked at.",
      "모든 쿼리와 모든 키의 내적을 구합니다. q · k = |q||k| cos는 두 벡터의 크기가 크고 방향이 비슷할수록 커집니다. 행은 보는 토큰, 열은 보는 대상입니다."),
    ...matrixStep("scores"),
    after: worked,
    slide: "(2) QKᵀ",
    ask: () => say("In the row of “mouse”: which token's key will fit its query best?", "“mouse”의 행에서 어느 토큰의 키가 쿼리와 가장 잘 맞을까요?"),
    tell: () => bestOf("scores"),
  },
  {
    id: "scaled", inBlock: true, en: "Attention 3/6: scale", ko: "어텐션 3/6: 스케일링", shape: (n) => `[${n}, ${n}]`,
    goes: ["scores", "scaled"],
    source: [[src("gradients", "attention_forward", "scaled =", 1)]],
    text: () => say(`Every score × ${Number(config.scales[state.block].toPrecision(4))} (1/√d_k is ${Number((d ** -0.5).toPrecision(4))}): a sum of d_k = ${d} products grows like √d_k, and from large numbers softmax would give nearly everything to one token.`,
      `점수의 크기를 조정합니다: × ${Number(config.scales[state.block].toPrecision(4))} (1/√d_k = ${Number((d ** -0.5).toPrecision(4))}). d_k = ${d}개의 곱을 더한 값은 √d_k에 비례해 커지고, 점수가 크면 소프트맥스가 거의 모든 가중치를 한 토큰에 주기 때문입니다.`),
    ...matrixStep("scaled"),
    slide: "(3) QKᵀ / √d_k",
    ask: () => say("Does scaling change which token comes first?", "스케일링으로 1위 토큰이 바뀔까요?"),
    tell: () => say("No: all scores are multiplied by one number, so their order stays. Softmax becomes less sharp.", "아닙니다. 모든 점수에 같은 수를 곱하므로 순서는 그대로이고, 소프트맥스가 덜 뾰족해집니다."),
  },
  {
    id: "masked", inBlock: true, en: "Attention 4/6: causal mask", ko: "어텐션 4/6: 인과 마스크", shape: (n) => `[${n}, ${n}]`,
    goes: ["scaled", "masked"],
    source: [[src("gradients", "attention_forward", "masked =", 1)], [src("kernels", "causal_mask", "return", 1)]],
    text: () => say("A token may not look at what comes after it, or it would be told the answer: −10¹⁰ is added there, and exp(−10¹⁰), which comes next, is 0. The last token has nothing after it: pick an earlier one to see what is hidden from it.",
      "토큰은 자기 뒤에 오는 토큰을 볼 수 없습니다. 본다면 정답을 미리 아는 셈이기 때문입니다. 그래서 그 자리에 −10¹⁰을 더합니다. 다음 단계에서 exp(−10¹⁰)은 0이 됩니다. 마지막 토큰 뒤에는 아무것도 없으니, 앞쪽 토큰을 골라 무엇이 가려지는지 보세요."),
    ...matrixStep("masked"),
    slide: "(4) −∞",
    ask: () => say("“I prefer a wireless mouse for my computer”: can “mouse” look at “computer”?", "“I prefer a wireless mouse for my computer”에서 “mouse”는 “computer”를 볼 수 있을까요?"),
    tell: () => say("No: “computer” comes later. A picture of attention in which “mouse” takes 0.3 of “computer” is right for a model without this mask (an encoder); in GPT-2 only what comes before can tell which mouse it is.",
      "아닙니다. “computer”는 뒤에 있습니다. “mouse”가 “computer”에서 0.3을 가져오는 그림은 마스크가 없는 모델(인코더)에 맞습니다. GPT-2에서는 앞에 있는 것만이 어떤 mouse인지 알려 줄 수 있습니다."),
  },
  {
    id: "weights", inBlock: true, en: "Attention 5/6: softmax", ko: "어텐션 5/6: 소프트맥스", shape: (n) => `[${n}, ${n}]`,
    goes: ["masked", "weights"],
    source: [[src("gradients", "attention_forward", "weights =", 1)], [src("kernels", "softmax", "exp_x =", 2)]],
    text: () => say("exp of every score, divided by its row's sum: every row is positive and sums to 1; the masked places become 0. Below, the same row as arcs over the sentence.",
      "점수에 exp를 취한 뒤 행의 합으로 나눕니다. 각 행의 값은 모두 양수이고 합은 1이며, 마스킹된 자리는 0이 됩니다. 아래에는 같은 행을 문장 위의 곡선으로 그렸습니다."),
    ...matrixStep("weights"),
    arcs: true,
    after: firstToken,
    end: () => el("p", { class: "caution" }, say(
      "Attention weights are not explanations: they say where a head looked, not why the model answers as it does (Jain & Wallace 2019, “Attention is not Explanation”).",
      "어텐션 가중치는 설명이 아닙니다. 헤드가 어디를 보았는지 보여 줄 뿐, 모델이 왜 그렇게 답하는지는 알려 주지 않습니다(Jain & Wallace 2019, “Attention is not Explanation”).")),
    slide: "(5) softmax(QKᵀ / √d_k)",
    ask: () => say("How much of “mouse” goes to “wireless”, how much to “tiny”? Guess a number between 0 and 1.", "“mouse”는 “wireless”와 “tiny”를 각각 얼마나 볼까요? 0과 1 사이의 수로 예상해 보세요."),
    tell: () => DATA.lecture.places.map(({ word, telling }, t) => `mouse → ${["wireless", "tiny"][t]}: ${
      format(telling.reduce((sum, j) => sum + attention(t, "weights")[word * texts[t].ids.length + j], 0))}`).join(" · "),
  },
  {
    id: "heads", inBlock: true, en: "Attention 6/6: weighted sum", ko: "어텐션 6/6: 가중합",
    shape: (n) => `[${n}, ${n}] · [${n}, ${d}] → [${n}, ${d}]`,
    goes: ["weights, v", "heads"],
    source: [[src("gradients", "attention_forward", "return hook", 1)]],
    text: () => say("What the head hands to this token: the values of all the tokens that it may see, each times its weight.",
      "헤드가 이 토큰에 건네는 벡터입니다. 볼 수 있는 모든 토큰의 값 벡터에 가중치를 곱해 더합니다."),
    fill: weightedSum,
    slide: "(6) softmax(QKᵀ / √d_k) V",
    ask: () => say("The weights sum to 1. Can the sum be longer than the longest of the values?", "가중치의 합은 1입니다. 가중합이 가장 긴 값 벡터보다 길어질 수 있을까요?"),
    tell: () => say("No: an average of vectors is never longer than the longest of them. And attention is not linear in its input, though it is made of products: the weights depend on the input themselves, through softmax.",
      "아닙니다. 벡터들의 가중 평균은 그중 가장 긴 것보다 길 수 없습니다. 그리고 어텐션은 행렬 곱으로 이루어져 있어도 입력에 대해 선형이 아닙니다. 가중치 자체가 소프트맥스를 거쳐 입력에 따라 달라지기 때문입니다."),
  },
  {
    id: "joined", inBlock: true, en: "Many heads, joined", ko: "헤드 결합",
    shape: (n) => `[${config.n_head}, ${n}, ${d}] → [${n}, ${config.n_embd}]`,
    goes: ["heads", "attn"],
    source: [[src("kernels", "merge_heads", "return", 1)], [src("kernels", "mha", "return linear", 1)]],
    text: () => say(`All ${config.n_head} heads did the same with columns of their own. Their outputs are laid side by side, and one more matrix, c_proj (W_O), mixes them. The bars show each head's norm.`,
      `${config.n_head}개 헤드가 각자의 열로 같은 일을 했습니다. 그 결과를 나란히 결합한 뒤 행렬 c_proj(W_O)를 곱해 섞습니다. 막대는 각 헤드 출력의 노름입니다.`),
    fill: (t, i) => {
      const norms = Array.from({ length: config.n_head }, (_, h) => inBlock(t, "heads", i, h).norm);
      const top = Math.max(...norms) || 1;
      return [el("ol", { class: "bars", "data-heads": t }, norms.map((norm, h) =>
        bar(say(`head ${h}`, `헤드 ${h}`), norm / top, format(norm), { on: h === state.head, extra: live && live.silenceButton(state.block, h, t) }))),
        vec("joined", inBlock(t, "joined", i)), op("↓"), vec("attn", inBlock(t, "attn", i))];
    },
    slide: "head_1 … head_h, W_O",
    ask: () => say("Do all heads look at the same tokens? Go back to the small pictures on top.", "모든 헤드가 같은 토큰을 볼까요? 맨 위의 작은 그림들을 다시 보세요."),
    tell: () => say("No: one may look at the token before, another at the first, a third at a word that fits.", "아닙니다. 바로 앞 토큰을 보는 헤드, 첫 토큰을 보는 헤드, 의미가 맞는 단어를 보는 헤드가 있습니다."),
  },
  {
    id: "x_mid", inBlock: true, en: "First residual sum", ko: "첫째 잔차 연결", shape: (n) => `[${n}, ${config.n_embd}]`,
    goes: ["x, attn", "x_mid"],
    source: [[src("kernels", "transformer_block", "a = mha", 4)], [src("kernels", "transformer_block", "x = x + a", 1)]],
    text: () => say("What attention found is added to what was there: nothing is overwritten, and gradients find their way back.",
      "어텐션이 찾은 것을 원래 있던 것에 더합니다. 아무것도 덮어쓰지 않으며, 역전파 때 그래디언트가 지나갈 길이 됩니다."),
    fill: (t, i) => [vec("x", inBlock(t, "x", i)), op("+"), vec("attn", inBlock(t, "attn", i)), op("="), vec("x_mid", inBlock(t, "x_mid", i))],
    slide: "x + mha(layer_norm(x))",
  },
  {
    id: "ffn", inBlock: true, en: "Feed-forward: each token by itself", ko: "피드포워드: 토큰마다 따로",
    shape: (n) => `[${n}, ${config.n_embd}] → [${n}, ${config.d_inner}] → [${n}, ${config.n_embd}]`,
    goes: ["x_mid", "mlp"],
    source: [[src("kernels", "ffn", "h = linear", 2)], [src("kernels", "gelu", "return", 1)]],
    text: () => say(`After a second layer norm: widen to ${config.d_inner}, bend (max(0, x) in the lecture, dashed; ${config.activation_function} here), narrow again. No token sees another here. The dots are the 16 components below.`,
      `둘째 레이어 정규화 뒤에 ${config.d_inner}차원으로 넓히고, 비선형 함수를 거쳐(강의에서는 점선인 max(0, x), 여기서는 ${config.activation_function}), 다시 좁힙니다. 여기서는 토큰끼리 서로 보지 않습니다. 점은 아래 16개 성분입니다.`),
    fill: (t, i) => [vec("ln_2", inBlock(t, "ln_2", i)), op("↓"), bend(t, i), vec("c_fc", inBlock(t, "c_fc", i)), op("↓"),
      vec("act", inBlock(t, "act", i)), op("↓"), vec("mlp", inBlock(t, "mlp", i))],
    slide: "FFN(x) = max(0, xW₁ + b₁)W₂ + b₂",
    ask: () => say("What would two matrix products in a row be without the bend between them?", "두 행렬 곱 사이에 비선형 함수가 없다면 무엇이 될까요?"),
    tell: () => say("One matrix product: W₁W₂. The bend is what makes it more.", "행렬 곱 하나(W₁W₂)와 같습니다. 비선형 함수가 있어야 그 이상이 됩니다."),
  },
  {
    id: "y", inBlock: true, en: "Second residual sum", ko: "둘째 잔차 연결", shape: (n) => `[${n}, ${config.n_embd}]`,
    goes: ["x_mid, mlp", "y"],
    source: [[src("kernels", "transformer_block", "return x + ffn", 1)]],
    text: () => state.block < config.n_layer - 1
      ? say(`Added again: y is what block ${state.block + 1} takes for its x. Move the block to go on.`, `다시 더합니다. y는 블록 ${state.block + 1}의 x가 됩니다. 위에서 블록을 바꾸면 이어서 볼 수 있습니다.`)
      : say("Added again. This was the last block: y goes to the final layer norm, ln_f.", "다시 더합니다. 마지막 블록이므로 y는 마지막 레이어 정규화 ln_f로 갑니다."),
    fill: (t, i) => [vec("x_mid", inBlock(t, "x_mid", i)), op("+"), vec("mlp", inBlock(t, "mlp", i)), op("="), vec("y", inBlock(t, "y", i))],
    slide: "x + ffn(layer_norm(x))",
  },
  {
    id: "word", only: () => texts.length > 1, whole: true, en: "One word, two contexts", ko: "한 단어, 두 문맥",
    shape: () => `[${config.n_embd}] · [${config.n_embd}]`,
    goes: ["x, y", "cos"],
    source: [[src("teaching.record", "cosine", "return", 1)]],
    text: wordText,
    build: () => words.length ? el("div", {}, el("p", {}, el("label", { for: "word" }, say("word ", "단어 ")),
      el("select", { id: "word", onchange: (e) => { state.word = +e.target.value; state.tokens = [...words[state.word].at]; update(); } },
        words.map(({ word }, i) => el("option", { value: i, selected: i === state.word }, word))))) : null,
    fill: (t, i, room) => words.length ? followed(room) : [],
    ask: () => say("Both sentences start from the same row for “mouse”. After the last block, will the two vectors still point the same way?", "두 문장은 “mouse”의 같은 행에서 출발합니다. 마지막 블록 뒤에도 두 벡터의 방향이 같을까요?"),
    tell: () => words.length ? say(`Their cosine goes from ${format(words[state.word].cosines[0])} to ${format(words[state.word].cosines.at(-1))}.`, `코사인: ${format(words[state.word].cosines[0])} → ${format(words[state.word].cosines.at(-1))}`) : "",
  },
  {
    id: "cross", only: () => DATA.lecture, whole: true, en: "What GPT lacks: cross-attention", ko: "GPT에 없는 것: 크로스 어텐션",
    shape: () => `[${texts[0].ids.length}, ${texts[1].ids.length}]`,
    goes: ["x, other", "heads"],
    source: [[src("teaching.lecture", "cross_attention", "q = linear", 5)]],
    text: () => say("A translator has an encoder that reads one sentence and a decoder that writes another, which must be able to look at the first: its queries are its own, the keys and values are the other sentence's. It is the same attention, in five lines. GPT needs no encoder, for input and output are one text. The numbers show how it is done; this model has never learned to look at another sentence.",
      "번역 모델에는 한 문장을 읽는 인코더와 다른 문장을 쓰는 디코더가 있고, 디코더는 인코더가 읽은 문장을 볼 수 있어야 합니다. 쿼리는 자기 문장에서, 키와 값은 상대 문장에서 구합니다. 같은 어텐션이며 다섯 줄이면 됩니다. GPT는 입력과 출력이 하나의 텍스트라서 인코더가 필요 없습니다. 아래의 수는 계산 방법을 보여 줄 뿐이며, 이 모델은 다른 문장을 보도록 학습된 적이 없습니다."),
    fill: crossRow,
    ask: () => say("Is a mask needed here?", "여기에도 마스크가 필요할까요?"),
    tell: () => say("No: the sentence that is looked at is there as a whole.", "아닙니다. 보는 대상 문장은 이미 전부 주어져 있습니다."),
  },
  {
    id: "lens", whole: true, each: true, en: "How the prediction forms", ko: "예측이 만들어지는 과정",
    shape: () => `[${config.n_embd}] → [${count(vocab.length)}]`,
    goes: ["y", "logits"],
    source: [[src("kernels", "gpt2", "x = layer_norm", 2)]],
    text: () => say(`The last token's vector as each block leaves it, read as if the model ended there: through the final layer norm, ln_f, and times ${outputMatrix}. The table begins with the model's final choice and how it rises, then shows the five tokens that would come next there.`,
      `각 블록이 내놓은 마지막 토큰의 벡터를, 모델이 거기서 끝난 것처럼 마지막 레이어 정규화 ln_f를 거쳐 행렬 ${outputMatrix}를 곱해 읽습니다. 표에는 먼저 모델의 최종 선택이 올라오는 과정을, 이어서 그 블록에서 예측하는 토큰 다섯 개를 보여 줍니다.`)
      + (config.tie_word_embeddings ? say(" In the first row a token foretells itself: input and output share one table (they are tied), and nothing fits a row of wte as well as that row.",
        " 첫 행에서는 토큰이 자기 자신을 예측합니다. 입력과 출력이 같은 표를 쓰므로(공유), wte의 한 행과 가장 잘 맞는 것은 바로 그 행이기 때문입니다.") : ""),
    fill: (t) => lensTable(t),
  },
  {
    id: "loss", whole: true, each: true, en: "The blank at every place: loss", ko: "모든 자리의 빈칸: 손실",
    shape: (n) => `[${n}, ${count(vocab.length)}] → [${n - 1}] → 1`,
    goes: ["logits, ids", "loss"],
    source: [[src("backprop", "cross_entropy", "logits = x", 2)]],
    text: () => say("A sentence is a row of blanks: at every place the model foretells the next token, which the mask has kept it from reading. The loss of a place is −log (the natural logarithm; its unit is the nat) of the probability that the true next token got: 0 if it was certain, 0.69 at one half. Training lowers the mean. The last blank has no true answer: it is what the model is to write.",
      "문장은 빈칸이 이어진 것과 같습니다. 모델은 자리마다 다음 토큰을 예측하며, 마스크 때문에 정답을 미리 볼 수 없습니다. 한 자리의 손실은 실제 다음 토큰에 준 확률의 −log입니다. 확률이 1이면 0, 1/2이면 0.69입니다. 학습은 그 평균을 줄입니다. 마지막 빈칸에는 정답이 없습니다. 모델이 채울 자리입니다."),
    fill: lossTable,
    slide: "The cat sat on the ____",
    ask: () => say("Which word of each sentence surprised the model most?", "각 문장에서 모델이 가장 예상하지 못한 단어는 무엇일까요?"),
    tell: () => texts.map((_, t) => mostSurprising(t)).join(" · "),
  },
  {
    id: "next", whole: true, each: true, en: "The next token", ko: "다음 토큰",
    shape: () => `[${count(vocab.length)}] → 1`,
    goes: ["logits", "p"],
    source: [[src("generation", "distribution", "logits = logits / temp", 5)], [src("generation", "keep_top_k", "kth_best", 2)], [src("generation", "keep_top_p", "order =", 6)]],
    text: () => say("Softmax of the last token's logits, over the whole vocabulary. Temperature sharpens or flattens it; top-k and top-p keep only the likeliest; one of those that stay in is drawn, put at the end of the text, and everything starts anew: the model is autoregressive. The mark in a bar is the model's own probability: temperature 1, nothing filtered.",
      "마지막 토큰의 로그잇을 어휘 전체에 대해 소프트맥스한 것입니다. 온도는 분포를 뾰족하게 또는 평평하게 하고, top-k와 top-p는 확률이 높은 토큰만 남깁니다. 남은 토큰에서 하나를 뽑아 문장 끝에 붙이고 처음부터 다시 계산합니다. 이것이 자기 회귀입니다. 막대 안의 선은 모델 원래의 확률입니다(온도 1, 필터 없음)."),
    build: samplingControls,
    fill: (t, i, room) => nextTokens(t, room),
    slide: "softmax → argmax",
    ask: () => say("What will come next? Write down one word for each sentence.", "다음에 무엇이 올까요? 문장마다 단어 하나를 적어 보세요."),
    tell: () => texts.map((_, t) => visible(orderOf(t)[0])).join(" · "),
  },
  ...LEARNING_STEPS,
];

function tokenList(t) {  // byte tokens of one word stand under that word
  const button = (i) => el("button", { onclick: () => pickToken(t, i), "data-token": `${t}-${i}` },
    el("span", { class: "tok" }, tokenAt(t, i)), el("small", { class: "num" }, hex(texts[t].ids[i])), el("small", { class: "num" }, `id ${texts[t].ids[i]}`));
  return el("ol", { class: "tokens" }, wordsOf(t).map(({ text, places }) => places.length === 1 ? el("li", {}, button(places[0]))
    : el("li", { class: "bytes" }, el("b", { class: "tok" }, text), el("span", { class: "tokens" }, places.map(button)))));
}

function worked(t, i) {  // q . k = |q||k| cos, for the key that gets most weight
  const n = texts[t].ids.length, [[j]] = heaviest(t, i, 1), score = attention(t, "scores")[i * n + j];
  const q = inBlock(t, "q", i, state.head).norm, k = inBlock(t, "k", j, state.head).norm;
  return el("p", { class: "num worked", "data-worked": t }, `q(${tokenAt(t, i)}) · k(${tokenAt(t, j)}) = |q||k| cos = ${format(q)} × ${format(k)} × ${format(score / (q * k))} = ${format(score)}`);
}

const normsOf = (name) => texts.map((_, t) => format(inBlock(t, name, state.tokens[t]).norm)).join(" · ");

function bestOf(step) {  // for each text, what the picked token's row of a matrix has most of
  return texts.map((_, t) => {
    const i = state.tokens[t], n = texts[t].ids.length, row = attention(t, step).subarray(i * n, i * n + i + 1);
    const j = row.indexOf(Math.max(...row));
    return `${tokenAt(t, i)} → ${tokenAt(t, j)}: ${formatStep(step, t, row[j])}`;
  }).join(" · ");
}

function firstToken(t) {  // why the first token is looked at so much, with this head's numbers
  const n = texts[t].ids.length, weights = attention(t, "weights");
  if (n < 3) return el("p");
  let share = 0, others = 0;
  for (let i = 1; i < n; i++) share += weights[i * n] / (n - 1);
  for (let i = 1; i < n; i++) others += inBlock(t, "v", i, state.head).norm / (n - 1);
  const first = inBlock(t, "v", 0, state.head).norm;
  return el("p", { class: "worked", "data-first": t }, say(
    `The first token gets ${format(share)} of the weight here on average. A row must sum to 1, even where a head finds nothing that it looks for; what is left over then goes to a place that every token can see, the first (Xiao et al. 2023 call it an attention sink). It does little harm where the value found there is short: its norm is ${format(first)}, the others' ${format(others)} on average.`,
    `여기서 첫 토큰은 평균 ${format(share)}의 가중치를 받습니다. 헤드가 찾는 것이 없어도 한 행의 합은 1이어야 하므로, 남는 가중치는 모든 토큰이 볼 수 있는 첫 자리로 갑니다(Xiao et al. 2023의 attention sink). 그 자리의 값 벡터가 짧으면 결과에 주는 영향이 작습니다. 첫 토큰의 값 벡터의 노름은 ${format(first)}, 나머지는 평균 ${format(others)}입니다.`));
}

function weightedSum(t, i) {
  const best = heaviest(t, i, 4), rest = 1 - best.reduce((sum, [, w]) => sum + w, 0);
  const times = (w, v) => ({ ...v, values: v.values.map((x) => w * x), norm: w * v.norm });
  return [...best.flatMap(([j, w], at) => [at ? op("+") : null,
    vec(`${formatStep("weights", t, w)} × v(${tokenAt(t, j)})`, times(w, inBlock(t, "v", j, state.head)), "v")]),
    i > 3 ? el("p", { class: "whose" }, say(`+ ${i - 3} others, whose weights are ${format(rest)} together`,
      `+ 나머지 ${i - 3}개, 가중치의 합 ${format(rest)}`)) : null,
    op("="), vec("heads", inBlock(t, "heads", i, state.head))];
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

function wordText() {
  if (!words.length) return say("These two texts share no word.", "두 문장에 함께 나오는 단어가 없습니다.");
  const begins = words[state.word].same
    ? say("In both sentences the word starts as the same row of wte. ", "이 단어는 두 문장에서 wte의 같은 행으로 출발합니다. ")
    : say("The two sentences write this word with different tokens (a capital letter, or no space before it), so it starts as two rows of wte. ",
      "두 문장은 이 단어를 다른 토큰으로 씁니다(대문자이거나 앞에 공백이 없음). 그래서 wte의 서로 다른 두 행으로 출발합니다. ");
  return begins + say("Block after block, attention mixes in what stands before it, until each sentence has a vector of its own for it: what comes after, a causal mask hides. The cosine says how alike the two still are: 1 is the same direction. This is what attention is for. (Of a word that is several tokens, the last is followed.)",
    "블록을 지날 때마다 어텐션이 앞에 있는 내용을 섞어 넣어, 문장마다 다른 벡터가 됩니다. 뒤에 오는 것은 인과 마스크가 가립니다. 코사인은 두 벡터가 아직 얼마나 비슷한지 나타냅니다(1이면 같은 방향). 어텐션이 필요한 이유입니다. (여러 토큰으로 나뉜 단어는 마지막 토큰을 따라갑니다.)");
}

function followed(room) {
  const { word, at, cosines } = words[state.word], low = Math.min(0, ...cosines), n = cosines.length;
  const x = (i) => 52 + (n > 1 ? i * (room - 76) / (n - 1) : 300), y = (c) => 20 + (1 - c) * 150 / (1 - low);
  return [
    el("svg", { viewBox: `0 0 ${room} 215`, class: "chart", role: "img", "aria-label": say(`cosine of ${word} in the two texts, block by block`, `두 문장 속 ${word}의 블록별 코사인`) },
      [1, 0.5, 0, -0.5].filter((c) => c >= low).map((c) => [el("line", { x1: 36, x2: room, y1: y(c), y2: y(c), stroke: "var(--line)" }),
        el("text", { x: 30, y: y(c) + 4, "text-anchor": "end", class: "soft" }, format(c))]).flat(),
      el("path", { d: cosines.map((c, i) => `${i ? "L" : "M"}${x(i)} ${y(c)}`).join(""), fill: "none", stroke: "var(--accent)", "stroke-width": 2.5 }),
      cosines.map((c, i) => el("circle", { cx: x(i), cy: y(c), r: i === state.block + 1 ? 7 : 4, fill: i === state.block + 1 ? "var(--pos)" : "var(--accent)" })),
      cosines.map((c, i) => i % Math.ceil(46 * n / room) ? null : [el("text", { x: x(i), y: y(c) - 11, "text-anchor": "middle" }, format(c)),
        el("text", { x: x(i), y: 208, "text-anchor": "middle", class: "soft" }, i ? String(i - 1) : "wte+wpe")]).flat()),
    scrolled(say("the cosines as a table", "코사인 표"), el("table", { "data-cosines": word },
      el("thead", {}, el("tr", {}, column(say("after", "통과한 블록")), cosines.map((_, i) => column(i ? say(`block ${i - 1}`, `블록 ${i - 1}`) : "wte + wpe")))),
      el("tbody", {}, el("tr", {}, el("th", { scope: "row" }, say("cosine", "코사인")), cosines.map((c) => el("td", { class: "num" }, format(c))))))),
    el("div", { class: "columns two" }, texts.map((_, t) => el("div", { class: "column" },
      el("p", { class: "whose" }, say(`Where ${word} looks in text ${t + 1} (block ${state.block}, head ${state.head}):`, `문장 ${t + 1}의 단어 ${word}: 보는 곳 (블록 ${state.block}, 헤드 ${state.head})`)),
      el("ol", { class: "bars" }, heaviest(t, at[t], 5).map(([j, w]) => bar(tokenAt(t, j), w, formatStep("weights", t, w))))))),
  ];
}

function crossRow() {  // where the picked token of the first sentence would look in the second
  const { weights, norms } = DATA.lecture.cross, i = Math.min(state.tokens[0], weights.length - 1);
  return [el("p", { class: "whose" }, say(`Where ${tokenAt(0, i)} of text 1 would look in text 2 (block ${DATA.lecture.head[0]}, head ${DATA.lecture.head[1]}); what it is given has the norm ${format(norms[i])}:`,
    `문장 1의 ${tokenAt(0, i)} 토큰이 문장 2에서 보게 될 곳 (블록 ${DATA.lecture.head[0]}, 헤드 ${DATA.lecture.head[1]}). 받는 벡터의 노름은 ${format(norms[i])}입니다.`)),
    el("ol", { class: "bars", "data-cross": "" }, weights[i].map((w, j) => bar(tokenAt(1, j), w, format(w))))];
}

function lensTable(t) {
  const rows = texts[t].lens, choice = rows[rows.length - 1][0][0];
  return scrolled(say(`predictions block by block, text ${t + 1}`, `블록별 예측, 문장 ${t + 1}`),
    el("table", { "data-lens": t }, el("thead", {}, el("tr", {}, column(say("after", "통과한 블록")),
      column(el("b", { class: "tok" }, visible(choice))), column(say("its rank", "순위")),
      [1, 2, 3, 4, 5].map((k) => column(say(`no. ${k}`, `${k}위`))))),
    el("tbody", {}, rows.map((row, i) => el("tr", { class: i === state.block + 1 ? "on" : null },
      el("th", { scope: "row" }, i ? say(`block ${i - 1}`, `블록 ${i - 1}`) : "wte + wpe"),
      el("td", { class: "num" }, percent(row[5][0])), el("td", { class: "num" }, count(row[5][1])),
      row.slice(0, 5).map(([id, p]) => el("td", { class: "p", style: `--a: ${p.toFixed(3)}` },
        el(id === choice ? "b" : "span", { class: "tok" }, visible(id)), " ", el("span", { class: "num" }, percent(p)))))))));
}

function mostSurprising(t) {
  const rows = texts[t].predictions;
  if (!rows.length) return "";
  const i = rows.reduce((worst, row, k) => row[0] < rows[worst][0] ? k : worst, 0);
  return `${tokenAt(t, i + 1)}: ${format(-Math.log(rows[i][0]))}`;
}

function lossTable(t) {
  const { ids, predictions } = texts[t], losses = predictions.map(([p]) => -Math.log(p)), n = losses.length;
  const mean = losses.reduce((a, b) => a + b, 0) / n, top = Math.max(...losses, 1);
  const order = orderOf(t), chance = spread(t, 1);
  return [
    n ? el("p", { "data-mean": t }, say(`Mean loss ${format(mean)} nats a token: perplexity e^loss = ${format(Math.exp(mean))}, as if the model chose among that many equally likely tokens.`,
      `평균 손실은 토큰당 ${format(mean)} nat, 퍼플렉서티 e^손실 = ${format(Math.exp(mean))}: 확률이 같은 토큰 ${format(Math.exp(mean))}개 중에서 고르는 것과 같습니다.`)) : null,
    scrolled(say(`the loss at every place, text ${t + 1}`, `모든 자리의 손실, 문장 ${t + 1}`), el("table", { "data-loss": t },
      el("thead", {}, el("tr", {}, [say("after", "이 토큰 뒤"), say("true next", "실제 다음"), say("probability", "확률"), say("loss", "손실"),
        say("rank", "순위"), say("model's first", "모델의 1위")].map(column))),
      el("tbody", {},
        predictions.map(([p, rank, best, pBest], i) => el("tr", { class: i === state.tokens[t] ? "on" : null },
          el("th", { scope: "row", class: "tok" }, visible(ids[i])), el("td", { class: "tok" }, visible(ids[i + 1])), el("td", { class: "num" }, percent(p)),
          el("td", { class: "p", style: `--a: ${(losses[i] / top).toFixed(3)}` }, el("span", { class: "num" }, format(losses[i]))), el("td", { class: "num" }, count(rank)),
          el("td", {}, el("span", { class: "tok" }, visible(best)), " ", el("span", { class: "num" }, percent(pBest))))),
        el("tr", { class: n === state.tokens[t] ? "on" : null }, el("th", { scope: "row", class: "tok" }, visible(ids[n])), el("td", {}, "____"),
          el("td", {}, "—"), el("td", {}, "—"), el("td", {}, "—"),
          el("td", {}, el("span", { class: "tok" }, visible(order[0])), " ", el("span", { class: "num" }, percent(chance[0])))))))];
}
