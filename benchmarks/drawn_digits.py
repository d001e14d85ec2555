"""Text-to-image learns by SFT, then by RL with a classifier as the reward: handwritten digits.

    python benchmarks/drawn_digits.py            # minutes on one core; needs scikit-learn

Everything is trained here, from nothing, on the 1,797 handwritten digits that come with scikit-learn (8 x 8 pixels):

1. an image tokenizer of MAGVIT-v2's architecture: 4 x 4 codes of 6 bits,
2. two classifiers of pictures with 11 classes, the digits and noise, on disjoint halves of the training images: a
   neural network, whose verdict is the reward, and a support vector machine, which is never paid,
3. a tiny MMaDA: SFT on pairs of text and image (`views.kind = "image"`), then TraceRL.

A drawing is right if the classifier's class is the digit of its text. Both classifiers judge the same drawings, of
texts and seeds that RL never saw, before and after. Their false acceptance is measured on pictures of random codes
and of shuffled codes of real digits. Writes `benchmarks/results/drawn_digits.json`.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from setting import RESULTS, describe_machine, write_result
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from torch import Tensor

from unmask.configs.methods.views.image import ImageViews
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import Pack
from unmask.diffusion.methods.image import of_demonstrations
from unmask.diffusion.views import Canvas
from unmask.engine.llm import LLM
from unmask.engine.text_to_image import TextToImage
from unmask.evaluation.estimates import wilson_interval
from unmask.models.families.mmada import FAMILY, ids_behind
from unmask.models.heads import Scores
from unmask.models.transformer import Model, initialise
from unmask.models.vision.magvit import Levels, Magvit, MagvitSpec
from unmask.models.vision.mmada_prompt import MmadaIds
from unmask.objectives.loss import LossOutput
from unmask.presets import preset
from unmask.rollouts.checks import check_trajectory
from unmask.seeds import derive_seed
from unmask.trainers.learner import Learner
from unmask.trainers.rl_update import build_update
from unmask.trainers.rollout_views import rollout_views
from unmask.types import Group, Trajectory

NOISE = 10
TEXTS = ("draw {}", "a {}", "digit {}")
HELD_OUT = "the {}"  # in SFT, never in RL
ALPHABET = "abcdefghijklmnopqrstuvwxyz 0123456789"
SIDE, BITS, STEPS = 4, 6, 6
Classifier = Callable[[Tensor], np.ndarray]


@dataclass(frozen=True, slots=True)
class Data:
    """Digits: images `(n, 8, 8)` in [-1, 1] and their labels, to train on and held out."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def read_data() -> Data:
    """Return the digits in a fixed random order, four fifths of them to train on."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return Data(images[:1437], labels[:1437], images[1437:], labels[1437:])


def train_codec(images: Tensor, steps: int) -> Magvit:
    """Train the tokenizer by reconstruction; gradients pass the signs as they are."""
    torch.manual_seed(0)
    levels = Levels(32, (1, 2), (1, 1))
    codec = Magvit(MagvitSpec(levels, levels, BITS))
    optimizer = torch.optim.AdamW(codec.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (64,))]
        pixels = batch[:, None].expand(-1, 3, -1, -1)
        latents = codec.latents(pixels)
        signs = torch.where(latents > 0, 1.0, -1.0)
        found = codec.decoder(latents + (signs - latents).detach())
        loss = F.mse_loss(found, pixels) + 0.1 * F.mse_loss(latents, signs.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return codec.eval()


@torch.no_grad()
def codes_of(codec: Magvit, images: Tensor) -> Tensor:
    """Return `(n, 16)` codes."""
    return codec.encode(images[:, None].expand(-1, 3, -1, -1)).flatten(1)


@torch.no_grad()
def pictures_of(codec: Magvit, codes: Tensor) -> Tensor:
    """Return `(n, 8, 8)` pictures, grey, in [-1, 1]."""
    return codec.decode(codes.view(-1, SIDE, SIDE)).mean(1).clamp(-1, 1)


def noise_codes(codes: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return `(count, 16)` random codes, and as many with the codes of a real digit in another order."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(2**BITS, (count, SIDE**2), generator=generator)
    real = codes[torch.randint(len(codes), (count,), generator=generator)]
    order = torch.rand(real.shape, generator=generator).argsort(-1)
    return drawn, real.gather(1, order)


def train_classifiers(codec: Magvit, data: Data, codes: Tensor) -> dict[str, Classifier]:
    """Return the classifier that rewards and the one that never does, trained on disjoint halves."""
    kinds = {
        "rewarding": MLPClassifier((64,), max_iter=300, random_state=0),
        "independent": SVC(C=10.0),
    }
    found: dict[str, Classifier] = {}
    for half, (name, kind) in enumerate(kinds.items()):
        own = slice(half, None, 2)
        noise = torch.cat(noise_codes(codes[own], 300, seed=10 + half))
        pictures = torch.cat(
            (data.images[own], pictures_of(codec, codes[own]), pictures_of(codec, noise))
        )
        labels = torch.cat((data.labels[own], data.labels[own], torch.full((len(noise),), NOISE)))
        kind.fit(pictures.flatten(1).numpy(), labels.numpy())
        found[name] = lambda pictures, kind=kind: kind.predict(pictures.flatten(1).numpy())
    return found


def measured_classifier(
    classify: Classifier, codec: Magvit, data: Data, codes: Tensor
) -> dict[str, float]:
    """Return the accuracy on held-out digits, and the share of noise that is taken for a digit."""
    again = pictures_of(codec, codes_of(codec, data.test_images))
    labels = data.test_labels.numpy()
    drawn, shuffled = noise_codes(codes, 2000, seed=99)
    return {
        "accuracy": float((classify(data.test_images) == labels).mean()),
        "accuracy_of_reconstructions": float((classify(again) == labels).mean()),
        "random_codes_taken_for_a_digit": float(
            (classify(pictures_of(codec, drawn)) != NOISE).mean()
        ),
        "shuffled_codes_taken_for_a_digit": float(
            (classify(pictures_of(codec, shuffled)) != NOISE).mean()
        ),
    }


def build_model() -> tuple[LLM, TextToImage]:
    """Return a random tiny MMaDA, and its requests."""
    num_text = 2 + len(ALPHABET)
    ids = ids_behind(num_text, MmadaIds(num_codes=2**BITS, side=SIDE))
    spec = replace(
        FAMILY.tiny,
        num_drawable=num_text,
        vocab_size=ids.image_offset + ids.num_codes,
        image_ids=ids,
    )
    model = Model(spec)
    initialise(model, 0)
    images = TextToImage(ids, lambda text: [2 + ALPHABET.index(letter) for letter in text])
    return LLM(model), images


def train_sft(llm: LLM, images: TextToImage, data: Data, codes: Tensor, steps: int) -> None:
    """Train on pairs of text and image, some of which have the empty text."""
    config = ImageViews()
    learner = Learner(llm.model, OptimizerConfig(lr=2e-3))
    rng, canvas = random.Random(0), Canvas(SIDE**2 + 1, True)
    for step in range(steps):
        if step % 50 == 0:
            print(f"sft {step}: {process_time():.0f} s", flush=True)
        batch = [rng.randrange(len(codes)) for _ in range(48)]
        texts = [rng.choice((*TEXTS, HELD_OUT)).format(int(data.labels[i])) for i in batch]
        records = [
            images.demonstration(text, codes[i].tolist())
            for text, i in zip(texts, batch, strict=True)
        ]
        pairs = [(one["prompt_ids"], one["response_ids"], None) for one in records]
        seeds = [derive_seed(1, step, place) for place in range(len(batch))]
        views = of_demonstrations(pairs, config, canvas, seeds)
        total = float(sum(int(v.target.sum()) for v in views))
        rate = 2e-3 * min(1.0, (step + 1) / 50) * (1 - step / steps)
        learner.update(views, sft_objective, total, rate)
    llm.engine.update_weights()


def sft_objective(scores: Scores, pack: Pack) -> LossOutput:
    """Return the cross-entropy of hidden codes."""
    return LossOutput(-scores.logprobs, {})


def drawn(
    llm: LLM, images: TextToImage, texts: Sequence[str], seeds: Sequence[int]
) -> list[Trajectory]:
    """Return one image of each text, drawn without guidance."""
    sampling = preset("mmada_image", guidance=0.0, denoising_steps=STEPS)
    prompts = [replace(images.prompt(text), uid=uid) for uid, text in enumerate(texts)]
    return llm.complete(prompts, [replace(sampling, seed=seed) for seed in seeds])


def share_right(
    classify: Classifier, codec: Magvit, codes: Tensor, wanted: Tensor
) -> dict[str, Any]:
    """Return the share of drawings that a classifier takes for their digit, with its 95% interval."""
    is_right = classify(pictures_of(codec, codes)) == wanted.numpy()
    low, high = wilson_interval(int(is_right.sum()), len(is_right))
    return {"right": float(is_right.mean()), "interval": [low, high], "drawings": len(is_right)}


def measure(
    llm: LLM, images: TextToImage, codec: Magvit, judges: dict[str, Classifier], count: int
) -> dict[str, Any]:
    """Return both verdicts on `count` drawings of each digit, of the text that RL never has."""
    wanted = torch.arange(10).repeat_interleave(count)
    texts = [HELD_OUT.format(int(digit)) for digit in wanted]
    seeds = [derive_seed(777, place) for place in range(len(texts))]
    codes = torch.tensor([images.drawing(t).codes for t in drawn(llm, images, texts, seeds)])
    found: dict[str, Any] = {
        name: share_right(judge, codec, codes, wanted) for name, judge in judges.items()
    }
    found["distinct_drawings"] = len(codes.unique(dim=0))
    return found


def rl_config(steps: int) -> RLConfig:
    """Return TraceRL's defaults; prompts and rewards are those of this program, not of a task."""
    return RLConfig.model_validate(
        {
            "model": {"path": "none"},
            "task": {"kind": "reasoning_gym", "name": "chain_sum"},
            "steps": steps,
            "sampling": {
                **{"preset": "mmada_image", "guidance": 0.0, "denoising_steps": STEPS},
                "max_tokens": SIDE**2 + 1,
            },
            "optimizer": {"lr": 3e-4, "token_budget": 16384},
        }
    )


def train_rl(
    llm: LLM, images: TextToImage, codec: Magvit, reward: Classifier, steps: int
) -> list[float]:
    """Train by TraceRL and return the mean reward of every step."""
    config, samples, rng = rl_config(steps), 8, random.Random(1)
    update, history = build_update(config, llm.model), list[float]()
    for step in range(1, steps + 1):
        digits = [digit for digit in range(10) for _ in range(samples)]
        asked = [rng.choice(TEXTS) for _ in range(10)]
        texts = [asked[digit].format(digit) for digit in digits]
        seeds = [derive_seed(5, step, place) for place in range(len(texts))]
        written = drawn(llm, images, texts, seeds)
        for trajectory in written:
            check_trajectory(trajectory)
        codes = torch.tensor([images.drawing(one).codes for one in written])
        right = (reward(pictures_of(codec, codes)) == np.array(digits)).astype(float).tolist()
        groups = [
            Group(written[at].prompt, written[at : at + samples], right[at : at + samples])
            for at in range(0, len(written), samples)
        ]
        views = rollout_views(groups, config, is_full=True, step=step)
        metrics = update.step(groups, views, step, derive_seed(6, step))
        llm.engine.update_weights()
        history.append(sum(right) / len(right))
        if step % 10 == 0:
            gap = metrics.get("logprob_gap_max", float("nan"))
            print(
                f"rl {step}: reward {np.mean(history[-10:]):.3f}, largest gap {gap:.1e}, {process_time():.0f} s",
                flush=True,
            )
    return history


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec-steps", type=int, default=600)
    parser.add_argument("--sft-steps", type=int, default=180)
    parser.add_argument("--rl-steps", type=int, default=60)
    parser.add_argument("--drawings", type=int, default=100, help="of each digit")
    parser.add_argument("--out", type=Path, default=RESULTS / "drawn_digits.json")
    asked = parser.parse_args()

    data = read_data()
    codec = train_codec(data.images, asked.codec_steps)
    codes = codes_of(codec, data.images)
    again = pictures_of(codec, codes_of(codec, data.test_images))
    error = float((again - data.test_images).pow(2).mean().sqrt())
    print(
        f"codec: root mean square error {error:.3f} of 2 on held-out digits, {process_time():.0f} s",
        flush=True,
    )
    judges = train_classifiers(codec, data, codes)
    quality = {name: measured_classifier(j, codec, data, codes) for name, j in judges.items()}
    print(quality, f"{process_time():.0f} s", flush=True)

    llm, images = build_model()
    train_sft(llm, images, data, codes, asked.sft_steps)
    before = measure(llm, images, codec, judges, asked.drawings)
    print("after sft", before, f"{process_time():.0f} s", flush=True)
    history = train_rl(llm, images, codec, judges["rewarding"], asked.rl_steps)
    after = measure(llm, images, codec, judges, asked.drawings)
    print("after rl", after, f"{process_time():.0f} s", flush=True)
    write_result(
        asked.out,
        {
            "machine": describe_machine(),
            "cpu_seconds": process_time(),
            "steps": {"codec": asked.codec_steps, "sft": asked.sft_steps, "rl": asked.rl_steps},
            "codec_rms_error": error,
            "classifiers": quality,
            "after_sft": before,
            "after_rl": after,
            "reward_by_step": history,
        },
    )


if __name__ == "__main__":
    main()
