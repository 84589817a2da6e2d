"""Token alignment, on the host: which slots a block works on, with which expert."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def _family():
    from kernels.moe_mxfp4 import align

    return align


align = _family()

QUICK = settings(max_examples=60, deadline=None)
EXPERTS, GLOBAL = 3, 5
MAPS = st.none() | st.permutations([0, 1, 2, -1, -1]) | st.just([-1] * GLOBAL)
IDS = st.integers(0, 3).flatmap(
    lambda top_k: st.lists(st.lists(st.integers(-2, GLOBAL + 1), min_size=top_k, max_size=top_k), max_size=12)
)


def blocks(alignment):
    """(expert, slots of a block), of the blocks that count; padding left out."""
    end = int(alignment.num_tokens_post_padded)
    size = alignment.block_size
    assert end % size == 0
    assert end <= len(alignment.sorted_token_ids)
    assert len(alignment.expert_ids) == -(-len(alignment.sorted_token_ids) // size)
    rows = alignment.sorted_token_ids[:end].view(-1, size).tolist()
    return [
        (expert, [slot for slot in row if slot != alignment.slots])
        for expert, row in zip(alignment.expert_ids.tolist(), rows, strict=False)
    ]


@QUICK
@given(ids=IDS, known=MAPS, block_size=st.sampled_from([1, 2, 4, 16]), dtype=st.sampled_from(align.ID_DTYPES))
def test_every_slot_is_in_one_block_of_its_expert(ids, known, block_size, dtype):
    top_k = len(ids[0]) if ids else 2
    topk_ids = torch.tensor(ids, dtype=dtype).reshape(len(ids), top_k)
    expert_map = None if known is None else torch.tensor(known, dtype=torch.int32)
    alignment = align.moe_align_block_size(topk_ids, block_size, EXPERTS, expert_map)

    def local(global_id):
        if known is None:
            return global_id if 0 <= global_id < EXPERTS else -1
        return known[global_id] if 0 <= global_id < GLOBAL else -1

    found = {slot: expert for expert, slots in blocks(alignment) for slot in slots}
    assert found == {slot: local(global_id) for slot, global_id in enumerate(topk_ids.flatten().tolist())}
    assert sum(len(slots) for _, slots in blocks(alignment)) == alignment.slots == len(ids) * top_k
    assert all(slots for _, slots in blocks(alignment)), "a block of padding alone is work for nothing"


@QUICK
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5), spare=st.integers(0, 5))
def test_permuted_rows_are_in_blocks_of_their_expert(counts, spare):
    rows = sum(counts) + spare
    alignment = align.align_permuted(torch.tensor(counts), rows, 4)
    expected = [expert for expert, count in enumerate(counts) for _ in range(count)]
    found = {row: expert for expert, held in blocks(alignment) for row in held}
    assert found == dict(enumerate(expected)), "rows behind the last expert's are in no block"


@pytest.mark.parametrize(("counts", "expected"), [([9, 9], [0] * 5), ([2, 9], [0, 0, 1, 1, 1]), ([-3, 2], [1, 1])])
def test_counts_reach_no_further_than_the_rows(counts, expected):
    found = {row: expert for expert, held in blocks(align.align_permuted(torch.tensor(counts), 5, 2)) for row in held}
    assert found == dict(enumerate(expected))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"topk_ids": torch.zeros(4, 2)}, TypeError, r"topk_ids is torch\.float32; allowed: torch\.int32"),
        ({"topk_ids": torch.zeros(4, dtype=torch.int32)}, ValueError, r"topk_ids has shape \(4,\); allowed: 2"),
        ({"block_size": 24}, ValueError, r"block_size is 24; allowed: powers of two"),
        ({"block_size": 0}, ValueError, r"block_size is 0"),
        ({"num_experts": 0}, ValueError, r"num_experts is 0; allowed: 1 or more"),
        ({"expert_map": torch.zeros(4)}, TypeError, r"expert_map is torch\.float32"),
        ({"expert_map": torch.zeros(0, dtype=torch.int32)}, ValueError, r"expert_map has shape \(0,\)"),
        ({"expert_map": torch.zeros(4, dtype=torch.int32, device="meta")}, ValueError, r"expert_map is on meta"),
    ],
)
def test_a_wrong_argument_is_named(arguments, error, message):
    right = {"topk_ids": torch.zeros(4, 2, dtype=torch.int32), "block_size": 16, "num_experts": 3}
    with pytest.raises(error, match=message):
        align.moe_align_block_size(**right | arguments)


def test_permuted_refuses_negative_rows():
    with pytest.raises(ValueError, match=r"rows is -1; allowed: 0 or more"):
        align.align_permuted(torch.tensor([1]), -1, 16)
