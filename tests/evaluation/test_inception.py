"""Inception's architecture, by its count of parameters and against torch-fidelity."""

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from condgen.contracts import CondgenError
from condgen.evaluation.inception import KNOWN, Inception


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A file of random weights, and the network."""
    torch.manual_seed(0)
    network = Inception().eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(0.1 * torch.randn_like(value))
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), file)
    return file, network


def test_it_has_as_many_weights_as_the_paper_s_network():
    """21,785,568 below the classifier, as Keras and torchvision count them (Keras without the scales of its norms)."""
    network = Inception()
    assert sum(p.numel() for name, p in network.named_parameters() if not name.startswith("fc.")) == 21_785_568


def test_weights_are_read_and_only_the_known_ones_are_called_fid(random_weights):
    file, network = random_weights
    read = Inception.read(file)
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8).numpy()
    assert torch.equal(read.extract(images), network.extract(images))
    assert read.extract(images).shape == (2, 2048)
    assert all("FID" not in name and "KID" not in name and "bilinear" in name for name in read.names)
    read.sha256 = KNOWN + read.sha256
    assert [name[:4] for name in read.names] == ["FID ", "KID "]


def test_files_that_are_something_else(tmp_path, random_weights):
    tensors = torch.load(random_weights[0], weights_only=True)
    del tensors["Mixed_7c.branch1x1.conv.weight"]
    torch.save(tensors, tmp_path / "part.pth")
    torch.save({"code": print}, tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    for name in ("part.pth", "code.pth", "text.pth", "empty.pth", "missing.pth"):
        with pytest.raises(CondgenError, match=name):
            Inception.read(tmp_path / name)


def test_features_are_those_of_torch_fidelity(random_weights):
    file, network = random_weights
    theirs = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    images = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8)  # at this size nobody resizes
    with torch.inference_mode():
        found, wanted = network(images.float() / 128 - 1), theirs(images)[0]
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
