from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from topolora_hf.data import CATALOG
from topolora_hf.hub.named_cards import NAMED, render_named_card, write_named_cards

CARDS = Path(__file__).parents[2] / "hub_cards"


def test_there_is_a_card_for_each_named_data_set():
    assert set(NAMED) == {"drive", "stare", "chase_db1", "kvasir", "sl_ssdd", "synthetic"}
    assert {file.stem for file in CARDS.glob("*.md")} == {*NAMED, "README", "adapter_card"}


def test_the_template_shown_is_the_one_that_the_package_holds():
    packaged = CARDS.parent / "topolora_hf" / "hub" / "adapter_card.md"
    assert (CARDS / "adapter_card.md").resolve() == packaged.resolve()


@pytest.mark.parametrize("name", NAMED)
def test_the_files_are_what_the_code_renders(name, tmp_path):
    write_named_cards(tmp_path)
    written = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert (CARDS / f"{name}.md").read_text(encoding="utf-8") == written, "run python recipes/cards.py"


@pytest.mark.parametrize("name", NAMED)
def test_a_card_is_read_back_as_it_was_rendered(name):
    card, spec = ModelCard.load(CARDS / f"{name}.md"), CATALOG[name]
    assert card.data.to_dict() == render_named_card(name).data.to_dict()
    assert card.data.datasets == ([spec.hub_id] if spec.hub_id else None)
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "peft")
    assert ("thin-structures" in card.data.tags) == (name not in ("kvasir", "sl_ssdd"))
    assert spec.licence in card.text and spec.citation in card.text
