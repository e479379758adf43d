"""SAM2 config files name modules and nothing else: whatever they ask for besides is refused, and nothing has run."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from verbs import hvlabel

from hvlabel.config import Sam2Model
from hvlabel.errors import WeightsError
from hvlabel.models.sam2.network import CLASSES, INFERENCE_SETTINGS, PACKAGE, load_sam2

CPU = torch.device("cpu")
PUBLISHED = ["configs/sam2.1/sam2.1_hiera_t.yaml", "configs/sam2/sam2_hiera_s.yaml"]
EMBEDDED = Path(__file__).resolve().parents[3] / "resources/models/sam2_embedded.yaml"


def built(config):
    return load_sam2(Sam2Model(config=str(config), checkpoint="random:3"), CPU)


@pytest.fixture
def tree():
    return yaml.safe_load(EMBEDDED.read_text())


@pytest.fixture
def changed(tree, tmp_path):
    """Writes the small network's config with another value at a dotted key."""

    def write(key, value):
        *groups, last = key.split(".")
        place = tree
        for name in groups:
            place = place[name]
        place[last] = value
        path = tmp_path / "evil.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.mark.parametrize("name", [*PUBLISHED, str(EMBEDDED)])
def test_a_network_is_what_the_package_s_own_way_makes_of_its_config(name):
    config = OmegaConf.load(PACKAGE / name)
    for key, value in INFERENCE_SETTINGS.items():
        OmegaConf.update(config.model, key, value, force_add=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = instantiate(config.model, _recursive_=True).state_dict()
    ours = built(name).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("model._target_", "numpy.load", "model._target_"),
        ("model._target_", "os.system", "model._target_"),
        ("model._target_", ["os", "system"], "model._target_"),
        ("model._target_", "sam2.modeling.sam2_base.SAM2Base.__init__", "model._target_"),
        ("model._target_", "sam2.build_sam.build_sam2_hf", "model._target_"),
        ("model.image_encoder.trunk._target_", "subprocess.call", "model.image_encoder.trunk._target_"),
        ("model.image_encoder.trunk.stages", [{"_target_": "os.system"}], "model.image_encoder.trunk.stages[0]._target_"),
        ("model.image_encoder.extra", {"a": [[{"_target_": "builtins.eval"}]]}, "model.image_encoder.extra.a[0][0]._target_"),
        ("model.image_encoder._partial_", True, "model.image_encoder._partial_"),
        ("model.image_encoder._args_", ["touch pwned"], "model.image_encoder._args_"),
        ("model.image_encoder._recursive_", False, "model.image_encoder._recursive_"),
        ("model.image_encoder.trunk.weights_path", "weights.pkl", "model.image_encoder.trunk.weights_path"),
        ("model.num_maskmem", "${oc.env:HOME}", "model.num_maskmem"),
        ("model.num_maskmem", "${oc.decode:${oc.env:HOME}}", "model.num_maskmem"),
        ("model.num_maskmem", "a ${model.image_size}", "model.num_maskmem"),
        ("model.num_maskmem", "${nothing.here}", "model.num_maskmem"),
        ("model.num_maskmem", "${model.num_maskmem}", "model.num_maskmem"),
        ("model.image_encoder.trunk", "${evil}", "model.image_encoder.trunk._target_"),
    ],
)  # fmt: skip
def test_whatever_else_a_config_asks_for_is_refused_with_its_key(tree, changed, key, value, where):
    tree["evil"] = {"_target_": "os.system", "command": "touch pwned"}
    with pytest.raises(WeightsError) as error:
        built(changed(key, value))
    sentence = str(error.value)
    assert "evil.yaml: " + where in sentence
    assert "\n" not in sentence


def test_nothing_has_run_when_a_config_is_refused(changed, tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(WeightsError):
        built(
            changed(
                "model.a",
                {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(trace)]}},
            )
        )
    assert not trace.exists()


def test_a_key_of_the_same_file_may_be_referred_to(tree, changed):
    tree["scratch"] = {"sizes": {"image": 512}, "again": "${scratch.sizes.image}"}
    assert built(changed("model.image_size", "${scratch.again}")).image_size == 512


def test_numbers_with_an_exponent_only_are_numbers(changed):
    path = changed("model.memory_encoder.fuser.layer.layer_scale_init_value", 0.5)
    path.write_text(path.read_text().replace("layer_scale_init_value: 0.5", "layer_scale_init_value: 5e-1"))
    assert built(path).memory_encoder.fuser.layers[0].gamma.unique().item() == 0.5


def test_references_that_multiply_are_refused(tree, changed):
    tree.update({f"a{k}": [f"${{a{k + 1}}}"] * 10 for k in range(12)}, a12=1)
    with pytest.raises(WeightsError, match=r"evil.yaml: model.image_size.* more than 50000 values"):
        built(changed("model.image_size", "${a0}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: 1", "no top-level key `model`"),
        ("[]", "no top-level key `model`"),
        ("model: {a: 1}", "model is a dict, expected a SAM2Base"),
        ("model: {_target_: sam2.modeling.memory_encoder.Fuser, layer: 1, num_layers: 1}", "no SAM2 can be built"),
        ("model: {image_size: 1, image_size: 2}", "the key 'image_size' stands twice"),
        ("model: {sam_mask_decoder_extra_args: 1}", "model.sam_mask_decoder_extra_args: expected a group"),
        ("model: &a [*a]", "an alias that stands for itself"),
        ("model: " + "[" * 2000, "nested more than 40 levels"),
        ("model: !!python/object/apply:os.system [touch pwned]", "not valid YAML"),
    ],
)
def test_a_config_that_is_none_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(WeightsError) as error:
        built(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


def test_only_modules_of_the_package_are_ever_built():
    assert all(issubclass(module, torch.nn.Module) for module in CLASSES.values())
    assert all(name.startswith("sam2.modeling.") for name in CLASSES)


def test_a_verb_says_it_in_one_line(changed, demo_run, tmp_path):
    path = changed("model._target_", "numpy.load")
    settings = {"backend": "sam2", "sam2": {"config": str(path), "checkpoint": "random:1"}}
    cube = next((demo_run / "results/cubes/d").glob("*.zarr"))
    said = hvlabel("segment", "rgb", cube, tmp_path / "m.json", "--settings", json.dumps(settings))
    assert said.status == 2
    assert said.err.startswith(f"hvlabel: error: {path}: model._target_: 'numpy.load' is never built or called")
    assert said.err.count("\n") == 1
