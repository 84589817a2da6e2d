import pytest

from fp4guard.isolation import pinning


@pytest.mark.parametrize(
    ("gpus", "visible", "chosen"),
    [
        (1, None, ["0", "0", "0", "0"]),
        (8, None, ["0", "1", "2", "3"]),
        (2, "5,3", ["5", "3", "5", "3"]),
        (3, "GPU-aa, GPU-bb ,MIG-cc", ["GPU-aa", "GPU-bb", "MIG-cc", "GPU-aa"]),
    ],
)
def test_each_worker_gets_one_of_the_visible_gpus(monkeypatch, gpus, visible, chosen):
    monkeypatch.setattr(pinning, "count", lambda: gpus)
    got = []
    for worker in range(4):
        environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        got.append(pinning.pin(worker, "cuda", environment))
        assert environment == {"CUDA_VISIBLE_DEVICES": got[-1]}
    assert got == chosen


def test_rocm_has_a_variable_of_its_own(monkeypatch):
    monkeypatch.setattr(pinning, "count", lambda: 2)
    both = {"HIP_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert pinning.pin(1, "hip", both) == "3"
    assert both == {"HIP_VISIBLE_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "0,1"}


def test_nothing_is_chosen_where_there_is_nothing_to_choose(monkeypatch):
    monkeypatch.setattr(pinning, "count", lambda: 0)
    environment = {}
    assert pinning.pin(0, "cuda", environment) is None
    assert environment == {}
