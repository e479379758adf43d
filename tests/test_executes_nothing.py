"""Nothing that is read is ever executed: what could do so is not in the code, or is told not to."""

import ast
import io
import json
import os
import pickle

import numpy as np
import pytest
import torch
from verbs import hvlabel

from hvlabel.errors import WeightsError
from hvlabel.models.weights import read_state_dict

FOLDERS = ("hvlabel", "hvtrain", "examples", "bench", "docs", "requirements")
NEVER_IMPORTED = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "hydra", "omegaconf"}
NEVER_CALLED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load",
    "yaml.load_all", "yaml.unsafe_load_all", "yaml.full_load_all", "pd.read_pickle", "pandas.read_pickle",
    "torch.hub.load", "torch.package.PackageImporter", "torch.jit.load", "numpy.loadtxt", "importlib.util.spec_from_file_location",
}  # fmt: skip
# call -> keywords that it has to be given, or nothing but its default
REQUIRED = {
    "torch.load": {"weights_only": True},
    "AutoModel.from_pretrained": None,  # given as a dictionary, see below
    "zarr.open_array": {"zarr_format": 3},
    "zarr.open_group": {"zarr_format": 3},
}


def sources(repository):
    for folder in FOLDERS:
        yield from sorted((repository / folder).rglob("*.py"))


def calls(path):
    """(dotted name, call) of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def attributes_of(path, module):
    """What a file uses of a module by its dotted name."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == module}


def keywords(call):
    return {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}


def test_what_unpickles_or_builds_by_name_is_not_imported(repository):
    for path in sources(repository):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            unsafe = NEVER_IMPORTED & {name.split(".")[0] for name in names}
            only_named = unsafe == {"pickle"} and attributes_of(path, "pickle") == {"UnpicklingError"}
            assert not unsafe or only_named, path


def test_nothing_evaluates_text(repository):
    for path in sources(repository):
        assert not NEVER_CALLED & {name for name, _ in calls(path)}, path


def test_modules_are_imported_by_names_that_stand_in_the_code(repository):
    importing = {
        path.relative_to(repository).as_posix()
        for path in sources(repository)
        for name, _ in calls(path)
        if name == "import_module"
    }
    assert importing <= {"hvlabel/config/__init__.py", "hvlabel/branches/table.py"}


def test_loaders_are_told_to_unpickle_nothing(repository):
    of_product = [
        path for path in sources(repository) if path.relative_to(repository).parts[0] in ("hvlabel", "hvtrain")
    ]
    for path in of_product:
        for name, call in calls(path):
            required = REQUIRED.get(name)
            if required:
                assert required.items() <= keywords(call).items(), (path, ast.unparse(call))
            if name in ("np.load", "numpy.load"):
                assert not keywords(call).get("allow_pickle"), (path, ast.unparse(call))
            if name == "yaml.load":
                assert path.name == "yaml_file.py"


def test_weights_in_a_folder_bring_no_code(repository):
    text = (repository / "hvlabel/models/teacher.py").read_text()
    assert text.count("from_pretrained(") == 1
    assert '"use_safetensors": True, "trust_remote_code": False' in text


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def evil_pickle(trace):
    return pickle.dumps(Evil(trace))


def evil_zip(trace):
    content = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(1), "b": Evil(trace)}}, content)
    return content.getvalue()


def evil_old_style(trace):
    content = io.BytesIO()
    torch.save({"a": Evil(trace)}, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


@pytest.mark.parametrize("make", [evil_pickle, evil_zip, evil_old_style])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ""])
def test_a_checkpoint_that_runs_something_is_refused(tmp_path, make, suffix):
    trace = tmp_path / "trace"
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(make(trace))
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_state_dict(path)
    assert not trace.exists()


def test_a_layer_of_a_cube_that_unpickles_is_damage(tmp_path, make_cube):
    trace = tmp_path / "trace"
    cube = make_cube(tmp_path / "c.zarr", np.arange(4 * 8 * 8, dtype=np.uint16).reshape(4, 8, 8))
    for file in sorted(cube.path.joinpath("rgb").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    header = {
        "zarr_format": 2,
        "shape": [8, 8, 3],
        "chunks": [8, 8, 3],
        "dtype": "|u1",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": [{"id": "pickle", "protocol": 5}],
    }
    (cube.path / "rgb" / ".zarray").write_text(json.dumps(header))
    (cube.path / "rgb" / "0.0.0").write_bytes(evil_pickle(trace))
    said = hvlabel("segment", "rgb", cube.path, tmp_path / "m.json", "--settings", '{"backend": "regions"}')
    assert said.status == 2
    assert "its array rgb is damaged" in said.err
    assert not trace.exists()
