"""Material groups: clusters by hand, groups of the demo's masks, the file, and agreement with the true classes."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verbs import hvlabel

from hvlabel.errors import ResultsError
from hvlabel.inspect.clusters import adjusted_rand, best_clusters, clusters, purity, silhouette
from hvlabel.inspect.info import info_of
from hvlabel.inspect.materials import UNKNOWN, group_materials, materials_of, write_materials
from hvlabel.inspect.materials_score import class_of, material_score
from hvlabel.layout import Layout
from hvlabel.masks import areas, read_document, read_masks

GROUPINGS = st.lists(st.integers(0, 4), min_size=2, max_size=40).map(np.array)


@pytest.fixture
def own(demo_run, tmp_path):
    shutil.copytree(demo_run / "results", tmp_path / "results")
    return Layout(tmp_path / "results")


def three_heaps(n=30, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], n)
    return np.array([[0, 0], [10, 0], [0, 10]])[truth] + rng.normal(0, 0.5, (3 * n, 2)), truth


def test_heaps_are_found_and_counted():
    points, truth = three_heaps()
    found = best_clusters(points)
    assert len(np.unique(found.members)) == 3
    assert adjusted_rand(found.members, truth) == 1
    assert found.silhouette > 0.8


@given(st.integers(1, 30), st.integers(0, 3))
def test_clusters_are_at_most_k_and_the_same_each_time(k, seed):
    points, _ = three_heaps(4)
    first, second = clusters(points, k, seed), clusters(points, k, seed)
    assert np.array_equal(first.members, second.members)
    assert 1 <= len(np.unique(first.members)) <= min(k, len(points))


def test_equal_points_are_one_cluster():
    found = best_clusters(np.ones((7, 3)))
    assert found.members.tolist() == [0] * 7
    assert np.isnan(found.silhouette)


def test_a_silhouette_by_hand():
    points = np.array([[0.0], [1.0], [10.0]])
    # 0: inner 1, outer 10; 1: inner 1, outer 9; the last is alone and counts 0
    value = silhouette(points, np.array([0, 0, 1]), np.random.default_rng(0))
    assert value == pytest.approx((0.9 + 8 / 9 + 0) / 3)


@given(GROUPINGS)
def test_a_grouping_agrees_with_itself_under_any_names(groups):
    assert adjusted_rand(groups, 7 - groups) == pytest.approx(1)
    assert purity(groups, groups * 3) == 1


def test_agreement_by_hand():
    assert purity(np.array([0, 0, 0, 1]), np.array([5, 5, 6, 6])) == 0.75
    assert adjusted_rand(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(-0.5)


def test_every_mask_has_a_group(own):
    materials, left_out = group_materials(own, "d", 4)
    assert left_out == []
    for image, groups in materials.groups.items():
        assert len(groups) == len(read_masks(own.label("d", image)))
        assert set(groups) <= {0, 1, 2, 3}
    sizes = [sum(list(g).count(k) for g in materials.groups.values()) for k in range(4)]
    assert sizes == sorted(sizes, reverse=True)
    assert materials.spectra.shape == (4, len(materials.wavelengths_nm))


def test_the_file_holds_what_was_grouped(own):
    materials, _ = group_materials(own, "d")
    path = write_materials(own, materials)
    again = materials_of(own, "d")
    assert again.groups == materials.groups
    assert again.names() == materials.names()
    assert np.allclose(again.spectra, materials.spectra, rtol=1e-4)
    assert again.facts["chosen_by"].startswith("the number from 2 to 12")
    assert info_of(path).health == "whole"
    document = read_document(own.label("d", "vis31_00"))
    assert again.groups_of("vis31_00", document) == list(materials.groups["vis31_00"])


def test_groups_of_another_label_are_refused(own):
    write_materials(own, group_materials(own, "d", 2)[0])
    document = read_document(own.label("d", "vis31_00"))
    document["provenance"]["content_sha256"] = "0"
    with pytest.raises(ResultsError, match="of another label; run `hvlabel materials` again"):
        materials_of(own, "d").groups_of("vis31_00", document)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-30], lambda t: t.replace(b'"groups": [', b'"groups": [1, '), lambda t: b"{}"]
)
def test_a_damaged_file_is_refused(own, change):
    path = write_materials(own, group_materials(own, "d", 2)[0])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ResultsError, match="damaged material groups"):
        materials_of(own, "d")


def test_groups_tell_true_materials_better_than_chance(own):
    materials, _ = group_materials(own, "d")
    score = material_score(own, materials)
    assert score.n_masks > 10
    assert score.adjusted_rand > 0.3
    shutil.rmtree(own.root / "demo")
    assert material_score(own, materials) is None


def test_the_class_of_a_mask_is_what_most_of_it_is():
    assert class_of(np.array([3] * 8 + [4] * 2, np.uint8)) == 3
    assert class_of(np.array([3] * 7 + [4] * 3, np.uint8)) is None
    assert class_of(np.array([255] * 9, np.uint8)) is None
    assert class_of(np.zeros(0, np.uint8)) is None


def test_the_verb_writes_and_says(own):
    said = hvlabel("materials", "-k", 3, "--results", own.root)
    assert said.status == 0, said.err
    n_masks = sum(len(read_masks(path)) for path in own.labels.glob("*/*.json"))
    assert f"{own.material_groups('d')}: {n_masks} masks in 3 groups" in said.out
    assert "purity" in said.out
    assert own.material_groups("d").with_suffix(".png").stat().st_size > 10_000
    table = own.material_groups("d").with_suffix(".tsv").read_text().splitlines()
    assert table[0].split("\t") == ["wavelength_nm", "material 0", "material 1", "material 2"]


def test_a_damaged_image_is_left_out_and_named(own):
    (own.cube("d", "vis31_00") / "zarr.json").write_text("{}")
    said = hvlabel("materials", "--results", own.root)
    assert said.status == 0
    assert "vis31_00" in said.err
    assert list(json.loads(own.material_groups("d").read_bytes())["images"]) == ["vis31_01"]


def test_without_labels_there_is_nothing_to_group(own, tmp_path):
    with pytest.raises(ResultsError, match="no labels to group"):
        group_materials(own, "x")
    assert "no labels to group" in hvlabel("materials", "--results", tmp_path).err


def test_a_mask_without_a_value_has_no_group(own, monkeypatch):
    def means(values, rles, valid=None):
        spectra = np.random.default_rng(0).uniform(1, 2, (len(rles), len(values)))
        spectra[areas(rles) == areas(rles).max()] = np.nan
        return spectra

    monkeypatch.setattr("hvlabel.inspect.materials.mean_spectra", means)
    materials, _ = group_materials(own, "d", 2)
    assert any(UNKNOWN in groups for groups in materials.groups.values())
    assert materials.names()[-1] == "d unknown"
