"""Weights arrive as they were sent, to the bit, in every number format; a member that left is an error."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tests.toy import toy_model
from unmask.models.lora import LoRAParams, add_lora
from unmask.rollouts.weight_broadcast import (
    Group,
    Meeting,
    Weights,
    check_layout,
    join,
    open_store,
    receive,
    send,
    trained_weights,
)

CPU = torch.device("cpu")


def together(parts: list[Callable[[], Any]]) -> list[Any]:
    """Call each part in a thread of its own and return the results."""
    with ThreadPoolExecutor(len(parts)) as threads:
        return [future.result() for future in [threads.submit(part) for part in parts]]


def group_of(size: int) -> list[Group]:
    """Return the groups of all members, in order of their ranks."""
    store, port = open_store("127.0.0.1")
    meeting = Meeting("127.0.0.1", port, "one", size, "cpu", 20)
    groups = together([lambda rank=rank: join(meeting, rank) for rank in range(size)])
    del store
    return groups


def test_every_number_format_arrives_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{dtype} {shape}": torch.randn(shape, generator=generator).to(dtype)
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
        for shape in ((), (1,), (3, 5), (0, 4), (257, 33))
    }
    tensors["not a number"] = torch.tensor([torch.nan, -torch.inf, -0.0])
    tensors["transposed"] = torch.arange(12.0).view(3, 4).T
    sent = Weights(3, tensors)
    learner, *workers = group_of(3)
    layout = sent.layout
    _, *found = together(
        [
            lambda: send(learner, sent, CPU),
            *[lambda group=group: dict(receive(group, layout, CPU)) for group in workers],
        ]
    )
    for received in found:
        assert list(received) == list(tensors)
        for name, tensor in tensors.items():
            assert received[name].dtype == tensor.dtype
            own, other = (
                t.contiguous().view(-1).view(torch.uint8) for t in (tensor, received[name])
            )
            assert torch.equal(own, other), name
    assert sent.num_bytes == sum(t.numel() * t.element_size() for t in tensors.values())


def test_a_member_that_left_ends_the_transfer() -> None:
    groups = group_of(3)
    groups.pop()
    with pytest.raises(RuntimeError):
        send(groups[0], Weights(0, {"x": torch.ones(1000)}), CPU)


def test_all_weights_are_sent_in_the_order_of_their_names() -> None:
    model = toy_model()
    weights = trained_weights(model, 4, copies=False)
    assert weights.version == 4
    assert list(weights.tensors) == sorted(dict(model.named_parameters()))
    embedding = model.backbone.embedding.weight
    assert weights.tensors["backbone.embedding.weight"].data_ptr() == embedding.data_ptr()


def test_copies_do_not_change_with_the_model() -> None:
    model = toy_model()
    before = trained_weights(model, 0, copies=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    after = trained_weights(model, 1, copies=False)
    for name, tensor in before.tensors.items():
        assert torch.allclose(tensor + 1, after.tensors[name])


def test_adapters_alone_are_sent_of_a_model_that_has_some() -> None:
    model = toy_model()
    add_lora(model, LoRAParams(targets=("attention",), rank=2))
    names = list(trained_weights(model, 0, copies=False).tensors)
    assert names == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    assert all(name.endswith((".lora_a", ".lora_b")) for name in names)


def test_weights_of_another_model_are_refused_by_name() -> None:
    own = trained_weights(toy_model(), 0, copies=False)
    check_layout(own.tensors.items(), own.layout)
    narrow = trained_weights(toy_model(dtype=torch.bfloat16), 0, copies=False)
    with pytest.raises(ValueError, match=r"sends backbone\.embedding\.weight as .*bfloat16"):
        check_layout(own.tensors.items(), narrow.layout)
    with pytest.raises(ValueError, match=r"sends head\.projection\.weight as nothing"):
        check_layout(own.tensors.items(), own.layout[:-1])
