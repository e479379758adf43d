"""Configuration: defaults, refusals, the exported schema, the pinned environments."""

import json
import re

import pytest
import yaml

from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import CubeSettings, parse_stage
from hvlabel.config.tree import Config, config_schema, load_config, parse_config
from hvlabel.descriptors import Descriptor, load_descriptor
from hvlabel.errors import ConfigError, WeightsError

DATA = {"datasets": {"a": {"demo": "vis31"}}}


@pytest.mark.parametrize(
    "name", ["config.yaml", "embedded.yaml", "random.yaml", "own_data.yaml", "pretrain_scenes.yaml"]
)
def test_shipped_configurations_are_valid(repository, name):
    assert load_config(repository / "config" / name).datasets


def test_the_committed_schema_is_the_models(repository):
    assert (repository / "workflow/schemas/config.schema.json").read_text() == config_schema(), (
        "run: hvlabel schema > workflow/schemas/config.schema.json"
    )


def test_every_setting_has_a_description():
    def missing(node, path):
        if isinstance(node, dict):
            for name, field in node.get("properties", {}).items():
                if "description" not in field and "$ref" not in field and "allOf" not in field:
                    yield f"{path}.{name}"
        for definition in node.get("$defs", {}).values():
            yield from missing(definition, definition["title"])

    assert list(missing(Config.model_json_schema(), "Config")) == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {**DATA, "fusion": {"iou_treshold": 0.5}},
            r"unknown key 'fusion.iou_treshold'; did you mean 'iou_threshold'\? \(known here: branch_weights|unknown key 'fusion.iou_treshold'; did you mean 'iou_threshold'",
        ),
        ({**DATA, "fusion": {"iou_threshold": 2}}, r"fusion.iou_threshold: .*less than or equal to 1 \(got '2'\)"),
        ({**DATA, "rgb": {"regions": {"scale": [1]}}}, r"unknown key 'rgb.regions.scale'; did you mean 'scales'"),
        (
            {"datasets": {"a": {"root": "x", "glob": "*", "descriptor": {"container": "envi", "axis": "yxc"}}}},
            r"^c: unknown key 'datasets.a.descriptor.axis'; did you mean 'axes'",
        ),
        (
            {"datasets": {"a": {"root": "x", "glob": "*", "descriptor": {"container": "npy", "axes": "xyz"}}}},
            "axes must be a permutation of 'yxc'",
        ),
        (
            {"datasets": {"a": {"root": "x", "glob": "*", "descriptor": {"container": "mosaic_png"}}}},
            "mosaic_px belongs to container mosaic_png",
        ),
        ({"datasets": {"a": {"root": "x"}}}, r"a data set needs root and descriptor \(or demo"),
        ({"datasets": {"a": {"demo": "vis31", "root": "x", "descriptor": "y"}}}, "demo scenes bring their own root"),
        ({"datasets": {"a/b": {"demo": "vis31"}}}, "data set name 'a/b'"),
        ({"datasets": {}}, "datasets is empty"),
        ({**DATA, "rgb": {"backend": "sam2"}}, "rgb: backend sam2 needs the group sam2"),
        ({**DATA, "material": {"backend": "hyperfree"}}, "backend hyperfree needs the group hyperfree"),
        (
            {**DATA, "rgb": {"backend": "sam2", "sam2": {"config": "x", "checkpoint": "random:one"}}},
            "expected random:SEED",
        ),
        ({**DATA, "material": {"generator": {"use_m2m": True}}}, "leave it false for material"),
        ({**DATA, "fusion": {"weights": {"rbg": 1}}}, "unknown key 'fusion.weights.rbg'; did you mean 'rgb'"),
        ({**DATA, "fusion": {"weights": {"rgb": 2}}}, "fusion.weights.rgb: .*less than or equal to 1"),
        ({**DATA, "cube": {"stretch_percentiles": [99, 1]}}, "two rising numbers in 0..100, not 99, 1"),
        (
            {
                "datasets": {
                    "a": {"root": "x", "glob": "*", "descriptor": {"container": "envi", "rgb_companion": "{name}.png"}}
                }
            },
            "may use {stem} only",
        ),
        ([], "expected a mapping of settings, found list"),
    ],
)
def test_refusals(tree, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        parse_config(tree, "c")
    assert "\n" not in str(refusal.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"gone.yaml: cannot read the file"):
        load_config(tmp_path / "gone.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(ConfigError, match=r"bad.yaml: not valid YAML"):
        load_config(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match=r"no descriptor 'nothing'; known: .*path of a YAML file"):
        load_descriptor("a", "nothing")
    with pytest.raises(ConfigError, match="settings are not JSON"):
        parse_stage(CubeSettings, "{")
    with pytest.raises(ConfigError, match="expected a mapping"):
        parse_stage(CubeSettings, "[]")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(200, 256)))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "binary.yaml")


def test_a_stage_round_trips_through_the_workflow():
    settings = CubeSettings(rgb="triplet", memory_mib=800)
    assert parse_stage(CubeSettings, settings.to_json()) == settings
    learned = RgbSettings(
        backend="sam2", sam2={"config": "c", "checkpoint": "random:1"}, generator={"points_per_batch": 3}
    )
    assert parse_stage(RgbSettings, learned.to_json()) == learned


def test_settings_of_the_unused_backend_are_not_in_the_key():
    plain = RgbSettings()
    assert plain.canonical() == RgbSettings(generator={"points_per_side": 4}).canonical()
    assert plain.canonical() != RgbSettings(regions={"sigma_px": 3}).canonical()
    assert json.loads(plain.canonical())["version"] == RgbSettings.version
    one, other = (
        RgbSettings(
            backend="sam2", sam2={"config": "c", "checkpoint": f"{folder}/x.pt"}, generator={"points_per_batch": n}
        )
        for folder, n in (("a", 8), ("b", 64))
    )
    assert one.canonical() == other.canonical()  # where weights lie and batch sizes change no result


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_what_tracks_remember_counts_in_fast_mode_alone(mode):
    one, other = (
        SequenceSettings(
            backend="sam2", sam2={"checkpoint": "embedded"}, generator={"mode": mode}, memory_frames=n
        ).canonical()
        for n in (0, 3)
    )
    assert (one == other) == (mode == "exact")


def test_masks_of_networks_are_made_anew_when_their_version_changes_and_regions_are_not(monkeypatch):
    learned = [
        RgbSettings(backend="sam2", sam2={"checkpoint": "embedded"}),
        MaterialSettings(backend="hyperfree", hyperfree={"checkpoint": "embedded"}),
    ]
    plain = [RgbSettings(), MaterialSettings()]
    before = [s.canonical() for s in learned + plain]
    monkeypatch.setattr("hvlabel.config.branch.NETWORK_MASKS_VERSION", 99)
    after = [s.canonical() for s in learned + plain]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, True]


def test_all_networks_of_the_embedded_configuration_come_with_the_repository(repository):
    config = load_config(repository / "config/embedded.yaml")
    networks = [branch.network() for branch in (config.rgb, config.sequence, config.material)]
    assert all(network is not None and network.files() for network in networks)


def test_the_embedded_network_needs_no_config_and_others_do():
    settings = RgbSettings(backend="sam2", sam2={"checkpoint": "embedded"})
    assert [p.name for p in settings.network().files()] == ["sam2_embedded.safetensors", "sam2_embedded.yaml"]
    assert all(p.is_file() for p in settings.network().files())
    with pytest.raises(ConfigError, match=r"checkpoint 'a.pt' needs a config, e.g. configs/sam2.1"):
        parse_config({**DATA, "rgb": {"backend": "sam2", "sam2": {"checkpoint": "a.pt"}}}, "c.yaml")


def test_a_missing_checkpoint_says_where_to_get_it(tmp_path):
    settings = RgbSettings(backend="sam2", sam2={"config": "c", "checkpoint": str(tmp_path / "sam2.pt")})
    with pytest.raises(WeightsError, match=r"sam2.pt: no such checkpoint; .*sam2.1_hiera_tiny.*set `checkpoint`"):
        settings.network().path()
    assert RgbSettings().network() is None


def test_descriptor_by_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("container: envi\n")
    assert load_descriptor("a", str(tmp_path / "mine.yaml")) == Descriptor(container="envi")


@pytest.mark.parametrize("path", ["environment.yml", "workflow/envs/hvlabel.yaml"])
def test_conda_environments_pin_the_locked_versions(repository, path):
    locked = dict(
        re.findall(r"^([\w.-]+)==([\w.+-]+)", (repository / "requirements/lock.txt").read_text(), re.MULTILINE)
    )
    pins = dict(p.split("==") for p in yaml.safe_load((repository / path).read_text())["dependencies"][-1]["pip"])
    assert {"torch", "torchvision", "snakemake", "zarr", "dask", "pycocotools"} <= pins.keys()
    assert {name: locked[name] for name in pins} == pins, "run: make lock"


def test_no_index_host_in_requirements(repository):
    for path in [*(repository / "requirements").glob("*.txt"), repository / "environment.yml"]:
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text()), path
