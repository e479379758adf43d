"""Throw-away pixel embeddings: a logit is high where features are like those under the click."""

import pytest
import torch

from hvtrain.heads.pixel_embedding import AllLevels, LastLevel, embedding_logits

G = torch.Generator().manual_seed(0)


def test_embedding_logits_are_highest_at_the_asked_place_and_have_the_right_gradient():
    embedding = torch.randn(2, 6, 4, 4, generator=G).double()
    points = torch.tensor([[[0.125, 0.125], [0.875, 0.625]]] * 2).double()  # centres of cells (0, 0) and (2, 3)
    gain = torch.tensor([8.0, -4.0]).double()
    logits = embedding_logits(embedding, points, gain, 4)
    assert logits.shape == (4, 1, 4, 4)
    for n, cell in enumerate([0, 11, 0, 11]):
        assert int(logits[n].flatten().argmax()) == cell
        assert float(logits[n].max()) == pytest.approx(4.0)  # cosine 1
    assert torch.autograd.gradcheck(
        lambda e, g: embedding_logits(e, points, g, 8), (embedding.requires_grad_(), gain.requires_grad_())
    )


def test_the_levels_give_embeddings_of_the_last_map_or_of_all():
    maps = [torch.randn(2, 4, 16, 16, generator=G), torch.randn(2, 8, 4, 4, generator=G)]
    assert LastLevel(8, 5)(maps, 32).shape == (2, 5, 4, 4)
    head = AllLevels((4, 8), 5)
    whole = head(maps, 32)
    assert whole.shape == (2, 5, 32, 32)
    alone = [head([level if k == n else torch.zeros_like(level) for k, level in enumerate(maps)], 32) for n in (0, 1)]
    nothing = head([torch.zeros_like(level) for level in maps], 32)  # the biases
    torch.testing.assert_close(whole, alone[0] + alone[1] - nothing)
