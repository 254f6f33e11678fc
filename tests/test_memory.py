"""Which errors say that memory is used up."""

import pytest

from mmadfer.errors import ClipError, WeightsError
from mmadfer.utils.memory import enough, lacks_memory

TOLD = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    Exception("[ONNXRuntimeError] : 6 : Available memory of 512 is smaller than requested bytes of 1024"),
    Exception("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 8"),
    RuntimeError("out of memory (cudaErrorMemoryAllocation)"),
    WeightsError("Requested amount of GPU memory (4096 bytes) could not be allocated. There may not be enough free"),
    WeightsError("IExecutionContext: Error Code 2: OutOfMemory (Requested size was 4096 bytes.)"),
]


@pytest.mark.parametrize("error", TOLD)
def test_a_lack_of_memory_is_known_by_its_words(error: Exception) -> None:
    assert lacks_memory(error)
    with (
        pytest.raises(WeightsError, match=r"no memory is left on the device cuda:1 to load big\.onnx \(.+\): end what"),
        enough("big.onnx", "cuda:1"),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        None,
        OSError(12, "Cannot allocate memory"),
        ClipError("a.mp4 cannot be read: Cannot allocate memory"),
        RuntimeError("CUDNN_STATUS_INTERNAL_ERROR"),
    ],
)
def test_what_a_file_asks_for_is_no_lack_of_memory(error: Exception | None) -> None:
    assert not lacks_memory(error)
    if error:
        with pytest.raises(type(error), match=str(error).split(":")[0][-8:]), enough("big.onnx", "cpu"):
            raise error
