"""Bases of other families than SAM, by their names on the Hub."""

from transformers import Sam2Model

from benchmark.families import our_config
from topolora_hf.network.backbones import backbone_of


def test_a_base_of_another_family_is_found_by_its_name_on_the_hub(hub, fresh_process, tmp_path):
    sam2 = backbone_of("sam2").build(our_config("small-sam2"))
    assert isinstance(sam2, Sam2Model)
    sam2.save_pretrained(tmp_path / "base")
    hub.add("models", "someone/sam2", {file.name: file.read_bytes() for file in (tmp_path / "base").iterdir()})
    done = fresh_process(
        "from topolora_hf import TopoSamForSegmentation\n"
        "network = TopoSamForSegmentation.from_pretrained('someone/sam2', tile_size=48)\n"
        "print(network.config.family, network.name_or_path, network.revision, type(network.sam).__name__)\n"
    )
    assert done.returncode == 0, done.stderr
    head = hub.repositories["models", "someone/sam2"].head
    assert done.stdout.split() == ["sam2", "someone/sam2", head, "Sam2Model"]
