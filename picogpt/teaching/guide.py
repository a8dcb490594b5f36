"""The README of a student's folder, in English and in Korean: order, times, help, solutions."""

from picogpt.teaching.exercise_parts import PARTS, hours

TEXT = {
    "en": """\
# Exercises: {name}

{about}.
Level {level} of 3, about {time} in all. Fill in the bodies in `picogpt/{path}` that say
"your code here", in this order:

| | function | about | test |
|---|---|---|---|
{table}

`pytest {first}` checks one function, `pytest -x` all of them up to the first that is wrong. A
failure names the call, the output that is wrong, its shape and the first number that differs; where
the mistake is a usual one, it says which.

Run these in this folder: your code is then the one that runs.
{run}
## Help

- The docstring above each body has the shapes and where the formula comes from.
- Print the shapes: most mistakes are an axis or a transposed matrix.
- Asking someone? Give the whole message of the failing test and the function as you wrote it.

## Solutions

They are not in this folder. They are in the package that wrote it: `picogpt/{path}`. From there,
outside this folder, this puts your function beside the solution:

    python -m picogpt.exercises {folder} --compare {first_name}

## All parts, in their order

{parts}
""",
    "ko": """\
# 연습 문제: {name}

{about}.
난이도 {level}/3, 모두 약 {time}. `picogpt/{path}`에서 "your code here"라고 쓰인 함수의 본문을
아래 순서대로 채우세요.

| | 함수 | 시간 | 테스트 |
|---|---|---|---|
{table}

`pytest {first}`는 함수 하나를, `pytest -x`는 처음 틀린 곳까지 모든 함수를 확인합니다. 틀리면 어떤
호출에서 어떤 값이 틀렸는지, 모양은 무엇이고 처음 다른 숫자는 어디인지 알려 줍니다. 자주 하는
실수라면 무엇이 잘못되었는지도 알려 줍니다.

이 폴더 안에서 실행하면 여러분의 코드가 돌아갑니다.
{run}
## 도움말

- 본문 위의 설명(docstring)에 배열의 모양과 공식의 출처가 있습니다.
- shape를 출력해 보세요. 실수는 대부분 축이나 전치에서 생깁니다.
- 질문할 때는 실패한 테스트의 메시지 전체와 작성한 함수를 함께 보여 주세요.

## 정답

이 폴더에는 없습니다. 이 폴더를 만든 패키지의 `picogpt/{path}`에 있습니다. 이 폴더 밖에서 다음
명령을 실행하면 여러분의 함수와 정답을 나란히 보여 줍니다.

    python -m picogpt.exercises {folder} --compare {first_name}

## 전체 순서

{parts}
""",
}
RUN = {
    "lecture": {
        "en": '`python -m picogpt.reference "Once upon a time" --model_size tiny` writes with it,\n'
        "`python -m picogpt.explain --model_size tiny` makes a page of its numbers.\n",
        "ko": '`python -m picogpt.reference "Once upon" --model_size tiny`는 글을 이어 쓰고,\n'
        "`python -m picogpt.explain --model_size tiny`는 계산 과정을 페이지로 보여 줍니다.\n",
    },
    "kernels": {
        "en": "`python -m picogpt.explain --model_size tiny` makes a page of its numbers.\n",
        "ko": "`python -m picogpt.explain --model_size tiny`는 계산 과정을 페이지로 보여 줍니다.\n",
    },
    "gradients": {
        "en": """
Before the tests, check a derivative by yourself against finite differences:

    from picogpt.gradients import gelu_backward
    from picogpt.kernels import gelu
    from picogpt.teaching.gradient_check import gradient_check

    gradient_check(gelu, gelu_backward, [0.5, -1.0, 2.0])

It takes any forward function and its derivative: `backward(dy, *inputs)`.
""",
        "ko": """
테스트하기 전에 유한 차분과 비교해 스스로 확인할 수 있습니다.

    from picogpt.gradients import gelu_backward
    from picogpt.kernels import gelu
    from picogpt.teaching.gradient_check import gradient_check

    gradient_check(gelu, gelu_backward, [0.5, -1.0, 2.0])

순전파 함수와 역전파 함수 `backward(dy, *inputs)`를 넣으면 됩니다.
""",
    },
    "sampling": {
        "en": '`python -c "import picogpt; print(picogpt.generate_batch(picogpt.load(\'tiny\'), '
        "['Once'], temperature=0.8)[0])\"` writes with it.\n",
        "ko": '`python -c "import picogpt; print(picogpt.generate_batch(picogpt.load(\'tiny\'), '
        "['Once'], temperature=0.8)[0])\"`는 글을 써 봅니다.\n",
    },
    "training": {
        "en": "`python -m picogpt.teaching.training` learns a rhyme by heart with it.\n",
        "ko": "`python -m picogpt.teaching.training`은 짧은 동요를 외우게 합니다.\n",
    },
}


def guide(part, lang):
    """The README of a folder with one part of the exercises."""
    rows = [
        f"| {n} | `{name}` | {hours(minutes, lang)} | test_{n:02}_{name}.py |"
        for n, (name, minutes) in enumerate(part.minutes.items(), 1)
    ]
    level = {"en": "level", "ko": "난이도"}[lang]
    parts = []
    for n, one in enumerate(PARTS.values(), 1):
        flag = f"**`--part {one.name}`**" if one is part else f"`--part {one.name}`"
        time = hours(sum(one.minutes.values()), lang)
        parts.append(f"{n}. {flag}: {one.about[lang]} ({level} {one.level}, {time})")
    about = part.about[lang]
    first = next(iter(part.minutes))
    return TEXT[lang].format(
        name=part.name, about=about[0].upper() + about[1:], level=part.level, path=part.path,
        time=hours(sum(part.minutes.values()), lang), table="\n".join(rows), parts="\n".join(parts),
        first=f"test_01_{first}.py", first_name=first, run=RUN.get(part.name, {}).get(lang, ""),
        folder="FOLDER",
    )  # fmt: skip
