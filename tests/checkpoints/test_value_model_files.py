"""A critic's directory: the trained parts and no others."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.models.toy import FAMILY_CHANGES, family_model, toy_model
from unmask.checkpoints.checkpoint import load_value_model, save_model
from unmask.checkpoints.lora_files import load_adapter
from unmask.checkpoints.value_model_files import export_critic, is_whole, load_head, save_critic
from unmask.models.heads import ValueHead
from unmask.models.lora import LoRAParams, adapters, add_lora, merge_lora
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel, critic_on_frozen_policy

HEAD = "value_head.safetensors"


def adapted_critic(policy: Model) -> ValueModel:
    """Return a critic of adapters and a head, all of them drawn."""
    critic = critic_on_frozen_policy(policy)
    add_lora(critic, LoRAParams(2, 4))
    for adapter in adapters(critic).values():
        torch.nn.init.normal_(adapter.lora_b)
    torch.nn.init.normal_(critic.value_head.weight)
    return critic


def weights(model: ValueModel) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILY_CHANGES)
def test_adapters_and_head_of_every_family_are_restored(family: str, tmp_path: Path) -> None:
    critic = adapted_critic(family_model(family))
    assert not is_whole(critic)
    save_critic(critic, tmp_path)
    names = {"adapter_config.json", "adapter_model.safetensors", HEAD}
    assert {path.name for path in tmp_path.iterdir()} == names
    again = critic_on_frozen_policy(family_model(family))
    load_adapter(again, tmp_path)
    load_head(again.value_head, tmp_path)
    found, wanted = weights(again), weights(critic)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())


def test_an_export_is_a_whole_critic_with_the_adapters_merged(tmp_path: Path) -> None:
    critic = adapted_critic(toy_model())
    export_critic(critic, tmp_path)
    found = weights(load_value_model(tmp_path, head="stored"))
    merged = weights(merge_lora(critic))
    assert found.keys() == merged.keys()
    assert all(torch.equal(found[name], weight) for name, weight in merged.items())


@pytest.mark.parametrize("write", [save_critic, export_critic])
def test_for_a_second_head_only_the_head_is_written(
    write: type[save_critic], tmp_path: Path
) -> None:
    both = ActorCritic(toy_model())
    torch.nn.init.normal_(both.value_head.weight)
    write(both, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [HEAD]
    assert load_file(tmp_path / HEAD).keys() == {"value_head.weight"}
    head = ValueHead(both.spec)
    load_head(head, tmp_path)
    assert torch.equal(head.weight, both.value_head.weight)


def test_a_head_is_also_taken_from_a_whole_critic(tmp_path: Path) -> None:
    critic = critic_on_frozen_policy(toy_model())
    torch.nn.init.normal_(critic.value_head.weight)
    assert is_whole(critic)
    save_critic(critic, tmp_path)
    head = ValueHead(critic.spec)
    load_head(head, tmp_path)
    assert torch.equal(head.weight, critic.value_head.weight)


def test_a_directory_without_a_head_is_named(tmp_path: Path) -> None:
    policy = toy_model()
    save_model(policy, tmp_path)
    with pytest.raises(ValueError, match=r"has no value head .* advantage.head = zero"):
        load_head(ValueHead(policy.spec), tmp_path)


def test_a_head_of_another_width_is_named(tmp_path: Path) -> None:
    save_critic(ActorCritic(toy_model(width=64)), tmp_path)
    said = r"value_head\.weight has shape \(1, 64\), the policy asks for \(1, 32\)"
    with pytest.raises(ValueError, match=said):
        load_head(ValueHead(toy_model().spec), tmp_path)
