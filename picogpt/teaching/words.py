"""What the exercises say when a check fails, in English and in Korean."""

SAY = {
    # where it failed
    "gives": ("it gives", "다음과 같은 값이 나왔습니다"),
    "call": ("in call {} of {}: {}", "호출 {}/{}: {}"),
    "result": ("the result", "결과"),
    "right": ("right: {}", "올바른 것: {}"),
    "missing": ("{}: missing, should be {}", "{}: 값이 없습니다 (올바른 모양: {})"),
    "unasked": (
        "{}: changed or given, and should not be",
        "{}: 바뀌거나 반환되면 안 되는 값입니다",
    ),
    "other": ("{} is {}, should be {}", "{}: {} (올바른 값: {})"),
    "shape": ("{} has shape {}, should have {}", "{}의 모양은 {}입니다 (올바른 모양: {})"),
    "dtype": ("{} has dtype {}, should have {}", "{}의 dtype은 {}입니다 (올바른 dtype: {})"),
    "numbers": (
        "{} {}: {} of {} numbers differ, the first at {}: {}, should be {}",
        "{} {}: 숫자 {}개가 다릅니다 (전체 {}개). 처음 다른 곳은 {}: {} (올바른 값: {})",
    ),
    # what can be seen in the numbers of a mistake that nobody has met before
    "changes": (
        "it changes {}, which should stay as it is",
        "{}의 값이 바뀌었습니다. 인자는 그대로 두어야 합니다",
    ),
    "in place": (
        "{} should be changed in place, and stays as it is",
        "{}의 값을 제자리에서(in place) 바꾸어야 하는데 그대로입니다",
    ),
    "gives back": (
        "it gives something back, and should only change its arguments",
        "값을 반환하지 말고 인자만 제자리에서 바꾸어야 합니다",
    ),
    "nothing": (
        "it gives nothing back: is there a return at its end?",
        "반환값이 없습니다. 마지막에 return이 있는지 확인하세요",
    ),
    "how many": (
        "it gives {} things back, and should give {}: {}",
        "반환값이 {}개입니다. {}개여야 합니다: {}",
    ),
    "list": (
        "it gives a list or a tuple where one thing is due",
        "값 하나를 반환해야 하는데 리스트나 튜플을 반환합니다",
    ),
    "lists": (
        "{} is a list where one array is due: np.stack makes one of arrays of one shape",
        "{}는 배열 하나여야 하는데 리스트입니다: 모양이 같은 배열들은 np.stack으로 합칩니다",
    ),
    "lacks": ("it gives no {} back", "반환값에 {}가 없습니다"),
    "too much": ("it gives {} back, which nobody asked for", "반환하면 안 되는 {}가 있습니다"),
    "in place of": (
        "it gives {} back in the place of {}",
        "{}를 반환하는데, {}를 반환해야 합니다",
    ),
    "keyword": (
        "it doesn't take {} yet: this part's functions do, by keyword",
        "아직 {} 인자를 받지 않습니다. 이 단계의 함수는 키워드 인자로 받아야 합니다",
    ),
    "spread": (
        "{} is called without {}: two stars hand on what a dict holds, as in linear(x, **c_fc)",
        "{}를 부를 때 {}가 빠졌습니다: 딕셔너리에 든 값은 별 두 개로 넘깁니다, linear(x, **c_fc)",
    ),
    "flat": (
        "this walks over one flat level: gradients are a tree of dicts and lists, see tree_map",
        "한 단계만 돌았습니다: 그래디언트는 딕셔너리와 리스트로 된 트리입니다, tree_map을 쓰세요",
    ),
    "error": ("it stops with an error: {}", "오류로 멈춥니다: {}"),
    "swapped": ("{} and {} are swapped", "{}와 {}의 자리가 서로 바뀌었습니다"),
    "transposed": ("{} is transposed", "{}가 전치되어 있습니다"),
    "axis": (
        "{} has an axis of length 1 too many or too few: look at keepdims",
        "{}에 길이 1인 축이 더 있거나 모자랍니다. keepdims를 확인하세요",
    ),
    "not summed": (
        "{} has not been summed over axis {} yet",
        "{}를 축 {}을 따라 아직 더하지 않았습니다",
    ),
    "not averaged": (
        "{} has not been averaged over axis {} yet",
        "{}를 축 {}을 따라 아직 평균 내지 않았습니다",
    ),
    "shape only": (
        "{} has shape {}, and should have {}",
        "{}의 모양이 {}입니다. {}이어야 합니다",
    ),
    "sign": ("{} has the wrong sign everywhere", "{}의 부호가 모두 반대입니다"),
    "factor": (
        "every number of {} is {} times what it should be",
        "{}의 모든 값이 올바른 값의 {}배입니다",
    ),
    "factor row": (
        "every row of {} is right but for a factor of its own: "
        "what divides or multiplies a whole row?",
        "{}의 각 행이 올바른 값의 상수배입니다. 행 전체를 나누거나 곱하는 값을 확인하세요",
    ),
    "factor column": (
        "every column of {} is right but for a factor of its own: "
        "what multiplies a whole column?",
        "{}의 각 열이 올바른 값의 상수배입니다. 열 전체에 곱하는 값을 확인하세요",
    ),
    "offset": (
        "every number of {} is {} more than it should be",
        "{}의 모든 값이 올바른 값보다 {}만큼 큽니다",
    ),
    "offset row": (
        "every row of {} is off by a number of its own: "
        "what is added to or taken from a whole row?",
        "{}의 각 행이 일정한 값만큼 어긋납니다. 행 전체에 더하거나 빼는 값을 확인하세요",
    ),
    "offset column": (
        "every column of {} is off by a number of its own, as by a bias",
        "{}의 각 열이 일정한 값만큼 어긋납니다. 편향(b)을 확인하세요",
    ),
    "without": ("{} is what it should be less {}", "{}에 {}가 더해지지 않았습니다"),
    "twice": ("{} is what it should be and {} once too often", "{}에 {}가 한 번 더 더해졌습니다"),
    "is argument": ("{} is {} as it was", "{}가 {}를 그대로 돌려준 것입니다"),
    "order": (
        "{} has the right numbers in the wrong places: "
        "look at reshape, swapaxes and the order of parts",
        "{}의 숫자는 맞지만 자리가 다릅니다. reshape, swapaxes, 순서를 확인하세요",
    ),
    "nan": (
        "{} has nan at {}: 0/0, 0 * inf, inf - inf or the log of a negative number",
        "{}의 {}에 nan이 있습니다. 0/0, 0 * inf, inf - inf, 음수의 log를 확인하세요",
    ),
    "inf": (
        "{} is infinite at {}: exp overflows, or something is divided by 0",
        "{}의 {}에 무한대가 있습니다. exp의 오버플로나 0으로 나누기를 확인하세요",
    ),
    "first row": (
        "row 0 of {} is right and the others are not: "
        "look at what a token takes from those before it",
        "{}의 0번 행만 맞습니다. 앞의 토큰에서 정보를 가져오는 부분을 확인하세요",
    ),
    "last row": (
        "the last row of {} is right and the others are not: do they see what comes after them?",
        "{}의 마지막 행만 맞습니다. 뒤에 오는 토큰을 보고 있지 않은지 확인하세요",
    ),
    "later rows": (
        "{} is right up to row {}: what is different from there on?",
        "{}는 {}번 행 앞까지 맞습니다. 그 뒤로 무엇이 다른지 확인하세요",
    ),
    "nearly": (
        "{} is right to {} digits: is a constant a little off, or eps in another place?",
        "{}는 약 {}자리까지만 맞습니다. 상수나 eps의 위치를 확인하세요",
    ),
    "integers": (
        "{} holds whole numbers: was something rounded, or an integer array written to?",
        "{}의 값이 정수입니다. 반올림되었거나 정수 배열에 쓰고 있지 않은지 확인하세요",
    ),
    "one output": ("of what it gives back, {} alone is wrong", "반환값 가운데 {}만 틀렸습니다"),
    "hidden": (
        "{} has -inf at {}, which should keep its number",
        "{}의 {}는 -inf가 아니라 원래 값이어야 합니다",
    ),
    # a usual mistake that explains some of what went wrong, but not most of it
    "guess": ("perhaps {}", "혹시 다음과 같은 실수인지 확인하세요: {}"),
    # what else is wrong
    "first": (
        "{} calls {}, which is wrong too: mend that first",
        "{}에서 쓰는 {}도 틀렸습니다. 그것부터 고치세요",
    ),
    "blank": ("{} is still to be filled in", "{}: 아직 작성하지 않았습니다"),
    "needs": (
        "{} needs {}, which is still to be filled in: do that first",
        "{}에 필요한 {}를 아직 작성하지 않았습니다. 그것부터 작성하세요",
    ),
}


def say(lang, key, *values):
    """One sentence, with the values in their places."""
    return SAY[key][["en", "ko"].index(lang)].format(*values)
