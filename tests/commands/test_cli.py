"""Words of a command line: what is taken, what is suggested, and how errors end."""

import json
from dataclasses import asdict, fields, replace

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from topolora_hf import cli
from topolora_hf.commands.parser import SettingsParser
from topolora_hf.commands.predict import PredictArguments
from topolora_hf.training.arguments import TrainArguments
from topolora_hf.training.interruption import RunStopped

PREDICT = ("predict", "--adapter", "a", "--images", "i")


def test_help_lists_the_commands(topolora):
    done = topolora("--help")
    assert done.status == 0 and all(name in done.out for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no command given (commands: train, predict,"),
        (("trian",), "unknown command 'trian', did you mean train?"),
        (("segment",), "unknown command 'segment' (commands:"),
        (("predict",), "the following arguments are required: --adapter, --images"),
        (("train", "--dataset", "x", "--max_step", "3"), "unknown flag --max_step, did you mean --max_steps?"),
        (("train", "--dataset", "x", "--bottles", "3"), "unknown flag --bottles (see topolora train --help)"),
        (("train", "--dataset", "x", "--max_steps", "many"), "invalid int value: 'many'"),
        (("train", "--dataset", "x", "--batch_size", "0"), "batch_size must be at least 1, got 0"),
        (("train", "drive"), "unexpected 'drive': every value follows its flag"),
        (("train", "--dataset", "a", "b"), "unexpected 'b': it is one value too many"),
        ((*PREDICT, "--dtype", "int8"), "invalid choice: 'int8'"),
        ((*PREDICT, "--threshold", "1.5"), "threshold must be at least 0 and at most 1, got 1.5"),
        ((*PREDICT, "--scale", "inf"), "scale must be above 0 and finite, got inf"),
    ],
)
def test_wrong_words_end_in_one_line_with_status_2(topolora, words, message):
    done = topolora(*words)
    assert done.status == 2 and done.err.startswith("error: ") and message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("settings", "more"), [(TrainArguments, ["--seed", "3"]), (PredictArguments, [])])
def test_the_settings_that_a_run_stored_are_a_settings_file(settings, more, tmp_path):
    before = settings(dataset="drive") if settings is TrainArguments else settings(adapter="tiny", images=["photos"])
    file = tmp_path / "args.json"
    file.write_text(json.dumps(asdict(before) | {"made_from": {"a_mask.png": {"file": "a.png", "content": "0"}}}))
    (again,) = SettingsParser(settings).parse_args_into_dataclasses([str(file), *more])
    assert again == (replace(before, seed=3) if more else before)
    file.write_text(json.dumps({"layout": {"image_dir": "photos"}}))
    with pytest.raises(ValueError, match=r"args.json must hold one setting a line \(name: value\), not layout"):
        SettingsParser(settings).parse_args_into_dataclasses([str(file)])


def test_help_of_train_has_groups_and_every_setting_with_its_text(topolora):
    done = topolora("train", "--help")
    assert done.status == 0
    groups = [line.rstrip(":") for line in done.out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["options", "data", "network", "training", "objective", "run"]
    assert done.out.split("data:\n")[1].split()[0] == "--dataset"
    shown = "".join(done.out.split())
    for field in fields(TrainArguments):
        assert field.name in shown and "".join(field.metadata["help"].split()) in shown, field.name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (True, False, None)),
        (["--no_overlay", "--probability", "--within_fov"], (False, True, True)),
        (["--overlay", "false", "--probability", "True", "--no_within_fov"], (False, True, False)),
        (["--overlay", "--no_probability", "--within_fov", "False"], (True, False, False)),
    ],
)
def test_booleans_are_bare_negated_or_have_a_value(words, expected):
    (args,) = SettingsParser(PredictArguments).parse_args_into_dataclasses(
        ["--adapter", "a", "--images", "i", "j", *words]
    )
    assert (args.overlay, args.probability, args.within_fov) == expected and args.images == ["i", "j"]


def parse(*words):
    return SettingsParser(PredictArguments).parse_args_into_dataclasses(list(words))[0]


def test_a_settings_file_is_read_and_flags_win_over_it(tmp_path):
    lines = ["adapter: a", "images: [i, j]", "threshold: 1e-1", "overlay: false", "base: null", "dtype: bfloat16"]
    (tmp_path / "settings.yaml").write_text("\n".join(lines))
    args = parse(str(tmp_path / "settings.yaml"), "--dtype", "float16")
    assert (args.images, args.threshold, args.overlay, args.base) == (["i", "j"], [0.1], False, None)
    assert args.dtype == "float16"
    (tmp_path / "settings.json").write_text(json.dumps({"adapter": "no", "images": ["i"], "tile_batch": "2"}))
    args = parse(str(tmp_path / "settings.json"))
    assert (args.adapter, args.tile_batch) == ("no", 2)  # `no` is text, as on a command line


@pytest.mark.parametrize(
    "text",
    ["- drive", "a: {b: c}", "a: [b", "a: [[b]]", "drive", "&a [*a]", "[" * 100_000,
     "a: !!python/object/apply:os.system [touch gone]"],
)  # fmt: skip
def test_a_file_that_is_no_list_of_settings_is_named(topolora, tmp_path, text):
    (tmp_path / "settings.yaml").write_text(text)
    done = topolora("predict", "settings.yaml")
    assert done.status == 2 and ("settings.yaml" in done.err or "unknown flag --a" in done.err)
    assert not (tmp_path / "gone").exists()


def end(monkeypatch, error):
    """The exit status of a job that ends with this error."""

    def job(_):
        raise error

    monkeypatch.setattr("sys.argv", ["predict"])
    with pytest.raises(SystemExit) as exit:
        cli.run_command(PredictArguments, job, PREDICT[1:])
    return exit.value.code


def test_errors_become_exit_statuses_and_mistakes_of_ours_keep_their_traceback(monkeypatch, capsys):
    assert end(monkeypatch, OSError("no such file")) == 1
    assert end(monkeypatch, ImportError("pip install it")) == 1
    assert end(monkeypatch, RunStopped("stopped after step 3", 15)) == 143
    assert end(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "error: no such file\nerror: pip install it\nstopped after step 3\ninterrupted\n"
    for mistake in (KeyError("x"), ModuleNotFoundError("No module named 'x'", name="x")):
        with pytest.raises(type(mistake)):
            end(monkeypatch, mistake)


def test_a_process_that_another_left_says_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert end(monkeypatch, RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:643")) == 1
    assert not capsys.readouterr().err and not (tmp_path / "error.json").exists()


def test_a_launcher_of_several_processes_quotes_our_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert end(monkeypatch, ValueError("tile_size 7 is odd")) == 1
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(tmp_path / "error.json"))
    last_words = str(ChildFailedError("train.py", {0: failure}))
    assert last_words.rstrip("\n= ").endswith("error: tile_size 7 is odd")
