"""The modelling file of exports: masks, padding, positions, blocks and number formats, against our model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.toy import family_model
from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.weights import stored_tensors
from unmask.exporting.export import ExportParams, export, own_code_fields
from unmask.exporting.modeling_unmask import UnmaskConfig, UnmaskForCausalLM
from unmask.models.families import family_named
from unmask.models.transformer import Model, block_causal

IDS = torch.randint(0, 38, (2, 11), generator=torch.Generator().manual_seed(3))


def pair(family: str, **changes: Any) -> tuple[Model, UnmaskForCausalLM]:
    """Return a random model of a family in fp64, and the exported code with the same weights."""
    ours = family_model(family, **changes).double()
    config = family_named(family).new_config(ours.spec) | own_code_fields(ours)
    theirs = UnmaskForCausalLM(UnmaskConfig(**config)).double().eval()
    theirs.load_state_dict(stored_tensors(ours, None))
    return ours, theirs


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-11)


@torch.no_grad()
@pytest.mark.parametrize("family", ["sdar", "llada", "llada2"])
def test_padding_changes_nothing(family: str) -> None:
    _, model = pair(family)
    whole = model(IDS).logits
    mask = torch.ones(2, 14, dtype=torch.long)
    mask[1, :3] = 0
    left = torch.cat((torch.full((1, 3), 5), IDS[1:]), 1)
    padded = torch.cat((IDS[:1], torch.full((1, 3), 9)), 1)
    mask[0, 11:] = 0
    logits = model(torch.cat((padded, left)), attention_mask=mask).logits
    assert close(logits[0, :11], whole[0]) and close(logits[1, 3:], whole[1])
    assert logits.isfinite().all()


@torch.no_grad()
def test_an_explicit_mask_replaces_the_pattern() -> None:
    ours, model = pair("sdar")
    seen = block_causal(11, 3)
    expected = ours.logits(IDS, allowed=seen[None].expand(2, -1, -1))
    added = torch.zeros(11, 11).masked_fill(~seen, -torch.inf)
    for mask in (seen, seen.long(), added):
        assert close(model(IDS, attention_mask=mask[None, None]).logits, expected)
    assert close(model(IDS, block_size=3).logits, expected)
    model.config.block_size = 3
    assert close(model(IDS).logits, expected)
    assert close(model(IDS, attention_mask="full").logits, expected)


@torch.no_grad()
def test_positions_and_embeddings_are_taken() -> None:
    ours, model = pair("dream")
    positions = torch.arange(11) * 2
    expected = ours.logits(IDS, positions=positions)
    assert close(model(IDS, position_ids=positions[None]).logits, expected)
    vectors = model.get_input_embeddings()(IDS)
    assert close(model(inputs_embeds=vectors, attention_mask="full").logits, ours.logits(IDS))


@torch.no_grad()
def test_narrow_formats_give_wide_logits() -> None:
    ours, model = pair("llada2")
    ours, model = ours.bfloat16(), model.bfloat16()
    logits = model(IDS).logits
    assert logits.dtype == torch.float32
    # Rounding differs: a router may even choose another expert.
    apart = (logits - ours.logits(IDS)).abs()
    assert apart.median() < 0.05


def test_the_routers_bias_stays_wide(tmp_path: Path) -> None:
    ours, _ = pair("llada2")
    save_model(ours.float(), tmp_path / "model")
    export(ExportParams(str(tmp_path / "model")), tmp_path / "out")
    model = UnmaskForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    formats = {name.endswith("expert_bias"): t.dtype for name, t in model.state_dict().items()}
    assert formats == {True: torch.float32, False: torch.bfloat16}


def test_weights_have_the_published_names() -> None:
    ours, model = pair("mmada")
    assert model.state_dict().keys() == stored_tensors(ours, None).keys()
    head = model.get_output_embeddings()
    assert head is not None and head.weight is model.model.transformer.ff_out.weight
    _, tied = pair("dream", is_tied=True)
    assert tied.get_output_embeddings() is None
