"""Checks of the training code that need neither data nor a network: `python -m unittest discover models/train`."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import checkpoint
import export
import from_onnx
import metrics
import scoring
import soup
from data import VOID, Batches, Crops, DataError, Frames, augment
from distance import Distance, gaussians, grouped
from network import SegmentationNet
from train import TrainError, backbone_file, rate


def write_pair(folder, label):
    for sub in ("images", "labels"):
        (folder / sub).mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*label.shape, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "images" / "a.png")
    Image.fromarray(label).save(folder / "labels" / "a.png")


class Data(unittest.TestCase):
    def frames(self, label):
        with tempfile.TemporaryDirectory() as name:
            write_pair(Path(name), label)
            return Frames(name)

    def test_a_missing_folder_is_named(self):
        with self.assertRaisesRegex(DataError, "nowhere/images: no such folder"):
            Frames("nowhere")

    def test_a_wrong_label_value_is_named(self):
        with self.assertRaisesRegex(DataError, "a.png: label value 12, want 0..11"):
            self.frames(np.full((36, 48), VOID + 1, np.uint8))

    def test_crops_have_one_size_and_known_labels_whatever_the_zoom(self):
        label = np.random.default_rng(1).integers(0, VOID + 1, (360, 480), dtype=np.uint8)
        image = np.zeros((360, 480, 3), np.uint8)
        for seed in range(40):
            crops = Crops() if seed % 2 else Crops(368, 640, (0.9, 1.2), False, 0.5)
            crop, crop_label = augment(image, label, np.random.default_rng(seed), crops)
            self.assertEqual(crop.shape, (crops.height, crops.width, 3))
            self.assertEqual(crop_label.shape, (crops.height, crops.width))
            self.assertLessEqual(crop_label.max(), VOID)

    def test_an_epoch_is_the_same_again(self):
        frames = self.frames(np.zeros((36, 48), np.uint8))
        first, second = (list(Batches(frames, None, 0, 1, 7).epoch(3)) for _ in range(2))
        np.testing.assert_array_equal(first[0][0], second[0][0])
        other = list(Batches(frames, None, 0, 1, 7).epoch(4))
        self.assertFalse(np.array_equal(first[0][0], other[0][0]))


class Checkpoints(unittest.TestCase):
    def test_whole_or_refused(self):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "x.ckpt"
            checkpoint.save(path, {"epoch": 3, "net": {"w": torch.arange(1000.0)}})
            self.assertEqual(checkpoint.load(path)["epoch"], 3)
            whole = path.read_bytes()
            for bad in (whole[:-1], whole[:50], b"", whole[:100] + b"\x00" + whole[101:]):
                path.write_bytes(bad)
                with self.assertRaises(checkpoint.CheckpointError):
                    checkpoint.load(path)

    def test_a_soup_by_shares_without_loss_weights(self):
        def state(value, weight):
            average = {"classifier.bias": torch.full((2,), value), "count": torch.tensor(7)}
            return {"variant": "lite0", "weights": torch.full((2,), weight), "average": average}
        mixed = soup.average([state(1.0, 1.0), state(5.0, float(np.e))], [3, 1])
        torch.testing.assert_close(mixed["average"]["classifier.bias"], torch.full((2,), 0.75 * 1 + 0.25 * (5 - 1)))
        self.assertEqual(int(mixed["average"]["count"]), 7)
        for shares in ([1.0], [0.0, 0.0], [2.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0]):
            with self.assertRaisesRegex(checkpoint.CheckpointError, "as many shares"):
                soup.average([state(1.0, 1.0), state(5.0, 1.0)], shares)


class Distances(unittest.TestCase):
    def test_a_class_of_two_kinds_has_a_mean_for_each(self):
        rng = np.random.default_rng(4)
        kinds = [rng.normal(c, 1, (200, 3)) for c in (-9, 9)]
        source = (np.concatenate(kinds), np.zeros(400, int))
        between = torch.zeros(1, 3, 1, 1)
        one, two = (Distance(*gaussians(grouped([source], k))) for k in (1, 2))
        with torch.no_grad():
            self.assertLess(float(one(between)), 1)
            self.assertGreater(float(two(between)), 8)
            self.assertLess(float(two(torch.full((1, 3, 1, 1), 9.0))), 1)

    def test_classes_with_few_pixels_are_left_out(self):
        features = np.random.default_rng(4).normal(size=(130, 3))
        labels = np.repeat([0, 1], [100, 30])
        self.assertEqual([len(group) for group in grouped([(features, labels)], 1)], [100])


class Training(unittest.TestCase):
    def test_no_backbone_file(self):
        with self.assertRaisesRegex(TrainError, "no backbone file: nowhere.pth"):
            backbone_file("lite0", "nowhere.pth")

    def test_rate_rises_then_falls_to_zero(self):
        self.assertLess(rate(0), rate(0.03))
        self.assertAlmostEqual(rate(0.05), 1)
        self.assertAlmostEqual(rate(1), 0)

    def test_the_network_gives_the_documented_sizes(self):
        net = SegmentationNet(11, "lite0").eval()
        with torch.no_grad():
            logits, decoder, maps = net(torch.zeros(1, 3, 368, 640))
        self.assertEqual(tuple(logits.shape), (1, 11, 92, 160))
        self.assertEqual(tuple(decoder.shape), (1, 64, 92, 160))
        self.assertEqual([tuple(m.shape[1:]) for m in maps], [(24, 92, 160), (40, 46, 80), (112, 23, 40), (320, 12, 20)])


class FromOnnx(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(5)
        net = SegmentationNet(11, "lite0").eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
                torch.nn.init.uniform_(module.weight, 0.8, 1.2)
                torch.nn.init.uniform_(module.bias, -0.1, 0.1)
        rng = np.random.default_rng(6)
        distance = Distance(rng.normal(size=112), np.eye(112), rng.normal(size=(5, 112)))
        self.model = export.half_weights(export.to_onnx(export.Outputs(net, distance)))
        self.images = rng.normal(size=(2, 3, 368, 640)).astype(np.float32)

    def test_a_network_comes_back_from_its_export(self):
        net, difference = from_onnx.recover(self.model, "lite0", self.images)
        self.assertLess(difference, export.TOLERANCE)
        # In training mode the norms use the statistics of the batch, which here are those they were given.
        with torch.no_grad():
            images = torch.from_numpy(self.images)
            still, moving = (net.backbone.train(mode)(images)[3] for mode in (False, True))
        torch.testing.assert_close(still, moving, rtol=1e-2, atol=1e-2)

    def test_another_network_is_refused(self):
        with self.assertRaisesRegex(export.ExportError, "another --variant|missing in the file or of another shape"):
            from_onnx.recover(self.model, "lite1", self.images)


class Scores(unittest.TestCase):
    def test_k_means_ends_at_its_own_means(self):
        rng = np.random.default_rng(2)
        points = np.concatenate([rng.normal(c, 0.1, (50, 4)) for c in (0, 1, 2)]).astype(np.float32)
        labels = scoring.k_means(points, 3, 1)
        centres = np.stack([points[labels == j].mean(0) for j in range(3)])
        nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
        np.testing.assert_array_equal(labels, nearest)

    def test_k_means_on_equal_points(self):
        self.assertEqual(set(scoring.k_means(np.ones((9, 2), np.float32), 3, 1)) - {0, 1, 2}, set())

    def test_statistics_against_their_formulas(self):
        logits = np.random.default_rng(3).normal(size=(5, 2, 3)).astype(np.float32)
        p = np.exp(logits) / np.exp(logits).sum(0)
        np.testing.assert_allclose(scoring.statistic("msp", logits), -p.max(0), rtol=1e-5)
        np.testing.assert_allclose(scoring.statistic("entropy", logits), -(p * np.log(p)).sum(0), rtol=1e-5)
        np.testing.assert_allclose(scoring.statistic("energy", logits), -np.log(np.exp(logits).sum(0)), rtol=1e-5)
        np.testing.assert_allclose(scoring.statistic("max-logit", logits), -logits.max(0))

    def test_average_precision_by_hand(self):
        # Thresholds 3, 2, 1: precision 1, 2/3 (a tie), 3/5; recall 1/3, 2/3, 1.
        positive, negative = np.array([3, 2, 1.0]), np.array([2, 1, 0.0])
        ap, auroc, fpr = metrics.average_precision(positive, negative)
        self.assertAlmostEqual(ap, 100 * (1 + 2 / 3 + 3 / 5) / 3)
        self.assertAlmostEqual(auroc, 100 * (3 + 2.5 + 1.5) / 9)
        self.assertAlmostEqual(fpr, 100 * 2 / 3)


if __name__ == "__main__":
    unittest.main()
