"""system_info.py: what a report says about the machine. `./runner --check` prints the rest."""

from imagenet.runtime import cuda, system_info


def test_environment_of_a_run_on_cpus():
    found = system_info.describe_environment('cpu')
    assert list(found)[:3] == ['machine', 'system', 'Python']
    assert found['numpy'] == cuda.version_of('numpy')
    assert 'NVIDIA driver' not in found
    assert all(isinstance(text, str) for text in found.values())


def test_environment_of_a_run_on_gpus(monkeypatch):
    gpus = [cuda.Gpu('Tesla T4', (7, 5), 16 << 30), cuda.Gpu('Tesla T4', (7, 5), None)]
    monkeypatch.setattr(cuda, 'read_driver', lambda: cuda.Driver('535.54', gpus))
    found = system_info.describe_environment('gpu')
    assert found['NVIDIA driver'] == '535.54'
    assert found['GPU 0'] == 'Tesla T4, compute capability 7.5, 16 GiB'
    assert found['GPU 1'] == 'Tesla T4, compute capability 7.5'
    assert found['numpy'] == cuda.version_of('numpy')
