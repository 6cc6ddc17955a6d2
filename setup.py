"""Everything but the C core is in pyproject.toml."""

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

NEEDS = (
    "dmsign-fast has a C core: to compile it needs a C compiler and the headers of libc and Python "
    "(apt-get install gcc libc6-dev python3-dev; dnf install gcc python3-devel)"
)


class BuildCore(build_ext):
    """As the base class, but a machine that cannot compile is told in a line what it lacks."""

    def build_extensions(self) -> None:
        """Compile and link."""
        try:
            super().build_extensions()
        except CompileError as error:
            raise SystemExit(f"{NEEDS}: {error}") from None


setup(
    cffi_modules=["csrc/build_core.py:ffi"],
    cmdclass={"build_ext": BuildCore},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
