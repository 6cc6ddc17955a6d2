"""What the package promises about itself: imports in one direction, and none too many."""

import ast
import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest
from helpers import dmsign, run

import dmsign_fast

HOME = Path(dmsign_fast.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(HOME)], "dmsign_fast."))
SOURCES = [name for name in MODULES if not name.endswith("._dmsign")]

# Who may import whom, besides itself; each part is a directory or module of the package.
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {
        "benchmark",
        "fleet",
        "pipeline",
        "erofs",
        "verity",
        "envelope",
        "trust",
        "signing",
        "oci",
        "node",
        "outputs",
        "processes",
        "strict_json",
        "_core",
        "errors",
        "",
    },
    "fleet": {
        "erofs",
        "verity",
        "envelope",
        "trust",
        "signing",
        "oci",
        "pipeline",
        "outputs",
        "_core",
        "errors",
        "",
    },
    "pipeline": {
        "arguments",
        "_core",
        "erofs",
        "verity",
        "envelope",
        "trust",
        "signing",
        "oci",
        "outputs",
        "strict_json",
        "errors",
    },
    "benchmark": {"erofs", "_core", "_core_fec", "outputs", "processes", "errors"},
    "erofs": {"arguments", "verity", "_core", "outputs", "processes", "errors"},
    "verity": {"arguments", "_core", "_core_fec", "outputs", "errors"},
    # of pipeline the table of nodes, by which doctor knows them
    "node": {"pipeline", "erofs", "envelope", "signing", "outputs", "processes", "errors"},
    "trust": {
        "arguments",
        "bounded_http",
        "directories",
        "envelope",
        "signing",
        "outputs",
        "strict_json",
        "errors",
    },
    "envelope": {"arguments", "bounded_http", "signing", "strict_json", "errors"},
    "oci": {
        "arguments",
        "bounded_http",
        "bounded_tar",
        "tls",
        "outputs",
        "processes",
        "strict_json",
        "errors",
    },
    "signing": {
        "arguments",
        "bounded_tar",
        "directories",
        "outputs",
        "processes",
        "strict_json",
        "errors",
    },
    "bounded_http": {"tls", "errors"},
    "tls": {"outputs", "errors"},
    "bounded_tar": {"errors"},
    "directories": set(),
    "outputs": {"errors"},
    "processes": {"errors"},
    "strict_json": {"errors"},
    "_core": {"_dmsign", "errors"},
    "_core_fec": {"_core", "_dmsign", "errors"},
    "arguments": {"errors"},
    "errors": set(),
}
HEAVY = (
    "azure",
    "boto3",
    "botocore",
    "numpy",
    "cryptography",
    "asn1crypto",
    "cbor2",
    "pyhanko_certvalidator",
    "pkcs11",
    "tqdm",
    "isal",
    "backports",
    "oras",
    "requests",
    "urllib3",
)


def path_of(module):
    stem = HOME.parent / module.replace(".", "/")
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def tree_of(module):
    return ast.parse(path_of(module).read_text())


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node):
    """Every module that is imported when the code runs, at its top or in a function."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "imports are absolute"
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imports(child)


def part(module):
    return module.removeprefix("dmsign_fast").removeprefix(".").partition(".")[0]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module):
    allowed = MAY_IMPORT[part(module)] | {part(module)}
    for name in imports(tree_of(module)):
        if name == "dmsign_fast" or not name.startswith("dmsign_fast"):
            continue
        target = part(name) if part(name) in MAY_IMPORT or part(name) == "_dmsign" else ""
        assert target in allowed, f"{module} imports {name}"


def test_every_part_has_a_rule():
    assert {part(module) for module in SOURCES} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", SOURCES)
def test_only_the_command_line_prints_or_exits(module):
    if part(module) in ("cli", "__main__"):
        return
    called = {
        ast.unparse(node.func) for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)
    }
    assert not called & {"print", "sys.exit", "exit", "input"}


@pytest.mark.parametrize("module", SOURCES)
def test_all_is_what_a_module_defines_and_others_take(module):
    loaded = importlib.import_module(module)
    public = getattr(loaded, "__all__", [])
    assert sorted(public) == sorted(set(public))
    for name in public:
        assert getattr(loaded, name) is not None
    if path_of(module).name == "__init__.py":
        return
    defined = {
        node.name
        for node in tree_of(module).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    assert defined <= set(public)


def test_the_public_names_are_those_of_the_package():
    assert sorted(dmsign_fast.__all__) == sorted(dmsign_fast._HOME)
    for name in dmsign_fast.__all__:
        assert getattr(dmsign_fast, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dmsign_fast.nothing  # noqa: B018


def loaded_by(code):
    script = f"import sys\n{code}\nprint(*sorted(name.split('.')[0] for name in sys.modules))"
    done = run(sys.executable, "-c", script)
    assert done.exit_code == 0, done.err
    return set(done.out.split())


@pytest.mark.parametrize(
    "code",
    [
        "import dmsign_fast",
        "from dmsign_fast.cli import main; main(['--version'])",
        "from dmsign_fast import VerityHasher; h = VerityHasher(); h.update(bytes(4096)); "
        "h.finalize()",
    ],
    ids=["import", "--version", "hashing"],
)
def test_heavy_packages_are_not_loaded_for(code):
    assert not loaded_by(code) & set(HEAVY)


def test_no_cryptography_is_loaded_to_hash_or_verify_data(tmp_path):
    (tmp_path / "data").write_bytes(bytes(8192))
    code = f"from dmsign_fast.cli import main; main(['verity', 'format', '{tmp_path}/data'])"
    assert not loaded_by(code) & {"cryptography", "asn1crypto", "tqdm"}


@pytest.mark.parametrize("module", SOURCES)
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_example_of_the_package_runs():
    assert doctest.testmod(dmsign_fast).failed == 0


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert version("dmsign-fast") == dmsign_fast.__version__
    assert dmsign("--version").out == f"dmsign-fast {dmsign_fast.__version__}\n"


def test_the_package_is_typed():
    assert (HOME / "py.typed").exists()


ROOT = HOME.parent.parent
PAGE = ROOT / "docs" / "architecture.md"
FUNCTIONS = "".join(path.read_text() for path in ROOT.glob("csrc/**/*.[ch]"))


def named_in_the_architecture():
    before, house, after = PAGE.read_text().split("```", 2)
    top = ""
    for line in house.strip().splitlines():
        if name := re.match(r"  (\S+)", line):
            yield f"{top}{name[1]}".removeprefix("src/dmsign_fast/")
        else:
            top = line.split()[0]
            yield top
    yield from re.findall("`([^`]+)`", before + after)


def exists(name):
    """Whether a path, a Python name or a C function is there; None for what is none of them."""
    if re.fullmatch(r"[\w./-]+/[\w.-]*|\w+\.(py|h|md)", name):
        return any((base / name).exists() for base in (ROOT, HOME, ROOT / "csrc"))
    if re.fullmatch(r"[a-z_]+(\.\w+)+", name) and part(f"dmsign_fast.{name}") in MAY_IMPORT:
        try:
            return pkgutil.resolve_name(f"dmsign_fast.{name}") is not None
        except (AttributeError, ImportError):
            return False
    if found := re.fullmatch(r"(\w+)\(\)", name):
        return bool(re.search(rf"^\w[\w *]*\b{found[1]}\(", FUNCTIONS, re.MULTILINE))
    return None


def test_the_map_of_the_house_names_what_exists():
    names = {name: exists(name) for name in named_in_the_architecture() if name != "./"}
    assert [name for name, there in names.items() if there is False] == []
    assert sum(there is not None for there in names.values()) > 90
    assert exists("erofs/nowhere.py") is exists("oci.store.nothing") is exists("nothing()") is False


def test_the_pages_link_to_pages():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([\w./-]+\.md)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
