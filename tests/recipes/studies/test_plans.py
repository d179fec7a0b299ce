import pytest

from ablate import AblateArguments, plan_ablate
from backbones import BackbonesArguments, plan_backbones
from compare import CompareArguments, plan_compare
from cross_dataset import CrossDatasetArguments, plan_cross_dataset
from few_labels import FewLabelsArguments, plan_few_labels


def test_compare_runs_every_method_on_every_set_with_every_seed(tmp_path):
    args = CompareArguments(datasets=["drive", "stare"], seeds=[3, 5], output_dir=str(tmp_path), max_steps=7)
    jobs = plan_compare(args).jobs
    assert len(jobs) == len({job.name for job in jobs}) == 2 * 7 * 2
    by_name = {job.name: job.arguments for job in jobs}
    one = by_name["stare/detail_only/5"]
    assert (one.dataset, one.preset, one.seed, one.max_steps, one.base) == (
        "stare",
        "detail_only",
        5,
        7,
        "topolora_hf/tiny",
    )
    assert one.output_dir == str(tmp_path / "stare/detail_only/5")
    assert by_name["drive/paper/3"].preset == "paper"
    assert by_name["drive/segformer/3"].network == "segformer"
    assert by_name["drive/topolora/3"].network == "topolora"
    commands = {job.labels["method"]: job.command for job in jobs}
    assert (commands["segformer"], commands["topolora"]) == ("train_baseline", "train")


def test_ablations_vary_one_setting_on_the_sets_that_the_paper_uses(tmp_path):
    jobs = plan_ablate(AblateArguments(seeds=[0], output_dir=str(tmp_path))).jobs
    of = {study: [job for job in jobs if job.labels["study"] == study] for study in ("rank", "cldice_weight")}
    assert [(job.arguments.dataset, job.arguments.rank) for job in of["rank"]] == [
        ("drive", rank) for rank in (4, 8, 16, 32)
    ]
    assert [(job.arguments.cldice_schedule, job.arguments.cldice_weight) for job in of["cldice_weight"]] == [
        *(("fixed", weight) for weight in (0, 0.25, 0.5, 1, 2)),
        ("ramp", 0.5),
        ("adaptive", 0.5),
    ]
    components = [job.arguments for job in jobs if job.labels["study"] == "components"]
    assert [(one.dataset, one.preset) for one in components] == [
        ("stare", preset) for preset in ("decoder_only", "lora_only", "adapter_only", "paper", "topolora")
    ]
    kvasir = plan_ablate(AblateArguments(study="rank", dataset="kvasir", seeds=[0], output_dir=str(tmp_path)))
    assert {job.arguments.dataset for job in kvasir.jobs} == {"kvasir"}


def test_every_base_has_the_same_adapter_and_sees_the_same(tmp_path):
    bases = ["tiny", "vit-b-random", "facebook/sam-vit-base"]
    args = BackbonesArguments(bases=bases, seeds=[4], image_size=128, output_dir=str(tmp_path))
    jobs = plan_backbones(args).jobs
    assert [job.name for job in jobs] == ["drive/tiny/4", "drive/vit-b-random/4", "drive/sam-vit-base/4"]
    assert [(job.arguments.base, job.arguments.preset, job.arguments.image_size) for job in jobs] == [
        ("topolora_hf/tiny", "topolora", 128),
        ("topolora_hf/vit-b-random", "topolora", 128),
        ("facebook/sam-vit-base", "topolora", 128),
    ]
    with pytest.raises(ValueError, match="give --bases, not --base tiny"):
        BackbonesArguments(base="tiny")


def test_across_sets_every_training_is_followed_by_its_scores_on_the_others(tmp_path):
    args = CrossDatasetArguments(methods=["topolora", "unet"], seeds=[1], output_dir=str(tmp_path), set=["fov=none"])
    chains = plan_cross_dataset(args).chains
    assert len(chains) == 3 * 2
    trained, *scored = next(chain for chain in chains if chain[0].name == "stare/topolora/1")
    assert trained.arguments.dataset == "stare"
    assert [(job.arguments.dataset, job.arguments.part) for job in scored] == [("drive", "test"), ("chase_db1", "all")]
    for job in scored:
        assert job.command == "score" and job.labels["seed"] == 1 and job.labels["trained_on"] == "stare"
        assert job.arguments.adapter == str(tmp_path / "stare/topolora/1/adapter")
        assert (job.arguments.base, job.arguments.fov) == ("topolora_hf/tiny", "none")
        assert job.arguments.output_dir == str(tmp_path / "stare/topolora/1" / f"on-{job.labels['tested_on']}")
    scored = next(chain for chain in chains if chain[0].name == "stare/unet/1")[1]
    assert scored.command == "score_baseline"
    assert (scored.arguments.adapter, scored.arguments.base) == (str(tmp_path / "stare/unet/1/network"), None)
    only = plan_cross_dataset(CrossDatasetArguments(train_on=["drive"], output_dir=str(tmp_path)))
    assert {chain[0].labels["trained_on"] for chain in only.chains} == {"drive"}
    paper = plan_cross_dataset(CrossDatasetArguments(set=["protocol=paper"], output_dir=str(tmp_path)))
    assert {job.arguments.part for chain in paper.chains for job in chain[1:]} == {"test"}


@pytest.mark.parametrize("dataset", ["/data/vessels", "../vessels"])
def test_runs_on_a_folder_lie_below_the_study(tmp_path, dataset):
    compare = CompareArguments(datasets=[dataset], output_dir=str(tmp_path))
    cross = CrossDatasetArguments(datasets=["synthetic", dataset], output_dir=str(tmp_path))
    for job in (*plan_compare(compare).jobs, *plan_cross_dataset(cross).jobs):
        assert job.directory.resolve().is_relative_to(tmp_path)
        assert job.directory.resolve() == tmp_path / job.name


def test_few_labels_limits_training_images_and_scores_pretrained_bases_as_they_come(tmp_path):
    args = FewLabelsArguments(images=[0, 1, 20], seeds=[0, 1], detail_base="alone/network", output_dir=str(tmp_path))
    jobs = {job.name: job for job in plan_few_labels(args).jobs}
    assert len(jobs) == 2 + 4 * 2 * 2
    assert {name for name, job in jobs.items() if job.command == "score_base"} == {
        "drive/topolora/0",
        "drive/detail_only/0",
    }
    assert jobs["drive/detail_only/0"].arguments.base == "alone/network"
    assert jobs["drive/random_base/1/1"].arguments.base == "topolora_hf/tiny-random"
    assert jobs["drive/topolora/1/1"].arguments.base == "topolora_hf/tiny"
    assert jobs["drive/unet/20/1"].arguments.network == "unet"
    for job in jobs.values():
        assert job.arguments.train_images == (job.labels["images"] or None)
        assert job.arguments.validation_fraction == 0


def test_settings_for_every_run_have_the_types_of_the_training_settings(tmp_path):
    pairs = ["learning_rate=1e-3", "batch_size=2", "augmentation=none", "split=idiap"]
    job = plan_compare(CompareArguments(set=pairs, output_dir=str(tmp_path))).jobs[0]
    one = job.arguments
    assert (one.learning_rate, one.batch_size, one.augmentation, one.split) == (1e-3, 2, "none", "idiap")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("learning_rat=1", "knows no 'learning_rat'; allowed: .*learning_rate"),
        ("batch_size=two", "invalid int value: 'two'"),
        ("seed=3", "may not give seed"),
        ("preset=paper", "may not give preset"),
        ("batch_size", "takes NAME=VALUE, got 'batch_size'"),
    ],
)
def test_settings_that_no_run_has_are_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        CompareArguments(set=[pair])


def test_settings_of_our_network_are_not_for_baselines(tmp_path):
    jobs = plan_compare(
        CompareArguments(seeds=[0], datasets=["drive"], set=["image_size=512"], output_dir=str(tmp_path))
    )
    sizes = {job.labels["method"]: job.arguments.image_size for job in jobs.jobs}
    assert (sizes["topolora"], sizes["detail_only"], sizes["unet"]) == (512, 512, None)


def test_a_setting_that_the_study_varies_cannot_be_given(tmp_path):
    with pytest.raises(ValueError, match="set may not give rank: run rank-drive/rank_4/0 has its own"):
        plan_ablate(AblateArguments(study="rank", set=["rank=2"], output_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (AblateArguments, {"study": "depth"}, "study must be rank or cldice_weight or components or all, got 'depth'"),
        (FewLabelsArguments, {"methods": ["segformer"]}, "methods must be of topolora, .*; got segformer"),
        (FewLabelsArguments, {"images": [-1]}, "images must be at least 0, got -1"),
        (CrossDatasetArguments, {"train_on": ["kvasir"]}, "train_on must be among .*; got kvasir"),
        (CompareArguments, {"jobs": 0}, "jobs must be at least 1, got 0"),
        (CompareArguments, {"only": "("}, "only must be a regular expression"),
        (CompareArguments, {"data_dirs": ["drive"]}, "data_dirs takes NAME=VALUE"),
    ],
)
def test_settings_that_no_study_has_are_refused(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(**settings)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'vnet'; allowed: topolora"):
        plan_compare(CompareArguments(methods=["vnet"]))


def test_data_come_from_the_root_from_a_place_of_their_own_or_from_the_hub(tmp_path):
    (tmp_path / "DRIVE").mkdir()
    places = [f"kvasir={tmp_path}/small", f"cracks={tmp_path}/CrackForest"]
    args = CompareArguments(data_root=str(tmp_path), data_dirs=places, methods=["topolora"], seeds=[0])

    def place(dataset):
        args.datasets = [dataset]
        one = plan_compare(args).jobs[0].arguments
        return one.dataset, one.data_dir

    assert place("drive") == ("drive", f"{tmp_path}/DRIVE")
    assert place("kvasir") == ("kvasir", f"{tmp_path}/small")
    assert place("cracks") == (f"{tmp_path}/CrackForest", None)
    assert place("synthetic") == ("synthetic", None)
    with pytest.raises(ValueError, match="stare should be in .*STARE, which does not exist"):
        place("stare")
    args.data_root = None
    assert place("stare") == ("stare", None)


def test_threads_are_shared_out_over_jobs():
    assert CompareArguments(num_threads=7, jobs=2).threads == 3
    assert CompareArguments(num_threads=1, jobs=4).threads == 1
