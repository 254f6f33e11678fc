"""The tree keeps `launch/` and `export/` at the top; in the package they are `mmadfer.launch` and `mmadfer.export`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mmadfer", "mmadfer.*"]), "mmadfer.launch", "mmadfer.export"],
    package_dir={"mmadfer": "mmadfer", "mmadfer.launch": "launch", "mmadfer.export": "export"},
    package_data={"mmadfer": ["py.typed", "configs/*.yaml", "data/mtcnn/*"]},
)
