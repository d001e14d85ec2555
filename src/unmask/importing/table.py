"""What becomes of each key of a dLLM-RL configuration: the whole translation, as data.

A row: who reads the key there, the key, the keys here, a remark, and how its value is converted. The
first row of a key that fits a file decides (`rules.py`).
"""

from unmask.importing import values as to
from unmask.importing.rules import (
    METHODS,
    MODELS,
    NOTHING,
    Implied,
    Loss,
    idle,
    judged,
    line,
    lost,
    one_of,
    otherwise,
    same,
)
from unmask.importing.sampling import MACHINES, SECTIONS, sampling_implied, sampling_rules

IMAGES = "images are not there yet"
PROGRAMS = "programs are asked for and judged otherwise here; see task.kind = 'dataset'"
JUDGE = "a [[reward]] table of kind process has another prompt and filter (docs/rewards.md)"
RESUMED = "a run begins in an empty directory; give its checkpoint as model.path"
UPDATES = "minibatches is a number of updates; it has as many as its kept rows fill"
HONOURED = "honoured here"
UNUSED = "no effect there either"
STOP = "the stop is one of its pads"
BASE = "it chooses the rows of this table"
MATHS = 'math is task.kind = "json"'
PER_RESPONSE = {"views.level": "response"}
# What its full-attention samplers ask; the words for block models are the default here.
BOXED_FIRST = "You need to put your final answer in \\boxed{{}}. This is the problem:\n{question}"

KNOWN_MODELS = one_of(dict.fromkeys(MODELS, NOTHING), Loss(IMAGES))
KNOWN_TASKS = one_of({"math": NOTHING, "mmu": Loss(IMAGES), "code": Loss(PROGRAMS)})
ESTIMATORS = one_of({True: "k3", False: "k1"})
FORMATS = one_of(
    {"bf16": "auto", "no": "float32"}, Loss("must be bf16 or no", {"model.dtype": "auto"})
)
TRACE_ALONE = one_of(
    {"TraceRL": "trace"},
    Loss(
        "its scripts with a value model train TraceRL, whatever is written",
        {"views.kind": "trace"},
    ),
)
BLOCK_PADS = one_of(
    {0: 0}, Loss("each row trains so many pads, which no sampler wrote; here none are trained")
)
BLOCK_NOISE = one_of(
    {"semi-ar": "token"},
    Loss("unmask sft trains block models by semi-ar alone", {"views.level": "token"}),
)
ROW_NOISE = one_of(
    {"random_masking": "response"},
    Loss("unmask sft trains full attention by random_masking alone", PER_RESPONSE),
)

GENERAL = (
    line("", "experiment.project", "run.dir", "below runs/", lambda name, _: f"runs/{name}"),
    *lost("trains", RESUMED, "experiment.start_from_scratch", unless=True),
    *lost("trains", RESUMED, "experiment.current_epoch", unless=1),
    *idle(
        "", MACHINES, "experiment.num_node", "experiment.node_index", "experiment.deepspeed_file"
    ),
    *idle("", MACHINES, "system.*", "execute.num_chunk"),
    *idle("", "it is the subcommand here", "experiment.function"),
    *idle("", 'run.wandb = "project" here', "wandb.*"),
    *idle("trains", "it stands in run.dir", "model.optimized_name", "model.optimized_value_name"),
    *idle("trains", "run.keep_last here", "experiment.checkpoints_total_limit"),
    judged("", "model.model_base", BASE, KNOWN_MODELS),
    judged("", "model_base", BASE, KNOWN_MODELS),
    line("", "model.pretrained_model", "model.path"),
    line("eval", "model", "model.path"),
    judged("", "dataset.data_type", MATHS, KNOWN_TASKS),
    judged("", "evaluation.data_type", MATHS, KNOWN_TASKS),
    *lost("", IMAGES, "model.vq_model_path", "vq_model_path", "dataset.image_root"),
    *lost("images", IMAGES, "model.image_resolution", "image_resolution", "model.clip_model_path"),
    *lost("images", IMAGES, "model.process_reward_chunk_size", "reward.*", "answer_must_in_box"),
    *lost("images", IMAGES, "dataset.add_think_prompt", "evaluation.if_eval"),
    *lost("block", "no prompt can open the answer", "rollout.start_with_think", unless=False),
    *idle("", "rollout.start_with_think decides", "evaluation.start_with_think"),
)

RL = (
    line("rl", "experiment.total_step", "steps"),
    line("rl", "experiment.save_every", "save_every"),
    line("rl", "experiment.eval_every", "eval.every"),
    line("rl critic", "experiment.train_value_every", "advantage.train_every"),
    line("rl", "model.value_base_model", "advantage.path"),
    *lost("rl judged", JUDGE, "model.process_reward_model", "rollout.reward_model.*"),
    line("rl", "dataset.train_dataset", "task.train", "", to.data_file),
    *idle("rl", "rollouts stay in memory", "dataset.optimization_data"),
    line("rl", "rollout.num_task_per_step", "rollout.prompts"),
    line("rl", "rollout.num_response_per_task", "rollout.responses"),
    line("rl block", "rollout.max_active", "engine.max_sequences"),
    line("rl critic", "training.method", "views.kind", "", TRACE_ALONE),
    line("rl", "training.method", "views.kind", "", one_of(METHODS)),
    line("rl block", "training.block_size", "views.train_block", "", to.train_block),
    line("rl trace", "training.shrink", "views.shrink"),
    line("rl block", "training.post_num", "views.post_num", "", BLOCK_PADS, "null"),
    line("rl full", "training.post_num", "views.post_num", STOP, to.canvas_pads, "null"),
    line("rl critic", "training.eps", "loss.clip advantage.clip", "", to.clip_and_value_clip),
    line("rl", "training.eps", "loss.clip", "", to.clip),
    line("rl", "training.beta", "loss.kl"),
    line("rl", "training.use_kl_estimator_k3", "loss.kl_estimator", "", ESTIMATORS),
    line("rl critic", "training.gam", "advantage.gamma"),
    line("rl critic", "training.lam", "advantage.lam"),
    line("rl masks", "training.lower_p", "views.low"),
    line("rl masks", "training.upper_p", "views.high"),
    line("rl full masks", "training.mask_times_per_sample", "views.count"),
    judged("rl", "training.max_gen_length", "responses are trained whole", to.training_length),
    *otherwise("rl", UPDATES, "training.batch_size_lm", "training.gradient_accumulation_steps"),
    line(
        "rl critic", "training.num_train_epochs", "epochs advantage.epochs", "in a new order each"
    ),
    line("rl", "training.num_train_epochs", "epochs", "in a new order each"),
    line("rl block critic", "optimizer.params.policy_learning_rate", "optimizer.lr"),
    line("rl critic", "optimizer.params.value_learning_rate", "advantage.lr"),
    line("rl plain", "optimizer.params.learning_rate", "optimizer.lr"),
    line("rl full", "optimizer.params.learning_rate", "optimizer.lr"),
)

SFT = (
    line("sft", "dataset.optimization_data", "data.path", "", to.data_file),
    line("sft block", "training.method", "views.level", "a level per token", BLOCK_NOISE),
    line("sft full", "training.method", "views.level", "a level per row", ROW_NOISE),
    line("sft block", "training.block_size", "model.block_size"),
    line("sft", "training.lower_p", "views.low"),
    line("sft", "training.upper_p", "views.high"),
    line("sft full", "training.mask_times_per_sample", "views.count", "fresh in every epoch"),
    *idle("sft", "read by the method trace alone", "training.shrink"),
    judged("sft", "training.post_num", "the text decides", to.demonstration_pads, "null"),
    *otherwise("sft", "what does not fit is an error, never cut", "training.max_gen_length"),
    line("sft", "training.batch_size_lm", "data.batch_size", "of all devices", to.batch_size),
    *idle("sft", "written into data.batch_size", "training.gradient_accumulation_steps"),
    line("sft", "training.num_train_epochs", "steps", "epochs of its batches", to.steps_of_epochs),
    line("sft", "optimizer.params.learning_rate", "optimizer.lr"),
)

OPTIMIZER = (
    *otherwise(
        "trains", "what does not fit is an error, never left out", "training.max_prompt_len"
    ),
    line("trains", "training.gradient_checkpointing_enable", "model.gradient_checkpointing"),
    line("trains", "training.mixed_precision", "model.dtype", "auto is bfloat16 on CUDA", FORMATS),
    *idle("trains", "no effect on bfloat16", "training.enable_tf32"),
    line("trains", "training.seed", "run.seed"),
    line("trains", "training.max_grad_norm", "optimizer.clip_norm", HONOURED, same, "null"),
    judged("trains", "optimizer.name", "AdamW", one_of({"adamw": NOTHING})),
    line("trains", "optimizer.params.beta1", "optimizer.betas", "", to.betas),
    line("trains", "optimizer.params.beta2", "optimizer.betas", "", to.betas),
    line("trains", "optimizer.params.weight_decay", "optimizer.weight_decay", "not of norms"),
    line("trains", "optimizer.params.epsilon", "optimizer.eps"),
    line("trains", "lr_scheduler.scheduler", "optimizer.schedule", "over the run", to.schedule),
    line("trains", "lr_scheduler.params.warmup_steps", "optimizer.warmup_steps", "", to.warmup),
    line(
        "trains",
        "lr_scheduler.params.min_lr_scale",
        "optimizer.final_lr_share",
        HONOURED,
        to.final_lr_share,
    ),
    *idle("trains", UNUSED, "optimizer.params.scale_lr", "lr_scheduler.params.learning_rate"),
)

MEASURED = (
    line("eval", "dataset.eval_dataset", "task.test", "", to.data_file),
    line("rl", "evaluation.eval_dataset", "task.test", "", to.data_file),
    line("eval", "evaluation.eval_dataset", "task.test", "", to.data_file),
    line("rl", "evaluation.num_response_per_task", "eval.samples"),
    line("eval by_evaluation", "evaluation.num_response_per_task", "samples"),
    line("eval by_rollout", "rollout.num_response_per_task", "samples"),
    *idle("rl", "engine.max_sequences serves both", "evaluation.max_active"),
    line("eval by_evaluation", "evaluation.max_active", "engine.max_sequences"),
    line("eval by_rollout block", "rollout.max_active", "engine.max_sequences"),
    line("eval by_rollout block", "rollout.stop_token_list", "sampling.stop", "", same, "list"),
)

IMPLIED = (
    Implied("rl", "task.kind", "json", "question and ground_truth_answer"),
    Implied("eval", "task.kind", "json", "question and ground_truth_answer"),
    Implied("rl full", "task.template", BOXED_FIRST, "what it asks these models"),
    Implied("eval full", "task.template", BOXED_FIRST, "what it asks these models"),
    Implied("rl", "minibatches", 4, "a handful, as many as its kept rows fill; choose yours"),
    Implied("rl critic", "advantage.minibatches", 4, "likewise"),
    Implied("rl critic", "advantage.kind", "value", "a base for it is all it takes"),
    Implied("rl math", "filter.low", 0.2, "tasks it solves less often are left out"),
    Implied("rl math", "filter.high", 0.8, "tasks it solves more often are left out"),
    Implied("rl math", "shaping.forfeit_tokens", 5, "wrong within 5 tokens of the end"),
    Implied("rl block", "loss.reduction", "constant", "by the longest response there"),
    Implied("rl full", "loss.reduction", "view", "by a view's targets"),
    Implied("rl block", "loss.max_log_ratio", 10, "log-ratios are clamped"),
    Implied("rl block masks", "views.level", "token", "a level for each token"),
    Implied("rl", "optimizer.reset_every_step", True, "AdamW's moments start anew at every step"),
    Implied("sft block", "loss.reduction", "constant", "by the longest response"),
    Implied("sft full", "loss.reduction", "view", "by a row's hidden tokens"),
    Implied("sft full", "data.canvas_tokens", "longest", "rows are filled up with masks"),
    Implied("trains", "optimizer.betas", [0.9, 0.999], "AdamW's usual"),
    Implied("rl measured", "eval.split", "test", "where evaluation.eval_dataset goes"),
    Implied("rl measured", "eval.problems", 1_000_000, "it measures the whole set"),
    Implied("rl unmeasured", "eval.problems", 0, "it measures nothing"),
    *sampling_implied(),
)

RULES = (
    *(*GENERAL, *RL, *SFT, *OPTIMIZER, *MEASURED),
    *(rule for section in SECTIONS for rule in sampling_rules(*section)),
)
