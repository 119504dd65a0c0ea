"""The house: its folders, its floors, its two commands, and what a wheel of it holds."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A command of this environment, with what it prints."""
    program = Path(sys.executable).with_name(command[0])
    return subprocess.run([program, *command[1:]], cwd=cwd, capture_output=True, text=True)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return listed.stdout.splitlines()


def test_the_top_level_folders_are_the_five_of_the_plan_and_the_documents():
    folders = {path.split("/")[0] for path in tracked() if "/" in path}
    shown = {folder for folder in folders if not folder.startswith(".")}
    assert shown == {"perfmodel", "kernels", "calibration", "benchmarks", "tests", "docs"}


def test_kernels_and_calibration_are_linked_for_static_tools():
    for name in ("kernels", "calibration"):
        link = ROOT / "perfmodel" / name
        assert link.is_symlink() and link.resolve() == ROOT / name


def test_the_readme_has_exactly_two_commands_that_set_everything_up():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    commands = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(commands) == 2
    assert commands[0].endswith("perfmodel quickstart")
    assert commands[1].endswith("pytest")


def test_the_ci_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    pattern = re.search(r"grep -m 1 '([^']+)' README.md", script.read_text())
    assert pattern is not None
    lines = [line for line in README.splitlines() if re.search(pattern[1], line)]
    assert len(lines) == 1 and "uv run" in lines[0]


def test_every_link_of_the_documents_leads_somewhere():
    for path in [name for name in tracked() if name.endswith(".md")]:
        targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / path).read_text())
        for target in [one for one in targets if "://" not in one]:
            assert (ROOT / path).parent.joinpath(target).exists(), f"{path}: {target}"


def test_imports_point_down_the_floors():
    found = run("lint-imports")
    assert found.returncode == 0, found.stdout


def test_ruff_finds_nothing():
    assert run("ruff", "check", ".").stdout.strip() == "All checks passed!"
    found = run("ruff", "format", "--check", ".")
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
def test_pyright_finds_nothing():
    found = run("pyright", "--pythonpath", sys.executable)
    assert found.returncode == 0, found.stdout


def test_a_private_package_is_listed_for_every_folder_of_code():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    folders = {Path(name).parent for name in tracked() if name.endswith("/__init__.py")}
    shipped = [folder for folder in folders if folder.parts[0] not in ("benchmarks", "tests")]
    code = {str(folder).replace("/", ".") for folder in shipped}
    assert listed == {
        name if name.startswith("perfmodel") else f"perfmodel.{name}" for name in code
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is tracked, unpacked."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    archive = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    subprocess.run(
        ["tar", "--null", "-T", "-", "-cf", str(copy / "all.tar")],
        cwd=ROOT, input=archive, check=True,
    )  # fmt: skip
    subprocess.run(["tar", "-xf", "all.tar"], cwd=copy, check=True)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as file:
        file.extractall(out)
    return out


def test_a_wheel_holds_the_facts_and_the_fitted_parameters(wheel: Path):
    kept = [name for name in tracked() if not name.startswith(("tests/", "benchmarks/"))]
    facts = [name for name in kept if name.endswith(".toml") and "/" in name]
    homes = [n if n.startswith("perfmodel/") else f"perfmodel/{n}" for n in facts]
    assert [home for home in homes if not (wheel / home).exists()] == []


def test_a_wheel_puts_nothing_beside_its_own_package(wheel: Path):
    inside = {path.name for path in wheel.iterdir() if path.is_dir()}
    assert {name for name in inside if not name.endswith(".dist-info")} == {"perfmodel"}


@pytest.mark.long
def test_a_wheel_predicts_by_itself(wheel: Path, tmp_path: Path):
    code = (
        "import perfmodel as pm; from perfmodel.calibration import protocol; "
        "print(pm.__file__, float(pm.load_chip('h100', pm.Plan()).cores))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(wheel)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.split() == [str(wheel / "perfmodel" / "__init__.py"), "132.0"], found.stderr
