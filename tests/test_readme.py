"""The README and the documents: their Python runs, their links lead somewhere, their figures are the measured ones."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from pydoc import locate

import numpy as np
import pytest
from PIL import Image

import topolora_hf
from topolora_hf import cli
from topolora_hf.synthetic import draw_synthetic

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
DOCS = PROJECT / "docs"
SETTINGS_PAGE = DOCS / "reference/settings.md"
CARDS = sorted((PROJECT / "topolora_hf/bases").glob("*/README.md"))
PAGES = [README, PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md", PROJECT / "hub_cards/README.md", *CARDS]
PAGES += sorted(DOCS.rglob("*.md"))
PHOTOGRAPH = "docs/images/chase_db1_01L.jpg"
# Blocks that name what only a user has; those of measures are run by tests/commands/test_measure_pages.py.
ELSEWHERE = re.compile(r"\"(someone|you)/|\.onnx\"|_segments\.csv\"|path/to/masks/|roads/tile|\"scene\.tif\"|torchao")


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def run(monkeypatch, command: str, *more: str) -> None:
    monkeypatch.setattr(sys, "argv", [*command.split(), *more])
    cli.main()


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A user's folder: a piece of the repository's photograph, a data set, and the run that the README trains."""
    folder = tmp_path_factory.mktemp("user")
    (folder / PHOTOGRAPH).parent.mkdir(parents=True)
    Image.open(PROJECT / PHOTOGRAPH).crop((430, 410, 560, 530)).save(folder / PHOTOGRAPH)
    for kind in ("images", "masks"):
        (folder / "path/to/folder" / kind).mkdir(parents=True)
    for number in range(4):
        picture = draw_synthetic(number, size=64)
        Image.fromarray(picture["image"]).save(folder / f"path/to/folder/images/{number}.png")
        Image.fromarray(picture["mask"][0] * 255).save(folder / f"path/to/folder/masks/{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (train,) = re.findall(r"^ {4}(topolora train .+)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
        small = "--max_steps 2 --batch_size 1 --tile_size 64 --image_size 64 --num_workers 0 --num_threads 1"
        run(patch, re.sub(r"--max_steps \d+", small, train))
    return folder


def test_a_run_that_the_readme_trains_has_the_documented_files(user):
    names = re.findall(
        r"`([\w.]+\.(?:json|csv|png))`", (DOCS / "reference/file-formats.md").read_text().split("## Adapter")[0]
    )
    assert len(names) > 8
    missing = [name for name in names if not (user / "runs/mine" / name).stat().st_size]
    assert missing == []


def test_first_commands_of_the_readme_run(user, monkeypatch):
    monkeypatch.chdir(user)
    commands = re.findall(r"^ {4}(topolora predict .+)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(commands) == 2
    for number, command in enumerate(commands):
        run(monkeypatch, command.replace("path/to/photographs", PHOTOGRAPH), "--output_dir", f"predictions-{number}")
        mask = np.asarray(Image.open(f"predictions-{number}/chase_db1_01L_mask.png"))
        assert mask.shape == (120, 130) and set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name_of)
def test_python_blocks_run_as_they_stand(page, user, monkeypatch):
    monkeypatch.chdir(user)
    for block in python_blocks(page):
        tree = ast.parse(block)
        if ELSEWHERE.search(block):
            imports = [line for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
            tree.body = [line for line in imports if "torchao" not in ast.unparse(line)]  # no dependency of ours
            assert tree.body
        exec(compile(tree, name_of(page), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_pages_and_sections(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)  # names old ones
def test_named_files_of_the_repository_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names = re.findall(r"(?<![\w/])((?:tests|recipes|topolora_hf|docs|hub_cards)/[\w./-]*\w)", text)
    real = [name for name in names if not re.search("[A-Z]{4}", name)]  # NAME, FOLDER
    bases = [f"topolora_hf/{base.parent.name}" for base in CARDS]
    assert [name for name in real if not (PROJECT / name).exists() and name not in bases] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != SETTINGS_PAGE and page.parent.name != "hub_cards"], ids=name_of
)
def test_lines_end_by_column_160(page):
    long = [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) > 160]
    assert long == []


def test_the_readme_is_short():
    assert README.stat().st_size <= 10_000


def test_figures_of_the_readme_are_those_of_the_results():
    results = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "results").glob("*.md"))
    figures = re.findall(
        r"-?\d\.\d+ ± \d\.\d+(?: / -?\d\.\d+ ± \d\.\d+)?|\d\.\d+ / \d\.\d+", README.read_text(encoding="utf-8")
    )
    assert len(figures) > 15
    assert [figure for figure in figures if figure not in results] == []


def test_the_results_stay_small():
    files = [file for file in (DOCS / "results").rglob("*") if file.is_file()]
    assert len(files) <= 40
    assert sum(file.stat().st_size for file in files) <= 2**20


def test_the_settings_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert SETTINGS_PAGE.read_text(encoding="utf-8") == generate.settings_page()


def test_the_api_page_has_every_public_name():
    objects = re.findall(r"^::: (\S+)$", (DOCS / "reference/api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    public = {name.rpartition(".")[2] for name in objects if not name.startswith("topolora_hf.metrics.")}
    assert public == set(topolora_hf.__all__)
    assert [name for name in objects if locate(name) is None] == []
