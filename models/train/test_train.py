"""Checks of the training code that need neither data nor a network: `python -m unittest discover models/train`."""

import subprocess
import tempfile
import types
import unittest
from pathlib import Path

import numpy as np
import torch
from onnx import helper
from PIL import Image

import checkpoint
import export
import footage
import from_onnx
import metrics
import quantise
import scoring
import sources
from data import CLASSES, VOID, Batches, Crops, DataError, Frames, augment, label_id
from distance import SHRINKAGE, Distance, Distances, gaussians, grouped, relative
from network import STAGES, SegmentationNet, pyramid, stages_of
from people import people_masks
from train import Loss, TrainError, backbone_file, freeze, parameter_groups, rate, stretches, with_all_classes


def write_pair(folder, label, stem="a"):
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*label.shape, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "images" / f"{stem}.png")
    Image.fromarray(label).save(folder / "labels" / f"{stem}.png")


def random_frames(seed, size=(360, 480)):
    rng = np.random.default_rng(seed)
    return Frames([rng.integers(0, 256, (*size, 3), dtype=np.uint8)], [rng.integers(0, 12, size, dtype=np.uint8)])


class Sources(unittest.TestCase):
    """One row of pixels with each raw value in turn."""

    def load(self, name, place, values, teacher=None, split="train"):
        with tempfile.TemporaryDirectory() as data:
            write_pair(Path(data) / name / place, np.array([values], np.uint8))
            return sources.load(name, data, split, teacher).labels[0][0].tolist()

    def test_camvid(self):
        want = [label_id(c) for c in CLASSES[:11]] + [VOID]
        want[5] = label_id("tree", "terrain")
        self.assertEqual(self.load("camvid", "train", range(12)), want)
        self.assertEqual(self.load("rendered", "train", range(12)), want)

    def test_idd_lite_keeps_the_living_that_the_teacher_takes_for_people(self):
        teacher = types.SimpleNamespace(cache=None, digest="", find=lambda image: np.array([[True, False, True, True]]))
        people = label_id("pedestrian", "bicyclist")
        # The teacher's people among the vehicles change nothing.
        self.assertEqual(self.load("idd_lite", "train", [2, 2, 2, 3], teacher),
                         [people, VOID, people, label_id("car", "bicyclist")])
        want = [label_id("road"), label_id("pavement", "terrain"), label_id("building", "pole", "pavement", "sign", "fence"),
                label_id("building", "tree", "terrain"), label_id("sky"), VOID]
        self.assertEqual(self.load("idd_lite", "val", [0, 1, 4, 5, 6, 255], teacher, "val"), want)

    def test_labelmefacade(self):
        self.assertEqual(self.load("labelmefacade", ".", [0, 1, 3, 4, 5, 8, 255]),
                         [0, 1, 3, 4, label_id("tree", "terrain"), 8, VOID])

    def test_offroad(self):
        road, terrain, tree = (label_id(c) for c in ("road", "terrain", "tree"))
        self.assertEqual(self.load("offroad", ".", range(9)),
                         [VOID, road, terrain, road, VOID, VOID, label_id("tree", "terrain"), tree, label_id("sky")])

    def test_own(self):
        self.assertEqual(self.load("own", "val", [0, 11, 12, 255], split="val"), [0, 11, VOID, VOID])

    def test_what_is_missing_is_named(self):
        with tempfile.TemporaryDirectory() as data:
            with self.assertRaisesRegex(DataError, "camvid: no such folder"):
                sources.load("camvid", data)
            write_pair(Path(data) / "idd_lite" / "train", np.full((1, 3), 2, np.uint8))
            with self.assertRaisesRegex(DataError, "idd_lite/val: no such folder"):
                sources.load("idd_lite", data, "val")
            with self.assertRaisesRegex(DataError, "idd_lite needs a teacher"):
                sources.load("idd_lite", data)
            write_pair(Path(data) / "offroad", np.zeros((1, 3), np.uint8))
            with self.assertRaisesRegex(DataError, "offroad: has no val split"):
                sources.load("offroad", data, "val")

    def test_renderings_are_ordinary_only_where_there_are_no_photographs(self):
        self.assertEqual(sources.photographs(["camvid", "rendered", "own"]), ["camvid", "own"])
        self.assertEqual(sources.photographs(["rendered"]), ["rendered"])

    def test_shares(self):
        self.assertEqual(sources.parse("camvid=3,own=1"), {"camvid": 0.75, "own": 0.25})
        for bad in ("camvid", "camvid=0", "camvid=x", "nowhere=1", "camvid=inf", ""):
            with self.assertRaisesRegex(DataError, "want NAME=SHARE"):
                sources.parse(bad)
        with self.assertRaisesRegex(DataError, "given twice"):
            sources.parse("camvid=1,camvid=2")

    def test_what_a_teacher_found_is_kept(self):
        with tempfile.TemporaryDirectory() as name:
            teacher = types.SimpleNamespace(cache=Path(name), digest="x", find=lambda image: image[..., 0] > 127)
            frames = random_frames(2)
            living = [frames.labels[0] < 5]
            first = people_masks(frames.images, living, teacher)
            np.testing.assert_array_equal(first[0], living[0] & (frames.images[0][..., 0] > 127))
            teacher.find = None
            np.testing.assert_array_equal(people_masks(frames.images, living, teacher), first)


class Data(unittest.TestCase):
    def test_a_missing_folder_is_named(self):
        with self.assertRaisesRegex(DataError, "nowhere/images: no such folder"):
            Frames.read("nowhere", np.arange(256))

    def test_a_missing_label_and_one_of_another_size_are_named(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_pair(folder, np.zeros((4, 6), np.uint8))
            Image.new("L", (5, 4)).save(folder / "labels" / "a.png")
            with self.assertRaisesRegex(DataError, "a.png: label is 5x4, image is 6x4"):
                Frames.read(folder, np.arange(256))
            (folder / "labels" / "a.png").unlink()
            with self.assertRaisesRegex(DataError, "label missing for a.png"):
                Frames.read(folder, np.arange(256))

    def test_crops_have_one_size_and_known_labels_whatever_the_zoom(self):
        frames = random_frames(1)
        for seed in range(40):
            crops = Crops() if seed % 2 else Crops(368, 640, (0.9, 1.2), False, 0.5)
            crop, label = augment(frames.images[0], frames.labels[0], np.random.default_rng(seed), crops)
            self.assertEqual(crop.shape, (crops.height, crops.width, 3))
            self.assertEqual(label.shape, (crops.height, crops.width))
            self.assertTrue(np.all((label < 12) | (label == VOID)))

    def test_a_batch_is_the_same_wherever_a_run_begins(self):
        batches = Batches([random_frames(1), random_frames(2)], [0.5, 0.5], 7)
        crops = Crops(32, 48)
        whole, rest = list(batches.between(0, 6, 2, crops)), list(batches.between(4, 6, 2, crops))
        np.testing.assert_array_equal(whole[5][0], rest[1][0])
        np.testing.assert_array_equal(whole[5][1], rest[1][1])
        self.assertFalse(np.array_equal(whole[4][0], whole[5][0]))

    def test_crops_come_from_the_sources_by_their_shares(self):
        flat = [Frames([np.zeros((36, 48, 3), np.uint8)], [np.full((36, 48), i, np.uint8)]) for i in (0, 1)]
        labels = Batches(flat, [0.2, 0.8], 3).load(0, 400, Crops(8, 8, (1.0, 1.1)))[1][:, 4, 4]
        self.assertAlmostEqual(float((labels == 1).mean()), 0.8, delta=0.06)

    def test_a_coarse_label_counts_in_equal_parts(self):
        frames = Frames([], [np.array([[0, 0, VOID, label_id("car", "bicyclist")]], np.uint8)])
        shares = frames.class_shares()
        np.testing.assert_allclose(shares[[0, 8, 10]], [2 / 3, 1 / 6, 1 / 6])


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


class Groups(unittest.TestCase):
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

    def test_the_relative_distance_is_that_to_the_nearest_mean_less_a_share_of_that_to_all(self):
        rng = np.random.default_rng(4)
        groups = [rng.normal(c, (1, 2, 3), (300, 3)) for c in ((5, 0, 0), (-5, 1, 0), (0, 9, 1))]
        pixels = rng.normal(0, 6, (3, 4, 5))

        def squares(covariance, mean):
            inverse = np.linalg.inv(covariance + SHRINKAGE * np.trace(covariance) / 3 * np.eye(3))
            x = pixels.reshape(3, -1).T - mean
            return np.einsum("ni,ij,nj->n", x, inverse, x)

        every = np.concatenate(groups)
        within = np.concatenate([group - group.mean(0) for group in groups])
        nearest = np.min([squares(within.T @ within / 900, group.mean(0)) for group in groups], 0)
        want = np.sqrt(np.maximum(nearest - 0.6 * squares(np.cov(every.T, bias=True), every.mean(0)), 0))
        self.assertTrue((want > 0).any() and (want == 0).any())
        with torch.no_grad():
            got = Distance(*relative(groups, 0.6))(torch.from_numpy(pixels[None]).float())
        np.testing.assert_allclose(got.numpy().ravel(), want, atol=2e-2)

    def test_a_class_of_few_pixels_is_not_split_into_single_ones(self):
        features = np.random.default_rng(4).normal(size=(1100, 3))
        labels = np.repeat([0, 1], [1000, 100])
        groups = grouped([(features, labels)], 8)
        self.assertEqual(len(groups), 10)
        self.assertEqual(sum(len(group) for group in groups), 1100)

    def test_classes_with_few_pixels_are_left_out(self):
        features = np.random.default_rng(4).normal(size=(130, 3))
        labels = np.repeat([0, 1], [100, 30])
        self.assertEqual([len(group) for group in grouped([(features, labels)], 1)], [100])


class Footage(unittest.TestCase):
    def test_frames_of_a_video_get_the_classes_that_the_network_names(self):
        """A network that calls the upper half sky and the lower half road; a video of more frames than are taken."""
        logits = np.zeros((1, len(CLASSES), 4, 4), np.float32)
        logits[:, CLASSES.index("sky"), :2] = logits[:, CLASSES.index("road"), 2:] = 9
        run = types.SimpleNamespace(run=lambda outputs, inputs: [logits])
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "drive.mkv"
            count = 2 * footage.FRAMES_PER_VIDEO
            subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s=64x32:r=30:d={count / 30}",
                            "-c:v", "ffv1", video], check=True)
            frames = footage.labelled(run, [video])
        self.assertEqual(len(frames), footage.FRAMES_PER_VIDEO)
        self.assertEqual(frames.images[0].shape, (32, 64, 3))
        self.assertTrue((frames.labels[5][:8] == CLASSES.index("sky")).all())
        self.assertTrue((frames.labels[5][-8:] == CLASSES.index("road")).all())

    def test_a_picture_is_a_frame(self):
        with tempfile.TemporaryDirectory() as folder:
            Image.fromarray(np.full((6, 8, 3), 77, np.uint8)).save(Path(folder) / "a.png")
            np.testing.assert_array_equal(footage.decode(Path(folder) / "a.png"), np.full((1, 6, 8, 3), 77))

    def test_a_file_that_is_no_footage_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            names = [Path(folder) / name for name in ("notes.mp4", "notes.jpg", "missing.mp4")]
            for name in names[:2]:
                name.write_text("no video")
            for name in names:
                with self.assertRaisesRegex(DataError, name.name):
                    footage.decode(name)


class Training(unittest.TestCase):
    def test_no_backbone_file(self):
        with self.assertRaisesRegex(TrainError, "no backbone file: nowhere.pth"):
            backbone_file("lite0", "nowhere.pth")

    def test_the_loss_of_a_coarse_label_is_that_of_the_sum_of_its_classes(self):
        weights = np.linspace(0.5, 2.0, len(CLASSES))
        rng = np.random.default_rng(8)
        logits = rng.normal(size=(1, len(CLASSES), 2, 2)).astype(np.float32)
        rows = [[label_id("road"), label_id("car", "bicyclist")], [VOID, label_id("sky")]]
        labels = np.repeat(np.repeat([rows], 2, 1), 2, 2)
        p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[0]
        terms = [(weights[3], p[3, 0, 0]), ((weights[8] + weights[10]) / 2, p[8, 0, 1] + p[10, 0, 1]), (weights[0], p[0, 1, 1])]
        want = -sum(w * np.log(q) for w, q in terms) / sum(w for w, _ in terms)
        given = torch.from_numpy(logits).requires_grad_()
        loss = Loss(weights)(given, torch.from_numpy(labels))
        self.assertAlmostEqual(float(loss.detach()), want, places=5)
        loss.backward()
        self.assertEqual(float(given.grad[0, :, 1, 0].abs().max()), 0)

    def test_void_alone_gives_no_loss(self):
        labels = torch.full((1, 4, 4), VOID)
        self.assertEqual(float(Loss(np.ones(len(CLASSES)))(torch.randn(1, len(CLASSES), 2, 2), labels)), 0)

    def test_a_resumed_run_takes_the_same_steps(self):
        args = types.SimpleNamespace(steps=200, cooldown=50, batch=8, every=40)

        def steps(first):
            return [(n, size, crops.width) for a, b, size, crops in stretches(first, args) for n in range(a, b)]
        whole = steps(0)
        self.assertEqual([n for n, _, _ in whole], list(range(250)))
        self.assertEqual(whole[199][1:], (8, 384))
        self.assertEqual(whole[200][1:], (4, 640))
        for first in (40, 120, 200, 240):
            self.assertEqual(steps(first), whole[first:])
        ends = [b for _, b, _, _ in stretches(0, args)]
        self.assertEqual(ends, [40, 80, 120, 160, 200, 240, 250])

    def test_a_checkpoint_of_fewer_classes_gets_rows_for_the_others(self):
        net = SegmentationNet(11, "lite0")
        state = {"weights": torch.ones(11), "average": net.state_dict()}
        whole = SegmentationNet(len(CLASSES), "lite0")
        whole.load_state_dict(with_all_classes(state)["average"])
        torch.testing.assert_close(whole.classifier.weight[:11], net.classifier.weight)
        self.assertEqual(float(whole.classifier.bias[11].detach()), float(net.classifier.bias.min().detach()))
        with self.assertRaisesRegex(TrainError, "13 classes, want at most 12"):
            with_all_classes({"weights": torch.ones(13)})

    def test_rate_rises_stays_and_falls_to_zero(self):
        self.assertLess(rate(0, 1000, 100), rate(30, 1000, 100))
        self.assertEqual([rate(n, 1000, 100) for n in (150, 999, 1000)], [1, 1, 1])
        self.assertAlmostEqual(rate(1050, 1000, 100), 0.5)
        self.assertAlmostEqual(rate(1100, 1000, 100), 0)

    def test_the_network_gives_the_documented_sizes(self):
        net = SegmentationNet(11, "lite0").eval()
        with torch.no_grad():
            logits, decoder, maps = net(torch.zeros(1, 3, 368, 640))
        self.assertEqual(tuple(logits.shape), (1, 11, 92, 160))
        self.assertEqual(tuple(decoder.shape), (1, 64, 92, 160))
        self.assertEqual([tuple(m.shape[1:]) for m in maps], [(24, 92, 160), (40, 46, 80), (112, 23, 40), (320, 12, 20)])

    def test_training_leaves_the_backbone_as_it_is(self):
        torch.manual_seed(3)
        net = SegmentationNet(11, "lite0").train()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        freeze(net, tuned=False)
        groups = parameter_groups(net, 1e-3, 1e-2, 0.02)
        self.assertEqual(sorted({group["peak"] for group in groups}), [1e-3, 1e-2])
        optimizer = torch.optim.SGD([{"params": group["params"], "lr": group["peak"]} for group in groups])
        net.segment(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
        optimizer.step()
        changed = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
        self.assertEqual(changed, {"tuned", "context", "laterals", "smooth", "classifier"})

    def test_wider_variants_have_the_channels_of_their_weights(self):
        self.assertEqual([stage[3] for stage in stages_of("lite2")], [16, 24, 48, 88, 120, 208, 352])
        self.assertEqual([stage[4] for stage in stages_of("lite2")], [1, 3, 3, 4, 4, 5, 1])
        self.assertEqual([stage[3:] for stage in stages_of("lite0")], [stage[3:] for stage in STAGES])


class FromOnnx(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(5)
        net = SegmentationNet(len(CLASSES), "lite0").eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
                torch.nn.init.uniform_(module.weight, 0.8, 1.2)
                torch.nn.init.uniform_(module.bias, -0.1, 0.1)
        rng = np.random.default_rng(6)
        levels = {level: Distance(rng.normal(size=d), np.eye(d), rng.normal(size=(5, d)))
                  for level, d in (("features_2", 112), ("features_3", 320))}
        self.model = export.half_weights(export.to_onnx(export.Outputs(net, Distances(levels))))
        self.images = rng.normal(size=(2, 3, 368, 640)).astype(np.float32)

    def test_a_network_comes_back_from_its_export(self):
        net, difference = from_onnx.recover(self.model, "lite0", self.images)
        self.assertLess(difference, export.TOLERANCE)
        # In training mode the norms use the statistics of the batch, which here are those they were given.
        with torch.no_grad():
            images = torch.from_numpy(self.images)
            still, moving = (pyramid(net.train(mode).shallow, images)[1] for mode in (False, True))
        torch.testing.assert_close(still, moving, rtol=1e-2, atol=1e-2)

    def test_a_quantised_network_computes_nearly_the_same_and_comes_back(self):
        small = quantise.quantise(self.model, self.images)
        integers = [n for n in small.graph.node if n.op_type == "QuantizeLinear"]
        self.assertGreater(len(integers), 30)
        for part, quantised in (("shallow.0.3/", False), ("shallow.1/", True), ("deep.1/", True), ("tuned.1/", True)):
            self.assertEqual(any(part in n.name for n in integers), quantised, part)
        outputs = [export.session(m.SerializeToString()).run(export.OUTPUTS, {"input": self.images})
                   for m in (self.model, small)]
        for name, a, b in zip(export.OUTPUTS, *outputs):
            self.assertLess(np.std(a - b), 0.15 * np.std(a), name)
        _, difference = from_onnx.recover(small, "lite0", self.images)
        self.assertLess(difference, export.TOLERANCE)

    def test_another_network_is_refused(self):
        with self.assertRaisesRegex(export.ExportError, "another --variant|missing in the file or of another shape"):
            from_onnx.recover(self.model, "lite1", self.images)


class Rounding(unittest.TestCase):
    def test_errors_are_made_up_for(self):
        rng = np.random.default_rng(7)
        x = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 400)) + 0.1 * rng.normal(size=(12, 400))
        weight = rng.normal(size=(8, 12, 1, 1))
        scale = np.abs(weight).max((1, 2, 3)) / 7
        nearest = np.round(weight / scale[:, None, None, None])
        better = quantise.rounded(weight, scale, (x @ x.T)[None])

        def error(whole):
            return np.std(((whole * scale[:, None, None, None]) - weight)[:, :, 0, 0] @ x)

        self.assertLess(error(better), 0.6 * error(nearest))

    def test_a_depthwise_weight_meets_its_window(self):
        rng = np.random.default_rng(8)
        x, weight = (rng.normal(size=size).astype(np.float32) for size in ((4, 7, 9), (4, 1, 3, 3)))
        conv = helper.make_node("Conv", ["x", "w"], ["y"], group=4, pads=[0, 0, 1, 1], strides=[2, 2])
        padded = torch.nn.functional.pad(torch.from_numpy(x), (0, 1, 0, 1))[None]
        want = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), stride=2 * quantise.SPARSE, groups=4)[0]
        got = np.einsum("gk,gkn->gn", weight.reshape(4, 9), quantise.windows(x, conv, (3, 3)))
        np.testing.assert_allclose(got, want.reshape(4, -1), rtol=1e-5)


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
