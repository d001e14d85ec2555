"""What a user may write in Python, row by row: accepted as what it means, or refused in one sentence."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from tests.seeing import NUM_VECTORS, picture, seeing_llm
from tests.toy import toy_checkpoint
from unmask import LLM, SamplingParams
from unmask.engine.llm_arguments import user_message
from unmask.images import Image
from unmask.types import Message

SHORT = SamplingParams(max_tokens=4)
TURN = {"role": "user", "content": "1+"}


def of_image(source: Any) -> dict[str, Any]:
    """Return a user's message with an image and a text, in Hugging Face's layout."""
    return {
        "role": "user",
        "content": [{"type": "image", "image": source}, {"type": "text", "text": "1+"}],
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_checkpoint(tmp_path_factory.mktemp("toy"), max_length=1024)


@pytest.fixture(scope="module")
def llm(directory: Path) -> Any:
    return LLM(directory)


def ids(llm: Any, *given: Any, **named: Any) -> list[tuple[int, ...]]:
    return [one.token_ids for result in llm.generate(*given, **named) for one in result.outputs]


def test_token_ids_in_every_form_are_the_same_prompt(llm: Any) -> None:
    expected = ids(llm, [[5, 6]], SHORT)
    for row in ((5, 6), np.array([5, 6]), torch.tensor([5, 6]), [np.int64(5), 6], range(5, 7)):
        assert ids(llm, [row], SHORT) == expected
    assert (
        ids(llm, np.array([[5, 6]]), SHORT) == ids(llm, torch.tensor([[5, 6]]), SHORT) == expected
    )


def test_texts_and_ids_may_be_mixed(llm: Any) -> None:
    apart = ids(llm, ["1+"], SHORT) + ids(llm, [[5, 6]], SHORT)
    assert ids(llm, ["1+", [5, 6]], SHORT) == ids(llm, iter(("1+", [5, 6])), SHORT) == apart


def test_nothing_is_a_prompt_and_no_prompts_have_no_answers(llm: Any) -> None:
    assert ids(llm, ["", []], SHORT)[0] == ids(llm, [[]], SHORT)[0]
    assert llm.generate([], SHORT) == llm.chat([], SHORT) == llm.generate([], []) == []


def test_every_prompt_may_have_its_own_sampling(llm: Any) -> None:
    short, long = SHORT, SamplingParams(max_tokens=9, n=2, seed=3)
    apart = ids(llm, ["1+"], short) + ids(llm, ["2+"], long)
    assert ids(llm, ["1+", "2+"], [short, long]) == ids(llm, ["1+", "2+"], (short, long)) == apart


@pytest.mark.parametrize(
    "conversations",
    [[TURN], [[TURN]], ([TURN],), [Message("user", "1+")], [[Message("user", "1+")]]],
)
def test_a_conversation_is_messages_or_dicts(conversations: Any, llm: Any) -> None:
    assert [r.token_ids for r in llm.chat(conversations, SHORT)] == ids(llm, ["1+"], SHORT)


def test_an_image_in_every_form_is_the_same_prompt(directory: Path, tmp_path: Path) -> None:
    llm, data, path = seeing_llm(directory), picture(), tmp_path / "red.png"
    path.write_bytes(data)
    url = f"data:image/png;base64,{b64encode(data).decode()}"
    part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    conversations: list[list[Any]] = [
        *([of_image(source)] for source in (path, str(path), data, url, pillow.open(path))),
        [{"role": "user", "content": [part, {"type": "text", "text": "1+"}]}],
        [{"role": "user", "content": (part, {"type": "text", "text": "1+"})}],
        [Message("user", "<image>\n1+", (Image("red", data),))],
    ]
    found = [one.token_ids for one in llm.chat(conversations, SHORT)]
    assert len(set(found)) == 1
    prompt = llm.prompt([Message("user", "<image>\n1+", (Image("red", data),))])
    assert prompt.token_ids == (
        *range(-1, -1 - NUM_VECTORS, -1),
        *llm.prompt([Message("user", "1+")]).token_ids,
    )
    assert [llm.generate([prompt], SHORT)[0].token_ids] == found[:1], (
        "a prompt is what `prompt` makes"
    )
    text = llm.generate([prompt], SHORT)[0].text
    assert "".join(llm.stream(prompt, SHORT)) == text
    blue = llm.chat([of_image(picture("blue"))], SHORT)
    assert blue[0].token_ids != found[0], "it reads the pixels"


def test_images_stand_at_the_markers_of_a_text_or_in_front_of_it() -> None:
    one, two = Image("1", b"1"), Image("2", b"2")
    assert user_message("1+", [one, two]) == Message("user", "<image>\n<image>\n1+", (one, two))
    assert user_message("<image>1<image>", [one, two]) == Message(
        "user", "<image>1<image>", (one, two)
    )
    assert user_message("a <image>") == Message("user", "a <image>"), "without images it is text"
    with pytest.raises(ValueError, match="the text has 1 <image> for 2 images"):
        user_message("<image>", [one, two])


def test_one_stop_text_is_a_text() -> None:
    assert SamplingParams(stop="x") == SamplingParams(stop=("x",)) == SamplingParams(stop=["x"])  # type: ignore[arg-type]
    assert SamplingParams(stop_token_ids=[5]).stop_token_ids == (5,)  # type: ignore[arg-type]


def test_calls_of_vllm_can_be_pasted(llm: Any, directory: Path) -> None:
    asked = SamplingParams(  # type: ignore[call-arg]
        *(),
        **{
            **{
                "temperature": 1.0,
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "seed": 3,
                "stop": None,
            },
            **{"max_tokens": 4, "n": 1, "repetition_penalty": 1.0, "presence_penalty": 0.0},
            **{"frequency_penalty": 0.0, "skip_special_tokens": True, "ignore_eos": False},
            **{"logprobs": 0, "prompt_logprobs": None, "best_of": 1, "logits_processors": None},
        },
    )
    assert asked == SamplingParams(max_tokens=4, top_k=-1, seed=3)
    again = LLM(
        model=str(directory), dtype="float32", trust_remote_code=True, tensor_parallel_size=1
    )
    expected = llm.generate(["1+", "2+"], [asked, asked])
    for given in (["1+", "2+"], [{"prompt": "1+"}, {"prompt_token_ids": [4, 12]}]):
        found = again.generate(prompts=given, sampling_params=asked, use_tqdm=False)
        assert found == expected
    assert llm.generate("1+", asked) == llm.generate({"prompt": "1+"}, asked) == expected[:1]
    talked = llm.chat(messages=[TURN], sampling_params=asked, add_generation_prompt=True)
    assert [one.outputs[0].text for one in talked] == [expected[0].text]


def test_eos_is_ignored_where_no_stop_tokens_are_given() -> None:
    ignoring: Any = {"ignore_eos": True}
    assert SamplingParams(**ignoring).stop_token_ids == ()
    assert SamplingParams(**ignoring, stop_token_ids=(5,)).stop_token_ids == (5,)
    assert replace(SamplingParams(), **ignoring).stop_token_ids == ()
    assert SamplingParams(ignore_eos=False).stop_token_ids is None  # type: ignore[call-arg]


Call = Callable[[Any, Path], Any]
REFUSED: dict[str, tuple[Call, str]] = {
    "numbers": (lambda llm, _: llm.generate([5, 6]), r"the prompt 5 is a number: .* \[5\]"),
    "numpy numbers": (lambda llm, _: llm.generate(np.array([5])), r"the prompt 5 is a number"),
    "no prompts": (lambda llm, _: llm.generate(None), "prompts = None: must be a list of texts"),
    "a table": (lambda llm, _: llm.generate({"text": "1"}), "must be a list of texts"),
    "a prompt of vLLM with images": (
        lambda llm, _: llm.generate([{"prompt": "1", "multi_modal_data": {}}]),
        r"llm\.chat answers those",
    ),
    "no prompt": (lambda llm, _: llm.generate([None]), "the prompt = None: must be a text or"),
    "floats": (lambda llm, _: llm.generate([[5.0]]), "token id 5.0 of the prompt is a float"),
    "texts in a prompt": (lambda llm, _: llm.generate([["1", "2"]]), "token id '1' of the prompt"),
    "deep lists": (lambda llm, _: llm.generate([[[5, 6]]]), "of the prompt is a list"),
    "deep arrays": (lambda llm, _: llm.generate([np.ones((2, 2), int)]), "must be whole numbers"),
    "a large id": (lambda llm, _: llm.generate([[10**9]]), "1000000000"),
    "messages": (lambda llm, _: llm.generate([TURN]), r"llm\.chat answers those"),
    "conversations": (lambda llm, _: llm.generate([[TURN]]), r"llm\.chat answers conversations"),
    "a dict as sampling": (lambda llm, _: llm.generate(["1"], {"n": 2}), r"SamplingParams\(max_"),
    "a class as sampling": (lambda llm, _: llm.generate(["1"], SamplingParams), "must be Sampling"),
    "few samplings": (lambda llm, _: llm.generate(["1"] * 2, [SHORT]), "1 SamplingParams for 2"),
    "a loose field": (lambda llm, _: llm.generate(["1"], max_tokens=8), r"SamplingParams\(max_tok"),
    "a foreign field": (lambda llm, _: llm.chat([TURN], max_new_tokens=8), r"Params\(max_tokens="),
    "an unknown word": (
        lambda llm, _: llm.generate(["1"], qqq=1),
        "generate takes no qqq; it takes prompts and samp",
    ),
    "a misspelt word": (
        lambda llm, _: llm.generate(["1"], prompt="1"),
        r"takes no prompt; did you mean prompts\? It takes prompts and sampling",
    ),
    "a progress bar": (
        lambda llm, _: llm.generate(["1"], use_tqdm=True),
        "generate: use_tqdm = True: there is no progress bar",
    ),
    "two samplings": (
        lambda llm, _: llm.generate(["1"], SHORT, sampling_params=SHORT),
        "sampling and sampling_params: two names of one argument",
    ),
    "two conversations": (
        lambda llm, _: llm.chat([TURN], messages=[TURN]),
        "conversations and messages: two names of one argument",
    ),
    "tools": (
        lambda llm, _: llm.chat([TURN], tools=[{}]),
        r"chat: tools = \[\{\}\]: calls of tools",
    ),
    "added twice": (lambda llm, _: llm.add("1", [SHORT] * 2), "2 SamplingParams for 1 prompts"),
    "a chat text": (lambda llm, _: llm.chat("1+"), "a conversation is a list of messages"),
    "chat texts": (lambda llm, _: llm.chat(["1+"]), "chat takes a list of conversations, each"),
    "a lone message": (lambda llm, _: llm.chat(Message("user", "1")), "must be a list of conv"),
    "no messages": (lambda llm, _: llm.chat([[]]), "chat takes a list of conversations, each"),
    "mixed": (lambda llm, _: llm.chat([[TURN], TURN]), "chat takes a list of conversations, each"),
    "no chat": (lambda llm, _: llm.chat(None), "conversations = None: must be"),
    "no content": (lambda llm, _: llm.chat([{"role": "user"}]), "must have a role and a content"),
    "role": (lambda llm, _: llm.chat([{**TURN, "role": "usr"}]), "'usr' must be one of system"),
    "a number as content": (
        lambda llm, _: llm.chat([{**TURN, "content": 5}]),
        "a text or a list of parts",
    ),
    "no parts": (
        lambda llm, _: llm.chat([{**TURN, "content": []}]),
        r"messages\[0\]\.content: must be",
    ),
    "a part of no type": (
        lambda llm, _: llm.chat([TURN, {**TURN, "content": [{}]}]),
        r"messages\[1\]\.content\[0\]: must be a part of type text, image_url or image",
    ),
    "a URL": (
        lambda llm, _: llm.chat([of_image("https://example.org/a.png")]),
        r"https://example\.org/a\.png: URLs are not fetched; download the image",
    ),
    "a lost image": (
        lambda llm, at: llm.chat([of_image(str(at / "a.png"))]),
        r"a\.png cannot be read",
    ),
    "an image for a text model": (
        lambda llm, _: llm.chat([of_image(picture())]),
        r"messages\[0\]\.content\[0\]: this model reads text only; leave the image out",
    ),
    "an image in a `Message`": (
        lambda llm, _: llm.chat([Message.of("user", Image("a.png", picture()), "1")]),
        r"a\.png: this model reads text only",
    ),
    "a name": (lambda llm, _: llm.chat([{**TURN, "name": "x"}]), "of parts, and nothing else"),
    "text max_tokens": (
        lambda *_: SamplingParams(max_tokens="8"),
        "max_tokens = '8': must be a wh",
    ),
    "numpy max_tokens": (lambda *_: SamplingParams(max_tokens=np.int64(8)), "must be a whole num"),
    "no temperature": (lambda *_: SamplingParams(temperature=None), "temperature = None: must be"),
    "nan": (lambda *_: SamplingParams(temperature=float("nan")), "temperature = nan: must be"),
    "a number as stop": (lambda *_: SamplingParams(stop=5), "stop = 5: must be a tuple of strings"),
    "a number as stop id": (lambda *_: SamplingParams(stop_token_ids=5), r"write \(5,\)"),
    "a text as stop id": (
        lambda *_: SamplingParams(stop_token_ids="<eos>"),
        "stop_token_ids = '<eo",
    ),
    "a list as strategy": (lambda *_: SamplingParams(strategy=[]), "strategy = .*: must be one of"),
    "another's field": (lambda *_: SamplingParams(max_new_tokens=8), "did you mean max_tokens"),
    "a misspelt field": (lambda *_: SamplingParams(temprature=0), "did you mean temperature"),
    "an unknown field": (lambda *_: SamplingParams(qqq=0), r"no qqq; help\(SamplingParams\)"),
    "a short format": (
        lambda _, at: LLM(at, dtype="bf16"),
        "dtype = 'bf16': must be auto, float32",
    ),
    "a whole format": (lambda _, at: LLM(at, dtype=torch.int8), r"dtype = torch\.int8: must be"),
    "no format": (lambda _, at: LLM(at, dtype=None), "dtype = None: must be auto"),
    "another device": (lambda _, at: LLM(at, device="gpu"), "device = gpu: torch finds cpu"),
    "a far device": (lambda _, at: LLM(at, device="cuda:99"), "device = cuda:99: torch finds cpu"),
    "no device": (lambda _, at: LLM(at, device=None), "device = None: torch finds cpu"),
    "a dict as params": (lambda _, at: LLM(at, params={}), r"params = {}: must be EngineParams"),
    "an unknown option": (
        lambda _, at: LLM(at, max_model_len=9),
        "LLM: max_model_len = 9: the model's own length holds",
    ),
    "a misspelt option": (
        lambda _, at: LLM(at, devices="cpu"),
        r"takes no devices; did you mean device\? It takes model, device,.* and image_preprocess",
    ),
    "two devices": (
        lambda _, at: LLM(at, tensor_parallel_size=2),
        "tensor_parallel_size = 2: an LLM has one device",
    ),
    "a penalty": (
        lambda *_: SamplingParams(repetition_penalty=1.1),
        r"repetition_penalty = 1\.1: the tokens of a denoising step are drawn at once",
    ),
    "alternatives": (
        lambda *_: SamplingParams(logprobs=5),
        "logprobs = 5: only the written tokens",
    ),
    "ignore_eos": (lambda *_: SamplingParams(ignore_eos="x"), "ignore_eos = 'x': must be True or"),
    "a misspelt name of vLLM": (
        lambda *_: SamplingParams(repetition_penalti=1),
        "SamplingParams has no repetition_penalti; did you mean repetition_penalty",
    ),
    "no model": (lambda *_: LLM(None), "model = None: must be the directory of a checkpoint"),
    "an empty path": (lambda *_: LLM(""), "model = '': must be the directory of a checkpoint"),
    "a missing path": (lambda _, at: LLM(at / "gone"), "gone: no such directory"),
    "a missing text path": (lambda _, at: LLM(str(at / "gone")), "gone: no such directory"),
    "an empty directory": (lambda _, at: LLM(at.parent), r"config\.json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_in_one_sentence(name: str, llm: Any, directory: Path) -> None:
    call, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call(llm, directory)
    assert "\n" not in str(caught.value)
    assert ids(llm, ["1+"], SHORT), "and nothing is left behind"


def test_a_checkpoint_is_held_as_it_is_asked_for(directory: Path) -> None:
    assert LLM(str(directory), dtype="bfloat16").model.dtype == torch.bfloat16
    assert (
        LLM(directory, dtype=torch.float64, device=torch.device("cpu")).model.dtype == torch.float64
    )
    expected = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    assert LLM(directory, device="auto", dtype="auto").model.dtype == expected
