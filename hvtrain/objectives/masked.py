"""Masked autoencoding: what was removed from the input is to be said from what was left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from hvlabel.config import MaskedSettings
from hvtrain.backbones.parts.autoencoder import Autoencoder, Spectra
from hvtrain.data.batch import Batch
from hvtrain.data.schedule import NETWORK, rng
from hvtrain.objectives.contract import Objective, Terms

# a batch as the student is shown it in training: values (B, C, S, S) and their band centres (C,), nm
Input = Callable[[Batch], tuple[Tensor, Sequence[float]]]
OF_MASKING = 2  # place of its draws beside the network's own (0) and the augmentation's (1)


class MaskedObjective(Objective):
    """A masked autoencoder around the student's backbone, under its name in the settings.

    seed : of the run
    """

    needs = frozenset({"cube", "flips", "gsd_m"})

    def __init__(self, name: str, autoencoder: Autoencoder, input: Input, settings: MaskedSettings, seed: int) -> None:
        self.name, self.seed = name, seed
        self.autoencoder, self.input = autoencoder, input
        self.weights = {name: settings.weight}
        self.heads = {f"{name}_{part}": head for part, head in autoencoder.heads.items()}

    def __call__(self, batch: Batch) -> Terms:
        """Its scalar loss, as published."""
        x, wavelengths_nm = self.input(batch)
        gsd_m = batch.gsd_m.tolist()
        reconstruction = self.autoencoder.reconstruct(x, wavelengths_nm, gsd_m, self.seed_of(batch))
        return {self.name: reconstruction.loss}

    def spectra(self, batch: Batch) -> Spectra:
        """Some spectra of a batch, what was removed of them, and what is said instead."""
        x, wavelengths_nm = self.input(batch)
        gsd_m = batch.gsd_m.tolist()
        return self.autoencoder.spectra(x, wavelengths_nm, gsd_m, self.seed_of(batch))

    def seed_of(self, batch: Batch) -> int:
        """Of what is removed from a batch: equal for equal steps and samples, so a resumed run removes the same."""
        place = int(batch.position[0])  # batches of one step differ, over processes and accumulated parts
        random = rng(self.seed, NETWORK, batch.step, OF_MASKING, place)
        return int(random.integers(2**62))
