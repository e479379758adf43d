"""Configs and checkpoints of SAM2, and what is refused."""

import pytest
import torch

from hvlabel.config import Sam2Model
from hvlabel.errors import WeightsError
from hvlabel.models.sam2 import load_sam2

CPU = torch.device("cpu")


def test_a_checkpoint_of_another_config_is_refused_in_one_sentence(tmp_path, repository):
    path = tmp_path / "other.pt"
    torch.save({"model": {"weight": torch.zeros(2)}}, path)
    with pytest.raises(WeightsError, match=r"does not fit .*choose the config of this checkpoint"):
        load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint=str(path)), CPU)
    with pytest.raises(WeightsError, match=r"no SAM2 config 'nonsense'.*sam2.1_hiera_t.yaml"):
        load_sam2(Sam2Model(config="nonsense", checkpoint="random:1"), CPU)
    with pytest.raises(WeightsError, match="no such checkpoint; the SAM 2 repository lists"):
        load_sam2(Sam2Model(config="configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint=str(tmp_path / "absent.pt")), CPU)


def test_weights_are_found_by_checkpoint_and_survive_a_round_trip(tmp_path, network, repository):
    path = tmp_path / "nano.pt"
    torch.save({"model": network.state_dict()}, path)
    again = load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint=str(path)), CPU)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value)
