import pytest

from fp4guard.bench.gpu.pool import examiner_of
from fp4guard.fuzzing.setting import Setting


@pytest.fixture
def simulated_worker():
    """In the place of a GPU: the simulator, in a process of its own."""
    setting = Setting(isolated=True)
    yield setting
    examiner_of(setting).close()
    examiner_of.cache_clear()
