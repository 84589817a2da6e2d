"""What the kernels compute, against the formula in torch's float64, which shares nothing with the oracle."""

import pytest
import torch

import fp4guard as fg
from fp4guard.fuzzing.case import Case
from fp4guard.fuzzing.memory import CaseMemory
from fp4guard.memory import ALL_ONES, Memory
from fp4guard.sim import Simulator
from fp4guard.ttir import parse_arch


def _family():
    from kernels.mqa_logits import configs, launch, target

    return configs, launch, target


configs, launch, target = _family()

BEFORE = 0.125
BACKENDS = [("triton", "sm_90"), ("triton", "gfx950")]
gluon = pytest.mark.skipif(not launch.gluon_is_there(), reason="needs Triton 3.7.1 or later")


def problem(lengths, *, next_n=2, heads=5, d=32, kv_block=16, max_model_len=70, preshuffled=False, seed=0):
    """Tensors of small integers, every sum of which is exact in fp32, and the keys and scales by themselves."""
    rng = torch.Generator().manual_seed(seed)
    batch, columns = len(lengths), -(-max_model_len // kv_block)
    blocks = batch * columns

    def integers(*shape):
        return torch.randint(-3, 4, shape, generator=rng).float()

    q, keys, weights = integers(batch, next_n, heads, d), integers(blocks, kv_block, d), integers(batch * next_n, heads)
    scales = 2.0 ** torch.randint(-2, 3, (blocks, kv_block), generator=rng)
    stored = keys
    if preshuffled:
        stored = keys.view(blocks, kv_block // 16, 16, d // 32, 2, 16).permute(0, 1, 3, 4, 2, 5)
    values = stored.to(torch.float8_e4m3fn).contiguous().view(torch.uint8).reshape(blocks, -1)
    cache = torch.cat([values, scales.view(torch.uint8)], 1).view(blocks, kv_block, 1, d + 4)
    tensors = {
        "q": q.to(torch.float8_e4m3fn),
        "kv_cache": cache,
        "weights": weights,
        "context_lens": torch.tensor(lengths, dtype=torch.int32),
        "block_tables": torch.randperm(blocks, generator=rng).view(batch, columns).int(),
        "max_model_len": max_model_len,
    }
    return tensors, keys, scales


def formula(tensors, keys, scales):
    """Row by row and position by position, in float64; what is not written is BEFORE."""
    kv_block, most = tensors["kv_cache"].shape[1], tensors["max_model_len"]
    q = tensors["q"].double()
    batch, next_n = q.shape[:2]
    out = torch.full((batch * next_n, most), BEFORE, dtype=torch.float64)
    for b, length in enumerate(tensors["context_lens"].tolist()):
        written = min(-(-length // kv_block) * kv_block, most)
        for n in range(next_n):
            row = b * next_n + n
            out[row, :written] = -torch.inf
            for t in range(max(length - next_n + n + 1, 0)):
                block = tensors["block_tables"][b, t // kv_block]
                dots = q[b, n] @ keys[block, t % kv_block].double() * scales[block, t % kv_block].double()
                out[row, t] = (dots.clamp(min=0) * tensors["weights"][row].double()).sum()
    return out


def scored(tensors, arch="sm_90", **options):
    """The launcher in the simulator."""
    shape = (len(tensors["weights"]), tensors["max_model_len"])
    with Simulator(Memory(ALL_ONES), parse_arch(arch)).intercepting():
        return launch.fp8_paged_mqa_logits(**tensors, out=torch.full(shape, BEFORE), **options)


LENGTHS = (0, 1, 15, 16, 17, 69, 70)


@pytest.mark.parametrize("config", ["CK32_SK1_P1", "CK32_SK3_P2", "CK64_SK2_P5"])
@pytest.mark.parametrize("schedule", ["fixed", "variable"])
@pytest.mark.parametrize("preshuffled", [False, True])
def test_lengths_at_every_edge(schedule, preshuffled, config):
    tensors, *keys = problem(LENGTHS, preshuffled=preshuffled)
    config = configs.CONFIGS[config]
    result = scored(tensors, schedule=schedule, preshuffled=preshuffled, config=config)
    torch.testing.assert_close(result.double(), formula(tensors, *keys), rtol=0, atol=0)


@pytest.mark.parametrize("schedule", ["fixed", "variable"])
@pytest.mark.parametrize(("next_n", "heads", "d", "kv_block"), [(1, 4, 32, 1), (3, 16, 64, 64), (4, 17, 128, 128)])
def test_shapes(schedule, next_n, heads, d, kv_block):
    tensors, *keys = problem((70, 0, 3, 65), next_n=next_n, heads=heads, d=d, kv_block=kv_block)
    result = scored(tensors, schedule=schedule, config=configs.CONFIGS["CK64_SK2_P5"])
    torch.testing.assert_close(result.double(), formula(tensors, *keys), rtol=0, atol=0)


@pytest.mark.parametrize("schedule", ["fixed", "variable"])
def test_the_default_configuration(schedule):
    tensors, *keys = problem((300, 257), heads=64, d=128, kv_block=64, max_model_len=300, preshuffled=True)
    result = scored(tensors, "gfx950", schedule=schedule, preshuffled=True)
    torch.testing.assert_close(result.double(), formula(tensors, *keys), rtol=0, atol=0)


@gluon
@pytest.mark.parametrize("schedule", ["fixed", "variable"])
@pytest.mark.parametrize(("kv_block", "preshuffled"), [(1, False), (16, True), (64, True), (64, False), (128, True)])
def test_gluon_is_the_same_formula(schedule, kv_block, preshuffled):
    tensors, *keys = problem(LENGTHS, kv_block=kv_block, preshuffled=preshuffled)
    options = {"schedule": schedule, "preshuffled": preshuffled, "config": configs.CONFIGS["CK64_SK2_P5"]}
    result = scored(tensors, "gfx950", backend="gluon", **options)
    torch.testing.assert_close(result.double(), formula(tensors, *keys), rtol=0, atol=0)


CASES = [
    {"cache": "16", "schedule": "fixed", "config": "CK32_SK3_P2", "regime": "exact"},
    {"cache": "1", "schedule": "variable", "config": "CK64_SK2_P5", "regime": "ties"},
    {"cache": "64 preshuffled", "schedule": "fixed", "config": "CK64_SK7_P3", "regime": "maxima"},
    {"cache": "128 preshuffled", "schedule": "variable", "config": "CK32_SK1_P1", "regime": "zeros"},
]


@gluon
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["regime"])
def test_triton_and_gluon_agree_bit_for_bit_where_inputs_are_certified(case):
    case = dict(case)
    regime = case.pop("regime")
    arguments = {
        "batch": 3, "next_n": 2, "max_model_len": 101, "shape": "H16_D64", "lengths": "edges", "extra": 3, **case
    }  # fmt: skip
    found = {}
    for backend, arch in (("triton", "sm_90"), ("gluon", "gfx950")):
        memory = CaseMemory(Case(arguments, 1, regime), ALL_ONES, {})
        with Simulator(memory, parse_arch(arch)).intercepting():
            found[backend] = target.score(memory, **arguments, backend=backend)
    (plain, logits), (twin, _) = found["triton"], found["gluon"]
    certified = torch.from_numpy(logits.expected.certified | ~logits.written)
    assert certified.all() or regime == "maxima"
    assert certified.float().mean() > 0.5
    same = plain.view(torch.int32) == twin.view(torch.int32)
    assert same[:, :101][certified].all()
    assert same[:, 101:].all()


@pytest.mark.parametrize("name", ["mqa_logits", pytest.param("mqa_logits_gluon", marks=gluon)])
@pytest.mark.parametrize("schedule", ["fixed", "variable"])
def test_a_case_of_the_targets_is_clean(name, schedule):
    report = fg.examine(
        f"kernels.mqa_logits::{name}",
        batch=2, next_n=2, max_model_len=37, shape="H4_D32", cache="64", lengths="full", extra=0, schedule=schedule,
        config="CK32_SK3_P2", regime="wild", layout=3,
    )  # fmt: skip
    assert not report.findings
