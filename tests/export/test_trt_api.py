"""Every use that is made of TensorRT's API, held against the bindings of version 10 and 11, and of TensorRT-RTX.

The wheels `tensorrt-cu13-bindings` hold the Python classes only. The libraries behind them are not on the package
index; empty ones are made here, over which the bindings load. See trt_double.py.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from needs import missing, needed

import mmadfer

PINNED = ("10.16.1.11", "11.4.0.106")
FOLDER = Path(__file__).parents[2] / "build/tensorrt-bindings"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
EXPORTS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""What the bindings ask of the libraries."""


def bindings(version: str) -> Path:
    """A folder with the unpacked wheel and, in `stubs`, the empty libraries."""
    folder = FOLDER / version
    if not (folder / "stubs").is_dir():
        fetch(version, folder)
        stubs(folder, version.partition(".")[0])
    return folder


def fetch(version: str, folder: Path) -> None:
    wheel = f"tensorrt-cu13-bindings=={version}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        missing(f"no {wheel}: {done.stderr.strip()[-200:]}")
    for path in folder.glob("*.whl"):
        zipfile.ZipFile(path).extractall(folder)


def stubs(folder: Path, major: str) -> None:
    partial = folder / "stubs.partial"
    partial.mkdir(exist_ok=True)
    (partial / "stub.c").write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in EXPORTS))
    for name in LIBRARIES:
        soname = f"lib{name}.so.{major}"
        command = ["cc", "-shared", "-fPIC", "-o", partial / soname, partial / "stub.c", f"-Wl,-soname,{soname}"]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            missing("no C compiler")
    partial.replace(folder / "stubs")


@pytest.mark.parametrize("version", PINNED)
def test_versions_10_and_11_have_what_is_used_of_them(version: str, onnx_file: Path) -> None:
    folder = bindings(version)
    paths = [str(folder), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / "stubs"), "PYTHONPATH": os.pathsep.join(paths)}
    code = f"import trt_uses; trt_uses.main('tensorrt_bindings', {str(onnx_file)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert told["version"] == version
    assert Path(told["mmadfer"]) == Path(mmadfer.__file__)
    assert {"Builder.build_serialized_network", "IBuilderConfig.set_timing_cache"} <= set(told["used"].split())
    assert {"IBuilderConfig.hardware_compatibility_level", "IExecutionContext.execute_async_v3"} <= set(
        told["used"].split()
    )


def test_tensorrt_rtx_has_what_is_used_of_it(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed("tensorrt_rtx")
    import trt_uses

    trt_uses.main("tensorrt_rtx", str(onnx_file))
    assert "IRuntimeConfig.cuda_graph_strategy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("use", "error"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", AttributeError),
        ("config.int8_calibrator", AttributeError),
        ("builder.create_network(1, 2)", TypeError),
        ("config.set_memory_pool_limit(trt.BuilderFlag.TF32, 1)", TypeError),
        ("config.set_timing_cache(config.create_timing_cache(b''))", TypeError),
        ("builder.create_builder_config().progress_monitor.nothing", AttributeError),
        ("setattr(config, 'hardware_compatibility_level', 1)", TypeError),
    ],
)
def test_a_use_that_the_bindings_refuse_is_found(use: str, error: type[Exception]) -> None:
    from trt_double import Api

    trt = Api(needed("tensorrt_rtx"))
    builder = trt.Builder(trt.Logger())
    config = builder.create_builder_config()
    with pytest.raises(error):
        eval(use, {"trt": trt, "builder": builder, "config": config})
