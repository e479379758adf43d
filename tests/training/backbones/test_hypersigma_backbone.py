"""HyperSIGMA behind the contract: resampling, gates, attention by a switch, files of both networks."""

import json

import numpy as np
import pytest
import torch

from hvlabel.config import StudentSettings
from hvlabel.errors import BandError, ConfigError, WeightsError
from hvtrain.backbones.hypersigma import DecoderSizes, Sizes, SparseAttention, SpatMae, SpecMae
from hvtrain.backbones.hypersigma.backbone import rebuild
from hvtrain.backbones.hypersigma.resampling import resampling
from hvtrain.backbones.parts.transformer import Attention
from hvtrain.backbones.weights import export
from hvtrain.student import load_exported, make_student
from hvtrain.tasks.exchange import import_published

from .random_networks import cube_of, drawn


def test_bands_are_resampled_by_wavelength_in_any_order():
    fixed_nm = np.linspace(400, 1000, 13)  # steps of 50 nm
    wavelengths_nm = [500.0, 900.0, 610.0, 700.0]
    shares = resampling(wavelengths_nm, fixed_nm)
    assert shares.shape == (13, 4)
    line = shares @ np.array(wavelengths_nm)  # a band's value is its wavelength
    inside = (fixed_nm >= 500) & (fixed_nm <= 900)
    np.testing.assert_allclose(line[inside], fixed_nm[inside], rtol=1e-6)
    assert line[fixed_nm == 450] == 500  # a step beyond the first band: its value
    assert line[fixed_nm == 950] == 900
    assert not shares[(fixed_nm < 450) | (fixed_nm > 950)].any()
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(resampling([wavelengths_nm[k] for k in order], fixed_nm), shares[:, order])
    np.testing.assert_array_equal(resampling(fixed_nm, fixed_nm), np.eye(13, dtype="float32"))
    np.testing.assert_array_equal(resampling([550.0, 550.0], fixed_nm)[3], [0.5, 0.5])
    assert resampling([550.0], fixed_nm)[:, 0].tolist() == [0, 0, 1, 1, 1, *[0] * 8]


def backbone_of(**own):
    settings = StudentSettings(backbone="hypersigma", size="small", crop_px=64, hypersigma=own)
    return make_student(settings, 0).backbone.eval()


NM = np.linspace(430, 2300, 9).tolist()


@torch.no_grad()
def test_the_spectral_network_gates_and_sparse_attention_are_settings():
    x = cube_of(9, 64)
    plain, gates = backbone_of(), backbone_of(spectral=True, attention="ssa")
    assert {type(block.attn) for block in plain.spat_encoder.blocks} == {Attention}
    assert [type(block.attn) is SparseAttention for block in gates.spat_encoder.blocks] == [True, False] * 2
    assert plain.encode(x, NM, [1.0, 1.0])[-1].shape == gates.encode(x, NM, [1.0, 1.0])[-1].shape == (2, 96, 8, 8)
    again = rebuild(json.loads(json.dumps(gates.sizes())))
    again.load_state_dict(gates.state_dict())
    assert torch.equal(again.eval().encode(x, NM, [1.0, 1.0])[-1], gates.encode(x, NM, [1.0, 1.0])[-1])


@torch.no_grad()
def test_the_order_of_the_bands_does_not_matter_and_others_are_left_out():
    x, network = cube_of(9, 64), backbone_of()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    whole = network.encode(x, NM, [1.0, 1.0])[-1]
    shuffled = network.encode(x[:, order], [NM[k] for k in order], [1.0, 1.0])[-1]
    torch.testing.assert_close(whole, shuffled, atol=1e-5, rtol=1e-4)
    more = network.encode(torch.cat([x, x[:, :1]], dim=1), [*NM, 9000.0], [1.0, 1.0])[-1]
    assert torch.equal(more, whole)


def test_pre_trained_files_of_both_networks_become_one_backbone(tmp_path):
    sizes, decoder = Sizes(16, 4, 2, taps=(0, 1, 2, 3)), DecoderSizes(8, 1, 2)
    spatial, spectral = SpatMae(sizes, decoder, 12, 64), SpecMae(sizes, decoder, 36, 16, 36)
    for name, network in (("spat", spatial), ("spec", spectral)):
        torch.save({"model": drawn(network).state_dict()}, tmp_path / f"{name}.pth")
    both = [tmp_path / "spat.pth", tmp_path / "spec.pth"]
    backbone = import_published(both, "hypersigma", tmp_path / "o.safetensors", {"num_heads": 2})
    assert torch.equal(backbone.spec_encoder.blocks[3].mlp.fc1.weight, spectral.blocks[3].mlp.fc1.weight)
    assert torch.equal(backbone.spat_encoder.blocks[3].mlp.fc1.weight, spatial.blocks[3].mlp.fc1.weight)
    with torch.no_grad():
        maps = load_exported(tmp_path / "o.safetensors").encode(cube_of(9, 64), NM, [1.0, 1.0])
    assert maps[-1].shape == (2, 16, 8, 8)
    with pytest.raises(WeightsError, match="a spectral network alone; give the spatial one's file before it"):
        import_published(both[1:], "hypersigma", tmp_path / "o.safetensors", {"num_heads": 2})


def test_sparse_attention_starts_from_a_pre_trained_file_with_offsets_of_its_own(tmp_path):
    pre_trained = backbone_of()
    export(pre_trained.state_dict(), tmp_path / "s.safetensors", pre_trained.sizes(), "hypersigma")
    settings = StudentSettings(
        backbone="hypersigma",
        size="small",
        crop_px=64,
        checkpoint=str(tmp_path / "s.safetensors"),
        hypersigma={"attention": "ssa"},
    )
    student = make_student(settings, 5).backbone
    assert student.spat_encoder.blocks[0].attn.sampling_offsets.weight.any()
    assert torch.equal(
        student.spat_encoder.blocks[0].attn.qkv.weight, pre_trained.spat_encoder.blocks[0].attn.qkv.weight
    )


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="range_nm must be two rising positive numbers"):
        StudentSettings(backbone="hypersigma", hypersigma={"range_nm": (900, 400)})
    with pytest.raises(ConfigError, match="width 90 must be a multiple of its 4 heads"):
        backbone_of(width=90)
    narrow = backbone_of(range_nm=(400, 1000))
    with pytest.raises(BandError, match="no band lies in 400-1000 nm"):
        narrow.require_bands([1200.0])


def test_a_dictionary_reads_any_camera_and_inherits_the_transformer(tmp_path):
    pre_trained = backbone_of()
    export(pre_trained.state_dict(), tmp_path / "s.safetensors", pre_trained.sizes(), "hypersigma")
    own = {"embedding": "dictionary", "attention": "ssa"}
    settings = StudentSettings(
        backbone="hypersigma", size="small", crop_px=64, checkpoint=str(tmp_path / "s.safetensors"), hypersigma=own
    )
    network = make_student(settings, 1).backbone.eval()
    inherited = pre_trained.spat_encoder.blocks[2].mlp.fc1.weight
    assert torch.equal(network.spat_encoder.blocks[2].mlp.fc1.weight, inherited)
    again = rebuild(json.loads(json.dumps(network.sizes())))
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        for n_bands in (3, 40):
            bands = np.linspace(450, 900, n_bands).tolist()
            maps = network.encode(cube_of(n_bands, 64), bands, [1.0, 1.0])
            assert maps[-1].shape == (2, 96, 8, 8)
            assert torch.equal(again.eval().encode(cube_of(n_bands, 64), bands, [1.0, 1.0])[-1], maps[-1])
    with pytest.raises(BandError, match="no band lies in the slots of the dictionary"):
        network.require_bands([1100.0])
