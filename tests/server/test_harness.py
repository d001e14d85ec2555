"""The real lm-evaluation-harness through its API models: its samples are the offline responses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the extra lm-eval (600 MB) is not installed")
pytest.importorskip("tenacity", reason="lm_eval[api] is not installed")
pytest.importorskip("aiohttp", reason="lm_eval[api] is not installed")

from tests.server.served import NAME, served
from unmask.sampling_params import SamplingParams

TASK = """
task: toy_served
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: [";"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.mark.parametrize("kind", ["local-completions", "local-chat-completions"])
def test_the_harness_evaluates_the_server(kind: str, tmp_path: Path) -> None:
    items = [{"question": f"{n}+1=", "answer": n + 1} for n in range(5)]
    (tmp_path / "items.json").write_text("\n".join(map(json.dumps, items)))
    data = f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'items.json'}}}}}\n"
    (tmp_path / "toy_served.yaml").write_text(TASK.lstrip() + data)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    paths = os.pathsep.join(path for path in sys.path if path)
    with served(tmp_path / "toy") as running:
        path = "completions" if kind == "local-completions" else "chat/completions"
        arguments = [
            f"model={NAME},base_url={running.url}/v1/{path},num_concurrent=4,max_retries=1",
            *("tokenizer_backend=None,tokenized_requests=False",),
        ]
        command = [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--log_samples"]
        command += ["--model_args", ",".join(arguments), "--include_path", str(tmp_path)]
        command += ["--tasks", "toy_served", "--output_path", str(tmp_path / "out")]
        if kind == "local-chat-completions":
            command += ["--apply_chat_template"]
        environment = {**os.environ, **offline, "PYTHONPATH": paths}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        (samples,) = (tmp_path / "out").rglob("samples_toy_served_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        sampling = SamplingParams(temperature=0, max_tokens=12, stop=(";",))
        questions = [row["doc"]["question"] for row in rows]
        expected = [one.text for one in running.offline.generate(questions, sampling)]
    assert len(rows) == 5
    assert [row["resps"][0][0] for row in rows] == expected
