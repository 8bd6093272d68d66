"""A stand-in for NVIDIA's driver, which installs only with a GPU: libraries that answer calls but compute nothing.

Everything above it is real: MXNet's wheel, the CUDA libraries, nvidia-ml-py.
"""

import subprocess

# All functions of libcuda.so.1 that libmxnet.so calls by name.
CUDA_FUNCTIONS = (
    'cuDeviceGet',
    'cuDevicePrimaryCtxRetain',
    'cuGetErrorString',
    'cuGraphKernelNodeGetParams',
    'cuGraphNodeGetType',
    'cuLaunchKernel',
    'cuModuleGetFunction',
    'cuModuleLoadData',
    'cuModuleLoadDataEx',
    'cuModuleUnload',
)
NO_DEVICE = 100
GPU_NAME = 'Stand-in GPU'
MEMORY = 16 << 30

MANAGEMENT_LIBRARY = """
#include <string.h>
typedef struct {{ unsigned long long total, free, used; }} Memory;
int nvmlInit_v2(void) {{ return {init}; }}
int nvmlInitWithFlags(unsigned flags) {{ return {init}; }}
int nvmlShutdown(void) {{ return 0; }}
const char *nvmlErrorString(int code) {{ return "Stand-in Error"; }}
int nvmlSystemGetDriverVersion(char *text, unsigned length) {{ strncpy(text, "{version}", length); return 0; }}
int nvmlDeviceGetCount_v2(unsigned *count) {{ *count = {count}; return 0; }}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {{ *handle = (void *)(index + 1L); return 0; }}
int nvmlDeviceGetName(void *handle, char *text, unsigned length) {{ strncpy(text, "{name}", length); return 0; }}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {{
  *major = {capability[0]}; *minor = {capability[1]}; return 0;
}}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {{ memory->total = {memory}ULL; return 0; }}
"""


def make_driver(folder, version='535.161.08', count=1, capability=(7, 0), init=0):
    """Compile a driver; return the environment variables with which programs find it.

    Args:
        count, capability: of the GPUs that nvidia-ml-py finds; CUDA itself never finds one.
        init: the result of NVML's initialization; 0 means success.
    """
    folder.mkdir(exist_ok=True)
    functions = '\n'.join(f'int {name}(void) {{ return {NO_DEVICE}; }}' for name in CUDA_FUNCTIONS)
    compile_library(folder / 'libcuda.so.1', functions)
    code = MANAGEMENT_LIBRARY.format(
        version=version, count=count, capability=capability, init=init, name=GPU_NAME, memory=MEMORY
    )
    compile_library(folder / 'libnvidia-ml.so.1', code)
    return {'LD_LIBRARY_PATH': str(folder)}


def compile_library(path, code):
    command = ['gcc', '-x', 'c', '-', '-shared', '-fPIC', f'-Wl,-soname,{path.name}', '-o', path]
    subprocess.run(command, input=code, text=True, check=True)
