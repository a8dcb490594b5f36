"""How a model's texts are to be generated: generation_config.json, and what of it is followed."""

from pathlib import Path

from picogpt.tools.errors import CheckpointError, brief
from picogpt.tools.files import read_json


def is_count(value):
    """Whether a setting is a whole number, 0 or more."""
    return type(value) is int and value >= 0


def is_id_list(value):
    """Whether a setting is a list of whole numbers."""
    return isinstance(value, list) and all(type(id) is int for id in value)


def is_penalty(value):
    """Whether a setting is a number above 0."""
    return type(value) in (int, float) and 0 < value < float("inf")


def is_word_list(value):
    """Whether a setting is a list of words, each a list of at least one token id."""
    return isinstance(value, list) and all(is_id_list(word) and word for word in value)


def is_text_list(value):
    """Whether a setting is a text or a list of texts."""
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(text, str) for text in value)
    )


# What picogpt.logits_processors.process_logits takes: a setting's name, the function that says
# whether a value will do, and in words what it must be
PROCESSOR_SETTINGS = {
    "repetition_penalty": (is_penalty, "a number above 0"),
    "no_repeat_ngram_size": (is_count, "a whole number, 0 or more"),
    "bad_words_ids": (is_word_list, "a list of lists of token ids"),
    "min_length": (is_count, "a whole number, 0 or more"),
    "min_new_tokens": (is_count, "a whole number, 0 or more"),
    "suppress_tokens": (is_id_list, "a list of token ids"),
    "begin_suppress_tokens": (is_id_list, "a list of token ids"),
}
SAMPLING_SETTINGS = ("do_sample", "temperature", "top_k", "top_p")
# What transformers follows and this project doesn't: a setting's name, and the values, beside null,
# with which it changes nothing
NOT_FOLLOWED = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "constraints": (),
    "force_words_ids": (),
    "min_p": (0,),
    "top_h": (1,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "sequence_bias": (),
    "guidance_scale": (1,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "watermarking_config": (),
    "token_healing": (False,),
    "max_time": (),
}


def load_generation_config(folder, config):
    """The settings of a model folder as a dict: generation_config.json or, without it, config.json.

    transformers wrote them into config.json until 2022. The dict has an eos_token_id, which may be
    None; it is empty where there is only config.json, without any of the settings. Raises
    CheckpointError for a damaged file.
    """
    path = Path(folder) / "generation_config.json"
    if path.is_file():
        return {"eos_token_id": None} | read_json(path)
    values = read_json(Path(folder) / "config.json")
    names = (*SAMPLING_SETTINGS, *PROCESSOR_SETTINGS, "stop_strings", *NOT_FOLLOWED)
    settings = {name: values[name] for name in names if values.get(name) is not None}
    return settings | {"eos_token_id": config.eos_token_id} if settings else {}


def refuse(name, wanted, value):
    """Raise the CheckpointError for a setting that makes no sense."""
    raise not_to_follow(f"{name} must be {wanted}, not {brief(value)}")


def not_to_follow(reason):
    """The CheckpointError for a generation config that can't be followed."""
    said = f"the model's generation config can't be followed: {reason}"
    where = "correct it in generation_config.json or, without that file, in config.json"
    return CheckpointError(f"{said}; {where}")


def processor_settings(generation, ends):
    """What of a generation config `process_logits` is to follow: a dict of its keyword arguments.

    `ends` are the ids that end a text. The dict is empty where nothing is asked for. Raises
    CheckpointError for a value that makes no sense.
    """
    settings = {}
    for name, (fits, wanted) in PROCESSOR_SETTINGS.items():
        value = generation.get(name)
        if value is None:
            continue
        if not fits(value):
            refuse(name, wanted, value)
        settings[name] = value
    if settings:
        settings["eos_token_id"] = [end for end in ends if type(end) is int]
    return settings


def stop_strings(generation):
    """The texts before which the model's texts end, a list.

    Raises CheckpointError where they are no texts.
    """
    value = generation.get("stop_strings") or []
    if not is_text_list(value):
        refuse("stop_strings", "a text or a list of texts", value)
    return [value] if isinstance(value, str) else value


def end_token_ids(generation):
    """The ids that end a text, a list; an id may be None, which ends nothing.

    Raises CheckpointError where they are no ids.
    """
    value = generation.get("eos_token_id")
    ends = value if isinstance(value, list) else [value]
    if not is_id_list([end for end in ends if end is not None]):
        refuse("eos_token_id", "a token id, a list of them or null", value)
    return ends


def samples(generation):
    """Whether the model's texts are sampled.

    Raises CheckpointError where do_sample is neither true nor false.
    """
    value = generation.get("do_sample")
    if value not in (None, True, False):
        refuse("do_sample", "true or false", value)
    return bool(value)


def not_followed(generation):
    """The names of the settings that transformers would follow, and this project does not."""
    return [
        name
        for name, neutral in NOT_FOLLOWED.items()
        if generation.get(name) is not None and generation[name] not in neutral
    ]
