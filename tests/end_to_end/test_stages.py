"""SFT, RL and evaluation hand a checkpoint on: each stage starts where the one before it ended."""

from pathlib import Path

from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.engine.llm import LLM
from unmask.evaluation.evaluate import evaluate_model
from unmask.sampling_params import SamplingParams
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

LEARNING = ["optimizer.lr=1e-2", "eval.problems=6"]


def test_each_stage_goes_on_with_the_model_of_the_one_before(tmp_path: Path) -> None:
    words = ["steps=25", "views.count=2", *LEARNING]
    sft = train_sft(sft_config(tmp_path, *words, run="sft"))
    words = [f"model.path={sft}", "steps=12", "rollout.responses=8", "minibatches=2", *LEARNING]
    rl = train_rl(rl_config(tmp_path, *words, run="rl"))

    rewards = [line["reward"] for line in metrics(tmp_path / "rl")]
    assert rewards[0] > 0.25  # the demonstrations hold three sevens of eight
    assert rewards[-1] > rewards[0] + 0.2

    words = ["task.kind=json", "task.template={question}", "sampling.max_tokens=8"]
    words += ["task.reward=tests.trainers.toy_runs:share_of_sevens", "split=validation"]
    words += [f"task.validation={tmp_path / 'questions.json'}", f"model.path={rl}"]
    config = load_config(EvalConfig, [], [*words, f"run.dir={tmp_path / 'eval'}"])[0]
    (summary,) = evaluate_model(config).summaries.values()
    assert summary.reward > rewards[0] + 0.2

    (answer,) = LLM(rl).generate(["7="], SamplingParams(max_tokens=8, temperature=0))
    assert answer.text.count("7") > 3
