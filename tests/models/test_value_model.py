"""A critic: a policy's backbone under a value head, on disk as a checkpoint of its family."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.models.toy import FAMILY_CHANGES, family_model, toy_model, toy_spec
from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, load_value_model, save_model
from unmask.models.attention import plan_rows
from unmask.models.heads import Targets
from unmask.models.lora import LoRAParams, adapters, add_lora
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model, initialise
from unmask.models.value_model import ActorCritic, ValueModel, critic_on_frozen_policy
from unmask.trainers.master_weights import MasterWeights

TOKENS = torch.arange(2, 18)


def plan_all() -> object:
    return plan_rows(torch.ones(1, 16, 16, dtype=torch.bool), 16)


def hidden_states(model: Model | ValueModel) -> Tensor:
    return model.backbone(TOKENS, torch.arange(16), plan_all(), torch.arange(16))


def values(model: ValueModel) -> Tensor:
    return model(TOKENS, torch.arange(16), plan_all(), torch.arange(16))


@pytest.mark.parametrize("family", FAMILY_CHANGES)
def test_every_family_has_a_critic_that_is_saved_and_loaded_again(
    family: str, tmp_path: Path
) -> None:
    policy = family_model(family)
    save_model(policy, tmp_path / "policy")
    critic = load_value_model(tmp_path / "policy")
    assert torch.equal(hidden_states(critic), hidden_states(load_model(tmp_path / "policy")))
    assert not values(critic).any()
    torch.nn.init.normal_(critic.value_head.weight)
    save_model(critic, tmp_path / "critic")
    again = load_value_model(tmp_path / "critic", head="stored")
    assert torch.equal(values(again), values(critic))
    assert values(again).std() > 0.1
    assert again.spec == critic.spec


@pytest.mark.parametrize("is_tied", [False, True])
def test_on_disk_it_is_the_backbone_and_one_more_tensor(is_tied: bool, tmp_path: Path) -> None:
    save_model(toy_model(is_tied=is_tied), tmp_path / "policy")
    save_model(load_value_model(tmp_path / "policy"), tmp_path / "critic")
    policy = load_file(tmp_path / "policy" / "model.safetensors")
    critic = load_file(tmp_path / "critic" / "model.safetensors")
    assert critic["value_head.weight"].shape == (1, 32)
    assert critic.keys() - policy.keys() == {"value_head.weight"}
    assert policy.keys() - critic.keys() == (set() if is_tied else {"lm_head.weight"})


def test_a_tied_head_that_a_policy_stores_twice_is_not_loaded(tmp_path: Path) -> None:
    save_model(toy_model(), tmp_path / "policy")  # both matrices on disk
    config = tmp_path / "policy" / "config.json"
    config.write_text(
        config.read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    )
    critic = load_value_model(tmp_path / "policy")
    assert critic.spec.is_tied
    save_model(critic, tmp_path / "critic")
    assert "lm_head.weight" not in load_file(tmp_path / "critic" / "model.safetensors")


def test_it_comes_in_the_number_format_asked_for_and_with_the_policys_conventions(
    tmp_path: Path,
) -> None:
    place = toy_checkpoint(tmp_path / "policy")
    policy = load_model(place, mask_id=5, block_size=8)
    critic = load_value_model(place, dtype=torch.bfloat16, like=policy.spec)
    assert {p.dtype for p in critic.parameters()} == {critic.dtype} == {torch.bfloat16}
    assert critic.spec == policy.spec
    assert critic.device == torch.device("cpu")


def test_its_masters_are_wide_and_named_as_its_weights(tmp_path: Path) -> None:
    save_model(toy_model(), tmp_path)
    critic = load_value_model(tmp_path, dtype=torch.bfloat16)
    masters = MasterWeights(critic)
    assert [name for name, _ in masters.copies] == [name for name, _ in critic.named_parameters()]
    assert "value_head.weight" in dict(masters.copies)


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    save_model(toy_model(), tmp_path)
    found: list[list[Tensor]] = []
    for is_on in (False, True):
        critic = load_value_model(tmp_path, dtype=torch.float64)
        torch.nn.init.ones_(critic.value_head.weight)
        critic.backbone.gradient_checkpointing = is_on
        values(critic).square().sum().backward()
        found.append([p.grad.clone() for p in critic.parameters() if p.grad is not None])
    torch.testing.assert_close(found[0], found[1])


def test_a_policy_is_not_taken_for_a_critic_nor_a_critic_for_a_policy(tmp_path: Path) -> None:
    save_model(toy_model(), tmp_path / "policy")
    save_model(load_value_model(tmp_path / "policy"), tmp_path / "critic")
    with pytest.raises(ValueError, match=r"policy has no value head .* advantage.head = zero"):
        load_value_model(tmp_path / "policy", head="stored")
    with pytest.raises(ValueError, match=r"critic has a value head .* advantage.head = stored"):
        load_value_model(tmp_path / "critic")
    with pytest.raises(ValueError, match=r"unexpected tensor 'value_head\.weight'"):
        load_model(tmp_path / "critic")


def test_an_incomplete_checkpoint_is_named(tmp_path: Path) -> None:
    save_model(toy_model(num_layers=1), tmp_path / "small")
    save_model(toy_model(), tmp_path / "large")
    small = (tmp_path / "small" / "model.safetensors").read_bytes()
    (tmp_path / "large" / "model.safetensors").write_bytes(small)
    with pytest.raises(ValueError, match=r"missing tensor 'model\.layers\.1"):
        load_value_model(tmp_path / "large")


def test_two_heads_give_the_outputs_of_a_policy_and_of_a_critic() -> None:
    policy = toy_model(dtype=torch.float64)
    both = ActorCritic(policy)
    torch.nn.init.normal_(both.value_head.weight)
    critic = ValueModel(policy.spec).double()
    critic.backbone, critic.value_head = policy.backbone, both.value_head
    rows, targets = torch.arange(16), Targets(TOKENS, torch.ones(16))
    found = both(TOKENS, rows, plan_all(), rows, targets)
    alone = policy(TOKENS, rows, plan_all(), rows, targets)
    assert torch.equal(found.logprobs, alone.logprobs) and torch.equal(found.entropy, alone.entropy)
    assert torch.equal(found.values, values(critic))
    assert (both.spec, both.device, both.dtype) == (policy.spec, policy.device, policy.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_second_head_gives_zero_and_copies_no_weight(dtype: torch.dtype) -> None:
    policy = toy_model(dtype=dtype)
    both = ActorCritic(policy)
    assert not both.value_head.weight.any() and both.value_head.weight.dtype == dtype
    held = {p.data_ptr() for p in policy.parameters()}
    assert {p.data_ptr() for p in both.parameters()} - held == {both.value_head.weight.data_ptr()}


@pytest.mark.parametrize("family", ["sdar", "llada2"])
def test_a_critic_on_a_frozen_policy_has_no_weights_of_its_own(family: str) -> None:
    policy = family_model(family)
    untouched = hidden_states(policy)
    add_lora(policy, LoRAParams(2, 4))
    for adapter in adapters(policy).values():
        torch.nn.init.normal_(adapter.lora_b)
    critic = critic_on_frozen_policy(policy)
    assert torch.equal(hidden_states(critic), untouched)  # the policy's adapters are not its own
    assert not torch.equal(hidden_states(policy), untouched)
    held = {p.data_ptr() for p in policy.parameters()}
    assert {p.data_ptr() for p in critic.backbone.parameters()} <= held
    assert not any(p.requires_grad for p in critic.backbone.parameters())
    assert critic.value_head.weight.requires_grad and not values(critic).any()


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[DeviceMesh]:
    """Return a mesh of this process alone; the file store needs no port."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("build", [Model, ValueModel, lambda spec: ActorCritic(Model(spec))])
def test_sharded_models_are_scored_and_trained_as_whole_ones(
    build: Callable[[ModelSpec], Model | ValueModel | ActorCritic],
    is_tied: bool,
    one_process: DeviceMesh,
) -> None:
    """FSDP2 gathers shards in hooks of `forward`: any other way in meets DTensors among tensors."""
    gradients: list[dict[str, Tensor]] = []
    for is_sharded in (False, True):
        model = build(toy_spec(is_tied=is_tied))
        policy = model.policy if isinstance(model, ActorCritic) else model
        initialise(policy, seed=0)
        policy.backbone.gradient_checkpointing = True
        if isinstance(policy, Model):
            policy.tie()
        if not isinstance(model, Model):
            torch.nn.init.ones_(model.value_head.weight)
        if is_sharded:
            for layer in policy.backbone.layers:
                fully_shard(layer, mesh=one_process)
            fully_shard(model, mesh=one_process)
        rows, targets = torch.arange(16), Targets(TOKENS, torch.ones(16))
        scores = model(TOKENS, rows, plan_all(), rows, targets)
        found = (scores,) if isinstance(scores, Tensor) else scores
        sum(output.square().sum() for output in found).backward()
        named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        gradients.append({n: g.full_tensor() if is_sharded else g for n, g in named.items()})
    whole, sharded = gradients
    assert whole and whole.keys() == sharded.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(sharded[name], gradient, atol=1e-6, rtol=1e-5)
