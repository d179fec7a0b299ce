"""No line of the package loads what could run code."""

import ast
from pathlib import Path

import yaml

import topolora_hf
from topolora_hf.data.mapping_file import NamesOnceLoader

FILES = [*Path(topolora_hf.__file__).parent.rglob("*.py"), *Path("recipes").resolve().rglob("*.py")]
# Of these modules nothing may be called that reads or runs what a file says.
UNSAFE = {"pickle": {"load", "loads", "Unpickler"}, "joblib": {"load"}, "dill": {"load", "loads"}, "marshal": {"loads"}}
UNSAFE |= {"yaml": {"full_load", "unsafe_load", "load_all"}, "os": {"system", "popen"}, "shelve": {"open"}}


def calls():
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
                yield f"{file.name}:{node.lineno}", ast.unparse(node.func), keywords


def test_every_load_is_a_safe_one():
    assert issubclass(NamesOnceLoader, yaml.SafeLoader)
    found = list(calls())
    assert {name for _, name, _ in found} >= {"torch.load", "yaml.load", "np.load"}  # the search sees them
    for place, name, keywords in found:
        module, _, function = name.rpartition(".")
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", place
        elif name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False", place
        elif name == "yaml.load":
            assert keywords.get("Loader") in ("yaml.BaseLoader", "yaml.SafeLoader", "NamesOnceLoader"), place
        assert function not in UNSAFE.get(module, ()), place
        assert name not in ("eval", "exec"), place
        assert keywords.get("shell", "False") == "False", place
        assert "trust_remote_code" not in keywords, place
